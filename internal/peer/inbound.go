package peer

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// inbound is one connection of a partner, seen from the side that answers.
type inbound struct {
	*conn
	server  *Server
	partner repl.MemberID
	name    string // in its certificate
	bounds  *partnerBounds
	mss     int // what TCP sends in a segment
	wg      sync.WaitGroup

	mu      sync.Mutex
	streams map[uint32]*stream // requests that are being answered
}

// stream is one request that is being answered.
type stream struct {
	cancel context.CancelFunc

	mu     sync.Mutex
	credit int64         // of a content request
	wake   chan struct{} // holds one: credit came
}

// greet exchanges Hellos and admits the partner.
func (in *inbound) greet() error {
	cfg := &in.server.cfg
	state := in.tls.ConnectionState()
	partner, err := cfg.Identity.PeerOf(state, cfg.policy())
	if err != nil {
		return err
	}
	in.partner, in.name = partner, state.PeerCertificates[0].Subject.CommonName
	opening := in.raw.count(cfg.Meter.Partner(partner))
	if err := in.receiveHello(); err != nil {
		if e, ok := errors.AsType[*wire.Error](err); ok {
			err = errors.Join(err, in.send(e, 0, true, nil))
		}
		return err
	}
	role := in.remote.Role
	ours := cfg.hello(role)
	err = checkHello(ours, &in.remote)
	if err == nil && in.remote.Member != partner {
		err = wire.Errorf(wire.CodeIdentity, "it says that it is server %v, its certificate says %v", in.remote.Member, partner)
	}
	in.bounds = in.server.bounds(partner)
	in.mss = segment(in.raw.Conn)
	if role == wire.RoleControl { // a session begins without limits
		in.bounds.clearLanes()
	}
	in.bounds.chargeOpening(onWire(int(opening), in.mss))
	if err == nil && !take(&in.bounds.conns, 1, maxConnections) {
		err = wire.Errorf(wire.CodeBusy, "this server has %d connections already", maxConnections)
	}
	if err != nil {
		return errors.Join(err, in.send(toWire(err), 0, true, nil))
	}
	if role == wire.RoleData {
		if err := tuneConn(in.raw.Conn, cfg.Timing.Dead, 0, socketBuffer); err != nil {
			cfg.Log.Warn("connection could not be tuned", "partner", partner, "err", err)
		}
	}
	if err := in.send(ours, 0, false, nil); err != nil {
		in.bounds.conns.Add(-1)
		return err
	}
	if role == wire.RoleControl && cfg.Greeted != nil {
		cfg.Greeted(partner, in.remote)
	}
	return nil
}

// run reads requests until the connection ends, then waits for their handlers.
func (in *inbound) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	in.bounds.mu.Lock()
	in.bounds.inbounds[in] = struct{}{}
	in.bounds.mu.Unlock()
	defer func() {
		cancel()
		in.close()
		in.wg.Wait()
		in.bounds.mu.Lock()
		delete(in.bounds.inbounds, in)
		in.bounds.mu.Unlock()
		in.bounds.conns.Add(-1)
	}()
	// Disconnect may have come between the handshake and our entry.
	if revoked := in.server.cfg.Revoked; revoked != nil && revoked(in.partner) {
		return errors.New("the partner was revoked")
	}
	for {
		f, err := in.reader.Next()
		if err == nil {
			err = in.take(ctx, &f)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if e, ok := errors.AsType[*wire.Error](err); ok {
				return errors.Join(err, in.send(e, 0, true, nil))
			}
			return err
		}
	}
}

// take handles one frame; an error ends the connection.
func (in *inbound) take(ctx context.Context, f *wire.Frame) error {
	f.Release() // no request has a body
	weight := int64(0)
	if len(f.Header) > bigHeader { // judged before it is decoded to many times its size
		weight = int64(len(f.Header))
	}
	if !take(&in.bounds.headers, weight, maxHeaders) {
		return in.send(wire.Errorf(wire.CodeBusy, "%d MiB of requests are in flight", maxHeaders>>20), f.Stream, true, nil)
	}
	m, err := f.Message()
	if err != nil {
		in.bounds.headers.Add(-weight)
		return wire.Errorf(wire.CodeProtocol, "%v", err)
	}
	switch m := m.(type) {
	case *wire.Ping:
		return in.send(&wire.Pong{Sent: m.Sent, Clock: in.server.cfg.clock()}, 0, false, nil)
	case *wire.Pace:
		return in.bounds.pace(m)
	case *wire.Credit:
		in.stream(f.Stream).pay(m.Bytes)
		return nil
	case *wire.Cancel:
		if st := in.stream(f.Stream); st != nil {
			st.cancel()
		}
		return nil
	}
	if f.Stream == 0 || !f.Final {
		in.bounds.headers.Add(-weight)
		return wire.Errorf(wire.CodeProtocol, "%v on stream %d, final: %v", f.Type, f.Stream, f.Final)
	}
	if q, ok := m.(*wire.DiffRequest); ok {
		q.Arrived = in.server.arrived.Add(1)
	}
	answer, count, limit := in.answerer(m)
	if answer == nil {
		in.bounds.headers.Add(-weight)
		return wire.Errorf(wire.CodeProtocol, "%v is not a request", f.Type)
	}
	return in.begin(ctx, f.Stream, in.pacersOf(m), weight, answer, count, limit)
}

