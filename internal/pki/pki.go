// Package pki is who is who in a domain (docs/formats/pki.md): the domain's own
// certificate authority, each member's identity, the TLS configurations that
// prove it, invitations for new servers and the exchange in which one joins.
//
// A peer is believed for its certificate alone: chain to the domain's CA, time,
// one URI of the domain with the server's id, no revocation; never for an
// address. Files lie in STATE (0700) with mode 0600 and are replaced whole. Secrets are
// never printed: types that hold one redact themselves.
//
// The package decides nothing about folders and holds no session; it reads no
// clock but what it is given.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"opendfs/internal/repl"
)

// The application protocols on a member's port.
const (
	ALPNRepl = "dfs-repl/1"
	ALPNJoin = "dfs-join/1"
	// ALPNRenew is for one who is known and whose certificate may have expired.
	ALPNRenew = "dfs-renew/1"
	// ALPNControl carries the management API, for servers and administrators.
	ALPNControl = "dfs-control/1"
)

// Lives and limits, docs/formats/pki.md.
const (
	caLife         = 10 * 365 * 24 * time.Hour
	memberLife     = 365 * 24 * time.Hour
	backdate       = time.Hour
	invitationLife = time.Hour
	remembered     = 7 * 24 * time.Hour
	maxSkew        = 5 * time.Minute
)

// The reasons why a peer's certificate is not believed.
var (
	ErrForeign     = errors.New("its certificate is not from this domain's CA")
	ErrOtherDomain = errors.New("its certificate is for another domain")
	ErrRevoked     = errors.New("it was revoked")
	ErrWrongMember = errors.New("it is another server than the one that was expected there")
	ErrRefused     = errors.New("the other server refuses this server's identity")
	ErrValidity    = errors.New("its certificate is not valid at this time")
	ErrNoServer    = errors.New("its certificate is an administrator's and no server's")
)

// Kind tells servers from administrators.
type Kind uint8

// The kinds of subjects.
const (
	KindServer Kind = iota + 1
	KindAdmin
)

// String gives the word of the certificate's URI.
func (k Kind) String() string {
	if k == KindAdmin {
		return "admin"
	}
	return "server"
}

// Subject is whom a certificate of the domain names.
type Subject struct {
	Kind Kind
	ID   repl.GUID
	// Name is what it was called when the certificate was made; for people.
	Name string
}

// String names the subject for people.
func (s Subject) String() string { return fmt.Sprintf("%v %q (%v)", s.Kind, s.Name, s.ID) }

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return n.Add(n, big.NewInt(1)), nil
}

func domainURI(domain repl.GUID) *url.URL { return &url.URL{Scheme: "dfs", Host: domain.String()} }

func subjectURI(domain repl.GUID, s Subject) *url.URL {
	return &url.URL{Scheme: "dfs", Host: domain.String(), Path: "/" + s.Kind.String() + "/" + s.ID.String()}
}

// identify reads the one URI of a member's or administrator's certificate.
func identify(c *x509.Certificate) (repl.GUID, Subject, error) {
	none := func() (repl.GUID, Subject, error) {
		return repl.GUID{}, Subject{}, fmt.Errorf("certificate of %q names no member of a domain: %w", c.Subject.CommonName, ErrForeign)
	}
	if len(c.URIs) != 1 || c.URIs[0].Scheme != "dfs" {
		return none()
	}
	u := c.URIs[0]
	s := Subject{Kind: KindServer, Name: c.Subject.CommonName}
	text, ok := strings.CutPrefix(u.Path, "/server/")
	if !ok {
		s.Kind = KindAdmin
		text, ok = strings.CutPrefix(u.Path, "/admin/")
	}
	domain, err1 := repl.ParseGUID(u.Host)
	id, err2 := repl.ParseGUID(text)
	s.ID = id
	if !ok || err1 != nil || err2 != nil || u.String() != subjectURI(domain, s).String() || domain.IsZero() || id.IsZero() {
		return none()
	}
	return domain, s, nil
}

// fingerprint is the SHA-256 of a certificate's or request's public key.
func fingerprint(spki []byte) [32]byte { return sha256.Sum256(spki) }

// parseRequest checks a PKCS #10 request: its own signature, and the kind of key.
func parseRequest(der []byte) (*x509.CertificateRequest, error) {
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate request: %w", err)
	}
	if k, ok := r.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("read certificate request: the key is not ECDSA P-256")
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("read certificate request: %w", err)
	}
	return r, nil
}
