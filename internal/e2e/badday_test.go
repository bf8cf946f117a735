package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBadDays plays one bad day after the other on one cluster: each is a finding, the rest goes on, and it passes.
func TestBadDays(t *testing.T) {
	c := newCluster(t, plan{size: 300 * mib})
	fill{files: 300, perDir: 30, bytes: 2000, seed: 4}.make(t, c.members[0].root)
	c.apply()
	c.wait(patience)
	for _, day := range []struct {
		name string
		play func(*testing.T, *cluster)
	}{
		{"disk full", diskFull},
		{"filesystem read-only", readOnly},
		{"root moved away", rootMoved},
		{"root unmounted", rootUnmounted},
		{"marker missing", markerMissing},
		{"marker foreign", markerForeign},
		{"mount over a directory", mountedOver},
		{"second daemon", secondDaemon},
		{"port in use", portInUse},
	} {
		t.Run(day.name, func(t *testing.T) {
			c.on(t)
			day.play(t, c)
			stopIfFailed(t, day.name)
			c.wait(patience)
			c.converged()
		})
		if t.Failed() {
			break
		}
	}
}

// on makes t the test that the cluster's helpers report to.
func (c *cluster) on(t testing.TB) {
	c.t, c.net.t = t, t
	for i := range c.members {
		c.members[i].t, c.trees[i].t, c.states[i].t = t, t, t
	}
}

func write(t *testing.T, m *member, rel, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(m.path(rel)), 0o755), os.WriteFile(m.path(rel), []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, m *member, rel string) {
	t.Helper()
	if err := os.RemoveAll(m.path(rel)); err != nil {
		t.Fatal(err)
	}
}

// arrives waits until a file has that content on a member.
func arrives(t *testing.T, m *member, rel, text string) {
	t.Helper()
	eventually(t, 30*time.Second, fmt.Sprintf("%s holds %q on %s", rel, text, m.name), func() bool {
		is, err := os.ReadFile(m.path(rel))
		return err == nil && string(is) == text
	})
}

func vanishes(t *testing.T, m *member, rel string) {
	t.Helper()
	eventually(t, 30*time.Second, rel+" is gone on "+m.name, func() bool {
		_, err := os.Lstat(m.path(rel))
		return errors.Is(err, fs.ErrNotExist)
	})
}

