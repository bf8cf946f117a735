package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
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

// TestFlippedState flips bytes in each file of a member's state: what is the database's is rebuilt by itself, what is an identity is refused
// with a line, and nothing is lost.
func TestFlippedState(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	fill{files: 500, perDir: 50, bytes: 2000, seed: 6}.make(t, a.root)
	c.apply()
	c.wait(patience)
	before := walk(t, a.root)
	b.stop()
	rebuilt := 0
	for _, kind := range []string{"*", "db/*.sst", "db/*.log", "db/MANIFEST-*", "db/OPTIONS-*"} {
		files, err := filepath.Glob(filepath.Join(b.state, kind))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(kind, "db/") {
			files = files[:min(len(files), 1)]
		}
		for _, path := range files {
			if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
				rebuilt += flipped(t, b, path)
			}
			for _, m := range c.members {
				if diff := difference(before, walk(t, m.root)); len(diff) > 0 {
					t.Fatalf("%s flipped: the tree of %s is not what it was:\n%s", path, m.name, shorten(strings.Join(diff, "\n"), 10))
				}
			}
		}
	}
	if rebuilt == 0 {
		t.Error("no flip led to a rebuild; the story shows nothing")
	}
	b.start()
	write(t, b, "after all", "alive")
	c.wait(patience)
	c.converged()
}

// flipped flips one file of a stopped member's state and starts it: it has to come to rest with its partner, or refuse and say why. It gives
// 1 if the database was rebuilt.
func flipped(t *testing.T, b *member, path string) (rebuilt int) {
	t.Helper()
	rel, err := filepath.Rel(b.state, path)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, path)
	b.launch()
	answered := within(20*time.Second, func() bool {
		_, err := b.ask()
		return err == nil || b.ended()
	})
	switch {
	case !answered:
		t.Errorf("%s flipped: neither an answer nor an end within 20 s", rel)
		b.kill()
	case b.ended():
		refusedWell(t, b, rel)
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		if _, err := b.dfs("status", "--wait", "--timeout", "30s"); err != nil {
			out, _ := b.dfs("status")
			t.Fatalf("%s flipped: %v\n%s", rel, err, out)
		}
		for _, f := range b.status().Findings {
			if f.Code == "state-rebuilt" {
				rebuilt = 1
			}
		}
		b.stop()
	}
	t.Logf("%s flipped: refused %v, rebuilt %v", rel, b.cmd.ProcessState.ExitCode() == 1, rebuilt == 1)
	return rebuilt
}

// hasRemedy reports whether a message says what to do: behind a semicolon, or in a line of its own.
func hasRemedy(text string) bool {
	return strings.Contains(text, "hint: ") || strings.Contains(text, "; ")
}

