package engine

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/finding"
	"opendfs/internal/journal"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// The bounds on capture's work at once.
const (
	maxLooks   = 6    // directories looked at, one after the other
	manyLooks  = 24   // side by side; most wait for a flush that they share
	draftChunk = 512  // drafts committed in one batch
	goneChunk  = 4096 // deletions looked into by one action
	maxRaised  = 4096 // findings of names remembered, of one code, to be cleared
)

// Journaled brings names from the change journal.
type Journaled struct{ Batch journal.Batch }

func (e Journaled) apply(f *Folder) {
	var last *repl.Record // the directory of the name before
	for i := range e.Batch.Dirty {
		d := &e.Batch.Dirty[i]
		if last != nil && d.Name != "." && d.Name != "" && !d.Tree && path.Base(d.Path) == last.Name && last.Identity.Handle == string(d.Dir) {
			f.dirty.mark(last.UID, d.Name, d.Wrote) // and the directory itself is
			continue
		}
		last = f.journalled(d)
	}
	if g := e.Batch.Gap; g != nil {
		if !g.Planned {
			f.find.Raise(finding.JournalGap, f.cfg.Name, g.Reason)
		}
		f.walk()
	}
	f.token = e.Batch.Token
}

// walk looks at the whole tree, from the root on.
func (f *Folder) walk() {
	f.walking = true
	f.dirty.markAll(f.root())
	f.dirty.at(f.root()).self = true
}

func (f *Folder) root() repl.UID { return repl.RootUID(f.cfg.Folder) }

// journalled marks one name that the journal reported. It returns the record of
// the directory that it is in, if that is marked too.
func (f *Folder) journalled(d *journal.Dirty) *repl.Record {
	if d.Name == "" {
		f.markHandle(string(d.Child), d.Wrote)
		return nil
	}
	dir, ok := f.directoryOf(d)
	if !ok {
		return nil
	}
	f.markDirectory(dir)
	in, known, err := f.st.Get(dir)
	if f.storeFailed(err) {
		return nil
	}
	if known && dir != f.root() && path.Base(d.Path) != in.Name {
		f.dirty.at(dir).self = true // it is on the move: its place on record may tell nothing of it
	}
	if d.Name != "." {
		f.dirty.mark(dir, d.Name, d.Wrote)
	}
	if !d.Tree {
		if known && dir != f.root() {
			return &in
		}
		return nil
	}
	if d.Name != "." { // what lies below is in doubt as well
		rec, ok, err := f.st.At(dir, d.Name)
		if f.storeFailed(err) || !ok || rec.Type != repl.Directory {
			return nil // not on record: it is looked at whole when it is found
		}
		dir = rec.UID
	}
	f.dirty.markAll(dir)
	return nil
}

// markDirectory marks a directory whose entries changed: its mtime did too.
func (f *Folder) markDirectory(dir repl.UID) {
	if dir == f.root() {
		f.dirty.at(dir).self = true
		return
	}
	rec, ok, err := f.st.Get(dir)
	if f.storeFailed(err) || !ok {
		return
	}
	parent, err := f.st.Canonical(rec.Parent)
	if f.storeFailed(err) {
		return
	}
	f.dirty.mark(parent, rec.Name, false)
}

// markHandle marks every place of an object known by its handle.
func (f *Folder) markHandle(handle string, wrote bool) {
	recs, err := f.st.ByHandle(handle)
	if f.storeFailed(err) {
		return
	}
	for i := range recs {
		dir, err := f.st.Canonical(recs[i].Parent)
		if f.storeFailed(err) {
			return
		}
		f.dirty.mark(dir, recs[i].Name, wrote)
	}
}

// Doubted tells of an object that was not what its record says when a partner
// asked for it.
type Doubted struct {
	UID repl.UID
	Why error // it cannot be read, or ErrRotten; nil: it is another
}

func (e Doubted) apply(f *Folder) {
	rec, ok, err := f.st.Get(e.UID)
	if f.storeFailed(err) || !ok {
		return
	}
	if errors.Is(e.Why, ErrRotten) {
		f.rotten(&rec)
		return
	}
	dir, err := f.st.Canonical(rec.Parent)
	if f.storeFailed(err) {
		return
	}
	if !errors.Is(e.Why, fs.ErrPermission) {
		f.dirty.mark(dir, rec.Name, true)
		return
	}
	r := capture.Raised{Code: finding.FileUnreadable, Object: rec.Name, Detail: e.Why.Error()}
	at := spot{dir, rec.Name}
	f.unraise(at)
	f.raiseAt(at, r) // until a look finds it changed
}

