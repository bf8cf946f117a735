package engine

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/filter"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// away is the presence of an object that is not brought to this disk: a dead
// one, or one that a filter hides.
func away(u *repl.Update) repl.Presence {
	if u.Present {
		return repl.Hidden
	}
	return repl.Absent
}

// filterHash tells filters apart.
func filterHash(set *filter.Set) repl.Hash {
	rules := set.Rules()
	text := strings.Join(rules.Files, "\x00") + "\x00\x00" + strings.Join(rules.Directories, "\x00")
	if n := set.Longest(); n > 0 && n < filter.MaxPattern {
		text += fmt.Sprintf("\x00\x00%d", n)
	}
	return capture.HashTarget(text)
}

// followFilter makes the records say what a new filter hides and what it does
// not hide any more (rule 23): of the one nothing on this disk is looked at from
// now on, of the other nobody knows what it is until it is looked at. It is a
// scan of the records.
func followFilter(cfg *Config, st *store.Folder, state *store.State) error {
	hash := filterHash(cfg.Filter)
	if state.Filter == hash {
		return nil
	}
	if !state.Filter.IsZero() {
		if err := st.Put(&store.Batch{State: unfiltered(st)}); err != nil { // a crash leaves records by either filter
			return err
		}
		shown, err := rehide(cfg, st, hiding{dir: repl.RootUID(cfg.Folder)})
		if err != nil {
			return fmt.Errorf("apply the filter of %s to its records: %w", cfg.Name, err)
		}
		state.Missing = state.Missing || shown
	}
	state.Filter = hash
	return st.Put(&store.Batch{State: state})
}

// unfiltered is the state of records of which some do not say yet what the filter
// hides: a start compares them all.
func unfiltered(st *store.Folder) *store.State {
	state := st.State()
	state.Filter = repl.Hash{1} // of no filter
	return &state
}

// hideChunk is how many records are written at once.
const hideChunk = 4096

// hiding is a directory, whether a filter hides it, whether it is known not to be
// here, and how far below the first one it lies.
type hiding struct {
	dir            repl.UID
	hidden, absent bool
	depth          int
}

// rehide compares every live record below a directory with the filter, and
// reports whether some are hidden no more.
func rehide(cfg *Config, st *store.Folder, at hiding) (shown bool, err error) {
	todo := []hiding{at}
	put := rewriting{st: st}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if at.depth > maxDepth { // a ring, of which the path will tell
			_, err := st.Path(at.dir)
			return shown, err
		}
		err := st.Children(at.dir, "", func(rec *repl.Record) bool {
			hide := at.hidden || cfg.Filter.Match(rec.Name, rec.Type == repl.Directory)
			now := *rec
			switch {
			case hide && rec.Presence != repl.Hidden && rec.Presence != repl.Carried:
				now.Presence = repl.Hidden
			case !hide && rec.Presence == repl.Hidden:
				if now.Presence, shown = repl.Obscured, true; at.absent {
					now.Presence = repl.Absent // or nothing could be made under the name of what it was in
				}
				now.Identity, now.Print = repl.Identity{}, repl.Print{} // its object may be another record's by now
			}
			if rec.Type == repl.Directory {
				todo = append(todo, hiding{rec.UID, hide, now.Presence == repl.Absent, at.depth + 1})
			}
			return now.Presence == rec.Presence || put.add(now)
		})
		if err != nil {
			return shown, err
		}
	}
	return shown, put.flush()
}

// rewriting stores records that say something else of this disk, a chunk at a
// time, however many there are: a step that a crash may undo.
type rewriting struct {
	st  *store.Folder
	put store.Batch
	err error // of an earlier chunk
}

// add takes one, and reports whether there may be more.
func (r *rewriting) add(rec repl.Record) bool {
	r.put.Writes = append(r.put.Writes, store.Write{Record: rec, Base: rec.GVSN})
	return len(r.put.Writes) < hideChunk || r.flush() == nil
}

// flush stores what has not been.
func (r *rewriting) flush() error {
	if r.err == nil && len(r.put.Writes) > 0 {
		r.put.NoSync = true
		r.err = r.st.Put(&r.put)
		r.put = store.Batch{}
	}
	return r.err
}

