package merge

import (
	"slices"

	"opendfs/internal/repl"
)

// checkTree mends what a touched object breaks in the tree.
func (d *decider) checkTree(e *entry) {
	switch {
	case e.now == nil || e.uid == d.root:
	case !e.touched():
		if e.state == withheld && e.live() && e.now.Type == repl.Directory {
			d.checkRing(e) // others may have moved below it because it was to leave
		}
	case e.now.Present:
		d.checkParent(e)
	case !e.now.Heir.IsZero():
		d.checkHeir(e)
	case e.now.Type == repl.Directory:
		d.checkDeath(e)
	}
}

// checkParent sees to it that a live object hangs on a live directory, and a
// directory on the root (rule 11).
func (d *decider) checkParent(e *entry) {
	p := d.canon(e.now.Parent)
	if p.uid != d.root {
		switch {
		case p.now == nil:
			d.unknown(p, e)
			return
		case p.now.Type != repl.Directory:
			d.refuse(e, ErrParent)
			return
		case !p.now.Present:
			d.dangle(e, p)
			if !p.live() {
				return
			}
		}
	}
	if e.now != nil && e.now.Type == repl.Directory && e.live() && d.moved(e) {
		d.checkRing(e)
	}
}

// unknown settles that e needs the directory p, of which there is no record.
func (d *decider) unknown(p, e *entry) {
	switch {
	case p.state == withheld:
		d.ask(e, p)
	case p.state == refused || d.answered(p):
		d.withhold("the partner does not tell of the directory "+p.uid.String(), e)
	default:
		d.request(p)
		d.withhold("", e)
	}
}

// moved reports whether a live directory hangs on another one than in the view.
func (d *decider) moved(e *entry) bool {
	return !e.wasLive() || e.mint || d.canonWas(e.was.Parent) != d.canon(e.now.Parent)
}

// refuse takes an update out that cannot be true.
func (d *decider) refuse(e *entry, err error) {
	if e.state != active || e.mint {
		d.withhold("it leads to "+e.uid.String()+": "+err.Error(), e)
		return
	}
	d.bad = append(d.bad, repl.BadUpdate{GVSN: e.in.GVSN, Err: err})
	d.putBack(e, "")
	e.state = refused
}

// dangle settles that c lives and its directory p is dead.
func (d *decider) dangle(c, p *entry) {
	switch {
	case d.ask(c, p):
	case p.now.NameConflict:
		d.withhold("its directory "+p.uid.String()+" lost its name and has no heir", c, p)
	case !d.canMint():
		d.withhold(d.whyParked(), c, p)
	default:
		d.revive(p, c)
	}
}

// revive brings p back for c, where its tombstone has it, with the metadata of
// the last live version at hand.
func (d *decider) revive(p, c *entry) {
	draft := *p.now
	draft.Present, draft.Heir = true, repl.UID{}
	last := p.in
	if last == nil || !last.Present {
		last = p.base()
	}
	if last != nil && last.Present {
		draft.Meta, draft.Mtime = last.Meta, last.Mtime
	}
	d.draft(p, &draft, repl.VerdictRevived, d.culprit(c))
	d.tree = append(d.tree, p)
}

// draft makes u, an update that this member is to mint, the state of e.
func (d *decider) draft(e *entry, u *repl.Update, v repl.Verdict, cause *entry) {
	d.set(e, u)
	e.mint, e.verdict = true, v
	if cause != e && e.cause == nil {
		e.cause = cause
	}
	d.drafts++
}

// checkDeath settles that a directory dies in which objects live here. If the
// partner knows them all, their own deaths or moves are on their way; if not,
// the directory comes back (rules 11 and 21).
func (d *decider) checkDeath(e *entry) {
	if !e.wasLive() {
		return
	}
	left := d.untouchedIn(e, e)
	var stranger, answered *entry
	var asked, own []*entry
	for i := range left {
		c := d.loadRecord(&left[i])
		switch {
		case c.provisional():
			own = append(own, c)
		case d.answered(c):
			answered = c
		case d.partnerKnows(c):
			asked = append(asked, c)
		default:
			stranger = c
		}
	}
	switch {
	case stranger != nil:
		d.dangle(stranger, e)
	case len(asked) > 0:
		d.requestAll(asked)
		d.withhold("", e)
	case answered != nil:
		d.dangle(answered, e)
	default:
		for _, c := range own {
			d.dropTree(c, repl.KeepPreExisting)
		}
	}
}

// requestAll asks for objects in a dying directory and, as far as there is
// room, for what lies below them: one question instead of one a level.
func (d *decider) requestAll(asked []*entry) {
	for len(asked) > 0 && len(d.need) < maxNeed && d.err == nil {
		c := asked[0]
		asked = asked[1:]
		d.request(c)
		if c.now.Type != repl.Directory {
			continue
		}
		below := d.untouchedIn(c, c)
		for i := range below {
			if b := d.loadRecord(&below[i]); !b.provisional() && !d.answered(b) && d.partnerKnows(b) {
				asked = append(asked, b)
			}
		}
	}
}

// untouchedIn reads the objects of the view's directory from that the overlay
// does not touch and finds in to, as many as can be asked for at once.
func (d *decider) untouchedIn(from, to *entry) []repl.Record {
	var left []repl.Record
	err := d.view.Children(from.uid, "", func(rec *repl.Record) bool {
		if c := d.entries[rec.UID]; c == nil || !c.touched() {
			left = append(left, *rec)
		}
		return len(left) < maxNeed
	})
	if err != nil {
		d.fail(err)
	}
	stay := left[:0]
	for i := range left {
		if d.canon(left[i].Parent) == to {
			stay = append(stay, left[i])
		}
	}
	return stay
}

// checkHeir settles that a directory is merged into another: by the partner's
// update or, since a check of it was asked for again, by ours.
func (d *decider) checkHeir(e *entry) {
	h := d.load(e.now.Heir)
	switch {
	case h.now == nil:
		d.unknown(h, e)
		return
	case !d.ascends(e, h, e.now, h.now):
		d.refuse(e, ErrHeir)
		return
	}
	w := d.canon(e.uid)
	d.dependents[h.uid] = append(d.dependents[h.uid], e)
	if w != h {
		d.dependents[w.uid] = append(d.dependents[w.uid], e)
	}
	if w.now == nil {
		d.unknown(w, e)
		return
	}
	from := d.canonWas(e.uid)
	if !e.had || from == w {
		return
	}
	if !w.now.Present {
		d.heirIsDead(e, from, w)
		if !w.live() {
			return
		}
	}
	d.alias(from.uid, w)
	d.checkRing(w)
	d.join(from.uid, w)
}

// heirIsDead settles that what lives in a merged directory hangs on a dead heir.
func (d *decider) heirIsDead(e, from, w *entry) {
	var own []*entry
	left := d.untouchedIn(from, w)
	for i := range left {
		c := d.loadRecord(&left[i])
		if c.provisional() {
			own = append(own, c)
			continue
		}
		d.dangle(c, w)
		return
	}
	if e.state == active {
		for _, c := range own {
			d.dropTree(c, repl.KeepPreExisting)
		}
	}
}

// alias notes that the overlay finds objects of the view's directory from in w.
func (d *decider) alias(from repl.UID, w *entry) {
	if from != w.uid && !slices.Contains(d.aliases[w.uid], from) {
		d.aliases[w.uid] = append(d.aliases[w.uid], from)
	}
}
