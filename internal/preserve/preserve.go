// Package preserve is the conflict store: it keeps what replication takes out
// of a tree and no user asked to be gone — losers of conflicts, remotely
// deleted files, what only this member had at its initial sync, left-overs of
// an interrupted install — until it is restored, purged or, its promise over,
// evicted (rules 10, 17, 21, 26).
//
// It lies on the folder's own volume, `.dfsr/conflicts/` and
// `.dfsr/preexisting/`. An object is kept by one rename, a directory with all
// that is in it, beside a manifest NAME.json that says where it was and why
// (docs/formats/private-area.md). The manifest is written first: an object may
// lack its manifest only if the disk was full or the power failed, and is
// listed as a left-over then; a manifest without an object is litter.
//
// The store never follows a link, and overwrites nothing: what a restore
// replaces by order is kept in turn. It removes only by Purge and Evict. Its
// methods may be called from several goroutines.
package preserve

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/volume"
)

// Why says why an object was kept.
type Why string

// The reasons. What is kept as Deleted is kept as long as there is room;
// PreExisting is kept until somebody purges it; the others are promised for the
// folder's retention.
const (
	Conflict    Why = "conflict"     // another version won
	Deleted     Why = "deleted"      // a remote user deleted it
	PreExisting Why = "pre-existing" // only this member had it at initial sync
	LeftOver    Why = "left-over"    // an interrupted install, or nobody knows
	Unclean     Why = "unclean"      // replaced a version found after an unclean start (rule 19)
	Replaced    Why = "replaced"     // a kept version was restored over it
)

// Reasons lists them all.
func Reasons() []Why { return []Why{Conflict, Deleted, PreExisting, LeftOver, Unclean, Replaced} }

// Because returns the reason behind an install's verdict.
func Because(k repl.Keep) Why {
	switch k {
	case repl.KeepConflict:
		return Conflict
	case repl.KeepDeleted:
		return Deleted
	case repl.KeepPreExisting:
		return PreExisting
	}
	return LeftOver
}

// area is where objects kept for that reason lie.
func (w Why) area() volume.Private {
	if w == PreExisting {
		return volume.PreExisting
	}
	return volume.Conflicts
}

// Entry is one kept object. Keep is given Why, At, Path and what is known of
// the versions; the rest is read off the object.
type Entry struct {
	Area volume.Private
	Name string // in Area, unique there

	Why  Why
	At   repl.Time // when it was kept
	Path string    // where it was, beneath the root
	// Record is the object's last known version: its UID, GVSN (whose
	// originator is the author) and Content are kept. Zero if unknown.
	Record repl.Update
	// Winner is the version that took its place.
	Winner version.GVSN

	Type  repl.Type
	Size  int64 // of a file
	Mtime repl.Time
	Meta  []byte // canonical metadata; nil if they could not be read
}

// Store is the conflict store of one folder.
type Store struct {
	v volume.Volume

	mu    sync.Mutex // guards what follows
	count uint64     // in names
	// coming holds the names whose object may not be there yet.
	coming map[string]bool
	usage  *Usage           // nil: to be measured
	trees  map[string]int64 // sizes of kept directories, by name
	// unsized are the kept directories that usage lacks the bytes of.
	unsized    map[string]volume.Private
	arrived    int     // objects kept since the last eviction
	unpromised bool    // something was kept since that is not promised
	left       nothing // what the last eviction could not remove

	work sync.Mutex // held by whoever removes
	tidy bool       // orphans are gone; guarded by work
}

// Open returns the conflict store of a volume. Nothing is read yet.
func Open(v volume.Volume) *Store {
	return &Store{v: v, coming: map[string]bool{}, trees: map[string]int64{}, unsized: map[string]volume.Private{}}
}

// Keep moves the object name out of from into the store and returns its name
// there. When it returns, the object is durably kept, except for what was
// deleted remotely: that is not synced, and a crash may leave it in from or
// without its manifest, but never nowhere. If it returns an error the object is
// still in from, unless the error came from syncing (then it is in the store).
func (s *Store) Keep(from volume.Dir, name string, e Entry) (kept string, err error) {
	return s.keep(from, name, e, e.Why != Deleted)
}

// KeepUnsynced is Keep for many objects: nothing is durable before the
// caller's Volume.Sync.
func (s *Store) KeepUnsynced(from volume.Dir, name string, e Entry) (kept string, err error) {
	return s.keep(from, name, e, false)
}

func (s *Store) keep(from volume.Dir, name string, e Entry, durable bool) (kept string, err error) {
	st, err := from.Lookup(name)
	if err != nil {
		return "", fmt.Errorf("keep %q: %w", e.Path, err)
	}
	e.Area, e.Type, e.Mtime = e.Why.area(), st.Type, st.Print.Mtime
	if st.Type == repl.File {
		e.Size = st.Print.Size
	}
	e.Meta, _ = from.Meta(name) // unreadable metadata must not keep the object from being kept
	area, err := s.v.Private(e.Area)
	if err != nil {
		return "", fmt.Errorf("keep %q: %w", e.Path, err)
	}
	defer func() { err = errors.Join(err, area.Close()) }()
	for {
		err = s.move(from, name, area, &e, durable)
		if err == nil {
			break
		}
		if !errors.Is(err, volume.ErrExist) {
			return "", fmt.Errorf("keep %q: %w", e.Path, err)
		}
	}
	if durable {
		if err := errors.Join(area.Sync(), from.Sync()); err != nil {
			return e.Name, fmt.Errorf("keep %q: it is kept as %s, but may not survive a power cut: %w", e.Path, e.Name, err)
		}
	}
	return e.Name, nil
}

