package store

import (
	"fmt"
	"testing"

	"opendfs/internal/repl"
)

// The tombstones of a place are found, of merged directories too, until they
// live again or are collected; what lost its name is not among them.
func TestGravesAreFound(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		root := repl.RootUID(docs)
		dir, old := m.create(repl.Directory, root, "dir"), m.create(repl.Directory, root, "old")
		graves := func(dir repl.UID, name string) (uids []repl.UID) {
			t.Helper()
			found, err := m.f.Graves(dir, name)
			must(t, err)
			for _, r := range found {
				uids = append(uids, r.UID)
			}
			return uids
		}
		bury := func(r repl.Record) repl.Record {
			m.put(&Batch{Writes: []Write{m.next(r, dead)}})
			return m.get(r.UID)
		}
		a := bury(m.create(repl.File, dir.UID, "a"))
		b := bury(m.create(repl.Directory, dir.UID, "a"))
		c := bury(m.create(repl.File, old.UID, "a"))
		lost := m.create(repl.File, dir.UID, "a")
		m.put(&Batch{Writes: []Write{m.next(lost, func(r *repl.Record) {
			dead(r)
			r.NameConflict = true
		})}})
		m.restart()
		equal(t, "tombstones", graves(dir.UID, "a"), []repl.UID{a.UID, b.UID})
		equal(t, "tombstones of another spelling", graves(dir.UID, "A"), []repl.UID(nil))
		m.put(&Batch{Writes: []Write{m.next(old, func(r *repl.Record) {
			dead(r)
			r.NameConflict, r.Heir = true, dir.UID
		})}})
		equal(t, "with those of a merged directory", graves(dir.UID, "a"), []repl.UID{a.UID, b.UID, c.UID})
		must(t, m.f.Fold(true))
		equal(t, "where names fold", graves(dir.UID, "A"), []repl.UID{a.UID, b.UID, c.UID})
		m.put(&Batch{Writes: []Write{m.next(a, func(r *repl.Record) { r.Present, r.Presence, r.Content = true, repl.OnDisk, repl.Hash{1} })}})
		m.put(&Batch{Collect: []repl.UID{b.UID}})
		equal(t, "after one lives and one was collected", graves(dir.UID, "a"), []repl.UID{c.UID})
		var last repl.UID
		for range 2 * maxGraves {
			last = bury(m.create(repl.File, dir.UID, "many")).UID
		}
		if many := graves(dir.UID, "many"); len(many) != maxGraves || many[maxGraves-1] != last {
			t.Errorf("of many %d are found, the last %v", len(many), many[len(many)-1])
		}
		var batch Batch // two of one place in one batch
		for i := range 2 {
			r := m.create(repl.File, dir.UID, fmt.Sprint("both", i))
			batch.Writes = append(batch.Writes, m.next(r, func(r *repl.Record) {
				dead(r)
				r.Name = "both"
			}))
		}
		m.put(&batch)
		if both := graves(dir.UID, "both"); len(both) != 2 {
			t.Errorf("of two in one batch %d are found", len(both))
		}
	})
}
