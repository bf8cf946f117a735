package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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
