package peer

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// writeBuffer collects TLS records, so that a frame costs one system call
	// for each of these instead of one for each 16 KiB.
	writeBuffer = 128 << 10
	// writeStep is what must be written within Timing.Dead: a slow link is not
	// a dead one.
	writeStep = 64 << 10
)

// rawConn is TCP beneath TLS: it counts, collects writes until Flush, and ends
// a connection that stands still. Reads come from one goroutine.
type rawConn struct {
	net.Conn
	dead     time.Duration
	counter  atomic.Pointer[Counter]
	deadline time.Time // of the next read; renewed when it has moved noticeably
	// plain leaves deadlines to the user; set before the connection is handed on.
	plain bool

	mu       sync.Mutex
	buf      []byte
	buffered bool // from the end of the handshake on
}

func newRawConn(c net.Conn, dead time.Duration) *rawConn {
	r := &rawConn{Conn: c, dead: dead}
	r.counter.Store(new(Counter))
	return r
}

// count moves what was counted to c, for the partner that is known by now, and
// returns how many bytes of it went out.
func (r *rawConn) count(c *Counter) uint64 {
	before := r.counter.Swap(c)
	c.in.Add(before.in.Load())
	c.out.Add(before.out.Load())
	return before.out.Load()
}

// Read reads, waiting for at most dead.
func (r *rawConn) Read(p []byte) (int, error) {
	if next := time.Now().Add(r.dead); !r.plain && next.Sub(r.deadline) > r.dead/32 {
		if err := r.Conn.SetReadDeadline(next); err != nil {
			return 0, err
		}
		r.deadline = next
	}
	n, err := r.Conn.Read(p)
	r.counter.Load().in.Add(uint64(n))
	return n, err
}

// Write keeps p for the next Flush, or writes it during the handshake.
func (r *rawConn) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.buffered {
		return len(p), r.writeLocked(p)
	}
	if len(r.buf)+len(p) > writeBuffer {
		if err := r.flushLocked(); err != nil {
			return 0, err
		}
	}
	r.buf = append(r.buf, p...)
	return len(p), nil
}

// buffer makes Write collect from now on.
func (r *rawConn) buffer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buffered = true
}

// Flush writes what was collected.
func (r *rawConn) Flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flushLocked()
}

func (r *rawConn) flushLocked() error {
	err := r.writeLocked(r.buf)
	r.buf = r.buf[:0]
	if cap(r.buf) > writeBuffer*2 {
		r.buf = nil
	}
	return err
}

func (r *rawConn) writeLocked(p []byte) error {
	for len(p) > 0 {
		if !r.plain {
			if err := r.Conn.SetWriteDeadline(time.Now().Add(r.dead)); err != nil {
				return err
			}
		}
		n, err := r.Conn.Write(p[:min(len(p), writeStep)])
		r.counter.Load().out.Add(uint64(n))
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
