package merge

import "opendfs/internal/repl"

// plan turns the difference between overlay and view into changes, and tells
// what became of every update of the batch.
func (d *decider) plan() repl.Plan {
	plan := repl.Plan{Need: d.need, Bad: d.bad}
	d.hid = make(map[repl.UID]hiding)
	d.assignObjects()
	clear(d.hid) // what is here is settled now
	var changes []repl.Change
	for _, e := range d.order[:len(d.order):len(d.order)] {
		switch e.state {
		case withheld:
			plan.Waiting = append(plan.Waiting, *e.in)
			for _, u := range e.lesser {
				plan.Waiting = append(plan.Waiting, *u)
			}
			if e.why != "" {
				plan.Parked = append(plan.Parked, repl.Parked{GVSN: e.in.GVSN, Why: e.why})
			}
		case known:
			if e.in != nil {
				plan.Known = append(plan.Known, e.in.GVSN)
			}
			for _, u := range e.lesser {
				plan.Known = append(plan.Known, u.GVSN)
			}
		case refused:
			for _, u := range e.lesser {
				plan.Waiting = append(plan.Waiting, *u)
			}
		}
		if e.touched() {
			if changes == nil {
				changes = make([]repl.Change, 0, len(d.order))
			}
			changes = append(changes, d.change(e))
		}
	}
	changes = d.bringAlong(d.carryAlong(changes))
	plan.Changes = d.arrange(changes)
	return plan
}

// assignObjects lets a winner that has nothing on this disk take over what the
// loser has there: a directory with all in it, a file as the one to replace.
func (d *decider) assignObjects() {
	var elsewhere []*entry
	for _, e := range d.order[:len(d.order):len(d.order)] {
		if !e.touched() || !e.onDisk() || e.live() || e.inside {
			continue
		}
		here := d.claimed(d.canon(e.was.Parent).uid, e.was.Name)
		if w := d.heldBy(e); w != nil && !d.takeOver(w, e, here == w.place) {
			elsewhere = append(elsewhere, e)
		}
	}
	for _, e := range elsewhere {
		w := d.heldBy(e)
		d.takeOver(w, e, e.was.Type == repl.Directory || repl.SameContent(&e.was.Update, w.now))
	}
}

// takeOver lets w have the object of e if it fits and w has none.
func (d *decider) takeOver(w, e *entry, fits bool) bool {
	if !fits || w == e || w.onDisk() || w.takes != nil || w.now.Type != e.was.Type || w.uid == d.root || !w.touched() && d.hiding(w) != shown {
		return false
	}
	if d.opts.Lacking[w.now.GVSN] && e.provisional() && !repl.SameContent(&e.was.Update, w.now) {
		return false
	}
	w.takes, e.taken = e, true
	return true
}

// heldBy returns the live object to which e lost its place, nil if there is
// none.
func (d *decider) heldBy(e *entry) *entry {
	for range len(d.order) {
		switch {
		case e.live():
			return e
		case e.now != nil && !e.now.Heir.IsZero():
			next := d.canon(e.uid)
			if next == e {
				return nil
			}
			e = next
		case e.rival != nil:
			e = e.rival
		default:
			return nil
		}
	}
	return nil
}

// change describes what becomes of a touched object.
func (d *decider) change(e *entry) repl.Change {
	c := repl.Change{Was: e.was, Mint: e.mint}
	if e.now == nil {
		c.Drop, c.Update = true, e.was.Update
	} else {
		c.Update = *e.now
	}
	if e.mint && e.in != nil {
		c.Also = append(c.Also, *e.in)
	}
	for _, u := range e.lesser {
		c.Also = append(c.Also, *u)
	}
	if e.uid == d.root {
		c.Verdict, c.Object = repl.VerdictMeta, e.was
		c.Meta = !e.had || !repl.SameMeta(&e.was.Update, e.now)
		return c
	}
	object := d.object(e)
	if object != nil {
		c.Object, c.From = object.was, d.wasAt(object)
	}
	if how := d.hiding(e); e.live() && (how == shown || how == keptOut && object != nil) {
		c.To = repl.Place{Dir: d.canon(e.now.Parent).uid, Name: e.now.Name}
		if object != nil && d.physical(c.To) == c.From {
			c.From = c.To
		}
		c.Content = e.now.Type != repl.Directory && (object == nil || !repl.SameContent(&object.was.Update, e.now))
		c.Meta = object == nil || !repl.SameMeta(&object.was.Update, e.now)
	}
	c.Keep = d.keepOf(e, object, &c)
	c.Verdict = d.verdictOf(e, &c)
	return c
}

