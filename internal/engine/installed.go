package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"opendfs/internal/fetch"
	"opendfs/internal/finding"
	"opendfs/internal/install"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/volume"
)

// installed tells what became of a batch; its moves are durable.
type installed struct {
	batch    *batch
	outcomes []install.Outcome
	touched  map[repl.UID]volume.Stat
	dispose  *Dispose
	err      error // of the batch as a whole
}

// goneWithin lets what lay in a provisional directory go with it: nothing of it
// was to be done by itself, whatever became of the group among which it stood.
func (e installed) goneWithin() {
	if e.err != nil {
		return
	}
	went := make(map[repl.UID]bool)
	for i := len(e.batch.changes) - 1; i >= 0; i-- { // directories come after what lies in them
		c := e.batch.changes[i]
		if !c.Drop {
			continue
		}
		if c.From.IsZero() && c.To.IsZero() && went[c.Update.Parent] {
			e.outcomes[i].Err = nil
		}
		went[c.Update.UID] = e.outcomes[i].Err == nil
	}
}

// apply stores the records of what was installed: compare-and-swap on the base,
// vector joined, intents gone, in one batch (rules 14 to 16).
func (e installed) apply(f *Folder) {
	f.install = nil
	b := e.batch
	e.goneWithin()
	e.tangles(f)
	put := store.Batch{Join: make(version.Vector), Writes: make([]store.Write, 0, len(b.changes))}
	for i := range b.changes {
		e.settle(f, i, &put)
	}
	f.touchedWrites(&put, b, e.touched)
	for i := range b.changes {
		f.flight.remove(b.changes[i])
	}
	b.diff.outstanding -= len(b.changes)
	put.NoSync = f.followed(e)
	if !f.hideInstalled(&put, b.changes) || f.storeFailed(f.st.Put(&put)) {
		return
	}
	f.strangersKnown(&put)
	f.rehideBelow()
	for _, uid := range slices.SortedFunc(maps.Keys(e.touched), repl.UID.Compare) {
		f.markDirectory(uid) // see unseen
	}
	f.notify = true
	f.stats.installed(&put, f.now())
	f.stats.amended += uint64(b.meta)
	if e.dispose != nil {
		f.do(e.dispose)
	}
	switch {
	case b.link.diff == b.diff:
		f.settleDiff(b.link)
	case len(b.diff.vector) > 0: // of an undo there is nothing to join
		f.askAgain(b.link)
	}
}

// followed reports whether the records of a batch need no flush of their own: the
// intents of the next one, which is begun at once, are flushed after them, and
// until then those of this one tell what was done. Nothing may rest on them that
// is not in the database.
func (f *Folder) followed(e installed) bool {
	return e.err == nil && e.dispose == nil && e.batch.metaAlone() && len(f.fifo) > 0 && f.fifo[0].state == batchStaged && f.fifo[0].metaAlone()
}

// settle adds to what is to be stored what became of one change.
func (e installed) settle(f *Folder, i int, put *store.Batch) {
	b := e.batch
	c := b.changes[i]
	err := errors.Join(e.err, e.outcomes[i].Err)
	f.counted(c, &e.outcomes[i])
	put.NoIntents = put.NoIntents || intended(c) // no other batch is being installed
	if err == nil {
		err = f.stillTaken(b, i, put)
	}
	if err == nil && f.failures != b.failures {
		err = f.stillHolds(c, put)
	}
	switch {
	case err != nil:
		f.failed(b, i, &e.outcomes[i], err)
		if g := c.Update.GVSN; g.Originator == f.st.State().Originator && g != c.Was.GVSN {
			put.Join.Add(g) // minted for nothing: no object has it
		}
		return
	case b.lacks[i]:
		delete(f.unhad, c.Update.GVSN)
		f.missSome()
		put.Writes = append(put.Writes, store.Write{Record: repl.Record{Update: c.Update, Presence: repl.Absent}, Base: c.Base()})
		return
	}
	f.cleared(c)
	if c.Content {
		delete(f.unhad, c.Update.GVSN)
		f.brought(b, i)
	}
	f.follow(c)
	if c.Drop {
		put.Drop = append(put.Drop, c.Update.UID)
		if c.Verdict == repl.VerdictUndone {
			put.Join.Add(c.Update.GVSN) // no object has it
		}
		return
	}
	rec := f.result(c, &e.outcomes[i], e.touched)
	f.tellLong(&rec.Update)
	put.Writes = append(put.Writes, store.Write{Record: rec, Base: c.Base()})
	for _, g := range b.settles[i] { // what this member made of them is to tell who made them that they were
		put.Join.Add(g)
	}
}

