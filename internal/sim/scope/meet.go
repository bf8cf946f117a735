package scope

import (
	"fmt"
	"slices"

	"opendfs/internal/merge"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// Delivery is the way a diff comes.
type Delivery struct {
	// Order puts updates at their places: by GVSN if it is nil, else the first is
	// the one with the index Order[0], and so on; Order is as long as the diff.
	Order   []int
	Reverse bool
	// Piece is how many updates come at once; 0: all.
	Piece int
	// Cut is how many pieces come before the connection is lost; 0: it is not.
	Cut int
}

// Snapshot is what a member serves at one moment.
type Snapshot struct {
	name   byte
	vector version.Vector
	recs   []repl.Record
}

// Snapshot takes one; later changes of the member do not show in it.
func (m *Member) Snapshot() Snapshot {
	return Snapshot{m.name, m.vector.Clone(), slices.Clone(m.recs)}
}

func (s *Snapshot) record(uid repl.UID) *repl.Record {
	for i := range s.recs {
		if s.recs[i].UID == uid {
			return &s.recs[i]
		}
	}
	return nil
}

// Missing lists what a partner has and the member lacks, by GVSN.
func (m *Member) missing(s *Snapshot) []repl.Update {
	var diff []repl.Update
	for i := range s.recs {
		if g := s.recs[i].GVSN; s.vector.Contains(g) && !m.vector.Contains(g) {
			diff = append(diff, s.recs[i].Update)
		}
	}
	slices.SortFunc(diff, func(a, b repl.Update) int { return a.GVSN.Compare(b.GVSN) })
	return diff
}

// pull is one diff under way.
type pull struct {
	*Member
	from  *Snapshot
	asked map[repl.UID]bool
	held  version.Vector
}

// Pull takes a partner's diff in and joins its vector.
func (m *Member) Pull(s *Snapshot, how Delivery) error {
	diff := m.missing(s)
	if len(diff) == 0 && m.vector.Covers(s.vector) {
		return nil
	}
	m.logf("pulls %d updates from %c", len(diff), s.name)
	switch {
	case how.Order != nil && len(how.Order) == len(diff):
		sorted := diff
		diff = make([]repl.Update, len(sorted))
		for i, n := range how.Order {
			diff[i] = sorted[n]
		}
	case how.Reverse:
		slices.Reverse(diff)
	}
	p := &pull{m, s, make(map[repl.UID]bool), make(version.Vector)}
	size := how.Piece
	if size == 0 {
		size = max(1, len(diff))
	}
	pieces := 0
	for piece := range slices.Chunk(diff, size) {
		if err := p.take(piece); err != nil {
			return err
		}
		if pieces++; pieces == how.Cut {
			return nil
		}
	}
	m.vector = m.vector.Union(s.vector.Minus(p.held))
	return nil
}

// maxRounds is how often the engine asks for one page.
const maxRounds = 8

// take brings one piece to its end, asking for what it needs.
func (p *pull) take(batch []repl.Update) error {
	for round := 0; ; round++ {
		plan, err := merge.Decide(p.Member, batch, p.from.vector, merge.Options{
			Folder: folderID, Asked: p.asked, Vector: p.vector, Own: p.own, Fold: p.law.Fold, Morph: p.law.Morph,
		})
		if err != nil {
			return err
		}
		if len(plan.Bad) > 0 {
			return fmt.Errorf("%c refuses %w", p.name, plan.Bad[0])
		}
		if len(plan.Parked) > 0 {
			return fmt.Errorf("%c parks %v: %s", p.name, plan.Parked[0].GVSN, plan.Parked[0].Why)
		}
		if err := p.account(batch, &plan); err != nil {
			return err
		}
		if err := p.carryOut(&plan); err != nil {
			return err
		}
		if len(plan.Need) == 0 || round >= maxRounds {
			for i := range plan.Waiting {
				p.hold(&plan.Waiting[i])
			}
			return nil
		}
		next := make([]repl.Update, 0, len(plan.Need)+len(plan.Waiting))
		for _, uid := range plan.Need {
			if p.asked[uid] {
				return fmt.Errorf("%c asks twice for %s", p.name, short(uid))
			}
			p.asked[uid] = true
			r := p.from.record(uid)
			if p.log != nil {
				p.logf("  asks for %s", short(uid))
			}
			if r != nil {
				next = append(next, r.Update)
			}
		}
		batch = append(next, plan.Waiting...)
	}
}

// hold keeps an update out of the vector, with what it replaced and this member
// does not have (rule 1), as the engine does.
func (p *pull) hold(u *repl.Update) {
	if p.log != nil {
		p.logf("  holds %s", show(u))
	}
	p.held.Add(u.GVSN)
	var mine repl.History
	if r := p.record(u.UID); r != nil {
		mine = r.History.With(r.GVSN)
	}
	for _, g := range u.History {
		var low uint64
		if g.Originator == u.UID.Originator {
			low = u.UID.Version - 1
		}
		for _, h := range mine {
			if h.Originator == g.Originator {
				low = max(low, h.Version)
			}
		}
		p.held.AddInterval(g.Originator, version.Interval{Low: low, High: g.Version})
	}
}

// account checks that a plan tells of every update exactly once.
func (p *pull) account(batch []repl.Update, plan *repl.Plan) error {
	for i := range batch {
		g := batch[i].GVSN
		known, waits, settled := slices.Contains(plan.Known, g), false, false
		for j := range plan.Waiting {
			waits = waits || plan.Waiting[j].GVSN == g
		}
		for j := range plan.Changes {
			c := &plan.Changes[j]
			settled = settled || !c.Mint && !c.Drop && c.Update.GVSN == g && g != c.Was.GVSN
			for k := range c.Also {
				settled = settled || c.Also[k].GVSN == g
			}
		}
		if !known && !settled && !waits || waits && (known || settled) {
			return fmt.Errorf("%c: known %v, settled %v, waits %v: %s", p.name, known, settled, waits, show(&batch[i]))
		}
	}
	return nil
}

// carryOut does what a plan says, one change after the other. A group vacates
// its places first.
func (p *pull) carryOut(plan *repl.Plan) error {
	group, open := 0, untilMerged(p.Member, plan.Changes)
	for i := range plan.Changes {
		c := &plan.Changes[i]
		if c.Group != 0 && c.Group != group {
			for j := range plan.Changes {
				if o := &plan.Changes[j]; o.Group == c.Group && o.ViaPrivate {
					n := number(o.Object.Identity)
					if err := p.liesAt(n, o.From); err != nil {
						return fmt.Errorf("%c vacates for %s: %w", p.name, showChange(o), err)
					}
					p.tree.objects[n].parent = private
				}
			}
		}
		group = c.Group
		if p.log != nil {
			p.logf("  %s", showChange(c))
		}
		if p.seen != nil {
			p.seen.Verdicts[c.Verdict]++
			if c.Was.Present && c.From.Dir == c.To.Dir && c.From.Name != c.To.Name && p.law.same(c.From.Name, c.To.Name) {
				p.seen.Respelt++
			}
		}
		if err := p.install(c); err != nil {
			return fmt.Errorf("%c carries out %s: %w", p.name, showChange(c), err)
		}
		if i >= open && (c.Group == 0 || i+1 == len(plan.Changes) || plan.Changes[i+1].Group != c.Group) {
			if err := p.sound(); err != nil {
				return fmt.Errorf("%c after %s: %w", p.name, showChange(c), err)
			}
		}
	}
	return nil
}

// untilMerged is the last of the changes that empty a directory because it is
// merged into another: the engine stores them together with all before.
func untilMerged(m *Member, changes []repl.Change) int {
	last, emptied := 0, false
	for i := range changes {
		c := &changes[i]
		merged := !c.Update.Heir.IsZero() && !c.From.IsZero() && c.To.IsZero()
		emptied = emptied || merged
		if merged || !c.To.IsZero() && c.Update.Parent != c.To.Dir && m.canonical(c.Update.Parent) != c.To.Dir {
			last = i
		}
	}
	if !emptied {
		return 0
	}
	return last
}

// install carries out one change on the tree and stores its record.
func (p *pull) install(c *repl.Change) error {
	was := p.record(c.Update.UID)
	if was == nil && !c.Base().IsZero() || was != nil && was.GVSN != c.Base() {
		return fmt.Errorf("the verdict was made on another record (rule 16)")
	}
	if c.Content && !c.Mint {
		if r := p.from.record(c.Update.UID); r == nil || r.GVSN != c.Update.GVSN {
			return fmt.Errorf("the partner has no content of it")
		}
	}
	u := c.Update
	if c.Mint {
		if u.Present && len(u.Meta) == 0 { // as the engine clothes what it revives
			c.Update.Meta, c.Update.Mtime = tables.meta[dirMode], 1
		}
		u = c.Minted(p.gvsn(), p.clock.now(p.acts))
		p.minted++
	}
	if err := lawful(c, &u); err != nil {
		return err
	}
	rec := repl.Record{Update: u, Presence: repl.Absent}
	n, err := p.lay(c, &u)
	if err != nil {
		return err
	}
	if u.Present {
		st := p.tree.stat(n)
		rec.Presence, rec.Identity, rec.Print = repl.OnDisk, st.Identity, st.Print
	}
	p.put(rec)
	return nil
}

// lawful checks what must hold of every record that replaces another.
func lawful(c *repl.Change, u *repl.Update) error {
	before := make([]*repl.Update, 0, 4)
	if !c.Was.GVSN.IsZero() && u.GVSN != c.Was.GVSN {
		before = append(before, &c.Was.Update)
	}
	for i := range c.Also {
		before = append(before, &c.Also[i])
	}
	for _, b := range before {
		switch {
		case repl.Compare(u, b) <= 0:
			return fmt.Errorf("it is not greater than %s (rules 5 and 6)", show(b))
		case u.UID != b.UID || u.Type != b.Type || u.CreateTime != b.CreateTime && u.UID != rootUID:
			return fmt.Errorf("it is not the object of %s (rule 7)", show(b))
		case b.NameConflict && !u.NameConflict:
			return fmt.Errorf("it lost its name and comes back (rule 7)")
		case u.Fence < b.Fence:
			return fmt.Errorf("its fence sinks (rule 6)")
		case c.Mint && !u.Saw(b.GVSN):
			return fmt.Errorf("its author had %s and does not say so (rule 10)", show(b))
		}
	}
	replaces := c.Object.Present && c.Object.Type != repl.Directory && !c.From.IsZero() && (c.To.IsZero() || c.Content)
	same := u.Present && c.Object.Content == u.Content
	seen := c.Object.UID == u.UID && (u.Saw(c.Object.GVSN) || slices.ContainsFunc(c.Also, func(a repl.Update) bool { return a.Saw(c.Object.GVSN) }))
	if replaces && !same && !seen && c.Keep != repl.KeepConflict && !u.NameConflict {
		return fmt.Errorf("what its author had not seen is not kept (rule 10)")
	}
	if u.Heir == u.UID && !u.UID.IsZero() {
		return fmt.Errorf("it is its own heir (rule 8)")
	}
	return nil
}

func (p *pull) liesAt(n int16, at repl.Place) error {
	dir, ok := p.dirAt(at.Dir)
	if !ok || n < 0 || int(n) >= len(p.tree.objects) || p.tree.objects[n].parent != dir || p.tree.objects[n].name != at.Name {
		return fmt.Errorf("the object does not lie at %s/%s", short(at.Dir), at.Name)
	}
	return nil
}

// dirAt is the object of a live directory.
func (p *pull) dirAt(uid repl.UID) (int16, bool) {
	if uid = p.canonical(uid); uid == rootUID {
		return 0, true
	}
	r := p.record(uid)
	if r == nil || !r.Present {
		return gone, false
	}
	return number(r.Identity), true
}

// lay brings the object of a change to its place, or out of the tree.
func (p *pull) lay(c *repl.Change, u *repl.Update) (int16, error) {
	if u.UID == rootUID {
		return 0, nil
	}
	t := &p.tree
	n := gone
	if !c.From.IsZero() {
		n = number(c.Object.Identity)
		if c.ViaPrivate {
			if t.objects[n].parent != private {
				return n, fmt.Errorf("not in the private area")
			}
		} else if err := p.liesAt(n, c.From); err != nil {
			return n, err
		}
	}
	if c.To.IsZero() {
		return n, p.discard(n, c)
	}
	dir, ok := p.dirAt(c.To.Dir)
	if !ok || p.canonical(c.To.Dir) != c.To.Dir {
		return n, fmt.Errorf("no directory %s", short(c.To.Dir))
	}
	if there := t.spelt(dir, c.To.Name, p.law); there != gone && there != n {
		return n, fmt.Errorf("the place is taken")
	}
	if n == gone {
		if !c.Meta || u.Type != repl.Directory && !c.Content {
			return n, fmt.Errorf("a new object without content or metadata")
		}
		n = t.add(dir, c.To.Name, u.Type, 0)
	} else if c.Content && t.objects[n].kind != repl.Directory {
		p.keep(n, c.Keep)
	}
	if t.within(dir, n) {
		return n, fmt.Errorf("into itself")
	}
	return n, p.fit(n, dir, c, u)
}

// fit gives an object place, content and metadata, and checks that these are
// all that differed.
func (p *pull) fit(n, dir int16, c *repl.Change, u *repl.Update) error {
	o := &p.tree.objects[n]
	if o.kind != u.Type {
		return fmt.Errorf("a %v of a %v", u.Type, o.kind)
	}
	o.parent, o.name, o.ctime = dir, c.To.Name, p.tree.tick()
	if c.Content && o.kind != repl.Directory {
		o.content = tables.number[u.Content]
	}
	if c.Meta {
		o.mode, o.mtime = u.Meta[0], u.Mtime
	}
	if o.kind != repl.Directory && tables.hash[o.content] != u.Content || o.mode != u.Meta[0] || o.mtime != u.Mtime {
		return fmt.Errorf("the object is not what the record says")
	}
	return nil
}

// discard takes an object out of the tree. A directory goes empty.
func (p *pull) discard(n int16, c *repl.Change) (err error) {
	if n == gone {
		return nil
	}
	p.tree.entries(n, func(_ int16, o *object) {
		if err == nil {
			err = fmt.Errorf("the directory still has %s (rule 21)", o.name)
		}
	})
	p.keep(n, c.Keep)
	p.tree.objects[n].parent = gone
	return err
}

func (p *pull) keep(n int16, how repl.Keep) {
	if o := &p.tree.objects[n]; how == repl.KeepConflict && o.kind != repl.Directory {
		p.kept.add(o.content)
	}
}
