package directory

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

const homed = `version: 1
domain: corp
directory: {etcd: {servers: {branch: "10.0.0.2:7442", hub: "10.0.0.1:7500", lab: "lab.example:7442"}}}
servers:
  branch: {address: "10.0.0.2:7440"}
  hub: {address: "10.0.0.1:7440"}
  lab: {address: "lab.example:7440"}
`

// Where the domain lives is written as it is read, and a rename follows there.
func TestHomesRoundTrip(t *testing.T) {
	for _, text := range []string{
		homed,
		strings.Replace(homed, `{branch: "10.0.0.2:7442", hub: "10.0.0.1:7500", lab: "lab.example:7442"}`, `[branch, hub], endpoints: ["https://e1:2379", "https://e2:2379"]`, 1),
		strings.Replace(homed, `etcd: {servers: {branch: "10.0.0.2:7442", hub: "10.0.0.1:7500", lab: "lab.example:7442"}}`, `ad: {servers: [hub], url: "ldaps://dc1.corp.example", base: "DC=corp,DC=example"}`, 1),
		strings.Replace(homed, "directory: {etcd: {servers: {branch: \"10.0.0.2:7442\", hub: \"10.0.0.1:7500\", lab: \"lab.example:7442\"}}}\n", "", 1),
	} {
		d := mustRead(t, text).Domain
		if got := string(Marshal(d)); got != text {
			t.Errorf("read and written it is\n%s\nwant\n%s", got, text)
		}
		if !d.Clone().Home.Equal(&d.Home) {
			t.Errorf("a clone has another home: %v", &d.Home)
		}
	}
	doc := mustRead(t, strings.Replace(homed, "hub: \"10.0.0.1:7500\"", "hub: 10.0.0.1", 1))
	if a := doc.Domain.Home.Voters["hub"]; a != "10.0.0.1:7442" {
		t.Errorf("a voter without a port is at %s", a)
	}
	d := mustRead(t, homed).Domain.Clone()
	d.ServerByName("hub").Name = "centre"
	d.Home.Rename("hub", "centre")
	next, err := mustRead(t, homed).With(d)
	if err != nil || !next.Domain.Home.Has("centre") || next.Domain.Home.Voters["centre"] != "10.0.0.1:7500" {
		t.Errorf("after a rename: %v, %v", next, err)
	}
}

func TestHomesThatCannotBe(t *testing.T) {
	for home, want := range map[string]string{
		"paper":                               "neither file nor one backend",
		"{etcd: {}}":                          "names no servers",
		"{etcd: {servers: [hub]}}":            "neither addresses of servers nor endpoints",
		"{etcd: {servers: {hub: h, lab: l}}}": "two are worse than one",
		"{etcd: {servers: {hub: h, lab: l, nobody: n}}}":                   `directory "nobody" names an unknown server`,
		"{etcd: {servers: {hub: h, lab: h, branch: b}}}":                   "two servers run etcd at",
		"{etcd: {servers: {hub: h}, endpoints: [\"https://e:1\"]}}":        "do not run the directory",
		"{etcd: {servers: [hub], endpoints: [\"ftp://e\"]}}":               "is not an address of a directory",
		"{etcd: {servers: [hub], endpoints: [\"https://e/path\"]}}":        "is not an address of a directory",
		"{ad: {servers: [hub], url: \"ldaps://dc\"}}":                      "no url or no base",
		"{ad: {servers: [hub, hub], url: \"ldaps://dc\", base: \"DC=x\"}}": "stands in the list twice",
		"{ad: {servers: [hub], url: \"https://dc\", base: \"DC=x\"}}":      "is not an address of a directory",
		"{etcd: {servers: {hub: \"::\"}}}":                                 "needs brackets",
		"{ad: {servers: {hub: h}, url: \"ldaps://dc\", base: \"DC=x\"}}":   "do not run the directory",
	} {
		lines := strings.Split(homed, "\n")
		lines[2] = "directory: " + home
		_, err := Read([]byte(strings.Join(lines, "\n")), "domain.yaml")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "; ") {
			t.Errorf("%s: %v, want %q and a remedy", home, err, want)
		}
	}
}

