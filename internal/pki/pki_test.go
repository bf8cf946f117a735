package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/wire"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	now    = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	domain = repl.GUID{0xd0, 1}
	hubID  = repl.MemberID{1}
	branch = repl.MemberID{2}
)

// corp is a domain with its first server.
type corp struct {
	state string
	ca    *Authority
	hub   *Identity
}

func newCorp(t *testing.T, domain repl.GUID) *corp {
	t.Helper()
	c := &corp{state: filepath.Join(t.TempDir(), "state")}
	var err error
	if c.ca, err = CreateAuthority(c.state, domain, "corp", now); err != nil {
		t.Fatal(err)
	}
	if c.hub, err = c.ca.CreateIdentity(c.state, hubID, "hub", now); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *corp) member(t *testing.T, id repl.MemberID, name string, at time.Time) *Identity {
	t.Helper()
	m, err := c.ca.CreateIdentity(filepath.Join(t.TempDir(), name), id, name, at)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func at(t time.Time) Policy { return Policy{Now: func() time.Time { return t }} }

// shake does one handshake over loopback and returns both sides' errors.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		c := tls.Server(raw, server)
		err = c.Handshake()
		if err == nil {
			_, err = c.Write([]byte("hi"))
		}
		_ = c.Close()
		done <- err
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, client)
	if clientErr = c.Handshake(); clientErr == nil {
		// With TLS 1.3 the server's verdict on our certificate comes with the first read.
		_, clientErr = io.ReadFull(c, make([]byte, 2))
	}
	_ = c.Close()
	return <-done, clientErr
}

func TestMembersBelieveEachOtherByIDAlone(t *testing.T) {
	c := newCorp(t, domain)
	b := c.member(t, branch, "branch", now)
	if s, cl := shake(t, c.hub.ServerTLS(at(now), ALPNJoin), b.ClientTLS(at(now), hubID)); s != nil || cl != nil {
		t.Fatalf("members of one domain: server %v, client %v", s, cl)
	}
	other := newCorp(t, repl.GUID{0xd0, 2})
	sameID := newCorp(t, domain) // the same domain's id under another CA
	revoked := at(now)
	revoked.Revoked = func(m repl.MemberID) bool { return m == branch }
	for _, c := range []struct {
		what           string
		server, client *tls.Config
		serverErr      error
		clientErr      error
	}{
		{"another server answers", c.hub.ServerTLS(at(now), ALPNJoin), b.ClientTLS(at(now), repl.MemberID{9}), nil, ErrWrongMember},
		{"client of another domain", c.hub.ServerTLS(at(now), ALPNJoin), other.hub.ClientTLS(at(now), hubID), nil, ErrForeign},
		{"server of another domain", other.hub.ServerTLS(at(now), ALPNJoin), b.ClientTLS(at(now), hubID), nil, ErrForeign},
		{"another CA with the same domain id", sameID.hub.ServerTLS(at(now), ALPNJoin), b.ClientTLS(at(now), hubID), nil, ErrForeign},
		{"revoked client", c.hub.ServerTLS(revoked, ALPNJoin), b.ClientTLS(at(now), hubID), ErrRevoked, nil},
		{"revoked server", b.ServerTLS(at(now), ALPNJoin), c.hub.ClientTLS(revoked, branch), nil, ErrRevoked},
		{"server's clock far ahead", c.hub.ServerTLS(at(now.Add(2*memberLife)), ALPNJoin), b.ClientTLS(at(now), hubID), ErrValidity, nil},
		{"client's clock far behind", c.hub.ServerTLS(at(now), ALPNJoin), b.ClientTLS(at(now.Add(-48*time.Hour)), hubID), nil, ErrValidity},
	} {
		s, cl := shake(t, c.server, c.client)
		if s == nil && cl == nil {
			t.Errorf("%s: believed", c.what)
		}
		if c.serverErr != nil && !errors.Is(s, c.serverErr) {
			t.Errorf("%s: server says %v, want %v", c.what, s, c.serverErr)
		}
		if c.clientErr != nil && !errors.Is(cl, c.clientErr) {
			t.Errorf("%s: client says %v, want %v", c.what, cl, c.clientErr)
		}
		if c.serverErr != nil && !strings.Contains(fmt.Sprint(Explain(cl)), "refuses this server's identity") {
			t.Errorf("%s: client is told %v", c.what, Explain(cl))
		}
	}
}

