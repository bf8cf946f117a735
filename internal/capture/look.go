package capture

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"opendfs/internal/filter"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// Look judges the names of one directory and hands the drafts to emit. It
// returns an error if the root is not there (volume.ErrUnmounted), if records
// or emit fail, or if ctx ends; what is wrong with single objects is in the
// result.
func Look(ctx context.Context, deps *Deps, work *Work, emit func(Draft) error) (Result, error) {
	l := newLook(ctx, deps, emit)
	l.work = *work
	l.work.Names = tidyNames(work.Names)
	err := l.run()
	l.forget()
	return l.result, err
}

// tidyNames returns the names in order, each once.
func tidyNames(in []Name) []Name {
	out := slices.Clone(in)
	slices.SortStableFunc(out, func(a, b Name) int { return strings.Compare(a.Name, b.Name) })
	n := 0
	for _, name := range out {
		switch {
		case repl.CheckName(name.Name, false) != nil:
		case n > 0 && out[n-1].Name == name.Name:
			out[n-1].Wrote = out[n-1].Wrote || name.Wrote
		default:
			out[n] = name
			n++
		}
	}
	return out[:n]
}

// spot is an open directory of the tree whose identity was checked.
type spot struct {
	uid   repl.UID // canonical
	path  string   // where it is, whatever its records say
	dir   volume.Dir
	moved bool // its records do not lead there yet
	// filled: its mtime is not the one on record, since what it holds changed.
	filled bool
}

func (s *spot) pathOf(name string) string {
	if s.path == "." {
		return name
	}
	return s.path + "/" + name
}

// look is one call of Look or Gone.
type look struct {
	ctx    context.Context
	deps   *Deps
	emit   func(Draft) error
	fold   func(name string) string // the form by which names are compared
	work   Work
	here   *spot // the directory looked at, nil in Gone
	other  *spot // the last other directory that was opened
	result Result
	groups uint32
	// moved holds the objects that this call has drafted away from the place
	// they have on record, with their new place; the zero place for dead ones.
	moved map[repl.UID]repl.Place
	// awaited holds the objects that were seen at a new place which they cannot
	// be given yet: their old places are empty, but they are not gone.
	awaited []repl.Record
	// blocked: what must give way lies below a directory that has no record and
	// cannot get one before that.
	blocked bool
	// asked holds what Gone was asked about and whether its deletion was drafted.
	asked  map[repl.UID]bool
	meta   []byte       // the metadata read last: most objects of a directory have the same
	began  repl.Time    // when the look at the present name began; only with Racy
	prior  *repl.Record // of the place of the present name, nil if there is none
	within string       // the path of a directory that lies in no other replicated folder
	// single: the present name is its object's only one.
	single bool
	// lasting: nobody uses the memory of the records again that the look is given.
	lasting bool
}

func newLook(ctx context.Context, deps *Deps, emit func(Draft) error) *look {
	return &look{ctx: ctx, deps: deps, emit: emit, fold: filter.Folder(deps.Fold)}
}

// forget closes what is open. Directories are only read: nothing is lost.
func (l *look) forget() {
	for _, s := range []*spot{l.here, l.other} {
		if s != nil {
			_ = s.dir.Close()
		}
	}
	l.here, l.other = nil, nil
}

func (l *look) run() error {
	s, missing, err := l.open(l.work.Dir)
	if err != nil {
		return err
	}
	if s == nil {
		l.result.Missing = missing
		return nil
	}
	l.here = s
	if s.moved || s.filled && l.work.All { // perhaps before there was a record to report it of
		if err := l.sawAt(s.path); err != nil {
			return err
		}
	}
	if l.work.All {
		err = l.all()
	} else {
		err = l.named()
	}
	if err != nil {
		return err
	}
	l.await()
	if l.work.Self {
		return l.self()
	}
	return nil
}

// await has the old places of those that wait for their new one looked at when
// that has been looked at again.
func (l *look) await() {
	for i := range l.awaited {
		rec := &l.awaited[i]
		if at := slices.Index(l.result.Gone, rec.UID); at >= 0 {
			l.result.Gone = slices.Delete(l.result.Gone, at, at+1)
			l.again(l.here, Name{Name: rec.Name}, Unsettled, 2*unsettledAfter)
		}
	}
}

// open opens a directory at its recorded place, or where its handle leads if it
// was moved and that has not been captured yet. Without error and spot nothing
// may be concluded of what it holds: it is missing, or hidden.
func (l *look) open(uid repl.UID) (s *spot, missing bool, err error) {
	if uid, err = l.deps.Records.Canonical(uid); err != nil {
		return nil, false, err
	}
	rec, known, err := l.deps.Records.Get(uid)
	if err != nil {
		return nil, false, err
	}
	if uid == l.deps.Root {
		return l.openAt(uid, ".", nil)
	}
	if !known || !seen(&rec) {
		return nil, true, nil
	}
	path, err := l.deps.Records.Path(uid)
	if err != nil {
		return nil, false, err
	}
	s, missing, err = l.openAt(uid, path, &rec)
	if !missing || err != nil || rec.Identity.Handle == "" {
		return s, missing, err
	}
	path, err = l.deps.Volume.Resolve(rec.Identity)
	if errors.Is(err, volume.ErrUnmounted) {
		return nil, false, err
	}
	if err != nil || path == "." {
		return nil, true, nil
	}
	if out, err := l.unreplicated(path, true); err != nil || out {
		return nil, true, err
	}
	s, missing, err = l.openAt(uid, path, &rec)
	if s != nil {
		s.moved = true
	}
	return s, missing, err
}

