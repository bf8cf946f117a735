package capture

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// sameIdentity reports whether two identities are one object's. Where there is
// no handle the place decides (rule 22), unless birth times say otherwise.
func sameIdentity(a, b repl.Identity) bool {
	if a.Birth != 0 && b.Birth != 0 && a.Birth != b.Birth {
		return false
	}
	return a.Handle == b.Handle || a.Handle == "" || b.Handle == ""
}

// same reports whether what lies on disk is the record's object.
func same(rec *repl.Record, st *volume.Stat) bool {
	return rec.Type == st.Type && sameIdentity(rec.Identity, st.Identity)
}

// seen reports whether the record's object was on this disk when it was
// recorded: only then does the disk say something of it.
func seen(rec *repl.Record) bool {
	return rec.Present && (rec.Presence == repl.OnDisk || rec.Presence == repl.Obscured)
}

// keptOut reports whether what lies on disk does not replicate because of its name
// or its type.
func (l *look) keptOut(name string, st *volume.Stat) bool {
	return st.Type == repl.Other || l.deps.Filter.Match(name, st.Type == repl.Directory)
}

// nested reports whether an unknown directory is the root of another replicated
// folder: it has a private area. One that is known has replicated so far, and does.
func (l *look) nested(name string, st *volume.Stat, rec *repl.Record) (bool, error) {
	if st.Type != repl.Directory || rec != nil && seen(rec) && same(rec, st) {
		return false, nil
	}
	is, err := volume.IsRoot(l.here.dir, name)
	if err != nil || !is {
		return false, nil // it is looked into later, and what is wrong with it told
	}
	recs, err := l.known(repl.UID{}, st)
	return len(recs) == 0, err
}

// unlike notes a name that does not replicate because of what it is.
func (l *look) unlike(name, what string) {
	l.raise(finding.UnreplicatedEntries, l.here.pathOf(name), what)
}

// judge looks at one name of the directory. rec is the live record of the
// place, nil if there is none.
func (l *look) judge(n Name, rec *repl.Record) error {
	if l.deps.Racy > 0 {
		l.began = l.deps.Now()
	}
	l.prior = rec
	st, err := l.lookUp(n.Name, rec)
	l.single = st.Links <= 1
	other := rec != nil && rec.Name != n.Name // its own name is judged by itself
	if other && (err != nil || l.keptOut(n.Name, &st)) {
		rec, other = nil, false
	}
	switch {
	case errors.Is(err, volume.ErrNotExist):
		if rec != nil {
			return l.missing(rec)
		}
		return nil
	case err != nil:
		return l.hidden(n.Name, rec, err)
	case l.keptOut(n.Name, &st):
		return l.passOver(n, &st, rec)
	}
	if is, err := l.nested(n.Name, &st, rec); err != nil || is {
		l.result.Skipped.Nested++
		if err == nil && l.deps.Nested != nil {
			l.deps.Nested.Store(true)
		}
		l.unlike(n.Name, "the root of another replicated folder")
		if err == nil && rec != nil && !other {
			err = l.missing(rec)
		}
		return err
	}
	if st.Type == repl.File && st.Links > 1 {
		l.raise(finding.HardlinkSplit, l.here.pathOf(n.Name), fmt.Sprintf("%d names", st.Links))
	}
	if l.work.All && st.Type == repl.Directory {
		n.Wrote = true // also if it must be looked at again
	}
	if rec != nil {
		if _, left := l.moved[rec.UID]; left {
			if !l.deps.Undoes {
				l.again(l.here, n, Unsettled, 0)
				return nil
			}
			rec, other = nil, false // its place is never free on record
		}
	}
	if other && seen(rec) {
		if is, err := l.spelt(n, &st, rec); err != nil || !is {
			return err
		}
	}
	if rec != nil && rec.Presence == repl.Obscured {
		if is, err := l.another(rec, &st); err != nil || is {
			l.again(l.here, n, Unsettled, 0)
			return errors.Join(err, l.missing(rec))
		}
	}
	switch {
	case rec == nil || !seen(rec):
		return l.appeared(n, &st, rec)
	case same(rec, &st):
		return l.stands(n, &st, rec)
	}
	return l.replaced(n, &st, rec)
}

