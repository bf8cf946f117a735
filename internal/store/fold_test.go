package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"opendfs/internal/filter"
	"opendfs/internal/repl"
)

// A folder that folds names finds an object by any spelling, lets one live
// object have a folded place, and lists names as they are spelt.
func TestFoldedNamesAreOnePlace(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		root := repl.RootUID(docs)
		before := m.create(repl.File, root, "Before.txt")
		must(t, m.f.Fold(true))
		dir := m.create(repl.Directory, root, "dir")
		a := m.create(repl.File, dir.UID, "Ärger")
		at := func(dir repl.UID, name string) repl.UID {
			t.Helper()
			r, _, err := m.f.At(dir, name)
			must(t, err)
			return r.UID
		}
		for range 2 { // and after a restart
			if at(root, "bEFORE.TXT") != before.UID || at(dir.UID, "äRGER") != a.UID || at(dir.UID, "other") != (repl.UID{}) {
				t.Fatal("an object is not found by another spelling of its name")
			}
			names := []string{"0", "1", "2", "3", "4", "5", "6", "Before.txt", "bEFORE.TXT"}
			must(t, m.f.Named(root, names, func(i int, rec *repl.Record) error {
				if found := rec != nil && rec.UID == before.UID; found != (i > 6) {
					t.Errorf("among many names, %q is found: %v", names[i], found)
				}
				return nil
			}))
			m.restart()
		}
		b := m.object(repl.File, dir.UID, "ärger")
		var broken *InvariantError
		if err := m.f.Put(&Batch{Writes: []Write{{Record: b}}}); !errors.As(err, &broken) {
			t.Fatalf("a second object at a folded place: %v", err)
		}
		m.put(&Batch{Writes: []Write{m.next(a, func(r *repl.Record) { r.Name = "ÄRGER" })}})
		if r := m.get(at(dir.UID, "ärger")); r.Name != "ÄRGER" {
			t.Fatalf("a name given in another case is %q", r.Name)
		}
		equal(t, "names", children(t, m.f, dir.UID, ""), []string{"ÄRGER"})
		m.put(&Batch{Writes: []Write{m.next(m.get(a.UID), dead), {Record: b}}})
		if at(dir.UID, "ärger") != b.UID {
			t.Fatal("a folded place that was given away is not the taker's")
		}
		must(t, m.f.Fold(false))
		if at(dir.UID, "ÄRGER") != (repl.UID{}) || at(dir.UID, "ärger") != b.UID {
			t.Fatal("names are not told apart again")
		}
		m.create(repl.File, dir.UID, "ÄRGER")
	})
}

// Names are not folded while they collide, in merged directories too; the error
// names the pairs, and nothing has changed.
func TestCollidingNamesAreNotFolded(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		root := repl.RootUID(docs)
		old, heir := m.create(repl.Directory, root, "old"), m.create(repl.Directory, root, "heir")
		m.put(&Batch{Writes: []Write{m.next(old, func(r *repl.Record) {
			r.Present, r.NameConflict, r.Heir, r.Presence = false, true, heir.UID, repl.Absent
		})}})
		a := m.create(repl.File, old.UID, "A.txt")
		m.create(repl.File, heir.UID, "a.TXT")
		m.create(repl.File, root, "a.txt")
		var collides *CollisionError
		if err := m.f.Fold(true); !errors.As(err, &collides) || len(collides.Pairs) != 1 || collides.More != 0 {
			t.Fatalf("fold names that collide: %v", err)
		}
		if p := collides.Pairs[0]; p[0].Name != "A.txt" || p[1].Name != "a.TXT" {
			t.Errorf("the pair is %q and %q", p[0].Name, p[1].Name)
		}
		if m.f.State().Folds {
			t.Error("names are folded all the same")
		}
		m.put(&Batch{Writes: []Write{m.next(a, dead)}})
		must(t, m.f.Fold(true))
		for i := range 3 * maxPairs {
			m.create(repl.File, heir.UID, fmt.Sprint("name", i))
		}
		must(t, m.f.Fold(false))
		for i := range 3 * maxPairs {
			m.create(repl.File, heir.UID, fmt.Sprint("NAME", i))
		}
		if err := m.f.Fold(true); !errors.As(err, &collides) || len(collides.Pairs) != maxPairs || collides.More != 2*maxPairs {
			t.Errorf("many collisions: %v", err)
		}
	})
}

// What a crash in the midst of folding leaves is not believed.
func TestAFoldThatACrashInterruptsIsDoneAnew(t *testing.T) {
	kv := NewMemory()
	s, err := Open(kv, rand.NewChaCha8([32]byte{1}))
	must(t, err)
	f, err := s.Folder(docs)
	must(t, err)
	m := &member{t: t, kv: kv, s: s, f: f}
	r := m.create(repl.File, repl.RootUID(docs), "name")
	var ops Ops // rows of an earlier attempt
	n, err := s.numberUID(repl.UID{Originator: other, Version: 77})
	must(t, err)
	parent, _ := f.ref(repl.RootUID(docs))
	ops.Set(f.keys.folded(nil, parent, "gone"), n.append(nil))
	must(t, kv.Apply(&ops, true))
	must(t, f.Fold(true))
	if _, ok, err := f.At(repl.RootUID(docs), "GONE"); ok || err != nil {
		t.Errorf("a row of an attempt that failed is believed: %v", err)
	}
	if got, ok, err := f.At(repl.RootUID(docs), filter.Fold("name")); !ok || err != nil || got.UID != r.UID {
		t.Errorf("the record is not found: %v", err)
	}
	state := f.State()
	state.Folds, state.Epoch = false, 9
	must(t, f.Put(&Batch{State: &state}))
	if !f.State().Folds || f.State().Epoch != 9 {
		t.Error("a put state changes how names are compared")
	}
}
