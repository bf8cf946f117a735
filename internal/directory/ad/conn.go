package ad

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Options say how Active Directory is reached.
type Options struct {
	// URL is ldaps://HOST[:PORT], or ldap:// for which TLS is begun first.
	URL string
	// Base is the naming context of the domain: DC=corp,DC=example.
	Base string
	// User and Password are those of a service account: a DN, DOMAIN\name or
	// name@realm. They travel inside TLS alone.
	User, Password string
	// CA is the PEM of whose certificates are believed; nil: the system's.
	CA []byte
	// Dial makes a connection; nil: as net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	// askTime is how long one answer may take.
	askTime  = 15 * time.Second
	pageSize = 500
	ldapPort = "389"
	ldapsPrt = "636"
)

// link is the one connection of a Store, made when it is needed. It is for one
// user at a time: hold mu.
type link struct {
	options Options
	mu      sync.Mutex
	conn    *ldap.Conn // guarded by mu; nil if there is none
}

// dial connects and binds.
func (o *Options) dial(ctx context.Context) (_ *ldap.Conn, err error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", o.URL, err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if len(o.CA) > 0 {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(o.CA) {
			return nil, errors.New("the file of the CA holds no certificate")
		}
	}
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	port := u.Port()
	if port == "" {
		if port = ldapPort; u.Scheme == "ldaps" {
			port = ldapsPrt
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	raw, err := dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	secure := u.Scheme == "ldaps"
	if secure {
		t := tls.Client(raw, c)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(hintOf(err), raw.Close())
		}
		raw = t
	}
	conn := ldap.NewConn(raw, secure)
	conn.SetTimeout(askTime)
	conn.Start()
	if !secure {
		if err := conn.StartTLS(c); err != nil {
			return nil, errors.Join(hintOf(err), conn.Close())
		}
	}
	if err := conn.Bind(o.User, o.Password); err != nil {
		return nil, errors.Join(fmt.Errorf("log in as %s: %w", o.User, refusal(err)), conn.Close())
	}
	return conn, nil
}

// hintOf says what to do about a certificate that Go does not read.
func hintOf(err error) error {
	if strings.Contains(err.Error(), "negative serial number") {
		return fmt.Errorf("%w; Samba made that certificate itself: give it a proper one (smb.conf: tls certfile, tls keyfile, tls cafile)", err)
	}
	return err
}

// refusal says what to do about a domain controller that does not let the account in
// (result codes of RFC 4511, appendix A).
func refusal(err error) error {
	switch {
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultAuthMethodNotSupported, ldap.LDAPResultStrongAuthRequired, ldap.LDAPResultConfidentialityRequired,
		ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultUnwillingToPerform):
		return fmt.Errorf("%w; the domain controller refuses a simple bind, the only way in that is offered: a Kerberos bind wants signing or sealing, which is not there; allow this account simple binds inside TLS, on this domain controller or another one", err)
	case ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials):
		return fmt.Errorf("%w; correct the user (NAME@DOMAIN, DOMAIN\\NAME or its distinguished name) or the password; an account of the group Protected Users cannot log in by a simple bind", err)
	}
	return err
}

// with calls f with the connection, connecting first if there is none. One that
// has failed is not used again.
func (l *link) with(ctx context.Context, f func(c *ldap.Conn) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil && l.conn.IsClosing() {
		l.drop()
	}
	if l.conn == nil {
		c, err := l.options.dial(ctx)
		if err != nil {
			return fmt.Errorf("reach Active Directory at %s: %w", l.options.URL, err)
		}
		l.conn = c
	}
	stop := context.AfterFunc(ctx, func(c *ldap.Conn) func() { return func() { _ = c.Close() } }(l.conn)) // wakes whoever waits for an answer
	err := f(l.conn)
	if !stop() || ldap.IsErrorWithCode(err, ldap.ErrorNetwork) {
		l.drop()
	}
	return err
}

func (l *link) drop() {
	_ = l.conn.Close() // it is of no use any more
	l.conn = nil
}

// close ends the connection.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.drop()
	}
}

// object is one entry. Values are bytes; attribute names in lower case.
type object struct {
	dn     string
	values map[string][]string
}

func (o *object) one(attribute string) string {
	if v := o.values[strings.ToLower(attribute)]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (o *object) has(attribute string) bool { return len(o.values[strings.ToLower(attribute)]) > 0 }

func (o *object) isA(class string) bool {
	for _, c := range o.values["objectclass"] {
		if strings.EqualFold(c, class) {
			return true
		}
	}
	return false
}

// search asks for entries, page by page. A base that is not there has none.
func search(c *ldap.Conn, base string, scope int, filter string, attributes ...string) ([]*object, error) {
	r, err := c.SearchWithPaging(ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, 0, 0, false, filter, attributes, nil), pageSize)
	if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("search %s: %w", base, err)
	}
	list := make([]*object, 0, len(r.Entries))
	for _, e := range r.Entries {
		o := &object{dn: e.DN, values: make(map[string][]string, len(e.Attributes))}
		for _, a := range e.Attributes {
			for _, v := range a.ByteValues {
				o.values[strings.ToLower(a.Name)] = append(o.values[strings.ToLower(a.Name)], string(v))
			}
		}
		list = append(list, o)
	}
	return list, nil
}

// parent gives the DN above; AD writes a comma in a name as "\,".
func parent(dn string) string {
	for i := 0; i < len(dn); i++ {
		switch dn[i] {
		case '\\':
			i++
		case ',':
			return dn[i+1:]
		}
	}
	return ""
}

func sameDN(a, b string) bool { return strings.EqualFold(a, b) }
