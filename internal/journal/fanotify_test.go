package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFanotifyTellsEveryChange(t *testing.T) {
	for name, mount := range map[string]func(testing.TB) string{
		"tmpfs": tmpfs,
		"ext4":  func(t testing.TB) string { return image(t, "ext4", 32<<20) },
		"xfs":   func(t testing.TB) string { return image(t, "xfs", 320<<20) },
	} {
		t.Run(name, func(t *testing.T) { everyChange(t, folder(t, filepath.Join(mount(t), "tree"))) })
	}
}

func everyChange(t *testing.T, root string) {
	j := open(t, root, Options{Only: Fanotify})
	if j.Kind() != Fanotify || j.Reason() != "" {
		t.Fatalf("kind %v, reason %q", j.Kind(), j.Reason())
	}
	p := func(rel string) string { return filepath.Join(root, rel) }
	settle(t, j)

	step := func(name string, do func(), lines ...string) []Dirty {
		t.Helper()
		do()
		d := settle(t, j)
		before := t.Failed()
		want(t, d, lines...)
		if !before && t.Failed() {
			t.Fatalf("after: %s", name)
		}
		return d
	}

	d := step("create", func() { write(t, p("a"), "1") }, "./a wrote")
	if !bytes.Equal(d[0].Dir, handleOf(t, root)) || !bytes.Equal(d[0].Child, handleOf(t, p("a"))) {
		t.Errorf("handles %x, %x are not those of the root and the file", d[0].Dir, d[0].Child)
	}
	step("nothing", func() {})
	step("write", func() { write(t, p("a"), "2") }, "./a wrote")
	step("chmod", func() { must(t, os.Chmod(p("a"), 0o600)) }, "./a")
	step("read", func() { _, err := os.ReadFile(p("a")); must(t, err) })
	step("mkdir", func() { must(t, os.Mkdir(p("d"), 0o755)) }, "./d")
	step("chmod of a directory", func() { must(t, os.Chmod(p("d"), 0o700)) }, "d/.")
	step("chmod of the root", func() { must(t, os.Chmod(root, 0o750)) }, "./.")
	step("mkdir -p and a file at once", func() {
		must(t, os.MkdirAll(p("x/y/z"), 0o755))
		write(t, p("x/y/z/f"), "")
	}, "./x", "x/y", "x/y/z", "x/y/z/f wrote")

	d = step("rename of a file", func() { must(t, os.Rename(p("a"), p("d/b"))) }, "./a", "d/b")
	if b := handleOf(t, p("d/b")); !hasChild(d, "a", b) || !hasChild(d, "b", b) {
		t.Errorf("both places of a rename carry the child's handle: %+v", d)
	}
	step("rename of a directory", func() { must(t, os.Rename(p("d"), p("x/e"))) }, "./d", "x/e")
	step("write below it", func() { write(t, p("x/e/b"), "3") }, "x/e/b wrote")

	write(t, p("over"), "4")
	settle(t, j)
	step("rename over a file", func() { must(t, os.Rename(p("over"), p("x/e/b"))) }, "./over", "x/e/b")
	step("exchange", func() {
		write(t, p("new"), "5")
		must(t, unix.Renameat2(unix.AT_FDCWD, p("new"), unix.AT_FDCWD, p("x/e/b"), unix.RENAME_EXCHANGE))
		must(t, os.Remove(p("new")))
	}, "./new wrote", "x/e/b")

	step("symlink", func() { must(t, os.Symlink("nowhere", p("s"))) }, "./s")
	step("fifo", func() { must(t, unix.Mkfifo(p("fifo"), 0o600)) }, "./fifo")
	d = step("hard link by another process", func() { run(t, root, "ln x/e/b h") }, "./h", "<child>")
	if !hasChild(d, "", handleOf(t, p("h"))) {
		t.Errorf("the nameless one is not the linked file: %+v", d)
	}
	step("unlink of one link", func() { run(t, root, "rm h") }, "./h", "<child>")
	step("delete", func() { run(t, root, "rm x/e/b s fifo") }, "x/e/b", "./s", "./fifo")
	must(t, os.RemoveAll(p("x"))) // a directory that is gone when its event is read has no path
	var names []string
	for _, d := range settle(t, j) {
		names = append(names, d.Name)
	}
	if slices.Sort(names); !slices.Equal(names, []string{"e", "f", "x", "y", "z"}) {
		t.Errorf("delete of a tree: %q", names)
	}

	d = step("O_TMPFILE, linkat, write, close", func() { linkedTemporary(t, root, p("t")) },
		"./# wrote", "./t", "<child> wrote")
	if !hasChild(d, "", handleOf(t, p("t"))) {
		t.Errorf("the late close is not told by handle: %+v", d)
	}
	step("the private area", func() {
		must(t, os.Mkdir(p(".dfsr/staging"), 0o700))
		write(t, p(".dfsr/staging/f"), "6")
		must(t, os.Chmod(p(".dfsr"), 0o700))
	})
	step("install of a file", func() { linkedTemporary(t, p(".dfsr/staging"), p("installed")) }, "./installed")
	step("a directory in the private area", func() {
		must(t, os.Mkdir(p(".dfsr/staging/dir"), 0o700))
		write(t, p(".dfsr/staging/dir/f"), "7")
	})
	step("install of it", func() {
		must(t, os.Rename(p(".dfsr/staging/dir"), p("dir")))
	}, "./dir tree")
	step("a user's .dfsr deeper down", func() {
		must(t, os.Mkdir(p("dir/.dfsr"), 0o755))
		write(t, p("dir/.dfsr/f"), "8")
	}, "dir/.dfsr", "dir/.dfsr/f wrote")
	step("a move out to the private area", func() { must(t, os.Rename(p("dir"), p(".dfsr/staging/dir"))) }, "./dir")
}

