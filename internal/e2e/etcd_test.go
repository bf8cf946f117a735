package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opendfs/internal/directory/directorytest"
)

// TestEtcdThatIsThere: the domain moves into three servers of the distribution's etcd, which have a CA and client certificates of their own; hub and
// branch speak to them, depot follows. Whichever of the three is killed, changes land on the other member; and the domain moves back into the file.
func TestEtcdThatIsThere(t *testing.T) {
	directorytest.NeedEtcd(t)
	c := newCluster(t, plan{members: 3})
	c.apply()
	c.wait(patience)
	hub, branch, depot := c.members[0], c.members[1], c.members[2]
	dir := workDir(t)
	var at [][2]string
	for _, m := range c.members {
		at = append(at, [2]string{m.host.v4 + ":2379", m.host.v4 + ":2380"})
	}
	etcd, err := directorytest.NewEtcd(dir, at, func(i int, args ...string) []string { return c.members[i].host.command(args...) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if said := etcd.Close(); t.Failed() {
			t.Logf("etcd said:\n%s", said)
		}
	})
	start := func(i int) {
		t.Helper()
		if err := etcd.Start(i); err != nil {
			t.Fatal(err)
		}
	}
	for i := range c.members {
		start(i)
	}
	before := hub.must("directory", "export")
	move := []string{"directory", "move", "--to", "etcd", "--servers", "hub,branch", "--endpoints", strings.Join(etcd.Endpoints(), ",")}
	var out string
	within(patience, func() bool { // until they listen
		out, err = hub.dfs(move...)
		return err == nil || !strings.Contains(out+err.Error(), "connection refused")
	})
	if err == nil || !strings.Contains(out+err.Error(), "signed by unknown authority") || !strings.Contains(out+err.Error(), "nothing was changed") {
		t.Errorf("without the CA of etcd: %v\n%s", err, out)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	// What branch needs to speak to it is put there by hand, as the guide says.
	must(t, "install", "-d", "-m", "700", filepath.Join(branch.state, "etcd-client"))
	for _, name := range []string{"ca.crt", "client.crt", "client.key"} {
		must(t, "install", "-m", "600", file(name), filepath.Join(branch.state, "etcd-client", name))
	}
	eventually(t, patience, "the domain moves there", func() bool {
		_, err := hub.dfs(append(move, "--ca", file("ca.crt"), "--cert", file("client.crt"), "--key", file("client.key"))...) // refused until etcd answers
		return err == nil
	})
	branch.changes("of-branch")
	hub.hears("of-branch", 2*time.Second)
	hub.must("group", "create", "of-hub")
	branch.hears("of-hub", 2*time.Second)
	depot.hears("of-hub", patience)
	if out, err := depot.dfs("group", "create", "of-depot"); err == nil {
		t.Errorf("depot, which does not speak to etcd, changes the domain:\n%s", out)
	}

	for i, m := range c.members { // among them the leader, and those that the members have a connection with
		etcd.Kill(i)
		name := "without-etcd-of-" + m.name
		began := time.Now()
		hub.must("group", "create", name)
		t.Logf("changed %v after one of three was killed", time.Since(began).Round(time.Millisecond))
		branch.hears(name, 5*time.Second)
		branch.must("group", "remove", name)
		eventually(t, 5*time.Second, "hub follows", func() bool { return !strings.Contains(hub.must("group", "list"), name) })
		if i < 2 {
			start(i)
			eventually(t, patience, "etcd has three again", func() bool { return etcd.Serves(i) })
		}
	}
	if soaking() { // it takes etcd's and our own patience, twice
		etcdIsGone(t, c, etcd)
	}
	eventually(t, patience, "the domain moves back", func() bool {
		_, err := hub.dfs("directory", "move", "--to", "file")
		return err == nil
	})
	for _, g := range []string{"of-branch", "of-hub"} {
		hub.must("group", "remove", g)
	}
	hub.must("group", "create", "in-the-file")
	for _, m := range c.members {
		m.hears("in-the-file", patience)
	}
	hub.must("group", "remove", "in-the-file")
	if after := hub.must("directory", "export"); bare(after) != bare(before) {
		t.Errorf("back again the domain is\n%s\nit was\n%s", after, before)
	}
	if _, err := os.Stat(filepath.Join(hub.state, "domain.yaml")); err != nil {
		t.Error(err)
	}
	c.wait(patience)
	c.converged()
}

// etcdIsGone: two of three servers of etcd are down. Nothing is changed, the finding names who does not answer, a member that starts then says so
// too, and files go on travelling.
func etcdIsGone(t *testing.T, c *cluster, etcd *directorytest.Etcd) {
	t.Helper()
	hub, branch := c.members[0], c.members[1]
	etcd.Kill(1)
	if out, err := hub.dfs("group", "create", "nowhere"); err == nil || !strings.Contains(out+err.Error(), "connection refused") {
		t.Errorf("one of three servers of etcd changes the domain: %v\n%s", err, out)
	}
	branch.stop()
	branch.start()
	replicates(t, hub, branch, "without-etcd.txt")
	if f := branch.finds("directory-unreachable", patience); !strings.Contains(f.Detail, etcd.Endpoints()[1]+": ") {
		t.Errorf("the finding says %q", f.Detail)
	}
	if err := etcd.Start(1); err != nil {
		t.Fatal(err)
	}
	branch.changes("two-again")
	hub.hears("two-again", patience)
	branch.must("group", "remove", "two-again")
}