func TestListenerWantsCertificateVersionAndProtocol(t *testing.T) {
	c := newCorp(t, domain)
	b := c.member(t, branch, "branch", now)
	for what, spoil := range map[string]func(*tls.Config){
		"no certificate":   func(c *tls.Config) { c.GetClientCertificate = nil },
		"no protocol":      func(c *tls.Config) { c.NextProtos = nil; c.VerifyConnection = nil },
		"another protocol": func(c *tls.Config) { c.NextProtos = []string{"h2"} },
		"TLS 1.2":          func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"both protocols":   func(c *tls.Config) { c.NextProtos = []string{ALPNJoin}; c.VerifyConnection = nil },
	} {
		client := b.ClientTLS(at(now), hubID)
		spoil(client)
		s, cl := shake(t, c.hub.ServerTLS(at(now)), client)
		if s == nil || cl == nil {
			t.Errorf("%s: server %v, client %v", what, s, cl)
		}
	}
}

// A member's certificate is no CA: it cannot make further members.
func TestMemberCannotIssue(t *testing.T) {
	c := newCorp(t, domain)
	b := c.member(t, branch, "branch", now)
	leaf := b.cert.Load()
	rogue := &Authority{domain: domain, cert: leaf.Leaf, key: leaf.PrivateKey.(*ecdsa.PrivateKey)}
	r, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	der, err := rogue.Issue(r.DER, repl.MemberID{7}, "evil", now)
	if err != nil {
		return // the library refuses to sign with it: as good
	}
	if _, err := newIdentity("", c.ca.cert, der, r.key); err == nil {
		t.Fatal("a certificate made by a member is believed")
	}
}

func TestStateIsPrivateAndSurvivesRestart(t *testing.T) {
	c := newCorp(t, domain)
	if _, err := OpenInvitations(c.state).Create(c.ca, branch, "branch", []string{"hub:7440"}, now); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(c.state)
	if err != nil || len(files) != 4 {
		t.Fatalf("state holds %v, %v", files, err)
	}
	for _, f := range files {
		if st, err := f.Info(); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", f.Name(), st.Mode(), err)
		}
	}
	if st, err := os.Stat(c.state); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("state: mode %v, %v", st.Mode(), err)
	}
	ca, err := LoadAuthority(c.state)
	if err != nil || ca.Fingerprint() != c.ca.Fingerprint() || ca.Domain() != domain || ca.Name() != "corp" {
		t.Fatalf("CA came back as %v, %v", ca, err)
	}
	id, err := Load(c.state)
	if err != nil || id.Member() != hubID || id.Domain() != domain || id.Name() != "hub" {
		t.Fatalf("identity came back as %v, %v", id, err)
	}
	if _, err := CreateAuthority(c.state, domain, "corp", now); err == nil {
		t.Error("a second CA replaced the first")
	}
	if _, err := ca.CreateIdentity(c.state, branch, "branch", now); err == nil {
		t.Error("a second identity replaced the first")
	}
	if err := os.Chmod(filepath.Join(c.state, memberFile), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(c.state); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no identity: %v", err)
	}
}

func TestDamagedStateIsToldWithARemedy(t *testing.T) {
	for _, file := range []string{caCertFile, caKeyFile, memberFile, invitationsFile} {
		c := newCorp(t, domain)
		if err := os.WriteFile(filepath.Join(c.state, file), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err1 := LoadAuthority(c.state)
		_, err2 := Load(c.state)
		_, err3 := OpenInvitations(c.state).Create(c.ca, branch, "branch", []string{"hub:7440"}, now)
		err := errors.Join(err1, err2, err3)
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("damaged %s: %v", file, err)
		}
	}
}

