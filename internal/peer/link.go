package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// link is one connection of a session, seen from the side that asks. Its reader
// never blocks on those who wait for answers.
type link struct {
	*conn
	cfg  *Config
	to   repl.MemberID
	bill *bill
	// life ends with the connection; err is set then.
	life context.Context
	die  context.CancelFunc
	wg   sync.WaitGroup
	rtt  atomic.Int64 // nanoseconds, of the last Pong
	// busy counts content streams; it is the session's, under its mu.
	busy int

	mu      sync.Mutex
	streams map[uint32]asked // requests without their final frame
	last    uint32           // the newest stream
	err     error            // why the connection ended; set once
}

// asked is a request and the folder that it is about, zero if it is about none.
type asked struct {
	receiver
	folder repl.FolderID
}

// receiver is one request that waits for frames.
type receiver interface {
	// receive takes a frame that is not an Error and owns its body. An error
	// says that the frame breaks the protocol. It must not block.
	receive(f *wire.Frame) error
	// fail ends the request without an answer. It must not block.
	fail(err error)
}

// start begins reading and pinging. The caller calls stop once.
func (l *link) start() {
	l.life, l.die = context.WithCancel(context.Background())
	l.streams = make(map[uint32]asked)
	l.wg.Go(l.readAll)
	l.wg.Go(l.pingAll)
}

// stop ends the connection and waits for its goroutines.
func (l *link) stop() {
	l.end(ErrClosed)
	l.wg.Wait()
}

// end closes the connection and fails all requests; the first reason counts.
func (l *link) end(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	failed := l.streams
	l.streams = nil
	l.die()
	l.mu.Unlock()
	l.close()
	for _, r := range failed {
		r.fail(err)
	}
}

func (l *link) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *link) readAll() {
	for {
		f, err := l.reader.Next()
		if err == nil {
			err = l.take(&f)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the other server closed the connection")
			}
			l.end(silent(err, l.cfg.Timing.Dead))
			return
		}
	}
}

// take gives one frame to whom it belongs.
func (l *link) take(f *wire.Frame) error {
	if f.Stream == 0 {
		return l.takeOwn(f)
	}
	l.mu.Lock()
	r, issued := l.streams[f.Stream], f.Stream <= l.last
	if f.Final {
		delete(l.streams, f.Stream)
	}
	l.mu.Unlock()
	l.account(r.folder)
	switch {
	case r.receiver == nil && !issued:
		return wire.Errorf(wire.CodeProtocol, "%v for stream %d, which was never asked for", f.Type, f.Stream)
	case r.receiver == nil: // of a request that was cancelled
		f.Release()
		return nil
	case f.Type == wire.TypeError:
		m, err := f.Message()
		if err != nil {
			return err
		}
		if !f.Final {
			return wire.Errorf(wire.CodeProtocol, "an Error that does not end its stream")
		}
		r.fail(m.(*wire.Error))
		return nil
	}
	return r.receive(f)
}

// takeOwn takes a frame that is about the connection itself.
func (l *link) takeOwn(f *wire.Frame) error {
	m, err := f.Message()
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *wire.Pong:
		if d := l.cfg.clock() - m.Sent; d > 0 {
			l.rtt.Store(int64(d))
		}
		return nil
	case *wire.Error:
		return m
	}
	return wire.Errorf(wire.CodeProtocol, "%v on stream 0", m.Type())
}

func (l *link) pingAll() {
	t := time.NewTicker(l.cfg.Timing.Ping)
	defer t.Stop()
	for {
		if err := l.send(&wire.Ping{Sent: l.cfg.clock()}, 0, false, nil); err != nil {
			l.end(silent(err, l.cfg.Timing.Dead))
			return
		}
		select {
		case <-t.C:
		case <-l.life.Done():
			return
		}
	}
}

// open registers a request and sends it.
func (l *link) open(req wire.Message, r receiver) (uint32, error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return 0, l.err
	}
	if l.last == 1<<32-1 {
		l.mu.Unlock()
		err := errors.New("all stream numbers are used; connect anew")
		l.end(err)
		return 0, err
	}
	l.last++
	id := l.last
	l.streams[id] = asked{r, folderOf(req)}
	l.mu.Unlock()
	if err := l.send(req, id, true, nil); err != nil {
		l.mu.Lock()
		delete(l.streams, id)
		ended := l.err
		l.mu.Unlock()
		return 0, errors.Join(silent(err, l.cfg.Timing.Dead), ended)
	}
	l.account(folderOf(req))
	return id, nil
}

// account tells what the connection has sent since it was told last, for a folder.
func (l *link) account(folder repl.FolderID) {
	if l.cfg.Sent == nil {
		return
	}
	if n := l.bill.since(time.Now()); n > 0 {
		l.cfg.Sent(l.to, folder, n)
	}
}

// cancel forgets a request and tells the other side, without waiting for it.
func (l *link) cancel(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, open := l.streams[id]; !open {
		return
	}
	delete(l.streams, id)
	l.wg.Go(func() { // under mu and before end, so before stop waits
		if err := l.send(&wire.Cancel{}, id, true, nil); err != nil {
			l.end(err)
		}
	})
}

// call is a request with one answer.
type call struct {
	want   wire.Type
	answer chan answer // holds one
}

type answer struct {
	m   wire.Message
	err error
}

func (c *call) receive(f *wire.Frame) error {
	if f.Type != c.want || !f.Final {
		f.Release()
		err := wire.Errorf(wire.CodeProtocol, "%v (final: %v) where %v was asked for", f.Type, f.Final, c.want)
		c.fail(err)
		return err
	}
	m, err := f.Message()
	c.answer <- answer{m, err}
	return err
}

func (c *call) fail(err error) {
	select {
	case c.answer <- answer{nil, err}:
	default: // it has its answer
	}
}

// ask sends a request and waits for its answer.
func ask[T wire.Message](ctx context.Context, l *link, req wire.Message) (T, error) {
	var none T
	c := &call{none.Type(), make(chan answer, 1)}
	id, err := l.open(req, c)
	if err != nil {
		return none, fmt.Errorf("send %v: %w", req.Type(), err)
	}
	select {
	case a := <-c.answer:
		if a.err != nil {
			return none, fmt.Errorf("%v: %w", req.Type(), a.err)
		}
		return a.m.(T), nil
	case <-ctx.Done():
		l.cancel(id)
		return none, fmt.Errorf("%v: %w", req.Type(), context.Cause(ctx))
	}
}

// clockOf returns how far the other side's clock is ahead of ours, as its Hello said.
func (l *link) clockOf(met repl.Time) time.Duration { return time.Duration(l.remote.Clock - met) }
