// Package staging keeps the signatures of contents that this member has or had
// (package rdc), so that neither side of a transfer reads a file again to find
// what of it the other has.
//
// A [Store] holds them by the hash of the content, each in a file of its own in
// `.dfsr/staging` of the folder (docs/formats/staging.md): beside the tree, on
// its disk, outside the database of records. They are a cache and nothing else:
// what is lost, damaged or of another format is made again from the file when it
// is wanted, nothing is synced, and no error of it reaches whoever replicates.
//
// It also keeps the beginnings of contents whose transfer was cut, so that they go
// on where they were: at most eight, the oldest given up first.
//
// The quota is soft. From 90 % of it on those that were used longest ago are
// removed, a few with each that is added, until 60 % are left; nobody waits for
// it. A signature that is larger than a quarter of the quota is not kept.
package staging

import (
	"container/list"
	"encoding/hex"
	"slices"
	"strings"
	"sync"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// The bounds of a store.
const (
	maxEntries = 1 << 17
	block      = 4096 // what a file takes is rounded up to this
	highPart   = 90   // percent of the quota at which removal begins
	lowPart    = 60   // and ends
	evictStep  = 16   // signatures removed for one that is added, at most
	prefix     = "sig-"
)

// Store is the signatures of one folder. Safe for concurrent use.
type Store struct {
	vol     volume.Volume
	quota   int64
	workers int

	mu       sync.Mutex
	loaded   bool
	entries  map[repl.Hash]*list.Element // of order, holding *entry
	order    *list.List                  // used last in front
	used     int64                       // bytes; the sum of the entries' sizes
	evicting bool                        // between the two watermarks, on the way down
	evicted  uint64
	parts    []part // oldest first
}

// entry is one signature on disk.
type entry struct {
	content repl.Hash
	size    int64
}

// Open returns the signatures kept in v's private area, of at most about quota
// bytes. workers is how many goroutines may sign one content; 0: the caller's
// own. Nothing is read before it is needed.
func Open(v volume.Volume, quota int64, workers int) *Store {
	return &Store{vol: v, quota: quota, workers: workers, entries: make(map[repl.Hash]*list.Element), order: list.New()}
}

// Usage is how full a store is.
type Usage struct {
	Used, Quota int64  // bytes
	Entries     int    // signatures
	Evicted     uint64 // since it was opened
}

// Usage says how full the store is.
func (s *Store) Usage() Usage {
	s.load()
	s.mu.Lock()
	defer s.mu.Unlock()
	return Usage{s.used, s.quota, len(s.entries), s.evicted}
}

// load lists what an earlier run has left, once. What cannot be listed is not
// there.
func (s *Store) load() {
	s.mu.Lock()
	done := s.loaded
	s.loaded = true
	s.mu.Unlock()
	if done {
		return
	}
	d, err := s.vol.Private(volume.Staging)
	if err != nil {
		return
	}
	defer func() { _ = d.Close() }() // it was only read
	type found struct {
		entry
		at repl.Time
	}
	var all []found
	var begun []part
	_ = d.List(func(e volume.Entry) error { // what it tells until it fails is true
		if h, ok := parsePart(e.Name); ok {
			if st, err := d.Lookup(e.Name); err == nil && st.Type == repl.File {
				begun = append(begun, part{h, st.Print.Size})
			}
		} else if h, ok := parseName(e.Name); ok {
			if st, err := d.Lookup(e.Name); err == nil && st.Type == repl.File {
				all = append(all, found{entry{h, st.Print.Size}, st.Print.Mtime})
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b found) int { return int(a.at - b.at) })
	for _, f := range all {
		s.add(f.content, f.size)
	}
	for _, p := range begun {
		s.addPart(p)
	}
}

func nameOf(h repl.Hash) string { return prefix + hex.EncodeToString(h[:]) }

func parseName(name string) (h repl.Hash, ok bool) {
	text, ok := strings.CutPrefix(name, prefix)
	b, err := hex.DecodeString(text)
	if !ok || err != nil || len(b) != len(h) || nameOf(repl.Hash(b)) != name {
		return repl.Hash{}, false
	}
	return repl.Hash(b), true
}

// add enters a signature that is on disk and returns those to remove from it.
func (s *Store) add(h repl.Hash, size int64) (victims []repl.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size = (size + block - 1) / block * block
	if e, ok := s.entries[h]; ok {
		s.order.MoveToFront(e)
		return nil
	}
	s.entries[h] = s.order.PushFront(&entry{h, size})
	s.used += size
	if s.used > s.quota/100*highPart || len(s.entries) > maxEntries {
		s.evicting = true
	}
	for s.evicting && len(victims) < evictStep && s.order.Len() > 1 {
		last := s.order.Back().Value.(*entry)
		s.dropLocked(last.content)
		victims = append(victims, last.content)
		s.evicted++
		s.evicting = s.used > s.quota/100*lowPart || len(s.entries) > maxEntries/100*lowPart
	}
	return victims
}

func (s *Store) dropLocked(h repl.Hash) {
	if e, ok := s.entries[h]; ok {
		s.used -= e.Value.(*entry).size
		s.order.Remove(e)
		delete(s.entries, h)
	}
}

// touch notes that a signature is used and reports whether it is there.
func (s *Store) touch(h repl.Hash) bool {
	s.load()
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[h]
	if ok {
		s.order.MoveToFront(e)
	}
	return ok
}

// forget removes signatures, of which none may be missed.
func (s *Store) forget(hashes ...repl.Hash) {
	if len(hashes) == 0 {
		return
	}
	s.mu.Lock()
	for _, h := range hashes {
		s.dropLocked(h)
	}
	s.mu.Unlock()
	d, err := s.vol.Private(volume.Staging)
	if err != nil {
		return
	}
	for _, h := range hashes {
		_ = d.Remove(nameOf(h)) // gone already, or found again by the next run
	}
	_ = d.Close()
}
