package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBranches: a hub and three branches, each in a network namespace of its own, set up, changed and taken apart by commands alone: servers,
// a group, a folder, memberships, a schedule, orders, connections, roles. Whatever is changed while all run takes effect within two seconds.
func TestBranches(t *testing.T) {
	c := newCluster(t, plan{members: 4, shape: spoke})
	hub, branches := c.members[0], c.members[1:]
	live := 2 * time.Second

	// What to replicate, who with whom, where.
	hub.must("group", "create", "projects", "--hub", "hub")
	hub.must("folder", "create", folder, "--exclude-files", "*.tmp")
	hub.must("membership", "create", folder+"@hub", "--path", hub.root, "--primary")
	fill{files: 300, perDir: 30, bytes: 3000, seed: 4}.make(t, hub.root)
	for _, b := range branches {
		hub.must("membership", "create", folder+"@"+b.name, "--path", b.root)
	}
	c.wait(patience)
	c.converged()
	if out := hub.must("connection", "list", "projects"); strings.Count(out, "->") != 6 || strings.Contains(out, "branch->depot") {
		t.Errorf("the connections of a hub and three branches:\n%s", out)
	}
	write := func(m *member, name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(m.root, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	has := func(m *member, name string) bool {
		_, err := os.Stat(filepath.Join(m.root, name))
		return err == nil
	}
	everywhere := func(limit time.Duration, name string) {
		t.Helper()
		for _, m := range c.members {
			eventually(t, limit, name+" is on "+m.name, func() bool { return has(m, name) })
		}
	}
	branch, depot, yard := branches[0], branches[1], branches[2]
	write(depot, "from-depot")
	everywhere(patience, "from-depot")
	stopIfFailed(t, "set up")

	// A filter, live; changed on a member that is not the master it is refused with the master's name.
	hub.must("folder", "set", folder, "--exclude-files", "*.bak")
	for _, m := range branches {
		eventually(t, live, m.name+" knows of the filter", func() bool {
			out, err := m.dfs("folder", "show", folder)
			return err == nil && strings.Contains(out, "*.bak")
		})
	}
	write(branch, "kept.bak")
	write(branch, "now.tmp")
	everywhere(patience, "now.tmp")
	if has(hub, "kept.bak") {
		t.Error("the filter does not hold")
	}
	if err := os.Remove(filepath.Join(branch.root, "kept.bak")); err != nil {
		t.Fatal(err)
	}
	if out, err := yard.dfs("folder", "set", folder, "--rest", "5s"); err == nil || !strings.Contains(out+err.Error(), "hub") {
		t.Errorf("a change on a copy: %v\n%s", err, out)
	}

	// A schedule that is closed for one connection; an order opens it; another pauses the rest.
	hub.must("schedule", "set", "projects", "hub->branch", "utc; daily closed")
	eventually(t, live, "branch's connection is closed", func() bool { return strings.Contains(branch.must("connection", "list", "projects"), "closed") })
	write(hub, "at-night")
	eventually(t, patience, "at-night is on depot and yard", func() bool { return has(depot, "at-night") && has(yard, "at-night") })
	if has(branch, "at-night") {
		t.Error("a closed connection has brought a file")
	}
	branch.must("sync-now", "hub->branch", "--for", "10m")
	eventually(t, live, "at-night is on branch", func() bool { return has(branch, "at-night") })
	branch.must("resume", "hub->branch") // the order ends
	hub.must("schedule", "remove", "projects", "hub->branch")
	depot.must("pause", folder, "--for", "10m")
	write(hub, "while-paused")
	eventually(t, patience, "while-paused is on branch", func() bool { return has(branch, "while-paused") })
	if has(depot, "while-paused") {
		t.Error("a paused folder has taken a file")
	}
	depot.must("resume", folder)
	everywhere(patience, "while-paused")
	stopIfFailed(t, "schedules and orders")

	// A path moves with its content, and what lies there is used again.
	before := branch.received()
	branch.stop()
	moved := filepath.Join(filepath.Dir(branch.root), "moved")
	if err := os.Rename(branch.root, moved); err != nil {
		t.Fatal(err)
	}
	branch.start()
	hub.must("membership", "set", folder+"@branch", "--path", moved)
	branch.root = moved
	write(hub, "after-the-move")
	everywhere(patience, "after-the-move")
	c.wait(patience)
	c.converged()
	if got := branch.received() - before; got > 400_000 { // 900 kB of files
		t.Errorf("%d bytes came to a folder whose path had changed", got)
	}

	// A branch leaves and keeps its files; the others go on. It comes back.
	hub.must("membership", "remove", folder+"@yard")
	eventually(t, live, "yard replicates nothing", func() bool { return !strings.Contains(yard.must("status"), folder) })
	write(hub, "without-yard")
	eventually(t, patience, "without-yard is on depot", func() bool { return has(depot, "without-yard") })
	if has(yard, "without-yard") || !has(yard, "while-paused") {
		t.Error("a membership that ended goes on, or has taken its files along")
	}
	if err := os.RemoveAll(filepath.Join(yard.root, ".dfsr")); err != nil { // its marker is of the membership that ended
		t.Fatal(err)
	}
	hub.must("membership", "create", folder+"@yard", "--path", yard.root)
	everywhere(patience, "without-yard")
	c.wait(patience)
	c.converged()
}

// received is what has come in by the network of a member's host.
func (m *member) received() int64 { return m.host.linkBytes("tx_bytes") }
