package disk_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/sim/disk"
	"opendfs/internal/volume"
)

// The conflict store's stories about power cuts and full disks.

const now = repl.Time(1_800_000_000_000_000_000)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func quiet(seed uint64) *disk.Disk {
	at := now
	return disk.New(seed, func() repl.Time { at++; return at })
}

func entries(t *testing.T, s *preserve.Store) (out []preserve.Entry) {
	t.Helper()
	check(t, s.List(func(e preserve.Entry) error { out = append(out, e); return nil }))
	return out
}

func names(t *testing.T, v volume.Volume, p volume.Private) (out []string) {
	t.Helper()
	d, err := v.Private(p)
	check(t, err)
	check(t, d.List(func(e volume.Entry) error { out = append(out, e.Name); return nil }))
	check(t, d.Close())
	return out
}

// TestKilledAnywhere kills the member before each of Keep's steps, with and
// without a power cut: the object is at one place, and Tidy leaves no litter.
func TestKilledAnywhere(t *testing.T) {
	for _, why := range []preserve.Why{preserve.Conflict, preserve.Deleted, preserve.PreExisting} {
		for _, power := range []bool{false, true} {
			steps, done := 0, false
			for step := 0; !done; step++ {
				for seed := range uint64(10) {
					d := quiet(seed)
					check(t, d.User().WriteFile("f", []byte("the only copy")))
					d.SyncAll()
					done = killAt(t, d, why, step)
					if power {
						d = d.Crash(seed)
					}
					judge(t, d, fmt.Sprintf("%s, power cut %v, seed %d, step %d", why, power, seed, step), done && why != preserve.Deleted)
				}
				steps++
			}
			if steps < 5 {
				t.Fatalf("only %d steps to be killed at", steps)
			}
		}
	}
}

// killAt keeps f and kills the member before the step of that number; done
// says that there was no such step.
func killAt(t *testing.T, d *disk.Disk, why preserve.Why, step int) (done bool) {
	t.Helper()
	v := d.Open()
	r, err := v.Root()
	check(t, err)
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
	_, err = preserve.Open(v).Keep(r, "f", preserve.Entry{Why: why, At: now, Path: "f"})
	check(t, err)
	return true
}

func judge(t *testing.T, d *disk.Disk, when string, durable bool) {
	t.Helper()
	s := preserve.Open(d.Open())
	check(t, s.Tidy())
	all := entries(t, s)
	inTree := len(d.Tree(false))
	if len(all)+inTree != 1 || durable && inTree != 0 {
		t.Fatalf("%s: %d in the tree, kept %+v", when, inTree, all)
	}
	objects, manifests := 0, 0
	for _, n := range d.Tree(true) {
		if strings.HasSuffix(n.Path, ".json") {
			manifests++
		} else if n.Type == repl.File {
			objects++
			if n.Content != "the only copy" {
				t.Fatalf("%s: the object holds %q", when, n.Content)
			}
		}
	}
	if objects != 1 || manifests > len(all) {
		t.Fatalf("%s: %d objects, %d manifests, %d entries", when, objects, manifests, len(all))
	}
	if len(all) == 1 && durable && (all[0].Path != "f" || all[0].Why == preserve.LeftOver) {
		t.Fatalf("%s: entry %+v", when, all[0])
	}
}

func TestFullDiskStillKeeps(t *testing.T) {
	d := quiet(1)
	v := d.Open()
	r, err := v.Root()
	check(t, err)
	s := preserve.Open(v)
	check(t, d.User().WriteFile("f", []byte("x")))
	d.Fail = func(op, path string) error {
		if op == "write" {
			return syscall.ENOSPC
		}
		return nil
	}
	_, err = s.Keep(r, "f", preserve.Entry{Why: preserve.Conflict, At: now, Path: "a/f"})
	check(t, err)
	all := entries(t, s)
	if len(all) != 1 || all[0].Why != preserve.LeftOver || all[0].At < now {
		t.Fatalf("kept on a full disk: %+v", all)
	}
	// Other errors leave the object where it was, and no litter.
	d.Fail = nil
	check(t, d.User().WriteFile("g", []byte("x")))
	d.Fail = func(op, path string) error {
		if op == "rename" {
			return syscall.EIO
		}
		return nil
	}
	if _, err := s.Keep(r, "g", preserve.Entry{Why: preserve.Conflict, At: now, Path: "g"}); !errors.Is(err, syscall.EIO) {
		t.Fatalf("kept over an I/O error: %v", err)
	}
	d.Fail = nil
	if got := names(t, v, volume.Conflicts); len(got) != 1 {
		t.Fatalf("the store holds %v", got)
	}
	if _, err := s.Keep(r, "none", preserve.Entry{Why: preserve.Conflict, At: now}); !errors.Is(err, volume.ErrNotExist) {
		t.Fatalf("kept nothing: %v", err)
	}
}
