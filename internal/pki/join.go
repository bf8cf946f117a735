package pki

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// joinTime bounds the whole exchange of a join on one connection.
const joinTime = 10 * time.Second

// Joining is what a newcomer says about itself, and the means to say it.
type Joining struct {
	// Addresses are where the new server will be reached, HOST:PORT.
	Addresses []string
	// Product is this program's version, for people.
	Product string
	// Now is this server's clock.
	Now func() time.Time
	// Dial opens a TCP connection; nil: net.Dialer.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Joined is what a join brought: an identity that is not stored yet, and the
// signed copy of the domain file.
type Joined struct {
	Domain []byte // signed copy of the domain file, not verified here
	ca     *x509.Certificate
	cert   []byte
	key    *Request
}

// CA returns the domain's CA certificate, proven by the token's fingerprint.
func (j *Joined) CA() *x509.Certificate { return j.ca }

// String names nothing that is secret.
func (j *Joined) String() string {
	return fmt.Sprintf("identity in domain %q", j.ca.Subject.CommonName)
}

// GoString is String.
func (j *Joined) GoString() string { return j.String() }

// Save makes what was joined this server's identity, in state. It refuses to
// replace one.
func (j *Joined) Save(state string) (*Identity, error) {
	if err := mayCreate(state); err != nil {
		return nil, err
	}
	return store(state, j.ca, j.cert, j.key)
}

// Join asks the inviting server for an identity, at each of the token's
// addresses until one answers. Its errors are Err… of this package where the
// server gave a reason, and then no other address is asked.
func Join(ctx context.Context, t Token, o Joining) (*Joined, error) {
	r, err := NewRequest()
	if err != nil {
		return nil, err
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	var errs []error
	for _, address := range t.Addresses {
		j, err := joinAt(ctx, t, o, r, address)
		if err == nil {
			return j, nil
		}
		errs = append(errs, fmt.Errorf("at %s: %w", address, err))
		if isVerdict(err) {
			break
		}
	}
	return nil, fmt.Errorf("join domain %q: %w", t.DomainName, errors.Join(errs...))
}

// isVerdict reports whether the inviting server itself said no.
func isVerdict(err error) bool {
	_, ok := errors.AsType[*wire.Error](err)
	return ok || errors.Is(err, ErrTokenWrong) || errors.Is(err, ErrTokenExpired) || errors.Is(err, ErrTokenUsed) || errors.Is(err, ErrUnknownServer)
}

func joinAt(ctx context.Context, t Token, o Joining, r *Request, address string) (_ *Joined, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	raw, err := o.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	var ca *x509.Certificate
	conn := tls.Client(raw, joinTLS(t, &ca))
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // wakes whoever reads
	defer func() {
		stop()
		_ = conn.Close() // nothing is lost with it: the reply is here or the join failed
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w (%v)", err, context.Cause(ctx))
		}
	}()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, Explain(err)
	}
	request := &wire.JoinRequest{
		Min: wire.OldestProtocol, Max: wire.Protocol, Invitation: t.invitationID(), Request: r.DER,
		Addresses: o.Addresses, Clock: repl.Time(o.Now().UnixNano()), Product: o.Product,
	}
	request.MAC = requestMAC(t.key(), request)
	m, err := askOne(conn, request)
	if refusal, ok := errors.AsType[*wire.Error](err); ok {
		return nil, reasonOf(refusal)
	}
	if err != nil {
		return nil, err
	}
	if reply, ok := m.(*wire.JoinReply); ok {
		return newJoined(t, r, ca, reply, o.Now())
	}
	return nil, fmt.Errorf("the server answers with %v", m.Type())
}

// newJoined believes nothing of a reply that the token's CA has not signed.
func newJoined(t Token, r *Request, proven *x509.Certificate, m *wire.JoinReply, now time.Time) (*Joined, error) {
	ca, err := x509.ParseCertificate(m.CA)
	if err != nil {
		return nil, fmt.Errorf("read the CA certificate: %w", err)
	}
	if fingerprint(ca.RawSubjectPublicKeyInfo) != t.Fingerprint || !ca.Equal(proven) || ca.CheckSignatureFrom(ca) != nil {
		return nil, fmt.Errorf("read the CA certificate: %w", ErrForeign)
	}
	if err := compareClocks(now, time.Unix(0, int64(m.Clock)), "this server's", "the inviting server's"); err != nil {
		return nil, err
	}
	id, err := newIdentity("", ca, m.Certificate, r.key)
	if err != nil {
		return nil, err
	}
	if id.domain != t.Domain {
		return nil, fmt.Errorf("read this server's certificate: %w", ErrOtherDomain)
	}
	return &Joined{Domain: m.Domain, ca: ca, cert: m.Certificate, key: r}, nil
}

// reasonOf turns the inviting server's refusal into this package's error.
func reasonOf(e *wire.Error) error {
	for reason, code := range joinCodes {
		if code == e.Code {
			return reason
		}
	}
	return e
}

var joinCodes = map[error]wire.Code{
	ErrTokenWrong: wire.CodeTokenWrong, ErrTokenExpired: wire.CodeTokenExpired,
	ErrTokenUsed: wire.CodeTokenUsed, ErrUnknownServer: wire.CodeUnknownServer,
}

// compareClocks refuses a difference of more than five minutes and tells both.
func compareClocks(a, b time.Time, aWho, bWho string) error {
	if d := a.Sub(b); d > maxSkew || d < -maxSkew {
		return wire.Errorf(wire.CodeClock, "%s clock says %s and %s says %s: they may differ by %v; set them, then join again",
			aWho, a.UTC().Format(time.RFC3339), bWho, b.UTC().Format(time.RFC3339), maxSkew)
	}
	return nil
}

// requestMAC authenticates what a newcomer asks for and says about itself.
func requestMAC(key [32]byte, r *wire.JoinRequest) [32]byte {
	h := hmac.New(sha256.New, key[:])
	part := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	part(r.Request)
	for _, a := range r.Addresses {
		part([]byte(a))
	}
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(r.Clock)))
	return [32]byte(h.Sum(nil))
}

func validMAC(key [32]byte, r *wire.JoinRequest) bool {
	want := requestMAC(key, r)
	return hmac.Equal(want[:], r.MAC[:])
}
