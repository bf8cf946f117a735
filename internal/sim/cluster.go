// Package sim runs whole clusters of real members on one goroutine: the
// engine, capture, merge, fetch and install as they are, over a simulated
// volume, store, network and clock. A seed decides every choice: what runs
// next, what users do and when, what fails. The same seed gives the same run.
//
// The checkers look at every rest (check.go). The store is the real one over
// an in-memory ordered map; the volume is package disk, which passes the
// contract suite of the real volume. Both lose what was not synced when a
// member crashes.
package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"opendfs/internal/engine"
	"opendfs/internal/filter"
	"opendfs/internal/finding"
	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/sim/disk"
	"opendfs/internal/staging"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// Cluster is a group of members of one folder.
type Cluster struct {
	rnd      *rand.Rand
	now      repl.Time
	members  []*Member
	suspect  *Member         // it was put back, and may not know yet
	cut      map[[2]int]bool // links that are down, lower index first
	deaf     map[[2]int]bool // who does not hear whom
	apart    map[[2]int]bool // who does not ask whom, by the domain
	still    bool            // users have gone home
	script   bool            // users do only what a test lets them do
	faulty   bool            // streams are cut in the middle
	restores bool            // operators restore trees
	rewired  bool            // members become and cease to be partners
	restored bool            // servers are put back to images of before
	alone    bool            // only the first member has users
	names    []string        // what users call things
	filters  []*filter.Set   // among which the domain changes; members learn of it one after the other
	shadow   shadow
	law      law
	habits   *habits
	trace    []string
	silent   bool // nothing is traced
	// tail follows every content; with one, contents are large enough for deltas.
	tail string
	// life is the tombstones'; 0: none is collected, and nobody evicted.
	life time.Duration
	out  map[repl.MemberID]version.Originator // the databases that the directory has put out
	// buried are the tombstones that were collected somewhere, by object.
	buried map[repl.UID]repl.Update
	// rotten are objects whose record rotted somewhere, the last one at rotAt.
	rotten map[repl.UID]bool
	rotAt  repl.Time
	// rotUnread says that a record tells a content that is not on its disk.
	rotUnread bool
	Count     Counters
}

// Member is one server of the cluster.
type Member struct {
	c      *Cluster
	index  int
	id     repl.MemberID
	disk   *disk.Disk
	kv     *store.Memory
	store  *store.Store
	env    *engine.Env
	folder *engine.Folder
	served *engine.Served
	cfg    engine.Config
	// partners are those of the topology.
	partners []repl.MemberID
	tasks    []task
	events   []engine.Event
	up       map[repl.MemberID]bool
	sessions map[repl.MemberID]int // how many there have been
	found    map[string]string     // findings raised, by code and object
	token    uint64
	born     repl.Time  // when it started last
	open     []openFile // of users
	images   []image
	// revived are versions first known of this member since it was put back.
	revived []version.GVSN
	had     map[repl.UID]repl.Update // on record, as last seen
	counts  [repl.Verdicts]uint64    // the folder's verdicts that are counted already
	// redecided of the folder's installs are counted already.
	redecided, reanimated, collected uint64
	// held is what the breaker held after the last step; trips and rejected are
	// counted already.
	held            map[version.Originator]uint64
	trips, rejected uint64
	fenced          uint64        // counted already
	differed        uint64        // counted already
	running         engine.Action // nil: none
	ran             engine.Action // the last one
	fast            time.Duration // by how much its clock runs ahead
	mounts          []string      // directories that something is mounted over
	// promises says that the member has been in Normal: what it has on record is
	// durable.
	promises bool
	// inAction says that an action runs: a crash there unwinds by panic.
	inAction bool
	dieAt    int  // yields until the member dies; 0: it does not
	spared   bool // its process dies then, and not the power
}

// task is an action that waits to be run.
type task struct {
	action engine.Action
	asked  repl.Time // when it was given
	heard  bool      // a question that waits, by whom it asks
}

// crashed unwinds a member that loses power in the middle of an action.
type crashed struct{ m *Member }

