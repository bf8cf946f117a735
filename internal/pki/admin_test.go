package pki

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

var aliceID = repl.GUID{7}

// An administrator joins by a token, is believed on the control protocol, and is
// no member: neither side of a replication session takes that identity.
func TestAdministratorJoins(t *testing.T) {
	h := newHall(t, now)
	tok, err := h.door.Invitations.CreateAdmin(h.ca, aliceID, "alice", []string{h.address}, now)
	if err != nil {
		t.Fatal(err)
	}
	if name, ok := tok.Admin(); !ok || name != "alice" {
		t.Errorf("the token is for %q", tok.Server)
	}
	o := joining(now)
	o.Addresses = nil
	j, err := Join(t.Context(), tok, o)
	if err != nil {
		t.Fatal(err)
	}
	alice, err := j.Save(filepath.Join(t.TempDir(), "alice"))
	if err != nil {
		t.Fatal(err)
	}
	want := Subject{KindAdmin, aliceID, "alice"}
	if alice.Subject() != want || len(h.accept) != 1 || h.accept[0].Subject != want {
		t.Fatalf("joined as %v, the domain learned %+v", alice, h.accept)
	}
	b := h.member(t, branch, "branch", now)
	server := h.hub.ServerTLS(at(now), ALPNControl)
	for _, id := range []*Identity{alice, b} {
		if s, c := shake(t, server, id.CallTLS(at(now), ALPNControl, hubID)); s != nil || c != nil {
			t.Errorf("%v is not let in: %v, %v", id, s, c)
		}
	}
	if s, _ := shake(t, server, alice.ClientTLS(at(now), hubID)); !errors.Is(s, ErrNoServer) {
		t.Errorf("an administrator replicates: %v", s)
	}
	if _, c := shake(t, alice.ServerTLS(at(now), ALPNControl), b.CallTLS(at(now), ALPNControl, repl.MemberID{})); !errors.Is(c, ErrNoServer) && !errors.Is(c, ErrForeign) {
		t.Errorf("an administrator passes for a server: %v", c)
	}
	if _, c := shake(t, server, b.CallTLS(at(now), ALPNControl, branch)); !errors.Is(c, ErrWrongMember) {
		t.Errorf("another server than the one expected: %v", c)
	}
	if _, c := shake(t, h.hub.ServerTLS(at(now)), b.CallTLS(at(now), ALPNControl, hubID)); c == nil {
		t.Error("a server talks a protocol that it does not offer")
	}
	other := newCorp(t, repl.GUID{0xd0, 2})
	if _, c := shake(t, server, other.hub.CallTLS(at(now), ALPNControl, repl.MemberID{})); !errors.Is(c, ErrForeign) {
		t.Errorf("a server of another domain: %v", c)
	}
}

// An identity that has expired while its server was away renews it, as long as it
// is of the domain; with it alone nothing else can be done.
func TestExpiredIdentityRenews(t *testing.T) {
	late := now.Add(memberLife + 30*24*time.Hour)
	h := newHall(t, late)
	known := true
	h.door.Known = func(s Subject) (string, bool) { return "renamed", known && s.ID == repl.GUID(branch) }
	r, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	der, err := h.ca.Issue(r.DER, hubID, "hub", late)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.hub.Renew(r, der); err != nil {
		t.Fatal(err)
	}
	b := h.member(t, branch, "branch", now)
	if s, _ := shake(t, h.hub.ServerTLS(at(late)), b.ClientTLS(at(late), hubID)); !errors.Is(s, ErrValidity) {
		t.Fatalf("an expired identity replicates: %v", s)
	}
	if s, _ := shake(t, h.hub.ServerTLS(at(late), ALPNControl), b.CallTLS(at(late), ALPNControl, hubID)); !errors.Is(s, ErrValidity) {
		t.Fatalf("an expired identity asks: %v", s)
	}
	known = false
	var refused *wire.Error
	if err := b.RenewAt(t.Context(), at(late), hubID, []string{h.address}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "not in the domain any more") {
		t.Fatalf("a revoked identity renews: %v", err)
	}
	known = true
	if err := b.RenewAt(t.Context(), at(late), hubID, []string{"127.0.0.1:1", h.address}); err != nil {
		t.Fatal(err)
	}
	if b.Name() != "renamed" || !b.NotAfter().After(late) {
		t.Errorf("renewed as %v until %v", b, b.NotAfter())
	}
	if s, c := shake(t, h.hub.ServerTLS(at(late)), b.ClientTLS(at(late), hubID)); s != nil || c != nil {
		t.Errorf("after the renewal: %v, %v", s, c)
	}
	if err := b.RenewAt(t.Context(), at(late), hubID, nil); err == nil {
		t.Error("renewed without an address")
	}
}

// The CA travels in a file that says nothing without its passphrase, to a server
// of its own domain alone.
func TestExportedCA(t *testing.T) {
	c := newCorp(t, domain)
	if _, err := c.ca.Export([]byte("short")); err == nil {
		t.Error("exported with a passphrase of five bytes")
	}
	pass := []byte("correct horse battery")
	text, err := c.ca.Export(pass)
	if err != nil {
		t.Fatal(err)
	}
	key, err := encodeKey(c.ca.key)
	if err != nil || bytes.Contains(text, key[30:60]) {
		t.Fatalf("the key is in the file: %v", err)
	}
	if d, err := ExportDomain(text); err != nil || d != domain {
		t.Errorf("it says that it is of %v, %v", d, err)
	}
	b := c.member(t, branch, "branch", now)
	other := newCorp(t, repl.GUID{0xd0, 2})
	damaged := bytes.Replace(text, []byte("\n"), []byte("\nAAAA"), 1)
	for _, bad := range []struct {
		what       string
		id         *Identity
		text, pass []byte
		want       error
	}{
		{"another passphrase", b, text, []byte("wrong"), ErrPassphrase},
		{"another domain", other.hub, text, pass, ErrOtherDomain},
		{"junk", b, []byte("junk"), pass, ErrNoExport},
		{"a key by itself", b, key, pass, ErrNoExport},
	} {
		if _, err := bad.id.ImportAuthority(bad.text, bad.pass); !errors.Is(err, bad.want) {
			t.Errorf("%s: %v", bad.what, err)
		}
	}
	if _, err := b.ImportAuthority(damaged, pass); err == nil {
		t.Error("a damaged file was taken")
	}
	if _, err := LoadAuthority(b.state); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a refused import left something: %v", err)
	}
	a, err := b.ImportAuthority(text, pass)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadAuthority(b.state)
	if err != nil || loaded.Fingerprint() != c.ca.Fingerprint() || a.Domain() != domain {
		t.Fatalf("imported %v, %v", loaded, err)
	}
	if st, err := os.Stat(CAKeyPath(b.state)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key: %v, %v", st, err)
	}
}

func FuzzSplitExport(f *testing.F) {
	f.Add([]byte("-----BEGIN OPENDFS DOMAIN CA-----\nAQ==\n-----END OPENDFS DOMAIN CA-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		head, _, err := splitExport(text)
		if err == nil && len(head) != exportHead {
			t.Errorf("head of %d bytes", len(head))
		}
	})
}
