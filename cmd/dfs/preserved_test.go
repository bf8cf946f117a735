package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// user runs a command in the folder as another process.
func (s *site) user(command ...string) {
	s.t.Helper()
	c := exec.Command(command[0], command[1:]...)
	c.Dir = s.folder
	if out, err := c.CombinedOutput(); err != nil {
		s.t.Fatalf("%q: %v\n%s", command, err, out)
	}
}

// settled waits until both have what the other has.
func settled(sites ...*site) {
	for range 2 {
		for _, s := range sites {
			s.t.Helper()
			s.must("status", "--wait", "--timeout", "20s")
		}
	}
}

type keptObject struct {
	Path, Why, WonBy, Type, Place, Promised, KeptAt string
	Size                                            int64
}

func (s *site) kept(args ...string) []keptObject {
	s.t.Helper()
	var reply struct{ Objects []keptObject }
	if err := json.Unmarshal([]byte(s.must(append([]string{"preserved", "list", "--json"}, args...)...)), &reply); err != nil {
		s.t.Fatal(err)
	}
	return reply.Objects
}

// keeps waits until so many are kept: what was displaced is put aside just after
// the update is known to be installed.
func (s *site) keeps(n int, args ...string) (list []keptObject) {
	s.t.Helper()
	s.eventually("keeps what it should", func() bool {
		list = s.kept(args...)
		return len(list) == n
	})
	return list
}

// A tree that was deleted on one server by mistake comes back from what the
// other has kept, with its directories, owners, modes and times, and on both.
func TestDeletedTreeComesBack(t *testing.T) {
	hub, branch := pair(t)
	const odd = "caf\xe9.txt"
	hub.user("mkdir", "-p", "reports/2026")
	hub.write("reports/2026/plan.txt", "a plan")
	hub.write("reports/"+odd, "menu")
	hub.write("other.txt", "another")
	hub.user("chmod", "2750", "reports")
	hub.user("chmod", "640", "reports/2026/plan.txt")
	hub.user("touch", "-d", "2020-02-02T02:02:02Z", "reports/2026/plan.txt")
	settled(hub, branch)
	hub.user("rm", "-r", "reports", "other.txt")
	settled(hub, branch)
	if list := branch.keeps(3, "projects/docs"); list[0].Why != "deleted" || list[0].WonBy != "hub" || list[0].Promised != "" {
		t.Fatalf("kept on branch: %+v", list)
	}
	for args, want := range map[string]int{
		"projects/docs reports": 2, "projects/docs:reports/2026": 1, "projects/docs rep": 0, "projects/docs " + odd: 0,
		"projects/docs reports/" + odd: 1, "projects/docs " + branch.folder + "/reports": 2, "projects/docs --since 1h": 3, "projects/docs --before 1h": 0,
		"projects/docs --why conflict,unclean": 0, "projects/docs --why deleted other.txt": 1, "projects/docs --limit 2": 2,
	} {
		if got := branch.kept(strings.Fields(args)...); len(got) != want {
			t.Errorf("list %s: %+v", args, got)
		}
	}
	if out := branch.must("preserved", "list", "projects/docs"); !strings.Contains(out, "reports/2026/plan.txt") || !strings.Contains(out, `"reports/caf\xe9.txt"`) || !strings.Contains(out, "3 objects") {
		t.Errorf("list:\n%s", out)
	}
	if out := hub.must("preserved", "list", "projects/docs"); !strings.Contains(out, "Nothing is kept") {
		t.Errorf("list on hub, which deleted them:\n%s", out)
	}

	if out := branch.must("preserved", "restore", "projects/docs", "reports"); !strings.Contains(out, "reports/2026/plan.txt\n") || !strings.Contains(out, "Restored: 2 objects") {
		t.Errorf("restore:\n%s", out)
	}
	settled(branch, hub)
	for _, s := range []*site{branch, hub} {
		if got := s.read("reports/2026/plan.txt") + s.read("reports/"+odd); got != "a planmenu" {
			t.Errorf("%s has %q", s.name, got)
		}
		st, err := os.Stat(filepath.Join(s.folder, "reports/2026/plan.txt"))
		if err != nil || st.Mode() != 0o640 || !st.ModTime().Equal(time.Date(2020, 2, 2, 2, 2, 2, 0, time.UTC)) {
			t.Errorf("on %s it is %v, %v", s.name, st, err)
		}
		if _, err := os.Stat(filepath.Join(s.folder, "other.txt")); err == nil {
			t.Errorf("%s has what was not asked for", s.name)
		}
	}
	if list := branch.kept("projects/docs"); len(list) != 1 || list[0].Path != "other.txt" {
		t.Errorf("kept on branch afterwards: %+v", list)
	}
	branch.refused(exitFailed, "nothing is kept here", "preserved", "restore", "projects/docs", "reports")
	branch.refused(exitUsage, "say what", "preserved", "restore", "projects/docs")
	branch.refused(exitUsage, "is no time", "preserved", "restore", "projects/docs", "--since", "yesterday")
	branch.refused(exitUsage, "is no reason", "preserved", "list", "projects/docs", "--why", "boredom")
	branch.refused(exitUsage, "not a member of it", "preserved", "list", "projects/dogs")
	branch.refused(exitFailed, "lies in no replicated folder", "preserved", "list", "projects/docs", "/etc")
}

