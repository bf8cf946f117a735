package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"
	"opendfs/internal/finding"
	"opendfs/internal/peer"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// member is the daemon: everything that `dfs serve` runs. serve constructs it,
// run is the parent of all that it does.
type member struct {
	*admin
	state    *stateDir
	log      *slog.Logger
	started  time.Time
	find     *findings
	folders  *folders
	partners *partners
	windows  *windows
	home     *home // owned by run
	server   peer.ServerConfig
	turnsOut *peer.Turns
	level    func(directory.LogLevel) // sets how much is logged
	api      *control.Server
	heard    *heard
	news     *news // of the domain
	damage   chan error
	hup      chan os.Signal
	counts   backlogCounts
	// followed is the domain that the folders and partners go by; nil at first.
	followed atomic.Pointer[directory.Domain]
	// serving is what answers partners; nil at first.
	serving atomic.Pointer[peer.Server]
	// knows says that informed need not be asked any more.
	knows atomic.Bool

	// Owned by run.
	listen []string

	mu sync.Mutex
	db *store.Store // guarded by mu; nil while there is none
}

// The rhythm of the member itself.
const (
	chores      = time.Minute
	listenRetry = 10 * time.Second
)

// run runs the member until ctx ends or something breaks that it cannot mend.
func (m *member) run(ctx context.Context, f *faces) (err error) {
	notify := newNotifier(m.log)
	peers := m.startPeers(ctx, f.peers)
	defer func() { err = errors.Join(err, m.drain(peers, notify)) }()
	if err := m.openDatabase(ctx); err != nil {
		return err
	}
	m.noticeRefused()
	m.log.Info("member runs", "server", m.id.Name(), "domain", m.domain().Domain.Name, "listen", f.peers.Addresses(), "state", m.state.path, "version", programVersion())
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work.Go(func() { m.windows.run(ctx) })
	work.Go(func() { m.folders.run(ctx) })
	defer m.home.stop()
	work.Go(func() { m.renew(ctx) }) // it may have expired while nothing ran
	watch := m.dir.Watch(ctx)
	chore, feed := time.NewTicker(chores), notify.feeding()
	defer chore.Stop()
	defer feed.Stop()
	early := time.NewTimer(2 * informTime)
	defer early.Stop()
	relisten := time.NewTimer(0)
	defer relisten.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case d, open := <-watch:
			if !open {
				return nil
			}
			m.follow(ctx, d)
			m.shutOut(peers, d)
			m.news.tell()
			relisten.Reset(0)
			if m.followed.Swap(d) == nil {
				notify.ready()
			}
		case <-relisten.C:
			peers = m.followListen(ctx, peers, relisten)
		case <-peers.ended:
			return peers.err
		case err := <-m.damage:
			if err := m.rebuild(ctx, err); err != nil {
				return err
			}
		case <-early.C:
			m.partners.settle(ctx)
		case <-m.partners.news:
			m.noticeRefused()
			m.partners.follow(ctx, m.domain().Domain)
		case <-m.hup:
			m.refresh()
		case <-chore.C:
			m.renew(ctx)
			m.noticeRefused()
			if m.newest() {
				m.folders.dropLeft(m.self())
			}
		case <-feed.C:
			notify.feed(m.alive())
		}
	}
}

// follow makes everything as the domain says.
func (m *member) follow(ctx context.Context, d *directory.Domain) {
	if d.Server(m.self()) == nil {
		m.find.Raise(finding.PartnerRefused, m.id.Name(), "this server was removed from the domain")
	} else {
		m.find.Clear(finding.PartnerRefused, m.id.Name())
	}
	m.noticeRefused()
	if s := d.Server(m.self()); s != nil {
		m.turnsOut.Set(int(s.TransfersOut))
		m.windows.turns.Set(int(s.TransfersIn))
		m.folders.clocks.limit.Store(int64(s.MaxSkew()))
		m.level(s.LogLevel)
	}
	m.windows.follow(d, m.self())
	m.folders.follow(ctx, d, m.self())
	m.partners.follow(ctx, d)
	m.home.follow(ctx, d)
}

// sent counts what a session has sent a partner towards the rates that it grants.
func (m *member) sent(partner repl.MemberID, folder repl.FolderID, n int) {
	if s := m.serving.Load(); s != nil {
		s.Charge(partner, folder, n)
	}
}

