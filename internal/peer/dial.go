package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"opendfs/internal/pki"
	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// dialer opens the connections of one session.
type dialer struct {
	cfg      Config
	expected repl.MemberID
}

// any tries the addresses in their order; names are resolved anew each time.
func (d *dialer) any(ctx context.Context, addresses []string, role wire.Role) (*link, string, error) {
	if len(addresses) == 0 {
		return nil, "", fmt.Errorf("connect to server %v: it has no address in the domain file; it has not joined yet", d.expected)
	}
	var errs []error
	for _, a := range addresses {
		l, err := d.one(ctx, a, role)
		if err == nil {
			return l, a, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", a, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, "", fmt.Errorf("connect to server %v: %w", d.expected, errors.Join(errs...))
}

// one connects to one address and exchanges Hellos.
func (d *dialer) one(ctx context.Context, address string, role wire.Role) (*link, error) {
	receive := 0
	if role == wire.RoleData {
		receive = socketBuffer
	}
	nd := net.Dialer{Timeout: d.cfg.Timing.Connect, Control: func(_, _ string, c syscall.RawConn) error {
		return tune(c, d.cfg.Timing.Dead, receive, 0)
	}}
	raw, err := nd.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return d.greet(ctx, raw, role)
}

// greet makes a link of a TCP connection, or closes it.
func (d *dialer) greet(ctx context.Context, raw net.Conn, role wire.Role) (*link, error) {
	rc := newRawConn(raw, d.cfg.Timing.Dead)
	c := &conn{raw: rc, tls: tls.Client(rc, d.cfg.Identity.ClientTLS(d.cfg.policy(), d.expected))}
	c.reader = wire.NewReader(c.tls)
	hello := d.cfg.hello(role)
	err := c.shake(ctx, d.cfg.Timing.Handshake, func(context.Context) error {
		// Whose it is was proven: what was and will be counted is theirs.
		rc.count(d.cfg.Meter.Partner(d.expected))
		if err := c.send(hello, 0, false, nil); err != nil {
			return err
		}
		if err := c.receiveHello(); err != nil {
			return err
		}
		if err := checkHello(hello, &c.remote); err != nil {
			return err
		}
		if c.remote.Member != d.expected {
			return wire.Errorf(wire.CodeIdentity, "it says that it is server %v, its certificate says %v", c.remote.Member, d.expected)
		}
		return nil
	})
	if err != nil {
		c.close()
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			// What it had to say may have been lost with the connection.
			return nil, fmt.Errorf("the other server closed the connection in the greeting (%w): its log says why; this server may be revoked there", err)
		}
		return nil, pki.Explain(err)
	}
	l := &link{conn: c, cfg: &d.cfg, to: d.expected, bill: newBill(raw)}
	l.start()
	return l, nil
}
