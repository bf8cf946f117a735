package scope

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"opendfs/internal/repl"
	simdisk "opendfs/internal/sim/disk"
	"opendfs/internal/volume"
)

// TestTreeIsADisk: what capture reads of the light tree is what it reads of the
// simulated disk, which passes the contract suite of the real one.
func TestTreeIsADisk(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		light := newTree()
		now := repl.Time(0)
		heavy := simdisk.New(seed, func() repl.Time { now++; return now })
		user := newDoer(1, 0)
		handles := map[string]string{} // of the light one to the heavy one
		for range 25 {
			acts := light.acts([]string{"a", "b", "c"})
			a := acts[rnd.IntN(len(acts))]
			content := tables.text[user.next%maxContents]
			if user.next == maxContents-1 {
				break
			}
			if a.Deed == Retype {
				a.To = light.objects[light.find(a.Path)].kind.String()
			}
			user.do(&light, a)
			if err := onDisk(heavy, a, content); err != nil {
				t.Fatalf("seed %d: %v: %v", seed, a, err)
			}
			compare(t, disk{t: &light}, heavy.Open(), ".", handles)
			for l, h := range handles {
				want, werr := heavy.Open().Resolve(repl.Identity{Handle: h})
				got, gerr := disk{t: &light}.Resolve(repl.Identity{Handle: l})
				if got != want || (gerr == nil) != (werr == nil) {
					t.Fatalf("seed %d: after %v %s is at %q (%v), on the disk at %q (%v)", seed, a, l, got, gerr, want, werr)
				}
			}
		}
	}
}

// onDisk carries out an act with a user's hands.
func onDisk(d *simdisk.Disk, a Act, content string) error {
	u := d.User()
	switch a.Deed {
	case Create, Edit:
		return u.WriteFile(a.Path, []byte(content))
	case Mkdir:
		return u.Mkdir(a.Path)
	case Chmod:
		return u.Chmod(a.Path, 0o700)
	case Delete:
		return u.RemoveAll(a.Path)
	case Rename, RenameOver:
		return u.Rename(a.Path, a.To)
	case Swap:
		return errors.Join(u.Rename(a.Path, "swapped"), u.Rename(a.To, a.Path), u.Rename("swapped", a.To))
	case Retype:
		if err := u.RemoveAll(a.Path); err != nil {
			return err
		}
		if a.To == repl.File.String() {
			return u.Mkdir(a.Path)
		}
		return u.WriteFile(a.Path, []byte(content))
	}
	return errors.New("no such act")
}

// compare compares a directory and all below it.
func compare(t *testing.T, light, heavy volume.Volume, path string, handles map[string]string) {
	t.Helper()
	l, lerr := light.OpenDir(path)
	h, herr := heavy.OpenDir(path)
	if lerr != nil || herr != nil {
		t.Fatalf("%s: %v, on the disk %v", path, lerr, herr)
	}
	ls, hs := list(t, l), list(t, h)
	if len(ls) != len(hs) {
		t.Fatalf("%s has %v, on the disk %v", path, ls, hs)
	}
	for name, kind := range hs {
		lst, lerr := l.Lookup(name)
		hst, herr := h.Lookup(name)
		if lerr != nil || herr != nil || ls[name] != kind || lst.Type != hst.Type || kind == repl.File && (lst.Links != hst.Links || lst.Print.Size != hst.Print.Size) {
			t.Fatalf("%s/%s: %+v (%v), on the disk %+v (%v)", path, name, lst, lerr, hst, herr)
		}
		if other, ok := handles[lst.Identity.Handle]; ok && other != hst.Identity.Handle {
			t.Fatalf("%s/%s is another object on the disk", path, name)
		}
		handles[lst.Identity.Handle] = hst.Identity.Handle
		_, lerr = l.OpenDir(name)
		_, herr = h.OpenDir(name)
		if errors.Is(lerr, volume.ErrNotDir) != errors.Is(herr, volume.ErrNotDir) {
			t.Fatalf("%s/%s as a directory: %v, on the disk %v", path, name, lerr, herr)
		}
		if kind == repl.Directory {
			compare(t, light, heavy, join(path, name), handles)
			continue
		}
		if got, want := read(t, l, name), read(t, h, name); got != want {
			t.Fatalf("%s/%s is %q, on the disk %q", path, name, got, want)
		}
	}
	_, lerr = l.Lookup("none")
	_, herr = h.Lookup("none")
	if !errors.Is(lerr, volume.ErrNotExist) || !errors.Is(herr, volume.ErrNotExist) {
		t.Fatalf("what is not there: %v, on the disk %v", lerr, herr)
	}
}

func list(t *testing.T, d volume.Dir) map[string]repl.Type {
	t.Helper()
	out := map[string]repl.Type{}
	if err := d.List(func(e volume.Entry) error { out[e.Name] = e.Type; return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t *testing.T, d volume.Dir, name string) string {
	t.Helper()
	f, err := d.OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
