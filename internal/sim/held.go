package sim

import (
	"fmt"
	"time"

	"opendfs/internal/engine"
	"opendfs/internal/finding"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// smallBreaker trips on the few files that folders have here.
var smallBreaker = engine.Breaker{Files: 1, Percent: 5, Within: 10 * time.Minute}

// openHolds lists the originators that a member holds, and from which version on.
func (m *Member) openHolds() map[version.Originator]uint64 {
	out := make(map[version.Originator]uint64)
	for _, h := range m.folder.Status().Holds {
		if h.Decision == store.HoldOpen {
			out[h.Originator] = h.From
		}
	}
	return out
}

// heldStays: nothing of an originator that is held is installed or joined (rule
// 27), and there is no hold without a finding.
func (m *Member) heldStays(before version.Vector) {
	if m.cfg.Breaker.Percent == 0 {
		return
	}
	now, c := m.openHolds(), m.c
	for o, spans := range m.env.Store.Vector().Minus(before) {
		from, held := now[o]
		if was, before := m.held[o]; !held || !before || was != from {
			continue
		}
		if top := spans[len(spans)-1].High; top >= from && c.law.broken == nil {
			c.law.broken = fmt.Errorf("m%d holds originator %v from %d on and comes to know %d (rule 27)", m.index, o, from, top)
		}
	}
	for o := range now {
		if _, told := m.found[string(finding.MassChangeHeld)+" sim/folder by "+o.String()]; !told && c.law.broken == nil {
			c.law.broken = fmt.Errorf("m%d holds originator %v and no finding tells (rule 27)", m.index, o)
		}
	}
	stats := m.folder.Stats()
	c.Count.Rules[27] += int(stats.Held - m.trips)
	c.Count.Rejected += int(stats.Rejected - m.rejected)
	m.held, m.trips, m.rejected = now, stats.Held, stats.Rejected
}

// decideOn lets an operator release or reject what a member holds.
func (m *Member) decideOn(reject bool) {
	for _, h := range m.folder.Status().Holds {
		if h.Decision == store.HoldOpen {
			m.c.tracef("m%d decides on %v from %d: reject %v", m.index, h.Originator, h.From, reject && !m.cfg.ReadOnly)
			m.events = append(m.events, engine.Decided{Originator: h.Originator, Reject: reject && !m.cfg.ReadOnly})
		}
	}
}
