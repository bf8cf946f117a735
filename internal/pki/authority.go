package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"opendfs/internal/repl"
)

// Authority is the domain's CA with its key. One server of the domain holds it.
type Authority struct {
	domain repl.GUID
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

// CreateAuthority makes the CA of a new domain and stores it in state. It
// refuses to replace one.
func CreateAuthority(state string, domain repl.GUID, name string, now time.Time) (*Authority, error) {
	for _, file := range []string{caKeyFile, caCertFile} {
		there, err := exists(state, file)
		if err == nil && there {
			err = fmt.Errorf("%s exists; a domain's CA is never replaced, use another --state for another domain", filepath.Join(state, file))
		}
		if err != nil {
			return nil, fmt.Errorf("create CA of domain %q: %w", name, err)
		}
	}
	a, err := newAuthority(domain, name, now)
	if err != nil {
		return nil, fmt.Errorf("create CA of domain %q: %w", name, err)
	}
	key, err := encodeKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("create CA of domain %q: %w", name, err)
	}
	// The certificate last: a key without one is found and told by the next try.
	if err := write(state, caKeyFile, key); err != nil {
		return nil, err
	}
	return a, write(state, caCertFile, encodeCert(a.cert.Raw))
}

func newAuthority(domain repl.GUID, name string, now time.Time) (*Authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"OpenDFS domain"}},
		URIs:      []*url.URL{domainURI(domain)},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err := sign(template, template, key.Public(), key)
	return &Authority{domain, cert, key}, err
}

func sign(template, parent *x509.Certificate, pub crypto.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// LoadAuthority reads the CA from state. Its error is fs.ErrNotExist on a
// server that does not hold it.
func LoadAuthority(state string) (*Authority, error) {
	b, err := read(state, caKeyFile)
	if err != nil {
		return nil, fmt.Errorf("load the domain's CA: %w", err)
	}
	key, _, err := decodePEM(b)
	if err == nil && key == nil {
		err = errors.New("no key in it")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w; restore it from a backup of the state directory", filepath.Join(state, caKeyFile), err)
	}
	cert, err := readCert(state, caCertFile)
	if err != nil {
		return nil, fmt.Errorf("load the domain's CA: %w", err)
	}
	domain, err := domainOf(cert)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("load the domain's CA: %s and %s in %s do not belong together; restore both from one backup", caKeyFile, caCertFile, state)
	}
	return &Authority{domain, cert, key}, nil
}

// domainOf reads the domain's id from the CA's certificate.
func domainOf(ca *x509.Certificate) (repl.GUID, error) {
	if !ca.IsCA || len(ca.URIs) != 1 || ca.URIs[0].Scheme != "dfs" || ca.URIs[0].Path != "" {
		return repl.GUID{}, fmt.Errorf("certificate of %q is not that of a domain's CA", ca.Subject.CommonName)
	}
	return repl.ParseGUID(ca.URIs[0].Host)
}

// Domain returns the id of the CA's domain, Name its name.
func (a *Authority) Domain() repl.GUID { return a.domain }

// Name returns the domain's name when the CA was made.
func (a *Authority) Name() string { return a.cert.Subject.CommonName }

// Signer returns the CA's key, to sign copies of the domain file with.
func (a *Authority) Signer() crypto.Signer { return a.key }

// Fingerprint returns the SHA-256 of the CA's public key.
func (a *Authority) Fingerprint() [32]byte { return fingerprint(a.cert.RawSubjectPublicKeyInfo) }

// String names the CA; it never prints the key.
func (a *Authority) String() string { return fmt.Sprintf("CA of domain %q (%v)", a.Name(), a.domain) }

// GoString is String, so that %#v prints no key either.
func (a *Authority) GoString() string { return a.String() }

// Issue makes a certificate for the server with this id, from its PKCS #10
// request. Only the request's key is used. roles are DNS names that stand for what
// it may do beside being a member (directory.DeputyName); none of a machine.
func (a *Authority) Issue(request []byte, member repl.MemberID, name string, now time.Time, roles ...string) ([]byte, error) {
	return a.IssueTo(request, Subject{KindServer, repl.GUID(member), name}, now, roles...)
}

// IssueTo is Issue for a server or an administrator.
func (a *Authority) IssueTo(request []byte, to Subject, now time.Time, roles ...string) ([]byte, error) {
	r, err := parseRequest(request)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	end := now.Add(memberLife)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	if !end.After(now) {
		return nil, fmt.Errorf("issue a certificate for %v: the domain's CA ended on %s", to, a.cert.NotAfter.Format(time.DateOnly))
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: to.Name}, URIs: []*url.URL{subjectURI(a.domain, to)}, DNSNames: roles,
		NotBefore: now.Add(-backdate), NotAfter: end, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if to.Kind == KindAdmin {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	cert, err := sign(template, a.cert, r.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %v: %w", to, err)
	}
	return cert.Raw, nil
}

// CreateIdentity makes the identity of the server that holds the CA and
// stores it in state.
func (a *Authority) CreateIdentity(state string, member repl.MemberID, name string, now time.Time) (*Identity, error) {
	if err := mayCreate(state); err != nil {
		return nil, err
	}
	r, err := NewRequest()
	if err != nil {
		return nil, err
	}
	der, err := a.Issue(r.DER, member, name, now)
	if err != nil {
		return nil, err
	}
	return store(state, a.cert, der, r)
}
