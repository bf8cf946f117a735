package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// joined adds a server to a domain and starts it.
func joined(t *testing.T, hub *site, name string) *site {
	t.Helper()
	s := newSite(t, name)
	s.must("join", strings.TrimSpace(hub.must("invite", name)), "--address", s.address)
	s.serve()
	return s
}

func voterAt(t *testing.T, s *site) string {
	t.Helper()
	a, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return s.name + "=" + a
}

// hears waits until a server knows of a group.
func (s *site) hears(group string) {
	s.t.Helper()
	s.eventually("knows of "+group, func() bool {
		out, _, exit := s.dfs("group", "list")
		return exit == exitDone && strings.Contains(out, group)
	})
}

// The domain moves into etcd on three servers and is changed from each of them; one
// is lost and comes back; a fourth, which speaks to none of it, follows; and it
// moves back into a file. Nothing of it is lost on the way.
func TestTheDomainLivesInEtcd(t *testing.T) {
	hub := initialised(t)
	hub.serve()
	branch, lab, depot := joined(t, hub, "branch"), joined(t, hub, "lab"), joined(t, hub, "depot")
	hub.must("group", "create", "projects")
	before := hub.must("directory", "export")

	at := []string{voterAt(t, hub), voterAt(t, branch), voterAt(t, lab)}
	hub.refused(exitUsage, "two are worse than one", "directory", "move", "--to", "etcd", "--servers", strings.Join(at[:2], ","))
	hub.refused(exitFailed, "name it too", "directory", "move", "--to", "etcd", "--servers", at[1])
	hub.refused(exitUsage, "name the servers", "directory", "move", "--to", "etcd")
	if _, err := os.Stat(filepath.Join(hub.state, voterDir)); err == nil {
		t.Error("etcd has left something where it was not chosen")
	}
	out := hub.must("directory", "move", "--to", "etcd", "--servers", strings.Join(at, ","))
	if !strings.Contains(out, "The domain lives in etcd, read and changed there by branch, hub, lab") {
		t.Errorf("move says\n%s", out)
	}
	hub.must("group", "create", "from-hub")
	for _, s := range []*site{branch, lab} {
		s.eventually("speaks to etcd", func() bool { _, _, exit := s.dfs("group", "create", "from-"+s.name); return exit == exitDone })
	}
	for _, s := range []*site{hub, branch, lab, depot} {
		s.hears("from-lab")
		s.hears("from-branch")
	}
	depot.refused(exitFailed, "run the command on branch or hub or lab", "group", "create", "refused")
	if _, err := os.Stat(filepath.Join(hub.state, "domain.yaml")); err == nil {
		t.Error("domain.yaml is still there")
	}

	lab.stop()
	branch.must("group", "create", "without-lab")
	hub.hears("without-lab")
	depot.hears("without-lab")
	lab.serve() // from its cache, with what it knew
	lab.hears("without-lab")
	lab.eventually("speaks to etcd again", func() bool { _, _, exit := lab.dfs("group", "create", "lab-again"); return exit == exitDone })
	hub.hears("lab-again")
	hub.stop()
	hub.refused(exitFailed, "dfs serve", "group", "create", "nobody-serves")
	hub.serve()
	hub.eventually("speaks to etcd", func() bool { _, _, exit := hub.dfs("group", "create", "hub-again"); return exit == exitDone })

	branch.refused(exitFailed, "the key of the domain's CA is not here", "directory", "move", "--to", "file")
	if out := hub.must("directory", "move", "--to", "file"); !strings.Contains(out, "lives in domain.yaml of this server") {
		t.Errorf("move back says\n%s", out)
	}
	hub.must("group", "create", "in-the-file")
	for _, s := range []*site{branch, lab, depot} {
		s.hears("in-the-file")
	}
	branch.refused(exitFailed, "its master is hub", "group", "create", "refused")
	if out := hub.must("status"); strings.Contains(out, "directory-") {
		t.Errorf("status has a finding:\n%s", out)
	}

	file := filepath.Join(t.TempDir(), "corp.yaml")
	put(t, file, before)
	hub.must("directory", "import", file)
	strip := func(text string) string {
		var keep []string
		for line := range strings.SplitSeq(text, "\n") {
			if !strings.HasPrefix(line, "generation:") && !strings.HasPrefix(line, "term:") {
				keep = append(keep, line)
			}
		}
		return strings.Join(keep, "\n")
	}
	if after := hub.must("directory", "export"); strip(after) != strip(before) {
		t.Errorf("exported, moved twice and imported it is\n%s\nit was\n%s", after, before)
	}
}

// One voter is enough to move there and back, and to start from after a restart;
// when it is gone for good promotion brings the domain back.
func TestOneVoterAndPromotion(t *testing.T) {
	hub := initialised(t)
	hub.serve()
	hub.must("directory", "move", "--to", "etcd", "--servers", voterAt(t, hub))
	hub.must("group", "create", "projects")
	hub.stop()
	if err := os.RemoveAll(filepath.Join(hub.state, voterDir)); err != nil {
		t.Fatal(err)
	}
	hub.must("directory", "promote", "--force")
	hub.must("group", "create", "after")
	hub.serve()
	hub.hears("projects")
	hub.hears("after")
}
