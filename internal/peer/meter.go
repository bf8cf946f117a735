package peer

import (
	"sync"
	"sync/atomic"

	"opendfs/internal/repl"
)

// Meter counts the bytes that TCP carried for each partner, TLS included,
// handshakes of known members too. Safe for concurrent use.
type Meter struct {
	mu       sync.Mutex
	partners map[repl.MemberID]*Counter
}

// NewMeter returns a Meter that has counted nothing.
func NewMeter() *Meter { return &Meter{partners: make(map[repl.MemberID]*Counter)} }

// Counter counts for one partner.
type Counter struct {
	in, out atomic.Uint64
	packing sync.Map // of *atomic.Uint64 by repl.FolderID
}

// Packing returns how many bytes of a folder's contents did not have to come from
// the partner because it packed them.
func (c *Counter) Packing(folder repl.FolderID) uint64 {
	if n, ok := c.packing.Load(folder); ok {
		return n.(*atomic.Uint64).Load()
	}
	return 0
}

func (c *Counter) unpacked(folder repl.FolderID, saved int) {
	n, _ := c.packing.LoadOrStore(folder, new(atomic.Uint64))
	n.(*atomic.Uint64).Add(uint64(saved))
}

// In returns the bytes that came from the partner.
func (c *Counter) In() uint64 { return c.in.Load() }

// Out returns the bytes that went to the partner.
func (c *Counter) Out() uint64 { return c.out.Load() }

// Partner returns the counter of a partner, for good.
func (m *Meter) Partner(id repl.MemberID) *Counter {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.partners[id]
	if c == nil {
		c = new(Counter)
		m.partners[id] = c
	}
	return c
}

// All returns the counters of all partners that were met.
func (m *Meter) All() map[repl.MemberID]*Counter {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[repl.MemberID]*Counter, len(m.partners))
	for id, c := range m.partners {
		out[id] = c
	}
	return out
}
