package merge

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"opendfs/internal/repl"
)

// start builds two members that agree on a file, a directory and a file in it.
func start(step repl.Time) (*world, *member, *member) {
	w := newWorld(step)
	a, b := w.member("A"), w.member("B")
	a.create(root, "a", repl.File, false)
	a.create(root, "d", repl.Directory, false)
	d, _, _ := a.At(root, "d")
	a.create(d.UID, "a", repl.File, false)
	if err := exchange(false, delivery{}, a, b); err != nil {
		panic(err)
	}
	return w, a, b
}

// deliveries are the orders in which the small scope brings diffs.
var deliveries = []struct {
	together, swapped bool
	how               delivery
}{
	{false, false, delivery{}},
	{false, true, delivery{size: 1}},
	{true, false, delivery{size: 1, reverse: true}},
	{true, true, delivery{reverse: true}},
	{false, false, delivery{size: 1, reverse: true}},
	{true, false, delivery{size: 1}},
}

// TestSmallScope lets the users of two members do everything that can be done
// in a few steps with two names and a directory, apart from one another, and
// brings it together in every order. OPENDFS_MERGE_SCOPE=all takes every pair
// of sequences of two acts, in a quarter of an hour; else some of them.
func TestSmallScope(t *testing.T) {
	tried := 0
	for _, step := range []repl.Time{0, 1} {
		w, a, b := start(step)
		for _, scope := range []struct{ a, b, keepA, keepB int }{{1, 1, 1, 1}, {2, 1, 3, 3}, {2, 2, 7, 47}} {
			keepA, keepB := oneIn(scope.keepA), oneIn(scope.keepB)
			sequences(w, a, b, "A", scope.a, keepA, func(w *world, a, b *member) {
				sequences(w, a, b, "B", scope.b, keepB, func(w *world, a, b *member) {
					tried++
					meet(t, tried, w, a, b)
				})
			})
		}
	}
	t.Logf("%d histories", tried)
}

// wholeScope reports whether everything is to be tried.
func wholeScope() bool { return os.Getenv("OPENDFS_MERGE_SCOPE") == "all" }

// oneIn returns a choice of one in n, of fewer in a short run, or of all.
func oneIn(n int) func() bool {
	if testing.Short() && n > 1 {
		n *= 4
	}
	if wholeScope() {
		n = 1
	}
	count := 0
	return func() bool {
		count++
		return count%n == 0
	}
}

// sequences calls fn after every sequence of acts of one member's user that
// keep chooses.
func sequences(w *world, a, b *member, who string, depth int, keep func() bool, fn func(*world, *member, *member)) {
	if depth == 0 {
		fn(w, a, b)
		return
	}
	actor := a
	if who == "B" {
		actor = b
	}
	for i := range actor.acts([]string{"a", "d"}) {
		if depth == 1 && !keep() {
			continue
		}
		w2 := w.clone()
		a2, b2 := a.clone(w2), b.clone(w2)
		actor2 := a2
		if who == "B" {
			actor2 = b2
		}
		w2.now += w2.step
		act := actor2.acts([]string{"a", "d"})[i]
		w2.logf("%s", act.what)
		act.do()
		sequences(w2, a2, b2, who, depth-1, keep, fn)
	}
}

// meet brings two members together; which order is taken goes round, so that
// all are.
func meet(t *testing.T, n int, w *world, a, b *member) {
	t.Helper()
	for i, d := range deliveries {
		if !wholeScope() && i != n%len(deliveries) {
			continue
		}
		w := w.clone()
		a, b := a.clone(w), b.clone(w)
		members := []*member{a, b}
		if d.swapped {
			members = []*member{b, a}
		}
		err := exchange(d.together, d.how, members...)
		if err == nil {
			err = w.atRest(members...)
		}
		if err != nil {
			t.Fatalf("delivery %d: %v\n%s", i, err, strings.Join(w.log, "\n"))
		}
	}
}

// TestThirdMemberFollows has a third member take in, in pieces, what the other
// two make of their conflicts: one that only reads, and one in initial sync
// that has a tree of its own (rule 13).
func TestThirdMemberFollows(t *testing.T) {
	count := 0
	w, a, b := start(1)
	sequences(w, a, b, "A", 1, oneIn(1), func(w *world, a, b *member) {
		sequences(w, a, b, "B", 2, oneIn(53), func(w *world, a, b *member) {
			count++
			for _, kind := range []string{"reader", "newcomer"} {
				w := w.clone()
				a, b := a.clone(w), b.clone(w)
				if err := follow(w, a, b, kind, count); err != nil {
					t.Fatalf("%s: %v\n%s", kind, err, strings.Join(w.log, "\n"))
				}
			}
		})
	})
}

func follow(w *world, a, b *member, kind string, n int) error {
	c := w.member("C")
	if kind == "reader" {
		c.readOnly = true
	} else {
		c.initial = true
		c.create(root, "a", []repl.Type{repl.File, repl.Directory}[n%2], false)
		c.create(root, "d", repl.Directory, false)
		c.create(root, "x", repl.File, false)
		d, _, _ := c.At(root, "d")
		c.create(d.UID, "a", repl.File, false)
		c.create(d.UID, "d", []repl.Type{repl.File, repl.Directory}[n/2%2], false)
		if n%3 == 0 { // preseeded: the same content as the others have
			same, _, _ := a.At(root, "a")
			if mine, ok, _ := c.At(root, "a"); ok && mine.Type == repl.File && same.Type == repl.File {
				w.settled[mine.Content] = true
				c.nodeOf(mine.Identity).content = same.Content
				mine.Content = same.Content
				c.recs[mine.UID] = mine
			}
		}
	}
	how := delivery{size: n % 3, reverse: n%2 == 0}
	for _, from := range []*member{a, b} { // conflicts that it may not settle
		if err := c.pull(from.snapshot(), how); err != nil {
			return err
		}
		if err := c.sound(); err != nil {
			return err
		}
	}
	if err := exchange(n%5 == 0, how, a, b); err != nil {
		return err
	}
	if err := c.pull(a.snapshot(), how); err != nil {
		return err
	}
	if len(c.held) > 0 {
		return fmt.Errorf("C still holds %v", c.held)
	}
	if c.initial {
		c.endInitialSync()
		c.vec = a.vec.Clone() // without its own provisional versions
	}
	return w.atRest(a, b, c)
}