func (in *inbound) stream(id uint32) *stream {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.streams[id]
}

// begin runs answer for the request, within the partner's bounds. weight is
// what the request holds of the bound of headers.
func (in *inbound) begin(ctx context.Context, id uint32, ps pacers, weight int64, answer answerer, count counter, limit int64) error {
	n := count(in.bounds)
	if !take(n, 1, limit) {
		in.bounds.headers.Add(-weight)
		return in.send(wire.Errorf(wire.CodeBusy, "%d requests of this server are in flight", limit), id, true, nil)
	}
	life := ctx
	ctx, cancel := context.WithCancel(ctx)
	st := &stream{cancel: cancel, wake: make(chan struct{}, 1)}
	in.mu.Lock()
	_, twice := in.streams[id]
	if !twice {
		in.streams[id] = st
	}
	in.mu.Unlock()
	// The bounds are free before the final frame is sent: who has read it may
	// ask again at once.
	done := sync.OnceFunc(func() {
		cancel()
		if !twice {
			in.mu.Lock()
			delete(in.streams, id)
			in.mu.Unlock()
		}
		n.Add(-1)
		in.bounds.headers.Add(-weight)
	})
	if twice {
		done()
		return wire.Errorf(wire.CodeProtocol, "stream %d is open already", id)
	}
	in.wg.Go(func() {
		m, err := answer(ctx, id, st, done)
		done()
		if err != nil {
			m = toWire(err)
		}
		if m == nil { // the answer was sent frame by frame
			return
		}
		if err := in.answer(life, ps, m, id); err != nil {
			in.giveUp(id, err)
		}
	})
	return nil
}

// giveUp ends the connection after an answer could not be sent. An answer that
// breaks the limits of the protocol is this member's fault: it is told.
func (in *inbound) giveUp(id uint32, err error) {
	if in.send(wire.Errorf(wire.CodeInternal, "%v", err), id, true, nil) != nil {
		in.close()
	}
}

// answerer answers one request: with a message, or with nil after it has sent
// everything itself. It calls done before it sends a final frame.
type answerer func(ctx context.Context, id uint32, st *stream, done func()) (wire.Message, error)

// allowed is the one place where a folder is judged.
func (in *inbound) allowed(folder repl.FolderID) error {
	if in.server.cfg.Authorize == nil || !in.server.cfg.Authorize(folder, in.partner) {
		return errNotServed(folder)
	}
	return nil
}

// forFolder checks the folder and then answers with what f returns.
func (in *inbound) forFolder(folder repl.FolderID, f func(ctx context.Context) (wire.Message, error)) answerer {
	return func(ctx context.Context, _ uint32, _ *stream, _ func()) (wire.Message, error) {
		if err := in.allowed(folder); err != nil {
			return nil, err
		}
		m, err := f(ctx)
		if err != nil {
			return nil, err
		}
		return m, nil
	}
}

// counter picks the bound that a request counts against.
type counter func(*partnerBounds) *atomic.Int64

