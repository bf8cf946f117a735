package engine

import (
	"errors"
	"slices"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// lockedRetry is when a name that a plan under way holds is looked at again.
const lockedRetry = 20 * time.Millisecond

// commitDrafts turns drafts into updates of ours and stores them: one batch,
// synced, before anyone is told (rule 14). A draft whose record or place has
// moved on since it was made is looked at again; so is a draft of a lazy look,
// which synced nothing, if it came too late to be made durable with all others.
func (f *Folder) commitDrafts(drafts []capture.Draft, lazy bool) {
	if lazy && (f.phase == store.PhaseNormal || f.evacuating) {
		f.lookAgain(drafts, lockedRetry)
		return
	}
	all := drafts
	var refusals []capture.Draft
	g := gathered{
		writes: make([]store.Write, 0, len(drafts)), uids: make(map[repl.UID]bool, len(drafts)), dirs: make(map[repl.Identity]bool),
		parents: make(map[repl.UID]repl.UID), places: make(map[repl.Place]repl.UID, len(drafts)),
	}
	for len(drafts) > 0 {
		n := groupLen(drafts)
		writes, how := f.prepare(drafts[:n], &g)
		switch how {
		case ready:
			g.add(writes)
		case overtaken:
			f.lookAgain(drafts[:n], lockedRetry)
		case refused:
			f.unsettled = f.unsettled || n > 1 || !drafts[0].Update.Parent.IsZero() // the root itself is looked at in any case
			if f.cfg.ReadOnly {
				f.refuse(drafts[:n])
				refusals = append(refusals, drafts[:n]...)
				g.refuse(drafts[:n])
			}
		}
		drafts = drafts[n:]
	}
	if len(refusals) > 0 {
		f.undo(refusals)
	}
	if len(g.writes) == 0 {
		return
	}
	b := store.Batch{Writes: g.writes}
	b.NoSync = f.phase == store.PhaseInitialBuild || f.phase == store.PhaseInitialSync || !updates(b.Writes)
	err := f.st.Put(&b)
	var moved *store.MovedError
	if errors.As(err, &moved) {
		panic("engine: a record moved under its only writer: " + err.Error())
	}
	if f.storeFailed(err) {
		return
	}
	f.notify = f.notify || updates(b.Writes)
	f.stats.captured(b.Writes, f.now())
	for i := range b.Writes {
		f.moves = f.moves || b.Writes[i].Record.Type == repl.Directory
		f.waitOver(b.Writes[i].Record.UID)
	}
	for i := range all {
		if g.uids[all[i].Update.UID] {
			if all[i].Kind == capture.KindMeta {
				f.stats.amended++
			}
			f.trail(&all[i])
			f.absentBelow(&all[i])
			if p := all[i].Prior; p != nil && all[i].Kind != capture.KindAdopt {
				f.vacated(p.Parent, p.Name)
			}
		}
	}
}

// updates reports whether writes make updates; others tell only what is known
// of this disk, and can be found out again.
func updates(writes []store.Write) bool {
	for i := range writes {
		if writes[i].Record.GVSN != writes[i].Base {
			return true
		}
	}
	return false
}

// groupLen returns how many drafts at the front must be committed together.
func groupLen(drafts []capture.Draft) int {
	n := 1
	for g := drafts[0].Group; g != 0 && n < len(drafts) && drafts[n].Group == g; n++ {
	}
	return n
}

// lookAgain looks in a while at the places of drafts.
func (f *Folder) lookAgain(drafts []capture.Draft, after time.Duration) {
	for i := range drafts {
		d := &drafts[i]
		if d.Update.Parent.IsZero() {
			f.again(f.root(), "", false, after)
			continue
		}
		f.lookAgainAt(d.Update.Parent, d.Update.Name, after)
		if d.Prior != nil && (d.Prior.Parent != d.Update.Parent || d.Prior.Name != d.Update.Name) {
			f.lookAgainAt(d.Prior.Parent, d.Prior.Name, after)
		}
		if d.Prior == nil {
			continue
		}
		if now, ok, err := f.st.Get(d.Prior.UID); !f.storeFailed(err) && ok && (now.Parent != d.Prior.Parent || now.Name != d.Prior.Name) {
			f.lookAgainAt(now.Parent, now.Name, after) // where it went meanwhile
		}
	}
}

// lookAgainAt looks at a place again, in a while; if the record of its
// directory is dead, at the directory's own place: what lies there on disk is
// another object by now.
func (f *Folder) lookAgainAt(dir repl.UID, name string, after time.Duration) {
	dir, err := f.st.Canonical(dir)
	if f.storeFailed(err) {
		return
	}
	rec, ok, err := f.st.Get(dir)
	switch {
	case f.storeFailed(err) || !ok:
	case rec.Present:
		f.again(dir, name, true, after)
	default:
		f.lookAgainAt(rec.Parent, rec.Name, after)
	}
}

// readiness is what can be done with a group of drafts.
type readiness uint8

const (
	ready     readiness = iota
	overtaken           // records or plans have moved on: look again
	refused             // this member may not mint it
)

// gathered is what one batch writes.
type gathered struct {
	writes  []store.Write
	uids    map[repl.UID]bool
	dirs    map[repl.Identity]bool // directories on disk
	parents map[repl.UID]repl.UID  // of directories, as they will be
	// places are those of live objects, the names folded: two that fold to one
	// may have been found at once.
	places  map[repl.Place]repl.UID
	refused map[repl.UID]bool // objects of which something is undone
	room    []store.Write     // for the next group's, until they are gathered
}

func (g *gathered) add(writes []store.Write) {
	g.writes = append(g.writes, writes...)
	for i := range writes {
		r := &writes[i].Record
		g.uids[r.UID] = true
		if !r.Present || r.Type != repl.Directory {
			continue
		}
		g.parents[r.UID] = r.Parent
		if r.Identity.Handle != "" {
			g.dirs[r.Identity] = true
		}
	}
}

// prepare makes the writes of one group of drafts, which join what is gathered.
func (f *Folder) prepare(group []capture.Draft, g *gathered) ([]store.Write, readiness) {
	f.reanimate(group, g)
	var freed map[repl.UID]bool // most drafts leave everything at its place
	var parents map[repl.UID]repl.UID
	for i := range group {
		d := &group[i]
		p := d.Prior
		if p != nil && !(d.Update.Present && p.Parent == d.Update.Parent && f.flight.fold(p.Name) == f.flight.fold(d.Update.Name)) {
			freed = with(freed, p.UID, true) // dead, or gone from where it was
			if d.Update.Present {
				parents = with(parents, p.UID, d.Update.Parent)
			}
		}
	}
	writes, common, ok := f.share(group, g, parents)
	if !ok {
		return nil, overtaken
	}
	if writes == nil {
		writes = g.room
	}
	may := true
	for i := range group {
		d := &group[i]
		if d.Rival != nil {
			if may = may && (!f.cfg.ReadOnly || d.Rival.Provisional); may { // else what was made there is undone
				gone, ok := f.fade(d.Rival, g)
				if !ok {
					return nil, overtaken
				}
				writes = append(writes, gone...)
			}
			freed = with(freed, d.Rival.UID, true)
		}
		if d.Prior != nil && (g.uids[d.Prior.UID] || g.refused[d.Prior.UID]) || g.uids[d.Update.Parent] || !f.current(d, freed, parents, g.parents) || g.dirs[d.Identity] || f.twice(d) || f.holdsMore(d, g.uids, freed) {
			return nil, overtaken
		}
		if common[d.Update.UID] {
			unveil(d)
		}
		if !may {
			continue // what is refused is undone together: all of it must still be so
		}
		var w store.Write
		if w, may = f.write(d); may {
			writes = append(writes, w)
		}
	}
	if !may {
		return nil, refused
	}
	g.room = writes[:0]
	if !f.rests(group, writes) && !f.claim(writes, g) {
		return nil, overtaken
	}
	return writes, ready
}

// holdsMore reports whether a directory that is to die has got another object on
// record since that was found: it is to be buried first.
func (f *Folder) holdsMore(d *capture.Draft, pending, freed map[repl.UID]bool) (more bool) {
	if d.Update.Present || d.Update.Type != repl.Directory || f.cfg.ReadOnly && !d.Prior.Provisional {
		return false
	}
	err := f.st.Children(d.Prior.UID, "", func(rec *repl.Record) bool {
		more = !pending[rec.UID] && !freed[rec.UID]
		return !more
	})
	return f.storeFailed(err) || more
}

// twice reports whether the directory that a draft found has another record by
// now: it was moved between two looks, and the other one saw it first.
func (f *Folder) twice(d *capture.Draft) bool {
	if d.Update.Type != repl.Directory || !d.Update.Present || d.Identity.Handle == "" || d.Prior != nil && d.Prior.Identity == d.Identity {
		return false
	}
	known, err := f.st.ByHandle(d.Identity.Handle)
	if f.storeFailed(err) {
		return true
	}
	return slices.ContainsFunc(known, func(r repl.Record) bool {
		return r.Present && r.Presence == repl.OnDisk && r.Identity == d.Identity
	})
}

// share lists the provisional directories into which a group of drafts puts
// shared objects: others must be able to follow a user there, so they become
// updates of ours. Of those that are no drafts themselves it makes the writes. It
// is not ok if one of them cannot be written now.
func (f *Folder) share(group []capture.Draft, g *gathered, parents map[repl.UID]repl.UID) (writes []store.Write, common map[repl.UID]bool, ok bool) {
	if f.phase != store.PhaseInitialSync || f.cfg.ReadOnly {
		return nil, nil, true
	}
	common = make(map[repl.UID]bool)
	drafted := make(map[repl.UID]bool, len(group))
	for i := range group {
		drafted[group[i].Update.UID] = true
	}
	for i := range group {
		d := &group[i]
		if d.Kind == capture.KindAdopt || d.Prior == nil || d.Prior.Provisional || !d.Update.Present || d.Update.Parent.IsZero() {
			continue
		}
		for dir := d.Update.Parent; ; {
			at, err := f.st.Canonical(dir)
			if f.storeFailed(err) {
				return nil, nil, false
			}
			rec, known, err := f.st.Get(at)
			if f.storeFailed(err) || !known || g.uids[at] || f.flight.holds(at) {
				return nil, nil, false
			}
			if !rec.Provisional || common[at] {
				break
			}
			common[at] = true
			if dir = rec.Parent; drafted[at] {
				if to, moves := parents[at]; moves {
					dir = to
				}
				continue
			}
			own := capture.Draft{Prior: &rec, Update: rec.Update, Local: capture.Local{Presence: rec.Presence, Identity: rec.Identity, Print: rec.Print, Shown: rec.Shown}}
			unveil(&own)
			w, minted := f.write(&own)
			if !minted {
				return nil, nil, false
			}
			writes = append(writes, w)
		}
	}
	return writes, common, true
}

// unveil makes a draft on a provisional record one of an update that others get:
// nobody has ever seen what was provisional.
func unveil(d *capture.Draft) {
	prior := *d.Prior
	prior.Provisional, prior.Fence, prior.History = false, repl.Unfenced, nil
	d.Prior, d.Update.Fence, d.Update.History = &prior, repl.Unfenced, nil
	if d.Kind == capture.KindAdopt { // it is where it was: all that is new is that others get it
		d.Kind = capture.KindMeta
	}
}

// current reports whether a draft still follows from the records, and no plan
// under way holds its object or place. freed are the objects that leave their
// places with it, parents the directories above directories as they will be.
func (f *Folder) current(d *capture.Draft, freed map[repl.UID]bool, parents ...map[repl.UID]repl.UID) bool {
	u := &d.Update
	if u.Parent.IsZero() { // the root's own metadata
		return f.unmoved(d.Prior)
	}
	dir, err := f.st.Canonical(u.Parent) // the record may name a directory that was merged
	if f.storeFailed(err) {
		return false
	}
	parent, ok, err := f.st.Get(dir)
	if f.storeFailed(err) || !ok || u.Present && !parent.Present {
		return false
	}
	if dir != u.Parent && (d.Prior == nil || d.Prior.Parent != u.Parent) {
		return false // it was put into a directory that is merged by now
	}
	if f.flight.holdsPlace(repl.Place{Dir: dir, Name: u.Name}) || f.flight.holds(dir) {
		return false
	}
	if d.Prior != nil {
		if !f.unmoved(d.Prior) {
			return false
		}
	}
	absent := d.Kind == capture.KindAdopt && d.Presence == repl.Absent // which takes no place
	if !u.Present || absent || d.Prior != nil && d.Prior.Present && dir == u.Parent && d.Prior.Parent == dir && d.Prior.Name == u.Name {
		return true // the place is its own as long as its record stands
	}
	if d.Prior != nil && d.Prior.Type == repl.Directory &&
		(f.within(f.st.Get, dir, d.Prior.UID, parents...) || f.within(f.flight.Get, dir, d.Prior.UID, parents...)) {
		return false // two looks at once, or this one and a plan under way, make the halves of a ring
	}
	there, taken, err := f.st.At(dir, u.Name)
	if f.storeFailed(err) {
		return false
	}
	return !taken || freed[there.UID] || d.Prior != nil && there.UID == d.Prior.UID || f.putElsewhere(there.UID)
}

// recordOf looks a record up: as it is, or as plans under way will make it.
type recordOf func(repl.UID) (repl.Record, bool, error)

// within reports whether a directory will lie in another, or is it.
func (f *Folder) within(get recordOf, dir, in repl.UID, parents ...map[repl.UID]repl.UID) bool {
	for steps := 0; dir != f.root(); steps++ {
		if dir == in || steps > maxDepth {
			return true
		}
		rec, ok, err := get(dir)
		if f.storeFailed(err) {
			return false
		}
		above := rec.Parent
		for _, moved := range parents {
			if to, moves := moved[dir]; moves {
				above, ok = to, true
			}
		}
		if !ok {
			return false
		}
		if dir, ok = f.heirOf(get, above, in); !ok {
			return dir == in
		}
	}
	return false
}

// heirOf follows the heirs of a directory. It ends early, and is not ok, at the
// one that is sought, or if the records cannot be read.
func (f *Folder) heirOf(get recordOf, dir, sought repl.UID) (repl.UID, bool) {
	for range maxHeirs {
		rec, ok, err := get(dir)
		switch {
		case f.storeFailed(err):
			return repl.UID{}, false
		case dir == sought:
			return dir, false
		case !ok || rec.Heir.IsZero():
			return dir, true
		}
		dir = rec.Heir
	}
	return dir, true
}

// maxDepth bounds a walk up the records.
const maxDepth = 1 << 16

// unmoved reports whether a record is still what a draft was made on, and no
// plan under way changes its object: of a directory also its entries, because
// installing them moves its mtime to and fro.
func (f *Folder) unmoved(prior *repl.Record) bool {
	stands, err := f.st.Stands(prior)
	return !f.storeFailed(err) && stands && !f.flight.holds(prior.UID) && !f.flight.touches(prior.UID)
}

// write mints the draft, if this member may. In initial sync what the first
// walk finds becomes a provisional record, which nobody else ever sees (rule
// 13), and what hangs on one stays provisional; what users do to objects that
// the partner's updates brought is an update like any other.
func (f *Folder) write(d *capture.Draft) (store.Write, bool) {
	rec := repl.Record{Update: d.Update, Presence: d.Presence, Identity: d.Identity, Print: d.Print, Shown: d.Shown}
	if d.Kind == capture.KindAdopt {
		rec.Update, rec.Provisional = d.Prior.Update, d.Prior.Provisional
		return store.Write{Record: rec, Base: d.Prior.GVSN}, true
	}
	var prior *repl.Update
	var base version.GVSN
	if d.Prior != nil {
		prior, base = &d.Prior.Update, d.Prior.GVSN
	}
	switch {
	case f.phase == store.PhaseInitialSync && rec.Parent.IsZero():
		return store.Write{}, false // the root is the primary's; the walk that ends the initial sync looks again
	case f.phase == store.PhaseInitialSync:
		var ok bool
		if rec.Provisional, ok = f.provisional(d); !ok {
			return store.Write{}, false
		}
		dir, err := f.st.Canonical(rec.Parent) // it may be a provisional one that gave way
		if f.storeFailed(err) {
			return store.Write{}, false
		}
		rec.Parent = dir
	case f.cfg.ReadOnly:
		return store.Write{}, false
	case f.phase == store.PhaseInitialBuild:
		rec.Fence = repl.FenceInitialBuild
	}
	now := f.mint()
	if d.MtimeOnly && prior != nil {
		now = 0 // an mtime alone is no later than what others did unseen: it would undo their moves
	}
	gvsn := f.next()
	rec.Update = repl.Mint(gvsn, now, prior, rec.Update)
	if now == 0 {
		f.touches.add(gvsn)
	}
	if rec.Provisional {
		rec.Fence = repl.FenceInitialSync // loses to everything
	}
	unsure := f.unclean || f.late.dirs[d.Update.Parent] || d.Prior != nil && (d.Prior.Presence == repl.Obscured || d.Prior.Presence == repl.Absent || // a filter hid what others did to it
		f.unsure[d.Prior.UID])
	if unsure && prior != nil && prior.Present && !repl.SameContent(prior, &rec.Update) {
		// Whether a user or the crash made this content, and on top of which
		// other, cannot be told: the history owns up to nothing, so whoever
		// installs it keeps what it replaces (rule 19).
		rec.Unclean, rec.History = true, nil
	}
	return store.Write{Record: rec, Base: base}, true
}

// provisional reports whether a draft of a member in initial sync makes a provisional record. On a
// read-only member a change of a shared object is refused, and what was put into its place.
func (f *Folder) provisional(d *capture.Draft) (provisional, ok bool) {
	dir, err := f.st.Canonical(d.Update.Parent)
	if f.storeFailed(err) {
		return false, false
	}
	there, taken, err := f.st.At(dir, d.Update.Name)
	if f.storeFailed(err) || taken && d.Update.Present && (d.Prior == nil || d.Prior.UID != there.UID) && f.putElsewhere(there.UID) {
		return false, false
	}
	if d.Prior != nil {
		return d.Prior.Provisional, d.Prior.Provisional || !f.cfg.ReadOnly
	}
	parent, _, err := f.st.Get(dir)
	return f.walking || parent.Provisional || f.cfg.ReadOnly, !f.storeFailed(err)
}