// The loser of a conflict is shown with who won; it comes back beside the
// winner, elsewhere, or in its place, and nothing is lost on the way.
func TestLoserComesBack(t *testing.T) {
	hub, branch := pair(t)
	hub.write("plan.txt", "first")
	settled(hub, branch)
	branch.stop()
	hub.write("plan.txt", "hub's")
	hub.must("status")
	branch.write("plan.txt", "branch's, later")
	branch.serve()
	settled(hub, branch)
	if got := hub.read("plan.txt"); got != "branch's, later" {
		t.Fatalf("hub has %q", got)
	}
	list := hub.keeps(1, "projects/docs")
	if list[0].Why != "conflict" || list[0].Path != "plan.txt" || list[0].WonBy != "branch" || list[0].Promised == "" || list[0].Size != 5 {
		t.Fatalf("kept on hub: %+v", list)
	}
	if got := hub.read(list[0].Place); got != "hub's" {
		t.Errorf("at its place in the store lies %q", got)
	}
	hub.refused(exitFailed, "not restored: plan.txt: the place is taken", "preserved", "restore", "projects/docs", "plan.txt")
	hub.refused(exitFailed, "hint: if the place is taken: --overwrite", "preserved", "restore", "projects/docs", "plan.txt")

	// A copy outside, beside which it stays kept.
	out := t.TempDir()
	hub.must("preserved", "restore", "projects/docs", "plan.txt", "--to", out)
	if got := read(t, filepath.Join(out, "plan.txt")); got != "hub's" {
		t.Errorf("the copy is %q", got)
	}
	hub.refused(exitFailed, "the place is taken", "preserved", "restore", "projects/docs", "plan.txt", "--to", out)
	hub.refused(exitFailed, "make it first", "preserved", "restore", "projects/docs", "plan.txt", "--to", filepath.Join(out, "none"))
	hub.refused(exitUsage, "--overwrite does not hold outside", "preserved", "restore", "projects/docs", "plan.txt", "--to", out, "--overwrite")
	hub.refused(exitUsage, "private area", "preserved", "restore", "projects/docs", "plan.txt", "--to", filepath.Join(hub.folder, ".dfsr"))

	// In its place: the winner is kept in turn. Then that, elsewhere in the tree.
	hub.must("preserved", "restore", "projects/docs", "plan.txt", "--overwrite")
	settled(hub, branch)
	if got := branch.read("plan.txt"); got != "hub's" {
		t.Errorf("after the exchange branch has %q", got)
	}
	if list := hub.kept("projects/docs"); len(list) != 1 || list[0].Why != "replaced" || list[0].WonBy != "hub" {
		t.Errorf("kept on hub: %+v", list)
	}
	hub.must("preserved", "restore", "projects/docs", "plan.txt", "--to", "projects/docs:old/here")
	settled(hub, branch)
	if got := branch.read("old/here/plan.txt"); got != "branch's, later" {
		t.Errorf("branch has %q elsewhere", got)
	}
	if list := hub.kept("projects/docs"); len(list) != 0 {
		t.Errorf("kept on hub: %+v", list)
	}

	// Every version, beside what is there.
	for _, text := range []string{"third", "fourth!"} {
		branch.write("plan.txt", text)
		settled(branch, hub)
		branch.user("rm", "plan.txt")
		settled(branch, hub)
	}
	branch.write("plan.txt", "fifth")
	settled(branch, hub)
	hub.keeps(2, "projects/docs", "plan.txt")
	hub.must("preserved", "restore", "projects/docs", "plan.txt", "--all")
	settled(hub, branch)
	found, err := filepath.Glob(filepath.Join(branch.folder, "plan (kept *Z).txt"))
	if err != nil || len(found) != 2 {
		t.Fatalf("beside: %v, %v", found, err)
	}
	if got := read(t, found[0]) + read(t, found[1]) + branch.read("plan.txt"); got != "thirdfourth!fifth" {
		t.Errorf("branch has %q", got)
	}
}