func TestFanotifyFoldersOfOneFilesystemGetOnlyTheirOwn(t *testing.T) {
	fs := tmpfs(t)
	one, two := folder(t, filepath.Join(fs, "one")), folder(t, filepath.Join(fs, "one-two"))
	must(t, os.MkdirAll(filepath.Join(fs, "else/d"), 0o755))
	hub := NewHub()
	j1, j2 := open(t, one, Options{Hub: hub, Only: Fanotify}), open(t, two, Options{Hub: hub, Only: Fanotify})
	if len(hub.groups) != 1 {
		t.Errorf("%d groups for one filesystem", len(hub.groups))
	}
	write(t, filepath.Join(one, "a"), "")
	write(t, filepath.Join(two, "b"), "")
	write(t, filepath.Join(fs, "else/d/c"), "")
	want(t, settle(t, j1), "./a wrote")
	want(t, settle(t, j2), "./b wrote")

	// Between the folders, and from outside with what was changed there.
	must(t, os.Mkdir(filepath.Join(one, "sub"), 0o755))
	write(t, filepath.Join(one, "sub/f"), "")
	want(t, settle(t, j1), "./sub", "sub/f wrote")
	must(t, os.Rename(filepath.Join(one, "sub"), filepath.Join(two, "sub")))
	want(t, settle(t, j1), "./sub")
	want(t, settle(t, j2), "./sub tree")
	must(t, os.Rename(filepath.Join(two, "sub"), filepath.Join(two, "bus")))
	want(t, settle(t, j2), "./bus", "./sub")
	must(t, os.Rename(filepath.Join(fs, "else/d"), filepath.Join(one, "d")))
	write(t, filepath.Join(one, "d/c"), "new")
	want(t, settle(t, j1), "./d tree", "d/c wrote")
	want(t, settle(t, j2))

	// A file that lies in one folder and outside, written outside.
	must(t, os.Link(filepath.Join(one, "a"), filepath.Join(fs, "else/link")))
	settle(t, j1)
	settle(t, j2)
	write(t, filepath.Join(fs, "else/link"), "through the other link")
	if d := settle(t, j1); !hasChild(d, "", handleOf(t, filepath.Join(one, "a"))) || !d[0].Wrote {
		t.Errorf("the write through a foreign link gave %+v", d)
	}

	// The root itself moves: its folder goes on.
	must(t, os.Rename(one, filepath.Join(fs, "moved")))
	write(t, filepath.Join(fs, "moved/d/c"), "again")
	if got := show(settle(t, j1)); !strings.Contains(got, "d/c wrote") {
		t.Errorf("after a move of the root: %q", got)
	}
	must(t, j1.Close())
	write(t, filepath.Join(two, "b"), "2")
	if got := show(settle(t, j2)); !strings.Contains(got, "./b wrote") {
		t.Errorf("after the neighbour has closed: %q", got)
	}
	must(t, j2.Close())
	if len(hub.groups) != 0 {
		t.Errorf("%d groups without a journal", len(hub.groups))
	}
}

