package engine

import (
	"testing"

	"opendfs/internal/journal"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// TestADirectoryThatIsBroughtIsLookedInto: a user makes something in a directory while
// an install brings it, and moves it before it has a record. Where it lies then is news
// of the move alone.
func TestADirectoryThatIsBroughtIsLookedInto(t *testing.T) {
	m := newMember(t, 1, true)
	m.start()
	settled(t, m)
	check(t, m.between(t.Context(), func(f *Folder) {
		brought := func(n uint64, handle string) store.Write {
			return store.Write{Record: repl.Record{
				Update:   repl.Update{UID: repl.UID{Originator: f.st.State().Originator, Version: n}, Type: repl.Directory, Present: true},
				Identity: repl.Identity{Handle: handle}, Presence: repl.OnDisk,
			}}
		}
		did := func(handle string) {
			Journaled{journal.Batch{Token: f.token, Dirty: []journal.Dirty{{Dir: []byte(handle), Path: "d", Name: "b"}}}}.apply(f)
		}
		looked := func(w store.Write) bool {
			e, ok := f.dirty.dirs[w.Record.UID]
			return ok && e.all
		}
		first, beside, later := brought(1000, "first"), brought(1001, "beside"), brought(1002, "first")
		f.install = &batch{}
		did("first")
		f.strangersKnown(&store.Batch{Writes: []store.Write{first, beside}})
		f.install = nil
		if !looked(first) || looked(beside) {
			t.Errorf("looks into what was changed meanwhile: %v, into what was not: %v", looked(first), looked(beside))
		}
		did("first")
		if f.strangersKnown(&store.Batch{Writes: []store.Write{later}}); looked(later) {
			t.Error("what is no install's is remembered")
		}
		f.dirty.init() // there are no such directories
	}))
}
