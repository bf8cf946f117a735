package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// formatVersion is what this product writes; docs/formats/records.md.
const formatVersion = 1

var gateMagic = []byte("opendfs")

// Store is the database of one member. Its methods may be called from several
// goroutines.
type Store struct {
	kv     KV
	random io.Reader
	metas  metaCache

	// durable is held for reading while a batch is applied and by Snapshot for
	// writing: a batch can be seen before it is durable.
	durable  sync.RWMutex
	unsynced atomic.Bool // a NoSync batch was applied since the last Snapshot

	nameMu sync.Mutex // serialises new numbers
	names  atomic.Pointer[names]

	mu      sync.Mutex
	folders map[repl.FolderID]*Folder // opened ones
	numbers map[repl.FolderID]uint64  // all
	next    uint64                    // the next folder's number
}

// Open opens the records in kv and closes kv with itself. random gives new
// identifiers. Errors are ErrNewer, ErrCorrupt (a foreign database too), or
// kv's own; kv then stays open.
func Open(kv KV, random io.Reader) (*Store, error) {
	s := &Store{
		kv: kv, random: random,
		folders: make(map[repl.FolderID]*Folder),
		numbers: make(map[repl.FolderID]uint64),
		next:    1,
	}
	if err := s.passGate(); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	n, err := loadNames(kv)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	s.names.Store(n)
	if err := s.loadFolders(); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	return s, nil
}

func gateKey() []byte { return append([]byte{keyGate}, "format"...) }

// passGate reads the format version, and writes it into an empty database.
func (s *Store) passGate() error {
	value, ok, err := s.kv.Get(gateKey())
	if err != nil {
		return err
	}
	if !ok {
		c := s.kv.Scan(nil, nil)
		foreign := c.Next()
		if err := c.Close(); err != nil {
			return err
		}
		if foreign {
			return corrupt("it holds rows, but not ours")
		}
		var ops Ops
		ops.Set(gateKey(), binary.AppendUvarint(bytes.Clone(gateMagic), formatVersion))
		return s.kv.Apply(&ops, true)
	}
	rest, ours := bytes.CutPrefix(value, gateMagic)
	found, n := binary.Uvarint(rest)
	switch {
	case !ours || n != len(rest) || found == 0:
		return corrupt("format row %q", value)
	case found > formatVersion:
		return fmt.Errorf("%w (format %d, known %d)", ErrNewer, found, formatVersion)
	}
	return nil
}

func (s *Store) loadFolders() error {
	c := s.kv.Scan([]byte{keyFolder}, []byte{keyFolder + 1})
	var bad error
	for bad == nil && c.Next() {
		number, rest, err := decodeOrdered(c.Value())
		if err != nil || len(rest) > 0 || len(c.Key()) != 17 || number == 0 {
			bad = corrupt("folder row %x", c.Key())
			break
		}
		s.numbers[repl.FolderID(c.Key()[1:])] = number
		s.next = max(s.next, number+1)
	}
	if err := c.Close(); err != nil {
		return err
	}
	return bad
}

// Folders returns the folders that have records, in the order of their ids.
func (s *Store) Folders() []repl.FolderID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := slices.Collect(maps.Keys(s.numbers))
	slices.SortFunc(ids, func(a, b repl.FolderID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// Folder opens a folder's records. One that is not there is created, in
// PhaseNew, with a new random originator, epoch 1 and its root's record. Every
// call returns the same Folder.
func (s *Store) Folder(id repl.FolderID) (*Folder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.folders[id]; f != nil {
		return f, nil
	}
	number, ok := s.numbers[id]
	if !ok {
		number = s.next
		if err := s.create(id, number); err != nil {
			return nil, fmt.Errorf("create records of folder %v: %w", id, err)
		}
		s.numbers[id] = number
		s.next++
	}
	f, err := s.load(id, number)
	if err != nil {
		return nil, fmt.Errorf("open records of folder %v: %w", id, err)
	}
	s.folders[id] = f
	return f, nil
}

// rootRecord is the same on every member; any update of the root exceeds it.
func rootRecord(id repl.FolderID) repl.Record {
	root := repl.RootUID(id)
	return repl.Record{Update: repl.Update{
		UID: root, GVSN: version.GVSN(root), Type: repl.Directory, Present: true, Fence: repl.Unfenced,
	}}
}

// create writes a new folder's first rows, in one batch.
func (s *Store) create(id repl.FolderID, number uint64) error {
	guid, err := s.NewGUID()
	if err != nil {
		return err
	}
	f := newFolder(s, id, number)
	var ops Ops
	ops.Set(append([]byte{keyFolder}, id[:]...), appendOrdered(nil, number))
	state := State{Originator: version.Originator(guid), Database: version.Originator(guid), Epoch: 1}
	ops.Set(f.keys.table(nil, tableState), appendState(nil, &state))
	p := f.begin()
	p.ops = ops
	if err := p.stage(&Batch{Writes: []Write{{Record: rootRecord(id)}}}); err != nil {
		return err
	}
	return s.apply(&p.ops, true)
}

// apply writes a batch, with what is in memory of it changed by done before a
// snapshot can be made.
func (s *Store) apply(ops *Ops, sync bool, done ...func()) error {
	s.durable.RLock()
	defer s.durable.RUnlock()
	if !sync {
		s.unsynced.Store(true)
	}
	if err := s.kv.Apply(ops, sync); err != nil {
		return err
	}
	for _, d := range done {
		d()
	}
	return nil
}

// DropFolder deletes every row of a folder. Its Folder must not be used any
// more; a Put on it is refused.
func (s *Store) DropFolder(id repl.FolderID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	number, ok := s.numbers[id]
	if !ok {
		return nil
	}
	if f := s.folders[id]; f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.dropped = true
		defer f.recent.forget()
	}
	var ops Ops
	prefix := folderKeys(number).prefix
	ops.DeleteRange(prefix, after(prefix))
	ops.Delete(append([]byte{keyFolder}, id[:]...))
	if err := s.apply(&ops, true); err != nil {
		return fmt.Errorf("drop records of folder %v: %w", id, err)
	}
	delete(s.folders, id)
	delete(s.numbers, id)
	return nil
}

// NewGUID returns a new random GUID: a new originator, an epoch's nonce.
func (s *Store) NewGUID() (repl.GUID, error) {
	var g repl.GUID
	if _, err := io.ReadFull(s.random, g[:]); err != nil {
		return g, fmt.Errorf("make a GUID: %w", err)
	}
	g[6] = g[6]&0x0f | 0x40 // RFC 9562: version 4,
	g[8] = g[8]&0x3f | 0x80 // variant 10
	return g, nil
}

// Sync makes every batch that was put with NoSync durable.
func (s *Store) Sync() error { return s.apply(nil, true) }

// Checkpoint writes a copy of the database to dir, which must not exist: what
// `dfs state backup` keeps. The copy opens as a database of its own.
func (s *Store) Checkpoint(dir string) error {
	return s.kv.Checkpoint(dir)
}

// Stats returns what the database costs at the moment.
func (s *Store) Stats() Stats { return s.kv.Stats() }

// Close makes everything durable and closes the database. Snapshots and
// cursors must have been closed.
func (s *Store) Close() error {
	var err error
	if s.unsynced.Load() {
		err = s.kv.Apply(nil, true)
	}
	return errors.Join(err, s.kv.Close())
}