// openAt opens the directory at path if it has the identity on record. Of the
// root, without record, the volume knows whether it is the one.
func (l *look) openAt(uid repl.UID, path string, rec *repl.Record) (s *spot, missing bool, err error) {
	var dir volume.Dir
	if path == "." {
		dir, err = l.deps.Volume.Root()
	} else {
		dir, err = l.deps.Volume.OpenDir(path)
	}
	if err == nil {
		var st volume.Stat
		if st, err = dir.Stat(); err == nil {
			if rec == nil || sameIdentity(rec.Identity, st.Identity) {
				filled := rec != nil && rec.Print.Mtime != st.Print.Mtime
				return &spot{uid: uid, path: path, dir: dir, filled: filled}, false, nil
			}
			err = volume.ErrNotExist
		}
		_ = dir.Close() // it was only read
	}
	switch {
	case errors.Is(err, volume.ErrUnmounted):
		return nil, false, err
	case errors.Is(err, volume.ErrNotExist), errors.Is(err, volume.ErrNotDir), errors.Is(err, volume.ErrEscapes), errors.Is(err, volume.ErrStale):
		return nil, true, nil
	case errors.Is(err, volume.ErrMount):
		l.raise(finding.ParentObscured, path, err.Error())
	default:
		l.raise(finding.ListingError, path, err.Error())
	}
	l.staysDoubted(rec)
	return nil, false, nil
}

// named looks at the names that were asked for.
func (l *look) named() error {
	names := make([]string, len(l.work.Names))
	for i := range names {
		names[i] = l.work.Names[i].Name
	}
	l.lasting = true
	return l.deps.Records.Named(l.here.uid, names, func(i int, rec *repl.Record) error {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		return l.judge(l.work.Names[i], rec)
	})
}

// pageSize is how many records are read at once.
const pageSize = 512

// page reads the next records of a directory. Nothing else of the records is
// used meanwhile, so that they may be written between two pages.
func (l *look) page(dir repl.UID, after string, buf []repl.Record) ([]repl.Record, error) {
	buf = buf[:0]
	err := l.deps.Records.Children(dir, after, func(rec *repl.Record) bool {
		buf = append(buf, *rec)
		return len(buf) < pageSize
	})
	return buf, err
}

// all lists the directory and merges the listing with the records.
func (l *look) all() error {
	var list names
	err := l.here.dir.List(func(e volume.Entry) error {
		if len(list.at)%pageSize == 0 && l.ctx.Err() != nil {
			return l.ctx.Err()
		}
		return list.add(e.Name)
	})
	if l.ctx.Err() != nil {
		return l.ctx.Err()
	}
	l.result.Complete = err == nil
	if err != nil {
		l.raise(finding.ListingError, l.here.path, err.Error())
	}
	list.seal()
	next := 0
	// upTo judges the listed names before bound; last lifts the bound.
	upTo := func(bound string, last bool) error {
		for ; next < list.len(); next++ {
			name := list.name(next)
			if !last && name >= bound {
				return nil
			}
			if next > 0 && name == list.name(next-1) {
				continue
			}
			if err := l.listed(name, nil); err != nil {
				return err
			}
		}
		return nil
	}
	var page []repl.Record
	for after := ""; ; after = page[len(page)-1].Name {
		if page, err = l.page(l.here.uid, after, page); err != nil {
			return err
		}
		for i := range page {
			rec := &page[i]
			if err := upTo(rec.Name, false); err != nil {
				return err
			}
			if next < list.len() && list.name(next) == rec.Name {
				next++
				err = l.listed(rec.Name, rec)
			} else {
				err = l.missing(rec)
			}
			if err != nil {
				return err
			}
		}
		if len(page) < pageSize {
			return upTo("", true)
		}
	}
}

// listed judges a name of the listing.
func (l *look) listed(name string, rec *repl.Record) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if rec == nil && l.deps.Fold { // by another spelling it may be on record
		there, ok, err := l.deps.Records.At(l.here.uid, name)
		if err != nil {
			return err
		}
		if ok {
			rec = &there
		}
	}
	return l.judge(Name{Name: name, Wrote: l.wrote(name)}, rec)
}

// wrote reports whether the work says that the name may have been written to.
func (l *look) wrote(name string) bool {
	i, ok := slices.BinarySearchFunc(l.work.Names, name, func(n Name, s string) int { return strings.Compare(n.Name, s) })
	return ok && l.work.Names[i].Wrote
}