// move gives the object a new name, writes its manifest and moves it beside
// that. ErrExist: the name is taken, try another.
func (s *Store) move(from volume.Dir, name string, area volume.Dir, e *Entry, durable bool) error {
	e.Name = s.newName(e.At, baseName(e.Path, name))
	s.mu.Lock()
	s.coming[e.Name] = true
	s.mu.Unlock()
	err := s.putManifest(area, e, durable)
	if err == nil {
		if err = from.Rename(name, area, e.Name); err != nil && !errors.Is(err, volume.ErrExist) {
			// The manifest alone is litter; if it does not go, Tidy takes it.
			err = errors.Join(err, ignore(area.Remove(e.Name+manifestSuffix), volume.ErrNotExist))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.coming, e.Name)
	if err == nil {
		s.account(e, 1)
	}
	return err
}

// baseName is what a kept object is called: as it was in the tree, if that is
// known.
func baseName(path, name string) string {
	if base := path[strings.LastIndexByte(path, '/')+1:]; base != "" && base != "." {
		return base
	}
	return name
}

// arriving reports whether an object of that name may not be there yet.
func (s *Store) arriving(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.coming[name]
}

// putManifest writes an entry's manifest. A full disk is no reason not to keep
// the object: moving it takes no room.
func (s *Store) putManifest(area volume.Dir, e *Entry, durable bool) error {
	b, err := encode(e)
	if err != nil {
		return err
	}
	err = s.write(area, e.Name+manifestSuffix, b, durable)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil
	}
	return err
}

func (s *Store) write(area volume.Dir, name string, b []byte, durable bool) (err error) {
	t, err := s.v.NewTemp(int64(len(b)), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if _, err := t.Write(b); err != nil {
		return err
	}
	if durable {
		if err := t.Sync(); err != nil {
			return err
		}
	}
	if err := area.Link(t, name); err != nil || !durable {
		return err
	}
	return area.Sync()
}

// maxKept is how much of an object's own name its name in the store repeats,
// in bytes.
const maxKept = 180

// longestMark is how many bytes stand before and after it.
const longestMark = 75

// newName makes a name that sorts by time and shows what the object was. It
// never ends like a manifest's.
func (s *Store) newName(at repl.Time, name string) string {
	s.mu.Lock()
	s.count++
	n := s.count
	s.mu.Unlock()
	name = name[:max(0, min(len(name), maxKept, s.v.NameMax()-longestMark))]
	if strings.HasSuffix(name, manifestSuffix) {
		name += "_"
	}
	return time.Unix(0, int64(at)).UTC().Format("20060102T150405.000000000Z") + "-" + strconv.FormatUint(n, 10) + "-" + name
}

// List calls fn for every kept object, in no order. fn may purge or restore
// the entry it is given.
func (s *Store) List(fn func(Entry) error) error {
	for _, p := range []volume.Private{volume.Conflicts, volume.PreExisting} {
		if err := s.listArea(p, fn); err != nil {
			return fmt.Errorf("list kept objects: %w", err)
		}
	}
	return nil
}

func (s *Store) listArea(p volume.Private, fn func(Entry) error) (err error) {
	area, err := s.v.Private(p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, area.Close()) }()
	var names []string
	err = area.List(func(e volume.Entry) error {
		if !strings.HasSuffix(e.Name, manifestSuffix) {
			names = append(names, e.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		e, err := read(area, p, name)
		if errors.Is(err, volume.ErrNotExist) {
			continue // gone since it was listed
		}
		if err == nil {
			err = fn(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Get returns the entry of that name; volume.ErrNotExist if there is none.
func (s *Store) Get(p volume.Private, name string) (e Entry, err error) {
	area, err := s.v.Private(p)
	if err != nil {
		return Entry{}, fmt.Errorf("look for kept object %q: %w", name, err)
	}
	defer func() { err = errors.Join(err, area.Close()) }()
	if strings.HasSuffix(name, manifestSuffix) {
		return Entry{}, fmt.Errorf("look for kept object %q: it is a manifest: %w", name, volume.ErrNotExist)
	}
	if e, err = read(area, p, name); err != nil {
		return Entry{}, fmt.Errorf("look for kept object %q: %w", name, err)
	}
	return e, nil
}

// read returns the entry of an object, a left-over if its manifest is missing
// or cannot be read.
func read(area volume.Dir, p volume.Private, name string) (Entry, error) {
	st, err := area.Lookup(name)
	if err != nil {
		return Entry{}, err
	}
	e, err := readManifest(area, name+manifestSuffix)
	if err != nil {
		e = Entry{Why: LeftOver, At: st.Print.Ctime, Path: name}
		if p == volume.PreExisting {
			e.Why = PreExisting
		}
	}
	e.Area, e.Name, e.Type = p, name, st.Type
	e.Mtime = st.Print.Mtime
	if st.Type == repl.File {
		e.Size = st.Print.Size
	}
	return e, nil
}

func readManifest(area volume.Dir, name string) (e Entry, err error) {
	f, err := area.OpenFile(name)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return e, err
	}
	return decode(b)
}

func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}