// stillTaken is an error if a record of nothing on this disk claims a place that
// its holder was to leave, and has not. With a place on the disk the disk tells.
func (f *Folder) stillTaken(b *batch, i int, put *store.Batch) error {
	c := b.changes[i]
	if c.Group != 0 || !c.From.IsZero() || !c.To.IsZero() && !b.lacks[i] || !c.Update.Present || c.Update.Parent.IsZero() {
		return nil
	}
	dir, err := f.st.Canonical(c.Update.Parent)
	if err != nil {
		return err
	}
	there, taken, err := f.st.At(dir, c.Update.Name)
	if err != nil || !taken || there.UID == c.Update.UID || slices.Contains(put.Drop, there.UID) ||
		slices.ContainsFunc(put.Writes, func(w store.Write) bool { return w.Record.UID == there.UID }) {
		return err
	}
	return fmt.Errorf("%w: on record its place is still another object's", install.ErrMoved)
}

// stillHolds is an error if something lives on, on record, in a directory that has
// died: it was elsewhere on the disk, so that the directory was empty there. What
// stands in one group with others falls with them.
func (f *Folder) stillHolds(c *repl.Change, put *store.Batch) error {
	if c.Group != 0 || c.Drop || c.Update.Present || c.Update.Type != repl.Directory || !c.Update.Heir.IsZero() {
		return nil
	}
	left := ""
	err := f.st.Children(c.Update.UID, "", func(rec *repl.Record) bool {
		if !slices.Contains(put.Drop, rec.UID) && !slices.ContainsFunc(put.Writes, func(w store.Write) bool { return w.Record.UID == rec.UID }) {
			left = rec.Name
		}
		return left == ""
	})
	if err == nil && left != "" {
		err = fmt.Errorf("%w: on record %q is still in it", install.ErrMoved, left)
	}
	return err
}

// counted counts what a change has put into the conflict store.
func (f *Folder) counted(c *repl.Change, o *install.Outcome) {
	f.stats.Kept += uint64(o.Kept)
	if o.Kept > 0 && c.Keep == repl.KeepConflict && c.Verdict != repl.VerdictUndone {
		f.stats.conflicts++
		f.find.Raise(finding.ConflictKept, f.cfg.Name, fmt.Sprintf("%d versions since the start, the last of %q", f.stats.conflicts, c.Object.Name))
	}
}

// brought counts a content that came, and what of it did not travel.
func (f *Folder) brought(b *batch, i int) {
	f.stats.Bytes += uint64(b.changes[i].Update.Size)
	saved := uint64(b.staged[i].Delta.Saved)
	f.stats.Saved += saved
	b.link.saved += saved
	if b.staged[i].Delta.Similar {
		f.stats.Similar += saved
		b.link.similar += saved
	}
}

// lookSooner looks now at a place that was to be looked at later: what was seen
// there then may have been the install itself.
func (f *Folder) lookSooner(p repl.Place) {
	if l, ok := f.later[spot{p.Dir, p.Name}]; ok {
		delete(f.later, spot{p.Dir, p.Name})
		f.dirty.mark(p.Dir, p.Name, l.wrote)
	}
}

// follow looks at an object where it was moved to by an install, which may have
// moved its times, and at what its places concern.
func (f *Folder) follow(c *repl.Change) {
	f.lookSooner(c.To)
	f.moves = f.moves || c.Update.Type == repl.Directory && c.From != c.To
	f.vacated(c.From.Dir, c.From.Name)
	f.vacated(c.To.Dir, c.To.Name)
	if c.From.IsZero() || c.To.IsZero() || c.From == c.To {
		return
	}
	_, wrote := f.marked(c.From)
	f.dirty.mark(c.To.Dir, c.To.Name, wrote && c.Update.Type != repl.Directory)
}