// directoryOf finds the record of the directory that an event names. A
// directory that no record knows is itself news: its first unknown ancestor is
// marked, and found with all that it holds.
func (f *Folder) directoryOf(d *journal.Dirty) (repl.UID, bool) {
	if len(d.Dir) > 0 {
		recs, err := f.st.ByHandle(string(d.Dir))
		if f.storeFailed(err) {
			return repl.UID{}, false
		}
		for i := range recs {
			if recs[i].Type == repl.Directory {
				return recs[i].UID, true
			}
		}
		f.stranger(string(d.Dir))
	}
	if d.Path == "" {
		return repl.UID{}, false // gone, and so are its names; its parent's event tells
	}
	dir, ok := f.directoryAt(d.Path)
	if !ok || dir == f.root() || len(d.Dir) == 0 {
		return dir, ok
	}
	rec, ok, err := f.st.Get(dir)
	if f.storeFailed(err) || !ok {
		return dir, false
	}
	if rec.Identity.Handle != "" && rec.Identity.Handle != string(d.Dir) { // it lies where that one did: an install is under way
		parent, err := f.st.Canonical(rec.Parent)
		if !f.storeFailed(err) {
			f.dirty.mark(parent, rec.Name, true)
		}
		return dir, false
	}
	return dir, true
}

// maxStrangers bounds how many unknown directories are told apart.
const maxStrangers = 1 << 12

// stranger notes a directory that no record knows, in which something happened: the
// install under way may have brought it, and by the time that its name is looked at
// it is known, and nothing new.
func (f *Folder) stranger(handle string) {
	if f.install == nil {
		return
	}
	if len(f.strangers) >= maxStrangers {
		handle = ""
	}
	f.strangers = with(f.strangers, handle, true)
}

// strangersKnown looks into the directories that an install brought and in which
// something happened while it was under way.
func (f *Folder) strangersKnown(put *store.Batch) {
	for i := 0; i < len(put.Writes) && len(f.strangers) > 0; i++ {
		rec := &put.Writes[i].Record
		if rec.Type == repl.Directory && rec.Presence == repl.OnDisk && (f.strangers[rec.Identity.Handle] || f.strangers[""]) {
			f.dirty.markAll(rec.UID)
		}
	}
	f.strangers = nil
}

func (f *Folder) directoryAt(path string) (repl.UID, bool) {
	dir := f.root()
	if path == "." {
		return dir, true
	}
	for name := range strings.SplitSeq(path, "/") {
		rec, ok, err := f.st.At(dir, name)
		if f.storeFailed(err) {
			return repl.UID{}, false
		}
		if !ok || rec.Type != repl.Directory {
			f.dirty.mark(dir, name, true)
			return repl.UID{}, false
		}
		dir = rec.UID
	}
	return dir, true
}

// startLooks starts to look at dirty directories.
func (f *Folder) startLooks() {
	if f.phase == store.PhaseRecovery && f.stopped != "" || f.awaiting() {
		return
	}
	most := maxLooks
	if f.phase == store.PhaseNormal && !f.walking { // of a walk most directories have nothing to flush
		most = f.looks
	}
	for len(f.looking) < most {
		dir, e, ok := f.dirty.take(f.busyDirectory)
		if !ok {
			return
		}
		f.looking[dir] = e.seq
		f.overtake(dir, e)
		if f.spare(dir, e) {
			delete(f.looking, dir)
			continue
		}
		w := capture.Work{Dir: dir, All: e.all, Self: e.self, Thorough: f.walking}
		for name, wrote := range e.names {
			w.Names = append(w.Names, capture.Name{Name: name, Wrote: wrote})
		}
		sortNames(w.Names)
		f.do(&Look{Work: w, cfg: f.cfg, doubt: f.doubt, lazy: f.phase != store.PhaseNormal && !f.syncing && !f.evacuating})
	}
}

func sortNames(names []capture.Name) {
	slices.SortFunc(names, func(a, b capture.Name) int { return strings.Compare(a.Name, b.Name) })
}

// busyDirectory reports whether a directory must not be looked at now: a look
// at it is under way, or an install, of which the look would see one half.
func (f *Folder) busyDirectory(dir repl.UID) bool {
	_, looking := f.looking[dir]
	return looking || f.flight.touches(dir)
}

// drafted brings drafts of a look that goes on.
type drafted struct {
	drafts []capture.Draft
	cfg    *Config
	lazy   bool
}

// overtakenDrafts are of objects that left their places while they were synced.
type overtakenDrafts []capture.Draft

func (e overtakenDrafts) apply(f *Folder) { f.lookAgain(e, lockedRetry) }

// looked tells that directories have been looked at, with the last drafts of
// each. Many are applied at once, so that many small directories cost one
// synced batch.
type looked []lookedDir

type lookedDir struct {
	work   *capture.Work
	cfg    *Config
	drafts []capture.Draft
	result capture.Result
	err    error
	lazy   bool
}

