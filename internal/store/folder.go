package store

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// Folder is the records of one replicated folder, as written last. Reading and
// writing may be done from several goroutines; Puts are serialised.
type Folder struct {
	view
	id repl.FolderID

	mu      sync.Mutex // serialises Put; guards the fields below
	dropped bool
	scratch put
	dirs    map[ref]struct{}      // directories known to have a record; bounded
	blobs   map[metaHash]struct{} // blobs known to have a row; bounded

	see    sync.RWMutex // guards the fields below; they change only under mu
	state  State
	vector version.Vector
	tops   map[version.Originator]uint64 // see "top" in the format
	counts Counts
	floor  version.Vector
	handed version.GVSN // the last one that Next gave out
}

// Counts is how much a folder holds. Provisional records are counted with the
// others and once more by themselves.
type Counts struct {
	Files       int64
	Directories int64 // the root is one
	Links       int64
	Bytes       int64 // of the files
	Tombstones  int64
	Merged      int64 // tombstones of directories that name an heir
	Provisional int64
	Carried     int64 // whose metadata this disk shows only in part
}

// add counts r in, or out if by is -1.
func (c *Counts) add(r *repl.Record, by int64) {
	switch {
	case !r.Present:
		c.Tombstones += by
		if !r.Heir.IsZero() {
			c.Merged += by
		}
	case r.Type == repl.File:
		c.Files += by
		c.Bytes += by * r.Size
	case r.Type == repl.Directory:
		c.Directories += by
	case r.Type == repl.Symlink:
		c.Links += by
	}
	if r.Provisional {
		c.Provisional += by
	}
	if len(r.Shown) > 0 {
		c.Carried += by
	}
}

func newFolder(s *Store, id repl.FolderID, number uint64) *Folder {
	return &Folder{
		view: view{s: s, kv: s.kv, keys: folderKeys(number), root: repl.RootUID(id),
			merged: new(atomic.Int64), folds: new(atomic.Bool), recent: new(recent), live: true},
		id:     id,
		dirs:   make(map[ref]struct{}),
		blobs:  make(map[metaHash]struct{}),
		vector: make(version.Vector),
		tops:   make(map[version.Originator]uint64),
		floor:  make(version.Vector),
	}
}

// load reads what a folder keeps in memory.
func (s *Store) load(id repl.FolderID, number uint64) (*Folder, error) {
	f := newFolder(s, id, number)
	value, ok, err := s.kv.Get(f.keys.table(nil, tableState))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, corrupt("no state")
	}
	if f.state, err = decodeState(value); err != nil {
		return nil, corrupt("%v", err)
	}
	if value, ok, err = s.kv.Get(f.keys.table(nil, tableCounts)); err != nil {
		return nil, err
	}
	if ok {
		if f.counts, err = decodeCounts(value); err != nil {
			return nil, corrupt("%v", err)
		}
	}
	f.merged.Store(f.counts.Merged)
	f.folds.Store(f.state.Folds)
	if value, ok, err = s.kv.Get(f.keys.table(nil, tableFloor)); err != nil {
		return nil, err
	}
	if ok {
		if f.floor, err = version.DecodeVector(value); err != nil {
			return nil, corrupt("floor: %v", err)
		}
	}
	return f, f.loadKnown()
}

func (f *Folder) loadKnown() error {
	prefix := f.keys.table(nil, tableKnown)
	c := f.kv.Scan(prefix, after(prefix))
	var bad error
	for bad == nil && c.Next() {
		number, rest, err := decodeOrdered(c.Key()[len(prefix):])
		if err == nil && len(rest) > 0 {
			err = errLong
		}
		var g version.GVSN
		if err == nil {
			g, err = f.s.names.Load().gvsn(ref{number, 0})
		}
		var k known
		if err == nil {
			k, err = decodeKnown(c.Value())
		}
		if err != nil {
			bad = corrupt("vector row %x: %v", c.Key(), err)
			break
		}
		f.tops[g.Originator] = k.top
		if len(k.intervals) > 0 {
			f.vector[g.Originator] = k.intervals
		}
	}
	if err := c.Close(); err != nil {
		return err
	}
	return bad
}

// Get implements Reader.
func (f *Folder) Get(uid repl.UID) (repl.Record, bool, error) {
	if f.isNew(uid) {
		return repl.Record{}, false, nil
	}
	return f.view.Get(uid)
}

// ID returns the folder's id.
func (f *Folder) ID() repl.FolderID { return f.id }

// State returns the folder's state as it was put last.
func (f *Folder) State() State {
	f.see.RLock()
	defer f.see.RUnlock()
	s := f.state
	s.Past = append([]version.Originator(nil), s.Past...)
	s.Compared = append([]Compared(nil), s.Compared...)
	return s
}

