package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"opendfs/internal/repl"
)

// Identity is who this server is, or the administrator who works here: its id, its certificate and key, and the
// domain's CA that it believes. Safe for concurrent use.
type Identity struct {
	domain repl.GUID
	who    Subject
	state  string
	ca     *x509.Certificate
	roots  *x509.CertPool
	// cert is replaced as a whole by a renewal; Leaf is set.
	cert atomic.Pointer[tls.Certificate]
}

// Request is a new key and the PKCS #10 request for it.
type Request struct {
	DER []byte
	key *ecdsa.PrivateKey
}

// NewRequest makes a key and a request for a certificate. The request names
// nobody: who it is for is known by the invitation or the session it comes by.
func NewRequest() (*Request, error) {
	key, err := newKey()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return &Request{der, key}, nil
}

// String hides the key.
func (*Request) String() string { return "certificate request" }

// GoString hides the key.
func (*Request) GoString() string { return "certificate request" }

func mayCreate(state string) error {
	there, err := exists(state, memberFile)
	if err != nil {
		return fmt.Errorf("create an identity in %s: %w", state, err)
	}
	if there {
		return fmt.Errorf("create an identity in %s: this server is a member already; use another --state, or move that directory aside", state)
	}
	return nil
}

// store checks that certificate, key and CA belong together and makes them
// this server's identity.
func store(state string, ca *x509.Certificate, cert []byte, r *Request) (*Identity, error) {
	id, err := newIdentity(state, ca, cert, r.key)
	if err != nil {
		return nil, err
	}
	if err := write(state, caCertFile, encodeCert(ca.Raw)); err != nil {
		return nil, err
	}
	return id, id.save(cert, r.key)
}

func (id *Identity) save(cert []byte, key *ecdsa.PrivateKey) error {
	text, err := encodeKey(key)
	if err != nil {
		return err
	}
	return write(id.state, memberFile, append(text, encodeCert(cert)...))
}

func newIdentity(state string, ca *x509.Certificate, der []byte, key *ecdsa.PrivateKey) (*Identity, error) {
	domain, err := domainOf(ca)
	if err != nil {
		return nil, err
	}
	id := &Identity{domain: domain, state: state, ca: ca, roots: x509.NewCertPool()}
	id.roots.AddCert(ca)
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read this server's certificate: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("read this server's certificate: it is for another key")
	}
	// Its time is judged when it is used: an expired identity must still load.
	if id.who, err = id.VerifySubject(leaf, leaf.NotAfter); err != nil {
		return nil, fmt.Errorf("read this server's certificate: %w", err)
	}
	id.cert.Store(&tls.Certificate{Certificate: [][]byte{der, ca.Raw}, PrivateKey: key, Leaf: leaf})
	return id, nil
}

// Load reads this server's identity from state. Its error is fs.ErrNotExist if
// the server belongs to no domain yet.
func Load(state string) (*Identity, error) {
	b, err := read(state, memberFile)
	if err != nil {
		return nil, fmt.Errorf("load this server's identity: %w", err)
	}
	key, leaf, err := decodePEM(b)
	if err == nil && (key == nil || leaf == nil) {
		err = errors.New("key or certificate is missing in it")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w; restore it from a backup, or join again by a new invitation", filepath.Join(state, memberFile), err)
	}
	ca, err := readCert(state, caCertFile)
	if err != nil {
		return nil, fmt.Errorf("load this server's identity: %w", err)
	}
	id, err := newIdentity(state, ca, leaf.Raw, key)
	if err != nil {
		return nil, fmt.Errorf("load this server's identity from %s: %w", state, err)
	}
	return id, nil
}

// Domain returns the id of this server's domain.
func (id *Identity) Domain() repl.GUID { return id.domain }

// Member returns this server's id.
func (id *Identity) Member() repl.MemberID { return repl.MemberID(id.who.ID) }

