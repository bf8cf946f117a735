package disk

import (
	"math/rand/v2"

	"opendfs/internal/repl"
)

// Crash cuts the power and returns the disk as the next boot finds it, all of
// it durable. What was open on the old disk is dead. seed decides what is lost.
func (d *Disk) Crash(seed uint64) *Disk {
	r := rand.New(rand.NewPCG(seed, 1))
	after := d.copyWorld(true)
	d.off = true
	d.proc++
	ops := after.pending
	after.pending = nil
	for i := len(ops) - 1; i >= 0; i-- {
		ops[i].undo()
	}
	after.replay(ops, r)
	after.rebuild(func(n *inode) {
		if n.dirty {
			n.survive(r)
		}
	})
	return after
}

// Snapshot returns a copy of the disk as it is now, all durable, with the same
// handles: a backup of the block device, or a clone of it.
func (d *Disk) Snapshot() *Disk {
	c := d.copyWorld(false)
	c.rebuild(func(n *inode) { n.flush() })
	return c
}

// Restore rolls the disk back to a snapshot, which stays usable. What was open
// is dead.
func (d *Disk) Restore(s *Disk) {
	c := s.Snapshot()
	d.root, d.outside, d.byHandle = c.root, c.outside, c.byHandle
	d.free, d.pending, d.dirty = nil, nil, nil
	d.next = max(d.next, c.next)
	d.proc++
}

// replay decides for each operation whether it reached the disk, and carries
// out those that did, in order.
func (d *Disk) replay(ops []op, r *rand.Rand) {
	odds := [...]float64{0, 0.5, 0.5, 0.9, 1}[r.IntN(5)]
	keep := make([]bool, len(ops))
	needed := map[link]bool{}
	emptied := map[*inode]bool{} // removed for good, and with them all that they held
	for i := len(ops) - 1; i >= 0; i-- {
		o := &ops[i]
		keep[i] = o.durable()
		for k := range o.eff[:o.n] {
			keep[i] = keep[i] || needed[link{o.eff[k].dir, o.eff[k].name}] || emptied[o.eff[k].dir]
		}
		for k := range o.eff[:o.n] {
			if e := &o.eff[k]; keep[i] {
				needed[link{e.dir, e.name}] = true
				if o.removes(e) {
					emptied[e.before] = true
				}
			}
		}
	}
	lost := map[link]bool{}
	for i := range ops {
		o := &ops[i]
		ok := r.Float64() < odds || keep[i]
		for k := range o.eff[:o.n] {
			ok = ok && !lost[link{o.eff[k].dir, o.eff[k].name}]
		}
		if ok && d.possible(o) {
			o.apply()
			continue
		}
		for k := range o.eff[:o.n] {
			lost[link{o.eff[k].dir, o.eff[k].name}] = true
		}
	}
}

// survive decides what of an inode's unsynced state reached the disk.
func (n *inode) survive(r *rand.Rand) {
	now, data := n.cur, n.data
	times := r.IntN(2) == 0
	n.cur, n.data, n.shared = n.dur, n.durs, true
	if n.kind == repl.File && !same(data, n.durs) {
		switch r.IntN(4) {
		case 0: // old data; size and times of the new may be there
			if times {
				torn := make([]byte, len(data))
				copy(torn, n.durs)
				n.data = torn
			}
		case 1:
			n.data, times = data, true
		case 2:
			n.data, times = data[:r.IntN(len(data)+1)], true
		case 3:
			torn := make([]byte, len(data))
			copy(torn, data[:r.IntN(len(data)+1)])
			n.data, times = torn, true
		}
	}
	if times {
		n.cur = now
	}
}

// same reports whether a and b are the same bytes in the same memory, which is
// what an unwritten file has.
func same(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// copyWorld copies every inode that can be reached or comes back by undoing
// what is pending. Hooks are carried over.
func (d *Disk) copyWorld(withPending bool) *Disk {
	c := *d
	c.byHandle, c.free, c.pending, c.dirty, c.lists = nil, nil, nil, nil, nil
	c.off, c.proc = false, 0
	copies := map[*inode]*inode{}
	var take func(n *inode) *inode
	take = func(n *inode) *inode {
		if n == nil {
			return nil
		}
		if to, ok := copies[n]; ok {
			return to
		}
		to := new(inode)
		*to = *n
		copies[n] = to
		n.shared, to.shared = true, true
		to.writers, to.temp, to.mounted = 0, 0, false
		to.links, to.entries, to.index = nil, nil, nil
		for _, e := range n.entries {
			to.set(e.name, take(e.n))
		}
		return to
	}
	c.root, c.outside = take(d.root), take(d.outside)
	if withPending {
		c.pending = make([]op, len(d.pending))
		for i, o := range d.pending {
			for k := range o.eff[:o.n] {
				e := &o.eff[k]
				e.dir, e.before, e.after = take(e.dir), take(e.before), take(e.after)
			}
			c.pending[i] = o
		}
	}
	for n, to := range copies {
		to.links = make([]link, 0, len(n.links))
		for _, l := range n.links {
			to.links = append(to.links, link{take(l.dir), l.name})
		}
	}
	return &c
}

// rebuild visits everything that can be reached from the roots, forgets the
// rest, and makes the result durable.
func (d *Disk) rebuild(visit func(*inode)) {
	d.byHandle = map[string]*inode{}
	var walk func(n *inode)
	walk = func(n *inode) {
		if _, seen := d.byHandle[n.id.Handle]; seen {
			return
		}
		d.byHandle[n.id.Handle] = n
		visit(n)
		n.enc = nil
		n.flush()
		for _, e := range n.entries {
			walk(e.n)
		}
	}
	walk(d.root)
	walk(d.outside)
}