// Counts returns how much the folder holds.
func (f *Folder) Counts() Counts {
	f.see.RLock()
	defer f.see.RUnlock()
	return f.counts
}

// Vector returns a copy of what this member knows.
func (f *Folder) Vector() version.Vector {
	f.see.RLock()
	defer f.see.RUnlock()
	return f.vector.Clone()
}

// Knows reports whether this member's vector holds g.
func (f *Folder) Knows(g version.GVSN) bool {
	f.see.RLock()
	defer f.see.RUnlock()
	return f.vector.Contains(g)
}

// Floor returns a copy of the GC floor: versions whose tombstones are gone
// (rule 25).
func (f *Folder) Floor() version.Vector {
	f.see.RLock()
	defer f.see.RUnlock()
	return f.floor.Clone()
}

// Next hands out the next GVSN of this member's originator: above every
// version of it that was ever handed out, stored or known here. It is not
// stored by itself; one that was not put when the member stops is given again.
func (f *Folder) Next() version.GVSN {
	f.see.Lock()
	defer f.see.Unlock()
	o := f.state.Originator
	last := max(version.FirstVersion-1, f.vector.Max(o), f.tops[o])
	if f.handed.Originator == o {
		last = max(last, f.handed.Version)
	}
	f.handed = version.GVSN{Originator: o, Version: last + 1}
	return f.handed
}

// Root returns the root directory's record.
func (f *Folder) Root() (repl.Record, error) {
	r, ok, err := f.Get(f.root)
	if err == nil && !ok {
		err = corrupt("folder %v has no root record", f.id)
	}
	return r, err
}

// Intents returns every intent, in the order of UIDs in keys.
func (f *Folder) Intents() ([]Intent, error) {
	prefix := f.keys.table(nil, tableIntent)
	c := f.kv.Scan(prefix, after(prefix))
	var out []Intent
	var bad error
	for bad == nil && c.Next() {
		in, err := decodeIntent(c.Value(), f.s.names.Load())
		if err != nil {
			bad = corrupt("%v", err)
			break
		}
		out = append(out, in)
	}
	if err := c.Close(); err != nil {
		return nil, fmt.Errorf("read intents of folder %v: %w", f.id, err)
	}
	return out, bad
}

// Snapshot is one consistent view of a folder's durable state.
type Snapshot struct {
	view
	vector version.Vector
	counts Counts
	floor  version.Vector
}

// Snapshot returns a view of all that is durable now, and of nothing else. It
// must be closed, and soon: it keeps what is overwritten meanwhile on disk.
func (f *Folder) Snapshot() (*Snapshot, error) {
	f.s.durable.Lock()
	defer f.s.durable.Unlock()
	if f.s.unsynced.Load() {
		if err := f.s.kv.Apply(nil, true); err != nil {
			return nil, err
		}
		f.s.unsynced.Store(false)
	}
	kv, err := f.s.kv.Snapshot()
	if err != nil {
		return nil, err
	}
	f.see.RLock()
	defer f.see.RUnlock()
	s := &Snapshot{view: f.view, vector: f.vector.Clone(), counts: f.counts, floor: f.floor.Clone()}
	s.kv, s.live, s.recent = kv, false, nil
	s.merged = new(atomic.Int64)
	s.merged.Store(f.counts.Merged)
	s.folds = new(atomic.Bool)
	s.folds.Store(f.folds.Load())
	return s, nil
}

// Vector returns a copy of the vector of this view.
func (s *Snapshot) Vector() version.Vector { return s.vector.Clone() }

// Floor returns a copy of the GC floor of this view.
func (s *Snapshot) Floor() version.Vector { return s.floor.Clone() }

// Counts returns how much the folder held.
func (s *Snapshot) Counts() Counts { return s.counts }

// Close gives the view back.
func (s *Snapshot) Close() error { return s.kv.Close() }

// commit makes what was staged visible in memory.
func (f *Folder) commit(p *put) {
	f.recent.commit(p.items)
	if len(f.blobs)+len(p.blobs) > knownBlobs {
		clear(f.blobs)
	}
	for _, hash := range p.blobs {
		f.blobs[hash] = struct{}{}
	}
	f.see.Lock()
	defer f.see.Unlock()
	maps.Copy(f.tops, p.tops)
	maps.Copy(f.vector, p.vector)
	f.counts = p.counts
	f.merged.Store(p.counts.Merged)
	if p.state != nil {
		f.state = *p.state
		f.folds.Store(p.state.Folds)
	}
	if p.floor != nil {
		f.floor = p.floor
	}
}