// marked reports whether a place is to be looked at: what a user did to an
// object is noted where it is on record at that time.
func (f *Folder) marked(p repl.Place) (marked, wrote bool) {
	l, marked := f.later[spot{p.Dir, p.Name}]
	wrote = l.wrote
	if e, ok := f.dirty.dirs[p.Dir]; ok {
		w, named := e.names[p.Name]
		marked, wrote = marked || named, wrote || w
	}
	return marked, wrote
}

// result is the record of an installed change.
func (f *Folder) result(c *repl.Change, o *install.Outcome, touched map[repl.UID]volume.Stat) repl.Record {
	rec := repl.Record{Update: c.Update, Presence: repl.OnDisk, Provisional: c.Was.Provisional}
	switch {
	case c.Update.Parent.IsZero(): // the root lies where it always did
		rec.Identity, rec.Print, rec.Shown = c.Was.Identity, c.Was.Print, o.Shown
		if !c.Meta {
			rec.Shown = c.Was.Shown
		}
	case c.To.IsZero():
		rec.Presence = away(&c.Update)
		return rec
	case o.Identity.IsZero(): // nothing was done on disk
		rec.Identity, rec.Print, rec.Shown = c.Object.Identity, c.Object.Print, c.Object.Shown
	case o.Unsure:
		rec.Identity, rec.Print, rec.Shown = o.Identity, f.unseen(o.Print), o.Shown
	default:
		rec.Identity, rec.Print, rec.Shown = o.Identity, o.Print, o.Shown
	}
	if st, ok := touched[c.Update.UID]; ok {
		// A user's mtime, if it is one, is captured: it differs from this one.
		rec.Print = f.unseen(repl.Print{Size: st.Print.Size, Mtime: rec.Mtime})
	}
	return rec
}

// unseen is the print of an object whose ctime an install moved, as it does of a
// directory when it changes entries. Whether a user changed its metadata
// meanwhile cannot be told, so the print carries a ctime that never was, each
// time another: the next look compares the metadata, and drafts made on an
// earlier look are made again.
func (f *Folder) unseen(p repl.Print) repl.Print {
	f.seq++
	p.Ctime = -repl.Time(f.seq)
	return p
}

// touchedWrites records that the batch changed the entries of directories, and
// with them the prints.
func (f *Folder) touchedWrites(put *store.Batch, b *batch, touched map[repl.UID]volume.Stat) {
	written := make(map[repl.UID]bool, len(b.changes))
	for i := range b.changes {
		written[b.changes[i].Update.UID] = true
	}
	for _, uid := range slices.SortedFunc(maps.Keys(touched), repl.UID.Compare) {
		st := touched[uid]
		if written[uid] {
			continue
		}
		rec, ok, err := f.st.Get(uid)
		if err != nil || !ok || rec.Presence != repl.OnDisk || rec.Mtime != st.Print.Mtime {
			continue // a user's change to it is to be captured
		}
		rec.Print = f.unseen(st.Print)
		put.Writes = append(put.Writes, store.Write{Record: rec, Base: rec.GVSN})
	}
}

