package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"
	"opendfs/internal/engine"
	"opendfs/internal/peer"
	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"

	"google.golang.org/protobuf/proto"
)

// The rhythm of waiting.
const (
	waitPoll  = 20 * time.Millisecond  // between two looks at a folder
	waitAlike = 16                     // folders that are looked at so often; more take turns
	waitTell  = 100 * time.Millisecond // between two replies, if something changed
	waitRetry = 100 * time.Millisecond // after a partner could not be asked
	waitQuiet = 300 * time.Millisecond // for what follows from installs
	// waitRounds bounds how often what followed is waited for: users who go on
	// working make it never end.
	waitRounds = 8
)

// Wait is that of control.Member. Each folder is waited for by a waiter; a
// folder that joins meanwhile, by a domain that is just arriving, counts too.
func (m *member) Wait(ctx context.Context, req *controlpb.WaitRequest, tell func(*controlpb.WaitReply) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := m.waitDomain(ctx); err != nil {
		return err
	}
	list := m.folders.all()
	if req.Folder != "" {
		k, err := m.folders.named(req.Folder)
		if err != nil {
			return &control.Problem{Err: err, Usage: true}
		}
		list = []*keeper{k}
	}
	var waiters []*waiter
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	all := make(chan struct{})
	every := waitPoll * time.Duration(max(1, len(list)/waitAlike)) // or the looks would be the load
	for _, k := range list {
		w := &waiter{every: every, m: m, folder: k.Name, id: k.Folder, k: k, state: &controlpb.Waiting{Folder: k.Name, Reason: "starting"}}
		waiters = append(waiters, w)
		work.Go(func() { w.run(ctx) })
	}
	go func() {
		work.Wait()
		close(all)
	}()
	return tellWaiting(ctx, waiters, all, tell)
}

// tellWaiting tells what is waited for until all waiters have ended.
func tellWaiting(ctx context.Context, waiters []*waiter, all <-chan struct{}, tell func(*controlpb.WaitReply) error) error {
	tick := time.NewTicker(waitTell)
	defer tick.Stop()
	var last *controlpb.WaitReply
	for {
		select {
		case <-all:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return tell(&controlpb.WaitReply{Done: true})
		case <-tick.C:
		}
		reply := &controlpb.WaitReply{}
		for _, w := range waiters {
			if s := w.waiting(); s != nil {
				reply.Waiting = append(reply.Waiting, s)
			}
		}
		if proto.Equal(reply, last) {
			continue
		}
		last = reply
		if err := tell(reply); err != nil {
			return err
		}
	}
}

// waitDomain makes sure that this member goes by the newest domain that the
// master has, if the master can be asked.
func (m *member) waitDomain(ctx context.Context) error {
	if _, here := m.dir.Master(); !here {
		for _, id := range m.dir.Masters() {
			s := m.firstSession(ctx, repl.MemberID(id))
			if s == nil {
				continue
			}
			d := m.domain().Domain
			c, err := s.Directory(ctx, d.Term, d.Generation, false)
			if err == nil && len(c.Signed) > 0 {
				if _, err := m.take(ctx, c.Signed); err != nil && !errors.Is(err, directory.ErrOlderCopy) {
					return err
				}
			}
		}
	}
	for {
		d := m.followed.Load()
		if now := m.domain().Domain; d != nil && !now.Newer(d) {
			return nil
		}
		if !pause(ctx, waitPoll) {
			return context.Cause(ctx)
		}
	}
}

// firstSession is the session with a server; it waits for the first attempt to
// get one.
func (m *member) firstSession(ctx context.Context, id repl.MemberID) *peer.Session {
	for {
		one := m.partners.one(id)
		if one == nil {
			return nil
		}
		if s := one.current(); s != nil {
			return s
		}
		if s := one.State(); s.Err != nil || s.Phase == peer.Stopped {
			return nil
		}
		if !pause(ctx, waitPoll) {
			return nil
		}
	}
}

// pause waits, and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// waiter waits for one folder.
type waiter struct {
	m      *member
	every  time.Duration // between two looks
	folder string        // GROUP/FOLDER
	id     repl.FolderID
	k      *keeper // the present one; the waiter's own goroutine replaces it
	around *circle // the partners that are waited for; as k

	mu    sync.Mutex
	state *controlpb.Waiting // guarded by mu; nil when it waits for nothing
}

