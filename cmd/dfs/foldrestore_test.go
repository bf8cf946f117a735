package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An old tree is put back on one server while another works on it unseen; it is
// made to win, whatever is younger. What was done meanwhile is kept.
func TestAuthoritativeRestore(t *testing.T) {
	hub, branch := pair(t)
	hub.user("mkdir", "-p", "reports", "other")
	hub.write("reports/plan.txt", "good")
	hub.write("reports/removed.txt", "to be gone")
	hub.write("other/plan.txt", "good")
	settled(hub, branch)
	branch.must("pause", "projects/docs")
	hub.must("pause", "projects/docs")
	hub.write("reports/plan.txt", "restored")
	hub.user("rm", "reports/removed.txt")
	hub.write("other/plan.txt", "restored")
	branch.write("reports/plan.txt", "younger and wrong")
	branch.write("reports/removed.txt", "younger and wrong")
	branch.write("other/plan.txt", "younger")
	if out := hub.must("folder", "restore", "--authoritative", hub.folder+"/reports"); !strings.Contains(out, "3 objects of projects/docs win") {
		t.Errorf("restore:\n%s", out)
	}
	hub.must("resume", "projects/docs")
	branch.must("resume", "projects/docs")
	settled(hub, branch)
	for _, s := range []*site{hub, branch} {
		if !s.holds("reports/plan.txt", "restored") || !s.holds("other/plan.txt", "younger") {
			t.Errorf("%s has %q and %q", s.name, s.read("reports/plan.txt"), s.read("other/plan.txt"))
		}
		if _, err := os.Stat(filepath.Join(s.folder, "reports/removed.txt")); err == nil {
			t.Errorf("%s has what was removed", s.name)
		}
	}
	branch.keeps(2, "projects/docs", "reports")
	if out := hub.must("record", "projects/docs:reports/plan.txt"); !strings.Contains(out, "restored 20") {
		t.Errorf("the fence is not shown:\n%s", out)
	}
	hub.refused(exitUsage, "wants either --authoritative", "folder", "restore", "projects/docs")
	hub.refused(exitFailed, "has no ID record here", "folder", "restore", "--authoritative", "projects/docs:nothing")
	if out := hub.must("folder", "restore", "--authoritative", "projects/docs"); !strings.Contains(out, "objects of projects/docs win") {
		t.Errorf("restore of all:\n%s", out)
	}
	settled(hub, branch)
}

// One server's tree is replaced by another's: what differs, and what only it has,
// is kept, and nothing of it reaches the other.
func TestRestoreFromServer(t *testing.T) {
	hub, branch := pair(t)
	hub.write("plan.txt", "good")
	hub.write("same.txt", "the same")
	settled(hub, branch)
	branch.must("pause", "projects/docs")
	hub.must("pause", "projects/docs")
	branch.write("plan.txt", "spoilt")
	branch.write("only.txt", "of branch")
	hub.write("new.txt", "of hub")
	branch.refused(exitUsage, "--from takes the whole folder", "folder", "restore", "--from", "hub", "projects/docs:plan.txt")
	branch.refused(exitFailed, "does not pull the folder from it", "folder", "restore", "--from", "nobody", "projects/docs")
	branch.must("folder", "restore", "--from", "hub", "projects/docs")
	hub.must("resume", "projects/docs")
	branch.must("resume", "projects/docs")
	settled(branch, hub)
	for _, s := range []*site{hub, branch} {
		if !s.holds("plan.txt", "good") || !s.holds("same.txt", "the same") || !s.holds("new.txt", "of hub") {
			t.Errorf("%s has %q", s.name, s.read("plan.txt"))
		}
		if _, err := os.Stat(filepath.Join(s.folder, "only.txt")); err == nil {
			t.Errorf("%s has what only branch had", s.name)
		}
	}
	branch.keeps(2, "projects/docs")
}