var folderID = repl.FolderID{0xf0, 1}

// Topology says which member asks which.
type Topology func(i, j int) bool

// Mesh connects every member with every other.
func Mesh(i, j int) bool { return true }

// Chain connects each member with its neighbours.
func Chain(i, j int) bool { return i-j == 1 || j-i == 1 }

// Hub connects each member with the first.
func Hub(i, j int) bool { return i == 0 || j == 0 }

// New makes a cluster of n members; the first is the primary.
func New(seed uint64, n int, connected Topology) *Cluster {
	c := &Cluster{
		rnd: rand.New(rand.NewPCG(seed, 0x0dfe)), now: 1_700_000_000_000_000_000, cut: make(map[[2]int]bool), deaf: make(map[[2]int]bool), apart: make(map[[2]int]bool), names: names,
		out: make(map[repl.MemberID]version.Originator), buried: make(map[repl.UID]repl.Update), rotten: make(map[repl.UID]bool),
	}
	c.shadow.init()
	c.law = newLaw()
	c.habits = &ways[c.rnd.IntN(len(ways))]
	if seed%3 == 0 {
		c.tail = longTail
	}
	for i := range n {
		m := &Member{c: c, index: i, id: repl.MemberID{byte(i + 1)}, found: make(map[string]string), sessions: make(map[repl.MemberID]int)}
		rules, err := filter.New(filter.Defaults())
		if err != nil {
			panic(err)
		}
		m.cfg = engine.Config{
			Folder: folderID, Name: "sim/folder", Self: m.id, Membership: repl.GUID{byte(i + 1)}, Path: fmt.Sprintf("/m%d", i),
			Primary: i == 0, Filter: rules, MinDelta: 1, VouchWait: 100 * time.Millisecond, RemarkAfter: time.Second,
		}
		for j := range n {
			if i != j && connected(i, j) {
				m.partners = append(m.partners, repl.MemberID{byte(j + 1)})
			}
		}
		m.cfg.Upstreams, m.cfg.Downstreams = m.partners, m.partners
		m.disk = disk.New(c.rnd.Uint64(), m.now)
		m.kv = store.NewMemory()
		c.members = append(c.members, m)
	}
	return c
}

func (c *Cluster) clock() repl.Time {
	c.now += 1000
	return c.now
}

// now is the member's own clock.
func (m *Member) now() repl.Time { return m.c.clock() + repl.Time(m.fast) }

// maxSkew is by how much clocks may differ.
const maxSkew = 5 * time.Minute

// mint is the clock of what the member mints.
func (m *Member) mint() repl.Time {
	var ahead []time.Duration
	for _, id := range m.cfg.Upstreams {
		ahead = append(ahead, m.fast-m.c.byID(id).fast)
	}
	now := m.now()
	got := engine.Clamp(now, ahead, maxSkew)
	if got != now {
		m.c.Count.Clamped++
	}
	return got
}

// Read makes the run's chance a source of identifiers.
func (c *Cluster) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c.rnd.Uint32())
	}
	return len(p), nil
}

// Start brings a member up: from nothing, or from what its last crash left. It
// may lose power on the way.
func (m *Member) Start() error {
	m.disk.Yield, m.disk.Journal, m.disk.Fail = m.yield, m.journal, m.broken
	m.unmount() // a start does not settle what a mount hides: docs/verification.md
	var err error
	m.guard(func() { err = m.start() })
	return err
}

