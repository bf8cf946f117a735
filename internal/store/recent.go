package store

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	"opendfs/internal/repl"
)

// recentMost bounds the records of one generation of recent: the directories
// that are worked in, and the files between a look or a verdict and what follows
// from it. Two dozen looks go on at once.
const recentMost = 16384

// recent holds records that were read or written lately. What it holds is what
// is stored: a Put changes it before it returns, and what was read from the
// database while a Put of it ended is not taken in.
//
// There are two generations. What is asked for moves to the young one; when that
// is full the old one is forgotten.
type recent struct {
	mu         sync.Mutex
	young, old map[ref]*repl.Record
	puts       uint64 // how many have ended
	// changed holds which of them was the last of a record, since settled: what was
	// read when fewer had ended is not taken in.
	changed map[ref]uint64
	settled uint64
}

// get returns a record, and what put is to be told if there is none.
func (c *recent) get(r ref) (rec *repl.Record, puts uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rec = c.young[r]; rec != nil {
		return rec, 0
	}
	if rec = c.old[r]; rec != nil {
		c.addLocked(r, rec)
	}
	return rec, c.puts
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
	if puts >= c.settled && puts >= c.changed[r] {
		c.addLocked(r, rec)
	}
}

func (c *recent) addLocked(r ref, rec *repl.Record) {
	if len(c.young) >= recentMost || c.young == nil {
		c.old, c.young = c.young, make(map[ref]*repl.Record)
	}
	c.young[r] = rec
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
	if len(c.changed)+len(items) > recentMost {
		clear(c.changed)
		c.settled = c.puts
	} else if c.changed == nil {
		c.changed = make(map[ref]uint64)
	}
	for i := range items {
		it := &items[i]
		if c.settled < c.puts {
			c.changed[it.uid] = c.puts
		}
		delete(c.old, it.uid)
		delete(c.young, it.uid)
		if it.now != nil && it.now.Type == repl.Directory {
			c.addLocked(it.uid, ownCopy(it.now))
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
	c.young, c.old, c.changed, c.settled = nil, nil, nil, c.puts
}

// ownCopy copies a record whose slices its owner may write to later. Metadata
// are never written to.
func ownCopy(rec *repl.Record) *repl.Record {
	out := *rec
	out.History = slices.Clip(slices.Clone(rec.History))
	return &out
}
