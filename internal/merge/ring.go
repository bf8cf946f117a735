package merge

import "opendfs/internal/repl"

// checkRing follows the parents of a directory to the root, and opens the ring
// if there is one instead.
func (d *decider) checkRing(e *entry) {
	d.walk++
	for cur := e; cur.uid != d.root && cur.rooted != d.epoch; cur = d.canon(cur.now.Parent) {
		if cur.walked == d.walk {
			if d.openRing(cur) {
				d.tree = append(d.tree, e)
			}
			return
		}
		cur.walked = d.walk
		if !cur.live() {
			return // its own check, or its child's, comes
		}
	}
	for cur := e; cur.uid != d.root && cur.rooted != d.epoch; cur = d.canon(cur.now.Parent) {
		cur.rooted = d.epoch
	}
}

// openRing settles that directories hang on one another in a ring, because
// they were moved into each other concurrently. A move that came with the batch
// is undone by an update of ours which keeps the old place; the other side does
// the same, so in the end both moves are undone ([MS-FRS2] 3.3.4.6.2). Where
// there is no such move, the greatest directory of the ring goes to the root. It
// reports false if there is nothing to do about the ring: what is under way made
// it, on a member that mints nothing, and it will not come about.
func (d *decider) openRing(start *entry) bool {
	ring := []*entry{start}
	for e := d.canon(start.now.Parent); e != start; e = d.canon(e.now.Parent) {
		ring = append(ring, e)
	}
	if d.ask(ring...) {
		return true
	}
	if !d.canMint() {
		return d.withhold(d.whyParked(), ring...)
	}
	var undo, last *entry
	for _, e := range ring {
		back := e.state == active && e.wasLive() && e.broken == 0 && d.canonWas(e.was.Parent) != d.canon(e.now.Parent)
		if back && (undo == nil || repl.Compare(e.in, undo.in) < 0) {
			undo = e
		}
		if e.broken < 2 && (last == nil || repl.ComparePlace(e.now, last.now) > 0) {
			last = e
		}
	}
	switch {
	case undo != nil:
		draft := *undo.now
		draft.Parent, draft.Name = undo.was.Parent, undo.was.Name
		undo.broken = 1
		d.draft(undo, &draft, repl.VerdictCycleBroken, nil)
		d.tree = append(d.tree, undo)
	case last != nil:
		var cause *entry
		for _, e := range ring {
			if cause = d.culprit(e); cause != nil {
				break
			}
		}
		draft := *last.now
		draft.Parent = d.root
		last.broken = 2
		d.draft(last, &draft, repl.VerdictCycleBroken, cause)
		d.tree = append(d.tree, last)
	}
	return undo != nil || last != nil
}
