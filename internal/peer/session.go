package peer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// Session is what one member asks another: a control connection, and data
// connections that are opened when they are needed. Safe for concurrent use.
// It ends with its control connection; a data connection that ends fails the
// content streams on it and is replaced by the next.
type Session struct {
	dial    *dialer
	address string
	control *link
	met     repl.Time // our clock when the other side's Hello came
	// requests and contents hold a token for each that is in flight.
	requests, contents chan struct{}
	windows            windows

	mu      sync.Mutex
	data    []*link // alive, or found dead at the next use
	opening int     // data connections that are being opened; len(data)+opening <= dataLinks
	opened  chan struct{}
	ended   bool
	rates   map[repl.GUID]uint64 // granted to groups, in bits per second
}

// Dial opens a session with the member expected, at the first of its addresses
// (HOST:PORT, by name, IPv4 or IPv6) where that member answers. The caller
// closes it.
func Dial(ctx context.Context, cfg Config, expected repl.MemberID, addresses []string) (*Session, error) {
	d := &dialer{cfg.orDefaults(), expected}
	control, address, err := d.any(ctx, addresses, wire.RoleControl)
	if err != nil {
		return nil, err
	}
	return &Session{
		dial: d, address: address, control: control, met: d.cfg.clock(),
		requests: make(chan struct{}, askRequests), contents: make(chan struct{}, askContents),
		windows: windows{free: allWindows}, opened: make(chan struct{}), rates: make(map[repl.GUID]uint64),
	}, nil
}

// Close ends the session and waits until its goroutines have. Requests in
// flight fail with ErrClosed.
func (s *Session) Close() {
	s.mu.Lock()
	s.ended = true
	data := s.data
	s.data = nil
	s.mu.Unlock()
	s.control.stop()
	for _, l := range data {
		l.stop()
	}
}

// Done is closed when the session has ended; Err says why.
func (s *Session) Done() <-chan struct{} { return s.control.life.Done() }

// Err returns why the session ended, nil while it has not.
func (s *Session) Err() error { return s.control.reason() }

// Remote returns what the other side said of itself when the session began.
func (s *Session) Remote() wire.Hello { return s.control.remote }

// Skew returns how far the other side's clock was ahead of ours then.
func (s *Session) Skew() time.Duration { return s.control.clockOf(s.met) }

// Address returns the address at which the member answered.
func (s *Session) Address() string { return s.address }

// RTT returns the round trip of the last Ping, 0 before the first.
func (s *Session) RTT() time.Duration { return time.Duration(s.control.rtt.Load()) }

// question sends one request on the control connection, when fewer than
// askRequests are in flight.
func question[T wire.Message](ctx context.Context, s *Session, req wire.Message) (T, error) {
	var none T
	select {
	case s.requests <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("%v: %w", req.Type(), context.Cause(ctx))
	case <-s.control.life.Done():
		return none, fmt.Errorf("%v: %w", req.Type(), s.control.reason())
	}
	defer func() { <-s.requests }()
	return ask[T](ctx, s.control, req)
}

// Diff asks for a page of what req.Vector lacks. With req.Wait and nothing
// new it returns after up to Timing.Poll, with an empty page.
func (s *Session) Diff(ctx context.Context, req *wire.DiffRequest) (*wire.DiffPage, error) {
	if req.Wait { // the server counts it apart, as soon as it waits
		return ask[*wire.DiffPage](ctx, s.control, req)
	}
	return question[*wire.DiffPage](ctx, s, req)
}

// Records asks for the current records of at most wire.MaxUIDs objects. The
// reply is about the first Answered of them; the caller asks for the rest.
func (s *Session) Records(ctx context.Context, folder repl.FolderID, uids []repl.UID) (*wire.RecordsReply, error) {
	r, err := question[*wire.RecordsReply](ctx, s, &wire.RecordsRequest{Folder: folder, UIDs: uids})
	if err != nil {
		return nil, err
	}
	if r.Answered > len(uids) || r.Answered == 0 && len(uids) > 0 || len(r.Updates)+len(r.Unknown) > r.Answered {
		return nil, fmt.Errorf("RecordsRequest: the answer is about %d of %d UIDs with %d updates and %d unknown",
			r.Answered, len(uids), len(r.Updates), len(r.Unknown))
	}
	return r, nil
}

// Rdc asks about the signature or the grains of a content; the reply is what
// package rdc answers.
func (s *Session) Rdc(ctx context.Context, req *wire.RdcRequest) ([]byte, error) {
	r, err := question[*wire.RdcReply](ctx, s, req)
	if err != nil {
		return nil, err
	}
	return r.Reply, nil
}