func (w *waiter) waiting() *controlpb.Waiting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// say notes what the folder waits for; s may be nil.
func (w *waiter) say(s *engine.Status, format string, args ...any) {
	state := &controlpb.Waiting{Folder: w.folder, Reason: fmt.Sprintf(format, args...)}
	if s != nil {
		known := make(version.Vector)
		for _, l := range s.Links {
			known = known.Union(l.Known.Minus(s.Vector))
		}
		state.In, state.Files, state.State = inbound(known), s.Counts.Files, s.Phase.String()
		if rate := w.k.rates.Now().Installed; rate > 0 {
			state.EtaSeconds = float64(state.In.Updates) / rate
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state = state
}

// run returns when the folder is in sync with its partners, or ctx has ended.
func (w *waiter) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.keeper()
		if err == nil && w.k != nil {
			var r *engine.Runner
			if r, _, err = w.k.running(); err == nil {
				err = w.once(ctx, r)
			}
		}
		if err == nil {
			w.mu.Lock()
			w.state = nil
			w.mu.Unlock()
			return
		}
		w.say(nil, "%v", err)
		pause(ctx, max(waitRetry, w.every))
	}
}

// keeper finds who keeps the folder now: another one after the domain has
// changed, nobody if the membership has ended.
func (w *waiter) keeper() error {
	if w.m.followed.Load() == nil {
		return errors.New("the member is opening its database")
	}
	w.k, _ = w.m.folders.runner(w.id)
	if w.k == nil && w.m.folders.wants(w.id, w.m.self()) {
		return errors.New("the folder is being opened again")
	}
	return nil
}

// once waits for a folder that runs. What counts is what was closed before:
// the folder's own changes once its journal is drained, the upstreams' once
// theirs are. What happens afterwards is not waited for, but for what follows
// from the former: the answers of merges, ours and theirs.
func (w *waiter) once(ctx context.Context, r *engine.Runner) error {
	w.around = w.k.partners()
	if err := w.own(ctx, r); err != nil {
		return err
	}
	theirs, err := w.ask(ctx, "captures its changes", w.k.partners().Upstreams, func(ctx context.Context, s *peer.Session) (version.Vector, error) {
		return s.Barrier(ctx, w.k.Folder)
	})
	if err != nil {
		return err
	}
	if err := w.covers(ctx, r, theirs); err != nil {
		return err
	}
	for range waitRounds {
		quiet, err := w.round(ctx, r)
		if err != nil || quiet {
			return err
		}
	}
	return nil
}

// errOtherPartners has the wait begin again with those that the folder has now.
var errOtherPartners = errors.New("the folder has other partners now")

// round waits until every partner has what this member has, and this member
// what they have. It is quiet if nothing followed from that.
func (w *waiter) round(ctx context.Context, r *engine.Runner) (quiet bool, err error) {
	ours, err := r.Served.Vector()
	if err != nil {
		return false, err
	}
	if err := w.covered(ctx, r, ours); err != nil {
		return false, err
	}
	theirs, err := w.ask(ctx, "tells what it has", w.k.partners().Upstreams, w.vectorOf)
	if err != nil {
		return false, err
	}
	if err := w.covers(ctx, r, theirs); err != nil {
		return false, err
	}
	for until := time.Now().Add(max(waitQuiet, 2*w.every)); ; {
		s, err := r.Status(ctx)
		if err != nil || s.Settled() {
			return ours.Covers(s.Vector), err
		}
		if time.Now().After(until) || !pause(ctx, w.every) {
			return false, context.Cause(ctx)
		}
	}
}

// own waits until this member is Normal and has captured what was closed.
func (w *waiter) own(ctx context.Context, r *engine.Runner) error {
	for {
		s, err := r.Status(ctx)
		if err != nil {
			return err
		}
		if s.Phase == wire.PhaseNormal {
			break
		}
		w.say(&s, "%s", phaseText(&s))
		if !pause(ctx, w.every) {
			return context.Cause(ctx)
		}
	}
	w.say(nil, "this server captures its changes")
	if err := r.Drain(ctx); err != nil {
		return err
	}
	return captured(ctx, r, func(s *engine.Status) {
		w.say(s, "this server captures its changes: %d names to look at", s.Dirty+s.Looking+s.Later)
	})
}

func phaseText(s *engine.Status) string {
	if s.Stopped != "" {
		return "stopped by the finding " + s.Stopped
	}
	return s.Phase.String()
}