// shutOut closes what servers have open here whose identity is none of the domain's
// any more.
func (m *member) shutOut(peers *runningPeers, d *directory.Domain) {
	before := m.followed.Load()
	if before == nil || peers.server == nil {
		return
	}
	for _, s := range before.Servers {
		if d.Server(s.ID) == nil {
			m.log.Info("server shut out", "server", s.Name, "id", s.ID)
			peers.server.Disconnect(repl.MemberID(s.ID))
		}
	}
}

// refresh reads domain.yaml again.
func (m *member) refresh() {
	changed, err := m.refreshOwn(context.Background(), event{Who: "unknown", From: "domain.yaml, edited by hand", What: "edit"})
	m.log.Info("domain.yaml read again", "changed", changed, "err", err)
	m.noticeRefused()
}

// noticeRefused raises or clears that domain.yaml is not what runs, and that this
// server has been master and is not any more.
func (m *member) noticeRefused() {
	if path := m.dir.Superseded(); path != "" {
		id, here := m.dir.Master()
		text := "master is " + serverName(m.domain().Domain, id)
		if here {
			text = "this server is it again"
		}
		m.find.Raise(finding.DirectorySuperseded, m.id.Name(), text+"; what it had is "+path)
	} else {
		m.find.Clear(finding.DirectorySuperseded, m.id.Name())
	}
	if err := m.dir.Refused(); err != nil {
		m.find.Raise(finding.DirectoryEditRefused, "", err.Error())
		return
	}
	m.find.Clear(finding.DirectoryEditRefused, "")
}

// runningPeers is a peer server that answers.
type runningPeers struct {
	cancel context.CancelFunc
	ended  chan struct{} // closed when Run has returned err
	err    error
	server *peer.Server // nil if it could not listen
}

func (r *runningPeers) stop() {
	r.cancel()
	<-r.ended
}

func (m *member) startPeers(ctx context.Context, s *peer.Server) *runningPeers {
	ctx, cancel := context.WithCancel(ctx)
	m.serving.Store(s)
	r := &runningPeers{cancel: cancel, ended: make(chan struct{}), server: s}
	go func() {
		defer close(r.ended)
		r.err = s.Run(ctx)
	}()
	return r
}

// followListen listens elsewhere if the domain says so.
func (m *member) followListen(ctx context.Context, now *runningPeers, again *time.Timer) *runningPeers {
	self := m.domain().Domain.Server(m.self())
	if self == nil || slices.Equal(self.ListenAddresses(), m.listen) {
		return now
	}
	now.stop()
	server := m.server
	server.Listen = self.ListenAddresses()
	s, err := peer.Listen(ctx, server)
	if err != nil {
		m.log.Error("listen elsewhere", "err", err)
		again.Reset(listenRetry)
		return nobody()
	}
	m.listen = server.Listen
	m.log.Info("listening elsewhere", "listen", s.Addresses())
	return m.startPeers(ctx, s)
}

// nobody is a peer server that could not listen.
func nobody() *runningPeers {
	ctx, cancel := context.WithCancel(context.Background())
	r := &runningPeers{cancel: cancel, ended: make(chan struct{})}
	context.AfterFunc(ctx, func() { close(r.ended) })
	return r
}

// drain stops everything, within drainTime.
func (m *member) drain(peers *runningPeers, n *notifier) error {
	n.stopping()
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		m.partners.close()
		peers.stop()
		m.folders.close()
		done <- m.closeDatabase()
	}()
	select {
	case err := <-done:
		m.log.Info("member stopped", "after", time.Since(began).Round(time.Millisecond))
		return err
	case <-time.After(drainTime):
		// Whatever is still under way is settled by the next start.
		m.log.Warn("member stops without waiting any longer", "after", drainTime)
		return nil
	}
}

// openDatabase opens the database and starts the folders' use of it. A damaged
// or foreign one is moved aside.
func (m *member) openDatabase(_ context.Context) error {
	st, err := m.openStore()
	if errors.Is(err, store.ErrCorrupt) {
		aside, merr := store.MoveAside(m.state.file(dbName), time.Now())
		if merr != nil {
			return errors.Join(err, merr)
		}
		m.find.Raise(finding.StateRebuilt, "", fmt.Sprintf("%v; it is now %s", err, aside))
		st, err = m.openStore()
	}
	switch {
	case errors.Is(err, store.ErrNewer):
		return control.Hint(err, "install that version again, or a later one")
	case err != nil:
		return err
	}
	m.mu.Lock()
	m.db = st
	m.mu.Unlock()
	m.folders.open(st)
	return nil
}