func (m *Member) start() error {
	var err error
	if m.store, err = store.Open(m.kv, m.c); err != nil {
		return err
	}
	st, err := m.store.Folder(folderID)
	if err != nil {
		return err
	}
	if s := st.State(); s.Phase != store.PhaseNew && s.Membership != m.cfg.Membership {
		if st, err = m.forget(); err != nil { // as the keeper of cmd/dfs does
			return err
		}
	}
	vol := m.disk.Open()
	m.env = &engine.Env{
		Volume: vol, Store: st, Now: m.now, Clock: m.mint,
		Directory: domain{m}, Upstream: m.upstream, Drain: func() error { return nil },
	}
	m.env.Keep = preserve.Open(vol)
	if m.c.tail != "" {
		m.env.Staging = staging.Open(vol, stagingQuota, 0)
	}
	m.served = engine.NewServed(m.env, folderID)
	m.served.Doubt = func(uid repl.UID, why error) { m.events = append(m.events, engine.Doubted{UID: uid, Why: why}) }
	m.up = make(map[repl.MemberID]bool)
	m.tasks, m.events, m.found = nil, nil, make(map[string]string)
	if m.env.Store.State().Originator.IsZero() {
		m.had = make(map[repl.UID]repl.Update)
	} else {
		m.remember()
	}
	if intents, err := st.Intents(); err == nil && len(intents) > 0 {
		m.c.Count.Intents++
	}
	m.counts, m.redecided, m.reanimated, m.collected = [repl.Verdicts]uint64{}, 0, 0, 0
	m.held, m.trips, m.rejected, m.fenced, m.differed = nil, 0, 0, 0, 0
	folder, err := engine.Open(context.Background(), m.cfg, m.env, m, m.c)
	if err != nil {
		return m.remedy(err)
	}
	m.folder, m.born = folder, m.c.now
	m.committed(allUpdates(m.env.Store), nil, m.env.Store.Vector()) // what was under way is settled
	m.c.tracef("m%d starts in %v", m.index, folder.Phase())
	m.step(engine.Tick{})
	m.c.connect()
	return nil
}

// Raise and Clear make the member its own list of findings.
func (m *Member) Raise(code finding.Code, object, detail string) {
	m.found[string(code)+" "+object] = detail
	m.c.tracef("m%d finding %s %s: %s", m.index, code, object, detail)
}

// Clear takes a finding back.
func (m *Member) Clear(code finding.Code, object string) { delete(m.found, string(code)+" "+object) }

// step applies one event.
func (m *Member) step(ev engine.Event) {
	m.c.Count.Steps++
	before := m.env.Store.Vector()
	actions, changed := m.folder.Step(ev)
	m.served.SetPhase(m.folder.Phase())
	m.served.SetRetired(m.folder.Retired())
	if m.folder.Rebuild() {
		return // stopped sees to it
	}
	m.tally()
	for _, a := range actions {
		m.tasks = append(m.tasks, task{action: a, asked: m.c.now})
	}
	if changed {
		m.news(before)
	}
	m.collects()
	m.heldStays(before)
}

// connect tells members which sessions stand.
func (c *Cluster) connect() {
	for _, m := range c.members {
		if m.folder == nil {
			continue
		}
		for _, id := range m.cfg.Upstreams {
			up := c.reachable(m, c.byID(id))
			if up == m.up[id] {
				continue
			}
			m.up[id] = up
			if up {
				m.sessions[id]++
				m.events = append(m.events, engine.LinkUp{Member: id, Session: session{m, c.byID(id), m.sessions[id]}})
			} else {
				m.events = append(m.events, engine.LinkDown{Member: id})
			}
		}
	}
}

func (c *Cluster) byID(id repl.MemberID) *Member { return c.members[int(id[0])-1] }

// reachable reports whether a can ask b.
func (c *Cluster) reachable(a, b *Member) bool {
	i, j := min(a.index, b.index), max(a.index, b.index)
	return a.folder != nil && b.folder != nil && !c.cut[[2]int{i, j}] && !c.deaf[[2]int{a.index, b.index}]
}

// runTask runs one waiting action to its end; what it posts is applied later.
func (m *Member) runTask(i int) {
	t := m.tasks[i]
	m.tasks = append(m.tasks[:i:i], m.tasks[i+1:]...)
	m.ran = t.action
	m.traceAction(t.action)
	m.c.begun(t.action)
	m.guard(func() {
		m.running = t.action
		defer func() { m.running = nil }()
		t.action.Run(engine.Context{Context: context.Background(), Env: m.env}, func(ev engine.Event) { m.events = append(m.events, ev) })
	})
}

