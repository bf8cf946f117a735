package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/finding"
	"opendfs/internal/peer"
	"opendfs/internal/pki"
	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// The times of partners.
const (
	directoryRetry = time.Second
	// quietFailures is how many attempts may come to nothing before it is a
	// finding: a partner that restarts is none.
	quietFailures = 2
)

// partners keeps one session up with each server that this member pulls from,
// and with the master of the domain, and hands the sessions to the folders.
type partners struct {
	config peer.Config
	admin  *admin
	find   *findings
	log    *slog.Logger
	// linked is told of each session that stands, and with nil that it is lost.
	linked func(m repl.MemberID, s *peer.Session)
	// changes is of the domain; news says that a server has told of a newer one.
	changes *news
	news    chan struct{}
	clocks  *clocks

	mu   sync.Mutex
	list map[repl.MemberID]*partner // guarded by mu
	// told are the terms and generations that servers have told of, and this one
	// has not got: it asks them. Guarded by mu.
	told map[repl.MemberID]*directory.Domain
	// settled ends the time after the start in which a master asks those too that
	// only pull from it, whether another was promoted meanwhile. Guarded by mu.
	settled bool
}

// partner is one server and the session with it.
type partner struct {
	*peer.Partner
	id     repl.MemberID
	object string // of findings: PARTNER->SELF
	cancel context.CancelFunc
	done   chan struct{}
	// early is a partner that is asked about the domain alone, for a while after
	// the start: it need not be there.
	early atomic.Bool

	// Owned by the goroutine of Run, which calls changed.
	failures int
	up       bool
	work     sync.WaitGroup // of the session that is up

	mu        sync.Mutex
	addresses []string      // guarded by mu
	session   *peer.Session // guarded by mu; nil while there is none
	lost      time.Time     // guarded by mu; when there last was one
	noNewer   bool          // guarded by mu; the session has told that it has no newer domain
}

// wantedPartners are the servers to have a session with: upstreams, and those where
// the domain is changed.
func wantedPartners(d *directory.Domain, self directory.UUID, masters []directory.UUID) map[repl.MemberID]*directory.Server {
	want := make(map[repl.MemberID]*directory.Server)
	for _, v := range d.Memberships(self) {
		if !v.Enabled {
			continue
		}
		for _, s := range d.Upstreams(v.Folder.ID, self) {
			want[repl.MemberID(s.ID)] = s
		}
	}
	for _, id := range masters {
		if s := d.Server(id); s != nil && id != self && d.Server(self) != nil {
			want[repl.MemberID(id)] = s
		}
	}
	return want
}

// downstreams are the servers that pull from this one.
func downstreams(d *directory.Domain, self directory.UUID) map[repl.MemberID]*directory.Server {
	list := make(map[repl.MemberID]*directory.Server)
	for _, v := range d.Memberships(self) {
		if !v.Enabled {
			continue
		}
		for _, s := range d.Downstreams(v.Folder.ID, self) {
			list[repl.MemberID(s.ID)] = s
		}
	}
	return list
}

// settle ends the time in which a master asks those too that only pull from it.
func (p *partners) settle(ctx context.Context) {
	p.mu.Lock()
	p.settled = true
	p.mu.Unlock()
	p.follow(ctx, p.admin.domain().Domain)
}

// follow starts and stops sessions as the domain says.
func (p *partners) follow(ctx context.Context, d *directory.Domain) {
	masters := p.admin.dir.Masters()
	want := wantedPartners(d, p.admin.self(), masters)
	var gone []*partner
	p.mu.Lock()
	early := make(map[repl.MemberID]bool)
	if !p.settled && slices.Contains(masters, p.admin.self()) {
		for id, s := range downstreams(d, p.admin.self()) {
			if want[id] == nil && len(s.Addresses) > 0 {
				want[id], early[id] = s, true
			}
		}
	}
	for id, newer := range p.told {
		if s := d.Server(directory.UUID(id)); s != nil && newer.Newer(d) {
			want[id] = s
		} else {
			delete(p.told, id)
		}
	}
	for id, one := range p.list {
		if want[id] == nil {
			gone = append(gone, one)
			delete(p.list, id)
		}
	}
	for id, s := range want {
		if one := p.list[id]; one != nil {
			one.readdress(s.Addresses)
			continue
		}
		p.list[id] = p.start(ctx, id, s.Name+"->"+p.admin.id.Name(), s.Addresses, early[id])
	}
	for id, one := range p.list {
		one.early.Store(early[id])
	}
	p.mu.Unlock()
	for _, one := range gone {
		one.stop()
		p.find.clearObject(one.object)
	}
}