// lookUp describes what lies at a name, of which rec is the record.
func (l *look) lookUp(name string, rec *repl.Record) (volume.Stat, error) {
	if rec == nil || rec.Presence != repl.OnDisk || rec.Name != name {
		return l.here.dir.Lookup(name)
	}
	return l.here.dir.Recognize(name, rec.Identity, rec.Print.Ctime)
}

// passOver counts what does not replicate; what was on record there is not there.
func (l *look) passOver(n Name, st *volume.Stat, rec *repl.Record) error {
	if st.Type == repl.Other {
		l.result.Skipped.Others++
		l.unlike(n.Name, "a socket, pipe or device")
	} else {
		l.result.Skipped.Filtered++
	}
	if rec != nil && !same(rec, st) {
		return l.missing(rec)
	}
	return nil
}

// another reports whether what lies at the place of an obscured record is known to
// be something else.
func (l *look) another(rec *repl.Record, st *volume.Stat) (bool, error) {
	if !same(rec, st) || rec.Type != repl.Directory {
		return !same(rec, st), nil
	}
	recs, err := l.known(rec.UID, st)
	return len(recs) > 0, err
}

// hidden notes a name that cannot be looked at. Nothing is concluded; what is in
// doubt stays so.
func (l *look) hidden(name string, rec *repl.Record, err error) error {
	l.staysDoubted(rec)
	switch {
	case errors.Is(err, volume.ErrUnmounted):
		return err
	case errors.Is(err, volume.ErrChanged):
		l.again(l.here, Name{Name: name}, Changing, changingAfter)
		return nil
	case !errors.Is(err, volume.ErrMount):
		l.raise(finding.FileUnreadable, l.here.pathOf(name), err.Error())
		return nil
	}
	l.result.Skipped.Mounts++
	if rec != nil && seen(rec) {
		l.raise(finding.ParentObscured, l.here.pathOf(name), err.Error())
	} else {
		l.unlike(name, "a mount point")
	}
	return nil
}

// staysDoubted notes that an object cannot be looked at while fingerprints are not
// to be believed.
func (l *look) staysDoubted(rec *repl.Record) {
	if rec != nil && seen(rec) && l.deps.Doubt.Since != 0 {
		l.result.Doubted = append(l.result.Doubted, rec.UID)
	}
}

// stands judges an object that lies at its recorded place, perhaps under another
// spelling.
func (l *look) stands(n Name, st *volume.Stat, rec *repl.Record) error {
	if st.Type == repl.Directory && (n.Wrote || rec.Presence != repl.OnDisk) {
		l.descend(n.Name)
	}
	if st.Print == rec.Print && !l.deps.Doubt.Of(rec) && !(n.Wrote && st.Type == repl.File && l.tooYoung(st)) {
		if rec.Presence == repl.OnDisk && rec.Name == n.Name {
			return nil
		}
		d := l.turn(rec, l.here, n.Name, &found{stat: *st, print: st.Print, content: rec.Content, target: rec.Target, meta: rec.Meta, shown: rec.Shown}, rec)
		return l.send(d)
	}
	f, ok, err := l.observe(l.here, n, st, rec)
	if err != nil || !ok {
		return err
	}
	d := l.turn(rec, l.here, n.Name, f, rec)
	if d.Data && st.Links > 1 {
		if err := l.otherNames(rec, st); err != nil {
			return err
		}
	}
	return l.send(d)
}

// otherNames has the other names of an edited file looked at: only the name
// that was used is reported by a journal.
func (l *look) otherNames(rec *repl.Record, st *volume.Stat) error {
	recs, err := l.known(rec.UID, st)
	if err != nil {
		return err
	}
	for i := range recs {
		dir, err := l.deps.Records.Canonical(recs[i].Parent)
		if err != nil {
			return err
		}
		l.dirty(Dirty{Dir: dir, Name: recs[i].Name, Wrote: true})
	}
	return nil
}

