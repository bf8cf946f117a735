package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// newMany makes members on loopback, in plain directories, each in a process of its own; the first is the hub.
func newMany(t *testing.T, members int) []*member {
	t.Helper()
	program(t)
	needRoot(t)
	dir := workDir(t)
	var list []*member
	for i := range members {
		name := "hub"
		if i > 0 {
			name = fmt.Sprintf("m%03d", i)
		}
		base := filepath.Join(dir, name)
		m := newMember(t, name, nil, freePort(t), filepath.Join(base, "srv", "docs"), filepath.Join(base, "var", "dfs"))
		m.options = []string{"--metrics", "off"}
		list = append(list, m)
	}
	hub := list[0]
	hub.must("init", "--domain", "corp", "--server", hub.name, "--address", hub.address)
	hub.start()
	for _, m := range list[1:] {
		m.must("join", strings.TrimSpace(hub.must("invite", m.name)), "--address", m.address)
	}
	for _, m := range list[1:] {
		m.start()
	}
	return list
}

// manyFolders is a domain in which every server is a member of folders in groups, each folder in a directory of its own.
func manyFolders(t *testing.T, list []*member, groups, folders int) (file string, paths []string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("version: 1\ndomain: corp\nservers:\n")
	for _, m := range list {
		fmt.Fprintf(&b, "  %s: {address: %q}\n", m.name, m.address)
	}
	b.WriteString("groups:\n")
	for g := range groups {
		fmt.Fprintf(&b, "  g%03d:\n    topology: {hub-and-spoke: {hubs: [hub]}}\n    folders:\n", g)
		for f := range folders {
			rel := fmt.Sprintf("g%03d/f%03d", g, f)
			paths = append(paths, rel)
			fmt.Fprintf(&b, "      f%03d:\n        members:\n", f)
			for i, m := range list {
				if err := os.MkdirAll(filepath.Join(m.root, rel), 0o755); err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "          %s: {path: %q, primary: %v}\n", m.name, filepath.Join(m.root, rel), i == 0)
			}
		}
	}
	file = filepath.Join(workDir(t), "many.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, paths
}

// cpuTime is what a daemon has used of the processors.
func (m *member) cpuTime() time.Duration {
	m.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	if err != nil {
		m.t.Fatal(err)
	}
	f := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+2:])
	var ticks int64
	for _, s := range f[11:13] { // utime, stime
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			m.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// settle waits until every member is in sync.
func settle(t *testing.T, list []*member, limit time.Duration) {
	t.Helper()
	for range 2 {
		var all sync.WaitGroup
		failed := make(chan string, len(list))
		for _, m := range list {
			all.Go(func() {
				if out, err := m.dfs("status", "--wait", "--timeout", limit.String()); err != nil {
					failed <- fmt.Sprintf("%s: %v\n%s", m.name, err, out)
				}
			})
		}
		all.Wait()
		select {
		case text := <-failed:
			t.Fatal(text)
		default:
		}
	}
}

// normalFolders applies groups of folders, waits until all are Normal on all members, and says how long that took.
func normalFolders(t *testing.T, list []*member, groups, folders int, limit time.Duration) (paths []string, took time.Duration) {
	t.Helper()
	file, paths := manyFolders(t, list, groups, folders)
	began := time.Now()
	list[0].must("apply", "-f", file)
	settle(t, list, limit)
	return paths, time.Since(began)
}

// everywhere writes a file into each folder on the hub, waits until all members have it, and says how long that took.
func everywhere(t *testing.T, list []*member, paths []string) time.Duration {
	t.Helper()
	began := time.Now()
	for _, p := range paths {
		if err := os.WriteFile(filepath.Join(list[0].root, p, "file"), []byte(p), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range list[1:] {
		for _, p := range paths {
			eventually(t, 3*time.Minute, m.name+" has the file of "+p, func() bool {
				b, err := os.ReadFile(filepath.Join(m.root, p, "file"))
				return err == nil && string(b) == p
			})
		}
	}
	return time.Since(began)
}

// idle is the share of a core that each member uses while nothing happens.
func idle(list []*member, span time.Duration) (shares []float64) {
	var before []time.Duration
	for _, m := range list {
		before = append(before, m.cpuTime())
	}
	pass(span)
	for i, m := range list {
		shares = append(shares, float64(m.cpuTime()-before[i])/float64(span))
	}
	return shares
}

// TestSoakManyFolders: a group of 256 folders on a hub and four branches, 1,024 replicating pairs of folder and connection each way at the hub.
// All become Normal, a file in each arrives everywhere, and afterwards a member of 256 folders costs less than a hundredth of a core.
func TestSoakManyFolders(t *testing.T) {
	if !soaking() {
		t.Skip("SKIPPED: only by `make soak`: many daemons")
	}
	list := newMany(t, 5)
	paths, took := normalFolders(t, list, 1, 256, 3*time.Minute)
	t.Logf("256 folders on 5 members are Normal after %v", took)
	t.Logf("a file in each is everywhere after %v", everywhere(t, list, paths))
	settle(t, list, time.Minute)
	pass(3 * time.Second)
	for i, share := range idle(list, 20*time.Second) {
		t.Logf("%s idles at %.2f %% of a core, %d MB", list[i].name, share*100, list[i].memory()>>20)
		if share > 0.01 && i > 0 || share > 0.02 {
			t.Errorf("%s, %d folders, uses %.2f %% of a core while nothing happens", list[i].name, len(paths), share*100)
		}
	}
}

// TestSoakManyGroups: 256 groups on a server.
func TestSoakManyGroups(t *testing.T) {
	if !soaking() {
		t.Skip("SKIPPED: only by `make soak`: many daemons")
	}
	list := newMany(t, 2)
	paths, took := normalFolders(t, list, 256, 1, 3*time.Minute)
	t.Logf("256 groups on 2 members are Normal after %v", took)
	t.Logf("a file in each is everywhere after %v", everywhere(t, list, paths))
}

// TestSoakManyMembers: 256 members in a group, 510 connections at its hub.
func TestSoakManyMembers(t *testing.T) {
	if !soaking() {
		t.Skip("SKIPPED: only by `make soak`: many daemons")
	}
	members := 256
	list := newMany(t, members)
	paths, took := normalFolders(t, list, 1, 1, 5*time.Minute)
	t.Logf("%d members are Normal after %v", members, took)
	t.Logf("a file is everywhere after %v", everywhere(t, list, paths))
	t.Logf("the hub has %d MB, a branch %d MB", list[0].memory()>>20, list[1].memory()>>20)
}

// memory is what a daemon has of memory that is its own.
func (m *member) memory() int64 {
	m.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	if err != nil {
		m.t.Fatal(err)
	}
	f := rssAnon.FindSubmatch(text)
	if f == nil {
		m.t.Fatalf("no RssAnon in the status of %s", m.name)
	}
	kb, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		m.t.Fatal(err)
	}
	return kb << 10
}