func (one *partner) readdress(addresses []string) {
	one.mu.Lock()
	same := slices.Equal(one.addresses, addresses)
	one.addresses = slices.Clone(addresses)
	one.mu.Unlock()
	if !same {
		one.Poke()
	}
}

func (one *partner) stop() {
	one.cancel()
	<-one.done
}

// start begins keeping a session up.
func (p *partners) start(ctx context.Context, id repl.MemberID, object string, addresses []string, early bool) *partner {
	ctx, cancel := context.WithCancel(ctx)
	one := &partner{id: id, object: object, cancel: cancel, done: make(chan struct{}), addresses: slices.Clone(addresses)}
	one.early.Store(early)
	one.Partner = peer.NewPartner(peer.PartnerConfig{
		Config: p.config, Member: id, Rand: rand.Float64,
		Addresses: func() []string {
			one.mu.Lock()
			defer one.mu.Unlock()
			return slices.Clone(one.addresses)
		},
		Changed: func(s peer.State) { p.changed(ctx, one, s) },
	})
	go func() {
		defer close(one.done)
		one.Run(ctx)
	}()
	return one
}

// changed follows a partner's state: it runs in the goroutine of its Run.
func (p *partners) changed(ctx context.Context, one *partner, s peer.State) {
	if s.Phase == peer.Connected {
		session, err := one.Session(ctx)
		if err != nil {
			return
		}
		one.failures, one.up = 0, true
		one.setSession(session)
		p.well(one, session)
		p.log.Info("connected", "partner", one.object, "address", s.Address, "product", s.Remote.Product)
		p.linked(one.id, session)
		one.work.Go(func() { p.followDirectory(ctx, one, session) })
		return
	}
	if one.up {
		one.up = false
		one.setSession(nil)
		p.linked(one.id, nil)
		one.work.Wait() // it ends with the session
		p.log.Info("disconnected", "partner", one.object, "err", s.Err)
	}
	if s.Phase == peer.Waiting && s.Err != nil {
		if one.failures++; one.failures >= quietFailures && !one.early.Load() {
			p.trouble(one, s.Err)
		}
	}
}

func (one *partner) setSession(s *peer.Session) {
	one.mu.Lock()
	defer one.mu.Unlock()
	one.session, one.noNewer = s, false
	one.lost = time.Now()
}

// asked reports whether the session that is up has told that it has no newer
// domain than this member.
func (one *partner) asked() bool {
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.noNewer
}

func (one *partner) setAsked(noNewer bool) {
	one.mu.Lock()
	defer one.mu.Unlock()
	one.noNewer = noNewer
}

// lastUp is when there last was a session.
func (one *partner) lastUp() time.Time {
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.lost
}

// current is the session that is up, nil if there is none.
func (one *partner) current() *peer.Session {
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.session
}

// sessionTroubles are the findings of a session that does not come about.
var sessionTroubles = []finding.Code{finding.PartnerUnreachable, finding.PartnerRefused, finding.PartnerVersion, finding.PartnerBadMessage}

// well takes back what a session that stands disproves.
func (p *partners) well(one *partner, s *peer.Session) {
	for _, code := range sessionTroubles {
		p.find.Clear(code, one.object)
	}
	skew, maxSkew := s.Skew(), time.Duration(p.clocks.limit.Load())
	p.clocks.note(one.id, skew)
	p.judgeClock(finding.ClockBehind, one, skew > maxSkew, skew)
	p.judgeClock(finding.ClockAhead, one, skew < -maxSkew, -skew)
}

func (p *partners) judgeClock(code finding.Code, one *partner, bad bool, by time.Duration) {
	if bad {
		p.find.Raise(code, one.object, fmt.Sprintf("by %v", by.Round(time.Second)))
	} else {
		p.find.Clear(code, one.object)
	}
}

// trouble raises the one finding that says why there is no session.
func (p *partners) trouble(one *partner, err error) {
	is := troubleOf(err)
	for _, code := range sessionTroubles {
		if code != is {
			p.find.Clear(code, one.object)
		}
	}
	name, _, _ := strings.Cut(one.object, "->")
	p.find.Raise(is, one.object, strings.ReplaceAll(err.Error(), one.id.String(), name))
}

