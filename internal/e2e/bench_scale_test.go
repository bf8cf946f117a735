package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// TestBenchRenameDir renames a directory of 100,000 files on A; it ends when B has it under the new name.
func TestBenchRenameDir(t *testing.T) {
	benchmark(t, "rename-dir")
	c := newCluster(t, plan{size: benchImage})
	a, b := c.members[0], c.members[1]
	const files = 100_000
	fill{files: files, perDir: 1000, bytes: 100, seed: 2}.make(t, a.path("big"))
	c.apply()
	c.wait(5 * time.Minute)
	var seconds, wire []float64
	name := "big"
	for run := range benchRuns {
		to := fmt.Sprintf("big-%d", run)
		before := b.host.wireBytes()
		began := time.Now()
		if err := os.Rename(a.path(name), a.path(to)); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, "B has the directory under its new name", func() bool {
			_, err := os.Lstat(b.path(to, "section-99", "part-0099"))
			return err == nil
		})
		seconds = append(seconds, time.Since(began).Seconds())
		c.wait(time.Minute)
		wire = append(wire, float64(b.host.wireBytes()-before)/1000)
		if _, err := os.Lstat(b.path(name)); err == nil {
			t.Errorf("B still has %s", name)
		}
		name = to
	}
	s, w := median(seconds), median(wire)
	figures.add(t, figure{Row: "rename-dir", What: fmt.Sprintf("%d files", files), Unit: "s", Ours: s, Runs: seconds}.bar("under 1 s", s < 1))
	figures.add(t, figure{Row: "rename-dir", What: "on the wire, both ways, status --wait included", Unit: "kB", Ours: w, Runs: wire}.bar("under 10 kB", w < 10))
	c.converged()
}

// TestBenchMillion is one member with a million files: the rows restart and memory.
func TestBenchMillion(t *testing.T) {
	benchmark(t, "restart", "memory")
	c := newCluster(t, plan{size: 16 * gib, disabled: true})
	a := c.members[0]
	const some, many = 100_000, 1_000_000
	fill{files: some, perDir: 200, bytes: 100, seed: 2}.make(t, a.path("first"))
	peak := watchMemory(a)
	build := timed(func() {
		c.apply()
		a.normal(5 * time.Minute)
	})
	small := peak.take()
	t.Logf("initial build of %d files: %.1f s, peak RssAnon %.0f MB", some, build, small)
	fill{files: many - some, perDir: 200, bytes: 100, seed: 3}.make(t, a.path("second"))
	a.must("status", "--wait", "--timeout", "10m")
	if n := a.folder().Files; n != many {
		t.Errorf("the member counts %d files, there are %d", n, many)
	}
	large := peak.take()
	must(t, "sync")
	reads := countReads(t, a.root)
	var seconds, content []float64
	for range benchRuns {
		a.stop()
		must(t, "find", a.root, "-newermt", "2100-01-01")
		reads.events.Store(0)
		seconds = append(seconds, timed(func() {
			a.start()
			a.normal(5 * time.Minute)
			a.must("status", "--wait", "--timeout", "5m")
		}))
		content = append(content, float64(reads.events.Load()))
		peak = watchMemory(a)
	}
	restarted := peak.take()
	if n := a.folder().Captured; n != 0 {
		t.Errorf("the restart captured %d updates", n)
	}
	s := median(seconds)
	figures.add(t, figure{Row: "restart", What: fmt.Sprintf("%d files unchanged, to Normal and status --wait", many), Unit: "s", Ours: s, Runs: seconds}.bar("under 20 s", s < 20))
	// The marker and the like are read; the files are not.
	figures.add(t, figure{Row: "restart", What: "reads of files in the tree", Unit: "", Ours: median(content), Runs: content}.bar("none of content", median(content) < 10))
	figures.add(t, figure{Row: "memory", What: "peak RssAnon with a million files", Unit: "MB", Ours: large}.bar("at most 300 MB", large <= 300))
	figures.add(t, figure{Row: "memory", What: "after the restart", Unit: "MB", Ours: restarted})
	grown := (large - small) * 1e6 / (many - some)
	figures.add(t, figure{Row: "memory", What: "growth a file, from a tenth", Unit: "bytes", Ours: grown}.bar("at most 100", grown <= 100))
}

// memoryPeak follows RssAnon of a daemon.
type memoryPeak struct {
	stop chan struct{}
	peak chan float64
	m    *member
}

func watchMemory(m *member) *memoryPeak {
	p := &memoryPeak{stop: make(chan struct{}), peak: make(chan float64, 1), m: m}
	pid := m.cmd.Process.Pid
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		var most float64
		for {
			if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
				if f := rssAnon.FindSubmatch(text); f != nil {
					kb, _ := strconv.ParseFloat(string(f[1]), 64)
					most = max(most, kb*1024/1e6)
				}
			}
			select {
			case <-p.stop:
				p.peak <- most
				return
			case <-tick.C:
			}
		}
	}()
	return p
}

var rssAnon = regexp.MustCompile(`RssAnon:\s+(\d+) kB`)

// take gives the peak so far in megabytes and begins anew.
func (p *memoryPeak) take() float64 {
	close(p.stop)
	peak := <-p.peak
	*p = *watchMemory(p.m)
	return peak
}

// TestBenchStore is the store's own measurement: inserts beside raw batches of the database under it, and what does not grow with a million records.
func TestBenchStore(t *testing.T) {
	benchmark(t, "store")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	out := must(t, "go", "test", "-C", root, "-run", "^$", "-bench", "BenchmarkInsert", "-benchtime", "300000x", "-count", "3", "./internal/store")
	rates := make(map[string][]float64)
	for _, m := range insertRate.FindAllStringSubmatch(out, -1) {
		rates[m[1]] = append(rates[m[1]], parse(t, m[2]))
	}
	ours, raw := median(rates["store"]), median(rates["raw"])
	figures.add(t, figure{Row: "store", What: "inserts, synced batches of 1,000, all indexes", Unit: "records/s", Ours: ours, Runs: rates["store"]}.
		beside("raw Pebble batch", raw).bar("at least 100,000", ours >= 100_000))

	out = must(t, "env", "STORE_SCALE=1000000", "go", "test", "-C", root, "-count=1", "-v", "-run", "^TestScale$", "-timeout", "10m", "./internal/store")
	marks := scaleMark.FindAllStringSubmatch(out, -1)
	size := bytesARecord.FindStringSubmatch(out)
	if len(marks) < 2 || size == nil {
		t.Fatalf("TestScale does not say its marks any more:\n%s", out)
	}
	first, last := parse(t, marks[0][2]), parse(t, marks[len(marks)-1][2])
	figures.add(t, figure{Row: "store", What: "rate at a million to rate at a tenth of it", Unit: "", Ours: last / first}.bar("at least 0.75", last >= 0.75*first))
	figures.add(t, figure{Row: "store", What: "on disk", Unit: "bytes a record", Ours: parse(t, size[1])}.bar("at most 400", parse(t, size[1]) <= 400))
}

var (
	insertRate   = regexp.MustCompile(`(?m)^BenchmarkInsert/(\w+?)(?:-\d+)?\s.*?([\d.e+]+) records/s`)
	scaleMark    = regexp.MustCompile(`(\d+) records: +\d+/s all, +(\d+)/s since`)
	bytesARecord = regexp.MustCompile(`(\d+) bytes a record on disk`)
)

func parse(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
