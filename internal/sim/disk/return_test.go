package disk_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/sim/disk"
)

// TestKilledWhileRestoring kills the member before each step of a restore, with
// and without a power cut: to a place that is free, whose directories are gone,
// and over what a user has there. Nothing is lost, and a place that was taken is
// never empty.
func TestKilledWhileRestoring(t *testing.T) {
	for _, taken := range []bool{false, true} {
		for _, power := range []bool{false, true} {
			steps, done := 0, false
			for step := 0; !done; step++ {
				for seed := range uint64(10) {
					d := quiet(seed)
					keepOne(t, d, taken)
					done = returnAt(t, d, step)
					if power {
						d = d.Crash(seed)
					}
					judgeReturn(t, d, fmt.Sprintf("taken %v, power cut %v, seed %d, step %d", taken, power, seed, step), taken, done)
				}
				steps++
			}
			if steps < 8 {
				t.Fatalf("only %d steps to be killed at", steps)
			}
		}
	}
}

// keepOne keeps a file of the path a/f, durably; a user has another there.
func keepOne(t *testing.T, d *disk.Disk, taken bool) {
	t.Helper()
	check(t, d.User().WriteFile("f", []byte("kept")))
	v := d.Open()
	r, err := v.Root()
	check(t, err)
	_, err = preserve.Open(v).Keep(r, "f", preserve.Entry{Why: preserve.PreExisting, At: now, Path: "a/f"})
	check(t, err)
	if taken {
		check(t, d.User().Mkdir("a"))
		check(t, d.User().WriteFile("a/f", []byte("a user's")))
	}
	d.SyncAll()
}

// returnAt restores and kills the member before the step of that number.
func returnAt(t *testing.T, d *disk.Disk, step int) (done bool) {
	t.Helper()
	s := preserve.Open(d.Open())
	e := entries(t, s)[0]
	n := 0
	d.Yield = func(string) {
		if n++; n > step {
			panic("killed")
		}
	}
	defer func() {
		d.Yield = nil
		if r := recover(); r != nil && r != "killed" {
			panic(r)
		}
	}()
	r, err := s.Return(preserve.ReturnOptions{Now: now + 1, Overwrite: true, Known: func(string) repl.Update { return repl.Update{} }})
	check(t, err)
	check(t, r.Put(e, e.Path))
	check(t, r.Close())
	return true
}

func judgeReturn(t *testing.T, d *disk.Disk, when string, taken, done bool) {
	t.Helper()
	s := preserve.Open(d.Open())
	check(t, s.Tidy())
	var there string // what the tree has
	for _, n := range d.Tree(false) {
		if n.Type == repl.File && n.Path == "a/f" {
			there = n.Content
		}
	}
	var all []string
	for _, n := range d.Tree(true) {
		if n.Type == repl.File && !strings.HasSuffix(n.Path, ".json") {
			all = append(all, n.Content)
		}
	}
	slices.Sort(all)
	want := []string{"kept"}
	if taken {
		want = []string{"a user's", "kept"}
	}
	kept := entries(t, s)
	switch {
	case !slices.Equal(all, want):
		t.Fatalf("%s: of %q there is %q", when, want, all)
	case taken && there == "":
		t.Fatalf("%s: the place is empty", when)
	case done && there != "kept":
		t.Fatalf("%s: the place holds %q", when, there)
	case there == "" && len(kept) != 1, there != "" && len(kept) != len(want)-1:
		t.Fatalf("%s: the place holds %q, kept is %+v", when, there, kept)
	case done && taken && (kept[0].Why != preserve.Replaced || kept[0].Path != "a/f"):
		t.Fatalf("%s: what was replaced is kept as %+v", when, kept[0])
	}
	for _, e := range kept {
		if e.Why == preserve.LeftOver {
			t.Fatalf("%s: an object lacks its manifest: %+v", when, e)
		}
	}
}
