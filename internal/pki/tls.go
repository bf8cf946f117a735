package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"opendfs/internal/repl"
)

// Policy is what the caller knows beside the certificates.
type Policy struct {
	// Now is this server's clock.
	Now func() time.Time
	// Revoked reports whether a server's identity is withdrawn; nil: none is.
	Revoked func(repl.MemberID) bool
}

func base() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true}
}

// ServerTLS returns how this server listens: members with both certificates
// by ALPNRepl, and whoever else is offered by its ALPN: newcomers without a
// certificate by ALPNJoin, servers and administrators by ALPNControl, the same
// with a certificate that may have expired by ALPNRenew.
func (id *Identity) ServerTLS(p Policy, offer ...string) *tls.Config {
	c := base()
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		c := base()
		c.Certificates = []tls.Certificate{*id.cert.Load()}
		c.NextProtos = []string{ALPNRepl}
		if len(h.SupportedProtos) == 1 && slices.Contains(offer, h.SupportedProtos[0]) {
			c.NextProtos = slices.Clone(h.SupportedProtos)
		}
		if c.NextProtos[0] == ALPNJoin {
			return c, nil
		}
		c.ClientAuth = tls.RequireAnyClientCert // VerifyConnection does the verification
		c.VerifyConnection = func(s tls.ConnectionState) error {
			switch s.NegotiatedProtocol {
			case ALPNControl, ALPNRenew:
				_, err := id.SubjectOf(s, p)
				return err
			}
			_, err := id.PeerOf(s, p)
			return err
		}
		return c, nil
	}
	return c
}

// SubjectOf returns who is at the other end of a connection by ALPNControl or
// ALPNRenew. Whether it is of the domain still the caller judges: it can say so.
func (id *Identity) SubjectOf(s tls.ConnectionState, p Policy) (Subject, error) {
	if len(s.PeerCertificates) == 0 {
		return Subject{}, errors.New("verify caller: it shows no certificate")
	}
	leaf := s.PeerCertificates[0]
	at := p.Now()
	if s.NegotiatedProtocol == ALPNRenew && at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	who, err := id.VerifySubject(leaf, at)
	if err != nil {
		return Subject{}, fmt.Errorf("verify caller: %w", err)
	}
	return who, nil
}

// ClientTLS returns how this server dials the member expected.
func (id *Identity) ClientTLS(p Policy, expected repl.MemberID) *tls.Config {
	c := id.dialling(ALPNRepl)
	c.VerifyConnection = func(s tls.ConnectionState) error {
		member, err := id.PeerOf(s, p)
		if err == nil && member != expected {
			err = fmt.Errorf("server %v (%q) answers where %v was expected: %w; check the address in the domain file",
				member, s.PeerCertificates[0].Subject.CommonName, expected, ErrWrongMember)
		}
		return err
	}
	return c
}

func (id *Identity) dialling(alpn string) *tls.Config {
	c := base()
	c.NextProtos = []string{alpn}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.cert.Load(), nil }
	// The chain is verified by VerifyConnection, which each caller sets; what is
	// skipped is the match of a host name, because an address proves nothing here.
	c.InsecureSkipVerify = true
	return c
}

// CallTLS returns how a server is dialled by ALPNControl or ALPNRenew: that with
// the id expected, or with a zero id any server of the domain.
func (id *Identity) CallTLS(p Policy, alpn string, expected repl.MemberID) *tls.Config {
	c := id.dialling(alpn)
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if s.NegotiatedProtocol != alpn {
			return fmt.Errorf("the server does not offer %s", alpn)
		}
		if len(s.PeerCertificates) == 0 {
			return errors.New("verify server: it shows no certificate")
		}
		member, err := id.Verify(s.PeerCertificates[0], p.Now())
		if err == nil && member != expected && expected != (repl.MemberID{}) {
			err = fmt.Errorf("server %v (%q) answers where %v was expected: %w", member, s.PeerCertificates[0].Subject.CommonName, expected, ErrWrongMember)
		}
		if err == nil && p.Revoked != nil && p.Revoked(member) {
			err = fmt.Errorf("server %v (%q): %w", member, s.PeerCertificates[0].Subject.CommonName, ErrRevoked)
		}
		return err
	}
	return c
}

// PeerOf returns which member is at the other end of a connection.
func (id *Identity) PeerOf(s tls.ConnectionState, p Policy) (repl.MemberID, error) {
	if s.NegotiatedProtocol != ALPNRepl {
		return repl.MemberID{}, fmt.Errorf("verify peer: application protocol %q, want %q", s.NegotiatedProtocol, ALPNRepl)
	}
	if len(s.PeerCertificates) == 0 {
		return repl.MemberID{}, errors.New("verify peer: it shows no certificate")
	}
	member, err := id.Verify(s.PeerCertificates[0], p.Now())
	if err == nil && p.Revoked != nil && p.Revoked(member) {
		err = fmt.Errorf("server %v (%q): %w; invite it again if it shall return", member, s.PeerCertificates[0].Subject.CommonName, ErrRevoked)
	}
	if err != nil {
		return repl.MemberID{}, fmt.Errorf("verify peer: %w", err)
	}
	return member, nil
}

// joinTLS verifies the server of an invitation by the CA's fingerprint. Time
// is left out: the clocks are compared first, see Join.
func joinTLS(t Token, found **x509.Certificate) *tls.Config {
	c := base()
	c.NextProtos = []string{ALPNJoin}
	c.InsecureSkipVerify = true // the fingerprint is the proof, VerifyConnection asks for it
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if s.NegotiatedProtocol != ALPNJoin {
			return errors.New("the server takes no newcomers")
		}
		for _, ca := range s.PeerCertificates[1:] {
			if fingerprint(ca.RawSubjectPublicKeyInfo) != t.Fingerprint || !ca.IsCA {
				continue
			}
			leaf := s.PeerCertificates[0]
			if err := leaf.CheckSignatureFrom(ca); err != nil {
				return fmt.Errorf("certificate of %q: %w", leaf.Subject.CommonName, ErrForeign)
			}
			if domain, _, err := identify(leaf); err != nil || domain != t.Domain {
				return fmt.Errorf("certificate of %q: %w", leaf.Subject.CommonName, ErrOtherDomain)
			}
			*found = ca
			return nil
		}
		return fmt.Errorf("the server that answers does not hold the CA that the token names: %w", ErrForeign)
	}
	return c
}

// Explain adds to an error of a handshake or first read what it means when the
// other side refused our certificate: TLS tells us only that it did.
func Explain(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return err
	}
	return fmt.Errorf("%w (%w): it was revoked, has expired, or is of another domain; the other server's log says which", ErrRefused, err)
}
