package engine

import (
	"fmt"
	"math"
	"slices"

	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// maxHolds bounds the holds of one folder, decided ones that are not over yet
// among them.
const maxHolds = 256

// HeldError says that nothing of an originator is held.
type HeldError struct{ Originator version.Originator }

// Error names the originator.
func (e *HeldError) Error() string {
	return fmt.Sprintf("nothing of originator %v is held", e.Originator)
}

// ReadOnlyError says that a read-only member cannot mint.
type ReadOnlyError struct{ Folder string }

// Error names the folder.
func (e *ReadOnlyError) Error() string {
	return e.Folder + " is read-only on this server: it makes no updates"
}

// Decided is the decision on what is held of an originator: it is released, or
// rejected.
type Decided struct {
	Originator version.Originator
	Reject     bool
}

func (e Decided) apply(f *Folder) {
	if err := f.decideHold(e.Originator, e.Reject); err != nil {
		f.stats.lastError = err.Error()
	}
}

// trip holds an originator from one of its versions on.
func (f *Folder) trip(l *link, o version.Originator, from uint64, t toll) {
	delete(f.waves, o)
	if len(f.holds) >= maxHolds {
		f.fail(finding.StoreError, fmt.Sprintf("%d originators are held already; decide on them by `dfs held`", len(f.holds)))
		return
	}
	for _, b := range f.batches() { // what is on its way is
		for _, settles := range b.settles {
			for _, g := range settles {
				if g.Originator == o {
					from = max(from, g.Version+1)
				}
			}
		}
	}
	f.stats.Held++
	h := store.Hold{Originator: o, From: from, Replaced: t.replaced, Deleted: t.deleted, Live: t.live, Since: f.now(), Partner: l.member}
	for m, other := range f.links {
		if other.originator == o {
			h.Maker = m
		}
	}
	f.setHolds(append(slices.Clone(f.holds), h))
}

// setHolds stores what is held and decided, before anything follows from it.
func (f *Folder) setHolds(holds []store.Hold) {
	st := f.st.State()
	st.Holds = holds
	if f.storeFailed(f.st.Put(&store.Batch{State: &st})) {
		return
	}
	f.holds = holds
	f.tellHolds()
}

// tellHolds raises the finding of each originator that is held.
func (f *Folder) tellHolds() {
	now := make(map[version.Originator]bool)
	for i := range f.holds {
		if h := &f.holds[i]; h.Decision == store.HoldOpen {
			now[h.Originator] = true
			f.find.Raise(finding.MassChangeHeld, f.holdObject(h.Originator), HoldText(h))
		}
	}
	for o := range f.toldHolds {
		if !now[o] {
			f.find.Clear(finding.MassChangeHeld, f.holdObject(o))
		}
	}
	f.toldHolds = now
}

func (f *Folder) holdObject(o version.Originator) string { return f.cfg.Name + " by " + o.String() }

// HoldText says what was seen of an originator when it was held.
func HoldText(h *store.Hold) string {
	by := fmt.Sprintf("server %v", h.Maker)
	if h.Maker == (repl.MemberID{}) {
		by = fmt.Sprintf("a server that this one does not pull from, as told by server %v", h.Partner)
	}
	return fmt.Sprintf("%d of %d files replaced and %d deleted by %s; see `dfs held list`", h.Replaced, h.Live, h.Deleted, by)
}

// ruled reports whether it was decided on an update already: it is no news to the
// breaker.
func (f *Folder) ruled(u *repl.Update) bool {
	return slices.ContainsFunc(f.holds, func(h store.Hold) bool { return h.Covers(u.GVSN) })
}

// heldBy reports whether an update is held, or rests on one that is.
func (f *Folder) heldBy(u *repl.Update) bool {
	for i := range f.holds {
		h := &f.holds[i]
		if h.Decision != store.HoldOpen {
			continue
		}
		if h.Covers(u.GVSN) || slices.ContainsFunc(u.History, func(g version.GVSN) bool { return h.Covers(g) && !f.st.Knows(g) }) {
			return true
		}
	}
	return false
}

// admit leaves of updates those that may be decided. What is held is kept out of
// what the diff joins; what was rejected, and what is nowhere any more, is answered by
// updates of ours.
func (f *Folder) admit(l *link, d *diff, updates []repl.Update) []repl.Update {
	f.weigh(l, updates)
	if len(f.holds) == 0 && len(f.unhad) == 0 {
		return updates
	}
	free := updates[:0]
	var counters []store.Write
	var rejected uint64
	for i := range updates {
		u := &updates[i]
		if f.heldBy(u) {
			f.miss(d, u)
			d.onHold.Add(u.GVSN)
			delete(d.records, u.UID)
			d.barred[u.UID] = true
			continue
		}
		if w, ok := f.counter(u); ok {
			counters = append(counters, w)
			rejected++
			continue
		}
		if w, ok := f.outlives(u); ok {
			counters = append(counters, w)
			continue
		}
		free = append(free, *u)
	}
	if len(counters) > 0 && !f.storeFailed(f.st.Put(&store.Batch{Writes: counters})) {
		f.stats.Rejected += rejected
		f.stats.captured(counters, f.now())
		f.notify = true
	}
	return free
}

// counter answers a rejected update by one of ours, which is greater and says what
// this member has on record. Its history does not cover the rejected one, so that
// whoever has that keeps it; its fence is that of an operator's act. Only what
// replaced or deleted an object is answered: what was made anew, moved or given
// other metadata stays, and so does what became of a content that this member's
// disk does not hold: it could not give it back to anybody.
func (f *Folder) counter(u *repl.Update) (w store.Write, ok bool) {
	if !slices.ContainsFunc(f.holds, func(h store.Hold) bool { return h.Decision == store.HoldRejected && h.Covers(u.GVSN) }) {
		return w, false
	}
	rec, known, err := f.st.Get(u.UID)
	if f.storeFailed(err) || !known || !rec.Present || rec.Provisional || rec.Type != u.Type || u.NameConflict || !u.Heir.IsZero() {
		return w, false
	}
	if rec.Type == repl.File && (rec.Presence == repl.Hidden || rec.Presence == repl.Absent) {
		return w, false
	}
	if repl.Compare(u, &rec.Update) <= 0 || u.Present && repl.SameContent(u, &rec.Update) {
		return w, false
	}
	return f.above(rec, u, max(repl.Fence(f.mint()), u.Fence)), true
}

// holdVersions keeps all that is held of a vector out of what its diff joins.
func (f *Folder) holdVersions(d *diff) {
	bar := make(version.Vector)
	for i := range f.holds {
		if h := &f.holds[i]; h.Decision == store.HoldOpen {
			bar.AddInterval(h.Originator, version.Interval{Low: h.From - 1, High: math.MaxUint64})
		}
	}
	if len(bar) == 0 {
		return
	}
	held := d.vector.Minus(d.vector.Minus(bar)).Minus(f.st.Vector())
	d.failed, d.onHold = d.failed.Union(held), d.onHold.Union(held)
}

// holdsOver forgets decisions that there is nothing left to come of.
func (f *Folder) holdsOver() {
	if len(f.holds) == 0 {
		return
	}
	mine := f.st.Vector()
	left := slices.DeleteFunc(slices.Clone(f.holds), func(h store.Hold) bool {
		return h.Decision != store.HoldOpen && mine.Covers(version.Vector{h.Originator: {{Low: h.From - 1, High: h.To}}})
	})
	if len(left) < len(f.holds) {
		f.setHolds(left)
	}
}

// decideHold ends a hold: what is known of the originator by now is released, or
// rejected.
func (f *Folder) decideHold(o version.Originator, reject bool) error {
	if reject && f.cfg.ReadOnly {
		return &ReadOnlyError{f.cfg.Name}
	}
	holds, found := slices.Clone(f.holds), false
	for i := range holds {
		h := &holds[i]
		if h.Originator != o || h.Decision != store.HoldOpen {
			continue
		}
		found = true
		h.Decision, h.To = store.HoldReleased, max(f.highest(o), h.From)
		if reject {
			h.Decision = store.HoldRejected
		}
	}
	if !found {
		return &HeldError{o}
	}
	f.setHolds(holds)
	delete(f.waves, o)
	for _, l := range f.links { // what was kept out is asked for again, now
		l.retryWait = 0
		f.askAgain(l)
	}
	return nil
}

// highest is the highest version of an originator that partners are known to have.
func (f *Folder) highest(o version.Originator) uint64 {
	top := f.st.Vector().Max(o)
	for _, l := range f.links {
		top = max(top, l.known.Max(o))
	}
	for _, v := range f.partner {
		top = max(top, v.Max(o))
	}
	return top
}

// heldUpdates is how many versions of an originator are known of and not here: of
// updates there may be fewer.
func (f *Folder) heldUpdates(h *store.Hold) uint64 {
	top := h.To
	if h.Decision == store.HoldOpen {
		top = f.highest(h.Originator)
	}
	if top < h.From {
		return 0
	}
	return version.Vector{h.Originator: {{Low: h.From - 1, High: top}}}.Minus(f.st.Vector()).Len()
}

// Hold is an originator that is held, or what was decided on it while updates of
// it are still to come.
type Hold struct {
	store.Hold
	Updates uint64 // versions known of and not here
}
