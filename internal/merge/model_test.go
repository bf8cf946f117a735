package merge

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"opendfs/internal/filter"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// The model: members with records, a vector and a toy disk. A member's user
// acts on the disk and the records at once; members exchange their updates by
// Decide, and the plan is carried out on the disk change by change, each step
// checked as an install would find it.

var (
	folder = repl.FolderID{0xf0}
	root   = repl.RootUID(folder)
)

type inode struct {
	id      int
	parent  int // 0: in the private area or gone; rootNode's own parent is -1
	name    string
	typ     repl.Type
	content repl.Hash
	meta    string
	mtime   repl.Time
}

const rootNode = 1

type member struct {
	name     string
	org      version.Originator
	next     uint64
	recs     map[repl.UID]repl.Record
	vec      version.Vector
	nodes    map[int]*inode
	lastNode int
	kept     map[repl.Hash]bool // promised: conflict or pre-existing
	readOnly bool
	initial  bool
	held     version.Vector // what the last exchange could not commit
	world    *world
}

// world is what all members and the checker see.
type world struct {
	now      repl.Time
	step     repl.Time // how much a user's act moves the clock
	contents uint64
	written  map[repl.Hash]string // who wrote a content
	settled  map[repl.Hash]bool   // a user who had it replaced or deleted it
	log      []string
	verdicts [repl.Verdicts]int
	fold     bool // names that fold to the same are one
	morph    bool // of two directories of one name both stay
}

// same reports whether two names are one.
func (w *world) same(a, b string) bool { return a == b || w.fold && filter.Fold(a) == filter.Fold(b) }

func newWorld(step repl.Time) *world {
	return &world{now: 1000, step: step, written: make(map[repl.Hash]string), settled: make(map[repl.Hash]bool)}
}

func (w *world) logf(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }

func (w *world) member(name string) *member {
	m := &member{
		name: name, org: version.Originator{name[0]}, next: 8, recs: make(map[repl.UID]repl.Record), vec: make(version.Vector),
		nodes: map[int]*inode{rootNode: {id: rootNode, parent: -1, typ: repl.Directory}}, lastNode: rootNode, kept: make(map[repl.Hash]bool), world: w,
	}
	return m
}

func (m *member) clone(w *world) *member {
	c := *m
	c.world = w
	c.recs, c.vec, c.kept, c.held = maps.Clone(m.recs), m.vec.Clone(), maps.Clone(m.kept), m.held.Clone()
	c.nodes = make(map[int]*inode, len(m.nodes))
	for id, n := range m.nodes {
		copied := *n
		c.nodes[id] = &copied
	}
	return &c
}

func (w *world) clone() *world {
	c := *w
	c.written, c.settled, c.log = maps.Clone(w.written), maps.Clone(w.settled), slices.Clone(w.log)
	return &c
}

// — the view —

func (m *member) Get(uid repl.UID) (repl.Record, bool, error) {
	r, ok := m.recs[uid]
	return r, ok, nil
}

func (m *member) canonical(uid repl.UID) repl.UID {
	for range 1000 {
		r, ok := m.recs[uid]
		if !ok || r.Heir.IsZero() {
			return uid
		}
		uid = r.Heir
	}
	panic("heirs without end")
}

func (m *member) At(dir repl.UID, name string) (repl.Record, bool, error) {
	if m.canonical(dir) != dir {
		panic("At asked for a merged directory")
	}
	for _, uid := range m.uids() {
		if r := m.recs[uid]; r.Present && m.world.same(r.Name, name) && !r.Parent.IsZero() && m.canonical(r.Parent) == dir {
			return r, true, nil
		}
	}
	return repl.Record{}, false, nil
}

func (m *member) Children(dir repl.UID, after string, fn func(*repl.Record) bool) error {
	if m.canonical(dir) != dir {
		panic("Children asked for a merged directory")
	}
	for _, r := range m.children(dir) {
		if r.Name > after && !fn(&r) {
			return nil
		}
	}
	return nil
}