func (e looked) apply(f *Folder) {
	e = slices.DeleteFunc(e, func(l lookedDir) bool { return f.byOther(l.cfg, l.work) })
	drafts := make([]capture.Draft, 0, e.size())
	groups, lazy := uint32(0), false
	for i := range e {
		lazy = lazy || e[i].lazy
		last := groups
		for _, d := range e[i].drafts {
			if d.Group != 0 {
				d.Group += last
				groups = max(groups, d.Group)
			}
			drafts = append(drafts, d)
		}
	}
	f.commitDrafts(drafts, lazy)
	for i := range e {
		e[i].settle(f)
	}
}

func (e *lookedDir) settle(f *Folder) {
	seq := f.looking[e.work.Dir]
	delete(f.looking, e.work.Dir)
	f.reraise(e.work, e.result.Findings)
	for _, uid := range e.result.Doubted {
		f.distrust(uid)
	}
	if e.err != nil {
		if errors.Is(e.err, store.ErrCorrupt) {
			f.storeFailed(e.err)
			return
		}
		rec, ok, err := f.st.Get(e.work.Dir)
		if f.storeFailed(err) || !ok || !rec.Present {
			return // the directory itself is gone from the records
		}
		f.find.Raise(finding.ListingError, f.cfg.Name, e.err.Error())
		f.late.failed(f, e.work.Dir)
		f.relook(e.work, lookRetry)
		return
	}
	if e.result.Missing { // the directory is not where its record says
		rec, ok, err := f.st.Get(e.work.Dir)
		if f.storeFailed(err) || !ok || !rec.Present || rec.Presence == repl.Hidden || rec.Presence == repl.Absent {
			return // it is not on this disk
		}
		if _, waits := f.refused[e.work.Dir]; waits { // until that is undone
			f.relook(e.work, undoRetry)
			return
		}
		f.markDirectory(e.work.Dir)
		f.relook(e.work, missingRetry)
	}
	dir, err := f.st.Canonical(e.work.Dir) // it may have been merged meanwhile
	if f.storeFailed(err) {
		return
	}
	var below []repl.UID
	for _, name := range e.result.Descend {
		rec, ok, err := f.st.At(dir, name)
		if f.storeFailed(err) {
			return
		}
		if ok && rec.Type == repl.Directory {
			below = append(below, rec.UID)
			f.dirty.markAll(rec.UID)
		}
	}
	switch {
	case e.result.Missing || !e.work.All:
	case e.result.Complete:
		f.late.listed(e.work.Dir, below)
	default:
		f.late.failed(f, e.work.Dir)
		f.relook(e.work, lookRetry) // what the listing did not come to nobody else tells of
	}
	if e.result.AgainAll > 0 {
		f.again(e.work.Dir, "", false, e.result.AgainAll)
	}
	f.putOff(e.work, e.result.Again)
	f.markPlaces(e.result.Dirty)
	f.remake(e.result.Wanted)
	for _, uid := range e.result.Gone {
		f.gone = append(f.gone, goneMark{uid: uid, seq: max(seq, f.dirty.seq)})
	}
}

// putOff looks again at names that could not be captured. A file that is open
// for writing may be closed already: the kernel tells of a close before it
// forgets the writer. So it is looked at soon again, and ever more seldom.
func (f *Folder) putOff(w *capture.Work, names []capture.Again) {
	open := make(map[string]bool)
	for _, a := range names {
		if a.Reason != capture.OpenForWriting {
			f.again(w.Dir, a.Name, a.Wrote, a.After)
			if at := (spot{w.Dir, a.Name}); a.Reason == capture.Unsettled && a.Wrote && f.walking {
				l := f.later[at]
				l.walked = true
				f.later[at] = l
			}
			continue
		}
		open[a.Name] = true
		at := spot{w.Dir, a.Name}
		n := f.opened[at]
		f.opened[at] = n + 1
		f.again(w.Dir, a.Name, a.Wrote, min(a.After, openRetry<<min(n, 20)))
		l := f.later[at]
		l.open = n >= openTries
		f.later[at] = l
	}
	for _, n := range w.Names {
		if !open[n.Name] {
			delete(f.opened, spot{w.Dir, n.Name})
		}
	}
}

// When a directory is tried again that could not be listed, one that was not
// where its record says, and a name that is gone but seen elsewhere.
const (
	lookRetry    = 10 * time.Second
	missingRetry = 200 * time.Millisecond
	goneRetry    = 100 * time.Millisecond
	unsureRetry  = 5 * time.Second
	openRetry    = 2 * time.Millisecond // doubled each time
	openTries    = 8                    // then somebody really has it open
)

func (f *Folder) relook(w *capture.Work, after time.Duration) {
	if w.All {
		f.again(w.Dir, "", false, after)
	}
	for _, n := range w.Names {
		f.again(w.Dir, n.Name, n.Wrote, after)
	}
}

func (f *Folder) markPlaces(places []capture.Dirty) {
	for _, p := range places {
		f.dirty.mark(p.Dir, p.Name, p.Wrote)
	}
}