// hide says of the objects that were installed whether the filter hides them here,
// where members go by different filters for a while: by the records as they are about
// to be, since plans under way may fail. was is how they were on this disk before. It
// returns the directories that change in this, which what is below is to follow, and
// whether something is to be on this disk and is not.
func hide(cfg *Config, st *store.Folder, put *store.Batch, was map[repl.UID]repl.Presence) (follow []hiding, missing bool, err error) {
	if cfg.Filter.Empty() {
		return nil, false, nil
	}
	now := make(map[repl.UID]*repl.Record, len(put.Writes))
	for i := range put.Writes {
		now[put.Writes[i].Record.UID] = &put.Writes[i].Record
	}
	hidden := make(map[repl.UID]bool) // by directories
	for i := range put.Writes {
		rec := &put.Writes[i].Record
		dir := rec.Parent
		if !rec.Heir.IsZero() { // what was in it is in its heir now
			dir = rec.Heir
		}
		if dir.IsZero() || !rec.Present && rec.Heir.IsZero() {
			continue
		}
		above, known := hidden[dir]
		if !known {
			if above, err = keptOut(cfg, st, dir, now); err != nil {
				return nil, false, err
			}
			hidden[dir] = above
		}
		if !rec.Heir.IsZero() {
			follow = append(follow, hiding{dir: rec.Heir, hidden: above})
			continue
		}
		switch {
		case above || cfg.Filter.Match(rec.Name, rec.Type == repl.Directory):
			rec.Presence = repl.Hidden
		case rec.Presence == repl.Hidden: // the plan by which it would have been has failed
			rec.Presence, missing = repl.Absent, true
		}
		if rec.Type == repl.Directory && (rec.Presence == repl.Hidden) != (was[rec.UID] == repl.Hidden) {
			follow = append(follow, hiding{dir: rec.UID, hidden: rec.Presence == repl.Hidden, absent: rec.Presence == repl.Absent})
		}
	}
	return follow, missing, nil
}

// keptOut reports whether the filter keeps out a directory, or one above it, by the
// records of the database and those that are about to be stored.
func keptOut(cfg *Config, st *store.Folder, dir repl.UID, now map[repl.UID]*repl.Record) (bool, error) {
	for range maxDepth {
		rec := now[dir]
		if rec == nil {
			stored, known, err := st.Get(dir)
			if err != nil || !known {
				return false, err
			}
			rec = &stored
		}
		switch {
		case !rec.Heir.IsZero():
			dir = rec.Heir
		case rec.Parent.IsZero():
			return false, nil
		case cfg.Filter.Match(rec.Name, true):
			return true, nil
		default:
			dir = rec.Parent
		}
	}
	return false, nil
}

// hideInstalled is hide of what a batch of changes is about to store, and says that the
// records of some say nothing of the filter before rehideBelow.
func (f *Folder) hideInstalled(put *store.Batch, changes []*repl.Change) bool {
	was := make(map[repl.UID]repl.Presence, len(changes))
	for _, c := range changes {
		was[c.Update.UID] = c.Was.Presence
	}
	follow, missing, err := hide(f.cfg, f.st, put, was)
	if f.storeFailed(err) {
		return false
	}
	if missing {
		f.missSome()
	}
	if f.rehides = follow; len(follow) > 0 {
		put.State = unfiltered(f.st)
	}
	return true
}

// rehideBelow lets what is in directories follow them, whose records were stored
// with the state unfiltered.
func (f *Folder) rehideBelow() {
	if len(f.rehides) == 0 {
		return
	}
	for _, at := range f.rehides {
		dir, err := f.st.Canonical(at.dir)
		if f.storeFailed(err) {
			return
		}
		at.dir = dir
		shown, err := rehide(f.cfg, f.st, at)
		if f.storeFailed(err) {
			return
		}
		if shown {
			f.missSome()
		}
	}
	f.rehides = nil
	st := f.st.State()
	st.Filter = filterHash(f.cfg.Filter)
	f.storeFailed(f.st.Put(&store.Batch{State: &st}))
}

