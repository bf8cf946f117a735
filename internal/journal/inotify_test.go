package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestInotifyTellsEveryChange(t *testing.T) {
	root := folder(t, t.TempDir())
	p := func(rel string) string { return filepath.Join(root, rel) }
	must(t, os.MkdirAll(p("old/deep"), 0o755))
	j := open(t, root, Options{Only: Inotify})
	if j.Kind() != Inotify {
		t.Fatalf("kind %v: %s", j.Kind(), j.Reason())
	}
	step := func(name string, do func(), lines ...string) {
		t.Helper()
		do()
		d := settle(t, j)
		before := t.Failed()
		want(t, d, lines...)
		if !before && t.Failed() {
			t.Fatalf("after: %s", name)
		}
	}
	step("create below what was there", func() { write(t, p("old/deep/a"), "1") }, "old/deep/a wrote")
	step("chmod", func() { must(t, os.Chmod(p("old/deep/a"), 0o600)) }, "old/deep/a")
	step("chmod of a directory", func() { must(t, os.Chmod(p("old/deep"), 0o700)) }, "old/deep")
	step("chmod of the root", func() { must(t, os.Chmod(root, 0o750)) }, "./.")
	step("read", func() { _, err := os.ReadFile(p("old/deep/a")); must(t, err) })
	step("mkdir", func() { must(t, os.Mkdir(p("d"), 0o755)) }, "./d tree")
	step("write in it", func() { write(t, p("d/f"), "2") }, "d/f wrote")
	step("rename of a file", func() { must(t, os.Rename(p("d/f"), p("g"))) }, "./g", "d/f")
	step("rename of a directory", func() { must(t, os.Rename(p("old"), p("d/new"))) }, "./old", "d/new tree")
	step("write below it", func() { write(t, p("d/new/deep/a"), "3") }, "d/new/deep/a wrote")
	step("rename over", func() { must(t, os.Rename(p("g"), p("d/new/deep/a"))) }, "./g", "d/new/deep/a")
	step("symlink to a directory", func() { must(t, os.Symlink("d", p("s"))) }, "./s")
	step("hard link", func() { must(t, os.Link(p("d/new/deep/a"), p("h"))) }, "./h")
	step("delete", func() { must(t, os.Remove(p("h"))); must(t, os.Remove(p("s"))) }, "./h", "./s")
	step("delete of a tree", func() { must(t, os.RemoveAll(p("d/new"))) },
		"d/new", "d/new/deep", "d/new/deep/a")
	step("again by that name", func() {
		must(t, os.Mkdir(p("d/new"), 0o755))
		settle(t, j)
		write(t, p("d/new/x"), "4")
	}, "d/new/x wrote")
	step("the private area", func() {
		must(t, os.Mkdir(p(".dfsr/staging"), 0o700))
		write(t, p(".dfsr/staging/f"), "5")
		must(t, os.Mkdir(p(".dfsr/staging/dir"), 0o700))
		write(t, p(".dfsr/staging/dir/f"), "6")
	})
	step("install of a directory", func() { must(t, os.Rename(p(".dfsr/staging/dir"), p("dir"))) }, "./dir tree")
	step("write in it", func() { write(t, p("dir/f"), "7") }, "dir/f wrote")
	step("a move out", func() { must(t, os.Rename(p("dir"), p(".dfsr/staging/dir"))) }, "./dir")
	step("a write outside", func() { write(t, p(".dfsr/staging/dir/f"), "8") })
	step("O_TMPFILE and linkat", func() { linkedTemporary(t, p(".dfsr/staging"), p("t")) }, "./t")
	w := len(watchedPaths(j))
	if w != 4 { // root, .dfsr, d, d/new
		t.Errorf("%d directories are watched: %q", w, watchedPaths(j))
	}
}

// watchedPaths asks the kernel how many watches the journal has.
func watchedPaths(j Journal) (lines []string) {
	in := j.(*inotifyJournal)
	c, err := in.file.SyscallConn()
	if err != nil {
		return nil
	}
	_ = c.Control(func(fd uintptr) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
		for line := range bytes.Lines(b) {
			if bytes.HasPrefix(line, []byte("inotify wd:")) {
				lines = append(lines, string(line))
			}
		}
	})
	return lines
}

// Directories and a file made at once: every place is either named or below a
// directory that is reported as a tree after it was there.
func TestInotifyMissesNothingInNewDirectories(t *testing.T) {
	root := folder(t, t.TempDir())
	j := open(t, root, Options{Only: Inotify})
	var all []Dirty
	for i := range 200 {
		must(t, os.MkdirAll(filepath.Join(root, fmt.Sprintf("%d/b/c", i)), 0o755))
		write(t, filepath.Join(root, fmt.Sprintf("%d/b/c/f", i)), "x")
		if i%3 == 0 { // away and back under another name, while it is being watched
			must(t, os.Rename(filepath.Join(root, fmt.Sprint(i)), filepath.Join(root, fmt.Sprintf("moved-%d", i))))
			write(t, filepath.Join(root, fmt.Sprintf("moved-%d/b/c/g", i)), "y")
		}
	}
	all = settle(t, j)
	trees, named := map[string]bool{}, map[string]bool{}
	for _, d := range all {
		path := filepath.Join(d.Path, d.Name)
		named[path] = true
		if d.Tree {
			trees[path] = true
		}
	}
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		if err != nil || rel == "." {
			return err
		}
		if rel == privateName {
			return filepath.SkipDir
		}
		covered := named[rel]
		for up := rel; up != "."; up = filepath.Dir(up) {
			covered = covered || trees[up]
		}
		if !covered {
			t.Errorf("%s was missed", rel)
		}
		return nil
	})
	must(t, err)

	// All of it is watched by now: each further write is told by name.
	for i := range 200 {
		dir := fmt.Sprintf("%d/b/c", i)
		if i%3 == 0 {
			dir = "moved-" + dir
		}
		write(t, filepath.Join(root, dir, "f"), "z")
		want(t, settle(t, j), dir+"/f wrote")
	}
}

