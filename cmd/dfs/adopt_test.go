package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// finds waits until the member has a finding.
func (s *site) finds(code string) {
	s.t.Helper()
	s.eventually("has the finding "+code, func() bool { return strings.Contains(s.must("status"), code) })
}

// A membership that is made anew where its tree lies takes it by one command: compared
// with the partners, not authoritatively, and with what its .dfsr holds.
func TestAdoptAfterAnotherMembership(t *testing.T) {
	hub, branch := pair(t)
	const name = "projects/docs@branch"
	hub.write("plan", "first")
	hub.write("gone", "x")
	settled(hub, branch)
	branch.user("rm", "gone") // into hub's conflict store
	hub.write("lost", "y")
	settled(hub, branch)
	hub.user("rm", "lost") // into branch's
	settled(hub, branch)
	if n := len(branch.kept("projects/docs")); n != 1 {
		t.Fatalf("branch keeps %d objects", n)
	}
	branch.refused(exitFailed, "the folder runs", "membership", "adopt", name)

	hub.must("membership", "remove", name)
	branch.eventually("is no member", func() bool { return !strings.Contains(branch.must("status"), "projects/docs") })
	branch.write("plan", "edited while it was no member")
	branch.write("own", "of branch alone")
	hub.write("new", "of hub")
	hub.must("membership", "create", name, "--path", branch.folder)
	branch.finds("folder-marker-foreign")
	if out := branch.must("status"); !strings.Contains(out, "dfs membership adopt") {
		t.Errorf("no remedy:\n%s", out)
	}

	hub.refused(exitUsage, "--server branch", "membership", "adopt", name)
	branch.refused(exitUsage, "there are: projects/docs", "membership", "adopt", "projects/doc@branch")
	branch.refused(exitUsage, "GROUP/FOLDER@SERVER", "membership", "adopt", "projects/docs")
	if out := branch.must("membership", "adopt", name, "--dry-run"); !strings.Contains(out, branch.folder) || !strings.Contains(out, "Nothing was changed") {
		t.Errorf("dry run:\n%s", out)
	}
	branch.finds("folder-marker-foreign")
	hub.must("grant", "operator", "server:hub")
	branch.eventually("hears of the grant", func() bool { return strings.Contains(branch.must("grants"), "server:hub") })
	if out := hub.must("--server", "branch", "membership", "adopt", name, "--json"); !strings.Contains(out, `"was"`) {
		t.Errorf("adopted:\n%s", out)
	}
	settled(branch, hub)
	if strings.Contains(branch.must("status"), "folder-marker-foreign") {
		t.Error("the finding stays")
	}
	if branch.read("plan") != "first" || hub.read("plan") != "first" || branch.read("new") != "of hub" || hub.has("own") || branch.has("own") {
		t.Error("what branch had was authoritative, or what hub has did not come")
	}
	var kept []string
	for _, o := range branch.kept("projects/docs") {
		kept = append(kept, o.Path+" "+o.Why)
	}
	if got := strings.Join(kept, ", "); len(kept) != 3 || !strings.Contains(got, "lost deleted") || !strings.Contains(got, "own pre-existing") || !strings.Contains(got, "plan ") {
		t.Errorf("kept: %s", got)
	}
	if out := branch.must("events"); !strings.Contains(out, "adopt "+branch.folder) {
		t.Errorf("audit log:\n%s", out)
	}
}

// A tree that was restored without its marker deletes nothing anywhere when it is
// adopted, be its member the primary.
func TestAdoptARestoredTree(t *testing.T) {
	hub, branch := pair(t)
	hub.write("kept", "x")
	hub.write("younger", "y")
	settled(hub, branch)
	hub.stop()
	for _, name := range []string{".dfsr/marker", "younger"} {
		if err := os.Remove(filepath.Join(hub.folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	hub.serve()
	hub.finds("folder-marker-missing")
	hub.must("membership", "adopt", "projects/docs@hub")
	settled(hub, branch)
	if !hub.has("younger") || !branch.has("younger") || hub.read("kept") != "x" {
		t.Error("the restored tree was authoritative")
	}
	branch.write("after", "z")
	settled(branch, hub)
	if !hub.has("after") {
		t.Error("it does not replicate afterwards")
	}
}

// A tree of a folder that is no more begins a new one: there the primary's counts.
func TestAdoptForANewFolder(t *testing.T) {
	hub, branch := pair(t)
	hub.write("file", "of hub")
	settled(hub, branch)
	hub.must("folder", "remove", "projects/docs")
	hub.eventually("is no member", func() bool { return !strings.Contains(hub.must("status"), "projects/docs") })
	branch.eventually("is no member", func() bool { return !strings.Contains(branch.must("status"), "projects/docs") })
	branch.write("file", "of branch")
	hub.must("folder", "create", "projects/docs")
	hub.must("membership", "create", "projects/docs@hub", "--path", hub.folder, "--primary")
	hub.must("membership", "create", "projects/docs@branch", "--path", branch.folder)
	for _, s := range []*site{hub, branch} {
		s.finds("folder-marker-foreign")
		s.must("membership", "adopt", "projects/docs@"+s.name)
	}
	settled(branch, hub)
	if hub.read("file") != "of hub" || branch.read("file") != "of hub" {
		t.Error("the primary's content did not win")
	}
	if list := branch.kept("projects/docs"); len(list) != 1 || list[0].Path != "file" {
		t.Errorf("branch keeps %v", list)
	}
}
