package main

import (
	"os"
	"strings"
	"testing"
)

// entries lists the folder's root.
func (s *site) entries() string {
	s.t.Helper()
	list, err := os.ReadDir(s.folder)
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		if e.Name() != ".dfsr" {
			names = append(names, e.Name())
		}
	}
	return strings.Join(names, " ")
}

// A folder becomes case-insensitive when no two names collide, and the refusal
// names those that do. Then another spelling is a rename, a second spelling
// beside the first stays on its server with a finding, and replicates when it is
// the only one.
func TestNamesThatDifferByCase(t *testing.T) {
	hub, branch := pair(t)
	hub.write("Plan.txt", "one")
	branch.write("plan.txt", "two")
	hub.must("status", "--wait", "--timeout", "20s")
	branch.must("status", "--wait", "--timeout", "20s")
	if hub.entries() != "Plan.txt plan.txt" || branch.entries() != hub.entries() {
		t.Fatalf("hub has %s, branch %s", hub.entries(), branch.entries())
	}
	for _, more := range []string{"--dry-run", ""} {
		args := strings.Fields("folder set projects/docs --case insensitive " + more)
		hub.refused(exitFailed, `"Plan.txt" and "plan.txt"`, args...)
	}
	if out := hub.must("folder", "show", "projects/docs"); strings.Contains(out, "insensitive") {
		t.Errorf("the domain was changed all the same:\n%s", out)
	}
	hub.user("rm", "plan.txt")
	hub.must("status", "--wait", "--timeout", "20s")
	hub.must("folder", "set", "projects/docs", "--case", "insensitive")
	branch.eventually("has the new domain", func() bool { return strings.Contains(branch.must("folder", "show", "projects/docs"), "insensitive") })
	both := func() { settled(branch, hub) }
	both()
	branch.user("mv", "Plan.txt", "PLAN.TXT")
	both()
	if hub.entries() != "PLAN.TXT" || hub.read("PLAN.TXT") != "one" {
		t.Errorf("after another spelling was given hub has %s", hub.entries())
	}
	branch.write("plan.txt", "second")
	both()
	if out := branch.must("status"); !strings.Contains(out, "name-collides") || !strings.Contains(out, "plan.txt") {
		t.Errorf("status beside a second spelling:\n%s", out)
	}
	if out := branch.must("explain", "projects/docs:plan.txt"); !strings.Contains(out, `"PLAN.TXT" is on record`) {
		t.Errorf("explain of a second spelling:\n%s", out)
	}
	if hub.entries() != "PLAN.TXT" || branch.entries() != "PLAN.TXT plan.txt" {
		t.Errorf("a second spelling travelled, or went: hub has %s, branch %s", hub.entries(), branch.entries())
	}
	branch.user("rm", "PLAN.TXT")
	both()
	if hub.entries() != "plan.txt" || hub.read("plan.txt") != "second" {
		t.Errorf("hub has %s", hub.entries())
	}
	if out := branch.must("status"); strings.Contains(out, "name-collides") {
		t.Errorf("the finding stands:\n%s", out)
	}
	// A second spelling gives way to a partner's object of exactly its name.
	branch.write("PLAN.txt", "left alone")
	both()
	hub.user("mv", "plan.txt", "PLAN.txt")
	both()
	if branch.entries() != "PLAN.txt" || branch.read("PLAN.txt") != "second" {
		t.Errorf("branch has %s: %q", branch.entries(), branch.read("PLAN.txt"))
	}
	if kept := branch.keeps(1, "projects/docs", "--why", "conflict"); len(kept) == 1 && kept[0].Path != "PLAN.txt" {
		t.Errorf("what gave way was kept as %+v", kept[0])
	}
}

