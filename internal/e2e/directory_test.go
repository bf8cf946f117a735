package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opendfs/internal/directory/directorytest"
)

// hears waits until a member knows of a group.
func (m *member) hears(group string, within time.Duration) {
	m.t.Helper()
	eventually(m.t, within, m.name+" knows of group "+group, func() bool {
		out, err := m.dfs("group", "list")
		return err == nil && strings.Contains(out, group)
	})
}

// changes waits until a member can change the domain, and makes a group.
func (m *member) changes(group string) {
	m.t.Helper()
	eventually(m.t, patience, m.name+" changes the domain", func() bool {
		_, err := m.dfs("group", "create", group)
		return err == nil
	})
}

// replicates shows that files go on travelling.
func replicates(t *testing.T, from, to *member, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(from.root, name), []byte(name), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, name+" arrives on "+to.name, func() bool {
		b, err := os.ReadFile(filepath.Join(to.root, name))
		return err == nil && string(b) == name
	})
}

// TestEtcdVoters: the domain lives in etcd on three servers; one of them dies, changes still land within two seconds everywhere; it returns; with
// two dead nothing is changed and files go on travelling; and the domain moves back into the file.
func TestEtcdVoters(t *testing.T) {
	c := newCluster(t, plan{members: 3})
	c.apply()
	c.wait(patience)
	hub, branch, depot := c.members[0], c.members[1], c.members[2]
	hub.must("directory", "move", "--to", "etcd", "--servers", "hub,branch,depot")
	for _, m := range c.members {
		m.changes("of-" + m.name)
	}
	hub.hears("of-depot", 2*time.Second)

	depot.kill()
	branch.must("group", "create", "without-depot")
	hub.hears("without-depot", 2*time.Second)
	branch.kill()
	if out, err := hub.dfs("group", "create", "alone"); err == nil {
		t.Errorf("one of three voters changes the domain:\n%s", out)
	}
	branch.start()
	branch.changes("two-again")
	depot.start()
	depot.hears("two-again", patience)
	hub.kill()
	replicates(t, branch, depot, "without-hub.txt")
	branch.must("group", "create", "without-hub")
	hub.start()
	hub.hears("without-hub", patience)
	eventually(t, patience, "the domain moves back", func() bool {
		_, err := hub.dfs("directory", "move", "--to", "file")
		return err == nil
	})
	hub.must("group", "create", "in-the-file")
	for _, m := range c.members {
		m.hears("in-the-file", patience)
	}
	c.wait(patience)
	c.converged()
}

// TestActiveDirectory: the domain moves into a Samba domain controller's DFSR objects, is changed there, survives the controller's absence, and
// comes back with nothing lost.
func TestActiveDirectory(t *testing.T) {
	directorytest.NeedController(t)
	c := newCluster(t, plan{members: 2})
	c.apply()
	c.wait(patience)
	hub, branch := c.members[0], c.members[1]
	dir := filepath.Join(workDir(t), "dc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	dc, err := directorytest.StartController(dir, hub.host.command)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if said := dc.Stop(); t.Failed() {
			t.Logf("the domain controller said:\n%s", shorten(said, 30))
		}
	})
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(directorytest.ControllerPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	there := []string{"--url", "ldaps://127.0.0.1", "--base", directorytest.ControllerBase}
	account := []string{"--user", directorytest.ControllerUser, "--password-file", password, "--ca", filepath.Join(dir, "ca.crt")}
	before := hub.must("directory", "export")
	move := append(append([]string{"directory", "move", "--to", "ad", "--servers", "hub"}, there...), account...)
	eventually(t, patience, "the domain moves there", func() bool {
		_, err := hub.dfs(move...) // refused until the controller answers
		return err == nil
	})
	if out := hub.must(append([]string{"directory", "export", "--from", "ad"}, there...)...); !strings.Contains(out, "projects:") || !strings.Contains(out, branch.root) {
		t.Errorf("Active Directory says\n%s", out)
	}
	hub.must("folder", "set", folder, "--rest", "3s")
	eventually(t, patience, "the branch follows", func() bool {
		out, err := branch.dfs("folder", "show", folder)
		return err == nil && strings.Contains(out, "3s")
	})
	dc.Stop()
	if out, err := hub.dfs("group", "create", "nowhere"); err == nil {
		t.Errorf("changed without Active Directory:\n%s", out)
	}
	hub.finds("directory-unreachable", patience)
	replicates(t, hub, branch, "without-ad.txt")
	hub.stop()
	hub.start() // from its copy
	replicates(t, branch, hub, "without-ad-either.txt")
	hub.must("directory", "promote", "--force")
	hub.must("folder", "set", folder, "--rest", "1m")
	if after := hub.must("directory", "export"); bare(after) != bare(before) {
		t.Errorf("back again the domain is\n%s\nit was\n%s", after, before)
	}
	c.wait(patience)
	c.converged()
}

// bare is a domain file without what counts its changes.
func bare(text string) string {
	var keep []string
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "generation:") && !strings.HasPrefix(line, "term:") {
			keep = append(keep, line)
		}
	}
	return strings.Join(keep, "\n")
}