// missing notes a record whose name is not there. After an incomplete listing
// nothing is missing (rule 20). Of what nobody could say where it was it is known
// now that it is not here.
func (l *look) missing(rec *repl.Record) error {
	if rec.Presence == repl.Obscured && (!l.work.All || l.result.Complete) {
		prior := copied(rec)
		return l.send(Draft{Kind: KindAdopt, Prior: prior, Update: prior.Update, Local: Local{Presence: repl.Absent}})
	}
	if _, gone := l.moved[rec.UID]; gone || rec.Presence != repl.OnDisk || l.work.All && !l.result.Complete {
		return nil
	}
	l.result.Gone = append(l.result.Gone, rec.UID)
	return nil
}

// self drafts the directory's own mtime. Its metadata are its parent's look to
// compare, so the ctime on record stays; the root has no parent.
func (l *look) self() error {
	rec, ok, err := l.deps.Records.Get(l.here.uid)
	if err != nil || !ok || !rec.Present || rec.Presence != repl.OnDisk {
		return err
	}
	if l.here.uid == l.deps.Root {
		return l.root(&rec)
	}
	st, err := l.here.dir.Stat()
	if err != nil {
		l.raise(finding.FileUnreadable, l.here.path, err.Error())
		return nil
	}
	if st.Print.Mtime == rec.Print.Mtime {
		return nil
	}
	d := Draft{Kind: KindMeta, MtimeOnly: true, Prior: &rec, Update: rec.Update}
	d.Update.Mtime = st.Print.Mtime
	d.Local = Local{repl.OnDisk, st.Identity, st.Print, rec.Shown}
	d.Print.Ctime = rec.Print.Ctime
	return l.emit(d)
}

// root drafts the root's own metadata and mtime. Who changes them while they are
// read is noticed by the journal, and they are read again.
func (l *look) root(rec *repl.Record) error {
	st, err := l.here.dir.Stat()
	if err == nil && st.Print == rec.Print {
		return nil
	}
	var meta []byte
	if err == nil {
		meta, err = l.here.dir.OwnMeta()
	}
	var after volume.Stat
	if err == nil {
		after, err = l.here.dir.Stat()
	}
	if err != nil {
		l.raise(finding.FileUnreadable, l.here.path, err.Error())
		return nil
	}
	f := &found{stat: st, print: st.Print, meta: meta}
	if err := f.carry(rec.Meta, rec.Shown); err != nil {
		l.raise(finding.FileUnreadable, l.here.path, err.Error())
		return nil
	}
	if after.Print.Ctime != st.Print.Ctime || l.deps.Racy > 0 && l.deps.Now()-st.Print.Ctime < repl.Time(l.deps.Racy) {
		f.print.Ctime = 0 // compared again at the next look
	}
	d := Draft{Kind: KindMeta, Prior: copied(rec), Update: rec.Update, Local: f.local()}
	f.fill(&d.Update, rec)
	d.MtimeOnly = bytes.Equal(f.meta, rec.Meta)
	if d.MtimeOnly && d.Update.Mtime == rec.Mtime {
		d.Kind, d.Update = KindAdopt, rec.Update
	}
	return l.emit(d)
}

func (l *look) raise(code finding.Code, object, detail string) {
	if len(l.result.Findings) >= maxFindings {
		l.result.FindingsMore++
		return
	}
	l.result.Findings = append(l.result.Findings, Raised{code, object, detail})
}

// again has a name of the directory looked at once more. In another directory,
// which only a chain of moves leads to, it is dirty.
func (l *look) again(s *spot, n Name, why Reason, after time.Duration) {
	switch {
	case s != l.here:
		l.dirty(Dirty{s.uid, strings.Clone(n.Name), n.Wrote})
	case len(l.result.Again) >= maxAgain:
		l.result.AgainAll = max(l.result.AgainAll, after)
	default:
		l.result.Again = append(l.result.Again, Again{strings.Clone(n.Name), n.Wrote, why, after})
	}
}

func (l *look) dirty(d Dirty) {
	if len(l.result.Dirty) < maxDirty {
		l.result.Dirty = append(l.result.Dirty, d)
	}
}

// forgettable reports whether the move of an object need not be noted: nothing
// else in this directory can lead to its record. A million files that come from
// another directory cost no memory.
func (l *look) forgettable(prior *repl.Record) bool {
	return l.single && prior.Type != repl.Directory && prior.Parent != l.here.uid
}

// send hands drafts that belong together to emit and notes who left its place.
func (l *look) send(drafts ...Draft) error {
	var group uint32
	if len(drafts) > 1 {
		l.groups++
		group = l.groups
	}
	for i := range drafts {
		d := &drafts[i]
		d.Group = group
		if d.Prior != nil && (d.Kind == KindMove || d.Kind == KindDelete) && !(len(drafts) == 1 && l.forgettable(d.Prior)) {
			to := repl.Place{}
			if d.Kind == KindMove {
				to = repl.Place{Dir: d.Update.Parent, Name: d.Update.Name}
			}
			if l.moved == nil {
				l.moved = make(map[repl.UID]repl.Place)
			}
			l.moved[d.Prior.UID] = to
		}
		if err := l.emit(*d); err != nil {
			return err
		}
	}
	return nil
}