func (m *member) children(dir repl.UID) []repl.Record {
	var out []repl.Record
	for _, r := range m.recs {
		if r.Present && !r.Parent.IsZero() && m.canonical(r.Parent) == dir {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b repl.Record) int { return cmp.Or(strings.Compare(a.Name, b.Name), a.UID.Compare(b.UID)) })
	return out
}

func (m *member) uids() []repl.UID {
	return slices.SortedFunc(maps.Keys(m.recs), repl.UID.Compare)
}

// — the toy disk —

func handle(id int) repl.Identity { return repl.Identity{Handle: fmt.Sprint(id)} }

func (m *member) nodeOf(i repl.Identity) *inode {
	var id int
	if _, err := fmt.Sscan(i.Handle, &id); err != nil {
		return nil
	}
	return m.nodes[id]
}

func (m *member) dirNode(uid repl.UID) *inode {
	if uid = m.canonical(uid); uid == root {
		return m.nodes[rootNode]
	}
	r := m.recs[uid]
	if !r.Present {
		return nil
	}
	return m.nodeOf(r.Identity)
}

func (m *member) lookup(parent int, name string) *inode {
	for _, n := range m.nodes {
		if n.parent == parent && m.world.same(n.name, name) {
			return n
		}
	}
	return nil
}

func (m *member) entries(parent int) []*inode {
	var out []*inode
	for _, n := range m.nodes {
		if n.parent == parent {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *inode) int { return strings.Compare(a.name, b.name) })
	return out
}

func (m *member) newNode() *inode {
	m.lastNode++
	n := &inode{id: m.lastNode}
	m.nodes[n.id] = n
	return n
}

// — a user's acts: capture's part —

func (m *member) gvsn() version.GVSN {
	m.next++
	g := version.GVSN{Originator: m.org, Version: m.next}
	m.vec.Add(g)
	return g
}

func (m *member) mint(prior *repl.Record, draft repl.Update) repl.Update {
	var p *repl.Update
	if prior != nil {
		p = &prior.Update
	}
	u := repl.Mint(m.gvsn(), m.world.now, p, draft)
	if m.initial && prior == nil {
		u.Fence = repl.FenceInitialSync
	}
	return u
}

func (m *member) put(u repl.Update, n *inode) {
	r := repl.Record{Update: u, Presence: repl.Absent, Provisional: m.initial}
	if u.Present {
		r.Presence, r.Identity = repl.OnDisk, handle(n.id)
	}
	m.recs[u.UID] = r
}

func (m *member) freshContent() repl.Hash {
	m.world.contents++
	var h repl.Hash
	h[0] = 1
	binary.BigEndian.PutUint64(h[1:], m.world.contents)
	m.world.written[h] = m.name
	return h
}

// create makes a new object, or brings a dead one of that name back.
func (m *member) create(dir repl.UID, name string, t repl.Type, again bool) {
	n := m.newNode()
	n.parent, n.name, n.typ = m.dirNode(dir).id, name, t
	draft := repl.Update{Parent: dir, Name: name, Type: t, Present: true}
	if t != repl.Directory {
		n.content = m.freshContent()
		draft.Content = n.content
	}
	var prior *repl.Record
	if again {
		for _, uid := range m.uids() {
			if r := m.recs[uid]; !r.Present && !r.NameConflict && r.Type == t && r.Name == name && m.canonical(r.Parent) == dir {
				prior = &r
			}
		}
	}
	m.put(m.mint(prior, draft), n)
}

func (m *member) edit(r repl.Record) {
	n := m.nodeOf(r.Identity)
	m.world.settled[n.content] = true
	n.content = m.freshContent()
	draft := r.Update
	draft.Content = n.content
	m.put(m.mint(&r, draft), n)
}