// Subject returns whose identity it is.
func (id *Identity) Subject() Subject { return id.who }

// Name returns the name when the certificate was made.
func (id *Identity) Name() string { return id.cert.Load().Leaf.Subject.CommonName }

// CA returns the domain's CA certificate; its public key verifies copies of
// the domain file.
func (id *Identity) CA() *x509.Certificate { return id.ca }

// NotAfter returns when the certificate ends.
func (id *Identity) NotAfter() time.Time { return id.cert.Load().Leaf.NotAfter }

// RenewalDue reports whether two thirds of the certificate's life are over.
func (id *Identity) RenewalDue(now time.Time) bool {
	leaf := id.cert.Load().Leaf
	return now.After(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3))
}

// Renew takes the certificate that the holder of the CA made for r. From then
// on new connections show it.
func (id *Identity) Renew(r *Request, cert []byte) error {
	next, err := newIdentity(id.state, id.ca, cert, r.key)
	if err == nil && (next.who.ID != id.who.ID || next.who.Kind != id.who.Kind) {
		err = fmt.Errorf("the new certificate is for %v", next.who)
	}
	if err == nil {
		err = id.save(cert, r.key)
	}
	if err != nil {
		return fmt.Errorf("renew this server's certificate: %w", err)
	}
	id.cert.Store(next.cert.Load())
	return nil
}

// HasRole reports whether the CA has given this server a role (Authority.Issue).
func (id *Identity) HasRole(name string) bool {
	return slices.Contains(id.cert.Load().Leaf.DNSNames, name)
}

// Signer gives this server's certificate (DER) and the key that it is for.
func (id *Identity) Signer() ([]byte, crypto.Signer) {
	c := id.cert.Load()
	return c.Leaf.Raw, c.PrivateKey.(*ecdsa.PrivateKey)
}

// PEM gives this server's certificate, its key and the CA's certificate as text,
// for programs that want files. The key is a secret.
func (id *Identity) PEM() (cert, key, ca []byte, err error) {
	c := id.cert.Load()
	key, err = encodeKey(c.PrivateKey.(*ecdsa.PrivateKey))
	return encodeCert(c.Leaf.Raw), key, encodeCert(id.ca.Raw), err
}

// String names the server; it never prints the key.
func (id *Identity) String() string { return id.who.String() }

// GoString is String, so that %#v prints no key either.
func (id *Identity) GoString() string { return id.String() }

// Verify returns which server's certificate c is, if it is one of this domain
// that is valid at that time. Revocation is not judged here.
func (id *Identity) Verify(c *x509.Certificate, at time.Time) (repl.MemberID, error) {
	s, err := id.VerifySubject(c, at)
	if err == nil && s.Kind != KindServer {
		err = fmt.Errorf("certificate of %q: %w", s.Name, ErrNoServer)
	}
	if err != nil {
		return repl.MemberID{}, err
	}
	return repl.MemberID(s.ID), nil
}

// VerifySubject is Verify of servers and administrators.
func (id *Identity) VerifySubject(c *x509.Certificate, at time.Time) (Subject, error) {
	name := c.Subject.CommonName
	options := x509.VerifyOptions{Roots: id.roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	if _, err := c.Verify(options); err != nil {
		if x, ok := errors.AsType[x509.CertificateInvalidError](err); ok && x.Reason == x509.Expired {
			return Subject{}, fmt.Errorf("certificate of %q is valid from %s to %s and this server's clock says %s: %w; check both clocks, and that the holder of the CA can be reached for renewal",
				name, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339), ErrValidity)
		}
		return Subject{}, fmt.Errorf("certificate of %q: %w", name, ErrForeign)
	}
	domain, who, err := identify(c)
	if err != nil {
		return Subject{}, err
	}
	if domain != id.domain {
		return Subject{}, fmt.Errorf("certificate of %q is for domain %v: %w", name, domain, ErrOtherDomain)
	}
	return who, nil
}