// A file that is deleted and made again is the same file: its record keeps the
// UID, on the partner too.
func TestDeletedNameComesBack(t *testing.T) {
	hub, branch := pair(t)
	uid := func(s *site) string {
		t.Helper()
		for line := range strings.Lines(s.must("record", "projects/docs:plan.txt")) {
			if rest, ok := strings.CutPrefix(line, "Uid "); ok {
				return strings.TrimSpace(rest)
			}
		}
		t.Fatal("the record has no Uid")
		return ""
	}
	hub.write("plan.txt", "first")
	settled(hub, branch)
	before := uid(branch)
	hub.user("rm", "plan.txt")
	settled(hub, branch)
	if branch.entries() != "" {
		t.Fatalf("branch has %s", branch.entries())
	}
	branch.write("plan.txt", "made again, by the other")
	settled(branch, hub)
	if got := hub.read("plan.txt"); got != "made again, by the other" || uid(hub) != before || uid(branch) != before {
		t.Errorf("hub has %q as %s, it was %s", got, uid(hub), before)
	}
}

// With `directory-conflict: morph` two directories that were given one name apart
// both stay, the older under FRS's kind of name, on both servers.
func TestDirectoriesOfOneNameMorph(t *testing.T) {
	hub, branch := pair(t)
	hub.refused(exitUsage, "it is merge or morph", "folder", "set", "projects/docs", "--directory-conflict", "mix")
	hub.must("folder", "set", "projects/docs", "--directory-conflict", "morph")
	branch.eventually("has the new domain", func() bool { return strings.Contains(branch.must("folder", "show", "projects/docs"), "morph") })
	settled(hub, branch)
	branch.stop()
	hub.user("sh", "-c", "mkdir plans && echo hub >plans/file")
	hub.eventually("has captured the directory", func() bool {
		_, _, exit := hub.dfs("record", "projects/docs:plans/file")
		return exit == exitDone
	})
	branch.user("sh", "-c", "mkdir plans && echo branch >plans/file")
	branch.serve()
	settled(hub, branch)
	names := strings.Fields(hub.entries())
	if len(names) != 2 || names[0] != "plans" || !strings.HasPrefix(names[1], "plans_NTFRS_") || branch.entries() != hub.entries() {
		t.Fatalf("hub has %v, branch %s", names, branch.entries())
	}
	for _, s := range []*site{hub, branch} {
		if got := s.read("plans/file") + s.read(names[1]+"/file"); got != "branch\nhub\n" {
			t.Errorf("%s has %q in them", s.name, got)
		}
	}
}

// What a filter that is added later keeps out stays on both servers and travels no
// more, not even its deletion; when the filter is lifted it is the same again.
func TestFilterAddedAndLifted(t *testing.T) {
	hub, branch := pair(t)
	hub.user("sh", "-c", "mkdir d && echo one >d/a.iso && echo one >d/b.iso && echo one >d/c.txt")
	settled(hub, branch)
	filter := func(list string) {
		t.Helper()
		hub.must("folder", "set", "projects/docs", "--exclude-files", list)
		want := strings.Contains(list, "iso")
		branch.eventually("has the filter", func() bool {
			return strings.Contains(branch.must("folder", "show", "projects/docs"), "iso") == want
		})
		settled(hub, branch)
	}
	filter("*.tmp,*.iso")
	hub.user("sh", "-c", "echo two >d/a.iso && rm d/b.iso && echo two >d/c.txt")
	settled(hub, branch)
	if branch.read("d/a.iso") != "one\n" || branch.read("d/b.iso") != "one\n" || branch.read("d/c.txt") != "two\n" {
		t.Errorf("what is kept out travels: %q, %q", branch.read("d/a.iso"), branch.read("d/c.txt"))
	}
	filter("*.tmp")
	hub.eventually("has b.iso again", func() bool {
		settled(hub, branch)
		return hub.must("record", "projects/docs:d/b.iso") != "" && strings.Contains(hub.must("explain", "projects/docs:d/b.iso"), "In order")
	})
	if hub.read("d/b.iso") != "one\n" || branch.read("d/a.iso") != "two\n" {
		t.Errorf("after the filter was lifted hub has %q, branch %q", hub.read("d/b.iso"), branch.read("d/a.iso"))
	}
}