func (m *member) chmod(r repl.Record) {
	n := m.nodeOf(r.Identity)
	n.meta = fmt.Sprintf("%s%d", m.name, m.next)
	draft := r.Update
	draft.Meta = []byte(n.meta)
	m.put(m.mint(&r, draft), n)
}

// remove deletes an object and all in it.
func (m *member) remove(r repl.Record) {
	if r.Type == repl.Directory {
		for _, c := range m.children(r.UID) {
			m.remove(c)
		}
	}
	n := m.nodeOf(r.Identity)
	m.world.settled[n.content] = true
	delete(m.nodes, n.id)
	m.put(m.mint(&r, *tombstone(&r.Update)), nil)
}

func (m *member) rename(r repl.Record, dir repl.UID, name string) {
	n := m.nodeOf(r.Identity)
	n.parent, n.name = m.dirNode(dir).id, name
	draft := r.Update
	draft.Parent, draft.Name = dir, name
	m.put(m.mint(&r, draft), n)
}

func (m *member) swap(a, b repl.Record) {
	ap, bp := a.Update, b.Update
	m.rename(a, m.canonical(bp.Parent), bp.Name)
	m.rename(b, m.canonical(ap.Parent), ap.Name)
}

// renameOver is rule 12: the target lives on with the source's content.
func (m *member) renameOver(source, target repl.Record) {
	s, t := m.nodeOf(source.Identity), m.nodeOf(target.Identity)
	m.world.settled[t.content] = true
	delete(m.nodes, t.id)
	s.parent, s.name, s.mtime, s.meta = t.parent, t.name, target.Mtime, string(target.Meta)
	draft := target.Update
	draft.Content = s.content
	m.put(m.mint(&target, draft), s)
	m.put(m.mint(&source, *tombstone(&source.Update)), nil)
}

// — exchange —

// snapshot is what a partner serves: vector and records of one moment.
type snapshot struct {
	name string
	vec  version.Vector
	recs map[repl.UID]repl.Record
}

func (m *member) snapshot() snapshot {
	recs := maps.Clone(m.recs)
	vec := m.vec.Clone()
	maps.DeleteFunc(recs, func(_ repl.UID, r repl.Record) bool { return r.Provisional })
	if m.initial {
		delete(vec, m.org)
	}
	return snapshot{m.name, vec, recs}
}

// delivery says how a diff is brought.
type delivery struct {
	reverse bool
	shuffle uint64
	size    int
}

// pull takes a partner's diff in and joins its vector.
func (m *member) pull(s snapshot, how delivery) error {
	var diff []repl.Update
	for _, r := range s.recs {
		if !m.vec.Contains(r.GVSN) {
			diff = append(diff, r.Update)
		}
	}
	slices.SortFunc(diff, func(a, b repl.Update) int {
		c := cmp.Compare(mix(a.GVSN, how.shuffle), mix(b.GVSN, how.shuffle))
		if how.shuffle == 0 || c == 0 {
			c = a.GVSN.Compare(b.GVSN)
		}
		if how.reverse {
			return -c
		}
		return c
	})
	m.world.logf("%s pulls from %s: %d updates", m.name, s.name, len(diff))
	m.held = make(version.Vector)
	size := how.size
	if size == 0 {
		size = max(1, len(diff))
	}
	for batch := range slices.Chunk(diff, size) {
		if err := m.take(s, batch); err != nil {
			return err
		}
	}
	m.vec = m.vec.Union(s.vec.Minus(m.held))
	return nil
}

func mix(g version.GVSN, seed uint64) uint64 {
	h := (g.Version ^ uint64(g.Originator[0])<<32 ^ seed) * 0x9e3779b97f4a7c15
	return h ^ h>>29
}