func TestRenewalKeepsTheIDAndChangesTheKey(t *testing.T) {
	c := newCorp(t, domain)
	later := now.Add(memberLife * 3 / 4)
	if c.hub.RenewalDue(now.Add(memberLife/2)) || !c.hub.RenewalDue(later) {
		t.Fatal("renewal is not due after two thirds of the life")
	}
	r, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := c.ca.Issue(r.DER, branch, "hub", later)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.hub.Renew(r, stolen); err == nil {
		t.Fatal("took a certificate for another server")
	}
	afterOld := at(now.Add(memberLife + time.Hour))
	server := c.hub.ServerTLS(afterOld) // made before the renewal, as a listener's is
	der, err := c.ca.Issue(r.DER, hubID, "hub", later)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.hub.Renew(r, der); err != nil {
		t.Fatal(err)
	}
	again, err := Load(c.state)
	if err != nil || again.NotAfter() != c.hub.NotAfter() || !again.NotAfter().After(now.Add(memberLife)) {
		t.Fatalf("after a restart the certificate ends %v, %v", again.NotAfter(), err)
	}
	b := c.member(t, branch, "branch", later)
	if s, cl := shake(t, server, b.ClientTLS(afterOld, hubID)); s != nil || cl != nil {
		t.Fatalf("after the old certificate's end: %v, %v", s, cl)
	}
}

func TestCertificateEndsWithTheCA(t *testing.T) {
	c := newCorp(t, domain)
	late := now.Add(caLife - time.Hour)
	b := c.member(t, branch, "branch", late)
	if b.NotAfter().After(c.ca.cert.NotAfter) {
		t.Error("a member's certificate outlives its CA")
	}
	r, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ca.Issue(r.DER, branch, "branch", now.Add(caLife+time.Hour)); err == nil {
		t.Error("a CA that has ended issues")
	}
	if _, err := c.ca.Issue([]byte("junk"), branch, "branch", now); err == nil {
		t.Error("a certificate for junk")
	}
}

// hall is the inviting server, listening.
type hall struct {
	*corp
	door    *Door
	log     bytes.Buffer
	accept  []Newcomer
	address string
}