// hiding says whether an object is to be on this disk.
type hiding uint8

const (
	shown   hiding = iota
	keptOut        // by the filter; what lies there stays
	unheld         // the disk cannot hold its name, or a directory above it is not here
)

// hiding says what keeps a live object off this disk.
func (d *decider) hiding(e *entry) hiding {
	if d.opts.Filter.Empty() || e.uid == d.root || e.now == nil {
		return shown
	}
	if d.opts.Filter.TooLong(e.now.Name) {
		return unheld
	}
	dir := d.canon(e.now.Parent)
	is, known := d.hid[dir.uid]
	if !known {
		d.hid[dir.uid] = shown // what is not settled yet may be a ring
		if is = d.hiding(dir); is == keptOut && d.object(dir) == nil {
			is = unheld // it is not here itself
		}
		d.hid[dir.uid] = is
	}
	if is == shown && d.opts.Filter.Match(e.now.Name, e.now.Type == repl.Directory) {
		return keptOut
	}
	return is
}

// object returns the entry whose object on disk a change of e works on.
func (d *decider) object(e *entry) *entry {
	switch {
	case e.takes != nil:
		return e.takes
	case e.onDisk() && !e.taken && !e.inside:
		return e
	}
	return nil
}

// physical returns a place of the overlay in the terms of the disk: in the
// directory that a merged one's heir takes over.
func (d *decider) physical(p repl.Place) repl.Place {
	if dir := d.load(p.Dir); dir.takes != nil {
		p.Dir = dir.takes.uid
	}
	return p
}

// keepOf says what becomes of the data that a change removes or replaces (rule
// 10). What a user replaced who had seen it may go; what a conflict displaces
// is promised, what a remote delete removes is kept as long as there is room.
// Of directories nothing is kept: what lies in them has changes of its own.
func (d *decider) keepOf(e, object *entry, c *repl.Change) repl.Keep {
	switch {
	case object == nil:
		return repl.KeepNothing
	case c.Drop:
		if e.rival != nil && e.rival.now != nil && e.now == nil && e.was.Type != repl.Directory && repl.SameContent(&e.was.Update, e.rival.now) {
			return repl.KeepNothing
		}
		return e.keep
	case c.To.IsZero() && (e.live() || d.goesWhole(e)):
		return repl.KeepConflict // with what users have put into it since
	case c.To.IsZero() && e.was.Type == repl.Directory, !c.To.IsZero() && !c.Content:
		return repl.KeepNothing
	case c.To.IsZero() && e.now.NameConflict:
		if w := d.winnerOver(e); w != nil && repl.SameContent(&e.was.Update, w.now) {
			return repl.KeepNothing
		}
		return repl.KeepConflict
	case e.takes != nil || e.was.Unclean || !e.now.Saw(e.was.GVSN):
		return repl.KeepConflict
	case c.To.IsZero():
		return repl.KeepDeleted
	}
	return repl.KeepNothing
}

// goesWhole reports whether a directory is merged into one that is not here: it
// leaves the disk with all that is in it.
func (d *decider) goesWhole(e *entry) bool {
	if e.now == nil || e.now.Heir.IsZero() {
		return false
	}
	heir := d.canon(e.uid)
	return heir.live() && d.hiding(heir) != shown && d.object(heir) == nil
}

