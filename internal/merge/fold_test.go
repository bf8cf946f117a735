package merge

import (
	"fmt"
	"testing"

	"opendfs/internal/repl"

	"pgregory.net/rapid"
)

// folded are names of which two are one in a folder that folds names.
var folded = []string{"a", "A", "b", "B"}

// TestFoldedNamesConverge is TestMembersConverge in a folder that compares names
// without regard to case: whatever users call things, members come to rest with
// one object at each folded place, under the winner's spelling.
func TestFoldedNamesConverge(t *testing.T) {
	more(t, 1500, func(t *rapid.T) {
		w := newWorld(repl.Time(rapid.SampledFrom([]int64{0, 1, 1000}).Draw(t, "step")))
		w.fold = true
		members := []*member{w.member("A"), w.member("B"), w.member("C")}[:rapid.IntRange(2, 3).Draw(t, "members")]
		if len(members) == 3 && rapid.IntRange(0, 3).Draw(t, "reader") == 0 {
			members[2].readOnly = true
		}
		fail := w.ends(t)
		how := drawDelivery(t, 0, 1, 2, 5)
		for range rapid.IntRange(1, 25).Draw(t, "acts") {
			m := rapid.SampledFrom(members).Draw(t, "member")
			if m.readOnly || rapid.IntRange(0, 5).Draw(t, "kind") == 0 {
				if o := rapid.SampledFrom(members).Draw(t, "partner"); o != m {
					fail(m.pull(o.snapshot(), how))
					fail(m.sound())
					fail(vectorSound(members...))
				}
				continue
			}
			chosen := drawAct(t, m, folded)
			w.logf("%s", chosen.what)
			w.now += w.step * repl.Time(rapid.IntRange(-1, 2).Draw(t, "tick"))
			chosen.do()
			fail(m.sound())
		}
		fail(exchange(rapid.Bool().Draw(t, "together"), how, members...))
		fail(w.atRest(members...))
	})
}

// TestNewcomerWithOtherSpellings: what a member in initial sync calls by another
// case is the partner's object, and takes the partner's spelling.
func TestNewcomerWithOtherSpellings(t *testing.T) {
	more(t, 700, func(t *rapid.T) {
		w := newWorld(1)
		w.fold = true
		a, c := w.member("A"), w.member("C")
		c.initial = true
		fail := w.ends(t)
		for _, m := range []*member{a, c} {
			for range rapid.IntRange(0, 8).Draw(t, "acts") {
				chosen := drawAct(t, m, folded)
				w.logf("%s", chosen.what)
				w.now++
				chosen.do()
			}
		}
		c.forgetTombstones()
		fail(c.pull(a.snapshot(), delivery{size: rapid.IntRange(0, 3).Draw(t, "size"), reverse: rapid.Bool().Draw(t, "reverse")}))
		fail(c.sound())
		if len(c.held) > 0 {
			fail(fmt.Errorf("C still holds %v", c.held))
		}
		c.endInitialSync()
		c.vec = a.vec.Clone()
		fail(w.atRest(a, c))
	})
}

// TestCaseOnlyRename: another spelling is a move of one object and no conflict
// with itself; two spellings given apart are two versions of one object.
func TestCaseOnlyRename(t *testing.T) {
	w := newWorld(1)
	w.fold = true
	a, b := w.member("A"), w.member("B")
	a.create(root, "readme", repl.File, false)
	first, _, _ := a.At(root, "README")
	if err := exchange(false, delivery{}, a, b); err != nil {
		t.Fatal(err)
	}
	w.now++
	a.rename(first, root, "ReadMe")
	w.now++
	of, _, _ := b.At(root, "readme")
	b.rename(of, root, "README")
	if err := exchange(true, delivery{}, a, b); err != nil {
		t.Fatal(err)
	}
	if err := w.atRest(a, b); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*member{a, b} {
		if r, ok, _ := m.At(root, "readme"); !ok || r.Name != "README" || r.UID != first.UID {
			t.Errorf("%s has %s", m.name, show(&r.Update))
		}
	}
	if w.verdicts[repl.VerdictMove] != 1 || w.verdicts[repl.VerdictNameLost] != 0 {
		t.Errorf("verdicts %v", w.verdicts)
	}
}

// TestNamesThatFoldToOneConflict: two new files whose names differ by case are a
// name conflict; the younger keeps its own spelling, the older content is kept.
func TestNamesThatFoldToOneConflict(t *testing.T) {
	for _, fold := range []bool{true, false} {
		w := newWorld(1)
		w.fold = fold
		a, b := w.member("A"), w.member("B")
		a.create(root, "plan.txt", repl.File, false)
		w.now++
		b.create(root, "Plan.TXT", repl.File, false)
		if err := exchange(false, delivery{}, a, b); err != nil {
			t.Fatal(err)
		}
		if err := w.atRest(a, b); err != nil {
			t.Fatal(err)
		}
		live := a.children(root)
		switch {
		case !fold && len(live) != 2:
			t.Errorf("names are told apart and %d are left", len(live))
		case fold && (len(live) != 1 || live[0].Name != "Plan.TXT" || len(a.kept) != 1):
			t.Errorf("left are %v, kept %d", live, len(a.kept))
		}
	}
}
