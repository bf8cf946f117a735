package disk

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
	"opendfs/internal/volume/volumetest"
)

func fresh(seed uint64) *Disk {
	var now repl.Time
	return New(seed, func() repl.Time { now += 1000; return now })
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSimulatedDiskKeepsTheContract(t *testing.T) {
	still := func() repl.Time { return 1_000_000_000 } // a clock that stands
	for name, clock := range map[string]func() repl.Time{"running clock": nil, "standing clock": still} {
		t.Run(name, func(t *testing.T) {
			volumetest.Test(t, func(t *testing.T) volumetest.Subject {
				d := fresh(1)
				if clock != nil {
					d.now = clock
				}
				return volumetest.Subject{
					Volume: d.Open(), User: d.User(), Resolves: true, Leases: true, Shares: true, Attrs: true,
					Mount: func(t *testing.T, path string) { check(t, d.User().Mount(path)) },
				}
			})
		})
	}
}

// place makes a file as an install does, up to the step of that number.
func place(t *testing.T, v volume.Volume, dir, name, data string, steps int) {
	t.Helper()
	at, err := v.OpenDir(dir)
	check(t, err)
	tmp, err := v.NewTemp(0, nil)
	check(t, err)
	_, err = tmp.Write([]byte(data))
	check(t, err)
	for i, step := range []func() error{tmp.Sync, func() error { return at.Link(tmp, name) }, at.Sync} {
		if i < steps {
			check(t, step())
		}
	}
	check(t, tmp.Close())
	check(t, at.Close())
}

// paths maps what a tree holds to its content.
func paths(d *Disk) map[string]string {
	m := map[string]string{}
	for _, n := range d.Tree(false) {
		m[n.Path] = n.Content
	}
	return m
}

func TestCrashKeepsWhatWasSynced(t *testing.T) {
	for seed := range uint64(200) {
		d := fresh(seed)
		check(t, d.User().Mkdir("d"))
		d.SyncAll()
		v := d.Open()
		place(t, v, "d", "kept", "synced content", 3)
		place(t, v, "d", "maybe", "synced content", 2)
		place(t, v, "d", "never", "synced content", 1)
		check(t, v.WritePrivate("marker", []byte("m")))
		after := d.Crash(seed)
		got := paths(after)
		if got["d/kept"] != "synced content" {
			t.Fatalf("seed %d: a synced file is %q", seed, got["d/kept"])
		}
		if c, is := got["d/maybe"]; is && c != "synced content" {
			t.Fatalf("seed %d: synced content under an unsynced name is %q", seed, c)
		}
		if _, is := got["d/never"]; is {
			t.Fatalf("seed %d: a nameless file got a name", seed)
		}
		if b, err := after.Open().ReadPrivate("marker"); err != nil || string(b) != "m" {
			t.Fatalf("seed %d: marker %q, %v", seed, b, err)
		}
		if _, err := v.Root(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("seed %d: the old disk still works: %v", seed, err)
		}
	}
}

func TestCrashLosesRenamesSingly(t *testing.T) {
	outcomes := map[string]int{}
	for seed := range uint64(300) {
		d := fresh(seed)
		u := d.User()
		for _, name := range []string{"a", "b", "x", "y"} {
			check(t, u.WriteFile(name, []byte(name)))
		}
		check(t, u.Mkdir("d"))
		d.SyncAll()
		check(t, u.Rename("a", "d/a"))
		check(t, u.Rename("b", "d/b"))
		root, err := d.Open().Root()
		check(t, err)
		check(t, root.Exchange("x", root, "y"))
		after := d.Crash(seed)
		got := paths(after)
		var keys []string
		for _, name := range []string{"a", "b"} {
			_, old := got[name]
			_, moved := got["d/"+name]
			if old == moved {
				t.Fatalf("seed %d: %s lies at %d places: %v", seed, name, map[bool]int{true: 2}[old], got)
			}
			keys = append(keys, fmt.Sprint(name, moved))
		}
		if (got["x"] == "x") != (got["y"] == "y") || len(got) != 5 {
			t.Fatalf("seed %d: half an exchange: %v", seed, got)
		}
		outcomes[strings.Join(keys, " ")]++
		outcomes["exchanged "+got["x"]]++
	}
	if len(outcomes) != 6 {
		t.Fatalf("not every outcome came up: %v", outcomes)
	}
}

// TestCrashRespectsWhatDependsOnWhat builds, moves and removes directories, and
// checks over many crashes that nothing durable vanishes with a lost directory.
func TestCrashRespectsWhatDependsOnWhat(t *testing.T) {
	for seed := range uint64(500) {
		d := fresh(seed)
		u := d.User()
		check(t, u.Mkdir("old"))
		check(t, u.Mkdir("p"))
		check(t, u.Mkdir("p/q"))
		check(t, u.WriteFile("old/f", []byte("f")))
		check(t, u.WriteFile("p/q/g", []byte("g")))
		d.SyncAll()
		check(t, u.Mkdir("new"))
		check(t, u.Rename("old/f", "new/f"))
		check(t, u.Remove("old"))
		check(t, u.Rename("p/q", "q"))
		check(t, u.Rename("p", "q/p")) // the child becomes the parent
		check(t, u.Rename("new/f", "q/p/f"))
		if seed%2 == 0 {
			q, err := d.Open().OpenDir("q/p")
			check(t, err)
			check(t, q.Sync())
		}
		after := d.Crash(seed)
		count := map[string]int{}
		for _, n := range after.Tree(false) {
			if n.Type == repl.File {
				count[n.Content]++
			}
		}
		if count["f"] != 1 || count["g"] != 1 {
			t.Fatalf("seed %d: files by content %v in %v", seed, count, paths(after))
		}
	}
}

func TestCrashTearsData(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(400) {
		d := fresh(seed)
		u := d.User()
		check(t, u.WriteFile("f", []byte("old old old")))
		d.SyncAll()
		before := d.Tree(false)[0].Mtime
		w, err := u.OpenForWrite("f")
		check(t, err)
		_, err = w.Write([]byte("NEW NEW NEW NEW"))
		check(t, err)
		n := d.Crash(seed).Tree(false)[0]
		kind := "torn"
		switch n.Content {
		case "old old old":
			kind = "old"
		case "NEW NEW NEW NEW":
			kind = "new"
		}
		if kind != "old" && n.Mtime == before {
			t.Fatalf("seed %d: %q under the old mtime", seed, n.Content)
		}
		if strings.Trim(strings.TrimRight(n.Content, "\x00"), "NEWold ") != "" {
			t.Fatalf("seed %d: content from nowhere: %q", seed, n.Content)
		}
		seen[kind]++
	}
	if len(seen) != 3 {
		t.Fatalf("outcomes %v", seen)
	}
}

func TestMetadataSetInPlaceIsSyncedByItsDirectory(t *testing.T) {
	lost := 0
	for seed := range uint64(100) {
		d := fresh(seed)
		check(t, d.User().WriteFile("f", nil))
		check(t, d.User().WriteFile("g", nil))
		d.SyncAll()
		root, err := d.Open().Root()
		check(t, err)
		m := volume.Meta{Mode: 0o600, Xattrs: []volume.Xattr{{Name: "user.a", Value: []byte("1")}}}
		b, err := m.Encode()
		check(t, err)
		_, _, err = root.SetMeta("f", nil, b, 7)
		check(t, err)
		check(t, root.Sync())
		_, _, err = root.SetMeta("g", nil, b, 7)
		check(t, err)
		tree := d.Crash(seed).Tree(false)
		if tree[0].Mtime != 7 || tree[0].Mode != 0o600 || len(tree[0].Xattrs) != 1 {
			t.Fatalf("seed %d: %+v", seed, tree[0])
		}
		if tree[1].Mtime != 7 {
			lost++
		}
	}
	if lost == 0 || lost == 100 {
		t.Fatalf("unsynced metadata were lost %d times of 100", lost)
	}
}

// scramble does n random things to the disk, synced or not.
func scramble(d *Disk, r *rand.Rand, n int) {
	u, v := d.User(), d.Open()
	path := func() string {
		p := string(rune('a' + r.IntN(4)))
		for r.IntN(2) == 0 {
			p += "/" + string(rune('a'+r.IntN(4)))
		}
		return p
	}
	for range n {
		// Most of these are refused; that is the point.
		switch r.IntN(12) {
		case 0, 1:
			_ = u.Mkdir(path())
		case 2, 3:
			_ = u.WriteFile(path(), fmt.Append(nil, r.Uint32()))
		case 4:
			_ = u.Append(path(), []byte("more"))
		case 5, 6, 7:
			_ = u.Rename(path(), path())
		case 8:
			_ = u.Remove(path())
		case 9:
			_ = u.Truncate(path(), int64(r.IntN(20)))
		case 10:
			if dir, err := v.OpenDir(path()); err == nil {
				_ = dir.Sync()
			}
		case 11:
			if dir, err := v.OpenDir(path()); err == nil {
				if other, err := v.OpenDir(path()); err == nil {
					_ = dir.Exchange("a", other, "b")
				}
			}
		}
	}
}

// sound checks that every inode below the roots is where its links say.
func sound(t *testing.T, d *Disk) {
	t.Helper()
	seen := map[*inode]bool{}
	var walk func(n *inode)
	walk = func(n *inode) {
		if seen[n] {
			t.Fatalf("%s is reached twice", d.path(n))
		}
		seen[n] = true
		if d.byHandle[n.id.Handle] != n {
			t.Fatalf("%s cannot be found by its handle", d.path(n))
		}
		for i, e := range n.entries {
			if len(e.n.links) != 1 || e.n.links[0] != (link{n, e.name}) || n.find(e.name) != i {
				t.Fatalf("entry %s of %s: links %v", e.name, d.path(n), e.n.links)
			}
			walk(e.n)
		}
	}
	walk(d.root)
	walk(d.outside)
	if len(seen) != len(d.byHandle) {
		t.Fatalf("%d objects are reached, %d are known", len(seen), len(d.byHandle))
	}
}

func TestCrashesLeaveASoundTree(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		d := fresh(seed)
		for range 4 {
			scramble(d, r, 60)
			sound(t, d)
			d = d.Crash(r.Uint64())
			sound(t, d)
			before := d.Tree(true)
			d = d.Crash(r.Uint64())
			if !reflect.DeepEqual(d.Tree(true), before) {
				t.Fatalf("seed %d: a crash right after the boot changed the tree", seed)
			}
		}
	}
}