// Barrier asks the other side to drain its journal and returns its vector then.
func (s *Session) Barrier(ctx context.Context, folder repl.FolderID) (version.Vector, error) {
	r, err := question[*wire.BarrierReply](ctx, s, &wire.BarrierRequest{Folder: folder})
	if err != nil {
		return nil, err
	}
	return r.Vector, nil
}

// Cover tells the other side what members of a folder are known to cover, and
// returns what it has heard.
func (s *Session) Cover(ctx context.Context, folder repl.FolderID, heard []repl.Statement) ([]repl.Statement, error) {
	r, err := question[*wire.CoverReply](ctx, s, &wire.CoverRequest{Folder: folder, Statements: heard})
	if err != nil {
		return nil, err
	}
	return r.Statements, nil
}

// Compare asks for runs of records, or for records one by one, to compare them.
func (s *Session) Compare(ctx context.Context, req *wire.CompareRequest) (*wire.CompareReply, error) {
	return question[*wire.CompareReply](ctx, s, req)
}

// Status asks how the other side stands with a folder.
func (s *Session) Status(ctx context.Context, folder repl.FolderID) (*wire.StatusReply, error) {
	return question[*wire.StatusReply](ctx, s, &wire.StatusRequest{Folder: folder})
}

// Directory asks for a domain file newer than (term, generation); with wait it
// returns after up to Timing.Poll without one. Signed is empty then.
func (s *Session) Directory(ctx context.Context, term, generation uint64, wait bool) (*wire.DirectoryCopy, error) {
	req := &wire.DirectoryGet{Term: term, Generation: generation, Wait: wait}
	if wait {
		return ask[*wire.DirectoryCopy](ctx, s.control, req)
	}
	return question[*wire.DirectoryCopy](ctx, s, req)
}

// Pace grants the other side a rate for what it sends of a group's folders, in bits
// per second with all headers; 0 is no limit. A session begins without limits.
func (s *Session) Pace(group repl.GUID, bits uint64) error {
	s.mu.Lock()
	if bits > 0 {
		s.rates[group] = bits
	} else {
		delete(s.rates, group)
	}
	s.mu.Unlock()
	return s.control.send(&wire.Pace{Group: group, Rate: bits}, 0, false, nil)
}

// Renew asks the other side, the holder of the CA, for a certificate (DER).
func (s *Session) Renew(ctx context.Context, request []byte) ([]byte, error) {
	r, err := question[*wire.RenewReply](ctx, s, &wire.RenewRequest{Request: request})
	if err != nil {
		return nil, err
	}
	return r.Certificate, nil
}

// dataLink returns the data connection with the fewest streams, a new one if
// all are in use and there may be more. The caller calls release.
func (s *Session) dataLink(ctx context.Context) (*link, error) {
	for {
		s.mu.Lock()
		best := s.bestLocked()
		if s.ended {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		mayOpen := len(s.data)+s.opening < s.linksLocked()
		if best != nil && (best.busy == 0 || !mayOpen) {
			best.busy++
			s.mu.Unlock()
			return best, nil
		}
		if !mayOpen { // all that may be are being opened by others
			wait := s.opened
			s.mu.Unlock()
			select {
			case <-wait:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			continue
		}
		s.opening++
		s.mu.Unlock()
		if l, err := s.openData(ctx, best); l != nil || err != nil {
			return l, err
		}
	}
}

// linksLocked is how many data connections there may be: where a rate is low, the
// handshakes of more than one would be a noticeable part of it.
func (s *Session) linksLocked() int {
	for _, rate := range s.rates {
		if rate < slowRate {
			return 1
		}
	}
	return dataLinks
}

// bestLocked drops dead connections and finds the least used one.
func (s *Session) bestLocked() *link {
	var best *link
	alive := s.data[:0]
	for _, l := range s.data {
		if l.reason() != nil {
			l.stop()
			continue
		}
		alive = append(alive, l)
		if best == nil || l.busy < best.busy {
			best = l
		}
	}
	clear(s.data[len(alive):])
	s.data = alive
	return best
}

// openData opens one more data connection and takes it; if it cannot and there
// is another, that one, without a word: the stream only shares it.
func (s *Session) openData(ctx context.Context, other *link) (*link, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.control.life, func() { cancel(s.control.reason()) })()
	l, err := s.dial.one(ctx, s.address, wire.RoleData)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening--
	close(s.opened)
	s.opened = make(chan struct{})
	switch {
	case err == nil && s.ended:
		l.stop()
		return nil, ErrClosed
	case err == nil:
		l.busy++
		s.data = append(s.data, l)
		return l, nil
	case other != nil && other.reason() == nil && ctx.Err() == nil:
		other.busy++
		return other, nil
	}
	return nil, fmt.Errorf("open a data connection to %s: %w", s.address, err)
}

func (s *Session) release(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.busy--
}