// appeared judges an object at a place that nothing on this disk had on
// record. rival is a live record that claims the place without being here.
func (l *look) appeared(n Name, st *volume.Stat, rival *repl.Record) error {
	o, err := l.origin(n, st, repl.UID{})
	if err != nil || o.unsettled || o.here {
		return err
	}
	if rival != nil && !o.left && rival.Type == st.Type {
		f, ok, err := l.observe(l.here, n, st, o.rec)
		if err != nil || !ok {
			return err
		}
		if st.Type == repl.Directory || f.content.Equal(rival.Content) || rival.Presence == repl.Absent {
			if st.Type == repl.Directory {
				l.descend(n.Name)
			}
			return l.send(l.turn(rival, l.here, n.Name, f, o.rec))
		}
		d := l.create(n.Name, f, o.rec)
		d.Rival = copied(rival)
		return l.send(d)
	}
	loops, err := l.arrive(n, st, o, rival, nil)
	if loops {
		l.again(l.here, n, Unsettled, unsettledAfter)
	}
	return err
}

// arrive drafts an object that takes a place: the move of a known one or a new
// one. room is what must be stored with it. Nothing is drafted if that loops.
func (l *look) arrive(n Name, st *volume.Stat, o origin, rival *repl.Record, room []Draft) (loops bool, err error) {
	if name, is := l.taken(room, n.Name); is {
		if err := l.send(room...); err != nil || !l.deps.Undoes {
			l.collide(n.Name, name)
			return false, err
		}
		room = nil // it goes back there: what lies in its place is undone as well
	}
	if o.rec != nil && l.wroteAt(o.rec) {
		n.Wrote = true
	}
	f, ok, err := l.observe(l.here, n, st, o.rec)
	if err != nil {
		return false, err
	}
	if !ok {
		now, err := l.here.dir.Lookup(n.Name)
		if err != nil || !o.left || !same(o.rec, &now) {
			return false, nil // noted by observe; whoever comes after it is judged then
		}
	}
	var d Draft
	if o.left {
		if !ok { // it moves as it is on record; what changed follows when it can be read
			f = &found{stat: *st, print: o.rec.Print, content: o.rec.Content, target: o.rec.Target, meta: o.rec.Meta, shown: o.rec.Shown}
		}
		d = l.turn(o.rec, l.here, n.Name, f, o.rec)
	} else {
		d = l.create(n.Name, f, o.rec)
	}
	if st.Type == repl.Directory && (!o.left || n.Wrote || l.work.Thorough) {
		l.descend(n.Name)
	}
	if rival != nil {
		d.Rival = copied(rival)
	}
	drafts, loops, err := l.unknot(append(room, d))
	if err != nil || loops {
		return loops, err
	}
	return false, l.send(drafts...)
}

// replaced judges a place where another object lies than the recorded one.
func (l *look) replaced(n Name, st *volume.Stat, rec *repl.Record) error {
	o, err := l.origin(n, st, rec.UID)
	if err != nil || o.here {
		return err
	}
	if o.unsettled {
		if rec.Type == repl.Directory { // which may be what has to be settled
			l.result.Gone = append(l.result.Gone, rec.UID)
		}
		return nil
	}
	if st.Type == rec.Type && st.Type != repl.Directory {
		return l.saved(n, st, rec, o)
	}
	if st.Type == rec.Type && !o.left {
		stays, err := l.staysBehind(rec)
		if err != nil {
			return err
		}
		if stays {
			return l.stay(n, st, rec)
		}
	}
	var taker repl.UID
	if o.left {
		taker = o.rec.UID
	}
	l.blocked = false
	room, ok, err := l.room(rec, taker, 0)
	if err != nil {
		return err
	}
	if ok {
		loops, err := l.arrive(n, st, o, nil, room)
		if err != nil || !loops {
			return err
		}
	} else if o.left {
		l.awaited = append(l.awaited, *copied(o.rec))
	}
	if l.blocked && st.Type == rec.Type && o.rec == nil {
		return l.stay(n, st, rec)
	}
	l.again(l.here, n, Unsettled, unsettledAfter)
	return nil
}