// winnerOver returns the live object at the place whose name e lost.
func (d *decider) winnerOver(e *entry) *entry {
	if w := d.heldBy(e); w != nil {
		return w
	}
	at := d.claimants(d.claimed(d.canon(e.now.Parent).uid, e.now.Name))
	if len(at) == 1 {
		return at[0]
	}
	return nil
}

// verdictOf names the rule: the strongest if a change does several things.
func (d *decider) verdictOf(e *entry, c *repl.Change) repl.Verdict {
	switch {
	case c.Drop:
		return repl.VerdictDropProvisional
	case e.verdict != 0:
		return e.verdict
	case !e.live() && !e.wasLive():
		return repl.VerdictForget
	case !e.live() && !e.now.Heir.IsZero():
		return repl.VerdictMerged
	case !e.live():
		return repl.VerdictDelete
	case e.won:
		return repl.VerdictNameWon
	case e.takes != nil && c.Content:
		return repl.VerdictEdit
	case e.takes != nil:
		return repl.VerdictAdopt
	case !e.wasLive():
		return repl.VerdictCreate
	case !repl.SameContent(&e.was.Update, e.now):
		return repl.VerdictEdit
	case e.was.Name != e.now.Name || d.canonWas(e.was.Parent) != d.canon(e.now.Parent):
		return repl.VerdictMove
	}
	return repl.VerdictMeta
}

// carryAlong adds the objects whose records stay and which lie on disk in a
// directory that is merged into another directory on disk.
func (d *decider) carryAlong(changes []repl.Change) []repl.Change {
	d.carried = make(map[repl.UID]repl.UID)
	for _, e := range d.order[:len(d.order):len(d.order)] {
		if !e.touched() || e.now == nil || e.now.Heir.IsZero() || !e.had {
			continue
		}
		from, to := d.canonWas(e.uid), d.canon(e.uid)
		if from == to || to.takes == from || d.goesWhole(e) {
			continue
		}
		var stay []repl.Record
		err := d.view.Children(from.uid, "", func(rec *repl.Record) bool {
			c := d.entries[rec.UID]
			if _, seen := d.carried[rec.UID]; !seen && (c == nil || !c.touched()) {
				stay = append(stay, *rec)
			}
			return true
		})
		if err != nil {
			d.fail(err)
		}
		for i := range stay {
			rec := &stay[i]
			dir := d.canon(rec.Parent)
			if dir == from || rec.Presence != repl.OnDisk {
				continue
			}
			c := repl.Change{Verdict: repl.VerdictMove, Update: rec.Update, Was: *rec, Object: *rec}
			c.From, c.To = repl.Place{Dir: from.uid, Name: rec.Name}, repl.Place{Dir: dir.uid, Name: rec.Name}
			if d.physical(c.To) != c.From {
				d.carried[rec.UID] = e.uid
				changes = append(changes, c)
			}
		}
	}
	return changes
}

// bringAlong adds the directories whose records stay, which are not on this disk, and
// into which something is to come there: what kept them off it ends with this plan, and
// what takes their parent's place may be what is to come into them.
func (d *decider) bringAlong(changes []repl.Change) []repl.Change {
	if d.opts.Filter.Empty() {
		return changes
	}
	met := make(map[repl.UID]bool)
	for i := range changes {
		if changes[i].To.IsZero() {
			continue
		}
		for e := d.load(changes[i].To.Dir); e.live() && e.uid != d.root && !e.touched() && e.was.Presence == repl.Hidden && !met[e.uid]; {
			met[e.uid] = true
			up := d.canon(e.now.Parent)
			changes = append(changes, repl.Change{
				Verdict: repl.VerdictCreate, Update: e.was.Update, Was: e.was, To: repl.Place{Dir: up.uid, Name: e.now.Name}, Meta: true,
			})
			e = up
		}
	}
	return changes
}
