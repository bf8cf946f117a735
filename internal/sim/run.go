package sim

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"opendfs/internal/engine"
	"opendfs/internal/filter"
	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// Plan is what a run does.
type Plan struct {
	Seed     uint64
	Members  int
	Topology Topology
	Steps    int
	Faults   bool // power cuts and broken links
	ReadOnly bool // the last member is read-only
	Alone    bool // only the users of the first member work, and it loses no power
	Edits    bool // users edit few files, and contents are large enough for deltas
	Movers   bool // users move directories into one another
	Tenants  bool // users write into directories that others remove
	Fold     bool // the folder folds names, and users care little for case
	Filters  bool // the folder's filter changes
	Narrow   bool // the second member's disk holds short names only
	Rollback bool // servers are put back to images of before
	Morph    bool // of two directories of one name both stay
	Months   bool // months go by, members are away for long, and tombstones go
	Fast     bool // one member's clock runs far ahead
	Restores bool // operators make trees win, or take others'
	Breaker  bool // the breaker trips on a few files, and operators decide
	Rot      bool // records rot in databases, and slow syncs find them
	Rewired  bool // members become and cease to be partners
	Mixed    bool // all of the above but the last two is drawn by the seed
	Trace    bool // remember what happens
}

// Run plays a plan and returns what it counted, or the first thing that is
// wrong. The cluster is returned too, for its trace.
func Run(p Plan) (c *Cluster, err error) {
	if p.Mixed {
		p = mixed(p.Seed, p.Trace)
	}
	c = New(p.Seed, p.Members, p.Topology)
	c.silent, c.alone, c.faulty, c.restored = !p.Trace, p.Alone, p.Faults, p.Rollback
	c.restores, c.rewired = p.Restores, p.Rewired
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("seed %d: panic: %v\n%s", p.Seed, r, debug.Stack())
		}
	}()
	if p.Mixed {
		c.tracef("%+v", p)
	}
	c.furnish(&p)
	for _, m := range c.members {
		m.disk.Journal = nil
		for range c.rnd.IntN(8) {
			c.userOp(m)
		}
		m.disk.SyncAll()
	}
	for _, m := range c.members {
		if err := m.Start(); err != nil {
			return c, fmt.Errorf("seed %d: start: %w", p.Seed, err)
		}
	}
	for range p.Steps {
		if err := errors.Join(c.chance(p.Faults), c.stopped()); err != nil {
			return c, fmt.Errorf("seed %d: %w", p.Seed, err)
		}
	}
	if err := c.Rest(); err != nil {
		return c, fmt.Errorf("seed %d: %w", p.Seed, err)
	}
	if !p.Rot {
		if err := c.compareSilently(); err != nil {
			return c, fmt.Errorf("seed %d: %w", p.Seed, err)
		}
	}
	return c, nil
}

// furnish gives the members and their users what a plan says.
func (c *Cluster) furnish(p *Plan) {
	if p.Fast {
		c.members[c.rnd.IntN(len(c.members))].fast = time.Duration(1+c.rnd.IntN(2000)) * time.Hour
	}
	if p.Edits {
		c.habits, c.tail = &editors, longTail
	}
	if p.Movers {
		c.habits = &movers
	}
	if p.Tenants {
		c.habits = &tenants
	}
	c.members[p.Members-1].cfg.ReadOnly = p.ReadOnly
	for _, m := range c.members {
		m.cfg.Morph = p.Morph
		if p.Breaker {
			m.cfg.Breaker = smallBreaker
		}
	}
	if p.Rot {
		for _, m := range c.members {
			m.cfg.SlowSync = slowSyncEvery
		}
	}
	if p.Months {
		c.live(60 * 24 * time.Hour)
	}
	if p.Filters {
		more := filter.Defaults()
		more.Files, more.Directories = append(more.Files, "b"), []string{"c"}
		set, err := filter.New(more)
		if err != nil {
			panic(err)
		}
		c.filters = []*filter.Set{c.members[0].cfg.Filter, set}
	}
	if p.Narrow {
		c.names = lengths
		c.members[1].narrow(1)
	}
	if p.Fold {
		c.names = spellings
		for _, m := range c.members {
			m.cfg.Insensitive = true
		}
	}
}

// slowSyncEvery is the week of a simulated cluster.
const slowSyncEvery = 3 * time.Second

