package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// newMany makes members on loopback, each in a process of its own, all on one filesystem that nobody else uses: what others do beside a folder
// costs its journal something. The first is the hub.
func newMany(t *testing.T, members int) []*member {
	t.Helper()
	program(t)
	needRoot(t)
	dir := filepath.Join(workDir(t), "many")
	newImage(t, "ext4", dir+".img", dir, 16*gib)
	var list []*member
	given := make(map[string]bool)
	for i := range members {
		name := "hub"
		if i > 0 {
			name = fmt.Sprintf("m%03d", i)
		}
		base := filepath.Join(dir, name)
		address := freePort(t)
		for given[address] { // it is free as long as nobody serves
			address = freePort(t)
		}
		given[address] = true
		m := newMember(t, name, nil, address, filepath.Join(base, "srv", "docs"), filepath.Join(base, "var", "dfs"))
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

// everywhere writes a file of that name into each folder on the hub, waits until all members have it, and says how long that took.
func everywhere(t *testing.T, list []*member, paths []string, name string) time.Duration {
	t.Helper()
	began := time.Now()
	for _, p := range paths {
		if err := os.WriteFile(filepath.Join(list[0].root, p, name), []byte(p), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range list[1:] {
		for _, p := range paths {
			eventually(t, 3*time.Minute, m.name+" has the file of "+p, func() bool {
				b, err := os.ReadFile(filepath.Join(m.root, p, name))
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
// All become Normal, a file in each arrives everywhere, one that is written into any is everywhere within two seconds, and afterwards a member
// of 256 folders costs less than a hundredth of a core, the hub of 1,024 pairs less than three.
func TestSoakManyFolders(t *testing.T) {
	if !soaking() {
		t.Skip("SKIPPED: only by `make soak`: many daemons")
	}
	list := newMany(t, 5)
	paths, took := normalFolders(t, list, 1, 256, 3*time.Minute)
	t.Logf("256 folders on 5 members are Normal after %v", took)
	t.Logf("a file in each is everywhere after %v", everywhere(t, list, paths, "file"))
	settle(t, list, time.Minute)
	if took := everywhere(t, list, paths[100:101], "late"); took > 2*time.Second {
		t.Errorf("a file in one of 256 folders is everywhere after %v", took)
	}
	restart := timed(func() {
		list[1].stop()
		list[1].start()
		settle(t, list[1:2], time.Minute)
	})
	t.Logf("a member of 256 folders is back after %.1f s", restart)
	pass(folderCalms)
	for i, share := range idle(list, time.Minute) {
		t.Logf("%s idles at %.2f %% of a core, %d MB", list[i].name, share*100, list[i].memory()>>20)
		if share > 0.01 && i > 0 || share > 0.03 {
			t.Errorf("%s, %d folders, uses %.2f %% of a core while nothing happens", list[i].name, len(paths), share*100)
		}
	}
}

// folderCalms is after what time a folder in which nothing happens is let alone.
const folderCalms = 15 * time.Second

// TestBenchIdle: two members of 256 folders, connected, in which nothing happens: how long they take to become Normal, and what they use of a
// core afterwards.
func TestBenchIdle(t *testing.T) {
	benchmark(t, "idle")
	list := newMany(t, 2)
	paths, normal := normalFolders(t, list, 1, 256, 3*time.Minute)
	pass(folderCalms)
	var shares []float64
	for _, share := range idle(list, time.Minute) {
		shares = append(shares, share*100)
	}
	worst := slices.Max(shares)
	what := fmt.Sprintf("%d folders on two members", len(paths))
	figures.add(t, figure{Row: "idle", What: what + ", Normal from nothing", Unit: "s", Ours: normal.Seconds()}.bar("under 10 s", normal < 10*time.Second))
	figures.add(t, figure{Row: "idle", What: what + ", at rest", Unit: "% of a core", Ours: worst, Runs: shares}.bar("under 1 %", worst < 1))
	figures.add(t, figure{Row: "idle", What: "RssAnon of one of them", Unit: "MB", Ours: float64(list[0].memory() >> 20)})
}

// TestSoakManyGroups: 256 groups on a server.
func TestSoakManyGroups(t *testing.T) {
	if !soaking() {
		t.Skip("SKIPPED: only by `make soak`: many daemons")
	}
	list := newMany(t, 2)
	paths, took := normalFolders(t, list, 256, 1, 3*time.Minute)
	t.Logf("256 groups on 2 members are Normal after %v", took)
	t.Logf("a file in each is everywhere after %v", everywhere(t, list, paths, "file"))
}

// TestSoakManyMembers: 256 members in a group, 510 connections at its hub.
func TestSoakManyMembers(t *testing.T) {
	if !soaking() {
		t.Skip("SKIPPED: only by `make soak`: many daemons")
	}
	members := 256
	allow(t, "/proc/sys/fs/fanotify/max_user_groups", 2*members) // each daemon has one
	list := newMany(t, members)
	paths, took := normalFolders(t, list, 1, 1, 5*time.Minute)
	t.Logf("%d members are Normal after %v", members, took)
	t.Logf("a file is everywhere after %v", everywhere(t, list, paths, "file"))
	t.Logf("the hub has %d MB, a branch %d MB", list[0].memory()>>20, list[1].memory()>>20)
}

// allow raises a limit of the kernel to least, for this test.
func allow(t *testing.T, file string, least int) {
	t.Helper()
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(before))); err == nil && n >= least {
		return
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(least)), 0); err != nil {
		t.Skipf("SKIPPED: %s cannot be raised to %d: %v", file, least, err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, before, 0); err != nil {
			t.Error(err)
		}
	})
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