// ask asks partners, each until it answers, and returns the union of what they
// say.
func (w *waiter) ask(ctx context.Context, what string, partners []repl.MemberID, question func(context.Context, *peer.Session) (version.Vector, error)) (version.Vector, error) {
	type answer struct {
		v   version.Vector
		err error
	}
	answers := make(chan answer, len(partners))
	for _, id := range partners {
		go func() {
			v, err := w.askOne(ctx, what, id, question)
			answers <- answer{v, err}
		}()
	}
	union := make(version.Vector)
	var errs []error
	for range partners {
		a := <-answers
		union = union.Union(a.v)
		errs = append(errs, a.err)
	}
	return union, errors.Join(errs...)
}

func (w *waiter) askOne(ctx context.Context, what string, id repl.MemberID, question func(context.Context, *peer.Session) (version.Vector, error)) (version.Vector, error) {
	for {
		if w.k.partners() != w.around {
			return nil, errOtherPartners
		}
		s := w.m.session(id)
		if s == nil {
			w.say(nil, "%s cannot be reached", w.name(id))
		} else {
			w.say(nil, "waiting until %s %s", w.name(id), what)
			v, err := question(ctx, s)
			if err == nil {
				return v, nil
			}
			w.say(nil, "waiting until %s %s: %v", w.name(id), what, err)
		}
		if !pause(ctx, max(waitRetry, w.every)) {
			return nil, context.Cause(ctx)
		}
	}
}

func (w *waiter) name(id repl.MemberID) string { return memberName(w.m.domain().Domain, id) }

// vectorOf asks a partner what it durably knows.
func (w *waiter) vectorOf(ctx context.Context, s *peer.Session) (version.Vector, error) {
	r, err := s.Status(ctx, w.k.Folder)
	if err != nil {
		return nil, err
	}
	return r.Vector, nil
}

// covers waits until this member has all of v.
func (w *waiter) covers(ctx context.Context, r *engine.Runner, v version.Vector) error {
	return w.poll(ctx, r, func(s *engine.Status) (bool, error) {
		lacks := v.Minus(s.Vector)
		if len(lacks) == 0 {
			return true, nil
		}
		text := "are on their way"
		for _, id := range w.k.partners().Upstreams {
			if closed := w.m.windows.closedText(w.k.Folder, id); closed != "" {
				text = fmt.Sprintf("wait; the connection from %s is %s", w.name(id), closed)
			}
		}
		w.say(s, "%d updates of others %s", lacks.Len(), text)
		return false, nil
	})
}

// covered waits until every downstream partner has all of v. What a partner
// says when it asks leaves out what it holds back; so it is asked itself, where
// there is a session with it.
func (w *waiter) covered(ctx context.Context, r *engine.Runner, v version.Vector) error {
	left := slices.Clone(w.k.partners().Downstreams)
	return w.poll(ctx, r, func(s *engine.Status) (bool, error) {
		left = slices.DeleteFunc(left, func(id repl.MemberID) bool {
			knows, ok := s.Partners[id]
			if !ok || !knows.Covers(v) {
				return false
			}
			session := w.m.session(id)
			if session == nil {
				return true
			}
			reply, err := session.Status(ctx, w.k.Folder)
			return err != nil || reply.Vector.Covers(v)
		})
		if len(left) == 0 {
			return true, nil
		}
		w.sayBehind(s, left[0], v)
		return false, nil
	})
}

// sayBehind says what a downstream partner has not got yet.
func (w *waiter) sayBehind(s *engine.Status, id repl.MemberID, v version.Vector) {
	at := w.m.heard.last(id, w.k.Folder)
	switch {
	case at.IsZero():
		w.say(s, "%s has not asked for this folder yet", w.name(id))
	case !w.m.asks(id, w.k.Folder):
		w.say(s, "%s has not been heard for %v", w.name(id), time.Since(at).Round(time.Second))
	default:
		w.say(s, "%s lacks %d updates", w.name(id), v.Minus(s.Partners[id]).Len())
	}
}

// poll looks at the folder until done says so.
func (w *waiter) poll(ctx context.Context, r *engine.Runner, done func(*engine.Status) (bool, error)) error {
	for {
		changed := r.Changed()
		s, err := r.Status(ctx)
		if err != nil {
			return err
		}
		if ok, err := done(&s); ok || err != nil {
			return err
		}
		if w.k.partners() != w.around {
			return errOtherPartners
		}
		t := time.NewTimer(w.every)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