func TestSameSeedSameDisk(t *testing.T) {
	run := func() []Node {
		r := rand.New(rand.NewPCG(5, 3))
		d := fresh(5)
		for range 5 {
			scramble(d, r, 100)
			d = d.Crash(r.Uint64())
		}
		return d.Tree(true)
	}
	first := run()
	for range 3 {
		if again := run(); !reflect.DeepEqual(first, again) {
			t.Fatalf("two runs of one seed differ:\n%v\n%v", first, again)
		}
	}
	if len(first) < 10 {
		t.Fatalf("only %d objects to compare", len(first))
	}
}

func TestSnapshotsDoNotShareChanges(t *testing.T) {
	d := fresh(1)
	u := d.User()
	check(t, u.WriteFile("f", []byte("one")))
	held, err := u.OpenForWrite("f")
	check(t, err)
	id := d.Tree(false)[0].Identity
	snap := d.Snapshot()
	check(t, u.Append("f", []byte(" two")))
	check(t, snap.User().Append("f", []byte(" three")))
	_, err = held.Write([]byte("X"))
	check(t, err)
	if a, b := paths(d)["f"], paths(snap)["f"]; a != "Xne two" || b != "one three" {
		t.Fatalf("disk has %q, snapshot %q", a, b)
	}
	check(t, u.WriteFile("g", nil))
	v := d.Open()
	d.Restore(snap)
	if tree := d.Tree(false); len(tree) != 1 || tree[0].Content != "one three" || tree[0].Identity != id {
		t.Fatalf("restored %+v", tree)
	}
	if _, err := v.Root(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("what was open before still works: %v", err)
	}
	// What is made now is not what was made after the snapshot.
	check(t, u.WriteFile("g", nil))
	sound(t, d)
	if paths(snap)["f"] != "one three" || len(paths(snap)) != 1 {
		t.Fatalf("the snapshot changed: %v", paths(snap))
	}
}

