package capture

import (
	"errors"
	"path"

	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// origin is where an object on disk comes from.
type origin struct {
	// rec is a record of the object at another place, nil if it is unknown.
	rec *repl.Record
	// left: rec's place is seen not to hold the object any more: it moved.
	left bool
	// unsettled: it cannot be told yet; the name is to be looked at again.
	unsettled bool
	// here: this very look has drafted it to this place.
	here bool
}

// known returns the live records on this disk, other than that of except, of
// the object that st describes.
func (l *look) known(except repl.UID, st *volume.Stat) ([]repl.Record, error) {
	if st.Identity.Handle == "" {
		return nil, nil
	}
	recs, err := l.deps.Records.ByHandle(st.Identity.Handle)
	if err != nil {
		return nil, err
	}
	out := recs[:0]
	for i := range recs {
		if r := &recs[i]; r.UID != except && seen(r) && same(r, st) {
			out = append(out, *r)
		}
	}
	return out, nil
}

// origin finds where the object at a name of the directory comes from. If that
// cannot be settled, the name is noted for another look.
func (l *look) origin(n Name, st *volume.Stat, except repl.UID) (origin, error) {
	recs, err := l.known(except, st)
	if err != nil || len(recs) == 0 {
		return origin{}, err
	}
	unseen := false
	for i := range recs {
		rec := &recs[i]
		if to, left := l.moved[rec.UID]; left {
			if to.Dir == l.here.uid && to.Name == n.Name {
				if st.Type == repl.Directory && n.Wrote {
					l.descend(n.Name)
				}
				return origin{here: true}, nil
			}
			// Where users' changes are undone what they made of a file at its place is
			// never stored: it is kept here as well, and comes back there.
			unseen = unseen || !l.deps.Undoes || st.Type == repl.Directory
			continue
		}
		held, err := l.holds(rec, st)
		if err != nil {
			return origin{}, err
		}
		switch {
		case held == placeEmpty, held == placeTaken && st.Type == repl.Directory:
			return origin{rec: rec, left: true}, nil
		case held == placeUnseen, st.Type == repl.Directory:
			unseen = true
		}
	}
	if unseen {
		l.again(l.here, n, Unsettled, unsettledAfter)
		return origin{unsettled: true}, nil
	}
	return origin{rec: &recs[0]}, nil
}

// holding is what lies at a place.
type holding int

const (
	placeUnseen holding = iota
	placeEmpty
	placeTaken // by something else
	placeSame  // the object itself
)

// holds looks at the recorded place of the object that st describes, for that
// object.
func (l *look) holds(rec *repl.Record, st *volume.Stat) (holding, error) {
	s, err := l.parent(rec)
	if err != nil {
		return placeUnseen, err
	}
	if s == nil {
		return l.lostParent(rec)
	}
	return s.holding(rec.Name, st), nil
}

// holding looks at one name for the object that st describes.
func (s *spot) holding(name string, st *volume.Stat) holding {
	now, err := s.dir.Lookup(name)
	switch {
	case errors.Is(err, volume.ErrNotExist):
		return placeEmpty
	case err != nil:
		return placeUnseen
	case now.Identity == st.Identity:
		return placeSame
	}
	return placeTaken
}

// lostParent says what the place of a record holds whose directory is not to be
// found. If the directory is no more in what replicates, nor is the place.
func (l *look) lostParent(rec *repl.Record) (holding, error) {
	uid, err := l.deps.Records.Canonical(rec.Parent)
	if err != nil {
		return placeUnseen, err
	}
	dir, ok, err := l.deps.Records.Get(uid)
	if err != nil || !ok || dir.Identity.Handle == "" {
		return placeUnseen, err
	}
	at, err := l.deps.Volume.Resolve(dir.Identity)
	switch {
	case errors.Is(err, volume.ErrStale), errors.Is(err, volume.ErrOutside):
		return placeEmpty, nil
	case err == nil:
		out, err := l.unreplicated(at, true)
		if err == nil && out {
			return placeEmpty, nil
		}
		return placeUnseen, err
	}
	return placeUnseen, nil
}

// parent opens the directory of a record, nil if nothing can be said of it.
// What it returns stays open until another directory is asked for.
func (l *look) parent(rec *repl.Record) (*spot, error) {
	uid, err := l.deps.Records.Canonical(rec.Parent)
	if err != nil {
		return nil, err
	}
	if l.here != nil && l.here.uid == uid {
		return l.here, nil
	}
	if l.other != nil {
		if l.other.uid == uid {
			return l.other, nil
		}
		_ = l.other.dir.Close() // it was only read
		l.other = nil
	}
	s, _, err := l.open(uid)
	l.other = s
	return s, err
}

// wroteAt reports whether the work says that the place of a record may have
// been written to: the journal names a file as it was called when it was
// closed.
func (l *look) wroteAt(rec *repl.Record) bool {
	return rec.Parent == l.here.uid && l.wrote(rec.Name)
}

// maxChain bounds how many objects one move pushes on.
const maxChain = 16

// room drafts what must be stored in one batch with giving away the place of
// rec, which lies there no more. taker is who gets the place, if it is known:
// where the chain of those who must give way meets it again, it is a ring.
// Without ok it cannot be settled yet.
func (l *look) room(rec *repl.Record, taker repl.UID, depth int) ([]Draft, bool, error) {
	if _, left := l.moved[rec.UID]; left || depth >= maxChain {
		return nil, left && l.deps.Undoes, nil // what is taken back is so together
	}
	if rec.Type != repl.Directory {
		return []Draft{Tombstone(rec)}, true, nil
	}
	fate, at, err := l.fate(rec)
	if err != nil {
		return nil, false, err
	}
	switch fate {
	case dead:
		rest, err := l.bury(rec, taker, depth+1)
		if err != nil {
			return nil, false, err
		}
		if rest.moved && !l.undoes(rec) {
			l.result.Gone = append(l.result.Gone, rec.UID)
			return nil, false, nil
		}
		if rest.held {
			l.result.Wanted = append(l.result.Wanted, rec.UID)
		}
		return append(rest.with, Tombstone(rec)), true, nil
	case elsewhere:
		return l.follow(rec, at, taker, depth)
	case untold: // Gone decides, when whatever else is known has been stored
		l.result.Gone = append(l.result.Gone, rec.UID)
	}
	return nil, false, nil
}

// loops reports whether drafts cannot be stored together: two are of one object,
// or they would put a directory below itself, because on record the way to its
// new place leads through it. Then something on that way has moved too, which is
// to be captured first.
func (l *look) loops(drafts []Draft) (bool, error) {
	met := make(map[repl.UID]bool, len(drafts))
	for i := range drafts {
		d := &drafts[i]
		if d.Prior != nil {
			if met[d.Prior.UID] {
				return true, nil
			}
			met[d.Prior.UID] = true
		}
		if d.Kind != KindMove || d.Update.Type != repl.Directory {
			continue
		}
		below, err := l.below(d.Update.Parent, d.Prior.UID, drafts)
		if err != nil {
			return false, err
		}
		if !below {
			continue
		}
		to, ok, err := l.deps.Records.Get(d.Update.Parent)
		if err != nil || !ok || to.Identity.Handle == "" {
			return true, err
		}
		at, err := l.deps.Volume.Resolve(to.Identity)
		if err != nil {
			return true, nil // its own name tells of it
		}
		barred, err := l.barred(at)
		l.blocked = l.blocked || barred
		return true, errors.Join(err, l.sawAt(at))
	}
	return false, nil
}

// barred reports whether a directory above a path has no record while its place
// is on record as another one's.
func (l *look) barred(at string) (bool, error) {
	for dir := path.Dir(at); dir != "."; dir = path.Dir(dir) {
		s, err := l.directoryAt(dir)
		if err != nil {
			return false, err
		}
		if s != nil {
			l.leave(s)
			continue
		}
		up, err := l.directoryAt(path.Dir(dir))
		if err != nil {
			return false, err
		}
		if up == nil {
			continue // nor has the one above it
		}
		there, taken, err := l.deps.Records.At(up.uid, path.Base(dir))
		l.leave(up)
		if err != nil || taken && seen(&there) {
			return true, err
		}
	}
	return false, nil
}

// below reports whether dir is uid or lies below it when the drafts are stored,
// and those that this look sent before.
func (l *look) below(dir, uid repl.UID, drafts []Draft) (bool, error) {
	for depth := 0; dir != l.deps.Root; depth++ {
		at, err := l.deps.Records.Canonical(dir)
		if err != nil || at == uid || depth > maxDepth {
			return true, err
		}
		rec, ok, err := l.deps.Records.Get(at)
		if err != nil || !ok {
			return false, err
		}
		next := rec.Parent
		if to, left := l.moved[at]; left {
			next = to.Dir
		}
		for i := range drafts {
			if d := &drafts[i]; d.Kind == KindMove && d.Prior.UID == at {
				next = d.Update.Parent
			}
		}
		if next.IsZero() {
			return false, nil
		}
		dir = next
	}
	return false, nil
}

// maxDepth bounds a walk up the records, should they form a ring.
const maxDepth = 1 << 16

// follow drafts the move of a directory to the path where it was seen, and
// before it whatever gives way there. One that lies in its directory as it did,
// and has been moved with that, has none.
func (l *look) follow(rec *repl.Record, at string, taker repl.UID, depth int) ([]Draft, bool, error) {
	s, held, err := l.recorded(at)
	if err != nil || s == nil {
		l.blocked = l.blocked || held
		return nil, false, err
	}
	defer l.leave(s)
	name := path.Base(at)
	if dir, err := l.deps.Records.Canonical(rec.Parent); err != nil || dir == s.uid && name == rec.Name {
		return nil, false, err
	}
	st, err := s.dir.Lookup(name)
	if err != nil || !same(rec, &st) {
		return nil, false, nil
	}
	var room []Draft
	var rival *repl.Record
	there, taken, err := l.deps.Records.At(s.uid, name)
	if err != nil {
		return nil, false, err
	}
	if taken && there.UID != taker && there.UID != rec.UID {
		if !seen(&there) {
			rival = copied(&there)
		} else {
			var ok bool
			if room, ok, err = l.room(&there, taker, depth+1); err != nil || !ok {
				return nil, false, err
			}
		}
	}
	f, ok, err := l.observe(s, Name{Name: name}, &st, rec)
	if err != nil || !ok {
		return nil, false, err
	}
	if l.work.Thorough {
		l.dirty(Dirty{Dir: s.uid, Name: name, Wrote: true})
	}
	d := l.turn(rec, s, name, f, rec)
	d.Rival = rival
	return append(room, d), true, nil
}

// recorded opens the directory above a path if it has a record. If not, the
// first name on the way that has none is dirty, and held says whether that place
// is on record as another directory's.
func (l *look) recorded(at string) (s *spot, held bool, err error) {
	for dir, name := path.Dir(at), path.Base(at); ; dir, name = path.Dir(dir), path.Base(dir) {
		s, err := l.directoryAt(dir)
		if err != nil {
			return nil, false, err
		}
		if s == nil {
			if dir == "." {
				return nil, false, nil
			}
			continue
		}
		if dir == path.Dir(at) {
			return s, false, nil
		}
		l.dirty(Dirty{Dir: s.uid, Name: name, Wrote: true})
		there, taken, err := l.deps.Records.At(s.uid, name)
		l.leave(s)
		return nil, taken && seen(&there), err
	}
}

// leave closes a directory that was opened on the way.
func (l *look) leave(s *spot) {
	if s != nil && s != l.here {
		_ = s.dir.Close() // it was only read
	}
}

// directoryAt opens the directory at a path and finds its record by identity;
// nil if it has none or is not there.
func (l *look) directoryAt(at string) (*spot, error) {
	if l.here != nil && l.here.path == at {
		return l.here, nil
	}
	if at == "." {
		s, _, err := l.openAt(l.deps.Root, at, nil)
		return s, err
	}
	dir, err := l.deps.Volume.OpenDir(at)
	if err != nil {
		if errors.Is(err, volume.ErrUnmounted) {
			return nil, err
		}
		return nil, nil
	}
	st, err := dir.Stat()
	if err == nil {
		var recs []repl.Record
		if recs, err = l.known(repl.UID{}, &st); err == nil && len(recs) > 0 {
			return &spot{uid: recs[0].UID, path: at, dir: dir}, nil
		}
	}
	_ = dir.Close() // it was only read
	return nil, err
}

// fate is what became of an object that is not at its place.
type fate int

const (
	dead      fate = iota // it is nowhere in what replicates
	elsewhere             // it was seen at another place
	untold                // there is no privilege to tell
	obscured              // an error hides it
)

// fate asks the volume where an object lies now.
func (l *look) fate(rec *repl.Record) (fate, string, error) {
	if rec.Identity.Handle == "" {
		return untold, "", nil
	}
	at, err := l.deps.Volume.Resolve(rec.Identity)
	switch {
	case errors.Is(err, volume.ErrUnmounted):
		return obscured, "", err
	case errors.Is(err, volume.ErrStale), errors.Is(err, volume.ErrOutside):
		return dead, "", nil
	case errors.Is(err, volume.ErrUnknown):
		if at = l.seek(rec); at == "" {
			return untold, "", nil
		}
	case err != nil:
		l.raise(finding.FileUnreadable, rec.Name, err.Error())
		return obscured, "", nil
	}
	if out, err := l.unreplicated(at, rec.Type == repl.Directory); err != nil || out {
		return dead, "", err
	}
	// A file's other name is another object's place. A directory has one name; if
	// that is another record's, a crash left it two.
	recs, err := l.deps.Records.ByHandle(rec.Identity.Handle)
	if err != nil {
		return obscured, "", err
	}
	for i := range recs {
		r := &recs[i]
		if r.UID == rec.UID || !seen(r) || r.Type != rec.Type || r.Name != path.Base(at) {
			continue
		}
		dir, err := l.deps.Records.Canonical(r.Parent)
		if err != nil {
			return obscured, "", err
		}
		in, err := l.deps.Records.Path(dir)
		if err != nil {
			return obscured, "", err
		}
		if path.Join(in, r.Name) == at {
			return dead, "", nil
		}
	}
	return elsewhere, at, nil
}

// maxSeek bounds the names among which an object is sought.
const maxSeek = 256

// seek finds an object among the names that are looked at, where the volume may
// not tell where it is: the two halves of a rename often come together.
func (l *look) seek(rec *repl.Record) string {
	if l.here == nil {
		return ""
	}
	for _, n := range l.work.Names[:min(len(l.work.Names), maxSeek)] {
		st, err := l.here.dir.Lookup(n.Name)
		if err == nil && same(rec, &st) {
			return l.here.pathOf(n.Name)
		}
	}
	return ""
}
