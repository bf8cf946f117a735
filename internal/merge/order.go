package merge

import (
	"iter"

	"opendfs/internal/repl"
)

// rank is the order of changes that do not wait for one another.
type rank uint8

const (
	rankMove rank = iota
	rankCreate
	rankAlter
	rankRemove
	ranks
)

func rankOf(c *repl.Change) rank {
	switch {
	case c.To.IsZero() && c.Update.UID != c.Object.UID, c.To.IsZero() && !c.From.IsZero(), !c.Update.Present:
		return rankRemove
	case c.From.IsZero() && !c.To.IsZero():
		return rankCreate
	case c.From != c.To:
		return rankMove
	}
	return rankAlter
}

// wait says that one change is carried out after another.
type wait struct {
	on int
	// place: because of the place that the other leaves; sending that one
	// through the private area ends the wait.
	place bool
}

// node is a change in the order that is being made.
type node struct {
	waits    []wait
	waiters  []wait // on is the waiter
	open     int    // waits that are not over
	done     bool
	released bool // goes through the private area
	group    int  // the node that stands for its group
}

// arranger puts changes in an order in which they can be carried out one by
// one.
type arranger struct {
	d       *decider
	changes []repl.Change
	nodes   []node
	queue   [ranks][]int // ready, by rank
	near    []int        // ready and of the group that was just begun
	group   int
	out     []int
}

// arrange orders the changes of a plan: what a directory becomes before what
// comes to lie in it, what leaves a place before what takes it, and what leaves
// a directory before the directory goes; else moves, creations, alterations,
// removals. A ring of places is opened by sending one object through the
// private area.
func (d *decider) arrange(changes []repl.Change) []repl.Change {
	if len(changes) < 2 {
		return changes
	}
	a := &arranger{d: d, changes: changes, nodes: make([]node, len(changes)), group: -1}
	for i := range a.nodes {
		a.nodes[i].group = i
	}
	a.link()
	a.linkMerged()
	for i := range a.nodes {
		if a.nodes[i].open == 0 {
			a.ready(i)
		}
	}
	for stuck := 0; len(a.out) < len(changes); {
		if i, ok := a.next(); ok {
			a.emit(i)
			continue
		}
		for a.nodes[stuck].done {
			stuck++
		}
		if !a.open(stuck) {
			d.knotted = true
			return nil
		}
	}
	return a.result()
}

