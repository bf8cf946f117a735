package engine

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"opendfs/internal/filter"
)

// told waits until a line of what was raised, or cleared, begins with a text.
func (f *testFindings) told(ctx context.Context, lines *[]string, begins string) {
	f.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		f.mu.Lock()
		is := slices.ContainsFunc(*lines, func(s string) bool { return strings.HasPrefix(s, begins) })
		f.mu.Unlock()
		if is {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.t.Fatalf("nothing begins with %q", begins)
		}
	}
}

// What does not replicate because of what it is stays where it is and is told;
// the root of another replicated folder is not taken away with its directory.
func TestWhatDoesNotReplicate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, b := newMember(t, 1, true, 2), newMember(t, 2, false, 1)
	a.write("d/file", "of the folder")
	a.start()
	b.start()
	connect(a, b)
	settled(t, a, b)

	at := func(path string) string { return filepath.Join(b.root, path) }
	check(t, syscall.Mkfifo(at("pipe"), 0o600))
	made := filepath.Join(t.TempDir(), "inner")
	check(t, os.MkdirAll(filepath.Join(made, ".dfsr"), 0o700))
	check(t, os.WriteFile(filepath.Join(made, "own"), []byte("of the other folder"), 0o600))
	check(t, os.Rename(made, at("d/inner")))
	b.write("one", "twice here")
	check(t, os.Link(at("one"), at("two")))
	b.found.told(ctx, &b.found.raised, "unreplicated-entries test/2:pipe: a socket, pipe or device")
	b.found.told(ctx, &b.found.raised, "unreplicated-entries test/2:d/inner: the root of another replicated folder")
	settled(t, a, b)
	tree := a.tree()
	if _, is := tree["pipe"]; is {
		t.Error("a pipe was replicated")
	}
	if _, is := tree["d/inner"]; is {
		t.Error("the root of another folder was replicated")
	}
	if !strings.HasSuffix(tree["one"], "twice here") || !strings.HasSuffix(tree["two"], "twice here") {
		t.Errorf("the two names of one file: %q and %q", tree["one"], tree["two"])
	}
	b.write("one", "twice changed") // in place: both names have it
	b.found.told(ctx, &b.found.raised, "hardlink-split test/2:two: 2 names")
	settled(t, a, b)
	if tree = a.tree(); !strings.HasSuffix(tree["two"], "twice changed") {
		t.Errorf("an edit through one name left the other at %q", tree["two"])
	}

	check(t, os.RemoveAll(filepath.Join(a.root, "d")))
	b.found.told(ctx, &b.found.raised, "nested-folder test/2:d: ")
	if data, err := os.ReadFile(at("d/inner/own")); err != nil || string(data) != "of the other folder" {
		t.Fatalf("the other folder's file: %q, %v", data, err)
	}
	check(t, os.Rename(at("d/inner"), made))
	check(t, os.Remove(at("pipe")))
	settled(t, a, b)
	b.found.told(ctx, &b.found.cleared, "nested-folder test/2:d")
	b.found.told(ctx, &b.found.cleared, "unreplicated-entries test/2:pipe")
	check(t, os.Remove(at("two")))
	settled(t, a, b)
	sameTrees(t, a, b)
	if _, err := os.Lstat(at("d")); !os.IsNotExist(err) {
		t.Errorf("the directory that was removed: %v", err)
	}
}

// Whole directories that give way to a partner, because a filter keeps them out or
// because nothing that replicates is left in them, do not take another replicated
// folder along, however deep it lies in them.
func TestAnotherFolderDeepInWhatGivesWay(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, b := newMember(t, 1, true, 2), newMember(t, 2, false, 1)
	rules, err := filter.New(filter.Rules{Directories: []string{"skip*"}})
	check(t, err)
	a.cfg.Filter, b.cfg.Filter = rules, rules
	a.write("d/file", "of the folder")
	a.start()
	b.start()
	connect(a, b)
	settled(t, a, b)

	at := func(path string) string { return filepath.Join(b.root, path) }
	for _, inner := range []string{"d/skip/deep/inner", "skipped/inner"} {
		check(t, os.MkdirAll(at(inner+"/.dfsr"), 0o700))
		check(t, os.WriteFile(at(inner+"/own"), []byte(inner), 0o600))
	}
	check(t, os.RemoveAll(filepath.Join(a.root, "d")))
	a.write("skipped", "a file of that name")
	b.found.told(ctx, &b.found.raised, "nested-folder test/2:d: ")
	b.found.told(ctx, &b.found.raised, "nested-folder test/2:skipped: ")
	for _, inner := range []string{"d/skip/deep/inner", "skipped/inner"} {
		if data, err := os.ReadFile(at(inner + "/own")); err != nil || string(data) != inner {
			t.Fatalf("the other folder's file: %q, %v", data, err)
		}
	}

	aside := t.TempDir()
	check(t, os.Rename(at("d/skip/deep/inner"), filepath.Join(aside, "one")))
	check(t, os.Rename(at("skipped/inner"), filepath.Join(aside, "two")))
	settled(t, a, b)
	b.found.told(ctx, &b.found.cleared, "nested-folder test/2:d")
	b.found.told(ctx, &b.found.cleared, "nested-folder test/2:skipped")
	sameTrees(t, a, b)
	if tree := b.tree(); !strings.HasSuffix(tree["skipped"], "a file of that name") {
		t.Errorf("the partner's file: %q", tree["skipped"])
	}
}
