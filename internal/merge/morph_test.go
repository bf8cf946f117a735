package merge

import (
	"strings"
	"testing"
	"unicode/utf8"

	"opendfs/internal/repl"
	"opendfs/internal/version"

	"pgregory.net/rapid"
)

// TestMorphedNames: the name follows from name and UID alone, fits on a disk, and
// is another one each time.
func TestMorphedNames(t *testing.T) {
	uid := repl.UID{Originator: version.Originator{1, 2, 3}, Version: 9}
	if got := Morphed("docs", uid); got != "docs_NTFRS_c7d087b6" {
		t.Errorf("the name is a format and has become %q", got)
	}
	if got := Morphed("docs_NTFRS_c7d087b6", uid); got != "docs_NTFRS_c8d08949" {
		t.Errorf("the next name is a format and has become %q", got)
	}
	if got := Morphed("docs_NTFRS_c7d087b6", repl.UID{Originator: uid.Originator, Version: 10}); !strings.HasPrefix(got, "docs_NTFRS_c7d087b6_NTFRS_") {
		t.Errorf("another one's name is taken for its own: %q", got)
	}
	for _, name := range []string{strings.Repeat("x", 255), strings.Repeat("ä", 127), strings.Repeat("x", 254) + "\xff", "\xff", "_NTFRS_00000000"} {
		met := map[string]bool{name: true}
		for range maxMorphs {
			was := name
			name = Morphed(name, uid)
			if len(name) > 255 || repl.CheckName(name, false) != nil || met[name] || utf8.ValidString(was) && !utf8.ValidString(name) {
				t.Fatalf("%q becomes %q", was, name)
			}
			met[name] = true
		}
	}
}

// TestMorphedDirectoriesConverge is TestDirectoriesConverge in a folder where
// directories of one name both stay: nothing is ever merged, and members come to
// rest with the same names.
func TestMorphedDirectoriesConverge(t *testing.T) {
	more(t, 1500, func(t *rapid.T) {
		w := newWorld(repl.Time(rapid.SampledFrom([]int64{0, 1}).Draw(t, "step")))
		w.morph, w.fold = true, rapid.Bool().Draw(t, "fold")
		members := []*member{w.member("A"), w.member("B"), w.member("C")}[:rapid.IntRange(2, 3).Draw(t, "members")]
		names := []string{"a", "b", "c"}
		if w.fold {
			names = folded
		}
		fail := w.ends(t)
		how := drawDelivery(t, 0, 1, 2)
		for range rapid.IntRange(2, 16).Draw(t, "acts") {
			m := rapid.SampledFrom(members).Draw(t, "member")
			chosen := drawAct(t, m, names)
			w.logf("%s", chosen.what)
			w.now += w.step
			chosen.do()
			if o := rapid.SampledFrom(members).Draw(t, "partner"); o != m && rapid.IntRange(0, 3).Draw(t, "pull") == 0 {
				fail(m.pull(o.snapshot(), how))
				fail(m.sound())
			}
		}
		fail(exchange(rapid.Bool().Draw(t, "together"), how, members...))
		fail(w.atRest(members...))
		if n := w.verdicts[repl.VerdictMerged]; n > 0 {
			t.Fatalf("%d directories were merged\n%s", n, strings.Join(w.log, "\n"))
		}
	})
}

// TestDirectoriesOfOneNameBothStay: the younger keeps the name, the older is
// renamed on every member, each with what was in it.
func TestDirectoriesOfOneNameBothStay(t *testing.T) {
	w := newWorld(1)
	w.morph = true
	a, b := w.member("A"), w.member("B")
	for _, m := range []*member{a, b} {
		m.create(root, "d", repl.Directory, false)
		d, _, _ := m.At(root, "d")
		m.create(d.UID, "same", repl.File, false)
		m.create(d.UID, "of "+m.name, repl.File, false)
		w.now++
	}
	older, _, _ := a.At(root, "d")
	if err := exchange(true, delivery{}, a, b); err != nil {
		t.Fatal(err)
	}
	if err := w.atRest(a, b); err != nil {
		t.Fatal(err)
	}
	live := b.children(root)
	if len(live) != 2 || live[0].Name != "d" || live[1].Name != Morphed("d", older.UID) || live[1].UID != older.UID {
		t.Fatalf("left are %v", live)
	}
	for i, who := range []string{"of B", "of A"} {
		if in := b.children(live[i].UID); len(in) != 2 || in[0].Name != who || in[1].Name != "same" {
			t.Errorf("in %s lies %v", live[i].Name, in)
		}
	}
	if w.verdicts[repl.VerdictMorphed] == 0 || len(a.kept)+len(b.kept) > 0 {
		t.Errorf("verdicts %v, kept %d", w.verdicts, len(a.kept)+len(b.kept))
	}
}