// What only one server had at its initial sync was put aside whole; it is merged
// into what others have made under that name since, and replicates.
func TestPreExistingTreeIsMerged(t *testing.T) {
	hub, branch := pairAfter(t, func(_, branch *site, domain string) string {
		branch.user("mkdir", "-p", "extra/sub/deep")
		branch.write("extra/sub/only", "branch's")
		branch.write("extra/sub/both", "branch's")
		branch.write("extra/sub/deep/file", "branch's")
		return domain
	})
	if list := branch.keeps(1, "projects/docs"); list[0].Why != "pre-existing" || list[0].Path != "extra" || list[0].Type != "directory" || list[0].Size != 24 {
		t.Fatalf("kept on branch: %+v", list)
	}
	hub.user("mkdir", "-p", "extra/sub")
	hub.write("extra/sub/both", "hub's")
	settled(hub, branch)
	branch.refused(exitFailed, "the place is taken", "preserved", "restore", "projects/docs", "extra")
	settled(branch, hub)
	if got := hub.read("extra/sub/only") + hub.read("extra/sub/deep/file") + hub.read("extra/sub/both"); got != "branch'sbranch'shub's" {
		t.Errorf("hub has %q", got)
	}
	branch.must("preserved", "restore", "projects/docs", "extra", "--overwrite")
	settled(branch, hub)
	if got := hub.read("extra/sub/both"); got != "branch's" {
		t.Errorf("hub has %q", got)
	}
	list := branch.kept("projects/docs")
	if len(list) != 1 || branch.read(list[0].Place+"/sub/both") != "hub's" {
		t.Errorf("kept on branch: %+v", list)
	}
}

// What is restored into a tree whose changes do not count would be lost again.
func TestReadOnlyMemberRestoresOutside(t *testing.T) {
	hub, branch := pairAfter(t, func(_, branch *site, domain string) string {
		return strings.Replace(domain, branch.folder+`"`, branch.folder+`", read-only: true`, 1)
	})
	hub.write("plan.txt", "a plan")
	settled(hub)
	hub.user("rm", "plan.txt")
	settled(hub)
	branch.keeps(1, "projects/docs")
	branch.refused(exitFailed, "is read-only on this server", "preserved", "restore", "projects/docs", "plan.txt")
	out := t.TempDir()
	branch.must("preserved", "restore", "projects/docs", "plan.txt", "--to", out)
	if got := read(t, filepath.Join(out, "plan.txt")); got != "a plan" {
		t.Errorf("the copy is %q", got)
	}
}

