package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// deltaSize is the size of the file of the rows about deltas, in bytes: what DELTA_SIZE says, or 1 GiB.
func deltaSize(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv("DELTA_SIZE")
	if text == "" {
		return gib
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 64*mib {
		t.Fatalf("DELTA_SIZE=%q: a number of bytes, at least 64 MiB", text)
	}
	return n
}

// The edit of the rows: 16 places, 64 KiB each, of bytes that do not shrink.
const (
	deltaPlaces = 16
	deltaBytes  = 64 << 10
)

// TestBenchInsert is the row of a large file into which bytes are inserted, beside rsync.
func TestBenchInsert(t *testing.T) {
	benchmark(t, "rdc-insert")
	benchDelta(t, "rdc-insert", true)
}

// TestBenchOverwrite is the row of a large file in which bytes are overwritten, beside rsync.
func TestBenchOverwrite(t *testing.T) {
	benchmark(t, "rdc-overwrite")
	benchDelta(t, "rdc-overwrite", false)
}

func benchDelta(t *testing.T, row string, insert bool) {
	program(t)
	needRoot(t, "rsync", "losetup", "ip")
	size := deltaSize(t)
	var ours, theirs, wire, wireTheirs, readA, readB []float64
	for run := range benchRuns {
		t.Run(fmt.Sprintf("rsync %d", run), func(t *testing.T) {
			p := newPair(t, 3*size+gib)
			large := filepath.Join(p.a.point, "large")
			writeLarge(t, large, size)
			p.rsyncDaemon()
			must(t, "sync")
			p.rsync()
			editLarge(t, large, large+".new", large, insert)
			must(t, "sync")
			h := p.net.hosts[1]
			before := h.wireBytes()
			theirs = append(theirs, p.rsync("--no-whole-file"))
			t.Logf("%.2f s", theirs[run])
			wireTheirs = append(wireTheirs, float64(h.wireBytes()-before)/1e6)
		})
		t.Run(fmt.Sprintf("dfs %d", run), func(t *testing.T) {
			c := newCluster(t, plan{size: 3*size + gib})
			a, b := c.members[0], c.members[1]
			writeLarge(t, a.path("large"), size)
			c.apply()
			c.wait(10 * time.Minute)
			aside := filepath.Join(c.trees[0].point, "aside")
			editLarge(t, a.path("large"), aside, "", insert)
			must(t, "sync")
			before, reads := b.host.wireBytes(), [2]int64{a.reads(), b.reads()}
			cpu := [2]float64{a.cpu(), b.cpu()}
			ours = append(ours, timed(func() {
				if err := os.Rename(aside, a.path("large")); err != nil {
					t.Fatal(err)
				}
				c.wait(10 * time.Minute)
			}))
			wire = append(wire, float64(b.host.wireBytes()-before)/1e6)
			readA = append(readA, float64(a.reads()-reads[0])/float64(size))
			readB = append(readB, float64(b.reads()-reads[1])/float64(size))
			c.converged()
			t.Logf("%.2f s (%.2f and %.2f s of processor), %.3f MB on the wire, read %.2f and %.2f of the file",
				ours[run], a.cpu()-cpu[0], b.cpu()-cpu[1], wire[run], readA[run], readB[run])
		})
	}
	if len(ours) < benchRuns || len(theirs) < benchRuns {
		t.Fatal("a run failed")
	}
	what := fmt.Sprintf("%d bytes, 16 x 64 KiB", size)
	figures.add(t, figure{Row: row, What: what, Unit: "s", Ours: median(ours), Runs: ours}.
		beside("rsync --no-whole-file", median(theirs)).bar("at most 0.5 x", median(ours) <= median(theirs)/2))
	figures.add(t, figure{Row: row, What: "on the wire, both ways", Unit: "MB", Ours: median(wire), Runs: wire}.
		beside("rsync", median(wireTheirs)).bar("at most 1.25 MB", median(wire) <= 1.25))
	for who, reads := range map[string][]float64{"the side that changed it": readA, "the other side": readB} {
		figures.add(t, figure{Row: row, What: "read on " + who, Unit: "x the file", Ours: median(reads), Runs: reads}.
			bar("at most 1.05", median(reads) <= 1.05))
	}
}

// TestBenchChunks is the row of chunking and hashing data in memory, beside the hash alone.
func TestBenchChunks(t *testing.T) {
	benchmark(t, "rdc-chunks")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	out := must(t, "go", "test", "-C", root, "-run", "^$", "-bench", "^Benchmark(SignOneWorkerChunksOnly|SignTwoWorkersChunksOnly|RawBLAKE3)$", "-count", "5", "./internal/rdc")
	rates := make(map[string][]float64)
	for _, m := range signRate.FindAllStringSubmatch(out, -1) {
		rates[m[1]] = append(rates[m[1]], parse(t, m[2])/1000)
	}
	one, two, raw := median(rates["SignOneWorkerChunksOnly"]), median(rates["SignTwoWorkersChunksOnly"]), median(rates["RawBLAKE3"])
	figures.add(t, figure{Row: "rdc-chunks", What: "chunks cut and hashed in memory, one core", Unit: "GB/s", Ours: one}.
		beside("BLAKE3 alone", raw).bar("at least 1.2", one >= 1.2))
	figures.add(t, figure{Row: "rdc-chunks", What: "two workers", Unit: "GB/s", Ours: two}.beside("one", one).bar("both cores used: 1.5 x", two >= 1.5*one))
}

var signRate = regexp.MustCompile(`(?m)^Benchmark(\w+?)(?:-\d+)?\s.*?([\d.e+]+) MB/s`)

// reads is what the daemon has read by system calls so far.
func (m *member) reads() int64 {
	m.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", m.status().PID))
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "rchar: "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err != nil {
				m.t.Fatal(err)
			}
			return n
		}
	}
	m.t.Fatal("/proc/PID/io has no rchar")
	return 0
}

// cpu is the processor's seconds that the daemon has had so far.
func (m *member) cpu() float64 {
	m.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.status().PID))
	if err != nil {
		m.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var ticks float64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			m.t.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100
}

// writeLarge writes a file of size random bytes.
func writeLarge(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{1}), size)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// editLarge writes the file from to to with the row's edit: bytes inserted, or overwritten; and then renames it to name, if there is one.
func editLarge(t *testing.T, from, to, name string, insert bool) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		t.Fatal(err)
	}
	dst, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(dst, int(mib))
	fresh := rand.NewChaCha8([32]byte{2})
	part := info.Size() / deltaPlaces
	for i := range int64(deltaPlaces) {
		_, err1 := io.CopyN(w, fresh, deltaBytes)
		var err2 error
		if !insert {
			_, err2 = src.Seek(deltaBytes, io.SeekCurrent)
		}
		left := part
		if !insert {
			left -= deltaBytes
		}
		if i == deltaPlaces-1 {
			left += info.Size() % deltaPlaces
		}
		_, err3 := io.CopyN(w, src, left)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
	}
	err = errors.Join(w.Flush(), dst.Close())
	if err == nil && name != "" {
		err = os.Rename(to, name)
	}
	if err != nil {
		t.Fatal(err)
	}
}
