package merge

import "opendfs/internal/repl"

// stronger orders two live objects that claim one place. A directory keeps it
// against anything else, whatever the fences: it cannot die while objects live
// in it.
func stronger(a, b *entry) bool {
	if ad, bd := a.now.Type == repl.Directory, b.now.Type == repl.Directory; ad != bd {
		return ad
	}
	return repl.ComparePlace(a.now, b.now) > 0
}

// checkPlace sees to it that at most one live object is at a place.
func (d *decider) checkPlace(p repl.Place) {
	if e := d.claims[p]; e == nil {
		if len(d.aliases) == 0 {
			return // nobody came
		}
	} else if e.next == nil && len(d.aliases) == 0 && e.wasLive() && d.claimed(d.canonWas(e.was.Parent).uid, e.was.Name) == p {
		return // it was there before
	}
	all := d.claimants(p)
	if len(all) < 2 {
		return
	}
	best := all[0]
	for _, e := range all[1:] {
		if e.provisional() != best.provisional() {
			if best.provisional() {
				best = e
			}
		} else if stronger(e, best) {
			best = e
		}
	}
	merged, backs := false, d.backs
	for _, e := range all {
		switch {
		case e == best:
		case e.provisional():
			merged = d.giveWay(e, best) || merged
		default:
			done, dir := d.conflict(best, e)
			if !done {
				if d.backs > backs {
					d.places = append(d.places, p)
				}
				return
			}
			merged = merged || dir
		}
	}
	if merged {
		for _, e := range d.dependents[best.uid] {
			if e.claimed {
				d.places = append(d.places, e.place)
			}
		}
	}
}

// conflict settles that w and l, both live, claim one place. merged says that
// they were directories.
func (d *decider) conflict(w, l *entry) (done, merged bool) {
	if d.ask(w, l) || d.passed(w, l) {
		return false, false
	}
	if !d.canMint() {
		d.withhold(d.whyParked(), w, l)
		return false, false
	}
	cause := d.culprit(l)
	if cause == nil {
		cause = d.culprit(w)
	}
	both := w.now.Type == repl.Directory && l.now.Type == repl.Directory
	if both && d.opts.Morph {
		draft := *l.now
		draft.Name = Morphed(l.now.Name, l.uid)
		w.won = true
		d.draft(l, &draft, repl.VerdictMorphed, cause)
		d.tree = append(d.tree, l)
		return true, false
	}
	if both {
		draft := tombstone(l.now)
		draft.NameConflict, draft.Heir = true, w.uid
		d.draft(l, draft, repl.VerdictMerged, cause)
		d.merge(l, w)
		return true, true
	}
	draft := tombstone(l.now)
	draft.NameConflict = true
	l.rival, w.won = w, true
	d.draft(l, draft, repl.VerdictNameLost, cause)
	return true, false
}

// passed reports whether one of two objects at a place is known to have left it:
// whoever made the later of two versions of one originator had seen the earlier
// one, and had one object at the place. What became of the other is on its way, or was lost from
// the records of its maker: if that is this member, it is settled here.
func (d *decider) passed(a, b *entry) bool {
	return !a.mint && !b.mint && a.now.GVSN.Originator != d.opts.Own && a.now.GVSN.Originator == b.now.GVSN.Originator &&
		a.now.Parent == b.now.Parent && a.now.Name == b.now.Name && d.withhold("its author had taken it or the other from that place", a, b)
}

// tombstone returns a draft that ends u: like every tombstone it keeps place
// and type, and nothing of the content.
func tombstone(u *repl.Update) *repl.Update {
	return &repl.Update{
		UID: u.UID, GVSN: u.GVSN, Parent: u.Parent, Name: u.Name, Type: u.Type,
		Fence: u.Fence, CreateTime: u.CreateTime, Clock: u.Clock, History: u.History,
	}
}

// merge finds what lives in l, which was just made a tombstone with the heir w,
// in w from now on.
func (d *decider) merge(l, w *entry) {
	from := d.canonWas(l.uid)
	moved := d.dependents[l.uid]
	delete(d.dependents, l.uid)
	for _, e := range moved {
		switch {
		case e.claimed && e.place.Dir == l.uid:
			d.unclaim(e)
			d.claim(e)
		case !e.claimed: // a directory merged into l
			d.dependents[w.uid] = append(d.dependents[w.uid], e)
		}
	}
	sources := d.aliases[l.uid]
	if l.had && from != w {
		sources = append([]repl.UID{from.uid}, sources...)
	}
	for _, s := range sources {
		d.alias(s, w)
	}
	for _, s := range sources {
		d.join(s, w)
	}
}

// join lists the places at which objects of the view meet because what is in
// its directory from, or a part of it, is in w now. It reads the smaller side.
func (d *decider) join(from repl.UID, w *entry) {
	others := make([]repl.UID, 0, 4)
	if w.uid == d.root || w.wasLive() {
		others = append(others, w.uid)
	}
	for _, a := range d.aliases[w.uid] {
		if a != from {
			others = append(others, a)
		}
	}
	for limit := 128; ; limit *= 8 {
		names, whole := d.names(limit, from)
		if !whole {
			if names, whole = d.names(limit, others...); !whole {
				continue
			}
		}
		for _, name := range names {
			if p := d.claimed(w.uid, name); d.crowded(p) {
				d.places = append(d.places, p)
			}
		}
		return
	}
}

// names lists the names in directories of the view, at most limit, and reports
// whether these are all.
func (d *decider) names(limit int, dirs ...repl.UID) ([]string, bool) {
	var names []string
	for _, dir := range dirs {
		err := d.view.Children(dir, "", func(rec *repl.Record) bool {
			names = append(names, rec.Name)
			return len(names) <= limit
		})
		if err != nil {
			d.fail(err)
			return nil, true
		}
	}
	return names, len(names) <= limit
}