// chance lets one thing happen.
func (c *Cluster) chance(faults bool) error {
	m := c.members[c.rnd.IntN(len(c.members))]
	if m.folder == nil {
		if c.rnd.IntN(4) == 0 {
			return m.Start()
		}
		return nil
	}
	switch {
	case c.filters == nil:
	case m.cfg.Filter != c.filters[0] && c.rnd.IntN(10) == 0:
		return m.refilter(c.filters[0])
	case c.rnd.IntN(300) == 0 && c.allNormal(): // the domain's is always the first
		c.filters[0], c.filters[1] = c.filters[1], c.filters[0]
	}
	if m.cfg.Breaker.Percent > 0 && c.rnd.IntN(40) == 0 {
		m.decideOn(c.rnd.IntN(2) == 0)
	}
	if m.cfg.SlowSync > 0 && c.rnd.IntN(200) == 0 {
		return c.rotAtRest()
	}
	if c.restores && c.rnd.IntN(25) == 0 {
		return c.restore(m)
	}
	if c.restored {
		if err := c.past(m); err != nil || m.folder == nil {
			return err
		}
	}
	if faults && !c.alone && c.rnd.IntN(250) == 0 {
		c.mount(m)
	}
	c.rewires(m)
	if c.life > 0 {
		if c.rnd.IntN(60) == 0 {
			if err := m.hearDomain(); err != nil || m.folder == nil {
				return err
			}
		}
		if c.rnd.IntN(150) == 0 {
			return c.months()
		}
	}
	switch n := c.rnd.IntN(1000); {
	case n < 450:
		m.runSome()
	case n < 800:
		m.deliver()
	case n < 880:
		if !c.habits.calm || c.rnd.IntN(8) == 0 {
			c.userOp(m)
		}
	case n < 980:
		c.pass(time.Duration(c.rnd.IntN(200)) * time.Millisecond)
	case !faults:
	case n < 990:
		other := c.members[c.rnd.IntN(len(c.members))]
		c.toggle(m.index, other.index)
	case n < 995:
		m.dieAt, m.spared = 1+c.rnd.IntN(60), c.alone && m.index == 0 || c.rnd.IntN(4) == 0
	case n < 996 && !(c.alone && m.index == 0):
		m.guard(func() { m.disk.Kill(); panic(crashed{m}) })
	case n < 998:
		m.kill()
	case n < 999:
		return m.stop()
	}
	return nil
}

// narrow lets the member's disk hold names of at most n bytes.
func (m *Member) narrow(n int) {
	m.disk.NameMax = n
	m.cfg.Filter = m.cfg.Filter.Within(n)
}

func (c *Cluster) toggle(i, j int) {
	if i == j {
		return
	}
	c.Count.Cuts++
	link := [2]int{min(i, j), max(i, j)}
	c.cut[link] = !c.cut[link]
	c.connect()
}

// mount has a filesystem mounted over a directory, or what is mounted taken
// away: what lies below is neither changed nor gone (rule 20).
func (c *Cluster) mount(m *Member) {
	if len(m.mounts) > 0 {
		m.unmount()
		return
	}
	dir := c.someDirectory(m)
	if dir != "" && m.disk.User().Mount(dir) == nil {
		c.Count.Mounts++
		m.mounts = append(m.mounts, dir)
		c.tracef("m%d something is mounted over %s", m.index, dir)
	}
}

// unmount shows again what was mounted over. Nothing tells the member of it but
// a walk.
func (m *Member) unmount() {
	if len(m.mounts) == 0 {
		return
	}
	m.disk.Unmount()
	m.c.tracef("m%d nothing is mounted any more", m.index)
	m.mounts = nil
	if m.folder != nil {
		m.token++
		m.events = append(m.events, gap(m.token))
	}
}

// broken lets a listing break off now and then.
func (m *Member) broken(op, path string) error {
	if op != "list rest" || strings.HasPrefix(path, ".dfsr") || !m.inAction || !m.c.faulty || m.c.still || m.c.rnd.IntN(30) > 0 {
		return nil
	}
	m.c.Count.Listings++
	m.c.tracef("m%d the listing of %s breaks off", m.index, path)
	return syscall.EIO
}

// pass lets time go by.
func (c *Cluster) pass(d time.Duration) {
	c.now += repl.Time(d)
	for _, m := range c.members {
		if m.folder != nil {
			m.events = append(m.events, engine.Tick{})
		}
	}
}

// runSome runs one of the tasks that have something to do.
func (m *Member) runSome() bool {
	if len(m.tasks) == 0 {
		return false
	}
	first := m.c.rnd.IntN(len(m.tasks))
	for k := range m.tasks {
		i := (first + k) % len(m.tasks)
		if !m.waits(&m.tasks[i]) {
			m.runTask(i)
			return true
		}
	}
	return false
}

// deliver applies the oldest event.
func (m *Member) deliver() bool {
	if len(m.events) == 0 {
		return false
	}
	ev := m.events[0]
	m.events = m.events[1:]
	if s, ok := ev.(fmt.Stringer); ok && !m.c.silent {
		m.c.tracef("m%d %s", m.index, s)
	}
	m.step(ev)
	return true
}

