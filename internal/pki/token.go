package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

const (
	tokenVersion = 1
	maxTokenName = 255
	// maxToken bounds the text of a token: 16 addresses and two names of 255.
	maxToken = 8 << 10
)

// Token is an invitation in the hands of the one invited. It holds a secret:
// Text alone prints it, for the one who asked for it.
type Token struct {
	Domain      repl.GUID
	Fingerprint [32]byte // SHA-256 of the CA's public key
	DomainName  string
	Server      string   // the name of the server that it is for
	Addresses   []string // where to join, tried in order
	secret      [32]byte
}

func newToken(domain repl.GUID, ca [32]byte, domainName, server string, addresses []string) (Token, error) {
	t := Token{Domain: domain, Fingerprint: ca, DomainName: domainName, Server: server, Addresses: addresses}
	if _, err := rand.Read(t.secret[:]); err != nil {
		return Token{}, err
	}
	if len(domainName) > maxTokenName || len(server) > maxTokenName || len(addresses) == 0 || len(addresses) > wire.MaxAddresses {
		return Token{}, fmt.Errorf("names of %d and %d bytes, %d addresses: a token holds names of %d bytes and 1 to %d addresses",
			len(domainName), len(server), len(addresses), maxTokenName, wire.MaxAddresses)
	}
	for _, a := range addresses {
		if a == "" || len(a) > wire.MaxAddress {
			return Token{}, fmt.Errorf("address of %d bytes", len(a))
		}
	}
	return t, nil
}

// Text returns the token as it is handed over. It is a secret.
func (t Token) Text() string {
	b := []byte{tokenVersion}
	b = append(b, t.Domain[:]...)
	b = append(b, t.Fingerprint[:]...)
	b = append(b, t.secret[:]...)
	b = appendShort(appendShort(b, t.DomainName), t.Server)
	b = append(b, byte(len(t.Addresses)))
	for _, a := range t.Addresses {
		b = appendShort(b, a)
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(append(b, sum[:4]...))
}

func appendShort(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// ParseToken reads the text of a token; white space in it is ignored. Its
// errors never repeat the text.
func ParseToken(text string) (Token, error) {
	text = strings.Join(strings.Fields(text), "")
	mistyped := errors.New("read token: it is cut off or mistyped; copy the whole line that `dfs invite` printed")
	if len(text) > maxToken {
		return Token{}, mistyped
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < 5 {
		return Token{}, mistyped
	}
	body, sum := b[:len(b)-4], sha256.Sum256(b[:len(b)-4])
	if !bytes.Equal(b[len(b)-4:], sum[:4]) {
		return Token{}, mistyped
	}
	if body[0] != tokenVersion {
		return Token{}, fmt.Errorf("read token: version %d, this program reads version %d; install the dfs of the server that invites", body[0], tokenVersion)
	}
	t, ok := decodeToken(body[1:])
	if !ok {
		return Token{}, mistyped
	}
	return t, nil
}

func decodeToken(b []byte) (t Token, ok bool) {
	ok = true
	take := func(n int) []byte {
		if !ok || len(b) < n {
			ok = false
			return make([]byte, n)
		}
		out := b[:n]
		b = b[n:]
		return out
	}
	short := func() string { return string(take(int(take(1)[0]))) }
	copy(t.Domain[:], take(16))
	copy(t.Fingerprint[:], take(32))
	copy(t.secret[:], take(32))
	t.DomainName, t.Server = short(), short()
	n := int(take(1)[0])
	for range n {
		a := short()
		ok = ok && a != ""
		t.Addresses = append(t.Addresses, a)
	}
	return t, ok && len(b) == 0 && n > 0 && n <= wire.MaxAddresses && !t.Domain.IsZero()
}

// String names the token and hides its secret.
func (t Token) String() string {
	return fmt.Sprintf("invitation of server %q to domain %q at %s", t.Server, t.DomainName, strings.Join(t.Addresses, ", "))
}

// GoString hides the secret from %#v.
func (t Token) GoString() string { return t.String() }

// LogValue hides the secret from logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// invitationID names the invitation without telling its secret.
func (t Token) invitationID() [16]byte {
	sum := sha256.Sum256(append([]byte("dfs-invitation-id/1\x00"), t.secret[:]...))
	return [16]byte(sum[:16])
}

// key authenticates the joiner's request; the inviting server keeps it in the
// place of the secret.
func (t Token) key() [32]byte {
	return sha256.Sum256(append([]byte("dfs-invitation-key/1\x00"), t.secret[:]...))
}
