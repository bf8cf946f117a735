package engine

import (
	"fmt"
	"io"
	"slices"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// vouching is whom a start waits for. A start may follow a backup, a snapshot of the machine or a copied state
// directory, and nothing on this server tells that from an ordinary one: what
// was made since is known to partners alone. So a start goes on under its
// originator only when everybody who is given its updates has asked for more, and
// thereby said what he knows of it (rule 3): what he says when he is asked leaves
// out what he is about to store. Until then nothing is captured, for a while; what must be made
// after that is made under a new originator, whose versions cannot have been
// given to others before.
type vouching struct {
	waiting map[repl.MemberID]bool // downstream partners that have not been heard since the start; nil: nobody is waited for
	since   repl.Time              // the start
	until   repl.Time              // nothing is captured before, as long as one is waited for
	spare   version.Originator     // the next one, if it comes to that; zero: this start's is new
}

const (
	// vouchWait is Config.VouchWait where that says nothing: longer than a partner
	// needs that is there.
	vouchWait = 3 * time.Second
	// remarkAfter is Config.RemarkAfter where that says nothing.
	remarkAfter = 15 * time.Minute
)

// awaitVouchers begins a start that is not the first.
func (f *Folder) awaitVouchers(spare version.Originator) {
	if f.phase == store.PhaseInitialSync || f.cfg.ReadOnly {
		f.closePast()
		return // it makes nothing that anybody is given (rule 13)
	}
	now := f.now()
	f.vouch = vouching{waiting: make(map[repl.MemberID]bool), since: now, until: now + repl.Time(f.vouchWait()), spare: spare}
	for _, m := range f.cfg.Downstreams {
		f.vouch.waiting[m] = true
	}
	f.closePast()
}

// vouched notes that a partner has said what it knows: nothing that this member made
// and does not know.
func (f *Folder) vouched(m repl.MemberID) {
	delete(f.vouch.waiting, m)
	f.closePast()
}

// closePast closes what partWithMinted gave up, unless a partner is waited for that
// may know more of it.
func (f *Folder) closePast() {
	if past := f.parted(); len(past) > 0 && len(f.vouch.waiting) == 0 {
		f.storeFailed(f.st.Put(&store.Batch{Join: closed(past...)}))
	}
}

// parted are the originators that a start gave up for its unfinished installs, and
// that nobody has vouched for since: they are not closed.
func (f *Folder) parted() []version.Originator {
	return slices.DeleteFunc(f.st.State().Past, func(o version.Originator) bool {
		return f.st.Knows(version.GVSN{Originator: o, Version: closing})
	})
}

// awaiting reports whether nothing is captured yet, because a partner may prove
// that the records are of the past.
func (f *Folder) awaiting() bool { return len(f.vouch.waiting) > 0 && f.now() < f.vouch.until }

// accounts compares what a partner knows with the records. If it has a version of
// this member's that is not known here, or any before this member has given out
// one, the records are of the past.
func (f *Folder) accounts(m repl.MemberID, v version.Vector) bool {
	for _, o := range append(f.parted(), f.st.State().Originator) {
		if len(v[o]) > 0 && (f.phase != store.PhaseNormal || !f.st.Vector().Covers(version.Vector{o: v[o]})) {
			f.rolledBack(m, o, v)
			return false
		}
	}
	return true
}

// Heard tells what a downstream partner knows, from its own question. Questions are
// told of in any order, and one that is held back again and again: it counts once, and
// not after a later one.
type Heard struct {
	Member  repl.MemberID
	Vector  version.Vector
	Arrived uint64 // wire.DiffRequest.Arrived
}

func (e Heard) apply(f *Folder) {
	if e.Arrived != 0 && e.Arrived <= f.arrived[e.Member] {
		return
	}
	f.arrived[e.Member] = e.Arrived
	if f.stopped == "" && f.accounts(e.Member, e.Vector) {
		f.vouched(e.Member)
		known := e.Vector
		if l := f.links[e.Member]; l != nil { // a question under way says nothing of what its asker has made since
			if own := f.partner[e.Member][l.originator]; len(own) > 0 {
				known = known.Union(version.Vector{l.originator: own})
			}
		}
		f.partner[e.Member] = known
	}
}

// next hands out the GVSN of what others are given.
func (f *Folder) next() version.GVSN {
	if len(f.vouch.waiting) > 0 && !f.vouch.spare.IsZero() {
		st := f.st.State()
		was := st.Originator
		st.Past, st.Originator = append(st.Past, was), f.vouch.spare
		if !f.storeFailed(f.st.Put(&store.Batch{State: &st, Join: closed(st.Past...)})) {
			f.vouch, f.remarked, f.markedAt = vouching{}, 0, nil
			f.doubt.Own = append(f.doubt.Own, st.Originator)
		}
	}
	return f.st.Next()
}

// closing is a version that no database comes to.
const closing = 1 << 62

// closed is what members know of originators that were given up: a version that
// has no record. It proves to a start from an image of before that this is one,
// whatever they had made until then.
func closed(past ...version.Originator) version.Vector {
	v := make(version.Vector)
	for _, o := range past {
		v[o] = []version.Interval{{Low: closing - 1, High: closing}}
	}
	return v
}

// partWithMinted gives the originator up if a crash has left installs of what it
// minted. Whatever of them is found not to have been done was made for nothing, or,
// where this is an image of amid an install, was done and given out since. So it is
// closed only when partners have vouched that they know no more of it, or one of them
// is waited for no longer: what it tells of this start would be lost with it (rule 3).
func partWithMinted(env *Env, st *store.State, random io.Reader) error {
	intents, err := env.Store.Intents()
	if err != nil {
		return err
	}
	was := st.Originator
	if !slices.ContainsFunc(intents, func(in store.Intent) bool { return in.GVSN.Originator == was && in.GVSN != in.Base }) {
		return nil
	}
	var next version.Originator
	if _, err := io.ReadFull(random, next[:]); err != nil {
		return fmt.Errorf("draw an originator: %w", err)
	}
	st.Past, st.Originator = append(st.Past, was), next
	return env.Store.Put(&store.Batch{State: st})
}

// rolledBack handles a partner that knows more of an originator of ours than we do:
// our records are of the past. Nothing more is minted; the runner opens the
// folder anew, to be compared with its partners, not authoritatively (rule 3).
func (f *Folder) rolledBack(m repl.MemberID, o version.Originator, v version.Vector) {
	what := fmt.Sprintf("version %d of this database, which is at %d", v.Max(o), f.st.Vector().Max(o))
	if v.Max(o) == closing {
		what = "that this database was given up for another"
	}
	f.fail(finding.StateRolledBack, fmt.Sprintf("partner %v knows %s", m, what))
	f.rebuild = true
}

// Rebuild reports whether the records are of the past and must be made anew.
func (f *Folder) Rebuild() bool { return f.rebuild }

// doubtOwn is the doubt about what this member captured before its records were
// synced, whatever its originator was.
func doubtOwn(st *store.State) capture.Doubt {
	return capture.Doubt{Own: append(st.Past, st.Originator), Since: max(st.Since-repl.Time(clockSlack), 1)}
}

// startRemarking begins another epoch in the marker now and then, so that a tree
// or a database from before it is told from the present one.
func (f *Folder) startRemarking() {
	after := f.cfg.RemarkAfter
	if after == 0 {
		after = remarkAfter
	}
	if f.remarking || f.mark == nil || f.phase != store.PhaseNormal || f.now() < f.remarked+repl.Time(after) {
		return
	}
	f.remarked = f.now()
	known := f.st.Vector()
	if f.markedAt.Equal(known) {
		return
	}
	f.markedAt = known
	st := f.st.State()
	st.Epoch, st.EpochSettled = st.Epoch+1, false
	if f.storeFailed(f.st.Put(&store.Batch{State: &st})) {
		return
	}
	f.remarking = true
	f.do(&Remark{mark: f.mark, state: st})
}

// Remark writes the marker of the next epoch.
type Remark struct {
	mark  func(*store.State) error
	state store.State
}

// Class says that it changes the tree.
func (*Remark) Class() Class { return ClassInstall }

// Run writes it.
func (a *Remark) Run(_ Context, post func(Event)) { post(remarkedMarker{a.mark(&a.state)}) }

// remarkedMarker tells that the marker is written, or why not.
type remarkedMarker struct{ err error }

func (e remarkedMarker) apply(f *Folder) {
	f.remarking = false
	if e.err != nil {
		return // either epoch is taken for this one until the next is written
	}
	st := f.st.State()
	st.EpochSettled = true
	f.storeFailed(f.st.Put(&store.Batch{State: &st, NoSync: true}))
}

// Close notes that the folder was left in order: what the next start finds
// changed was changed by users. The next epoch begins, so that an image of the
// tree or of the database from while the folder ran is told from what is left.
func (f *Folder) Close() error {
	if f.stopped != "" {
		return nil
	}
	// What is doubted still is, or has not been synced.
	clean := f.install == nil && !f.unclean && len(f.late.dirs) == 0 && f.phase == store.PhaseNormal
	st := f.st.State()
	st.Epoch, st.EpochSettled = st.Epoch+1, false
	if err := f.st.Put(&store.Batch{State: &st}); err != nil {
		return err
	}
	if err := f.mark(&st); err == nil { // if the tree is not there, the next start says so
		st.EpochSettled = true
	}
	st.Clean = clean
	return f.st.Put(&store.Batch{State: &st})
}