// link finds what waits for what.
func (a *arranger) link() {
	dirs := make(map[repl.UID]int)                // directories that are made or moved
	left := make(map[repl.Place]int)              // places that are left, their names folded
	removed := make(map[repl.UID]int)             // directories whose UID is no longer one on disk, or on record
	owner := make(map[repl.UID]int)               // the change of a record whose object another change takes over
	fresh, moves := make(map[repl.UID]int), false // merged directories that had no live record, and dead ones that had none; one moves, with all that is in it
	for i := range a.changes {
		c := &a.changes[i]
		if c.Update.Type == repl.Directory && !c.To.IsZero() {
			dirs[c.Update.UID] = i
			moves = moves || !c.From.IsZero() && c.From != c.To
		}
		if !c.From.IsZero() && c.From != c.To {
			left[a.d.claimed(c.From.Dir, c.From.Name)] = i
			if c.To.IsZero() && c.Object.Type == repl.Directory {
				removed[c.Object.UID] = i
			}
		}
		if inside(c) && c.Was.Type == repl.Directory {
			removed[c.Was.UID] = i
		}
		if !c.Update.Heir.IsZero() && !c.Was.Present || c.Update.Type == repl.Directory && !c.Update.Present && c.Was.GVSN.IsZero() {
			fresh[c.Update.UID] = i
		}
		if c.From.IsZero() && c.To.IsZero() && a.d.load(c.Update.UID).taken {
			takenOver(owner, removed, c.Update.UID, i)
		}
	}
	for i := range a.changes {
		c := &a.changes[i]
		if !c.To.IsZero() {
			if p, ok := dirs[c.To.Dir]; ok {
				a.wait(i, p, false)
			} else if moves && c.Update.Type == repl.Directory {
				a.waitAbove(i, dirs)
			}
			if c.From != c.To && len(left) > 0 {
				to := a.d.physical(c.To)
				if v, ok := left[a.d.claimed(to.Dir, to.Name)]; ok && v != i {
					a.wait(i, v, true)
					a.join(i, v)
				}
			}
		}
		// What is looked up through merged directories needs their records.
		above := c.Update.Parent
		if !c.Update.Present {
			above = c.Update.Heir
		}
		if f, ok := fresh[above]; ok {
			a.wait(i, f, false)
		} else if h, ok := dirs[above]; ok && !c.Update.Present {
			a.waitWith(i, h, !a.changes[h].Was.Present) // an heir that nobody here knows is none
		}
		from := c.From.Dir
		if inside(c) {
			from = a.d.canonWas(c.Was.Parent).uid
		}
		if r, ok := removed[from]; ok && r != i && c.From != c.To || ok && inside(c) {
			a.waitWith(r, i, inside(c)) // what is inside goes with the directory, or not at all
		} else if len(removed) > 0 && !c.From.IsZero() && c.From != c.To {
			a.leaveWhole(i, removed)
		}
		if o, ok := owner[c.Object.UID]; ok && c.Object.UID != c.Update.UID {
			a.wait(o, i, false)
			a.join(i, o)
		}
	}
	a.linkHidden(dirs, left)
}

// takenOver notes the change of a record whose object another change takes over. If
// that one takes it off the disk it is that one which waits for what is in it.
func takenOver(owner, removed map[repl.UID]int, uid repl.UID, i int) {
	owner[uid] = i
	if _, leaves := removed[uid]; !leaves {
		removed[uid] = i
	}
}

// linkMerged joins the merge of a directory with that of its heir, and with what lies in
// it or is carried along: who is to have what lies in it follows from all of them. If only one
// came about it would lie elsewhere than on record, or the records could make a ring.
func (a *arranger) linkMerged() {
	var merged map[repl.UID]int
	for i := range a.changes {
		if c := &a.changes[i]; !c.Update.Heir.IsZero() {
			if merged == nil {
				merged = make(map[repl.UID]int)
			}
			merged[c.Update.UID] = i
		}
	}
	for i := 0; i < len(a.changes) && len(merged) > 0; i++ {
		u := &a.changes[i].Update
		if h, ok := merged[u.Heir]; ok {
			a.join(i, h)
		}
		if m, ok := merged[a.d.carried[u.UID]]; ok {
			a.join(i, m)
		}
		if m, ok := a.mergedAbove(i, merged); ok {
			a.join(i, m)
		}
	}
}

// mergedAbove finds the merge, on record alone, of the directory in which the object
// of a change has been: it is to have left before another one may come there with that.
func (a *arranger) mergedAbove(i int, merged map[repl.UID]int) (at int, ok bool) {
	was := &a.changes[i].Was
	if !was.Present || was.Parent.IsZero() {
		return 0, false
	}
	for e := a.d.load(was.Parent); ; {
		if at, ok = merged[e.uid]; ok && a.changes[at].From.IsZero() {
			return at, true
		}
		if !e.had || e.was.Heir.IsZero() {
			return 0, false
		}
		heir := a.d.load(e.was.Heir)
		if !heir.had || !a.d.ascends(e, heir, &e.was.Update, &heir.was.Update) {
			return 0, false
		}
		e = heir
	}
}

// leaves reports whether a live object is taken off this disk.
func leaves(c *repl.Change) bool {
	return c.Update.Present && !c.Drop && !c.From.IsZero() && c.To.IsZero()
}

