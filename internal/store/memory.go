package store

import (
	"bytes"
	"errors"
	"sync"

	"github.com/google/btree"
)

// Memory is a KV in memory, for the simulator: deterministic, and able to lose
// what was not synced. Its methods may be called from several goroutines.
type Memory struct {
	mu   sync.RWMutex
	tree *btree.BTreeG[row]
	// undo holds what unsynced batches replaced, oldest first.
	undo  []undo
	bytes uint64
}

type row struct{ key, value []byte }

// undo puts one row back: as it was, or away if it was not there.
type undo struct {
	row
	there bool
}

func rowLess(a, b row) bool { return bytes.Compare(a.key, b.key) < 0 }

// NewMemory returns an empty database.
func NewMemory() *Memory {
	return &Memory{tree: btree.NewG(32, rowLess)}
}

// Crash loses every batch that is not durable. Views and stores opened before
// must not be used any more.
func (m *Memory) Crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.undo) - 1; i >= 0; i-- {
		if u := m.undo[i]; u.there {
			m.put(u.row)
		} else {
			m.remove(u.key)
		}
	}
	m.undo = nil
}

// Image returns a copy of the database as a power cut would leave it, or with
// unsynced batches too: a backup of the state directory. The copy is durable.
func (m *Memory) Image(unsynced bool) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Memory{tree: m.tree.Clone(), bytes: m.bytes}
	if !unsynced {
		c.undo = append([]undo(nil), m.undo...)
		c.Crash()
	}
	return c
}

// Get implements View.
func (m *Memory) Get(key []byte) ([]byte, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r, ok := m.tree.Get(row{key: key})
	return r.value, ok, nil
}

// Scan implements View.
func (m *Memory) Scan(low, high []byte) Cursor {
	return &memoryCursor{mu: &m.mu, tree: m.tree, low: low, high: high}
}

// Snapshot implements KV.
func (m *Memory) Snapshot() (View, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memoryView{tree: m.tree.Clone()}, nil
}

// Close implements View. The rows stay: the simulator opens them again.
func (m *Memory) Close() error { return nil }

// Checkpoint implements KV; there is nothing on disk to copy.
func (m *Memory) Checkpoint(string) error {
	return errors.New("checkpoint state: it is in memory only")
}

// Stats implements KV.
func (m *Memory) Stats() Stats {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return Stats{Memory: m.bytes}
}

// Apply implements KV.
func (m *Memory) Apply(ops *Ops, sync bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ops != nil && len(ops.ops) > 0 {
		buf := bytes.Clone(ops.buf)
		for _, o := range ops.ops {
			key, value := o.split(buf)
			m.write(o.kind, key, value, !sync)
		}
	}
	if sync {
		m.undo = m.undo[:0]
	}
	return nil
}

func (m *Memory) write(kind opKind, key, value []byte, remember bool) {
	switch kind {
	case opSet:
		old, there := m.put(row{key, value})
		if remember {
			m.remember(key, old, there)
		}
	case opDelete:
		old, there := m.remove(key)
		if remember && there {
			m.remember(key, old, there)
		}
	case opDeleteRange:
		var keys [][]byte
		m.tree.AscendRange(row{key: key}, row{key: value}, func(r row) bool {
			keys = append(keys, r.key)
			return true
		})
		for _, k := range keys {
			m.write(opDelete, k, nil, remember)
		}
	}
}

func (m *Memory) remember(key []byte, old row, there bool) {
	if !there {
		old.key = key
	}
	m.undo = append(m.undo, undo{old, there})
}

func (m *Memory) put(r row) (old row, there bool) {
	old, there = m.tree.ReplaceOrInsert(r)
	m.bytes += uint64(len(r.key) + len(r.value))
	if there {
		m.bytes -= uint64(len(old.key) + len(old.value))
	}
	return old, there
}

func (m *Memory) remove(key []byte) (old row, there bool) {
	old, there = m.tree.Delete(row{key: key})
	if there {
		m.bytes -= uint64(len(old.key) + len(old.value))
	}
	return old, there
}

// memoryView is a snapshot: a clone of the tree that nobody writes.
type memoryView struct{ tree *btree.BTreeG[row] }

func (v *memoryView) Get(key []byte) ([]byte, bool, error) {
	r, ok := v.tree.Get(row{key: key})
	return r.value, ok, nil
}

func (v *memoryView) Scan(low, high []byte) Cursor {
	return &memoryCursor{tree: v.tree, low: low, high: high}
}

func (v *memoryView) Close() error { return nil }

// memoryCursor reads a tree a page at a time, so that the tree may be written
// between two moves. The page grows: most scans read a row or two.
type memoryCursor struct {
	mu        *sync.RWMutex // nil for a snapshot
	tree      *btree.BTreeG[row]
	low, high []byte
	page      []row
	at        int // page[at] is the current row
	size      int
	begun     bool
}

const (
	firstPage = 4
	lastPage  = 256
)

func (c *memoryCursor) Next() bool {
	if !c.begun {
		c.fill(c.low, false)
		return len(c.page) > 0
	}
	if c.at+1 < len(c.page) {
		c.at++
		return true
	}
	if len(c.page) < c.size {
		c.page = nil
		return false
	}
	c.fill(c.page[c.at].key, true)
	return len(c.page) > 0
}

func (c *memoryCursor) Seek(key []byte) bool {
	if bytes.Compare(key, c.low) < 0 {
		key = c.low
	}
	c.size = 0
	c.fill(key, false)
	return len(c.page) > 0
}

// fill reads the next page from key on, without key itself if after is set.
func (c *memoryCursor) fill(key []byte, after bool) {
	c.begun = true
	c.size = min(max(firstPage, 2*c.size), lastPage)
	c.page, c.at = c.page[:0], 0
	if c.mu != nil {
		c.mu.RLock()
		defer c.mu.RUnlock()
	}
	c.tree.AscendGreaterOrEqual(row{key: key}, func(r row) bool {
		if c.high != nil && bytes.Compare(r.key, c.high) >= 0 {
			return false
		}
		if !after || !bytes.Equal(r.key, key) {
			c.page = append(c.page, r)
		}
		return len(c.page) < c.size
	})
}

func (c *memoryCursor) Key() []byte   { return c.page[c.at].key }
func (c *memoryCursor) Value() []byte { return c.page[c.at].value }
func (c *memoryCursor) Close() error  { return nil }
