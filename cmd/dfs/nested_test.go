package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// user runs a program as another process: what the members' own one does to a
// folder is no user's change.
func userRuns(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// A folder in a directory that another one replicates does not start before that one
// has been told to leave the directory out; then both members take it as it lies, and
// it replicates by itself. When it ends, the outer one has it back.
func TestAFolderInAFolder(t *testing.T) {
	hub, branch := pair(t)
	userRuns(t, "mkdir", filepath.Join(hub.folder, "sub"))
	hub.write("sub/plan", "first")
	hub.write("top", "x")
	settled(hub, branch)

	hub.must("folder", "create", "projects/inner")
	_, warned, exit := hub.dfs("membership", "create", "projects/inner@hub", "--path", filepath.Join(hub.folder, "sub"), "--primary")
	if exit != exitDone || !strings.Contains(warned, `"projects/docs" leaves it out`) {
		t.Errorf("exit %d, no warning of a folder in a folder:\n%s", exit, warned)
	}
	hub.must("membership", "create", "projects/inner@branch", "--path", filepath.Join(branch.folder, "sub"))
	for _, s := range []*site{hub, branch} {
		s.finds("folder-overlaps")
		if out := s.must("status"); !strings.Contains(out, "projects/docs replicates") || !strings.Contains(out, "--exclude-directories") {
			t.Errorf("who has it, and what to do:\n%s", out)
		}
		if _, err := os.Lstat(filepath.Join(s.folder, "sub/.dfsr")); !os.IsNotExist(err) {
			t.Errorf("%s: a private area in a directory that is refused: %v", s.name, err)
		}
	}
	hub.write("sub/plan", "second") // it replicates as it did
	branch.eventually("has it", func() bool { return branch.read("sub/plan") == "second" })

	hub.must("folder", "set", "projects/docs", "--exclude-directories", "sub")
	for _, s := range []*site{hub, branch} {
		s.eventually("runs the inner folder", func() bool { return !strings.Contains(s.must("status"), "folder-overlaps") })
	}
	settled(hub, branch)
	branch.write("sub/plan", "third")
	branch.write("sub/more", "of the inner folder")
	settled(branch, hub)
	if hub.read("sub/plan") != "third" || hub.read("sub/more") != "of the inner folder" {
		t.Error("the inner folder does not replicate")
	}
	if out := hub.must("explain", filepath.Join(hub.folder, "sub/more")); !strings.Contains(out, "projects/inner") {
		t.Errorf("whose file it is:\n%s", out)
	}
	for _, s := range []*site{hub, branch} {
		for _, f := range []string{"projects/docs", "projects/inner"} {
			if n := len(s.kept(f)); n != 0 {
				t.Errorf("%s keeps %d objects of %s", s.name, n, f)
			}
		}
	}

	// The filter is lifted too early: the outer folder has the directory back, the inner
	// one stops until it is kept out again, and nothing is lost by either.
	hub.must("folder", "set", "projects/docs", "--exclude-directories", "")
	hub.write("top", "so that it looks")
	for _, s := range []*site{hub, branch} {
		s.write("sub/"+s.name, "wakes the inner folder")
		s.finds("folder-overlaps")
	}
	hub.write("sub/plan", "by the outer folder")
	branch.eventually("has it", func() bool { return branch.read("sub/plan") == "by the outer folder" })
	hub.must("folder", "set", "projects/docs", "--exclude-directories", "sub")
	for _, s := range []*site{hub, branch} {
		s.eventually("runs the inner folder again", func() bool { return !strings.Contains(s.must("status"), "folder-overlaps") })
	}
	settled(hub, branch)
	for _, s := range []*site{hub, branch} {
		if s.read("sub/plan") != "by the outer folder" || s.read("sub/more") != "of the inner folder" || s.read("sub/hub") != s.read("sub/branch") {
			t.Errorf("%s has not all that was written", s.name)
		}
	}

	hub.must("folder", "remove", "projects/inner")
	for _, s := range []*site{hub, branch} {
		s.eventually("has left the inner folder", func() bool { return !strings.Contains(s.must("status"), "projects/inner") })
	}
	hub.must("folder", "set", "projects/docs", "--exclude-directories", "")
	settled(hub, branch)
	hub.write("sub/plan", "fourth")
	settled(hub, branch)
	if branch.read("sub/plan") != "fourth" || branch.read("sub/more") != "of the inner folder" || branch.read("top") != "so that it looks" {
		t.Errorf("the outer folder does not have it back:\n%s", branch.must("status"))
	}
}

// A root that comes into a folder with its private area is never that folder's, in
// whatever order the two start; with its directory above it it is neither moved nor
// removed by partners, and stops where it is taken along. Without private area it is
// a directory like any other.
func TestAFolderThatWasThereFirst(t *testing.T) {
	var inner string
	hub, branch := pairAfter(t, func(hub, branch *site, domain string) string {
		inner = filepath.Join(branch.folder, "d/inner")
		userRuns(t, "mkdir", "-p", inner, filepath.Join(hub.folder, "d"))
		userRuns(t, "sh", "-c", "echo own > "+inner+"/own; echo plan > "+hub.folder+"/d/plan")
		return domain + "      inner:\n        members:\n          branch: {path: " + inner + ", primary: true}\n"
	})
	settled(hub, branch)
	if _, err := os.Lstat(filepath.Join(hub.folder, "d/inner")); !os.IsNotExist(err) {
		t.Errorf("the inner folder is on hub: %v", err)
	}
	if branch.read("d/plan") != "plan\n" || branch.read("d/inner/own") != "own\n" {
		t.Error("branch has not both")
	}
	branch.stop()
	branch.serve()
	settled(hub, branch)
	branch.write("d/inner/more", "after a restart")
	settled(branch, hub)

	userRuns(t, "mv", filepath.Join(hub.folder, "d"), filepath.Join(hub.folder, "e"))
	branch.finds("root-")
	if branch.read("e/inner/own") != "own\n" {
		t.Error("it did not go along")
	}
	hub.must("membership", "set", "projects/inner@branch", "--path", filepath.Join(branch.folder, "e/inner"))
	branch.eventually("runs it there", func() bool { return !strings.Contains(branch.must("status"), "root-") })
	settled(hub, branch)

	userRuns(t, "rm", "-r", filepath.Join(hub.folder, "e"))
	branch.finds("nested-folder")
	if branch.read("e/inner/own") != "own\n" || branch.read("e/inner/more") != "after a restart" {
		t.Error("a partner's deletion took it")
	}

	hub.must("folder", "remove", "projects/inner")
	branch.eventually("has left it", func() bool { return !strings.Contains(branch.must("status"), "projects/inner") })
	branch.eventually("lets its private area go", func() bool {
		return exec.Command("rm", "-r", filepath.Join(branch.folder, "e/inner/.dfsr")).Run() == nil
	})
	hub.eventually("has what was in it", func() bool {
		b, err := os.ReadFile(filepath.Join(hub.folder, "e/inner/more"))
		return err == nil && string(b) == "after a restart"
	})
	settled(hub, branch)
}

// Two folders with one root are refused, though their paths differ: the one that was
// there first goes on.
func TestOneRootByTwoPaths(t *testing.T) {
	hub, branch := pair(t)
	hub.write("plan", "first")
	settled(hub, branch)
	other := filepath.Join(t.TempDir(), "other")
	if err := os.Symlink(hub.folder, other); err != nil {
		t.Fatal(err)
	}
	hub.must("folder", "create", "projects/twin")
	hub.must("membership", "create", "projects/twin@hub", "--path", other, "--primary")
	hub.finds("folder-overlaps")
	hub.refused(exitUsage, "two folders would each take", "membership", "set", "projects/twin@hub", "--path", hub.folder)
	hub.stop()
	hub.serve()
	hub.finds("folder-overlaps")
	hub.write("plan", "second")
	branch.eventually("has it", func() bool { return branch.read("plan") == "second" })
	userRuns(t, "mkdir", filepath.Join(hub.folder, "sub"))
	branch.eventually("has sub", func() bool { _, err := os.Lstat(filepath.Join(branch.folder, "sub")); return err == nil })
	hub.must("membership", "set", "projects/twin@hub", "--path", filepath.Join(other, "sub"))
	hub.eventually("sees where the link leads", func() bool { return strings.Contains(hub.must("status"), "as sub") })
}

// A root that a bind mount shows elsewhere is where it lies: another folder's, or in
// one that has it on record.
func TestOneRootByTwoMounts(t *testing.T) {
	hub, branch := pair(t)
	userRuns(t, "mkdir", filepath.Join(hub.folder, "sub"))
	hub.write("sub/plan", "first")
	settled(hub, branch)
	at := t.TempDir()
	bind := func(from string) {
		if err := unix.Mount(from, at, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("mount --bind: %v", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	bind(filepath.Join(hub.folder, "sub"))
	hub.must("folder", "create", "projects/twin")
	hub.must("membership", "create", "projects/twin@hub", "--path", at, "--primary")
	hub.eventually("sees what is mounted", func() bool { return strings.Contains(hub.must("status"), "already, as sub") })
	bind(hub.folder)
	hub.must("membership", "set", "projects/twin@hub", "--path", filepath.Join(at, "sub"))
	hub.eventually("sees what is above it", func() bool { return strings.Contains(hub.must("status"), "/sub already, as sub") })
	hub.must("membership", "set", "projects/twin@hub", "--path", at)
	hub.eventually("sees the root", func() bool { return strings.Contains(hub.must("status"), "is the directory that") })
	hub.write("sub/plan", "second")
	branch.eventually("has it", func() bool { return branch.read("sub/plan") == "second" })
	hub.stop()
}