func TestFanotifyGoneDirectoryIsToldWhereItIsKnown(t *testing.T) {
	fs := tmpfs(t)
	one, two := folder(t, filepath.Join(fs, "one")), folder(t, filepath.Join(fs, "two"))
	must(t, os.Mkdir(filepath.Join(one, "d"), 0o755))
	write(t, filepath.Join(one, "d/f"), "")
	dir := handleOf(t, filepath.Join(one, "d"))
	knows := func(h []byte) bool { return bytes.Equal(h, dir) }
	hub := NewHub()
	j1 := open(t, one, Options{Hub: hub, Only: Fanotify, Known: knows})
	j2 := open(t, two, Options{Hub: hub, Only: Fanotify, Known: func([]byte) bool { return false }})

	// The reader is held until the directory is gone.
	g := hub.groups[j1.(*subscriber).tree.device]
	g.mu.Lock()
	must(t, os.RemoveAll(filepath.Join(one, "d")))
	g.mu.Unlock()
	d := settle(t, j1)
	want(t, d, "./d", "/f")
	i := slices.IndexFunc(d, func(d Dirty) bool { return d.Name == "f" })
	if !bytes.Equal(d[i].Dir, dir) {
		t.Errorf("the gone directory's handle is %x, want %x", d[i].Dir, dir)
	}
	want(t, settle(t, j2))
}

// What happens beside hundreds of folders costs what it would cost beside one: no
// folder is asked about directories that were made where none lies, even when they
// are gone before anybody looked, and a place is kept for the folder that it is in.
func TestFanotifyCostsTheSameBesideManyFolders(t *testing.T) {
	fs := tmpfs(t)
	hub := NewHub()
	asked := 0
	var all []Journal
	for i := range 50 {
		root := folder(t, filepath.Join(fs, "in", fmt.Sprint(i)))
		all = append(all, open(t, root, Options{Hub: hub, Only: Fanotify, Known: func([]byte) bool { asked++; return false }}))
	}
	must(t, os.Mkdir(filepath.Join(fs, "else"), 0o755))
	want(t, settle(t, all[0]))
	g := hub.groups[all[0].(*subscriber).tree.device]

	g.mu.Lock() // the reader is held until everything is gone
	deep := filepath.Join(fs, "else/a/b/c")
	must(t, os.MkdirAll(deep, 0o755))
	write(t, filepath.Join(deep, "f"), "")
	must(t, os.RemoveAll(filepath.Join(fs, "else/a")))
	g.mu.Unlock()
	want(t, settle(t, all[0]))
	g.mu.Lock()
	if asked > 0 {
		t.Errorf("folders were asked %d times about what was never theirs", asked)
	}
	for _, v := range g.cache.young {
		if len(v.at) > 1 {
			t.Errorf("a directory of one folder has %d places", len(v.at))
		}
	}
	g.mu.Unlock()

	// From there into a folder, and to the root of one that lies in another.
	must(t, os.MkdirAll(filepath.Join(fs, "else/new/sub"), 0o755))
	write(t, filepath.Join(fs, "else/new/sub/f"), "")
	must(t, os.Rename(filepath.Join(fs, "else/new"), filepath.Join(fs, "in/7/new")))
	want(t, settle(t, all[7]), "./new tree")
	write(t, filepath.Join(fs, "in/7/new/sub/f"), "again")
	want(t, settle(t, all[7]), "new/sub/f wrote")
	must(t, os.Rename(filepath.Join(fs, "in/7/new/sub"), filepath.Join(fs, "in/8/sub")))
	write(t, filepath.Join(fs, "in/8/sub/f"), "and again")
	want(t, settle(t, all[7]), "new/sub")
	want(t, settle(t, all[8]), "./sub tree", "sub/f wrote")
	nested := folder(t, filepath.Join(fs, "in/7/new/nested"))
	inner := open(t, nested, Options{Hub: hub, Only: Fanotify})
	settle(t, all[7])
	write(t, filepath.Join(nested, "g"), "")
	want(t, settle(t, inner), "./g wrote")
	if got := show(settle(t, all[7])); !strings.Contains(got, "new/nested/g wrote") {
		t.Errorf("the outer of two folders was told %q", got)
	}
}

