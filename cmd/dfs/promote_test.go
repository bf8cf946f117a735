package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// passphrase writes a file that holds one.
func passphrase(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "passphrase")
	put(t, file, text+"\n")
	return file
}

// The master is gone: a survivor takes the CA and its place; the others follow;
// the old one, back with a change that nobody saw, becomes a copy and says so.
func TestPromote(t *testing.T) {
	for _, oneWay := range []bool{false, true} { // with one way the old master asks nothing of anybody by itself
		hub, branch := pair(t)
		depot := newSite(t, "depot")
		depot.must("join", strings.TrimSpace(hub.must("invite", "depot")), "--address", depot.address)
		depot.serve()
		hub.must("membership", "create", "projects/docs@depot", "--path", depot.folder)
		depot.must("status", "--wait", "--timeout", "20s")
		if oneWay {
			hub.must("group", "set", "projects", "--topology", "connections")
			for _, c := range []string{"branch->hub", "depot->hub"} {
				hub.must("connection", "remove", "projects", c)
			}
		}
		pass, exported := passphrase(t, "correct horse battery"), filepath.Join(t.TempDir(), "ca.export")
		branch.refused(exitFailed, "run it on hub", "ca", "export", exported, "--passphrase-file", pass)
		hub.refused(exitUsage, "no terminal", "ca", "export", exported)
		hub.refused(exitUsage, "use 8 at least", "ca", "export", exported, "--passphrase-file", passphrase(t, "short"))
		hub.must("ca", "export", exported, "--passphrase-file", pass)
		hub.refused(exitFailed, "exists; name another", "ca", "export", exported, "--passphrase-file", pass)
		if st, err := os.Stat(exported); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("mode of the exported CA: %v, %v", st, err)
		}
		branch.refused(exitFailed, "dfs ca import", "directory", "promote")
		branch.refused(exitFailed, "passphrase is wrong", "ca", "import", exported, "--passphrase-file", passphrase(t, "something else"))
		branch.must("ca", "import", exported, "--passphrase-file", pass)
		branch.eventually("has a session with the master", func() bool {
			_, errs, exit := branch.dfs("directory", "promote")
			return exit == exitFailed && strings.Contains(errs, "the master, hub, is connected")
		})
		branch.eventually("has the master's last change", func() bool {
			return read(t, filepath.Join(branch.state, "domain.copy")) == read(t, filepath.Join(hub.state, "domain.copy"))
		})

		hub.stop()
		hub.must("group", "create", "lonely") // by the command that works without a daemon: nobody hears of it
		branch.eventually("is without its master", func() bool {
			_, _, exit := branch.dfs("directory", "promote")
			return exit == exitDone
		})
		branch.refused(exitFailed, "is the master already", "directory", "promote")
		branch.must("group", "create", "after")
		depot.eventually("follows the new master", func() bool { return strings.Contains(depot.must("group", "list"), "after") })
		third := newSite(t, "third") // the new master invites
		third.must("join", strings.TrimSpace(branch.must("invite", "third")), "--address", third.address)

		hub.serve()
		hub.eventually("knows that another was promoted", func() bool { return strings.Contains(hub.must("status"), "directory-superseded") })
		hub.refused(exitFailed, "its master is branch", "group", "create", "more")
		out := hub.must("group", "list")
		if !strings.Contains(out, "after") || strings.Contains(out, "lonely") {
			t.Errorf("the old master has\n%s", out)
		}
		superseded := filepath.Join(hub.state, "domain.yaml.superseded")
		if !strings.Contains(read(t, superseded), "lonely") {
			t.Error("what the old master had is lost")
		}
		if out := hub.must("events"); !strings.Contains(out, "server:branch (a partner's copy)  follow domain corp") || !strings.Contains(out, "remove group lonely") {
			t.Errorf("the audit log of the old master:\n%s", out)
		}
		if err := os.Remove(superseded); err != nil {
			t.Fatal(err)
		}
		if !oneWay {
			hub.must("directory", "promote", "--force") // handed back; it still has the CA
			branch.eventually("is a copy", func() bool { return strings.Contains(branch.must("status"), "directory-superseded") })
		}
	}
}