// guard runs work of the member, in which users act and power may be lost.
func (m *Member) guard(work func()) {
	was := m.inAction
	defer func() {
		m.inAction = was
		if r := recover(); r != nil {
			if dead, ok := r.(crashed); ok && dead.m == m {
				m.inAction = false
				if m.spared {
					m.kill()
				} else {
					m.powerCut()
				}
				return
			}
			panic(r)
		}
	}()
	m.inAction = true
	work()
}

// waits reports whether a task is a question that the partner has no news for.
func (m *Member) waits(t *task) bool {
	ask, ok := t.action.(*engine.Ask)
	if !ok || !ask.Request.Wait {
		return false
	}
	if s, ok := ask.Session().(session); !ok || s.lost() {
		return false
	}
	up := m.c.byID(ask.Member)
	if up.folder.Phase() != wire.PhaseNormal {
		return m.c.now-t.asked < 1e9
	}
	if t.asked < up.born { // who waits is woken when a folder ends
		return false
	}
	if ask.Over(m.c.now + repl.Time(m.fast)) {
		return false
	}
	own := up.env.Store.State().Originator
	if !t.heard && !up.env.Store.Vector().Covers(version.Vector{own: ask.Request.Vector[own]}) {
		t.heard = true // when it came: it tells the partner that it was put back
		up.events = append(up.events, engine.Heard{Member: m.id, Vector: ask.Request.Vector})
	}
	if known := m.folder.Status().Links[ask.Member].Known; m.c.now-t.asked > 10e9 && (known == nil || !up.env.Store.Vector().Covers(known)) {
		return false // a question is answered after ten seconds, news or not: the partner gave its records up, or the session is another
	}
	return ask.Request.LeaveOut().Covers(up.env.Store.Vector())
}

// yield is called by the disk before each operation of the member: users act
// there, and power is lost there.
func (m *Member) yield(op string) {
	if !m.inAction {
		return
	}
	m.intended(op)
	m.c.Count.Yields++
	if m.dieAt > 0 {
		if m.dieAt--; m.dieAt == 0 {
			m.disk.Kill()
			panic(crashed{m})
		}
	}
	if !m.c.still && !m.c.script && m.c.rnd.IntN(24) == 0 {
		m.inAction = false
		m.c.userOp(m)
		m.inAction = true
		m.c.beside(m.running)
	}
}

// powerCut loses what was not synced, tree and records independently.
func (m *Member) powerCut() {
	m.c.Count.Crashes++
	m.c.tracef("m%d loses power", m.index)
	before := m.disk.Tree(true)
	m.disk = m.disk.Crash(m.c.rnd.Uint64())
	m.mounts = nil
	m.kv.Crash()
	m.folder, m.served, m.tasks, m.events, m.open = nil, nil, nil, nil, nil
	m.dieAt, m.spared = 0, false
	m.c.shadow.crashed(m, before)
	m.c.connect()
}

// kill ends the member's process as kill -9 does: what it had written stays.
func (m *Member) kill() {
	m.c.Count.Kills++
	m.c.tracef("m%d is killed", m.index)
	m.disk.Kill()
	m.folder, m.served, m.tasks, m.events = nil, nil, nil, nil
	m.dieAt, m.spared = 0, false
	m.c.connect()
}

// stop ends the member in order.
func (m *Member) stop() error {
	m.c.Count.Stops++
	m.c.tracef("m%d is stopped", m.index)
	err := errors.Join(m.folder.Close(), m.served.Close())
	m.disk.Kill()
	m.folder, m.served, m.tasks, m.events = nil, nil, nil, nil
	m.dieAt = 0
	m.c.connect()
	return err
}

func (m *Member) journal(handle []byte, dirPath, name string, wrote bool) {
	if m.folder == nil {
		return
	}
	m.token++
	m.events = append(m.events, journaled(m.token, handle, dirPath, name, wrote))
}
