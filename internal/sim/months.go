package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"opendfs/internal/engine"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// live lets tombstones live so long, in a domain that knows all members.
func (c *Cluster) live(life time.Duration) {
	c.life = life
	for _, m := range c.members {
		m.cfg.TombstoneLifetime = life
		m.cfg.Members = c.domain()
	}
}

// domain is what the directory says of the members.
func (c *Cluster) domain() []engine.Member {
	var list []engine.Member
	for _, m := range c.members {
		list = append(list, engine.Member{ID: m.id, Server: fmt.Sprintf("m%d", m.index), Evicted: c.out[m.id]})
	}
	return list
}

// domain is the directory as one member reaches it: it lies with the first one.
type domain struct{ m *Member }

func (d domain) change(member repl.MemberID, from, to version.Originator) error {
	c := d.m.c
	if d.m.index != 0 && !c.reachable(d.m, c.members[0]) {
		return errLost
	}
	if c.out[member] != from {
		return nil
	}
	if c.out[member] = to; to.IsZero() {
		c.Count.Readmitted++
		c.tracef("m%d readmits %v", d.m.index, member[0])
	} else {
		c.Count.Evicted++
		c.tracef("m%d evicts %x of m%d", d.m.index, to[:2], member[0]-1)
	}
	return nil
}

// Evict is that of engine.Directory.
func (d domain) Evict(_ context.Context, member repl.MemberID, database version.Originator) error {
	if out := d.m.c.out[d.m.id]; !out.IsZero() {
		return nil
	}
	return d.change(member, version.Originator{}, database)
}

// Readmit is that of engine.Directory.
func (d domain) Readmit(_ context.Context, member repl.MemberID, database version.Originator) error {
	return d.change(member, database, version.Originator{})
}

// hearDomain brings the domain to a member that can be reached; if it is another
// one than it had the folder starts again with it.
func (m *Member) hearDomain() error {
	now := m.c.domain()
	if m.folder == nil || m.index != 0 && !m.c.reachable(m, m.c.members[0]) || slices.Equal(now, m.cfg.Members) {
		return nil
	}
	m.c.tracef("m%d hears of the domain", m.index)
	m.cfg.Members = now
	if m.c.rnd.IntN(2) == 0 { // as it starts
		return errors.Join(m.stop(), m.Start())
	}
	m.step(engine.MembersAre{Members: now})
	return nil
}

// inform brings the domain to everybody.
func (c *Cluster) inform() error {
	for _, m := range c.members {
		if err := m.hearDomain(); err != nil {
			return fmt.Errorf("m%d hears of the domain: %w", m.index, err)
		}
		if m.folder == nil {
			return fmt.Errorf("m%d lost power as it heard of the domain", m.index)
		}
	}
	return nil
}

// collects notes what a step has collected.
func (m *Member) collects() {
	if stats := m.folder.Stats(); stats.Collected == m.collected {
		return
	}
	m.collected = m.folder.Stats().Collected
	for uid, u := range m.had {
		if _, ok, err := m.env.Store.Get(uid); err == nil && !ok {
			if was, twice := m.c.buried[uid]; !twice || repl.Compare(&was, &u) < 0 {
				m.c.buried[uid] = u
			}
			m.c.tracef("m%d has collected %s", m.index, m.c.describe(&u))
		}
	}
}

// unbury forgets tombstones that nobody knows of any more: who comes back from an
// eviction is not authoritative, and where two halves of a cluster have evicted each
// other, what one of them deleted is with it.
func (c *Cluster) unbury() error {
	known, err := c.allKnown()
	if err != nil {
		return err
	}
	maps.DeleteFunc(c.buried, func(_ repl.UID, dead repl.Update) bool { return !known.Contains(dead.GVSN) })
	return nil
}

// collectedBy reports whether a record is a tombstone that the member's floor
// covers, so that it may have none.
func (c *Cluster) collectedBy(m *Member, u *repl.Update) bool {
	return !u.Present && m.env.Store.Floor().Contains(u.GVSN)
}

// deadStayDead looks for objects that live in a version that is not greater than
// a tombstone which was collected.
func (c *Cluster) deadStayDead() error {
	for _, m := range c.members {
		for _, u := range allUpdates(m.env.Store) {
			if dead, ok := c.buried[u.UID]; ok && u.Present && repl.Compare(&u, &dead) <= 0 {
				return fmt.Errorf("m%d has %s, which was collected as %s", m.index, c.describe(&u), c.describe(&dead))
			}
		}
	}
	return nil
}

// months lets long times pass: days to months, in steps in which members tell
// each other of themselves. Now and then one of them is away meanwhile.
func (c *Cluster) months() error {
	days := 1 + c.rnd.IntN(20)
	if c.rnd.IntN(3) == 0 {
		days = 20 + c.rnd.IntN(110)
	}
	away := -1
	if c.rnd.IntN(3) > 0 {
		away = c.rnd.IntN(len(c.members))
		c.Count.Away++
	}
	was := make(map[[2]int]bool)
	for i := range c.members {
		if i != away && away >= 0 {
			link := [2]int{min(i, away), max(i, away)}
			was[link], c.cut[link] = c.cut[link], true
		}
	}
	c.connect()
	c.tracef("%d days go by, m%d is away", days, away)
	still := c.still
	c.still = true // but for an act now and then: months are long
	defer func() { c.still = still }()
	for range 2 * days {
		c.pass(c.life / 120)
		for _, m := range c.members {
			if m.folder != nil && c.rnd.IntN(20) == 0 {
				c.userOp(m)
			}
			for range 40 {
				if m.folder == nil || !m.deliver() && !m.runSome() {
					break
				}
			}
			if c.rnd.IntN(6) > 0 {
				continue
			}
			if err := m.hearDomain(); err != nil {
				return err
			}
		}
		if err := c.stopped(); err != nil {
			return err
		}
	}
	for link, cut := range was {
		c.cut[link] = cut
	}
	c.connect()
	return nil
}