// take brings one batch to its end, asking for what it needs.
func (m *member) take(s snapshot, batch []repl.Update) error {
	answers := make(map[repl.UID]bool)
	for round := 0; ; round++ {
		opts := Options{Folder: folder, ReadOnly: m.readOnly, InitialSync: m.initial, Asked: answers, Fold: m.world.fold, Morph: m.world.morph}
		if err := plainIsWhole(m, batch, s.vec, opts); err != nil {
			return err
		}
		plan, err := Decide(m, batch, s.vec, opts)
		if err != nil {
			return err
		}
		if len(plan.Bad) > 0 {
			return fmt.Errorf("%s refuses %w", m.name, plan.Bad[0])
		}
		if err := m.account(batch, &plan); err != nil {
			return err
		}
		if err := m.carryOut(&plan, s); err != nil {
			return err
		}
		if len(plan.Need) == 0 {
			if len(plan.Waiting) > 0 && len(plan.Parked) == 0 {
				return fmt.Errorf("%s: %d updates wait for nothing: %v", m.name, len(plan.Waiting), show(&plan.Waiting[0]))
			}
			if len(plan.Parked) > 0 && !m.readOnly && !m.initial {
				return fmt.Errorf("%s parks %v: %s", m.name, plan.Parked[0].GVSN, plan.Parked[0].Why)
			}
			for i := range plan.Waiting {
				m.hold(&plan.Waiting[i])
			}
			return nil
		}
		if round > 40 {
			return fmt.Errorf("%s asks without end: %v", m.name, plan.Need)
		}
		next := slices.Clone(plan.Waiting)
		for _, uid := range plan.Need {
			if answers[uid] {
				return fmt.Errorf("%s asks twice for %v", m.name, uid)
			}
			answers[uid] = true
			r, ok := s.recs[uid]
			m.world.logf("  asks for %s: %s", short(uid), show(&r.Update))
			if ok {
				next = append(next, r.Update)
			}
		}
		batch = next
	}
}

// hold keeps an update out of the vector with every version of its object that
// it replaced and that this member does not have: one of them may be another
// partner's record, and is no more known here than the update itself (rule 1).
func (m *member) hold(u *repl.Update) {
	mine := m.recs[u.UID]
	for _, g := range u.History.With(u.GVSN) {
		var low uint64
		if g.Originator == u.UID.Originator {
			low = u.UID.Version - 1
		}
		for _, h := range mine.History.With(mine.GVSN) {
			if h.Originator == g.Originator {
				low = h.Version
			}
		}
		m.held.AddInterval(g.Originator, version.Interval{Low: low, High: g.Version})
	}
}

// account checks that the plan tells of every update exactly once.
func (m *member) account(batch []repl.Update, plan *repl.Plan) error {
	fate := make(map[version.GVSN]int)
	for _, g := range plan.Known {
		fate[g] |= 1
	}
	for i := range plan.Changes {
		for _, g := range plan.Changes[i].Settles() {
			fate[g] |= 2
		}
	}
	for i := range plan.Waiting {
		fate[plan.Waiting[i].GVSN] |= 4
	}
	for i := range batch {
		if f := fate[batch[i].GVSN]; f == 0 || f&4 != 0 && f != 4 {
			return fmt.Errorf("%s: fate %d of %s", m.name, f, show(&batch[i]))
		}
	}
	return nil
}

func (m *member) carryOut(plan *repl.Plan, s snapshot) error {
	started := make(map[int]bool)
	for i := range plan.Changes {
		c := &plan.Changes[i]
		if c.Group != 0 && started[c.Group] && plan.Changes[i-1].Group != c.Group {
			return fmt.Errorf("%s: group %d is torn: %s", m.name, c.Group, showChange(c))
		}
		if c.Group != 0 && !started[c.Group] {
			started[c.Group] = true
			for j := range plan.Changes {
				if o := &plan.Changes[j]; o.Group == c.Group && o.ViaPrivate {
					n := m.nodeOf(o.Object.Identity)
					if err := m.liesAt(n, o.From); err != nil {
						return fmt.Errorf("%s vacates for %s: %w", m.name, showChange(o), err)
					}
					n.parent, n.name = 0, fmt.Sprint("private", n.id)
				}
			}
		}
		if c.ViaPrivate && c.Group == 0 {
			return fmt.Errorf("%s: via private without a group: %s", m.name, showChange(c))
		}
		m.world.logf("  %s", showChange(c))
		m.world.verdicts[c.Verdict]++
		if err := m.do(c, s); err != nil {
			return fmt.Errorf("%s carries out %s: %w", m.name, showChange(c), err)
		}
	}
	return nil
}