// How soon what a filter hid, and is not here, is looked for again: ever more
// seldom, and soon again when a partner comes.
const (
	showFirst = 2 * time.Second
	showLast  = time.Hour
)

// missSome says, also to a later start, that objects may be missing on this disk.
func (f *Folder) missSome() {
	f.missing = true
	if st := f.st.State(); !st.Missing {
		st.Missing = true
		f.storeFailed(f.st.Put(&store.Batch{State: &st}))
	}
}

// startShowing looks, when nothing else is to be looked at, for what is to be on
// this disk and is not: partners have it.
func (f *Folder) startShowing() {
	if !f.missing || f.showing || f.phase != store.PhaseNormal && f.phase != store.PhaseInitialSync || f.busyLocally() || f.now() < f.showAt || len(f.flight.aloft) > 0 {
		return
	}
	f.showWait = min(max(2*f.showWait, showFirst), showLast)
	f.showing, f.showAt = true, f.now()+repl.Time(f.showWait)
	f.do(&Show{cfg: f.cfg})
}

// Show finds the records that are to be on this disk and are not.
type Show struct{ cfg *Config }

// Class says that it reads the tree.
func (*Show) Class() Class { return ClassLook }

// showMost bounds what is brought back at once.
const showMost = 4096

// Run posts them, directories before what lies in them.
func (a *Show) Run(ctx Context, post func(Event)) {
	ev := showed{cfg: a.cfg}
	todo := []repl.UID{repl.RootUID(a.cfg.Folder)}
	for len(todo) > 0 && len(ev.missing) < showMost && ev.err == nil && ctx.Err() == nil {
		dir := todo[0]
		todo = todo[1:]
		var unsure []repl.Record
		ev.err = ctx.Store.Children(dir, "", func(rec *repl.Record) bool {
			if rec.Presence == repl.Obscured || rec.Presence == repl.Absent {
				unsure = append(unsure, *rec)
			}
			if rec.Type == repl.Directory && rec.Presence != repl.Hidden {
				todo = append(todo, rec.UID)
			}
			return true
		})
		for i := 0; i < len(unsure) && len(ev.missing) < showMost; i++ {
			if !(lone{ctx.Env, a.cfg}).lookDecides(&unsure[i]) {
				ev.missing = append(ev.missing, unsure[i])
			} else if there, ok, err := ctx.Store.At(dir, unsure[i].Name); err == nil && ok && there.UID != unsure[i].UID && unsure[i].Presence == repl.Obscured {
				ev.taken = append(ev.taken, dir)
			}
		}
		ev.unsure += len(unsure)
	}
	ev.err = errors.Join(ev.err, ctx.Err())
	post(ev)
}

// showed tells what was looked for.
type showed struct {
	cfg     *Config
	missing []repl.Record
	taken   []repl.UID // directories in which the place of one is on record as another's, since they were merged
	unsure  int        // all of those whose state on this disk is not known
	err     error
}

func (e showed) apply(f *Folder) {
	f.showing = false
	if e.err != nil || e.cfg.Filter != f.cfg.Filter {
		return // tried again
	}
	if e.unsure == 0 {
		f.missing = false
		f.find.Clear(finding.ShownMissing, f.cfg.Name)
		st := f.st.State()
		st.Missing = false
		f.storeFailed(f.st.Put(&store.Batch{State: &st}))
		return
	}
	for _, dir := range e.taken { // only a look at all of it tells that it is not there
		f.dirty.markAll(dir)
	}
	if len(e.missing) == 0 {
		return
	}
	f.find.Raise(finding.ShownMissing, f.cfg.Name, fmt.Sprintf("%d names, the first %q", len(e.missing), e.missing[0].Name))
	l := f.nextLink()
	if l == nil {
		return
	}
	var changes []repl.Change
	for i := range e.missing {
		rec := &e.missing[i]
		to, ok := f.placeOf(&rec.Update)
		now, known, err := f.st.Get(rec.UID)
		if !ok || f.storeFailed(err) {
			return
		}
		if !known || now.GVSN != rec.GVSN || now.Presence != rec.Presence || f.flight.holds(rec.UID) || f.flight.holdsPlace(to) {
			continue
		}
		changes = append(changes, repl.Change{
			Verdict: repl.VerdictCreate, Update: now.Update, Was: now, To: to, Meta: true, Content: now.Type != repl.Directory,
		})
	}
	f.launch(l, &diff{failed: make(version.Vector), heldOut: make(version.Vector)}, changes)
}

