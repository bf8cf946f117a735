package store

import (
	"fmt"

	"opendfs/internal/repl"
)

// Falsify puts a record in place of another, or takes it away (nil), with its index
// rows and without a look at what must hold: what a defect or a bit that flips does
// to a database. It is for tests of what finds that; nothing else calls it.
func (f *Folder) Falsify(uid repl.UID, to *repl.Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.begin()
	it, err := p.load(uid)
	if err != nil || it.old == nil {
		return fmt.Errorf("falsify the record of %v: it has none (%w)", uid, err)
	}
	it.now = to
	p.at[uid] = 0
	p.items = append(p.items, it)
	p.makeRows()
	p.clearRows(&p.items[0])
	if to != nil {
		p.counts.add(to, 1)
	}
	if err := p.setRows(); err != nil {
		return err
	}
	p.value = appendCounts(p.value[:0], p.counts)
	p.ops.Set(f.keys.table(nil, tableCounts), p.value)
	return f.s.apply(&p.ops, true, func() { f.commit(p) })
}
