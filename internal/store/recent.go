package store

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	"opendfs/internal/repl"
)

// How many records recent holds: two of each set. That does for the directories that
// are worked in, and the files between a look or a verdict and what follows from it.
// Two dozen looks go on at once.
const (
	recentMost  = 16384 // sets, a power of two
	recentSets  = 128   // of a page, which is made when it is needed
	recentPages = recentMost / recentSets
)

// recent holds records that were read or written lately. What it holds is what
// is stored: a Put changes it before it returns, and what was read from the
// database while a Put of it ended is not taken in.
//
// Records whose UIDs follow each other lie in sets that do: mostly they were made
// together, and are asked for together.
type recent struct {
	mu    sync.Mutex
	pages [recentPages]*recentPage
	puts  uint64 // how many have ended
	// changed is, of each page that is not there, which of them was the last of a
	// record in it.
	changed [recentPages]uint64
}

type recentPage [recentSets]recentSet

// recentSet holds two records, the one that was taken in last first. What was read
// when fewer Puts had ended than changed, the last of a record that belongs here, is
// not taken in.
type recentSet struct {
	ways    [2]recentRecord
	changed uint64
}

type recentRecord struct {
	ref ref
	rec *repl.Record // nil: none
}

// at returns where the set of a record lies.
func (r ref) at() (page, set uint64) {
	const spread = 0x9e3779b1 // records of two originators do not meet more often than others
	i := (r.version + r.originator*spread) % recentMost
	return i / recentSets, i % recentSets
}

// get returns a record, and what put is to be told if there is none.
func (c *recent) get(r ref) (rec *repl.Record, puts uint64) {
	page, set := r.at()
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pages[page]; p != nil {
		for i := range p[set].ways {
			if w := &p[set].ways[i]; w.rec != nil && w.ref == r {
				return w.rec, 0
			}
		}
	}
	return nil, c.puts
}

// ended returns how many Puts have ended.
func (c *recent) ended() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.puts
}

// put takes in what was read when puts had ended.
func (c *recent) put(r ref, rec *repl.Record, puts uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.setLocked(r); puts >= s.changed {
		s.add(r, rec)
	}
}

// setLocked returns the set of a record, with the page that it is in.
func (c *recent) setLocked(r ref) *recentSet {
	page, set := r.at()
	p := c.pages[page]
	if p == nil {
		p = new(recentPage)
		for i := range p {
			p[i].changed = c.changed[page]
		}
		c.pages[page] = p
	}
	return &p[set]
}

func (s *recentSet) add(r ref, rec *repl.Record) {
	s.drop(r)
	if s.ways[0].rec != nil {
		s.ways[1] = s.ways[0]
	}
	s.ways[0] = recentRecord{r, rec}
}

func (s *recentSet) drop(r ref) {
	for i := range s.ways {
		if s.ways[i].ref == r {
			s.ways[i] = recentRecord{}
		}
	}
}

// commit makes it follow a Put. Of what was written it keeps the directories:
// nobody asks for the files soon, and there may be millions.
func (c *recent) commit(items []item) {
	if len(items) == 0 { // of intents, or of what is known of others
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts++
	for i := range items {
		it := &items[i]
		directory := it.now != nil && it.now.Type == repl.Directory
		if page, _ := it.uid.at(); c.pages[page] == nil && !directory {
			c.changed[page] = c.puts
			continue
		}
		s := c.setLocked(it.uid)
		s.changed = c.puts
		if s.drop(it.uid); directory {
			s.add(it.uid, ownCopy(it.now))
		}
	}
}

// Recall reads records together that Get will soon be asked for one by one: a
// seek to what lies near costs a part of a look-up.
func (f *Folder) Recall(uids []repl.UID) (err error) {
	var refs []ref
	for _, uid := range uids {
		r, known := f.ref(uid)
		if !known || f.isNew(uid) {
			continue
		}
		if rec, _ := f.recent.get(r); rec == nil {
			refs = append(refs, r)
		}
	}
	if len(refs) < namedFew {
		return nil
	}
	slices.SortFunc(refs, func(a, b ref) int {
		return cmp.Or(cmp.Compare(a.originator, b.originator), cmp.Compare(a.version, b.version))
	})
	all := f.keys.table(nil, tableRecord)
	list := childList{view: &f.view, since: f.recent.ended()}
	list.records = f.kv.Scan(all, after(all))
	defer func() { err = errors.Join(err, list.close()) }()
	var key []byte
	for _, r := range refs {
		key = f.keys.ref(key[:0], tableRecord, r)
		rec, ok, err := list.record(key, r)
		if err != nil {
			return err
		}
		if ok {
			f.recent.put(r, &rec, list.since)
		}
	}
	return nil
}

// Stands reports whether the record of an object is still this one: its version,
// and what it says of the disk.
func (f *Folder) Stands(prior *repl.Record) (bool, error) {
	r, known := f.ref(prior.UID)
	if !known {
		return false, nil
	}
	now, _ := f.recent.get(r)
	if now == nil {
		rec, ok, err := f.Get(prior.UID)
		if err != nil || !ok {
			return false, err
		}
		now = &rec
	}
	return now.GVSN == prior.GVSN && now.Identity == prior.Identity && now.Print == prior.Print, nil
}

// isNew reports whether a UID lies above every one of its originator: it has no
// record, and none need be looked for.
func (f *Folder) isNew(uid repl.UID) bool {
	f.see.RLock()
	defer f.see.RUnlock()
	return uid.Version > f.tops[uid.Originator]
}

// forget empties it.
func (c *recent) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts++
	for i := range c.pages {
		c.pages[i], c.changed[i] = nil, c.puts
	}
}

// ownCopy copies a record whose slices its owner may write to later. Metadata
// are never written to.
func ownCopy(rec *repl.Record) *repl.Record {
	out := *rec
	out.History = slices.Clip(slices.Clone(rec.History))
	return &out
}