// answerer finds who answers a request, and against which bound it counts.
func (in *inbound) answerer(m wire.Message) (answerer, counter, int64) {
	h := in.server.cfg.Handler
	switch m := m.(type) {
	case *wire.DiffRequest:
		m.Limit = in.pacers(m.Folder).page(m.Limit)
		a := in.forFolder(m.Folder, func(ctx context.Context) (wire.Message, error) { return in.diff(ctx, m) })
		return counted(a, m.Wait)
	case *wire.RecordsRequest:
		if n := in.pacers(m.Folder).page(len(m.UIDs)); n > 0 {
			m.UIDs = m.UIDs[:min(n, len(m.UIDs))]
		}
		return counted(in.forFolder(m.Folder, func(ctx context.Context) (wire.Message, error) {
			if len(m.UIDs) == 0 {
				return nil, wire.Errorf(wire.CodeProtocol, "a RecordsRequest without UIDs")
			}
			return h.Records(ctx, in.partner, m.Folder, m.UIDs)
		}), false)
	case *wire.RdcRequest:
		return counted(in.forFolder(m.Folder, func(ctx context.Context) (wire.Message, error) {
			reply, err := h.Rdc(ctx, in.partner, m)
			return &wire.RdcReply{Reply: reply}, err
		}), false)
	case *wire.BarrierRequest:
		return counted(in.forFolder(m.Folder, func(ctx context.Context) (wire.Message, error) {
			v, err := h.Barrier(ctx, in.partner, m.Folder)
			return &wire.BarrierReply{Vector: v}, err
		}), false)
	case *wire.CoverRequest:
		return counted(in.forFolder(m.Folder, func(ctx context.Context) (wire.Message, error) {
			heard, err := h.Cover(ctx, in.partner, m.Folder, m.Statements)
			return &wire.CoverReply{Statements: heard}, err
		}), false)
	case *wire.CompareRequest:
		return counted(in.forFolder(m.Folder, func(ctx context.Context) (wire.Message, error) {
			return h.Compare(ctx, in.partner, m)
		}), false)
	case *wire.StatusRequest:
		return counted(in.forFolder(m.Folder, func(ctx context.Context) (wire.Message, error) {
			return h.Status(ctx, in.partner, m.Folder)
		}), false)
	case *wire.DirectoryGet:
		return counted(func(ctx context.Context, _ uint32, _ *stream, _ func()) (wire.Message, error) {
			return in.directory(ctx, m)
		}, m.Wait)
	case *wire.RenewRequest:
		return counted(func(context.Context, uint32, *stream, func()) (wire.Message, error) { return in.renew(m) }, false)
	case *wire.ContentRequest:
		return func(ctx context.Context, id uint32, st *stream, done func()) (wire.Message, error) {
			return nil, in.content(ctx, id, st, done, m)
		}, func(b *partnerBounds) *atomic.Int64 { return &b.contents }, maxContents
	}
	return nil, nil, 0
}

func counted(a answerer, wait bool) (answerer, counter, int64) {
	if wait {
		return a, func(b *partnerBounds) *atomic.Int64 { return &b.waits }, maxWaits
	}
	return a, func(b *partnerBounds) *atomic.Int64 { return &b.requests }, maxRequests
}

// diff answers at once, or holds an empty first page back until there is news.
func (in *inbound) diff(ctx context.Context, req *wire.DiffRequest) (*wire.DiffPage, error) {
	h := in.server.cfg.Handler
	if !req.Wait || len(req.Snapshot) > 0 {
		return h.Diff(ctx, in.partner, req)
	}
	var page *wire.DiffPage
	err := in.poll(ctx, func() (<-chan struct{}, error) { return h.Changed(req.Folder) }, func() (bool, error) {
		p, err := h.Diff(ctx, in.partner, req)
		if err != nil {
			return false, err
		}
		page = p
		return len(p.Updates) > 0 || p.More || !req.LeaveOut().Covers(p.Vector), nil
	})
	return page, err
}

// directory answers at once, or waits for a newer domain file.
func (in *inbound) directory(ctx context.Context, req *wire.DirectoryGet) (*wire.DirectoryCopy, error) {
	h := in.server.cfg.Handler
	var file *wire.DirectoryCopy
	get := func() (bool, error) {
		c, err := h.Directory(ctx, in.partner, req.Term, req.Generation)
		if err != nil {
			return false, err
		}
		file = c
		return len(c.Signed) > 0 || !req.Wait, nil
	}
	err := in.poll(ctx, func() (<-chan struct{}, error) { return h.DirectoryChanged(), nil }, get)
	return file, err
}

// held is how long an answer without news is held back: at most Timing.Poll, and at
// least half of it. The answers of all folders end at the same times, so that
// hundreds that rest wake this server, and that one, once.
func held(poll time.Duration, now time.Time) time.Duration {
	return poll - time.Duration(now.Add(poll).UnixNano()%int64(max(poll/2, 1)))
}

// poll tries until there is news, each time that something changed, for at
// most Timing.Poll. The change is asked for first, so that none is missed.
func (in *inbound) poll(ctx context.Context, changed func() (<-chan struct{}, error), try func() (news bool, err error)) error {
	t := time.NewTimer(held(in.server.cfg.Timing.Poll, time.Now()))
	defer t.Stop()
	for {
		c, err := changed()
		if err != nil {
			return err
		}
		if news, err := try(); err != nil || news {
			return err
		}
		select {
		case <-c:
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (in *inbound) renew(req *wire.RenewRequest) (wire.Message, error) {
	door := in.server.cfg.door()
	if door == nil {
		return nil, wire.Errorf(wire.CodeUnavailable, "this server does not hold the domain's CA")
	}
	cert, err := door.Renew(req.Request, in.partner, in.name)
	if err != nil {
		return nil, err
	}
	in.server.cfg.Log.Info("certificate renewed", "partner", in.partner, "name", in.name)
	return &wire.RenewReply{Certificate: cert}, nil
}