// diskFull: content waits, deletes and renames go on, and afterwards what waited comes.
func diskFull(t *testing.T, c *cluster) {
	a, b := c.members[0], c.members[1]
	write(t, a, "full/to rename", "rename me")
	write(t, a, "full/to delete", "delete me")
	c.wait(patience)
	ballast := filepath.Join(c.trees[1].point, "ballast")
	_, err := try("dd", "if=/dev/zero", "of="+ballast, "bs=1M")
	if err == nil {
		t.Fatal("the disk did not fill")
	}
	big := strings.Repeat("content that does not fit\n", 40_000)
	write(t, a, "full/big", big)
	f := eitherFinding(t, b, "disk-full", "free-space-reserve")
	if err := os.Rename(a.path("full/to rename"), a.path("full/renamed")); err != nil {
		t.Fatal(err)
	}
	remove(t, a, "full/to delete")
	arrives(t, b, "full/renamed", "rename me")
	vanishes(t, b, "full/to delete")
	write(t, b, "full/section", "")
	if out, err := b.dfs("status", "--wait", "--timeout", "1s"); exitCode(err) != 3 {
		t.Errorf("`dfs status --wait` on a full disk: exit status %d, want 3\n%s", exitCode(err), out)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	arrives(t, b, "full/big", big)
	b.clears(f.Code, 30*time.Second)
}

// TestQuotaExceeded: a quota is not a full disk. btrfs has quotas that hold for root too.
func TestQuotaExceeded(t *testing.T) {
	needRoot(t, "btrfs", "mkfs.btrfs")
	c := newCluster(t, plan{kind: "btrfs", size: gib})
	a, b := c.members[0], c.members[1]
	c.apply()
	c.wait(patience)
	point := c.trees[1].point
	must(t, "btrfs", "quota", "enable", point)
	must(t, "btrfs", "qgroup", "limit", "50M", "0/5", point)
	write(t, a, "to delete", "delete me")
	write(t, a, "small", "first")
	c.wait(patience)
	data := make([]byte, 80*mib)
	scribble(random(1, "quota"), data)
	if err := os.WriteFile(a.path("big"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	b.finds("quota-exceeded", 30*time.Second)
	remove(t, a, "to delete")
	vanishes(t, b, "to delete")
	must(t, "btrfs", "qgroup", "limit", "none", "0/5", point)
	b.clears("quota-exceeded", 60*time.Second)
	c.wait(patience)
	c.converged()
}

func eitherFinding(t *testing.T, m *member, codes ...string) finding {
	t.Helper()
	var found finding
	ok := within(30*time.Second, func() bool {
		for _, f := range m.status().Findings {
			for _, code := range codes {
				if f.Code == code {
					found = f
					return true
				}
			}
		}
		return false
	})
	if !ok {
		out, _ := m.dfs("status")
		t.Fatalf("%s raises none of %v:\n%s", m.name, codes, out)
	}
	return found
}

// readOnly: the kernel turned the filesystem read-only, as it does after an error.
func readOnly(t *testing.T, c *cluster) {
	a, b := c.members[0], c.members[1]
	// A filesystem with files open for writing refuses; the member may hold some for a moment.
	eventually(t, 20*time.Second, "the filesystem is read-only", func() bool {
		_, err := try("mount", "-o", "remount,ro", c.trees[1].point)
		return err == nil
	})
	write(t, a, "while read-only", "waits")
	b.finds("read-only-filesystem", 30*time.Second)
	c.trees[1].remount("rw")
	arrives(t, b, "while read-only", "waits")
	b.clears("read-only-filesystem", 30*time.Second)
}

// rootMoved: the root is not where it was; nothing is deleted anywhere, and it goes on when it is back.
func rootMoved(t *testing.T, c *cluster) {
	a, b := c.members[0], c.members[1]
	before := walk(t, a.root)
	b.stop()
	if err := os.Rename(b.root, b.root+".away"); err != nil {
		t.Fatal(err)
	}
	b.start()
	eitherFinding(t, b, "root-missing", "folder-marker-missing")
	write(t, a, "while moved", "waits")
	if err := os.Rename(b.root+".away", b.root); err != nil {
		t.Fatal(err)
	}
	arrives(t, b, "while moved", "waits")
	unharmed(t, a, before)
}

// unharmed checks that everything that stood on a member stands.
func unharmed(t *testing.T, m *member, before map[string]look) {
	t.Helper()
	after := walk(t, m.root)
	for name := range before {
		if _, ok := after[name]; !ok {
			t.Errorf("%s is gone on %s", name, m.name)
		}
	}
}

// rootUnmounted: the disk is taken away under the running member.
func rootUnmounted(t *testing.T, c *cluster) {
	a, b := c.members[0], c.members[1]
	before := walk(t, a.root)
	must(t, "umount", "-l", c.trees[1].point)
	write(t, a, "while unmounted", "waits")
	eitherFinding(t, b, "root-unmounted", "root-missing", "folder-marker-missing")
	if err := os.MkdirAll(b.root, 0o755); err != nil {
		t.Fatal(err)
	}
	eitherFinding(t, b, "root-unmounted", "folder-marker-missing")
	unharmed(t, a, before)
	if entries, err := os.ReadDir(b.root); err != nil || len(entries) > 0 {
		t.Errorf("something was put where the disk is not: %v %v", entries, err)
	}
	must(t, "mount", c.trees[1].loop, c.trees[1].point)
	arrives(t, b, "while unmounted", "waits")
	unharmed(t, a, before)
}

// markerMissing: a tree without its marker is nobody's.
func markerMissing(t *testing.T, c *cluster) {
	a, b := c.members[0], c.members[1]
	before := walk(t, a.root)
	b.stop()
	if err := os.Rename(b.private("marker"), filepath.Join(c.trees[1].point, "marker")); err != nil {
		t.Fatal(err)
	}
	remove(t, b, "section-00")
	b.start()
	b.finds("folder-marker-missing", 30*time.Second)
	unharmed(t, a, before)
	b.stop()
	if err := os.Rename(filepath.Join(c.trees[1].point, "marker"), b.private("marker")); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.clears("folder-marker-missing", 30*time.Second)
}

// markerForeign: the tree of another member, marker and all, was copied over.
func markerForeign(t *testing.T, c *cluster) {
	a, b := c.members[0], c.members[1]
	before := walk(t, a.root)
	b.stop()
	own, err := os.ReadFile(b.private("marker"))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(a.private("marker"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.private("marker"), foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	remove(t, b, "section-01")
	b.start()
	b.finds("folder-marker-foreign", 30*time.Second)
	unharmed(t, a, before)
	b.stop()
	if err := os.WriteFile(b.private("marker"), own, 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.clears("folder-marker-foreign", 30*time.Second)
}

// mountedOver: what lies under a mount is hidden, not deleted.
func mountedOver(t *testing.T, c *cluster) {
	a, b := c.members[0], c.members[1]
	write(t, a, "covered/file", "below")
	c.wait(patience)
	must(t, "mount", "-t", "tmpfs", "none", b.path("covered"))
	t.Cleanup(func() { _, _ = try("umount", "-l", b.path("covered")) })
	b.stop()
	b.start()
	write(t, a, "elsewhere", "goes on")
	arrives(t, b, "elsewhere", "goes on")
	write(t, a, "covered/file", "changed below")
	if text, err := os.ReadFile(a.path("covered/file")); err != nil || string(text) != "changed below" {
		t.Errorf("the mount on the other side took the file: %q %v", text, err)
	}
	must(t, "umount", b.path("covered"))
	arrives(t, b, "covered/file", "changed below")
}

// secondDaemon: the second on one state names the first and ends.
func secondDaemon(t *testing.T, c *cluster) {
	b := c.members[1]
	out, err := b.dfs("serve")
	if code := exitCode(err); code != 1 {
		t.Fatalf("a second daemon: exit status %d, want 1: %v %s", code, err, out)
	}
	pid := fmt.Sprint(b.status().PID)
	if !strings.Contains(err.Error(), pid) || !strings.Contains(err.Error(), "hint:") {
		t.Errorf("the second daemon does not name process %s and a remedy: %v", pid, err)
	}
}

// portInUse is one clear line.
func portInUse(t *testing.T, c *cluster) {
	b := c.members[1]
	b.stop()
	args := b.host.command("python3", "-c", "import socket,time\ns=socket.socket(socket.AF_INET6)\ns.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\ns.bind(('::',7440))\ns.listen()\nprint('ready',flush=True)\ntime.sleep(600)")
	has(t, "python3")
	end := background(t, args)
	eventually(t, 20*time.Second, "the port is taken", func() bool {
		ss := b.host.command("ss", "-Hltn")
		out, _ := try(ss[0], ss[1:]...)
		return strings.Contains(out, ":7440 ")
	})
	_, err := b.dfs("serve")
	if code := exitCode(err); code != 1 || !strings.Contains(err.Error(), "7440") || !strings.Contains(err.Error(), "hint:") {
		t.Errorf("port in use: exit status %d, said: %v", code, err)
	}
	end()
	b.start()
}

// TestWithoutRoot is a story that needs no root: loopback, plain directories, inotify, an unreadable file.
func TestWithoutRoot(t *testing.T) {
	c := newLocal(t)
	a, b := c.members[0], c.members[1]
	c.apply()
	c.wait(patience)
	if kind := a.folder().Journal; kind != "inotify" {
		t.Errorf("without root the journal is %q, want inotify", kind)
	}
	unprivileged := func(script string) {
		t.Helper()
		args := append(append([]string{}, a.prefix...), "sh", "-ec", "cd "+a.root+"; "+script)
		must(t, args[0], args[1:]...)
	}
	unprivileged("mkdir -p dir/below; echo 1 > dir/below/file; echo 2 > file; ln -s file link; mv dir moved")
	arrives(t, b, "moved/below/file", "1\n")
	arrives(t, b, "file", "2\n")
	// Its name is no UTF-8 either: what is said of it has to be.
	born := "born-closed\xff"
	unprivileged("umask 777; echo secret > '" + born + "'")
	f := a.finds("file-unreadable", 20*time.Second)
	if !strings.Contains(f.Object, "born-closed") {
		t.Errorf("the finding is on %q", f.Object)
	}
	unprivileged("echo 3 > file")
	arrives(t, b, "file", "3\n")
	unprivileged("chmod 600 '" + born + "'")
	arrives(t, b, born, "secret\n")
	for _, words := range [][]string{{"status"}, {"backlog", folder}, {"queue", "inbound"}} {
		b.must(words...)
		b.must(append(words, "--json")...)
	}
	a.clears("file-unreadable", 20*time.Second)
	// Read and on record before it was closed, and never sent: what waits for it says why.
	b.stop()
	unprivileged("echo known > closed")
	eventually(t, 20*time.Second, "the file is on record", func() bool {
		_, err := a.dfs("record", folder+":closed")
		return err == nil
	})
	unprivileged("chmod 000 closed")
	b.start()
	eventually(t, 30*time.Second, "somebody says why the file does not come", func() bool {
		return len(a.findings("file-unreadable"))+len(b.findings("file-unreadable")) > 0
	})
	unprivileged("chmod 600 closed")
	arrives(t, b, "closed", "known\n")
	c.wait(patience)
	c.converged()
}