func troubleOf(err error) finding.Code {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		switch e.Code {
		case wire.CodeVersion:
			return finding.PartnerVersion
		case wire.CodeProtocol:
			return finding.PartnerBadMessage
		case wire.CodeIdentity, wire.CodeNotServed:
			return finding.PartnerRefused
		}
	}
	for _, refused := range []error{pki.ErrForeign, pki.ErrOtherDomain, pki.ErrRevoked, pki.ErrWrongMember, pki.ErrRefused, pki.ErrValidity} {
		if errors.Is(err, refused) {
			return finding.PartnerRefused
		}
	}
	return finding.PartnerUnreachable
}

// followDirectory takes newer copies of the domain from a partner, until its
// session ends.
func (p *partners) followDirectory(ctx context.Context, one *partner, s *peer.Session) {
	for {
		c, err := p.askDirectory(ctx, one, s)
		if err == nil {
			one.setAsked(len(c.Signed) == 0)
			err = p.accept(one, c)
		}
		if err == nil {
			continue
		}
		select {
		case <-time.After(directoryRetry):
		case <-s.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// askDirectory asks for a newer copy of the domain: at once the first time, then
// it waits for one; less long when this server itself has a newer one, so that
// the other hears of it.
func (p *partners) askDirectory(ctx context.Context, one *partner, s *peer.Session) (*wire.DirectoryCopy, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := p.changes.next()
	d := p.admin.domain().Domain
	go func() {
		select {
		case <-changed:
			cancel()
		case <-waiting.Done():
		}
	}()
	c, err := s.Directory(waiting, d.Term, d.Generation, one.asked())
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return &wire.DirectoryCopy{}, nil
	}
	return c, err
}

// accept takes a newer copy, if there is one, or raises why not.
func (p *partners) accept(one *partner, c *wire.DirectoryCopy) error {
	if len(c.Signed) == 0 {
		return nil
	}
	changed, err := p.admin.take(context.Background(), c.Signed)
	if errors.Is(err, directory.ErrOlderCopy) { // another partner was faster
		return nil
	}
	if err != nil {
		p.find.Raise(finding.DirectoryCopyStale, "", err.Error())
		return err
	}
	p.find.Clear(finding.DirectoryCopyStale, "")
	if changed {
		p.again() // what this server had as master is put aside by now
		p.log.Info("domain taken", "partner", one.object, "term", c.Term, "generation", c.Generation)
	}
	return nil
}

// one is a partner by its id, nil if no session with it is wanted.
func (p *partners) one(id repl.MemberID) *partner {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list[id]
}

// session is the session with a server, nil if there is none.
func (p *partners) session(id repl.MemberID) *peer.Session {
	one := p.one(id)
	if one == nil {
		return nil
	}
	return one.current()
}

// all are the partners that there should be sessions with.
func (p *partners) all() []*partner {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*partner, 0, len(p.list))
	for _, one := range p.list {
		out = append(out, one)
	}
	return out
}

// heard is told which domain a server has. If it is a newer one, by a server that
// this one asks nothing of, it is asked: a master that was away learns so that
// another was promoted.
func (p *partners) heard(id repl.MemberID, term, generation uint64) {
	now, theirs := p.admin.domain().Domain, &directory.Domain{Term: term, Generation: generation}
	if !theirs.Newer(now) || now.Server(directory.UUID(id)) == nil {
		return
	}
	p.mu.Lock()
	_, asked := p.list[id]
	_, told := p.told[id]
	if !asked && !told {
		p.told[id] = theirs
	}
	p.mu.Unlock()
	if !asked && !told {
		p.again()
	}
}

// again has the domain looked at once more.
func (p *partners) again() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// informed reports whether every server that tells of newer domains has been asked
// or could not be reached.
func (p *partners) informed() bool {
	for _, one := range p.all() {
		if one.current() != nil {
			if !one.asked() {
				return false
			}
		} else if s := one.State(); s.Err == nil && s.Phase != peer.Stopped {
			return false
		}
	}
	return true
}

// greeted is told when a server has connected to this one: if a session with it
// is wanted, now is the time.
func (p *partners) greeted(id repl.MemberID, hello wire.Hello) {
	p.heard(id, hello.Term, hello.Generation)
	if one := p.one(id); one != nil {
		one.Poke()
	}
}

// close ends every session.
func (p *partners) close() {
	var all sync.WaitGroup
	for _, one := range p.all() {
		all.Go(one.stop)
	}
	all.Wait()
}