// deputy makes the key and certificate of a server, with the role or without.
func (e *enterprise) deputy(t *testing.T, server string, role bool) func() ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d := e.doc.Domain
	u, err := url.Parse("dfs://" + d.ID.String() + "/server/" + d.ServerByName(server).ID.String())
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(7), URIs: []*url.URL{u}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)} // long ago
	if role {
		c.DNSNames = []string{DeputyName(d.ID)}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), e.key)
	if err != nil {
		t.Fatal(err)
	}
	return func() ([]byte, *ecdsa.PrivateKey) { return der, key }
}

// away is the domain's document when it lives in etcd on hub and branch.
func (e *enterprise) away(t *testing.T, generation uint64) *Document {
	t.Helper()
	d := e.doc.Domain.Clone()
	d.Generation, d.Term = generation, 2
	d.Home = Home{Kind: HomeEtcd, Servers: []string{"branch", "hub"}, Endpoints: []string{"https://e:2379"}}
	doc, err := e.doc.With(d)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// A deputy's copy is believed if the CA made it one and the document names it; no
// bit of it can be turned.
func TestDeputiesSign(t *testing.T) {
	e := newDomain(t)
	hub, lab := e.doc.Domain.ServerByName("hub").ID, e.doc.Domain.ServerByName("lab").ID
	cert, key := e.deputy(t, "hub", true)()
	s := must(SignAsDeputy(e.away(t, 5), hub, cert, key, rand.Reader))
	raw := s.Encode()
	doc, err := must(DecodeSigned(raw)).Open(e.key.Public())
	if err != nil || doc.Domain.Generation != 5 {
		t.Fatalf("a deputy's copy: %v", err)
	}
	for i := 0; i < len(raw); i += 1 + len(raw)/211 {
		bent := append([]byte(nil), raw...)
		bent[i] ^= 1
		if s, err := DecodeSigned(bent); err == nil {
			if _, err := s.Open(e.key.Public()); err == nil {
				t.Errorf("byte %d of %d is changed and the copy still opens", i, len(raw))
			}
		}
	}
	plain, plainKey := e.deputy(t, "hub", false)()
	labCert, labKey := e.deputy(t, "lab", true)()
	other, otherKey := newDomain(t).deputy(t, "hub", true)()
	for name, s := range map[string]*Signed{
		"without the role":              must(SignAsDeputy(e.away(t, 5), hub, plain, plainKey, rand.Reader)),
		"of another server":             must(SignAsDeputy(e.away(t, 5), hub, labCert, labKey, rand.Reader)),
		"of a server that is not named": must(SignAsDeputy(e.away(t, 5), lab, labCert, labKey, rand.Reader)),
		"from another CA":               must(SignAsDeputy(e.away(t, 5), hub, other, otherKey, rand.Reader)),
		"with another key":              must(SignAsDeputy(e.away(t, 5), hub, cert, otherKey, rand.Reader)),
		"of a domain in a file":         must(SignAsDeputy(e.doc, hub, cert, key, rand.Reader)),
	} {
		if _, err := must(DecodeSigned(s.Encode())).Open(e.key.Public()); !errors.Is(err, ErrBadCopy) {
			t.Errorf("a deputy's copy %s: %v", name, err)
		}
	}
}

// A domain moves from the file elsewhere and back, seen from the files: the master's
// domain.yaml goes aside, changes go where it lives, what is read there is adopted
// and signed, and copies of several signers do not diverge.
func TestAFileWhoseDomainLivesElsewhere(t *testing.T) {
	e := newDomain(t)
	hub := e.master(t)
	o := e.options(t, "branch", false)
	cert, key := e.deputy(t, "branch", true)()
	o.Deputy = func() ([]byte, crypto.Signer) { return cert, key }
	branch := must(CreateCopy(o, hub.Signed()))
	lab := e.copyOf(t, hub, "lab", false)

	moved := must(hub.Update(t.Context(), 1, e.away(t, 1)))
	if moved.Domain.Term != e.doc.Domain.Term+1 || moved.Domain.Generation != 2 {
		t.Errorf("moved to term %d, generation %d", moved.Domain.Term, moved.Domain.Generation)
	}
	if _, err := os.Stat(hub.at(yamlName)); err == nil {
		t.Error("domain.yaml is still there")
	}
	if _, err := os.Stat(hub.at(movedName)); err != nil {
		t.Error(err)
	}
	var away *AwayError
	if _, err := hub.Update(t.Context(), 2, change(t, hub, "x")); !errors.As(err, &away) || !away.Here {
		t.Errorf("a change before the directory is reached: %v", err)
	}
	for _, f := range []*File{branch, lab} {
		if _, err := f.Accept(hub.Signed()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := lab.Update(t.Context(), 2, change(t, lab, "x")); !errors.As(err, &away) || away.Here || !strings.Contains(err.Error(), "branch or hub") {
		t.Errorf("a change on a server that does not speak to it: %v", err)
	}

	home := must(NewMemory(moved, rand.Reader))
	branch.Attach(home)
	update(t, branch, "new") // through branch, which signs it
	if s := must(DecodeSigned(branch.Signed())); s.Certificate == nil || s.Signer != o.Self || s.Generation != 3 {
		t.Errorf("branch's copy is %+v", s)
	}
	hub.Attach(home)
	if changed, err := hub.Adopt(load(t, home)); err != nil || !changed {
		t.Errorf("hub adopts it: %v, %v", changed, err)
	}
	for _, from := range []*File{branch, hub} { // two signers, one domain
		if _, err := lab.Accept(from.Signed()); err != nil {
			t.Errorf("lab takes it: %v", err)
		}
	}
	if g := generation(t, reopen(t, lab)); g != 3 {
		t.Errorf("lab knows generation %d after a restart", g)
	}

	back := load(t, branch).Domain.Clone()
	back.Home = Home{}
	backDoc := must(load(t, branch).With(back))
	if _, err := branch.Update(t.Context(), 3, backDoc); !errors.Is(err, ErrWithoutCA) {
		t.Errorf("a move back without the CA: %v", err)
	}
	update(t, hub, "before-the-end")
	back = load(t, hub).Domain.Clone()
	back.Home = Home{}
	if _, err := hub.Update(t.Context(), 4, must(load(t, hub).With(back))); err != nil {
		t.Fatal(err)
	}
	if _, err := branch.Adopt(load(t, home)); !errors.Is(err, ErrWithoutCA) {
		t.Errorf("branch adopts the end: %v", err)
	}
	if _, err := branch.Accept(hub.Signed()); err != nil {
		t.Error(err)
	}
	if m, here := hub.Master(); !here || m != hub.options.Self || generation(t, reopen(t, hub)) != 5 {
		t.Error("hub is not the master again")
	}
	update(t, hub, "in-the-file")
}

// Both copies are damaged: one that was fetched is put in their place.
func TestRestore(t *testing.T) {
	e := newDomain(t)
	hub := e.master(t)
	branch := e.copyOf(t, hub, "branch", false)
	for _, name := range []string{copyName, oldCopyName} {
		if err := os.WriteFile(branch.at(name), []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenFile(branch.options); !IsLost(err) {
		t.Errorf("opened with damaged copies: %v", err)
	}
	known, err := KnownServers(branch.options.Dir)
	if err != nil || known.ServerByName("hub") == nil || known.ID != e.doc.Domain.ID {
		t.Fatalf("known is %+v, %v", known, err)
	}
	if err := Restore(branch.options, UUID{1}, hub.Signed()); !errors.Is(err, ErrForeign) {
		t.Errorf("restored from another domain: %v", err)
	}
	if err := Restore(branch.options, known.ID, newDomain(t).master(t).Signed()); err == nil {
		t.Error("restored from a stranger")
	}
	if got := string(readFile(t, branch.at(copyName))); got != "garbage" {
		t.Error("a copy that was refused has changed something")
	}
	if err := Restore(branch.options, known.ID, hub.Signed()); err != nil {
		t.Fatal(err)
	}
	if !load(t, reopen(t, branch)).Domain.Equal(load(t, hub).Domain) {
		t.Error("what was restored is something else")
	}
	if string(readFile(t, branch.at(copyName+damagedSuffix))) != "garbage" {
		t.Error("what was damaged is gone")
	}
}
