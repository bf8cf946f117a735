package merge

import (
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// state says how an object stands in the batch.
type state uint8

const (
	known    state = iota // the batch has nothing greater than the record
	active                // an update of the batch is to become the record
	withheld              // it is not, for now
	refused               // it cannot be true
)

// entry is one object on the overlay.
type entry struct {
	uid    repl.UID
	was    repl.Record // the view's
	had    bool        // there is one
	in     *repl.Update
	lesser []*repl.Update // smaller versions in the batch
	state  state
	why    string // of what is withheld without a question to the partner

	// Of one pass.

	now     *repl.Update // what shall be; nil: no record
	place   repl.Place   // where claims has it: the name is folded
	next    *entry       // in claims
	claimed bool
	mint    bool // now is a draft
	verdict repl.Verdict
	cause   *entry    // the active object that a draft goes back to
	rival   *entry    // to whom it lost its place
	won     bool      // it took a place from another
	inside  bool      // provisional, and goes with the directory it lies in
	keep    repl.Keep // of a provisional object that gives way
	broken  int       // how often a ring was opened here
	walked  int
	rooted  int // the epoch in which it was seen to hang on the root

	// Of the plan.

	takes *entry // whose object on disk it takes over
	taken bool
}

func (e *entry) base() *repl.Update {
	if e.had {
		return &e.was.Update
	}
	return nil
}

// touched reports whether the overlay differs from the view here.
func (e *entry) touched() bool { return e.now != e.base() }

func (e *entry) live() bool { return e.now != nil && e.now.Present }

func (e *entry) wasLive() bool { return e.had && e.was.Present }

// onDisk reports whether an object lies on disk for the record. What is
// obscured is taken to lie there: who carries the plan out looks.
func (e *entry) onDisk() bool {
	return e.wasLive() && (e.was.Presence == repl.OnDisk || e.was.Presence == repl.Obscured)
}

// provisional reports whether only this member's initial build knows it.
func (e *entry) provisional() bool { return e.had && e.was.Provisional && e.in == nil }

func (d *decider) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// load returns the entry of an object, with the view's record.
func (d *decider) load(uid repl.UID) *entry {
	if e, ok := d.entries[uid]; ok {
		return e
	}
	e := d.add(uid)
	rec, ok, err := d.view.Get(uid)
	if err != nil {
		d.fail(err)
	}
	if ok {
		e.was, e.had = rec, true
		e.now = &e.was.Update
	}
	return e
}

// loadRecord returns the entry of an object whose record was just read.
func (d *decider) loadRecord(rec *repl.Record) *entry {
	if e, ok := d.entries[rec.UID]; ok {
		return e
	}
	e := d.add(rec.UID)
	e.was, e.had = *rec, true
	e.now = &e.was.Update
	return e
}

func (d *decider) add(uid repl.UID) *entry {
	if len(d.slab) == 0 {
		d.slab = make([]entry, min(128, max(8, len(d.order)))) // most batches are small
	}
	e := &d.slab[0]
	d.slab = d.slab[1:]
	e.uid = uid
	d.entries[uid] = e
	d.order = append(d.order, e)
	return e
}

// begin puts the overlay back to the records with the active updates over them.
func (d *decider) begin() {
	clear(d.claims)
	d.dependents = make(map[repl.UID][]*entry)
	d.aliases = make(map[repl.UID][]repl.UID)
	d.tree, d.places = d.tree[:0], d.places[:0]
	d.drafts, d.stale = 0, false
	d.epoch++
	for _, e := range d.order {
		e.now, e.place, e.next, e.claimed = e.base(), repl.Place{}, nil, false
		e.mint, e.verdict, e.cause, e.rival, e.won = false, 0, nil, nil, false
		e.keep, e.broken, e.inside = repl.KeepNothing, 0, false
		if e.state == active {
			e.now = e.in
		}
	}
	count := len(d.order) // claiming may load directories
	for i := count - 1; i >= 0; i-- {
		if e := d.order[i]; e.state == active {
			d.claim(e)
			d.tree = append(d.tree, e)
		}
	}
}

// set gives an object another state on the overlay.
func (d *decider) set(e *entry, u *repl.Update) {
	d.unclaim(e)
	if e.now != nil && e.now.Type == repl.Directory || u != nil && u.Type == repl.Directory {
		d.epoch++
	}
	e.now = u
	if e.touched() {
		d.claim(e)
	}
}

// claim enters a live touched object under its place, and lists the place to
// be checked.
func (d *decider) claim(e *entry) {
	if !e.live() || e.uid == d.root {
		return
	}
	e.place = d.claimed(d.canon(e.now.Parent).uid, e.now.Name)
	e.next = d.claims[e.place]
	e.claimed = true
	d.claims[e.place] = e
	d.dependents[e.place.Dir] = append(d.dependents[e.place.Dir], e)
	d.places = append(d.places, e.place)
}

// claimed returns the key of a place: there is one live object at most.
func (d *decider) claimed(dir repl.UID, name string) repl.Place {
	return repl.Place{Dir: dir, Name: d.fold(name)}
}

func (d *decider) unclaim(e *entry) {
	if !e.claimed {
		return
	}
	if first := d.claims[e.place]; first == e {
		if e.next == nil {
			delete(d.claims, e.place)
		} else {
			d.claims[e.place] = e.next
		}
	} else {
		for first.next != e {
			first = first.next
		}
		first.next = e.next
	}
	e.next, e.claimed = nil, false
}

// canon returns the directory that uid has become on the overlay, following
// heirs; it may be dead or unknown.
func (d *decider) canon(uid repl.UID) *entry {
	e := d.load(uid)
	for e.uid != d.root && e.now != nil && !e.now.Heir.IsZero() {
		h := d.load(e.now.Heir)
		if h.now != nil && !d.ascends(e, h, e.now, h.now) {
			break
		}
		e = h
	}
	return e
}

// canonWas returns the directory that uid is in the view.
func (d *decider) canonWas(uid repl.UID) *entry {
	e := d.load(uid)
	for e.uid != d.root && e.had && !e.was.Heir.IsZero() {
		h := d.load(e.was.Heir)
		if !h.had || !d.ascends(e, h, &e.was.Update, &h.was.Update) {
			break
		}
		e = h
	}
	return e
}

// ascends reports whether h may be the heir of e: heirs are ever greater, so
// they end (rule 8). A provisional directory's heir is the partner's.
func (d *decider) ascends(e, h *entry, eu, hu *repl.Update) bool {
	if hu.Type != repl.Directory {
		return false
	}
	return e.provisional() && !h.provisional() || repl.ComparePlace(eu, hu) < 0
}

// wasAt returns the place of an object in the view.
func (d *decider) wasAt(e *entry) repl.Place {
	return repl.Place{Dir: d.canonWas(e.was.Parent).uid, Name: e.was.Name}
}

// partnerKnows reports whether the partner has or had a record of the object.
func (d *decider) partnerKnows(e *entry) bool {
	if d.partner.Contains(version.GVSN(e.uid)) {
		return true
	}
	return e.had && d.partner.Contains(e.was.GVSN)
}

// answered reports whether the partner's current record of e has been seen.
func (d *decider) answered(e *entry) bool { return e.in != nil || d.opts.Asked[e.uid] }

// request asks the partner for its record of e.
func (d *decider) request(e *entry) {
	if !d.needed[e.uid] && len(d.need) < maxNeed {
		d.needed[e.uid] = true
		d.need = append(d.need, e.uid)
	}
}

// early reports whether e's record came with a diff of another partner that has
// not ended: what its author did before may not be here yet, and the matter be
// settled by it.
func (d *decider) early(e *entry) bool {
	return d.opts.Vector != nil && e.had && e.uid != d.root && !e.was.Provisional && e.state != active &&
		e.was.GVSN.Originator != d.opts.Own && !d.partner.Contains(e.was.GVSN) && !d.opts.Vector.Contains(e.was.GVSN)
}

// ask reports whether a matter between objects must wait: for the partner's
// record of one that it knows, for another diff to end, or because one waits
// itself. It withholds the updates that brought the matter up.
func (d *decider) ask(es ...*entry) bool {
	wait, why := false, ""
	for _, e := range es {
		switch {
		case e.state == withheld && e.why != "":
			wait, why = true, "waits for "+e.in.GVSN.String()+": "+e.why
		case e.state == refused:
			wait, why = true, "what the partner sent of "+e.uid.String()+" cannot be true"
		case e.state == withheld, d.early(e):
			wait = true
		case e.uid != d.root && !e.provisional() && !d.answered(e) && d.partnerKnows(e):
			d.request(e)
			wait = true
		}
	}
	return wait && d.withhold(why, es...)
}

// withhold puts back the active updates that a matter between es comes from.
// It reports false if there are none.
func (d *decider) withhold(why string, es ...*entry) bool {
	done := false
	for _, e := range es {
		if c := d.culprit(e); c != nil {
			d.putBack(c, why)
			done = true
		}
	}
	return done
}

// culprit returns the active object that brought e to where it is.
func (d *decider) culprit(e *entry) *entry {
	if e.state == active {
		return e
	}
	if e.cause != nil && e.cause.state == active {
		return e.cause
	}
	if e.touched() || !e.had {
		return nil
	}
	// It lies where it lay: a directory above it was merged into another.
	dir := d.load(e.was.Parent)
	for range len(d.order) {
		switch {
		case dir.state == active:
			return dir
		case dir.cause != nil && dir.cause.state == active:
			return dir.cause
		case dir.now == nil || dir.now.Heir.IsZero():
			return nil
		}
		dir = d.load(dir.now.Heir)
	}
	return nil
}

// putBack makes an active update wait and lists what hung on it.
func (d *decider) putBack(e *entry, why string) {
	e.state, e.why = withheld, why
	d.backs++
	if d.drafts > 0 || !e.in.Heir.IsZero() {
		d.stale = true
	}
	d.set(e, e.base())
	e.mint, e.verdict = false, 0
	if e.wasLive() && e.uid != d.root {
		dir := d.canon(e.was.Parent)
		d.places = append(d.places, d.claimed(dir.uid, e.was.Name))
		for up := d.load(e.was.Parent); up != dir; up = d.load(up.now.Heir) {
			d.tree = append(d.tree, up)
		}
		d.tree = append(d.tree, dir) // it may be dying, or merged into what is dead
	}
	if e.in.Type == repl.Directory {
		d.tree = append(append(d.tree, e), d.dependents[e.uid]...)
	}
}

// claimants lists the live objects at a place of the overlay.
func (d *decider) claimants(p repl.Place) []*entry {
	var out []*entry
	for e := d.claims[p]; e != nil; e = e.next {
		out = append(out, e)
	}
	d.eachAt(p, func(rec *repl.Record) { out = append(out, d.loadRecord(rec)) })
	return out
}

// crowded reports whether more than one live object is at a place, and loads
// none.
func (d *decider) crowded(p repl.Place) bool {
	n := 0
	for e := d.claims[p]; e != nil; e = e.next {
		n++
	}
	d.eachAt(p, func(*repl.Record) { n++ })
	return n > 1
}

// eachAt calls fn for the view's objects that the overlay leaves or puts at p
// untouched.
func (d *decider) eachAt(p repl.Place, fn func(*repl.Record)) {
	aliases := d.aliases[p.Dir]
	d.at(p.Dir, p, fn)
	for _, a := range aliases {
		d.at(a, p, fn)
	}
}

func (d *decider) at(dir repl.UID, p repl.Place, fn func(*repl.Record)) {
	if e := d.load(dir); dir != d.root && !e.wasLive() {
		return // nothing of the view lives there
	}
	rec, ok, err := d.view.At(dir, p.Name)
	if err != nil {
		d.fail(err)
		return
	}
	if !ok {
		return
	}
	if e := d.entries[rec.UID]; e != nil && e.touched() {
		return
	}
	if len(d.aliases) > 0 && d.canon(rec.Parent).uid != p.Dir {
		return
	}
	fn(&rec)
}
