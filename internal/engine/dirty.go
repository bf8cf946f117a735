package engine

import (
	"cmp"
	"slices"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// maxDirtyNames bounds the names remembered for one directory; beyond it the
// directory is looked at whole.
const maxDirtyNames = 8192

// dirty is the set of names to be looked at, directories in order of their
// first mark.
type dirty struct {
	dirs  map[repl.UID]*dirtyDir
	queue []repl.UID
	seq   uint64
}

type dirtyDir struct {
	names map[string]bool // whether content may have been written
	all   bool
	self  bool // the directory's own metadata (the root's, which has no parent)
	seq   uint64
}

func (d *dirty) init() { d.dirs, d.queue = make(map[repl.UID]*dirtyDir), nil }

func (d *dirty) at(dir repl.UID) *dirtyDir {
	e, ok := d.dirs[dir]
	if !ok {
		d.seq++
		e = &dirtyDir{names: make(map[string]bool), seq: d.seq}
		d.dirs[dir] = e
		d.queue = append(d.queue, dir)
	}
	return e
}

// mark notes a name; wrote says that content may have changed.
func (d *dirty) mark(dir repl.UID, name string, wrote bool) {
	e := d.at(dir)
	if e.all && !wrote {
		return
	}
	e.names[name] = e.names[name] || wrote
	if len(e.names) > maxDirtyNames {
		e.all = true
		clear(e.names)
	}
}

func (d *dirty) markAll(dir repl.UID) { d.at(dir).all = true }

// maxSearch bounds how far take looks past directories that are busy.
const maxSearch = 256

// take removes and returns the first directory that busy does not hold back.
func (d *dirty) take(busy func(repl.UID) bool) (repl.UID, *dirtyDir, bool) {
	for i, dir := range d.queue[:min(len(d.queue), maxSearch)] {
		if busy(dir) {
			continue
		}
		e := d.dirs[dir]
		delete(d.dirs, dir)
		if i == 0 {
			d.queue = d.queue[1:]
		} else {
			d.queue = append(d.queue[:i:i], d.queue[i+1:]...)
		}
		return dir, e, true
	}
	return repl.UID{}, nil, false
}

// oldest returns the sequence of the oldest mark, or the next one.
func (d *dirty) oldest() uint64 {
	if len(d.queue) == 0 {
		return d.seq + 1
	}
	return d.dirs[d.queue[0]].seq
}

// spot is a name in a directory; "" is the whole directory.
type spot struct {
	dir  repl.UID
	name string
}

// laterName is when a name that could not be captured is looked at again.
type laterName struct {
	when  repl.Time
	wrote bool
	open  bool // somebody has the file open for writing
	// walked: a walk met what may be a directory that moved; it has not ended
	// until that is found.
	walked bool
}

// again looks at a name once more after a while.
func (f *Folder) again(dir repl.UID, name string, wrote bool, after time.Duration) {
	at := spot{dir, name}
	l, waits := f.later[at]
	when := f.now() + repl.Time(after)
	if waits {
		when = min(when, l.when)
	}
	f.later[at] = laterName{when: when, wrote: wrote || l.wrote, walked: l.walked}
}

// ripen marks the names whose time has come.
func (f *Folder) ripen() {
	if len(f.later) == 0 {
		return
	}
	var ripe []spot
	for at, l := range f.later {
		if l.when <= f.now() {
			ripe = append(ripe, at)
		}
	}
	slices.SortFunc(ripe, func(a, b spot) int { return cmp.Or(a.dir.Compare(b.dir), cmp.Compare(a.name, b.name)) })
	for _, at := range ripe {
		if at.name == "" {
			f.dirty.markAll(at.dir)
			f.dirty.at(at.dir).self = at.dir == f.root()
		} else {
			f.dirty.mark(at.dir, at.name, f.later[at].wrote)
		}
		delete(f.later, at)
	}
}

// overtake forgets the waiting of names that are looked at now, as thoroughly as
// they were to be. What happens from here on is noted anew.
func (f *Folder) overtake(dir repl.UID, e *dirtyDir) {
	if e.all {
		delete(f.later, spot{dir, ""})
		for at, l := range f.later {
			if at.dir == dir && l.wrote {
				e.names[at.name] = true
			}
		}
	}
	for name, wrote := range e.names {
		at := spot{dir, name}
		e.names[name] = wrote || f.later[at].wrote
		delete(f.later, at)
	}
}

// setWake computes when a Tick is wanted.
func (f *Folder) setWake() {
	f.wake = 0
	sooner := func(t repl.Time) {
		if t > 0 && (f.wake == 0 || t < f.wake) {
			f.wake = t
		}
	}
	if f.awaiting() {
		sooner(f.vouch.until)
	}
	sooner(f.walkAt)
	if f.now() < f.calmUntil {
		sooner(f.calmUntil)
	}
	if f.phase == store.PhaseInitialSync {
		sooner(f.evacuateAt)
	}
	for _, l := range f.later {
		sooner(l.when)
	}
	if f.missing && !f.showing {
		sooner(f.showAt)
	}
	for _, g := range f.gone {
		sooner(g.after)
	}
	comparing := f.mayCompare()
	if c := f.compare; comparing && c != nil && !c.busy {
		sooner(c.at)
	}
	for _, l := range f.links {
		if comparing && l.up && l.compared && f.compare == nil {
			sooner(l.compareAt)
		}
		if l.up && !l.asking {
			sooner(l.notBefore)
		}
		if d := l.diff; d != nil && d.paged && !l.asking && d.outstanding > 0 && f.phase == store.PhaseNormal {
			sooner(d.since + repl.Time(lagAfter))
		}
	}
}

// trail looks again at an object that a user moved, if something happened to it
// since it was seen: that was noted at its old place, and a look may be on its way
// there. Of files the journal tells where they are, of what happens in a directory
// where that one was on record.
func (f *Folder) trail(d *capture.Draft) {
	if d.Kind != capture.KindMove {
		return
	}
	was, ok := f.placeOf(&d.Prior.Update)
	if !ok {
		return
	}
	directory := d.Update.Type == repl.Directory
	_, looking := f.looking[was.Dir]
	if marked, wrote := f.marked(was); marked || looking && directory {
		f.dirty.mark(d.Update.Parent, d.Update.Name, wrote && !directory)
	}
}