// failed handles a change that was not carried out: it stays out of the vector
// and is asked for again, its places are looked at, the reason is a finding.
func (f *Folder) failed(b *batch, i int, o *install.Outcome, err error) {
	f.failures++
	f.noteLacking(b, i)
	c := b.changes[i]
	if c.Verdict == repl.VerdictUndone {
		f.undoFailed(c, err, b.lacking(i))
	}
	if d, ok := f.refused[c.Update.UID]; ok && c.Verdict != repl.VerdictUndone { // it may be elsewhere by now, or where it belongs
		delete(f.refused, c.Update.UID)
		f.dirty.mark(d.Prior.Parent, d.Prior.Name, false)
	}
	f.holdBack(b, i)
	// Putting things back moves times too, and the journal leaves out what this
	// process does.
	for _, p := range append(o.Dirty, c.From, c.To) {
		if !p.IsZero() {
			f.dirty.mark(p.Dir, p.Name, c.Update.Type != repl.Directory)
		}
	}
	object := f.object(c)
	switch {
	case errors.Is(err, install.ErrBusy):
		f.waitsFor(c.Update.UID, waiting{finding.InstallWaitsOpenFile, object}, err)
	case errors.Is(err, install.ErrNested) && c.Verdict == repl.VerdictUndone: // under another UID each time
		f.find.Raise(finding.NestedFolder, object, err.Error())
	case errors.Is(err, install.ErrNested):
		f.waitsFor(c.Update.UID, waiting{finding.NestedFolder, object}, err)
	case errors.Is(err, install.ErrMoved):
		f.stats.Redecided++
	case errors.Is(err, fetch.ErrHash):
		f.find.Raise(finding.HashMismatch, object, err.Error())
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, errReserve):
		f.find.Raise(finding.DiskFull, f.cfg.Name, err.Error())
	case errors.Is(err, syscall.EDQUOT):
		f.find.Raise(finding.QuotaExceeded, f.cfg.Name, err.Error())
	case errors.Is(err, syscall.EROFS):
		f.find.Raise(finding.ReadOnlyFilesystem, f.cfg.Name, err.Error())
	case errors.Is(err, syscall.ENAMETOOLONG):
		f.find.Raise(finding.NameTooLong, object, err.Error())
	case errors.Is(err, syscall.EILSEQ):
		f.find.Raise(finding.NameUnstorable, object, err.Error())
	case errors.Is(err, volume.ErrUnmounted):
		f.find.Raise(finding.RootUnmounted, f.cfg.Name, err.Error())
	default:
		f.stats.lastError = fmt.Sprintf("%s: %v", object, err)
	}
}

// cleared takes back the findings that a successful install disproves.
func (f *Folder) cleared(c *repl.Change) {
	object := f.object(c)
	f.waitOver(c.Update.UID)
	delete(f.refused, c.Update.UID)
	for _, code := range []finding.Code{finding.HashMismatch, finding.NameUnstorable} {
		f.find.Clear(code, object)
	}
	if c.Verdict == repl.VerdictUndone {
		f.find.Clear(finding.NestedFolder, object)
	}
	if !f.cfg.Filter.TooLong(c.Update.Name) {
		f.find.Clear(finding.NameTooLong, object)
	}
	if c.Content {
		for _, code := range []finding.Code{finding.DiskFull, finding.QuotaExceeded, finding.ReadOnlyFilesystem} {
			f.find.Clear(code, f.cfg.Name)
		}
	}
}

// waiting is the finding of an install that waits: for a writer, or for who moves
// another replicated folder. The object may have another name when it ends.
type waiting struct {
	code   finding.Code
	object string
}

// waitsFor tells that an install waits.
func (f *Folder) waitsFor(uid repl.UID, w waiting, err error) {
	f.waitOver(uid)
	f.waits[uid] = w
	f.find.Raise(w.code, w.object, err.Error())
}

// waitOver takes back that an install waits: it was done, what the writer saved is
// captured and the verdict made again, or the partner has thought better of it.
func (f *Folder) waitOver(uid repl.UID) {
	if w, ok := f.waits[uid]; ok {
		delete(f.waits, uid)
		f.find.Clear(w.code, w.object)
	}
}

func (f *Folder) object(c *repl.Change) string { return f.title(&c.Update) }

// title is what findings call the object of an update.
func (f *Folder) title(u *repl.Update) string { return f.cfg.Name + ":" + u.Name }

// intended reports whether a change must be recognised after a crash in the
// midst of its batch by an intent (rule 15): it touches the tree, or what touches
// the tree may need its record changed as well.
func intended(c *repl.Change) bool {
	if c.Group != 0 {
		return true
	}
	if c.From.IsZero() && c.To.IsZero() {
		return !c.Was.GVSN.IsZero() || c.Update.Type == repl.Directory
	}
	return c.From != c.To || c.Content || c.Meta
}
