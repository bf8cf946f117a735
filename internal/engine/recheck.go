package engine

import (
	"errors"
	"fmt"

	"opendfs/internal/install"
	"opendfs/internal/repl"
)

// recheck marks the changes that no longer follow from the records, because one
// that was under way when the verdict was made did not do what it was to (rule
// 16): another base, a place that is still taken, a directory that still holds
// something. What follows from one so marked is marked as well.
func (f *Folder) recheck(b *batch) {
	for again := true; again; {
		again = false
		w := b.will(func(i int) bool { return b.staged[i].Err != nil })
		for i := range b.changes {
			c := b.changes[i]
			if b.failures == f.failures && (c.To.IsZero() || c.Update.Parent == c.To.Dir) || b.staged[i].Err != nil {
				continue // only what lies in a merged directory rests on another record
			}
			why, err := f.outdated(c, &w)
			if f.storeFailed(err) {
				return
			}
			if why != "" {
				b.staged[i].Err = fmt.Errorf("%w: %s", install.ErrMoved, why)
				again = true
			}
		}
	}
}

// tangles fails what was carried out and would make a ring of the records, or bring two
// objects to one place on record, because something else was not: a user moved what is
// between, so that the disk let it happen, and a look tells how it is.
func (e installed) tangles(f *Folder) {
	failed := func(i int) bool { return e.outcomes[i].Err != nil }
	b := e.batch
	some := b.failures != f.failures
	for i := range b.changes {
		some = some || failed(i) || unshown(b.changes[i]) || f.joinsLiving(b.changes[i])
	}
	for again := e.err == nil && some; again; {
		again = false
		w := b.will(failed)
		for i := 0; i < len(b.changes) && !again; i++ {
			if failed(i) {
				continue
			}
			why, err := f.tangled(b.changes[i], &w)
			if f.storeFailed(err) {
				return
			}
			for j := 0; j < len(b.changes) && why != ""; j++ {
				if g := b.changes[i].Group; j == i || g != 0 && b.changes[j].Group == g {
					e.outcomes[j].Err, again = fmt.Errorf("%w: %s", install.ErrMoved, why), true
				}
			}
		}
	}
}

// unshown reports whether an object is brought of which nothing lies on this disk:
// the disk does not tell what became of its directory meanwhile.
func unshown(c *repl.Change) bool {
	return c.From.IsZero() && c.To.IsZero() && c.Update.Present && !c.Update.Parent.IsZero()
}

// joinsLiving reports whether a directory is merged into one that lives: where neither
// lies on this disk, it does not tell whether one lies in the other.
func (f *Folder) joinsLiving(c *repl.Change) bool {
	if c.Update.Heir.IsZero() {
		return false
	}
	heir, err := f.st.Canonical(c.Update.Heir)
	if f.storeFailed(err) {
		return false
	}
	rec, _, err := f.st.Get(heir)
	return !f.storeFailed(err) && rec.Present
}

// tangled says why a directory can be neither where it was moved to nor merged, and
// an object that this disk does not show not where it is to be on record.
func (f *Folder) tangled(c *repl.Change, w *will) (why string, err error) {
	u := &c.Update
	if unshown(c) {
		dir, err := f.canonical(u.Parent, w)
		if err != nil {
			return "", err
		}
		if _, comes := w.parents[dir]; !comes && dir != repl.RootUID(f.cfg.Folder) {
			if at, _, err := f.st.Get(dir); err != nil || !at.Present {
				return "its directory has died", err
			}
		}
	}
	above := u.Parent
	if !u.Heir.IsZero() {
		above = u.Heir
	} else if u.Type != repl.Directory || !u.Present || u.Parent == c.Was.Parent {
		return "", nil
	}
	dir, err := f.canonical(above, w)
	if err != nil || f.within(f.asMade(w), dir, u.UID, w.parents) {
		return "its new directory, or its heir, lies in it", err
	}
	if u.Heir.IsZero() {
		return "", nil
	}
	return f.meets(c, dir, w)
}

// will tells what a batch makes of the records, but for what fails.
func (b *batch) will(fails func(i int) bool) will {
	w := will{leaves: make(map[repl.UID]bool, len(b.changes)), parents: make(map[repl.UID]repl.UID), heirs: make(map[repl.UID]repl.UID)}
	broken := make(map[int]bool)
	for i := range b.changes {
		if g := b.changes[i].Group; g != 0 && fails(i) {
			broken[g] = true
		}
	}
	for i := range b.changes {
		u := &b.changes[i].Update
		if fails(i) || broken[b.changes[i].Group] {
			continue
		}
		w.leaves[u.UID] = true
		if !u.Heir.IsZero() {
			w.heirs[u.UID] = u.Heir
			w.parents[u.UID] = u.Heir // what lies in it lies in its heir
		}
		if u.Present {
			w.live = append(w.live, u)
		}
		if u.Present && u.Type == repl.Directory {
			w.parents[u.UID] = u.Parent
		}
	}
	return w
}