// flip turns bits at a few places all over a file.
func flip(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	for i := range int64(8) {
		at := info.Size() * i / 8
		if _, err := f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x55
		if _, err := f.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
}

// refusedWell checks that a daemon that would not start said why, in a line with a remedy, and did not panic.
func refusedWell(t *testing.T, m *member, rel string) {
	t.Helper()
	text, err := os.ReadFile(m.logs)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	last := strings.Join(lines[max(len(lines)-3, 0):], "\n")
	code := m.cmd.ProcessState.ExitCode()
	if code != 1 || strings.Contains(string(text), "goroutine ") || !strings.Contains(last, "dfs: ") || !hasRemedy(last) {
		t.Errorf("%s flipped: ended with %d and said:\n%s", rel, code, last)
	}
}

// TestStateRolledBack puts an old database beside a newer tree: the member takes a new originator, compares, and lets nothing of the past win
// (rule 3).
func TestStateRolledBack(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	fill{files: 300, perDir: 30, bytes: 2000, seed: 6}.make(t, a.root)
	c.apply()
	c.wait(patience)
	b.stop()
	old := filepath.Join(c.states[1].point, "old")
	must(t, "cp", "-a", b.state, old)
	b.start()
	write(t, b, "new on B", "B's new")
	write(t, b, "section-00/part-0000/document-0000001.txt", "B's edit")
	remove(t, b, "section-01")
	write(t, a, "section-02/part-0002/document-0000061.txt", "A's edit")
	c.wait(patience)
	before := walk(t, a.root)
	b.stop()
	must(t, "rm", "-rf", b.state)
	must(t, "cp", "-a", old, b.state)
	b.start()
	c.wait(patience)
	b.finds("state-rolled-back", 10*time.Second)
	if diff := difference(before, walk(t, a.root)); len(diff) > 0 {
		t.Errorf("the past changed the present:\n%s", shorten(strings.Join(diff, "\n"), 20))
	}
	c.converged()
	write(t, b, "after", "alive")
	arrives(t, a, "after", "alive")
}

// TestStateLost removes the database: it is rebuilt by itself, local differences do not win.
func TestStateLost(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	fill{files: 300, perDir: 30, bytes: 2000, seed: 6}.make(t, a.root)
	c.apply()
	c.wait(patience)
	b.stop()
	must(t, "rm", "-rf", filepath.Join(b.state, "db"))
	write(t, b, "section-00/part-0000/document-0000001.txt", "an edit that nobody saw")
	write(t, a, "section-00/part-0000/document-0000002.txt", "A's edit")
	b.start()
	c.wait(patience)
	b.finds("state-rebuilt", 10*time.Second)
	c.converged()
	if !contents(t, a.root, b.root)["an edit that nobody saw"] {
		t.Error("the edit that nobody saw is neither live nor kept")
	}
	write(t, b, "after", "alive")
	arrives(t, a, "after", "alive")
	quietRestart(t, c)
}

// TestStateInTree: a folder that would hold the state of its member is refused.
func TestStateInTree(t *testing.T) {
	c := newLocal(t)
	b := c.members[1]
	b.root = filepath.Dir(b.state)
	file := filepath.Join(workDir(t), "domain.yaml")
	if err := os.WriteFile(file, []byte(c.domain()), 0o644); err != nil {
		t.Fatal(err)
	}
	c.members[0].must("apply", "-f", file)
	f := b.finds("state-in-tree", 20*time.Second)
	if f.Severity != "error" {
		t.Errorf("state-in-tree is of severity %q", f.Severity)
	}
	if _, err := os.Lstat(b.private()); err == nil {
		t.Error("the folder was begun all the same")
	}
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
	unprivileged("echo secret > closed; chmod 000 closed")
	a.finds("file-unreadable", 20*time.Second)
	unprivileged("echo 3 > file")
	arrives(t, b, "file", "3\n")
	unprivileged("chmod 600 closed")
	arrives(t, b, "closed", "secret\n")
	a.clears("file-unreadable", 20*time.Second)
	c.wait(patience)
	c.converged()
}

// TestHalfOpenLink: a partner that vanishes without a word is noticed within 20 s, and found again when it is back.
func TestHalfOpenLink(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	c.apply()
	c.wait(patience)
	b.host.cut()
	began := time.Now()
	a.finds("partner-unreachable", 25*time.Second)
	if took := time.Since(began); took > 21*time.Second {
		t.Errorf("noticed after %v", took)
	}
	write(t, a, "meanwhile", "A's")
	b.host.heal()
	arrives(t, b, "meanwhile", "A's")
	a.clears("partner-unreachable", 30*time.Second)
}

// TestTokens: a wrong token and a used one are refused with a line.
func TestTokens(t *testing.T) {
	c := newLocal(t)
	hub := c.members[0]
	token := strings.TrimSpace(hub.must("invite", "third"))
	dir := workDir(t)
	join := func(token, state string) error {
		_, err := try(program(t), "--state", filepath.Join(dir, state), "join", token, "--address", freePort(t))
		return err
	}
	refused := func(what string, err error) {
		t.Helper()
		if code := exitCode(err); code != 1 && code != 2 {
			t.Errorf("%s: exit status %d: %v", what, code, err)
		} else if strings.Contains(err.Error(), "goroutine") || !hasRemedy(err.Error()) {
			t.Errorf("%s: no clear line: %v", what, err)
		}
	}
	refused("no token", join("nonsense", "a"))
	wrong := []byte(token)
	wrong[len(wrong)/2] ^= 1
	refused("a token with a letter changed", join(string(wrong), "b"))
	if err := join(token, "c"); err != nil {
		t.Fatalf("the right token: %v", err)
	}
	refused("a used token", join(token, "d"))
	text, err := os.ReadFile(hub.logs)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), token) {
		t.Error("the log holds the token")
	}
	var modes []string
	err = filepath.WalkDir(hub.state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSocket != 0 {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 && !d.IsDir() && filepath.Dir(path) == hub.state && strings.HasSuffix(path, ".key") {
			modes = append(modes, fmt.Sprintf("%s %v", path, info.Mode()))
		}
		return err
	})
	info, statErr := os.Stat(hub.state)
	if err := errors.Join(err, statErr); err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 || len(modes) > 0 {
		t.Errorf("the state directory is %v, and others can read %v", info.Mode(), modes)
	}
}

// TestAddressList: a server is reached by the second of its addresses when the first does not answer, and a round trip of 100 ms is no
// obstacle.
func TestAddressList(t *testing.T) {
	c := newLocal(t)
	a := c.members[0]
	b := c.members[1]
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := ln.Addr().String()
	ln.Close()
	far := delayed(t, b.address, 100*time.Millisecond)
	c.listen = map[string]string{b.name: b.address}
	b.addresses = []string{dead, far}
	c.apply()
	c.wait(patience)
	fill{files: 2000, perDir: 50, bytes: 1000, seed: 8}.make(t, b.root)
	chownTree(t, b)
	began := time.Now()
	c.wait(patience)
	took := time.Since(began)
	c.converged()
	t.Logf("2,000 files over a round trip of 100 ms: %v", took)
	if took > 30*time.Second {
		t.Errorf("2,000 small files took %v; throughput depends on the round trip", took)
	}
	if n := a.folder().Files; n != 2000 {
		t.Errorf("%s counts %d files", a.name, n)
	}
}

// chownTree gives a tree to the user that the member runs as.
func chownTree(t *testing.T, m *member) {
	t.Helper()
	if len(m.prefix) > 0 {
		must(t, "chown", "-R", "65534:65534", m.root)
	}
}