func (m *member) liesAt(n *inode, p repl.Place) error {
	dir := m.dirNode(p.Dir)
	if n == nil || dir == nil || n.parent != dir.id || n.name != p.Name {
		return fmt.Errorf("the object does not lie at %s/%s", short(p.Dir), p.Name)
	}
	return nil
}

// do carries out one change on the disk, then stores its record.
func (m *member) do(c *repl.Change, s snapshot) error {
	if was := m.recs[c.Update.UID]; was.GVSN != c.Base() {
		return fmt.Errorf("the record is at %v, the verdict was made on %v", was.GVSN, c.Base())
	}
	if c.Mint && (m.readOnly || m.initial) {
		return fmt.Errorf("this member mints nothing")
	}
	if c.Content && !c.Mint {
		if r := s.recs[c.Update.UID]; r.GVSN != c.Update.GVSN {
			return fmt.Errorf("the partner has no content of it")
		}
	}
	n, err := m.doDisk(c)
	if err != nil {
		return err
	}
	if c.Drop {
		delete(m.recs, c.Update.UID)
		return nil
	}
	u := c.Update
	if c.Mint {
		u = c.Minted(m.gvsn(), m.world.now)
	}
	rec := repl.Record{Update: u, Presence: repl.Absent}
	rec.Provisional = c.Was.Provisional && u.GVSN == c.Was.GVSN
	if u.Present {
		rec.Presence, rec.Identity = repl.OnDisk, handle(n.id)
	}
	m.recs[u.UID] = rec
	return nil
}

func (m *member) doDisk(c *repl.Change) (*inode, error) {
	var n *inode
	if !c.From.IsZero() {
		n = m.nodeOf(c.Object.Identity)
		if n == nil {
			return nil, fmt.Errorf("no object")
		}
		if c.ViaPrivate {
			if n.parent != 0 {
				return nil, fmt.Errorf("not in the private area")
			}
		} else if err := m.liesAt(n, c.From); err != nil {
			return nil, err
		}
	}
	if c.To.IsZero() {
		return nil, m.discard(n, c)
	}
	if n == nil {
		n = m.newNode()
		n.parent, n.typ = -2, c.Update.Type
		if !c.Meta || n.typ != repl.Directory && !c.Content {
			return nil, fmt.Errorf("a new object without content or metadata")
		}
	}
	if n.typ != c.Update.Type {
		return nil, fmt.Errorf("a %v of a %v", c.Update.Type, n.typ)
	}
	dir := m.dirNode(c.To.Dir)
	if dir == nil || m.canonical(c.To.Dir) != c.To.Dir {
		return nil, fmt.Errorf("no directory %s", short(c.To.Dir))
	}
	if there := m.lookup(dir.id, c.To.Name); there != nil && there != n {
		return nil, fmt.Errorf("the place is taken")
	}
	for up := dir; up.id != rootNode; up = m.nodes[up.parent] {
		if up == n {
			return nil, fmt.Errorf("into itself")
		}
		if up.parent == 0 {
			break // in the private area
		}
	}
	n.parent, n.name = dir.id, c.To.Name
	if c.Content {
		m.keep(n.content, c.Keep)
		n.content = c.Update.Content
	}
	if n.content != c.Update.Content {
		return nil, fmt.Errorf("the content is not what the record says")
	}
	if c.Meta {
		n.meta, n.mtime = string(c.Update.Meta), c.Update.Mtime
	}
	if n.meta != string(c.Update.Meta) || n.mtime != c.Update.Mtime {
		return nil, fmt.Errorf("the metadata are not what the record says")
	}
	return n, nil
}

