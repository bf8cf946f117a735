package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"opendfs/internal/wire"
)

// joinBelow is the size up to which a body is copied behind its header, to
// travel in the same TLS records.
const joinBelow = 16 << 10

// conn carries frames over one TLS connection, in both directions. Writers may
// be many, the reader is one.
type conn struct {
	raw    *rawConn
	tls    *tls.Conn
	reader *wire.Reader
	remote wire.Hello

	// waiting counts the writers that hold or wait for wmu: the last flushes.
	waiting atomic.Int32
	wmu     sync.Mutex
}

var scratches = sync.Pool{New: func() any { return new([]byte) }}

// send writes one frame. It blocks while the connection is full; an error is
// the connection's end.
func (c *conn) send(m wire.Message, stream uint32, final bool, body []byte) error {
	scratch := scratches.Get().(*[]byte)
	defer func() {
		if cap(*scratch) <= 1<<20 {
			scratches.Put(scratch)
		}
	}()
	b, err := wire.Append((*scratch)[:0], m, stream, final, len(body))
	if err != nil {
		return err
	}
	if len(body) <= joinBelow {
		b, body = append(b, body...), nil
	}
	*scratch = b
	return c.write(b, body)
}

// write writes the bytes of one frame.
func (c *conn) write(b, body []byte) error {
	c.waiting.Add(1)
	c.wmu.Lock()
	defer c.wmu.Unlock()
	defer c.waiting.Add(-1)
	if _, err := c.tls.Write(b); err != nil {
		return err
	}
	if len(body) > 0 {
		if _, err := c.tls.Write(body); err != nil {
			return err
		}
	}
	if c.waiting.Load() > 1 {
		return nil // the next writer flushes for us
	}
	return c.raw.Flush()
}

// close ends the connection; a reader or writer that waits is woken.
func (c *conn) close() { _ = c.raw.Close() }

// shake runs f, the handshake and Hellos, within the time for it; afterwards
// writes are collected.
func (c *conn) shake(ctx context.Context, limit time.Duration, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stop := context.AfterFunc(ctx, c.close)
	err := c.tls.HandshakeContext(ctx)
	if err == nil {
		c.raw.buffer()
		err = f(ctx)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no handshake within %v", limit)
	}
	return err
}

// receiveHello reads the first frame of the other side. An Error in its place
// is returned as one.
func (c *conn) receiveHello() error {
	f, err := c.reader.Next()
	if err != nil {
		return err
	}
	m, err := f.Message()
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *wire.Hello:
		c.remote = *m
		return nil
	case *wire.Error:
		return m
	}
	return wire.Errorf(wire.CodeProtocol, "the connection begins with %v instead of Hello", m.Type())
}

// checkHello judges the other side's Hello against ours and its certificate.
func checkHello(ours, theirs *wire.Hello) error {
	if _, err := wire.Negotiate(ours.Min, ours.Max, theirs.Min, theirs.Max); err != nil {
		return err
	}
	if theirs.Domain != ours.Domain {
		return wire.Errorf(wire.CodeIdentity, "it says that it is of domain %v, this one is %v", theirs.Domain, ours.Domain)
	}
	return nil
}

// silent says in the protocol's words what a timeout on a connection means.
func silent(err error, dead time.Duration) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("connection is dead: nothing came or went for %v", dead)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Timeout() {
		return fmt.Errorf("connection is dead: nothing was acknowledged for %v", dead)
	}
	return err
}