func (m *member) openStore() (*store.Store, error) {
	kv, err := store.OpenPebble(m.state.file(dbName), store.Options{Logger: m.log.With("part", "store"), Fatal: m.damaged})
	if err != nil {
		return nil, err
	}
	st, err := store.Open(kv, rand.Reader)
	if err != nil {
		return nil, errors.Join(err, kv.Close())
	}
	return st, nil
}

func (m *member) closeDatabase() error {
	m.mu.Lock()
	st := m.db
	m.db = nil
	m.mu.Unlock()
	if st == nil {
		return nil
	}
	return st.Close()
}

// database is the database, nil while there is none.
func (m *member) database() *store.Store {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.db
}

// damaged takes the report that the database cannot be trusted; the first of
// several counts.
func (m *member) damaged(err error) {
	select {
	case m.damage <- err:
	default:
	}
}

// rebuild replaces a database that has broken while it was used.
func (m *member) rebuild(ctx context.Context, cause error) error {
	m.log.Error("the database cannot be used any more; it is opened anew", "err", cause)
	m.followed.Store(nil) // until the folders are back
	m.folders.close()
	if err := m.closeDatabase(); err != nil {
		m.log.Warn("the broken database did not close in order", "err", err)
	}
	if errors.Is(cause, store.ErrCorrupt) {
		aside, err := store.MoveAside(m.state.file(dbName), time.Now())
		if err != nil {
			return errors.Join(cause, err)
		}
		m.find.Raise(finding.StateRebuilt, "", fmt.Sprintf("%v; it is now %s", cause, aside))
	}
	if err := m.openDatabase(ctx); err != nil {
		return err
	}
	select { // what the old one said last is about the old one
	case late := <-m.damage:
		m.log.Debug("last words of the broken database", "err", late)
	default:
	}
	d := m.domain().Domain
	m.folders.follow(ctx, d, m.self())
	m.followed.Store(d)
	return nil
}

// session is the session with an upstream server, nil if there is none.
func (m *member) session(id repl.MemberID) *peer.Session { return m.partners.session(id) }

// revoked reports whether a server's identity is none of the domain's.
func (m *member) revoked(id repl.MemberID) bool {
	return m.domain().Domain.Server(directory.UUID(id)) == nil
}

// generation is what partners are told of this server's domain.
func (m *member) generation() (term, generation uint64) {
	d := m.domain().Domain
	return d.Term, d.Generation
}

// group is the replication group of a folder, zero if there is none.
func (m *member) group(folder repl.FolderID) repl.GUID {
	g, _ := m.domain().Domain.Folder(directory.UUID(folder))
	if g == nil {
		return repl.GUID{}
	}
	return repl.GUID(g.ID)
}

// mayServe is the peer.Authorizer.
func (m *member) mayServe(folder repl.FolderID, downstream repl.MemberID) bool {
	return m.domain().Domain.MayServe(directory.UUID(folder), m.self(), directory.UUID(downstream))
}

// alive reports whether every folder's loop has done something lately.
func (m *member) alive() bool {
	for _, k := range m.folders.all() {
		if r := k.current(); r != nil && time.Since(r.Beat()) > loopDead {
			m.log.Error("a folder's loop stands still", "folder", k.Name, "since", r.Beat())
			return false
		}
	}
	return true
}

// informTime is how long after its start a member may wait for partners to tell
// of a newer domain.
const informTime = 5 * time.Second

// informed reports whether every partner that tells of newer domains has been
// asked since the start, or could not be reached in time; with wait it waits for
// that.
func (m *member) informed(ctx context.Context, wait bool) bool {
	for !m.knows.Load() {
		if m.followed.Load() != nil && m.partners.informed() || time.Since(m.started) > informTime {
			m.knows.Store(true)
			break
		}
		if !wait || !pause(ctx, waitPoll) {
			return false
		}
	}
	return true
}

// Apply is that of control.Member. A master that has just started hears first
// whether another was promoted.
func (m *member) Apply(ctx context.Context, req *controlpb.ApplyRequest) (*controlpb.ApplyReply, error) {
	m.informed(ctx, true)
	return m.admin.Apply(ctx, req)
}

// newest reports whether the domain that is followed is the newest: this server
// is the master, or has a session with one where it is changed and has asked.
func (m *member) newest() bool {
	if _, here := m.dir.Master(); here {
		return true
	}
	return slices.ContainsFunc(m.dir.Masters(), func(id directory.UUID) bool {
		one := m.partners.one(repl.MemberID(id))
		return one != nil && one.asked()
	})
}

const (
	// loopDead is how long a loop may do nothing; it is fed each second.
	loopDead = 30 * time.Second
)