// follow joins what is not to be on this disk with the directory above it that
// leaves it: if that stays, so does this.
func (a *arranger) follow(i int, leave map[repl.UID]int) {
	for up := range a.upward(a.d.canon(a.changes[i].Update.Parent)) {
		if p, ok := leave[up.uid]; ok {
			a.join(i, p)
			return
		}
	}
}

// linkHidden finds what hangs on changes of records alone, of objects that the
// filter keeps off this disk: directories are stored with what is in them, and who
// leaves a place with who takes it.
func (a *arranger) linkHidden(dirs map[repl.UID]int, left map[repl.Place]int) {
	if a.d.opts.Filter.Empty() {
		return
	}
	unseen := make(map[repl.UID]int) // new directories that are not brought here
	quit := make(map[repl.Place]int) // places that are left on record alone, their names folded
	leave := make(map[repl.UID]int)  // objects that are taken off this disk, and live on
	for i := range a.changes {
		c := &a.changes[i]
		if leaves(c) {
			leave[c.Update.UID] = i
		}
		if !c.From.IsZero() || inside(c) || c.Update.UID == a.d.root {
			continue
		}
		if c.Was.Present && !a.d.load(c.Was.UID).onDisk() {
			quit[a.d.claimed(a.d.canonWas(c.Was.Parent).uid, c.Was.Name)] = i
		}
		if c.Update.Type == repl.Directory && c.Update.Present && c.To.IsZero() && !c.Drop {
			unseen[c.Update.UID] = i
		}
	}
	for i := range a.changes {
		c := &a.changes[i]
		if !c.Update.Present || c.Update.UID == a.d.root || c.Drop {
			continue
		}
		if c.To.IsZero() {
			a.follow(i, leave)
		}
		if p, ok := unseen[c.Update.Parent]; ok {
			a.wait(i, p, false)
			a.join(i, p)
		} else if p, ok := dirs[c.Update.Parent]; ok && c.To.IsZero() {
			a.wait(i, p, false)
			a.join(i, p)
		}
		at := a.d.claimed(a.d.canon(c.Update.Parent).uid, c.Update.Name)
		if v, ok := quit[at]; ok && v != i {
			a.join(i, v)
		}
		if v, ok := left[at]; ok && v != i && c.To.IsZero() {
			a.join(i, v)
		}
	}
}

// inside reports whether a change is that of a provisional object which goes
// with the directory it lies in.
func inside(c *repl.Change) bool { return c.Drop && c.From.IsZero() && c.To.IsZero() }

// waitAbove lets a directory wait for the nearest one above it that moves: it
// may lie in what is moved now, and nothing can be moved into itself.
func (a *arranger) waitAbove(i int, dirs map[repl.UID]int) {
	for up := range a.upward(a.d.load(a.changes[i].To.Dir)) {
		if p, ok := dirs[up.uid]; ok {
			a.wait(i, p, false)
			return
		}
	}
}

// upward goes through a directory and those above it that live, below the root, each
// once: what is under way may make a ring of them that will not come about.
func (a *arranger) upward(from *entry) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		met := make(map[repl.UID]bool)
		for up := from; up.live() && up.uid != a.d.root && !met[up.uid]; up = a.d.canon(up.now.Parent) {
			if met[up.uid] = true; !yield(up) {
				return
			}
		}
	}
}

// leaveWhole lets a directory that goes with what is in it wait for what leaves one
// below it. What is under way may make a ring of the view that will not come about.
func (a *arranger) leaveWhole(i int, removed map[repl.UID]int) {
	met := make(map[repl.UID]bool)
	for up := a.d.canonWas(a.changes[i].From.Dir); up.wasLive() && up.uid != a.d.root && !met[up.uid]; up = a.d.canonWas(up.was.Parent) {
		met[up.uid] = true
		if r, ok := removed[up.uid]; ok && r != i {
			if a.changes[r].Keep != repl.KeepNothing {
				a.waitWith(r, i, true)
			}
			return
		}
	}
}

