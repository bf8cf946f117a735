package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// otherEtcd runs the distribution's own etcd, with a certificate that it makes itself
// and a password for its user root, and returns its URL and its certificate.
func otherEtcd(t *testing.T) (url, ca string, stop func()) {
	t.Helper()
	program, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("SKIPPED: no etcd here; apt install etcd-server")
	}
	if _, err := exec.LookPath("etcdctl"); err != nil {
		t.Skip("SKIPPED: no etcdctl here; apt install etcd-client")
	}
	dir := t.TempDir()
	var at [2]string
	for i := range at {
		if at[i], err = freeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	url, ca = "https://"+at[0], filepath.Join(dir, "data/fixtures/client/cert.pem")
	log := new(logBuffer)
	etcd := exec.Command(program, "--name", "one", "--data-dir", filepath.Join(dir, "data"), "--auto-tls", "--listen-client-urls", url, "--advertise-client-urls", url,
		"--listen-peer-urls", "http://"+at[1], "--initial-advertise-peer-urls", "http://"+at[1], "--initial-cluster", "one=http://"+at[1])
	etcd.Stdout, etcd.Stderr = log, log
	if err := etcd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		_ = etcd.Process.Kill()
		_ = etcd.Wait()
	}
	t.Cleanup(func() {
		if stop(); t.Failed() {
			t.Logf("log of etcd:\n%s", log.String())
		}
	})
	control := func(args ...string) ([]byte, error) {
		c := exec.Command("etcdctl", append([]string{"--endpoints", url, "--cacert", ca}, args...)...)
		c.Env = append(os.Environ(), "ETCDCTL_API=3")
		return c.CombinedOutput()
	}
	(&site{t: t, name: "etcd"}).eventually("answers", func() bool { _, err := control("endpoint", "health"); return err == nil })
	for _, c := range []string{"user add root:secret", "user grant-role root root", "auth enable"} {
		if out, err := control(strings.Fields(c)...); err != nil {
			t.Fatalf("etcdctl %s: %v\n%s", c, err, out)
		}
	}
	return url, ca, stop
}

// The domain moves into an etcd that is there already and belongs to somebody else;
// two servers speak to it, a third follows. While it is away members go on replicating.
func TestTheDomainLivesInAnotherEtcd(t *testing.T) {
	url, ca, stop := otherEtcd(t)
	hub, branch := pair(t)
	depot := joined(t, hub, "depot")
	password := filepath.Join(t.TempDir(), "password")
	put(t, password, "wrong\n")
	move := []string{"directory", "move", "--to", "etcd", "--endpoints", url, "--servers", "hub,branch", "--user", "root", "--password-file", password, "--ca", ca}
	hub.refused(exitFailed, "nothing was changed", move...)
	put(t, password, "secret\n")
	if out := hub.must(move...); !strings.Contains(out, "lives in etcd") {
		t.Errorf("move says\n%s", out)
	}
	hub.must("group", "create", "from-hub")
	branch.hears("from-hub") // from hub: it has no password yet
	if out, err := exec.Command("cp", "-a", filepath.Join(hub.state, clientDir), branch.state).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	branch.stop()
	branch.serve()
	branch.eventually("speaks to etcd", func() bool { _, _, exit := branch.dfs("group", "create", "from-branch"); return exit == exitDone })
	hub.hears("from-branch")
	depot.hears("from-branch")
	depot.refused(exitFailed, "branch or hub", "group", "create", "refused")

	stop()
	hub.write("on", "members go on")
	hub.must("status", "--wait", "--timeout", "20s")
	if !branch.has("on") {
		t.Error("members do not replicate while the directory is away")
	}
}