func TestHooks(t *testing.T) {
	d := fresh(1)
	u := d.User()
	check(t, u.Mkdir("d"))
	for i := range 10 {
		check(t, u.WriteFile(fmt.Sprintf("d/%d", i), nil))
	}
	v := d.Open()
	dir, err := v.OpenDir("d")
	check(t, err)

	d.Fail = func(op, path string) error {
		if op == "list rest" && path == "d" {
			return syscall.EIO
		}
		if op == "mkdir" && path == "d/full" {
			return syscall.ENOSPC
		}
		return nil
	}
	n := 0
	if err := dir.List(func(volume.Entry) error { n++; return nil }); !errors.Is(err, syscall.EIO) || n != 5 {
		t.Fatalf("a failing listing: %d entries, error %v", n, err)
	}
	if err := dir.Mkdir("full"); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("a full disk: %v", err)
	}
	d.Fail = nil

	var heard []string
	d.Journal = func(handle []byte, path, name string, wrote bool) {
		if d.byHandle[string(handle)] == nil {
			t.Errorf("event for an unknown directory %s", path)
		}
		heard = append(heard, fmt.Sprint(path, ":", name, ":", wrote))
	}
	check(t, u.Rename("d/1", "one"))
	check(t, u.Append("one", []byte("x")))
	check(t, dir.Mkdir("m"))
	want := "d:1:false .:one:false .:one:true d:m:false"
	if got := strings.Join(heard, " "); got != want {
		t.Fatalf("journal heard %s, want %s", got, want)
	}
	d.Journal = nil

	// The user acts between a verdict and the operation.
	d.Yield = func(op string) {
		if op == "rename" {
			d.Yield = nil
			check(t, u.WriteFile("two", []byte("user's")))
		}
	}
	root, err := v.Root()
	check(t, err)
	if err := dir.Rename("2", root, "two"); !errors.Is(err, volume.ErrExist) {
		t.Fatalf("rename over a user's new file: %v", err)
	}

	// Killed in the middle; what it cleans up while it unwinds has no effect.
	d.Yield = func(op string) {
		if op == "rmdir" {
			panic("killed")
		}
	}
	func() {
		defer func() {
			if recover() != "killed" {
				t.Error("it was not killed")
			}
		}()
		defer func() { _ = dir.Rename("3", root, "cleaned up") }()
		_ = dir.Rmdir("m")
	}()
	got := paths(d)
	if _, there := got["d/m"]; !there || got["two"] != "user's" {
		t.Fatalf("after the kill: %v", got)
	}
	if _, cleaned := got["cleaned up"]; cleaned {
		t.Fatal("a dead process moved a file")
	}
}

