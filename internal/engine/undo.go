package engine

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// undoRetry is when a read-only member tries again to undo what its users did.
const undoRetry = 5 * time.Second

// undo takes back what users of a read-only member did: objects are put back to
// where and what their records say, with a partner's content where it differs,
// and what users wrote is kept (rules 4 and 13). Without a partner, or after a
// failure, the places are looked at again in a while.
func (f *Folder) undo(drafts []capture.Draft) {
	for i := range drafts {
		if d := &drafts[i]; d.Prior != nil && len(f.refused) < maxRefused {
			f.refused[d.Prior.UID] = *d
		}
	}
	l := f.anyLink()
	if l == nil {
		f.lookAgain(drafts, undoRetry)
		return
	}
	f.find.Raise(finding.LocalChangeUndone, f.cfg.Name, fmt.Sprintf("%d changes since the start, the last of %q", f.stats.LocalRefused, drafts[len(drafts)-1].Update.Name))
	var alone []repl.Change
	for len(drafts) > 0 {
		n := groupLen(drafts)
		group := drafts[:n]
		drafts = drafts[n:]
		if slices.ContainsFunc(group, f.undoesLater) {
			f.lookAgain(group, undoRetry)
			continue
		}
		changes := f.undoing(group)
		if n == 1 {
			alone = append(alone, changes...)
		} else {
			f.launchUndo(l, changes)
		}
	}
	slices.Reverse(alone) // children were found deleted before their directory
	f.launchUndo(l, alone)
}

// undoesLater reports whether what a draft tells was tried to be undone lately,
// in vain.
func (f *Folder) undoesLater(d capture.Draft) bool {
	return f.undoAfter[repl.Place{Dir: d.Update.Parent, Name: d.Update.Name}] > f.now()
}

// undoFailed notes that a change of a user could not be undone.
func (f *Folder) undoFailed(c *repl.Change) {
	for at, t := range f.undoAfter {
		if t <= f.now() {
			delete(f.undoAfter, at)
		}
	}
	for _, p := range []repl.Place{c.From, c.To} {
		f.undoAfter[p] = f.now() + repl.Time(undoRetry)
	}
}

// maxRefused bounds the changes of users that are remembered until they are
// undone.
const maxRefused = 1 << 16

// yield lets updates of a partner replace what users of a read-only member made
// of their objects; it is kept.
func (f *Folder) yield(changes []repl.Change) {
	for i := range changes {
		c := &changes[i]
		d, ok := f.refused[c.Update.UID]
		if !ok || d.Prior.GVSN != c.Was.GVSN || c.Update.Parent.IsZero() || c.Object.UID != c.Was.UID {
			continue
		}
		if !d.Update.Present {
			c.Object, c.From, c.Keep = repl.Record{}, repl.Place{}, repl.KeepNothing
			c.Content, c.Meta = !c.To.IsZero() && c.Update.Type != repl.Directory, !c.To.IsZero()
			continue
		}
		at, ok := f.placeOf(&d.Update)
		if !ok {
			return
		}
		c.From, c.Object.Identity, c.Object.Print = at, d.Identity, d.Print
		if c.Meta = true; c.Update.Type != repl.Directory {
			c.Content = !c.To.IsZero() && !repl.SameContent(&d.Update, &c.Update)
			c.Keep = repl.KeepConflict
		}
	}
}

func (f *Folder) launchUndo(l *link, changes []repl.Change) {
	if len(changes) == 0 {
		return
	}
	slices.SortStableFunc(changes, func(a, b repl.Change) int { return cmp.Compare(undoRank(&a), undoRank(&b)) })
	f.launch(l, &diff{failed: make(version.Vector), heldOut: make(version.Vector)}, changes)
}

// undoRank orders changes that take something back: first what must make room,
// then what moves, then the directories that others lie in.
func undoRank(c *repl.Change) int {
	switch {
	case c.To.IsZero():
		return 0
	case !c.From.IsZero() && c.From != c.To:
		return 1
	case c.From.IsZero() && c.Update.Type == repl.Directory:
		return 2
	}
	return 3
}

// anyLink returns a partner that can be asked for content, nil if none is up.
func (f *Folder) anyLink() *link {
	for _, m := range f.cfg.Upstreams {
		if l := f.links[m]; l.up {
			return l
		}
	}
	return nil
}

// undoing makes the changes that take a group of drafts back. Objects of a group
// that moved may have exchanged their places: they go through the private area.
func (f *Folder) undoing(group []capture.Draft) []repl.Change {
	changes := make([]repl.Change, 0, len(group))
	for i := range group {
		c, ok := f.undone(&group[i])
		if !ok {
			return nil
		}
		if len(group) > 1 {
			c.Group, c.ViaPrivate = 1, !c.From.IsZero() && !c.To.IsZero() && c.From != c.To
		}
		changes = append(changes, c)
	}
	return changes
}

// undone makes the change that takes one draft back.
func (f *Folder) undone(d *capture.Draft) (c repl.Change, ok bool) {
	at, ok := f.placeOf(&d.Update)
	if !ok {
		return c, false
	}
	c = repl.Change{Verdict: repl.VerdictUndone, Meta: true}
	if d.Prior == nil { // nobody else knows it: it is kept, and has no record
		c.Update = repl.Update{Parent: d.Update.Parent, Name: d.Update.Name, Type: d.Update.Type}
		c.Update.GVSN = f.st.Next()
		c.Update.UID = repl.UID(c.Update.GVSN)
		c.Object = repl.Record{Update: c.Update, Presence: repl.OnDisk, Identity: d.Identity, Print: d.Print}
		c.Drop, c.Meta, c.From, c.Keep = true, false, at, repl.KeepConflict
		return c, true
	}
	c.Update, c.Was = d.Prior.Update, *d.Prior
	if c.Update.Parent.IsZero() {
		c.Object = c.Was
		return c, true
	}
	if c.To, ok = f.placeOf(&c.Update); !ok {
		return c, false
	}
	c.Content = c.Update.Type != repl.Directory
	if d.Update.Present {
		c.Object, c.From = c.Was, at
		c.Object.Identity, c.Object.Print = d.Identity, d.Print
		if c.Content = c.Content && !repl.SameContent(&d.Update, &c.Update); c.Content {
			c.Keep = repl.KeepConflict
		}
	}
	return c, true
}

// placeOf returns the place of an update on this disk.
func (f *Folder) placeOf(u *repl.Update) (repl.Place, bool) {
	if u.Parent.IsZero() {
		return repl.Place{}, true
	}
	dir, err := f.st.Canonical(u.Parent)
	return repl.Place{Dir: dir, Name: u.Name}, !f.storeFailed(err)
}