func TestInotifyOverflowIsAGapAndWatchesAreRenewed(t *testing.T) {
	root := folder(t, t.TempDir())
	write(t, filepath.Join(root, "a"), "")
	write(t, filepath.Join(root, "b"), "")
	j := open(t, root, Options{Only: Inotify})
	in := j.(*inotifyJournal)

	in.mu.Lock() // the reader stops at its next name; the kernel's queue fills
	limit := 0
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	_, err = fmt.Sscan(string(b), &limit)
	must(t, err)
	if limit > 1<<17 {
		in.mu.Unlock()
		t.Skipf("fs.inotify.max_queued_events is %d here: too many to overflow", limit)
	}
	for i := range limit + 4096 { // one buffer is read ahead; equal neighbours merge
		must(t, os.Chmod(filepath.Join(root, []string{"a", "b"}[i%2]), 0o600))
	}
	must(t, os.MkdirAll(filepath.Join(root, "lost/deep"), 0o755))
	in.mu.Unlock()

	for gap := false; !gap; {
		b, err := j.Next(deadline(t))
		must(t, err)
		gap = b.Gap != nil
		seenToken[j] = b.Token
	}
	write(t, filepath.Join(root, "lost/deep/f"), "")
	want(t, settle(t, j), "lost/deep/f wrote")
	if j.Kind() != Inotify {
		t.Errorf("kind %v: %s", j.Kind(), j.Reason())
	}
}

// A removed root is the volume's to notice; the journal tells what went with it
// and that it cannot be drained any more.
func TestRootRemoved(t *testing.T) {
	for _, kind := range []Kind{Inotify, Fanotify} {
		t.Run(kind.String(), func(t *testing.T) {
			base := t.TempDir()
			if kind == Fanotify {
				base = tmpfs(t)
			}
			root := folder(t, filepath.Join(base, "tree"))
			write(t, filepath.Join(root, "f"), "")
			j := open(t, root, Options{Only: kind})
			must(t, os.RemoveAll(root))
			b, err := j.Next(deadline(t))
			must(t, err)
			if len(b.Dirty) != 1 || b.Dirty[0].Name != "f" {
				t.Errorf("%+v", b)
			}
			if _, err := j.Drain(deadline(t)); !errors.Is(err, unix.ENOENT) {
				t.Errorf("Drain: %v", err)
			}
			must(t, j.Close())
		})
	}
}

// In a user namespace the limit of watches is the test's own to lower, and
// fanotify is refused.
func TestInotifyOutOfWatchesBecomesWalk(t *testing.T) {
	const mark = "JOURNAL_TEST_FEW_WATCHES"
	if os.Getenv(mark) == "" {
		c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		c.Env = append(os.Environ(), mark+"=1")
		c.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := c.CombinedOutput()
		if errors.Is(err, unix.EPERM) || bytes.Contains(out, []byte("--- SKIP")) {
			t.Skipf("no user namespace with its own limits here: %v %s", err, out)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Logf("%s", out)
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("6"), 0); err != nil {
		t.Skip(err)
	}
	root := folder(t, t.TempDir())
	must(t, os.MkdirAll(filepath.Join(root, "a/b"), 0o755))
	j := open(t, root, Options{WalkEvery: time.Millisecond})
	if j.Kind() != Inotify {
		t.Fatalf("four of six watches: kind %v: %s", j.Kind(), j.Reason())
	}
	write(t, filepath.Join(root, "a/b/f"), "")
	want(t, settle(t, j), "a/b/f wrote")
	must(t, os.MkdirAll(filepath.Join(root, "c/d/e/f"), 0o755))
	for j.Kind() != Walk {
		_, err := j.Next(deadline(t))
		must(t, err)
	}
	for range 2 {
		if b, err := j.Next(deadline(t)); err != nil || b.Gap == nil {
			t.Errorf("%+v, %v", b, err)
		}
	}
	t.Log(j.Reason())
	if !strings.Contains(j.Reason(), "fanotify: ") || !strings.Contains(j.Reason(), "max_user_watches") {
		t.Errorf("reason %q", j.Reason())
	}
	again := open(t, root, Options{WalkEvery: time.Hour}) // from the start
	if again.Kind() != Walk || !strings.Contains(again.Reason(), "max_user_watches") {
		t.Errorf("kind %v: %s", again.Kind(), again.Reason())
	}
}
