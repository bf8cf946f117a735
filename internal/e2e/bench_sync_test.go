package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// benchImage holds the source tree with room to spare.
const benchImage = 6 * gib

// TestBenchFirstSync is the row of the first sync, and on its way that of the initial build.
func TestBenchFirstSync(t *testing.T) {
	benchmark(t, "first-sync", "initial-build")
	program(t)
	needRoot(t, "rsync", "losetup", "ip")
	tree := sourceTree(t)
	files := countFiles(t, tree)
	var theirs, build, sync, wire []float64
	for run := range benchRuns {
		t.Run(fmt.Sprintf("rsync %d", run), func(t *testing.T) {
			theirs = append(theirs, rsyncFirstSync(t, tree))
			t.Logf("%.2f s", theirs[run])
		})
		t.Run(fmt.Sprintf("dfs %d", run), func(t *testing.T) {
			b, s, w := firstSync(t, tree)
			build, sync, wire = append(build, b), append(sync, s), append(wire, w)
		})
	}
	if len(sync) < benchRuns || len(theirs) < benchRuns {
		t.Fatal("a run failed")
	}
	ours, peer := median(sync), median(theirs)
	figures.add(t, figure{Row: "first-sync", What: fmt.Sprintf("%d files, durable", files), Unit: "s", Ours: ours, Runs: sync}.
		beside("rsync -a; sync", peer).bar("at most 1.3 x", ours <= 1.3*peer))
	figures.add(t, figure{Row: "first-sync", What: "on the wire, both ways", Unit: "MB", Ours: median(wire), Runs: wire})
	rates := make([]float64, len(build))
	for i, s := range build {
		rates[i] = float64(files) / s
	}
	raw := float64(files) / timed(func() { hashTree(t, tree) })
	figures.add(t, figure{Row: "initial-build", What: "caches warm", Unit: "files/s", Ours: median(rates), Runs: rates}.
		beside("read+BLAKE3 alone", raw).bar("at least 25,000", median(rates) >= 25_000))
	if allPeers() {
		rivalsFirstSync(t, tree, files)
	}
}

// hashTree is the calibration of the initial build: every file read and hashed, by as many workers as there are processors.
func hashTree(t *testing.T, tree string) {
	t.Helper()
	paths := make(chan string, 1000)
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for path := range paths {
				if _, err := hashFile(path); err != nil {
					t.Error(err)
				}
			}
		})
	}
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths <- path
		}
		return err
	})
	close(paths)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
}

func countFiles(t *testing.T, tree string) int {
	t.Helper()
	n := 0
	for _, l := range walk(t, tree) {
		if l[0] == '-' {
			n++
		}
	}
	return n
}

// rsyncFirstSync is one run of the peer on fresh images.
func rsyncFirstSync(t *testing.T, tree string) float64 {
	p := newPair(t, benchImage)
	copyTree(t, tree, p.a.point)
	p.rsyncDaemon()
	must(t, "sync")
	return p.rsync()
}

// firstSync is one run of ours: seconds of A's initial build, seconds from the enabling of B until both are in sync, megabytes on the wire.
func firstSync(t *testing.T, tree string) (build, sync, wire float64) {
	c := newCluster(t, plan{disabled: true, size: benchImage, filters: "{files: []}"})
	a, b := c.members[0], c.members[1]
	copyTree(t, tree, a.root)
	must(t, "sync")
	build = timed(func() {
		c.apply()
		a.normal(5 * time.Minute)
	})
	before, cpu := b.host.wireBytes(), a.cpu()
	c.enabled[1] = true
	sync = timed(func() {
		c.apply()
		c.wait(10 * time.Minute)
	})
	wire = float64(b.host.wireBytes()-before) / 1e6
	if said := rsyncDifference(t, a.root, b.root); said != "" {
		t.Errorf("the trees differ after the first sync:\n%s", shorten(said, 20))
	}
	t.Logf("build %.2f s, first sync %.2f s (%.2f and %.2f s of processor), %.0f MB on the wire", build, sync, a.cpu()-cpu, b.cpu(), wire)
	return build, sync, wire
}

// rivalsFirstSync measures the others, once each: they take minutes.
func rivalsFirstSync(t *testing.T, tree string, files int) {
	t.Helper()
	row := func(who string, seconds float64) {
		figures.add(t, figure{Row: "first-sync", What: who, Unit: "s", Ours: seconds})
	}
	t.Run("rsync --fsync", func(t *testing.T) {
		p := newPair(t, benchImage)
		copyTree(t, tree, p.a.point)
		p.rsyncDaemon()
		must(t, "sync")
		row("rsync --fsync", p.rsync("--fsync"))
	})
	t.Run("Unison", func(t *testing.T) {
		has(t, "unison")
		p := newPair(t, benchImage)
		copyTree(t, tree, p.a.point)
		must(t, "sync")
		row("Unison, scan included", p.unison())
	})
	t.Run("Syncthing", func(t *testing.T) {
		has(t, "syncthing", "curl")
		p := newPair(t, benchImage)
		if err := os.MkdirAll(p.a.point+"/docs", 0o755); err != nil {
			t.Fatal(err)
		}
		copyTree(t, tree, p.a.point+"/docs")
		must(t, "sync")
		row("Syncthing, scan included", timed(func() { newSyncthing(p).done(t, files, 20*time.Minute) }))
	})
}

func has(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: %s is not installed", tool)
		}
	}
}

// TestBenchBaseline measures the peers alone; it is asked for by name, while there is nothing of ours to measure.
func TestBenchBaseline(t *testing.T) {
	if os.Getenv("BENCH") == "" {
		t.Skip("SKIPPED: only with BENCH=baseline")
	}
	benchmark(t, "baseline")
	tree := sourceTree(t)
	var theirs []float64
	for run := range benchRuns {
		t.Run(fmt.Sprintf("rsync %d", run), func(t *testing.T) { theirs = append(theirs, rsyncFirstSync(t, tree)) })
	}
	figures.add(t, figure{Row: "baseline", What: "rsync -a from a daemon; sync", Unit: "s", Ours: median(theirs), Runs: theirs})
	if allPeers() {
		rivalsFirstSync(t, tree, countFiles(t, tree))
	}
}
