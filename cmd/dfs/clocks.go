package main

import (
	"sync"
	"sync/atomic"
	"time"

	"opendfs/internal/engine"
	"opendfs/internal/repl"
)

// clocks compares this server's clock with those of its partners, as they told
// them when they met.
type clocks struct {
	limit atomic.Int64 // by how many nanoseconds it may differ

	mu   sync.Mutex
	seen map[repl.MemberID]reading // guarded by mu
}

// reading is how far a partner's clock was ahead of ours when they met.
type reading struct {
	skew time.Duration
	met  time.Time // with the reading of the clock that nobody sets
}

// note takes down what a partner has told.
func (c *clocks) note(m repl.MemberID, skew time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = make(map[repl.MemberID]reading)
	}
	c.seen[m] = reading{skew, time.Now()}
}

// mint is the clock of what is minted now. A clock that was set since a partner
// was met is followed: how much time went by is known without it.
func (c *clocks) mint() repl.Time {
	t := time.Now()
	c.mu.Lock()
	ahead := make([]time.Duration, 0, len(c.seen))
	for _, r := range c.seen {
		set := t.Round(0).Sub(r.met.Round(0)) - t.Sub(r.met)
		ahead = append(ahead, set-r.skew)
	}
	c.mu.Unlock()
	return engine.Clamp(repl.Time(t.UnixNano()), ahead, time.Duration(c.limit.Load()))
}
