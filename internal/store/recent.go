package store

import (
	"slices"
	"sync"

	"opendfs/internal/repl"
)

// recentMost bounds the records of one generation of recent: the directories
// that are worked in, and the files between a look and what follows from it.
const recentMost = 4096

// recent holds records that were read or written lately. What it holds is what
// is stored: a Put changes it before it returns, and what was read from the
// database while a Put ended is not taken in.
//
// There are two generations. What is asked for moves to the young one; when that
// is full the old one is forgotten.
type recent struct {
	mu         sync.Mutex
	young, old map[ref]*repl.Record
	puts       uint64 // how many have ended
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
	if puts == c.puts {
		c.addLocked(r, rec)
	}
}

func (c *recent) addLocked(r ref, rec *repl.Record) {
	if len(c.young) >= recentMost || c.young == nil {
		c.old, c.young = c.young, make(map[ref]*repl.Record)
	}
	c.young[r] = rec
}

// commit makes it follow a Put. New files are not taken in: nobody asks for them
// soon, and there may be millions.
func (c *recent) commit(items []item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts++
	for i := range items {
		it := &items[i]
		_, young := c.young[it.uid]
		_, old := c.old[it.uid]
		delete(c.old, it.uid)
		switch {
		case it.now == nil:
			delete(c.young, it.uid)
		case young || old || it.now.Type == repl.Directory:
			c.addLocked(it.uid, ownCopy(it.now))
		}
	}
}

// forget empties it.
func (c *recent) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts++
	c.young, c.old = nil, nil
}

// ownCopy copies a record whose slices its owner may write to later. Metadata
// are never written to.
func ownCopy(rec *repl.Record) *repl.Record {
	out := *rec
	out.History = slices.Clip(slices.Clone(rec.History))
	return &out
}
