package sim

import (
	"slices"

	"opendfs/internal/engine"
	"opendfs/internal/repl"
)

// rewires changes who asks whom now and then, and lets a member hear of it.
func (c *Cluster) rewires(m *Member) {
	if !c.rewired {
		return
	}
	if c.rnd.IntN(60) == 0 {
		c.rewire()
	}
	if c.rnd.IntN(20) == 0 {
		m.hearPartners()
	}
}

// rewire ends in the domain that a member asks another, or that two ask each other, or
// makes it so again. Nobody is left with no one to ask: he would be taken for the only
// member.
func (c *Cluster) rewire() {
	i, j := c.rnd.IntN(len(c.members)), c.rnd.IntN(len(c.members))
	ways := [][2]int{{i, j}, {j, i}}[:1+c.rnd.IntN(2)]
	for _, way := range ways {
		asker := c.members[way[0]]
		if i == j || !c.apart[way] && len(c.wired(asker, asker.partners, true)) < 2 {
			return
		}
	}
	c.Count.Rewired++
	to := !c.apart[ways[0]]
	for _, way := range ways {
		c.tracef("the domain has m%d ask m%d: %v", way[0], way[1], !to)
		c.apart[way] = to
	}
}

// wired lists those of partners that a member asks by the domain, or that ask it.
func (c *Cluster) wired(m *Member, partners []repl.MemberID, asks bool) []repl.MemberID {
	return slices.DeleteFunc(slices.Clone(partners), func(id repl.MemberID) bool {
		way := [2]int{m.index, c.byID(id).index}
		if !asks {
			way[0], way[1] = way[1], way[0]
		}
		return c.apart[way]
	})
}

// hearPartners tells a member which partners it has by the domain: one after the other
// hears of a change.
func (m *Member) hearPartners() {
	up, down := m.c.wired(m, m.partners, true), m.c.wired(m, m.partners, false)
	if slices.Equal(up, m.cfg.Upstreams) && slices.Equal(down, m.cfg.Downstreams) {
		return
	}
	m.cfg.Upstreams, m.cfg.Downstreams = up, down
	if m.folder == nil {
		return
	}
	m.c.tracef("m%d asks %v, is asked by %v", m.index, up, down)
	for id := range m.up {
		if !slices.Contains(up, id) {
			delete(m.up, id)
		}
	}
	m.step(engine.PartnersAre{Upstreams: up, Downstreams: down})
	m.c.connect()
}