// will is what a batch makes of the records.
type will struct {
	leaves         map[repl.UID]bool     // the objects that it changes
	parents, heirs map[repl.UID]repl.UID // of directories; of a merged one the heir is both
	live           []*repl.Update        // what it leaves or brings alive
}

// asMade is the records as a batch makes the heirs of directories.
func (f *Folder) asMade(w *will) recordOf {
	return func(uid repl.UID) (repl.Record, bool, error) {
		rec, ok, err := f.st.Get(uid)
		if heir, given := w.heirs[uid]; given {
			rec.Heir, ok = heir, true
		}
		return rec, ok, err
	}
}

// canonical follows the heirs of a directory, with those that the batch gives.
func (f *Folder) canonical(uid repl.UID, w *will) (repl.UID, error) {
	for range maxHeirs {
		rec, _, err := f.asMade(w)(uid)
		if err != nil {
			return uid, err
		}
		if rec.Heir.IsZero() {
			break
		}
		uid = rec.Heir
	}
	return uid, nil
}

// misplaced says why a live object cannot have its place, on the disk or, of one
// that is not brought here, on record.
func (f *Folder) misplaced(c *repl.Change, w *will) (why string, err error) {
	name, hidden := c.To.Name, c.To.IsZero()
	if hidden {
		name = c.Update.Name
		_, known, err := f.st.Get(c.Update.Parent)
		if err != nil || !known && !w.leaves[c.Update.Parent] {
			return "its directory was not made", err
		}
	}
	dir, err := f.canonical(c.Update.Parent, w)
	if err != nil || !hidden && dir != c.To.Dir {
		return "its directory is not the one it was to be", err
	}
	there, taken, err := f.st.At(dir, name)
	if err != nil || taken && there.UID != c.Update.UID && !w.leaves[there.UID] {
		return "its place is taken", err
	}
	return "", nil
}

// outdated says why a change no longer follows from the records.
func (f *Folder) outdated(c *repl.Change, w *will) (why string, err error) {
	rec, _, err := f.st.Get(c.Update.UID)
	if err != nil || rec.GVSN != c.Base() {
		return "its record has changed", err
	}
	if c.Update.Present && !(c.To.IsZero() && c.Update.Parent.IsZero()) {
		if why, err := f.misplaced(c, w); why != "" || err != nil {
			return why, err
		}
	}
	if why, err := f.tangled(c, w); why != "" || err != nil {
		return why, err
	}
	dies := !c.Update.Present && c.Update.Type == repl.Directory
	merged := dies && !c.From.IsZero() && c.To.IsZero() // what the disk has in it leaves it first
	if heir := c.Update.Heir; !heir.IsZero() {
		if heir, err = f.canonical(heir, w); err != nil {
			return "", err
		}
		at, _, err := f.st.Get(heir)
		if err != nil {
			return "", err
		}
		_, comes := w.parents[heir]
		dies = !at.Present && !comes
	}
	if dies || merged {
		err = f.st.Children(c.Update.UID, "", func(child *repl.Record) bool {
			if !w.leaves[child.UID] && (dies || child.Presence == repl.OnDisk) {
				why = "it is not empty"
			}
			return why == ""
		})
	}
	return why, err
}

// meets says why what lies in a directory that is merged cannot lie in its heir.
func (f *Folder) meets(c *repl.Change, heir repl.UID, w *will) (why string, err error) {
	come := make(map[repl.Place]bool)
	for _, u := range w.live {
		dir, err := f.canonical(u.Parent, w)
		if err != nil {
			return "", err
		}
		if dir == heir {
			come[f.flight.folded(repl.Place{Dir: heir, Name: u.Name})] = true
		}
	}
	var failed error
	err = f.st.Children(c.Update.UID, "", func(child *repl.Record) bool {
		if w.leaves[child.UID] {
			return true
		}
		there, taken, err := f.st.At(heir, child.Name)
		taken = taken && there.UID != child.UID && !w.leaves[there.UID]
		if failed = err; taken || come[f.flight.folded(repl.Place{Dir: heir, Name: child.Name})] {
			why = "what lies in it would meet another"
		}
		return failed == nil && why == ""
	})
	return why, errors.Join(err, failed)
}
