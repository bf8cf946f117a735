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
// The quota is soft, and sizes itself: where signatures are missed that had been
// removed it grows, up to 16 times, while the disk has eight times as much free; else
// [Usage] says that it is small. From 90 % of it on those that were used longest ago are
// removed, a few with each that is added, until 60 % are left; nobody waits for
// it. A signature that is larger than a quarter of the quota is not kept.
package staging

import (
	"bytes"
	"cmp"
	"container/list"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"opendfs/internal/rdc"
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
	quota   atomic.Int64
	workers int

	mu       sync.Mutex
	loaded   bool
	entries  map[repl.Hash]*list.Element // of order, holding *entry
	order    *list.List                  // used last in front
	used     int64                       // bytes; the sum of the entries' sizes
	evicting bool                        // between the two watermarks, on the way down
	evicted  uint64
	size     sizing
	parts    []part // oldest first
}

// entry is one signature on disk.
type entry struct {
	content repl.Hash
	traits  rdc.Traits // zero: not made
	size    int64
}

// Open returns the signatures kept in v's private area, of at most about quota
// bytes. workers is how many goroutines may sign one content; 0: the caller's
// own. Nothing is read before it is needed.
func Open(v volume.Volume, quota int64, workers int) *Store {
	s := &Store{vol: v, size: sizing{limit: quota}, workers: workers, entries: make(map[repl.Hash]*list.Element), order: list.New()}
	s.quota.Store(quota)
	return s
}

// SetQuota gives the store another quota, in bytes. Whether that is enough is found
// out anew; what is too much goes as signatures are added.
func (s *Store) SetQuota(quota int64) {
	if s.quota.Swap(quota) == quota {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = sizing{limit: quota}
}

// Usage is how full a store is.
type Usage struct {
	Used, Quota int64  // bytes
	Entries     int    // signatures
	Evicted     uint64 // since it was opened
	Limit       int64  // bytes; the quota, or more where the folder needs more and the disk has it
	Small       bool   // signatures are missed that were removed for want of room
}

// Usage says how full the store is.
func (s *Store) Usage() Usage {
	s.load()
	s.mu.Lock()
	defer s.mu.Unlock()
	return Usage{s.used, s.quota.Load(), len(s.entries), s.evicted, s.size.limit, s.size.small}
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
		} else if h, traits, ok := parseName(e.Name); ok {
			if st, err := d.Lookup(e.Name); err == nil && st.Type == repl.File {
				all = append(all, found{entry{h, traits, st.Print.Size}, st.Print.Mtime})
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b found) int { return int(a.at - b.at) })
	for _, f := range all {
		s.add(f.entry)
	}
	for _, p := range begun {
		s.addPart(p)
	}
}

// name is the name of the file that a signature is kept in.
func (e *entry) name() string {
	name := prefix + hex.EncodeToString(e.content[:])
	if e.traits != (rdc.Traits{}) {
		name += "-" + hex.EncodeToString(e.traits[:])
	}
	return name
}

func parseName(name string) (h repl.Hash, traits rdc.Traits, ok bool) {
	text, ok := strings.CutPrefix(name, prefix)
	content, like, found := strings.Cut(text, "-")
	b, err := hex.DecodeString(content)
	t, err2 := hex.DecodeString(like)
	if !ok || err != nil || err2 != nil || len(b) != len(h) || found && len(t) != len(traits) {
		return repl.Hash{}, rdc.Traits{}, false
	}
	e := entry{content: repl.Hash(b)}
	copy(e.traits[:], t)
	return e.content, e.traits, e.name() == name
}

// Similar finds the contents with kept signatures whose traits are most like
// those given, at most n, the likest first; what is not like them at all is not
// among them.
func (s *Store) Similar(traits rdc.Traits, n int) []repl.Hash {
	s.load()
	type like struct {
		content repl.Hash
		alike   int // traits that both have
	}
	var found []like
	s.mu.Lock()
	for h, e := range s.entries {
		if k := rdc.Similar(traits, e.Value.(*entry).traits); k >= rdc.MinSimilar {
			found = append(found, like{h, k})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(found, func(a, b like) int {
		return cmp.Or(b.alike-a.alike, bytes.Compare(a.content[:], b.content[:]))
	})
	var out []repl.Hash
	for _, f := range found[:min(len(found), n)] {
		out = append(out, f.content)
	}
	return out
}

// Traits are those of a content whose signature is kept.
func (s *Store) Traits(h repl.Hash) rdc.Traits {
	e, _ := s.touch(h)
	return e.traits
}

// add enters a signature that is on disk and returns those to remove from it.
func (s *Store) add(added entry) (victims []entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	added.size = (added.size + block - 1) / block * block
	if e, ok := s.entries[added.content]; ok {
		s.order.MoveToFront(e)
		kept := e.Value.(*entry)
		switch {
		case kept.name() == added.name():
			return nil
		case kept.traits == rdc.Traits{}: // without pieces: the new one says more
			old := *kept
			s.used += added.size - old.size
			*kept = added
			return []entry{old}
		}
		return []entry{added}
	}
	s.entries[added.content] = s.order.PushFront(&added)
	s.used += added.size
	if s.used > s.size.limit/100*highPart || len(s.entries) > maxEntries {
		s.evicting = true
	}
	for s.evicting && len(victims) < evictStep && s.order.Len() > 1 {
		last := s.order.Back().Value.(*entry)
		s.dropLocked(last.content)
		victims = append(victims, *last)
		s.size.removed(last.content)
		s.evicted++
		s.evicting = s.used > s.size.limit/100*lowPart || len(s.entries) > maxEntries/100*lowPart
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
func (s *Store) touch(h repl.Hash) (entry, bool) {
	s.load()
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[h]
	s.size.asked(h, ok, s.free)
	if !ok {
		return entry{}, false
	}
	s.order.MoveToFront(e)
	return *e.Value.(*entry), true
}

// Has reports whether the signature of a content is kept.
func (s *Store) Has(h repl.Hash) bool {
	_, ok := s.touch(h)
	return ok
}

// forget removes signatures, of which none may be missed.
func (s *Store) forget(lost ...entry) {
	if len(lost) == 0 {
		return
	}
	s.mu.Lock()
	for i := range lost {
		if e, ok := s.entries[lost[i].content]; ok && e.Value.(*entry).name() == lost[i].name() {
			s.dropLocked(lost[i].content)
		}
	}
	s.mu.Unlock()
	d, err := s.vol.Private(volume.Staging)
	if err != nil {
		return
	}
	for i := range lost {
		_ = d.Remove(lost[i].name()) // gone already, or found again by the next run
	}
	_ = d.Close()
}