// waitWith lets i wait for on, and makes one group of both if together is set.
func (a *arranger) waitWith(i, on int, together bool) {
	a.wait(i, on, false)
	if together {
		a.join(i, on)
	}
}

func (a *arranger) wait(i, on int, place bool) {
	a.nodes[i].waits = append(a.nodes[i].waits, wait{on, place})
	a.nodes[on].waiters = append(a.nodes[on].waiters, wait{i, place})
	a.nodes[i].open++
}

// root returns the node that stands for i's group.
func (a *arranger) root(i int) int {
	for a.nodes[i].group != i {
		a.nodes[i].group = a.nodes[a.nodes[i].group].group
		i = a.nodes[i].group
	}
	return i
}

func (a *arranger) join(i, j int) { a.nodes[a.root(i)].group = a.root(j) }

func (a *arranger) ready(i int) {
	if a.group >= 0 && a.root(i) == a.group {
		a.near = append(a.near, i)
		return
	}
	r := rankOf(&a.changes[i])
	a.queue[r] = append(a.queue[r], i)
}

// next takes a change that waits for nothing, of the group at hand if there is
// one.
func (a *arranger) next() (int, bool) {
	if n := len(a.near); n > 0 {
		i := a.near[n-1]
		a.near = a.near[:n-1]
		return i, true
	}
	for r := range a.queue {
		if len(a.queue[r]) > 0 {
			i := a.queue[r][0]
			a.queue[r] = a.queue[r][1:]
			return i, true
		}
	}
	return 0, false
}

func (a *arranger) emit(i int) {
	a.nodes[i].done = true
	a.out = append(a.out, i)
	a.group = a.root(i)
	for _, w := range a.nodes[i].waiters {
		if !(w.place && a.nodes[i].released) {
			a.over(w.on)
		}
	}
}

func (a *arranger) over(i int) {
	if a.nodes[i].open--; a.nodes[i].open == 0 {
		a.ready(i)
	}
}

// open finds a ring that change i waits for and sends the object that leaves
// one of its places through the private area. Every ring has such a place:
// without them changes wait along the final tree and then along the old one. It
// reports false should there be none after all.
func (a *arranger) open(i int) bool {
	met := make(map[int]bool)
	for !met[i] {
		met[i] = true
		i = a.waitsFor(i).on
	}
	for range a.nodes {
		if a.waitsFor(i).place {
			break
		}
		i = a.waitsFor(i).on
	}
	if !a.waitsFor(i).place {
		return false
	}
	v := a.waitsFor(i).on
	a.nodes[v].released = true
	a.changes[v].ViaPrivate = true
	for _, w := range a.nodes[v].waiters {
		if w.place {
			a.over(w.on)
		}
	}
	return true
}

// waitsFor returns the first wait of i that is not over; a place first.
func (a *arranger) waitsFor(i int) wait {
	found := wait{on: -1}
	for _, w := range a.nodes[i].waits {
		on := &a.nodes[w.on]
		if on.done || w.place && on.released {
			continue
		}
		if w.place {
			return w
		}
		found = w
	}
	return found
}

// result returns the changes in their order and numbers the groups. What comes
// to stand among the changes of a group belongs to it, so that a group is one
// run of changes.
func (a *arranger) result() []repl.Change {
	size, last := make([]int, len(a.nodes)), make([]int, len(a.nodes)) // by the node that stands for a group
	for n, i := range a.out {
		r := a.root(i)
		size[r]++
		last[r] = n
	}
	number, end, moved := 0, -1, false
	for n, i := range a.out {
		if r := a.root(i); size[r] > 1 {
			if n > end {
				number++
			}
			end = max(end, last[r])
		}
		if n <= end {
			a.changes[i].Group = number
		}
		moved = moved || n != i
	}
	if !moved { // as they stand, which is how most do
		return a.changes
	}
	out := make([]repl.Change, len(a.out))
	for n, i := range a.out {
		out[n] = a.changes[i]
	}
	return out
}
