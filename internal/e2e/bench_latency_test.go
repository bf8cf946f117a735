package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestBenchLatency is the time from the close of a 4 KiB file on A to its being readable on B: idle, beside a process that writes 2 GB to
// the same disk, and the same from an fsync and, with PEERS=all, of Syncthing.
func TestBenchLatency(t *testing.T) {
	benchmark(t, "latency", "syncthing-latency")
	if os.Getenv("BENCH") == "syncthing-latency" {
		syncthingLatency(t)
		return
	}
	c := newCluster(t, plan{size: benchImage})
	a, b := c.members[0], c.members[1]
	for _, m := range c.members[:1] {
		if err := os.MkdirAll(m.path("inbox"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.apply()
	c.wait(patience)
	seen := watch(t, b.path("inbox"))
	raw := rawFsync(t, c.trees[0].point)

	sampled(t, a, seen, "warm", 20, nil)
	idle := sampled(t, a, seen, "idle", 300, nil)
	p50, p99 := percentile(idle, 50), percentile(idle, 99)
	figures.add(t, figure{Row: "latency", What: "idle, p50", Unit: "ms", Ours: p50}.beside("create+fsync p50", percentile(raw, 50)).bar("30 ms", p50 <= 30))
	figures.add(t, figure{Row: "latency", What: "idle, p99", Unit: "ms", Ours: p99}.beside("create+fsync p99", percentile(raw, 99)).bar("100 ms", p99 <= 100))
	for i, who := range []string{"A", "B"} {
		busy := make(chan struct{})
		var err error
		go func() {
			defer close(busy)
			err = writeMuch(filepath.Join(c.trees[i].point, "beside"), 2*gib)
		}()
		samples := sampled(t, a, seen, "busy-"+who, 100_000, busy)
		<-busy
		if err != nil {
			t.Fatal(err)
		}
		what := fmt.Sprintf("while 2 GB are written to %s's disk, %%s (n=%d)", who, len(samples))
		figures.add(t, figure{Row: "latency", What: fmt.Sprintf(what, "p50"), Unit: "ms", Ours: percentile(samples, 50)})
		figures.add(t, figure{Row: "latency", What: fmt.Sprintf(what, "p99"), Unit: "ms", Ours: percentile(samples, 99)})
		must(t, "sync")
	}
	c.wait(patience)
	c.converged()
	if allPeers() {
		syncthingLatency(t)
	}
}

// sampled closes n files one after the other, with a pause between them, or until stop is closed.
func sampled(t *testing.T, a *member, seen *arrivals, name string, n int, stop <-chan struct{}) []time.Duration {
	t.Helper()
	rng := random(1, name)
	var out []time.Duration
	for i := range n {
		token := fmt.Sprintf("%s-%d", name, i)
		closed, err := closeFile(a.path("inbox", token), token, 4096)
		if err != nil {
			t.Fatal(err)
		}
		at, err := seen.await(token, 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, max(at.Sub(closed), 0))
		select {
		case <-stop:
			return out
		case <-time.After(time.Duration(5+rng.IntN(40)) * time.Millisecond):
		}
	}
	return out
}

// writeMuch is the other process: it writes, and waits until all is on the disk.
func writeMuch(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, zeroes{}, size)
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(path))
}

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { return len(b), nil }

// rawFsync is the calibration: create, write 4 KiB, fsync.
func rawFsync(t *testing.T, dir string) []time.Duration {
	t.Helper()
	var out []time.Duration
	for i := range 200 {
		path := filepath.Join(dir, fmt.Sprintf("raw-%d", i))
		began := time.Now()
		if err := writeSynced(path, make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		out = append(out, time.Since(began))
		os.Remove(path)
	}
	return out
}

// syncthingLatency is the same work by Syncthing.
func syncthingLatency(t *testing.T) {
	t.Run("Syncthing", func(t *testing.T) {
		has(t, "syncthing", "curl")
		p := newPair(t, 2*gib)
		s := newSyncthing(p)
		s.done(t, 0, time.Minute)
		seen := watch(t, s.root(1))
		var all []time.Duration
		for i := range 20 {
			token := fmt.Sprintf("syncthing-%d", i)
			closed, err := closeFile(filepath.Join(s.root(0), token), token, 4096)
			if err != nil {
				t.Fatal(err)
			}
			at, err := seen.await(token, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, at.Sub(closed))
		}
		figures.add(t, figure{Row: "latency", What: "Syncthing, shortest delay, p50", Unit: "ms", Ours: percentile(all, 50)})
	})
}

// TestBenchMixed changes 100 files a second on each of two members for a minute.
func TestBenchMixed(t *testing.T) {
	benchmark(t, "mixed")
	c := newCluster(t, plan{size: benchImage})
	const dirs = 10
	fill{files: 10_000, perDir: 100, bytes: 4000, seed: 5}.make(t, c.members[0].root)
	for _, m := range c.members {
		for d := range dirs {
			if err := os.MkdirAll(c.members[0].path("of-"+m.name, fmt.Sprint(d)), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.apply()
	c.wait(patience)
	const rate, seconds = 100, 60
	workers := make([]*changer, len(c.members))
	var wg sync.WaitGroup
	for i, m := range c.members {
		other := c.members[1-i]
		var watched []string
		for d := range dirs {
			watched = append(watched, other.path("of-"+m.name, fmt.Sprint(d)))
		}
		w := &changer{m: m, seen: watch(t, watched...), stands: map[string]string{}, closed: map[string]time.Time{}, how: map[string]string{}}
		workers[i] = w
		wg.Go(func() { w.work(rate, seconds*rate, dirs) })
	}
	wg.Wait()
	c.wait(patience)
	var all []time.Duration
	lost, overtaken := 0, 0
	for i, w := range workers {
		if w.err != nil {
			t.Fatal(w.err)
		}
		latencies, gone := w.latencies()
		all = append(all, latencies...)
		overtaken += gone
		for rel, token := range w.stands {
			if text, err := os.ReadFile(c.members[1-i].path(rel)); err != nil || !hasToken(text, token) {
				lost++
				t.Logf("%s of %s, %s, is lost: %s on %s", token, rel, w.closed[token].Format(time.StampMicro), w.how[token], w.m.name)
				if lost <= 3 {
					c.tellAbout(rel)
				}
			}
		}
	}
	c.converged()
	p99 := percentile(all, 99)
	figures.add(t, figure{Row: "mixed", What: fmt.Sprintf("2 x %d files/s, p50 (n=%d, %d overtaken)", rate, len(all), overtaken), Unit: "ms", Ours: percentile(all, 50)})
	figures.add(t, figure{Row: "mixed", What: "p99", Unit: "ms", Ours: p99}.bar("500 ms", p99 < 500))
	figures.add(t, figure{Row: "mixed", What: "files lost", Unit: "", Ours: float64(lost)}.bar("0", lost == 0))
}

func hasToken(text []byte, token string) bool {
	return len(text) > len(token) && string(text[:len(token)]) == token && text[len(token)] == '\n'
}

// changer makes changes at a rate on one member and notes when each version was closed.
type changer struct {
	m      *member
	seen   *arrivals
	stands map[string]string // path -> token of the version that stands
	closed map[string]time.Time
	how    map[string]string // token -> the way it was saved
	err    error
}

// work changes n files: new ones, overwritten ones, replaced ones.
func (w *changer) work(rate, n, dirs int) {
	rng := random(9, w.m.name)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := range n {
		<-tick.C
		token := fmt.Sprintf("%s-%d", w.m.name, i)
		rel := filepath.Join("of-"+w.m.name, fmt.Sprint(rng.IntN(dirs)), fmt.Sprintf("file-%d", rng.IntN(400)))
		path := w.m.path(rel)
		size := 1000 + rng.IntN(30_000)
		var at time.Time
		w.how[token] = "replaced by a rename"
		if rng.IntN(2) == 0 {
			w.how[token] = "overwritten in place"
			at, w.err = closeFile(path, token, size)
		} else {
			temp := filepath.Join(filepath.Dir(path), "~new")
			if _, w.err = closeFile(temp, token, size); w.err == nil {
				w.err = os.Rename(temp, path)
				at = time.Now()
			}
		}
		if w.err != nil {
			return
		}
		w.stands[rel] = token
		w.closed[token] = at
	}
}

// latencies of all versions that were seen on the other side; the others were overtaken by a newer version of the same file.
func (w *changer) latencies() (seen []time.Duration, overtaken int) {
	for token, closed := range w.closed {
		if at, ok := w.seen.when(token); ok {
			seen = append(seen, max(at.Sub(closed), 0))
		} else {
			overtaken++
		}
	}
	return seen, overtaken
}
