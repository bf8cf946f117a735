package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// RenewAt makes a new key and asks the holder of the CA at one of its addresses
// for a certificate, by ALPNRenew: an expired one is let in. holder is its id, or
// zero for any server of the domain. On success the identity is renewed and
// stored.
func (id *Identity) RenewAt(ctx context.Context, p Policy, holder repl.MemberID, addresses []string) error {
	r, err := NewRequest()
	if err != nil {
		return err
	}
	var errs []error
	for _, address := range addresses {
		cert, err := id.askRenewal(ctx, p, holder, address, r)
		if err == nil {
			return id.Renew(r, cert)
		}
		errs = append(errs, fmt.Errorf("at %s: %w", address, err))
		if _, verdict := errors.AsType[*wire.Error](err); verdict {
			break
		}
	}
	if len(errs) == 0 {
		errs = append(errs, errors.New("the holder of the CA has no address"))
	}
	return fmt.Errorf("renew the certificate of %v: %w", id.who, errors.Join(errs...))
}

func (id *Identity) askRenewal(ctx context.Context, p Policy, holder repl.MemberID, address string, r *Request) (_ []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // wakes whoever reads
	defer func() {
		stop()
		_ = raw.Close() // the reply is here, or the renewal failed
	}()
	conn := tls.Client(raw, id.CallTLS(p, ALPNRenew, holder))
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, Explain(err)
	}
	m, err := askOne(conn, &wire.RenewRequest{Request: r.DER})
	if err != nil {
		return nil, err
	}
	if reply, ok := m.(*wire.RenewReply); ok {
		return reply.Certificate, nil
	}
	return nil, fmt.Errorf("the server answers with %v", m.Type())
}
