package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMasterLost: the master's machine dies; a survivor takes over with the exported CA; what is changed there arrives everywhere; the old
// master, back again, is put right before it takes a change. All of it asked by an administrator whose computer is no member.
func TestMasterLost(t *testing.T) {
	c := newCluster(t, plan{members: 3})
	c.apply()
	c.wait(patience)
	hub, branch, depot := c.members[0], c.members[1], c.members[2]
	dir := workDir(t)
	pass, exported, desk := filepath.Join(dir, "pass"), filepath.Join(dir, "ca.export"), filepath.Join(dir, "desk")
	if err := os.WriteFile(pass, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hub.must("ca", "export", exported, "--passphrase-file", pass)
	// The desk is in depot's network, with a state directory of its own.
	token := strings.TrimSpace(hub.must("invite", "--admin", "alice"))
	command := depot.host.command(program(t), "--state", desk, "join", token)
	must(t, command[0], command[1:]...)
	hub.must("grant", "admin", "admin:alice")
	alice := func(server string, args ...string) (string, error) {
		command := depot.host.command(append([]string{program(t), "--state", desk, "--server", server}, args...)...)
		return try(command[0], command[1:]...)
	}
	eventually(t, patience, "the survivor knows of the grant", func() bool {
		out, err := branch.dfs("grants")
		return err == nil && strings.Contains(out, "admin:alice")
	})
	if out, err := alice("branch", "status"); err != nil || !strings.Contains(out, folder) {
		t.Fatalf("alice asks branch: %v\n%s", err, out)
	}

	hub.kill()
	began := time.Now()
	branch.must("ca", "import", exported, "--passphrase-file", pass)
	eventually(t, patience, "the survivor is promoted", func() bool {
		_, err := alice("branch", "directory", "promote")
		return err == nil
	})
	t.Logf("promoted %v after the master died", time.Since(began))
	if out, err := alice("branch", "folder", "set", folder, "--rest", "3s"); err != nil {
		t.Fatalf("a change on the new master: %v\n%s", err, out)
	}
	eventually(t, 2*time.Second, "the other member follows", func() bool {
		out, err := depot.dfs("folder", "show", folder)
		return err == nil && strings.Contains(out, "3s")
	})
	if err := os.WriteFile(filepath.Join(branch.root, "after.txt"), []byte("without the master"), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the survivors replicate", func() bool {
		_, err := os.Stat(filepath.Join(depot.root, "after.txt"))
		return err == nil
	})

	hub.start()
	f := hub.finds("directory-superseded", patience)
	if !strings.Contains(f.Detail, "branch") || !strings.Contains(f.Detail, "domain.yaml.superseded") {
		t.Errorf("the finding says %q", f.Detail)
	}
	if out, err := hub.dfs("group", "create", "more"); err == nil || !strings.Contains(err.Error()+out, "master is branch") {
		t.Errorf("the old master takes a change: %v\n%s", err, out)
	}
	c.wait(patience)
	c.converged()
	if out := branch.must("events"); !strings.Contains(out, "admin:alice") || !strings.Contains(out, "rest: 1m -> 3s") {
		t.Errorf("the audit log:\n%s", out)
	}
	if out := hub.must("events"); !strings.Contains(out, "follow domain corp") {
		t.Errorf("the old master's audit log:\n%s", out)
	}
}

// TestRevokedWhileAway: a member that was off while another was revoked serves that one nothing when it is back.
func TestRevokedWhileAway(t *testing.T) {
	c := newCluster(t, plan{members: 3})
	c.apply()
	c.wait(patience)
	hub, thief, depot := c.members[0], c.members[1], c.members[2]
	depot.stop()
	hub.must("server", "revoke", thief.name)
	thief.finds("partner-refused", 5*time.Second)
	if err := os.WriteFile(filepath.Join(depot.root, "secret.txt"), []byte("not for the thief"), 0o644); err != nil {
		t.Fatal(err)
	}
	depot.start()
	eventually(t, patience, "the hub has the file", func() bool {
		_, err := os.Stat(filepath.Join(hub.root, "secret.txt"))
		return err == nil
	})
	if _, err := os.Stat(filepath.Join(thief.root, "secret.txt")); err == nil {
		t.Error("a revoked server was served")
	}
	if out := thief.must("status", "--json"); strings.Contains(out, "secret.txt") {
		t.Errorf("a revoked server knows of the file:\n%s", out)
	}
}
