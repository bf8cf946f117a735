package sim

import "math/rand/v2"

// mixed draws a plan, of what goes together: what a disk cannot hold it cannot pass
// on, and images are not of members that were evicted.
func mixed(seed uint64, trace bool) Plan {
	r := rand.New(rand.NewPCG(seed, 0x0d0e))
	one := func(in int) bool { return r.IntN(in) == 0 }
	p := Plan{
		Seed: seed, Mixed: true, Trace: trace, Members: 2 + r.IntN(3), Steps: 900 + r.IntN(900),
		Topology: []Topology{Mesh, Chain, Hub}[r.IntN(3)], Faults: !one(3),
		ReadOnly: one(4), Fold: one(3), Filters: one(5), Morph: one(4), Fast: one(6), Restores: one(6), Breaker: one(8),
	}
	p.Edits, p.Movers = one(5), one(3)
	p.Tenants = !p.Movers && one(4)
	switch r.IntN(5) {
	case 0:
		p.Rollback = !p.ReadOnly && !p.Restores
	case 1:
		p.Narrow = !p.Fold && !p.Filters && !p.Movers // docs/verification.md, known gaps
		if p.Narrow {
			p.Topology = Mesh
		}
	case 2:
		p.Months = !p.Filters && !p.Restores && !p.Fast
	}
	return p
}