// staysBehind reports whether a directory's record keeps its place although an
// unknown directory lies there: the old one is gone, or it is below a directory
// that has no record and cannot get one before this place is settled, such as
// the unknown one itself. Then what moved along is found name by name.
func (l *look) staysBehind(rec *repl.Record) (bool, error) {
	fate, at, err := l.fate(rec)
	if err != nil || fate != elsewhere {
		return fate == dead || fate == untold, err
	}
	s, held, err := l.recorded(at)
	l.leave(s)
	return held, err
}

// stay drafts that a directory's record keeps its place with another object.
func (l *look) stay(n Name, st *volume.Stat, rec *repl.Record) error {
	f, ok, err := l.observe(l.here, n, st, nil)
	if err != nil || !ok {
		return err
	}
	l.descend(n.Name)
	return l.send(l.turn(rec, l.here, n.Name, f, nil))
}

// saved judges a file or link that was replaced by another: it lives on with
// what lies there now. If that came from another place, who was there dies in
// the same batch (rule 12).
func (l *look) saved(n Name, st *volume.Stat, rec *repl.Record, o origin) error {
	if o.rec != nil && l.wroteAt(o.rec) {
		n.Wrote = true
	}
	f, ok, err := l.observe(l.here, n, st, o.rec)
	if err != nil || !ok {
		return err
	}
	drafts := []Draft{l.turn(rec, l.here, n.Name, f, o.rec)}
	if o.left {
		drafts = append(drafts, Tombstone(o.rec))
	}
	return l.send(drafts...)
}

// descend names a subdirectory to be looked at completely.
func (l *look) descend(name string) {
	l.result.Descend = append(l.result.Descend, strings.Clone(name))
}

// create drafts a new object. from is a record of the same object, if there is
// one: its mtime is taken where the disk's is still the one it was given.
func (l *look) create(name string, f *found, from *repl.Record) Draft {
	d := Draft{Kind: KindCreate, Local: f.local(), Data: f.stat.Type != repl.Directory}
	d.Update = repl.Update{Parent: l.here.uid, Name: strings.Clone(name), Type: f.stat.Type, Present: true}
	f.fill(&d.Update, from)
	return d
}

// turn drafts what makes of a record what was found at a place. from is the
// record of the object that lies there, nil if it is unknown.
func (l *look) turn(rec *repl.Record, to *spot, name string, f *found, from *repl.Record) Draft {
	prior := rec
	if !l.lasting {
		prior = copied(rec)
	}
	d := Draft{Prior: prior, Update: prior.Update, Local: f.local()}
	u := &d.Update
	f.fill(u, from)
	dir, err := l.deps.Records.Canonical(rec.Parent)
	move := err != nil || dir != to.uid || rec.Name != name
	if move {
		u.Parent, u.Name = to.uid, strings.Clone(name)
	}
	d.Data = !repl.SameContent(u, &prior.Update)
	meta := !bytes.Equal(u.Meta, prior.Meta)
	switch {
	case move:
		d.Kind = KindMove
	case d.Data:
		d.Kind = KindEdit
	case meta || u.Mtime != prior.Mtime:
		d.Kind, d.MtimeOnly = KindMeta, !meta
	default:
		d.Kind, d.Update = KindAdopt, prior.Update
	}
	return d
}

// Tombstone drafts a deletion.
func Tombstone(rec *repl.Record) Draft {
	prior := copied(rec)
	d := Draft{Kind: KindDelete, Prior: prior, Local: Local{Presence: repl.Absent}}
	d.Update = repl.Update{
		UID: prior.UID, Parent: prior.Parent, Name: prior.Name, Type: prior.Type,
		Fence: prior.Fence, CreateTime: prior.CreateTime,
	}
	return d
}

// copied copies a record whose memory is used again.
func copied(rec *repl.Record) *repl.Record {
	out := *rec
	return &out
}