func TestFanotifyBindMount(t *testing.T) {
	fs := tmpfs(t)
	must(t, os.MkdirAll(filepath.Join(fs, "data/tree/d"), 0o755))
	bind := t.TempDir()
	must(t, unix.Mount(filepath.Join(fs, "data"), bind, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(bind, 0)) })
	j := open(t, folder(t, filepath.Join(bind, "tree")), Options{Only: Fanotify})
	write(t, filepath.Join(fs, "data/tree/d/f"), "by the other mount")
	write(t, filepath.Join(fs, "data/beside"), "")
	write(t, filepath.Join(fs, "above"), "")
	want(t, settle(t, j), "d/f wrote")
	must(t, j.Close())
}

func TestFanotifyOverflowIsAGapForAll(t *testing.T) {
	fs := tmpfs(t)
	hub := NewHub()
	j1 := open(t, folder(t, filepath.Join(fs, "one")), Options{Hub: hub, Only: Fanotify})
	j2 := open(t, folder(t, filepath.Join(fs, "two")), Options{Hub: hub, Only: Fanotify})
	write(t, filepath.Join(fs, "one/a"), "")
	settled, err := j1.Drain(deadline(t))
	must(t, err)
	g := hub.groups[j1.(*subscriber).tree.device]
	g.mu.Lock() // as the kernel says it: no handle, no name
	g.deliverAll(packEvent(event{mask: unix.FAN_Q_OVERFLOW}))
	g.mu.Unlock()
	for _, j := range []Journal{j1, j2} {
		b, err := j.Next(deadline(t))
		must(t, err)
		if b.Gap == nil || len(b.Dirty) != 0 || b.Token != 2 || b.Token < settled && j == j1 {
			t.Errorf("after overflow: %+v", b)
		}
	}
	write(t, filepath.Join(fs, "one/b"), "")
	token, err := j1.Drain(deadline(t))
	must(t, err)
	b, err := j1.Next(deadline(t))
	must(t, err)
	if b.Token != token {
		t.Errorf("batch %d, Drain said %d", b.Token, token)
	}
	want(t, b.Dirty, "./b wrote")

	g.mu.Lock() // bytes without sense may have hidden events
	g.deliverAll([]byte("no event"))
	g.mu.Unlock()
	if b, err = j1.Next(deadline(t)); err != nil || b.Gap == nil || !strings.Contains(b.Gap.Reason, "malformed") {
		t.Errorf("after nonsense: %+v, %v", b, err)
	}
}

