package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/finding"
	"opendfs/internal/install"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// undoRetry is when a read-only member tries again to undo what its users did.
const undoRetry = 5 * time.Second

// undoNested is that where another replicated folder lies in what is to go: until
// somebody moves it, nothing can be done.
const undoNested = time.Minute

// undo takes back what users of a read-only member did: objects are put back to
// where and what their records say, with a partner's content where it differs,
// and what users wrote is kept (rules 4 and 13). Without a partner, after a failure,
// or while what only this member has leaves the tree, the places are looked at again
// in a while.
func (f *Folder) undo(drafts []capture.Draft) {
	l := f.anyLink()
	if l == nil || f.evacuating {
		f.lookAgain(drafts, undoRetry)
		return
	}
	var changes []repl.Change
	movers, made := 0, 0
	for i := range drafts {
		d := &drafts[i]
		if d.Update.Parent.IsZero() && f.phase == store.PhaseInitialSync {
			continue // the partner's root is still to come
		}
		if after := f.undoesLater(d); after > 0 {
			f.lookAgain(drafts[i:i+1], after)
			continue
		}
		c, ok := f.undone(d)
		if !ok {
			return
		}
		switch undoRank(&c) {
		case undoMove:
			movers++
		case undoDirectory:
			made++
		}
		changes = append(changes, c)
	}
	if len(changes) == 0 {
		return
	}
	f.stats.LocalRefused += uint64(len(changes))
	f.stats.Verdicts[repl.VerdictUndone] += uint64(len(changes))
	f.find.Raise(finding.LocalChangeUndone, f.cfg.Name, fmt.Sprintf("%d changes since the start, the last of %q", f.stats.LocalRefused, changes[len(changes)-1].Update.Name))
	for i := range changes { // they may have exchanged their places, or lie where one is made again
		changes[i].ViaPrivate = movers+made > 1 && undoRank(&changes[i]) == undoMove
	}
	slices.Reverse(changes) // children were found deleted before their directory
	slices.SortStableFunc(changes, func(a, b repl.Change) int { return cmp.Compare(undoRank(&a), undoRank(&b)) })
	f.launch(l, &diff{failed: make(version.Vector), heldOut: make(version.Vector)}, changes)
}

// refuse notes what users of a read-only member did: what they put into the place of
// what they took from there is found by the same look.
func (f *Folder) refuse(drafts []capture.Draft) {
	for i := range drafts {
		if d := &drafts[i]; d.Prior != nil && len(f.refused) < maxRefused {
			f.refused[d.Prior.UID] = *d
		}
	}
}

// refuse notes drafts that are undone: two looks may have seen one object move on.
func (g *gathered) refuse(drafts []capture.Draft) {
	for i := range drafts {
		if p := drafts[i].Prior; p != nil {
			g.refused = with(g.refused, p.UID, true)
		}
	}
}

// putElsewhere reports whether a user of a read-only member took an object from its
// place: what lies there now is his, and is to be undone as well.
func (f *Folder) putElsewhere(uid repl.UID) bool {
	d, ok := f.refused[uid]
	return ok && f.cfg.ReadOnly && (!d.Update.Present || d.Update.Parent != d.Prior.Parent || d.Update.Name != d.Prior.Name)
}

// undoesLater tells how long it takes until what a draft tells is tried to be undone
// again, if that was tried lately in vain.
func (f *Folder) undoesLater(d *capture.Draft) time.Duration {
	at, ok := f.placeOf(&d.Update)
	if !ok {
		return 0
	}
	return time.Duration(max(0, f.undoAfter[at]-f.now()))
}

// spare puts off names of which it is known what users did there, until that is
// tried to be undone again. It reports whether nothing is left to look at.
func (f *Folder) spare(dir repl.UID, e *dirtyDir) bool {
	if len(f.undoAfter) == 0 {
		return false
	}
	for name, wrote := range e.names {
		if t := f.undoAfter[repl.Place{Dir: dir, Name: name}]; t > f.now() {
			f.again(dir, name, wrote, time.Duration(t-f.now()))
			delete(e.names, name)
		}
	}
	return len(e.names) == 0 && !e.all && !e.self
}

// undoFailed notes that a change of a user could not be undone. If it replaced a
// content that the partner has not, that one is missing here.
func (f *Folder) undoFailed(c *repl.Change, why error, lacking bool) {
	if lacking && c.Was.Presence == repl.OnDisk && !f.misses(&c.Was) {
		return
	}
	after := undoRetry
	if errors.Is(why, install.ErrNested) {
		after = undoNested
	}
	for at, t := range f.undoAfter {
		if t <= f.now() {
			delete(f.undoAfter, at)
		}
	}
	for _, p := range []repl.Place{c.From, c.To} {
		f.undoAfter[p] = f.now() + repl.Time(after)
	}
}

// lacking reports whether the partner has not the content that an undo needs. One in
// its initial sync may have no record of it either, and may wait for this member.
func (b *batch) lacking(i int) bool {
	status := b.staged[i].Status
	return without(status) || status == wire.StatusChanged && b.link.unready
}

// maxRefused bounds the changes of users that are remembered until they are
// undone.
const maxRefused = 1 << 16

// yield lets updates of a partner replace what users of a read-only member made
// of their objects; it is kept.
func (f *Folder) yield(changes []repl.Change) {
	for i := range changes {
		c := &changes[i]
		d, ok := f.refused[c.Object.UID] // of what is taken over, if something is
		if !ok || d.Prior.GVSN != c.Object.GVSN || c.Object.Parent.IsZero() {
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
		if c.From != at { // there it may be in the way of what is in its plan for another place
			c.From, c.ViaPrivate = at, at != c.To && !c.To.IsZero()
		}
		c.Object.Identity, c.Object.Print = d.Identity, d.Print
		if c.Meta = true; c.Update.Type != repl.Directory {
			c.Content = !c.To.IsZero() && !repl.SameContent(&d.Update, &c.Update)
			c.Keep = repl.KeepConflict
		}
	}
}

// The ranks of changes that take something back: what nobody else knows makes
// room, then directories come back that others lie in, then objects go back to
// their places, which they have left before all that if a directory comes back.
const (
	undoRoom = iota
	undoDirectory
	undoMove
	undoRest
)

func undoRank(c *repl.Change) int {
	switch {
	case c.Drop:
		return undoRoom
	case !c.From.IsZero() && c.From != c.To:
		return undoMove
	case c.From.IsZero() && c.Update.Type == repl.Directory:
		return undoDirectory
	}
	return undoRest
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

// undone makes the change that takes one draft back.
func (f *Folder) undone(d *capture.Draft) (c repl.Change, ok bool) {
	at, ok := f.placeOf(&d.Update)
	if !ok {
		return c, false
	}
	c = repl.Change{Verdict: repl.VerdictUndone, Meta: true}
	shown := d.Prior != nil && (d.Prior.Presence == repl.OnDisk || repl.SameContent(&d.Update, &d.Prior.Update))
	if !shown || d.Prior.Provisional && d.Data { // nobody else knows it: it is kept, and has no record
		c.Update = repl.Update{Parent: d.Update.Parent, Name: d.Update.Name, Type: d.Update.Type}
		c.Update.GVSN = f.st.Next()
		c.Update.UID = repl.UID(c.Update.GVSN)
		f.showWait, f.showAt = 0, 0 // it may lie where something is missing
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