// The bounds of the way to rest: rounds in all, quiet rounds in a row, each
// longer than the longest backoff of the engine, and work in one round.
const (
	maxRounds   = 400
	quietRounds = 3
	maxBusy     = 20000 // events and actions of one member in a round
)

// Rest heals everything, lets the cluster come to rest and checks it; then a
// walk of every tree must find nothing new.
func (c *Cluster) Rest() error {
	defer func() { c.still = false }()
	if err := c.heal(); err != nil {
		return err
	}
	if err := c.inform(); err != nil { // some start anew then
		return err
	}
	if err := c.settle(); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	before := c.members[0].env.Store.Vector()
	c.walkAll()
	if err := c.settle(); err != nil {
		return err
	}
	if after := c.members[0].env.Store.Vector(); !after.Equal(before) {
		return fmt.Errorf("a walk of trees at rest mints %v", after.Minus(before))
	}
	return c.check()
}

// heal sends users home, repairs everything and lets the cluster come to rest.
func (c *Cluster) heal() error {
	clear(c.cut)
	clear(c.apart)
	for _, m := range c.members {
		m.hearPartners()
		m.dieAt = 0
		if m.folder == nil {
			if err := m.Start(); err != nil {
				return fmt.Errorf("restart m%d: %w", m.index, err)
			}
		}
	}
	for _, m := range c.members {
		m.unmount()
	}
	c.still = true
	if c.filters != nil { // the last one reaches everybody
		for _, m := range c.members {
			if err := m.refilter(c.filters[0]); err != nil {
				return fmt.Errorf("refilter m%d: %w", m.index, err)
			}
		}
	}
	for _, m := range c.members {
		for len(m.open) > 0 {
			_ = m.userCloseOne()
		}
	}
	c.connect()
	if c.rotAt > 0 { // what lies on a disk and is on no record any more only a walk finds
		if err := c.settle(); err != nil {
			return err
		}
		c.walkAll()
	}
	return c.settle()
}

// walkAll has every tree walked.
func (c *Cluster) walkAll() {
	for _, m := range c.members {
		m.token++
		m.events = append(m.events, gap(m.token))
	}
}

// settle runs everything until nothing happens any more.
func (c *Cluster) settle() error {
	quiet := 0
	for round := range maxRounds {
		busy := false
		for _, m := range c.members {
			for n := 0; ; n++ {
				idle := m.idles()
				if !m.deliver() {
					if !m.runSome() {
						break
					}
					idle = slowSync(m.ran)
				}
				if busy = busy || !idle; n > maxBusy {
					return fmt.Errorf("m%d never stands still", m.index)
				}
			}
			if m.folder == nil {
				return fmt.Errorf("m%d lost power on the way to rest", m.index)
			}
			if err := c.stopped(); err != nil {
				return err
			}
		}
		for _, m := range c.members {
			if len(m.held) > 0 {
				m.decideOn(c.rnd.IntN(2) == 0)
			}
		}
		if quiet++; busy || !c.settled() {
			quiet = 0
		}
		if quiet >= quietRounds {
			return nil
		}
		c.pass(time.Duration(1+round) * time.Second)
	}
	return fmt.Errorf("no rest after %d rounds: %s", maxRounds, c.unsettled())
}

// stopped reports a member that stopped by itself: nothing that happens here is
// a reason to.
func (c *Cluster) stopped() error {
	if c.law.broken != nil {
		return c.law.broken
	}
	for _, m := range c.members {
		if m.folder != nil && m.folder.Rebuild() {
			if err := m.rebuild(); err != nil {
				return err
			}
			continue
		}
		if m.folder != nil && m.folder.Phase() == wire.PhaseStopped {
			return fmt.Errorf("m%d has stopped: %v", m.index, m.found)
		}
	}
	return nil
}

func (c *Cluster) settled() bool { return c.unsettled() == "" }

func (c *Cluster) unsettled() string {
	var text string
	for _, m := range c.members {
		if s := m.folder.Status(); !s.Settled() || delayed(&s) {
			text += fmt.Sprintf("m%d is %v, dirty %d, looking %d, later %d, in flight %d, links %+v, findings %v, last error %q\n",
				m.index, s.Phase, s.Dirty, s.Looking, s.Later, s.InFlight, s.Links, m.found, s.LastError)
		}
	}
	if text == "" && !c.compared() {
		text = "records are still to be compared"
	}
	return text
}

// delayed reports whether a member waits to ask a partner that was not ready.
func delayed(s *engine.Status) bool {
	for _, l := range s.Links {
		if l.Delayed {
			return true
		}
	}
	return false
}