// discard takes an object out of the tree; a directory only when it is empty,
// unless it is kept as a whole.
func (m *member) discard(n *inode, c *repl.Change) error {
	if n == nil {
		return nil
	}
	for _, below := range m.entries(n.id) {
		if c.Keep == repl.KeepNothing || c.Keep == repl.KeepDeleted {
			return fmt.Errorf("the directory is not empty: %s", below.name)
		}
		if err := m.discard(below, c); err != nil {
			return err
		}
	}
	m.keep(n.content, c.Keep)
	delete(m.nodes, n.id)
	return nil
}

func (m *member) keep(h repl.Hash, k repl.Keep) {
	if !h.IsZero() && (k == repl.KeepConflict || k == repl.KeepPreExisting) {
		m.kept[h] = true
	}
}

// endInitialSync drops what only this member had.
func (m *member) endInitialSync() {
	for _, uid := range m.uids() {
		r := m.recs[uid]
		if !r.Provisional {
			continue
		}
		if n := m.nodeOf(r.Identity); r.Present && n != nil {
			m.keep(n.content, repl.KeepPreExisting)
			delete(m.nodes, n.id)
		}
		delete(m.recs, uid)
	}
	m.initial = false
}

// — the checkers —

// sound checks one member by itself: rules 7, 8, 11, one object a place, no
// ring, and the disk.
func (m *member) sound() error {
	places := make(map[repl.Place]repl.UID)
	seen := map[int]bool{rootNode: true}
	for _, uid := range m.uids() {
		r := m.recs[uid]
		if r.Present && r.NameConflict || !r.Heir.IsZero() && r.Present {
			return fmt.Errorf("%s: live loser %s", m.name, show(&r.Update))
		}
		if !r.Present {
			continue
		}
		up := uid
		for range len(m.recs) + 1 {
			if up == root {
				break
			}
			p, ok := m.recs[up]
			if !ok || !p.Present {
				return fmt.Errorf("%s: %s hangs on a dead directory %s", m.name, show(&r.Update), short(up))
			}
			up = m.canonical(p.Parent)
		}
		if up != root {
			return fmt.Errorf("%s: %s is in a ring", m.name, show(&r.Update))
		}
		p := repl.Place{Dir: m.canonical(r.Parent), Name: r.Name}
		key := repl.Place{Dir: p.Dir, Name: filter.Folder(m.world.fold)(p.Name)}
		if other, ok := places[key]; ok {
			return fmt.Errorf("%s: %s and %s at one place", m.name, short(other), short(uid))
		}
		places[key] = uid
		n := m.nodeOf(r.Identity)
		if err := m.liesAt(n, p); err != nil {
			return fmt.Errorf("%s: %s: %w", m.name, show(&r.Update), err)
		}
		if n.content != r.Content || n.meta != string(r.Meta) || n.typ != r.Type {
			return fmt.Errorf("%s: the disk differs from %s", m.name, show(&r.Update))
		}
		seen[n.id] = true
	}
	for id, n := range m.nodes {
		if !seen[id] {
			return fmt.Errorf("%s: %q on disk has no record", m.name, n.name)
		}
	}
	return nil
}

// vectorSound is rule 1.
func vectorSound(members ...*member) error {
	for _, m := range members {
		for _, o := range members {
			for uid, r := range o.recs {
				mine, ok := m.recs[uid]
				if r.Provisional || !m.vec.Contains(r.GVSN) {
					continue
				}
				if !ok || repl.Compare(&mine.Update, &r.Update) < 0 {
					return fmt.Errorf("%s claims to know %s and has %s", m.name, show(&r.Update), show(&mine.Update))
				}
			}
		}
	}
	return nil
}

