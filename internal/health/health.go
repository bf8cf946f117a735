// Package health is what a member says about itself in numbers: rates over the
// last seconds, and Prometheus metrics. Metrics are made of the very reply that
// `dfs status` prints, at the moment when they are asked for, so that the two
// never differ; nothing is counted twice and nothing is counted when nobody
// asks. It changes nothing and knows no engine.
package health

import (
	"sync"
	"time"
)

// window is how far back rates look.
const window = 10 * time.Second

// Totals are counters that only rise while a folder runs.
type Totals struct {
	Captured  uint64 // updates of this member
	Installed uint64 // updates of others
	InBytes   uint64 // content installed
	OutBytes  uint64 // content sent
}

// PerSecond are rates of Totals.
type PerSecond struct{ Captured, Installed, InBytes, OutBytes float64 }

// Rates measures Totals over the last seconds. The zero value is ready. Safe
// for concurrent use.
type Rates struct {
	mu      sync.Mutex
	samples []sample // guarded by mu; oldest first, at most as old as window but for the first
}

type sample struct {
	at time.Time
	t  Totals
}

// Add takes what has been counted until now.
func (r *Rates) Add(now time.Time, t Totals) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples = append(r.samples, sample{now, t})
	for len(r.samples) > 2 && now.Sub(r.samples[1].at) >= window {
		r.samples = r.samples[1:]
	}
}

// Reset forgets everything, for counters that begin anew.
func (r *Rates) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples = nil
}

// Now returns the rates between the oldest and the newest sample; zero with
// fewer than two.
func (r *Rates) Now() PerSecond {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.samples) < 2 {
		return PerSecond{}
	}
	a, b := r.samples[0], r.samples[len(r.samples)-1]
	seconds := b.at.Sub(a.at).Seconds()
	per := func(from, to uint64) float64 {
		if seconds <= 0 || to < from {
			return 0
		}
		return float64(to-from) / seconds
	}
	return PerSecond{
		Captured: per(a.t.Captured, b.t.Captured), Installed: per(a.t.Installed, b.t.Installed),
		InBytes: per(a.t.InBytes, b.t.InBytes), OutBytes: per(a.t.OutBytes, b.t.OutBytes),
	}
}