func newHall(t *testing.T, clock time.Time) *hall {
	h := &hall{corp: newCorp(t, domain)}
	h.door = &Door{
		Authority: h.ca, Invitations: OpenInvitations(h.state), Now: func() time.Time { return clock },
		Log: slog.New(slog.NewTextHandler(&h.log, nil)),
		Accept: func(_ context.Context, n Newcomer) ([]byte, error) {
			h.accept = append(h.accept, n)
			return []byte("domain of " + n.Name), nil
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.address = l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			c := tls.Server(raw, h.hub.ServerTLS(at(clock), ALPNJoin, ALPNRenew))
			if c.Handshake() == nil && c.ConnectionState().NegotiatedProtocol == ALPNJoin {
				if err := h.door.Serve(t.Context(), c); err != nil && !errors.Is(err, io.EOF) {
					t.Logf("door: %v", err)
				}
			}
			if s := c.ConnectionState(); s.NegotiatedProtocol == ALPNRenew {
				who, err := h.hub.SubjectOf(s, at(clock))
				if err == nil {
					err = h.door.ServeRenew(c, who)
				}
				if err != nil {
					t.Logf("renewal: %v", err)
				}
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return h
}

func (h *hall) invite(t *testing.T, when time.Time) Token {
	t.Helper()
	tok, err := h.door.Invitations.Create(h.ca, branch, "branch", []string{h.address}, when)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func joining(clock time.Time) Joining {
	return Joining{Addresses: []string{"10.77.0.2:7440"}, Product: "test", Now: func() time.Time { return clock }}
}

func TestJoinMakesAMember(t *testing.T) {
	h := newHall(t, now)
	text := h.invite(t, now).Text()
	tok, err := ParseToken(" " + text[:40] + "\n" + text[40:] + "\n")
	if err != nil {
		t.Fatal(err)
	}
	j, err := Join(t.Context(), tok, joining(now.Add(4*time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	id, err := j.Save(state)
	if err != nil {
		t.Fatal(err)
	}
	if id.Member() != branch || id.Name() != "branch" || string(j.Domain) != "domain of branch" || !j.CA().Equal(h.hub.CA()) {
		t.Fatalf("joined as %v with %q", id, j.Domain)
	}
	if len(h.accept) != 1 || h.accept[0].Subject != (Subject{KindServer, repl.GUID(branch), "branch"}) || h.accept[0].Addresses[0] != "10.77.0.2:7440" {
		t.Fatalf("the domain learned %+v", h.accept)
	}
	if s, c := shake(t, h.hub.ServerTLS(at(now), ALPNJoin), id.ClientTLS(at(now), hubID)); s != nil || c != nil {
		t.Fatalf("the new member is not believed: %v, %v", s, c)
	}
	if _, err := j.Save(state); err == nil {
		t.Error("an identity was replaced")
	}
	if strings.Contains(h.log.String(), text) || !strings.Contains(h.log.String(), "server joined") {
		t.Errorf("log: %s", h.log.String())
	}
}

func TestJoinIsRefusedForAReason(t *testing.T) {
	h := newHall(t, now)
	used := h.invite(t, now)
	if _, err := Join(t.Context(), used, joining(now)); err != nil {
		t.Fatal(err)
	}
	replaced := h.invite(t, now)
	wrong := h.invite(t, now)
	wrong.secret[3] ^= 1
	foreign := h.invite(t, now)
	foreign.Fingerprint[0] ^= 1
	otherDomain := h.invite(t, now)
	otherDomain.Domain[0] ^= 1
	expired := h.invite(t, now.Add(-2*time.Hour))
	for _, c := range []struct {
		what  string
		token Token
		want  error
	}{
		{"used", used, ErrTokenUsed},
		{"replaced by a newer one", replaced, ErrTokenWrong},
		{"wrong", wrong, ErrTokenWrong},
		{"another CA", foreign, ErrForeign},
		{"another domain", otherDomain, ErrOtherDomain},
		{"expired", expired, ErrTokenExpired},
	} {
		if _, err := Join(t.Context(), c.token, joining(now)); !errors.Is(err, c.want) {
			t.Errorf("%s token: %v, want %v", c.what, err, c.want)
		}
	}
	for _, skew := range []time.Duration{6 * time.Minute, -6 * time.Minute, 365 * 24 * time.Hour, -40 * 365 * 24 * time.Hour} {
		_, err := Join(t.Context(), h.invite(t, now), joining(now.Add(skew)))
		if !errors.Is(err, &wire.Error{Code: wire.CodeClock}) || !strings.Contains(err.Error(), now.Format(time.RFC3339)) || !strings.Contains(err.Error(), now.Add(skew).Format(time.RFC3339)) {
			t.Errorf("clock off by %v: %v", skew, err)
		}
	}
	good := h.invite(t, now)
	h.door.Accept = func(context.Context, Newcomer) ([]byte, error) {
		return nil, fmt.Errorf("branch: %w", ErrUnknownServer)
	}
	if _, err := Join(t.Context(), good, joining(now)); !errors.Is(err, ErrUnknownServer) {
		t.Errorf("server that was removed: %v", err)
	}
	h.door.Accept = func(context.Context, Newcomer) ([]byte, error) { return nil, errors.New("secret path /x") }
	if _, err := Join(t.Context(), h.invite(t, now), joining(now)); err == nil || strings.Contains(err.Error(), "/x") {
		t.Errorf("inner trouble: %v", err)
	}
}

// The MAC binds what the newcomer says: nobody can put other addresses in.
func TestMACCoversTheRequest(t *testing.T) {
	h := newHall(t, now)
	tok := h.invite(t, now)
	r, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	q := &wire.JoinRequest{Min: 1, Max: 1, Invitation: tok.invitationID(), Request: r.DER, Addresses: []string{"a:1"}, Clock: repl.Time(now.UnixNano())}
	q.MAC = requestMAC(tok.key(), q)
	q.Addresses = []string{"evil:1"}
	if _, _, err := h.door.answer(t.Context(), q); !errors.Is(err, ErrTokenWrong) {
		t.Fatalf("altered addresses: %v", err)
	}
	q.Addresses = []string{"a:1"}
	if _, _, err := h.door.answer(t.Context(), q); err != nil {
		t.Fatalf("the request itself: %v", err)
	}
	// The answer was lost: the same key may ask again, another may not.
	if _, _, err := h.door.answer(t.Context(), q); err != nil {
		t.Fatalf("the same request again: %v", err)
	}
	other, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	q.Request = other.DER
	q.MAC = requestMAC(tok.key(), q)
	if _, _, err := h.door.answer(t.Context(), q); !errors.Is(err, ErrTokenUsed) {
		t.Fatalf("another key: %v", err)
	}
	q.Min, q.Max = 7, 9
	if _, _, err := h.door.answer(t.Context(), q); !errors.Is(err, &wire.Error{Code: wire.CodeVersion}) {
		t.Fatalf("another protocol: %v", err)
	}
}

func TestJoinTriesEachAddress(t *testing.T) {
	h := newHall(t, now)
	tok := h.invite(t, now)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tok.Addresses = []string{dead.Addr().String(), h.address}
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Join(t.Context(), tok, joining(now)); err != nil {
		t.Fatal(err)
	}
	tok.Addresses = tok.Addresses[:1]
	if _, err := Join(t.Context(), tok, joining(now)); err == nil || !strings.Contains(err.Error(), tok.Addresses[0]) {
		t.Fatalf("nobody there: %v", err)
	}
}

func TestDoorRefusesOtherFrames(t *testing.T) {
	h := newHall(t, now)
	raw, err := net.Dial("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	var ca = h.ca.cert
	c := tls.Client(raw, joinTLS(h.invite(t, now), &ca))
	defer func() { _ = c.Close() }()
	b, err := wire.Append(nil, &wire.Ping{}, 0, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	f, err := wire.NewReader(c).Next()
	if err != nil || f.Type != wire.TypeError {
		t.Fatalf("got %v, %v", f.Type, err)
	}
}

func TestMistypedTokenIsToldAtOnce(t *testing.T) {
	c := newCorp(t, domain)
	tok, err := newToken(domain, c.ca.Fingerprint(), "corp", "branch", []string{"hub.example:7440", "[2001:db8::1]:7440"})
	if err != nil {
		t.Fatal(err)
	}
	text := tok.Text()
	got, err := ParseToken(text)
	if err != nil || got.Text() != text || got.Addresses[1] != "[2001:db8::1]:7440" {
		t.Fatalf("came back as %v, %v", got, err)
	}
	for i := range text {
		for _, r := range []byte{'A', '_', '*'} {
			bad := text[:i] + string(r) + text[i+1:]
			if bad == text {
				continue
			}
			if _, err := ParseToken(bad); err == nil || strings.Contains(err.Error(), bad) {
				t.Fatalf("character %d changed: %v", i, err)
			}
		}
		if _, err := ParseToken(text[:i]); err == nil {
			t.Fatalf("cut after %d characters: accepted", i)
		}
	}
	for _, n := range []int{0, 17} {
		if _, err := newToken(domain, [32]byte{}, "corp", "b", make([]string, n)); err == nil {
			t.Errorf("a token with %d addresses", n)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	h := newHall(t, now)
	tok := h.invite(t, now)
	key := fmt.Sprintf("%x", tok.key())
	j, err := Join(t.Context(), tok, joining(now))
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for _, v := range []any{tok, &tok, h.ca, h.hub, j, r, invitation{Key: key, Server: "branch"}} {
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		_, _ = fmt.Fprintf(&log, "%v %+v %#v %s\n", v, v, v, v)
	}
	raw, err := r.key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	number := new(big.Int).SetBytes(raw).String()
	for _, secret := range []string{tok.Text(), fmt.Sprintf("%x", tok.secret), fmt.Sprint(tok.secret[:8])[1:20], key, number} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%s… is printed", secret[:10])
		}
	}
	b, err := os.ReadFile(filepath.Join(h.state, invitationsFile))
	if err != nil || bytes.Contains(b, fmt.Appendf(nil, "%x", tok.secret)) {
		t.Errorf("the list of invitations holds the secret (%v)", err)
	}
}

func FuzzParseToken(f *testing.F) {
	tok, err := newToken(domain, [32]byte{1}, "corp", "branch", []string{"hub.example:7440"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tok.Text())
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := ParseToken(text)
		if err != nil {
			return
		}
		if tok.Text() != strings.Join(strings.Fields(text), "") {
			t.Fatalf("%q came back as %q", text, tok.Text())
		}
	})
}

// What stands behind the checksum is decoded safely too.
func FuzzDecodeToken(f *testing.F) {
	f.Add(make([]byte, 90))
	f.Fuzz(func(t *testing.T, b []byte) {
		tok, ok := decodeToken(b)
		if !ok {
			return
		}
		if back, err := ParseToken(tok.Text()); err != nil || back.Text() != tok.Text() {
			t.Fatalf("%x: %v came back as %v, %v", b, tok, back, err)
		}
	})
}