// atRest checks that members are equal and nothing was lost.
func (w *world) atRest(members ...*member) error {
	first := members[0]
	for _, m := range members {
		if err := m.sound(); err != nil {
			return err
		}
		if !m.vec.Equal(first.vec) {
			return fmt.Errorf("vectors of %s and %s differ: %v, %v", first.name, m.name, first.vec, m.vec)
		}
		if len(m.recs) != len(first.recs) {
			return fmt.Errorf("%s has %d records, %s %d", first.name, len(first.recs), m.name, len(m.recs))
		}
		for uid, r := range m.recs {
			if o := first.recs[uid]; !sameUpdate(&o.Update, &r.Update) {
				return fmt.Errorf("%s has %s, %s has %s", first.name, show(&o.Update), m.name, show(&r.Update))
			}
		}
	}
	if err := vectorSound(members...); err != nil {
		return err
	}
	live := make(map[repl.Hash]bool)
	for _, r := range first.recs {
		if r.Present {
			live[r.Content] = true
		}
	}
	for h, who := range w.written {
		kept := live[h] || w.settled[h]
		for _, m := range members {
			kept = kept || m.kept[h]
		}
		if !kept {
			return fmt.Errorf("content %x of %s is lost", h[1:9], who)
		}
	}
	return nil
}

// exchange lets all members pull from all others, in turn or all at once, until
// nothing is new.
func exchange(together bool, how delivery, members ...*member) error {
	for round := 0; ; round++ {
		if round > 12 {
			return fmt.Errorf("no rest after %d rounds", round)
		}
		before := make([]version.Vector, len(members))
		shots := make([]snapshot, len(members))
		for i, m := range members {
			before[i], shots[i] = m.vec.Clone(), m.snapshot()
		}
		for i, m := range members {
			for j := range members {
				if i == j {
					continue
				}
				s := shots[j]
				if !together {
					s = members[j].snapshot()
				}
				if err := m.pull(s, how); err != nil {
					return err
				}
				if err := m.sound(); err != nil {
					return fmt.Errorf("after pulling from %s: %w", s.name, err)
				}
				if err := vectorSound(members...); err != nil {
					return err
				}
			}
		}
		rest := true
		for i, m := range members {
			rest = rest && m.vec.Equal(before[i])
		}
		if rest {
			return nil
		}
	}
}

// — showing —

func short(u repl.UID) string {
	if u == root {
		return "root"
	}
	return fmt.Sprintf("%s%d", bytes.TrimRight(u.Originator[:1], "\x00"), u.Version)
}

func show(u *repl.Update) string {
	if u.UID.IsZero() {
		return "nothing"
	}
	s := fmt.Sprintf("%s@%s %s/%s %v", short(u.UID), short(repl.UID(u.GVSN)), short(u.Parent), u.Name, u.Type)
	if !u.Present {
		s += " dead"
	}
	if u.NameConflict {
		s += " name-conflict"
	}
	if !u.Heir.IsZero() {
		s += " heir " + short(u.Heir)
	}
	if !u.Content.IsZero() {
		s += fmt.Sprintf(" c%d", binary.BigEndian.Uint64(u.Content[1:]))
	}
	return fmt.Sprintf("%s created %d clock %d", s, u.CreateTime, u.Clock)
}

func showChange(c *repl.Change) string {
	s := fmt.Sprintf("%v %s", c.Verdict, show(&c.Update))
	if c.Mint {
		s += " minted"
	}
	if c.Drop {
		s += " dropped"
	}
	if !c.From.IsZero() {
		s += fmt.Sprintf(" from %s/%s", short(c.From.Dir), c.From.Name)
	}
	if !c.To.IsZero() {
		s += fmt.Sprintf(" to %s/%s", short(c.To.Dir), c.To.Name)
	}
	if c.Object.UID != c.Update.UID && !c.Object.UID.IsZero() {
		s += " taking " + short(c.Object.UID)
	}
	return fmt.Sprintf("%s content %v meta %v keep %v private %v group %d", s, c.Content, c.Meta, c.Keep, c.ViaPrivate, c.Group)
}