// nextLink returns a partner that can be asked for content, another one each time.
func (f *Folder) nextLink() *link {
	f.shows++
	for i := range f.cfg.Upstreams {
		if l := f.links[f.cfg.Upstreams[(i+f.shows)%len(f.cfg.Upstreams)]]; l.up {
			return l
		}
	}
	return nil
}

// mostLacking bounds what is remembered of contents that partners do not have.
const mostLacking = 4096

// noteLacking remembers that a content cannot be had which was to replace one that
// only this member's initial build knows.
func (f *Folder) noteLacking(b *batch, i int) {
	c := b.changes[i]
	if f.phase != store.PhaseInitialSync || !without(b.staged[i].Status) || c.Object.UID == c.Update.UID {
		return
	}
	if len(f.lacks) >= mostLacking {
		clear(f.lacks)
	}
	f.lacks[c.Update.GVSN] = true
}

// absentBelow says of what is in a directory that is not here that it is not
// here either.
func (f *Folder) absentBelow(d *capture.Draft) {
	if d.Kind != capture.KindAdopt || d.Presence != repl.Absent || d.Update.Type != repl.Directory {
		return
	}
	put := rewriting{st: f.st}
	for todo := []repl.UID{d.Update.UID}; len(todo) > 0; {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		err := f.st.Children(dir, "", func(rec *repl.Record) bool {
			if rec.Type == repl.Directory {
				todo = append(todo, rec.UID)
			}
			if rec.Presence != repl.Obscured {
				return true
			}
			now := *rec
			now.Presence, now.Identity, now.Print = repl.Absent, repl.Identity{}, repl.Print{}
			return put.add(now)
		})
		if f.storeFailed(err) {
			return
		}
	}
	f.storeFailed(put.flush())
}

// distrust forgets the fingerprints that are in doubt of an object that could not
// be looked at, and of what is in it: whenever it can be, it is read, also after
// another start.
func (f *Folder) distrust(uid repl.UID) {
	put := rewriting{st: f.st}
	for todo := []repl.UID{uid}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		rec, known, err := f.st.Get(at)
		if f.storeFailed(err) {
			return
		}
		if known && f.doubt.Of(&rec) && rec.Print != (repl.Print{}) {
			rec.Print = repl.Print{}
			put.add(rec)
		}
		err = f.st.Children(at, "", func(child *repl.Record) bool {
			todo = append(todo, child.UID)
			return true
		})
		if f.storeFailed(err) {
			return
		}
	}
	f.storeFailed(put.flush())
}

// fade makes the writes by which an object dies that is not on this disk because
// a filter hides it, or did, with all that is in it: something that replicates was
// made under its name. It is not ok if it is anything else.
func (f *Folder) fade(rec *repl.Record, g *gathered) (writes []store.Write, ok bool) {
	now, known, err := f.st.Get(rec.UID)
	if f.storeFailed(err) || !known || !now.Present || now.GVSN != rec.GVSN || now.Presence != repl.Hidden && now.Presence != repl.Absent || g.uids[rec.UID] || f.flight.holds(rec.UID) {
		return nil, false
	}
	if now.Type == repl.Directory {
		var below []repl.Record
		err := f.st.Children(now.UID, "", func(child *repl.Record) bool {
			below = append(below, *child)
			return true
		})
		if f.storeFailed(err) {
			return nil, false
		}
		for i := range below {
			gone, ok := f.fade(&below[i], g)
			if !ok {
				return nil, false
			}
			writes = append(writes, gone...)
		}
	}
	d := capture.Tombstone(&now)
	d.Update.NameConflict = now.Type != repl.Directory // who has it keeps it
	w, ok := f.write(&d)
	return append(writes, w), ok
}