// A purge is asked about, and takes what was chosen.
func TestPurge(t *testing.T) {
	hub, branch := pair(t)
	for _, name := range []string{"a", "b", "c"} {
		hub.write(name, "text")
	}
	settled(hub, branch)
	hub.user("rm", "a", "b", "c")
	settled(hub, branch)
	branch.keeps(3, "projects/docs")
	branch.refused(exitUsage, "say what", "preserved", "purge", "projects/docs", "--yes")
	branch.refused(exitUsage, "say what", "preserved", "purge", "projects/docs", "a", "--all", "--yes")
	branch.refused(exitUsage, "1 object (4 B) would be removed for good", "preserved", "purge", "projects/docs", "a")
	if out := branch.must("preserved", "purge", "projects/docs", "a", "--yes"); !strings.Contains(out, "Purged: 1 object, 4 B") {
		t.Errorf("purge:\n%s", out)
	}
	branch.must("preserved", "purge", "projects/docs", "--before", "1h")
	if list := branch.kept("projects/docs"); len(list) != 2 {
		t.Errorf("left: %+v", list)
	}
	branch.must("preserved", "purge", "projects/docs", "--all", "--yes")
	if left, err := os.ReadDir(filepath.Join(branch.folder, ".dfsr/conflicts")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// The conflict store is brought to its quota: what was deleted goes first, a
// loser is promised and stays, which is a finding until there is room again.
func TestConflictQuota(t *testing.T) {
	hub, branch := pairAfter(t, func(hub, _ *site, domain string) string {
		return strings.Replace(domain, hub.folder+`", primary: true`, hub.folder+`", primary: true, conflict-quota: 10MiB`, 1)
	})
	big := func(s *site, name, fill string, n int) { s.write(name, strings.Repeat(fill, n<<20)) }
	big(branch, "one", "1", 4)
	big(branch, "two", "2", 4)
	big(branch, "three", "3", 4)
	settled(branch, hub)
	branch.user("rm", "one", "two", "three")
	settled(branch, hub)
	hub.eventually("evicts", func() bool { return strings.Contains(hub.log.String(), "kept objects evicted") })
	hub.keeps(1, "projects/docs") // 60 % of the quota

	branch.stop()
	big(hub, "plan", "p", 12)
	hub.must("status")
	big(branch, "plan", "branch's, and captured later", 1)
	branch.serve()
	settled(hub, branch)
	hub.eventually("is over its quota", func() bool { return strings.Contains(hub.must("status"), "conflict-store-over-quota") })
	list := hub.kept("projects/docs")
	if len(list) != 1 || list[0].Why != "conflict" || list[0].Size != 12<<20 {
		t.Errorf("kept on hub: %+v", list)
	}
	hub.must("preserved", "purge", "projects/docs", "plan", "--yes")
	hub.eventually("has room again", func() bool { return !strings.Contains(hub.must("status"), "conflict-store-over-quota") })
}

func TestMoments(t *testing.T) {
	at := time.Date(2026, 11, 21, 17, 30, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"2h": at.Add(-2 * time.Hour), "3d": at.Add(-72 * time.Hour), "2026-11-21": at.Add(-17*time.Hour - 30*time.Minute),
		"2026-11-21 17:30": at, "2026-11-21 17:30:01": at.Add(time.Second), "2026-11-21T17:30:00Z": time.Date(2026, 11, 21, 17, 30, 0, 0, time.UTC),
	} {
		if got, err := momentText(text, at); err != nil || got != timeText(want) {
			t.Errorf("%s: %s, %v; want %s", text, got, err, timeText(want))
		}
	}
	if got, err := momentText("", at); got != "" || err != nil {
		t.Errorf("nothing: %q, %v", got, err)
	}
	if got := readable([]byte("a\x1b[31m")); bytes.ContainsRune([]byte(got), 0x1b) {
		t.Errorf("an escape sequence is printed: %q", got)
	}
}