func TestFanotifyDrainCoversEveryEarlierClose(t *testing.T) {
	root := folder(t, filepath.Join(tmpfs(t), "tree"))
	j := open(t, root, Options{Only: Fanotify})
	seen := map[string]bool{}
	var read uint64 = 1
	for round := range 20 {
		name := func(i int) string { return strings.Repeat("r", round+1) + strings.Repeat("x", i) }
		for i := range 50 {
			write(t, filepath.Join(root, name(i)), "")
		}
		token, err := j.Drain(deadline(t))
		must(t, err)
		for read < token {
			b, err := j.Next(deadline(t))
			must(t, err)
			read = b.Token
			for _, d := range b.Dirty {
				seen[d.Name] = true
			}
		}
		for i := range 50 {
			if !seen[name(i)] {
				t.Fatalf("round %d: file %d was closed before Drain and is not in batches up to %d", round, i, token)
			}
		}
	}
}

func TestFanotifyDrainOnAFullDisk(t *testing.T) {
	fs := image(t, "ext4", 8<<20)
	root := folder(t, filepath.Join(fs, "tree"))
	j := open(t, root, Options{Only: Fanotify})
	f, err := os.Create(filepath.Join(root, "big"))
	must(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	must(t, f.Close())
	want(t, settle(t, j), "./big wrote")
}

func TestFanotifyCloseWakesNextAndDrain(t *testing.T) {
	root := folder(t, filepath.Join(tmpfs(t), "tree"))
	j := open(t, root, Options{Only: Fanotify})
	woken := make(chan error)
	go func() {
		_, err := j.Next(context.Background())
		woken <- err
	}()
	must(t, j.Close())
	if err := <-woken; !errors.Is(err, ErrClosed) {
		t.Errorf("Next returned %v", err)
	}
	if _, err := j.Drain(deadline(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("Drain returned %v", err)
	}
	must(t, j.Close())
	if left, err := os.ReadDir(filepath.Join(root, privateName)); err != nil || len(left) != 0 {
		t.Errorf("the closed journal leaves %v, %v", left, err)
	}
}

func TestBtrfsAndOverlayFallBackToInotify(t *testing.T) {
	t.Run("overlay", func(t *testing.T) {
		fs := tmpfs(t)
		for _, d := range []string{"lower", "upper", "work", "mnt"} {
			must(t, os.Mkdir(filepath.Join(fs, d), 0o755))
		}
		mnt := filepath.Join(fs, "mnt")
		o := "lowerdir=" + fs + "/lower,upperdir=" + fs + "/upper,workdir=" + fs + "/work"
		if err := unix.Mount("overlay", mnt, "overlay", 0, o); err != nil {
			t.Skipf("no overlayfs here: %v", err)
		}
		t.Cleanup(func() { must(t, unix.Unmount(mnt, 0)) })
		fallsBack(t, folder(t, filepath.Join(mnt, "tree")))
	})
	t.Run("btrfs subvolume", func(t *testing.T) {
		fs := image(t, "btrfs", 120<<20)
		run(t, fs, "btrfs -q subvolume create sub")
		j := open(t, folder(t, filepath.Join(fs, "top")), Options{})
		if j.Kind() != Fanotify {
			t.Errorf("the top of btrfs is %v: %s", j.Kind(), j.Reason())
		}
		write(t, filepath.Join(fs, "top/f"), "")
		want(t, settle(t, j), "./f wrote")
		must(t, j.Close())
		fallsBack(t, folder(t, filepath.Join(fs, "sub")))
	})
}

func fallsBack(t *testing.T, root string) {
	t.Helper()
	j := open(t, root, Options{})
	if j.Kind() != Inotify || !strings.HasPrefix(j.Reason(), "fanotify: ") {
		t.Fatalf("kind %v, reason %q", j.Kind(), j.Reason())
	}
	t.Log(j.Reason())
	write(t, filepath.Join(root, "f"), "")
	want(t, settle(t, j), "./f wrote")
	must(t, j.Close())
}
