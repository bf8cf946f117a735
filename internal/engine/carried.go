package engine

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/volume"
)

// How often what could not be set is tried again: a user may exist by now, the
// member may run with other rights. The first time is at the start.
const (
	mendEvery = repl.Time(time.Hour)
	mendChunk = 256     // objects stored in one batch
	mendMost  = 1 << 20 // objects looked at in one run
)

// startMending says how much metadata is carried for others, and tries again
// now and then to set them.
func (f *Folder) startMending() {
	n := f.st.Counts().Carried
	if n != f.carried {
		f.carried = n
		if n == 0 {
			f.find.Clear(finding.MetadataCarried, f.cfg.Name)
		} else {
			f.find.Raise(finding.MetadataCarried, f.cfg.Name, fmt.Sprintf("%d files and directories have other metadata here; `dfs record PATH` shows both", n))
		}
	}
	if n == 0 || f.mending || f.phase != store.PhaseNormal || f.now() < f.mendAt {
		return
	}
	f.mending, f.mendAt = true, f.now()+mendEvery
	f.do(&Mend{})
}

// Mend tries again to give objects the metadata that their records carry.
type Mend struct{}

// Class says that it changes the tree.
func (*Mend) Class() Class { return ClassInstall }

// mendNow tells that something may have changed about what could not be set.
type mendNow struct{}

func (mendNow) apply(f *Folder) { f.mendAt = 0 }

// mendedObject is what one object shows now. rec is the record it was tried on.
type mendedObject struct {
	rec   repl.Record
	print repl.Print
	shown []byte
}

// mended tells what a run has given, and whether it is over.
type mended struct {
	objects []mendedObject
	changed []repl.Record // whose objects are not as they are on record: to be looked at
	over    bool
}

// Run tries one object of each kind; if it is given anything, all of the kind.
func (*Mend) Run(ctx Context, post func(Event)) {
	var ev mended
	hopeless := make(map[string]bool)
	uids, err := ctx.Store.Carried(mendMost)
	if err != nil {
		post(trouble{"carried metadata", err})
	}
	for _, uid := range uids {
		if ctx.Err() != nil {
			break
		}
		rec, ok, err := ctx.Store.Get(uid)
		if err != nil || !ok || len(rec.Shown) == 0 || rec.Presence != repl.OnDisk {
			continue
		}
		kind := string(rec.Shown) + "\x00" + string(rec.Meta)
		if hopeless[kind] {
			continue
		}
		o, err := ctx.mend(&rec)
		switch {
		case errors.Is(err, errNotShown):
			ev.changed = append(ev.changed, rec)
		case err == nil && o != nil:
			ev.objects = append(ev.objects, *o)
		case err == nil:
			hopeless[kind] = true
		}
		if len(ev.objects)+len(ev.changed) >= mendChunk {
			post(ev)
			ev = mended{}
		}
	}
	ev.over = true
	post(ev)
}

var errNotShown = errors.New("the object is not as it is on record")

// mend gives one object its metadata, nil if it has no more than before.
func (e *Env) mend(rec *repl.Record) (*mendedObject, error) {
	d, err := e.openAbove(rec)
	if err != nil {
		return nil, err
	}
	st, disk, err := readEntry(d, rec)
	if err == nil && (st.Identity != rec.Identity || !st.Print.SameData(rec.Print) || !bytes.Equal(disk, rec.Shown)) {
		err = errNotShown
	}
	var lacks []string
	if err == nil {
		if rec.Parent.IsZero() {
			lacks, err = d.SetOwnMeta(rec.Meta, rec.Mtime)
		} else {
			_, lacks, err = d.SetMeta(rec.Name, &st, rec.Meta, rec.Mtime)
		}
	}
	if err == nil {
		err = d.Sync()
	}
	o := &mendedObject{rec: *rec}
	if err == nil {
		st, disk, err = readEntry(d, rec)
	}
	if err == nil {
		o.print = st.Print
		o.shown, err = volume.Shown(rec.Meta, disk, lacks)
	}
	if err = errors.Join(err, d.Close()); err != nil || bytes.Equal(o.shown, rec.Shown) {
		return nil, err
	}
	return o, nil
}

// openAbove opens the directory in which a record's object lies; the root
// itself for the root.
func (e *Env) openAbove(rec *repl.Record) (volume.Dir, error) {
	if rec.Parent.IsZero() {
		return e.Volume.Root()
	}
	return openPlace(e, repl.Place{Dir: rec.Parent, Name: rec.Name})
}

func readEntry(d volume.Dir, rec *repl.Record) (st volume.Stat, meta []byte, err error) {
	if rec.Parent.IsZero() {
		st, err = d.Stat()
	} else {
		st, err = d.Lookup(rec.Name)
	}
	if err != nil {
		return st, nil, err
	}
	if rec.Parent.IsZero() {
		meta, err = d.OwnMeta()
	} else {
		meta, err = d.Meta(rec.Name)
	}
	return st, meta, err
}

// apply stores what objects show now. Where a record moved on meanwhile, the
// next look finds out.
func (e mended) apply(f *Folder) {
	f.mending = f.mending && !e.over
	var put store.Batch
	for i := range e.objects {
		o := &e.objects[i]
		if !f.unmoved(&o.rec) {
			e.changed = append(e.changed, o.rec)
			continue
		}
		rec := o.rec
		rec.Print, rec.Shown = f.unseen(o.print), o.shown
		put.Writes = append(put.Writes, store.Write{Record: rec, Base: rec.GVSN})
	}
	if len(put.Writes) > 0 {
		f.storeFailed(f.st.Put(&put))
	}
	for i := range e.changed {
		r := &e.changed[i]
		if r.Parent.IsZero() {
			f.dirty.at(f.root()).self = true
			continue
		}
		dir, err := f.st.Canonical(r.Parent)
		if f.storeFailed(err) {
			return
		}
		f.dirty.mark(dir, r.Name, false)
	}
}

// carried finds out what the object of a finished install could not be given:
// the crash took that with it.
func (s *settler) carried(u *unsettled) error {
	u.rec.Shown = nil
	if !u.Update.Present || u.Place.IsZero() && !u.Update.Parent.IsZero() || len(u.Update.Meta) == 0 {
		return nil
	}
	at := repl.Record{Update: u.Update}
	if !u.Place.IsZero() {
		at.Parent, at.Name = u.Place.Dir, u.Place.Name
	}
	d, err := s.env.openAbove(&at)
	if err != nil {
		return ignoreMissing(err)
	}
	st, disk, err := readEntry(d, &at)
	if err == nil && !bytes.Equal(disk, u.Update.Meta) && volume.CanBeLacking(u.Update.Meta, disk) {
		var lacks []string
		if at.Parent.IsZero() {
			lacks, err = d.SetOwnMeta(u.Update.Meta, u.Update.Mtime)
		} else {
			_, lacks, err = d.SetMeta(at.Name, &st, u.Update.Meta, st.Print.Mtime)
		}
		if err == nil {
			u.rec.Shown, err = volume.Shown(u.Update.Meta, disk, lacks)
		}
	}
	return errors.Join(ignoreMissing(err), d.Close())
}
