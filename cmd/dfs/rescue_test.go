package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// damage makes garbage of both copies of the domain.
func (s *site) damage() {
	s.t.Helper()
	for _, name := range []string{"domain.copy", "domain.copy.old"} {
		file := filepath.Join(s.state, name)
		if _, err := os.Stat(file); err != nil && strings.HasSuffix(name, ".old") {
			continue // just restored: there was none before
		}
		put(s.t, file, strings.Replace(read(s.t, file), "domain", "dornain", 1))
	}
}

// Both copies of the domain are damaged: the member fetches it from a partner, for
// the master is gone, and replicates; without anybody to ask it waits for one.
func TestADamagedDomainIsFetchedFromAPartner(t *testing.T) {
	hub, branch := pair(t)
	depot := joined(t, hub, "depot")
	hub.must("membership", "create", "projects/docs@depot", "--path", depot.folder)
	depot.must("status", "--wait", "--timeout", "20s")
	hub.stop()
	branch.stop()
	branch.damage()
	branch.serve()
	branch.eventually("runs its folder", func() bool { return strings.Contains(branch.must("status"), "projects/docs") })
	branch.write("after.txt", "still here")
	depot.eventually("has the change", func() bool {
		b, err := os.ReadFile(filepath.Join(depot.folder, "after.txt"))
		return err == nil && string(b) == "still here"
	})
	if out := branch.log.String(); !strings.Contains(out, "fetched anew") || !strings.Contains(out, "depot") {
		t.Error("the log does not tell that the domain was fetched anew")
	}
	for _, name := range []string{"domain.copy.damaged", "domain.copy.old.damaged"} {
		if !strings.Contains(read(t, filepath.Join(branch.state, name)), "dornain") {
			t.Errorf("%s is not what was damaged", name)
		}
	}

	branch.stop()
	branch.refused(exitFailed, "is a good one", "directory", "recover", "--from", depot.address)
	branch.damage()
	if err := os.Remove(filepath.Join(branch.state, "domain.servers")); err != nil {
		t.Fatal(err)
	}
	branch.refused(exitFailed, "dfs directory recover", "serve", "--metrics", "off")
	branch.refused(exitFailed, "name another server", "directory", "recover", "--from", hub.address)
	if out := branch.must("directory", "recover", "--from", depot.address); !strings.Contains(out, "is here again") {
		t.Errorf("recover says %s", out)
	}
	branch.serve()
}

// A voter whose copies are damaged reads the domain in etcd.
func TestADamagedDomainIsReadInItsDirectory(t *testing.T) {
	hub := initialised(t)
	hub.serve()
	hub.must("directory", "move", "--to", "etcd", "--servers", voterAt(t, hub))
	hub.must("group", "create", "projects")
	hub.stop()
	hub.damage()
	hub.serve()
	hub.hears("projects")
	if out := hub.log.String(); !strings.Contains(out, "from=etcd") && !strings.Contains(out, `"from":"etcd"`) {
		t.Error("the domain did not come from etcd")
	}
	hub.eventually("changes it", func() bool { _, _, exit := hub.dfs("group", "create", "more"); return exit == exitDone })
}