func TestOutside(t *testing.T) {
	d := fresh(1)
	u := d.User()
	check(t, u.Mkdir("d"))
	check(t, u.WriteFile("d/f", []byte("x")))
	v := d.Open()
	dir, err := v.OpenDir("d")
	check(t, err)
	st, err := dir.Lookup("f")
	check(t, err)
	check(t, u.Rename("d", "../d"))
	if _, err := v.Resolve(st.Identity); !errors.Is(err, volume.ErrOutside) {
		t.Fatalf("resolve what was moved away: %v", err)
	}
	if _, err := dir.Lookup("f"); err != nil {
		t.Fatalf("an open directory outside: %v", err)
	}
	check(t, u.Rename("../d/f", "back"))
	if path, err := v.Resolve(st.Identity); err != nil || path != "back" {
		t.Fatalf("back at %q, error %v", path, err)
	}
	d.LoseRoot(true)
	if _, err := v.Root(); !errors.Is(err, volume.ErrUnmounted) {
		t.Fatalf("root of an unmounted volume: %v", err)
	}
}

// TestContentIsWhatAModelSays compares random writes, with copies and syncs in
// between that make buffers shared, with plain slices.
func TestContentIsWhatAModelSays(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 4))
		d := fresh(seed)
		check(t, d.User().WriteFile("f", nil))
		var model []byte
		type frozen struct {
			d    *Disk
			want []byte
		}
		var copies []frozen
		for range 60 {
			switch r.IntN(5) {
			case 0:
				size := r.IntN(30)
				check(t, d.User().Truncate("f", int64(size)))
				grown := make([]byte, size)
				copy(grown, model)
				model = grown
			case 1:
				d.SyncAll()
			case 2:
				copies = append(copies, frozen{d.Snapshot(), bytes.Clone(model)})
			case 3:
				check(t, d.User().Append("f", []byte{byte(r.Uint32()) | 1}))
				model = append(bytes.Clone(model), d.root.child("f").data[len(model)])
			default:
				off, p := r.IntN(20), fmt.Append(nil, r.Uint32())
				d.write(d.root.child("f"), p, int64(off))
				if end := off + len(p); end > len(model) {
					model = append(model, make([]byte, end-len(model))...)
				}
				copy(model[off:], p)
			}
			if got, err := d.User().Read("f"); err != nil || !bytes.Equal(got, model) {
				t.Fatalf("seed %d: file is %x, model %x", seed, got, model)
			}
		}
		for _, c := range copies {
			if got, err := c.d.User().Read("f"); err != nil || !bytes.Equal(got, c.want) {
				t.Fatalf("seed %d: snapshot has %x, want %x", seed, got, c.want)
			}
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	d := fresh(1)
	if err := d.User().WriteFile("f", nil); err != nil {
		b.Fatal(err)
	}
	root, err := d.Open().Root()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := root.Lookup("f"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInstall(b *testing.B) {
	d := fresh(1)
	v := d.Open()
	area, err := v.Private(volume.Installing)
	if err != nil {
		b.Fatal(err)
	}
	m := volume.Meta{Mode: 0o644}
	meta, err := m.Encode()
	if err != nil {
		b.Fatal(err)
	}
	data := []byte("content of a small file")
	b.ReportAllocs()
	for b.Loop() {
		t, err := v.NewTemp(0, nil)
		if err == nil {
			_, err = t.Write(data)
		}
		if err == nil {
			_, err = t.SetMeta(meta, 1)
		}
		if err := errors.Join(err, t.Sync(), area.Link(t, "f"), t.Close(), area.Sync(), area.Remove("f"), area.Sync()); err != nil {
			b.Fatal(err)
		}
	}
}
