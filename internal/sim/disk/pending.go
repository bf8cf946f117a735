package disk

import "opendfs/internal/repl"

// effect is one entry that an operation changes from before to after; nil is
// no entry.
type effect struct {
	dir           *inode
	name          string
	before, after *inode
}

// op is one change of directory entries that is not durable yet.
type op struct {
	eff    [2]effect
	n      int
	synced [2]bool // eff[i].dir was synced since
}

// durable reports whether every directory that gains an entry was synced since;
// where none does, every one that loses one.
func (o *op) durable() bool {
	gains := o.eff[0].after != nil || o.n > 1 && o.eff[1].after != nil
	for i := range o.eff[:o.n] {
		if !o.synced[i] && (o.eff[i].after != nil || !gains) {
			return false
		}
	}
	return true
}

// apply carries the operation out on entries and links.
func (o *op) apply() {
	for i := range o.eff[:o.n] {
		if e := &o.eff[i]; e.before != nil {
			e.before.dropLink(e.dir, e.name)
			e.dir.set(e.name, nil)
		}
	}
	for i := range o.eff[:o.n] {
		if e := &o.eff[i]; e.after != nil {
			e.dir.set(e.name, e.after)
			e.after.addLink(e.dir, e.name)
		}
	}
}

// undo is apply backwards.
func (o *op) undo() {
	back := *o
	for i := range back.eff[:back.n] {
		back.eff[i].before, back.eff[i].after = back.eff[i].after, back.eff[i].before
	}
	back.apply()
}

// enter carries out an operation now and leaves it to be synced. Directories
// get a new mtime, objects that lose or gain a name a new ctime.
func (d *Disk) enter(o op) {
	o.apply()
	t := d.stamp()
	for i := range o.eff[:o.n] {
		e := &o.eff[i]
		e.dir.cur.mtime, e.dir.cur.ctime = t, t
		d.touch(e.dir)
		for _, n := range [2]*inode{e.before, e.after} {
			if n == nil {
				continue
			}
			n.cur.ctime = t
			d.touch(n)
			if len(n.links) == 0 {
				delete(d.byHandle, n.id.Handle)
				d.free = append(d.free, n.number)
			}
		}
	}
	if len(d.pending) >= writeback {
		d.pending = append(d.pending[:0], d.pending[writeback/2:]...)
	}
	d.pending = append(d.pending, o)
	for i := range o.eff[:o.n] {
		d.emit(o.eff[i].dir, o.eff[i].name, false)
	}
}

// syncDir makes the directory's entries and metadata durable.
func (d *Disk) syncDir(n *inode) {
	n.flush()
	done := 0
	for i := range d.pending {
		o := &d.pending[i]
		for k := range o.eff[:o.n] {
			if o.eff[k].dir == n {
				o.synced[k] = true
			}
		}
		if done == i && o.durable() {
			done++
		}
	}
	if done > 0 {
		d.pending = append(d.pending[:0], d.pending[done:]...)
	}
}

// removes reports whether an effect of the operation takes a directory away.
func (o *op) removes(e *effect) bool {
	if e.before == nil || e.before.kind != repl.Directory {
		return false
	}
	for k := range o.eff[:o.n] {
		if o.eff[k].after == e.before {
			return false
		}
	}
	return true
}

// possible reports whether an operation that survived the crash makes sense in
// what else did.
func (d *Disk) possible(o *op) bool {
	for i := range o.eff[:o.n] {
		e := &o.eff[i]
		if e.dir.child(e.name) != e.before {
			return false
		}
		if e.after != nil {
			if !e.dir.within(d.root) && !e.dir.within(d.outside) {
				return false
			}
			if e.after.kind == repl.Directory && e.dir.within(e.after) {
				return false
			}
		}
		if e.before == nil || len(e.before.entries) == 0 {
			continue
		}
		if o.removes(e) {
			return false
		}
	}
	return true
}
