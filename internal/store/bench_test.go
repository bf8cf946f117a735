package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/version"

	"golang.org/x/sys/unix"
)

// benchRecords makes full records as an initial build does: files of 20-byte
// names, 50 to a directory, with hash, metadata blob, identity and print.
type benchRecords struct {
	f    *Folder
	rng  *rand.Rand
	dir  repl.UID
	left int
	n    int
	now  repl.Time
}

func newBenchRecords(f *Folder) *benchRecords {
	return &benchRecords{f: f, rng: rand.New(rand.NewPCG(1, 2)), now: 1_700_000_000_000_000_000}
}

var benchMeta = []byte(strings.Repeat("mode=0644 owner=1000 group=1000 ", 3))

func (b *benchRecords) batch(size int) *Batch {
	ws := make([]Write, 0, size)
	for len(ws) < size {
		g := b.f.Next()
		b.now += repl.Time(b.rng.Int64N(50_000))
		u := repl.Update{
			UID: repl.UID(g), GVSN: g, Type: repl.File, Present: true, Fence: repl.FenceDefault,
			CreateTime: b.now, Clock: b.now, Mtime: b.now - repl.Time(b.rng.Int64N(1e17)), Meta: benchMeta,
		}
		var handle [12]byte
		binary.LittleEndian.PutUint32(handle[:], 1)
		binary.LittleEndian.PutUint32(handle[4:], uint32(1000+b.n))
		binary.LittleEndian.PutUint32(handle[8:], b.rng.Uint32())
		if b.left == 0 {
			u.Type, u.Parent, u.Name = repl.Directory, b.f.root, fmt.Sprintf("directory-%010d", b.n)
			b.dir, b.left = u.UID, 50
		} else {
			u.Parent, u.Name = b.dir, fmt.Sprintf("a-name-of-%06x.txt", b.rng.Uint32N(1<<24))+strconv.Itoa(b.left%10)
			if len(u.Name) < 20 {
				u.Name += strings.Repeat("x", 20-len(u.Name))
			}
			u.Name = fmt.Sprintf("%02d", b.left) + u.Name[2:]
			u.Size = contentSize + b.rng.Int64N(1<<20)
			u.Content = sha256.Sum256(handle[:])
			b.left--
		}
		b.n++
		ws = append(ws, Write{Record: repl.Record{
			Update:   u,
			Identity: repl.Identity{Handle: string(handle[:]), Birth: b.now - 1e9},
			Print:    repl.Print{Size: u.Size, Mtime: u.Mtime, Ctime: b.now - repl.Time(b.rng.Int64N(1e9))},
		}})
	}
	return &Batch{Writes: ws}
}

// BenchmarkInsert inserts full records with every index, 1,000 a synced batch,
// and says what that is beside the same rows in raw Pebble batches.
func BenchmarkInsert(b *testing.B) {
	for _, raw := range []bool{false, true} {
		b.Run(map[bool]string{false: "store", true: "raw"}[raw], func(b *testing.B) { benchInsert(b, raw) })
	}
}

// recorder keeps what is applied, to apply it again raw.
type recorder struct {
	KV
	ops   []*Ops
	bytes int
}

func (r *recorder) Apply(ops *Ops, sync bool) error {
	if ops != nil {
		r.ops = append(r.ops, &Ops{append([]byte(nil), ops.buf...), append([]op(nil), ops.ops...)})
		r.bytes += len(ops.buf)
	}
	return r.KV.Apply(ops, sync)
}

func benchInsert(b *testing.B, raw bool) {
	const size = 1000
	b.StopTimer()
	kv, err := OpenPebble(filepath.Join(b.TempDir(), "db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = kv.Close() }()
	var rec *recorder
	target := kv
	if raw {
		rec = &recorder{KV: NewMemory()}
		target = rec
	}
	s, err := Open(target, rand.NewChaCha8([32]byte{1}))
	if err != nil {
		b.Fatal(err)
	}
	f, err := s.Folder(repl.FolderID{7})
	if err != nil {
		b.Fatal(err)
	}
	gen := newBenchRecords(f)
	var spent time.Duration
	for n := 0; n < b.N; n += size {
		batch := gen.batch(min(size, b.N-n))
		begin := time.Now()
		b.StartTimer()
		err := f.Put(batch)
		b.StopTimer()
		spent += time.Since(begin)
		if err != nil {
			b.Fatal(err)
		}
	}
	if raw {
		spent = 0
		b.ResetTimer()
		for _, ops := range rec.ops {
			begin := time.Now()
			b.StartTimer()
			err := kv.Apply(ops, true)
			b.StopTimer()
			spent += time.Since(begin)
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(rec.bytes)/float64(b.N), "rowbytes/op")
	}
	b.ReportMetric(float64(b.N)/spent.Seconds(), "records/s")
}

// TestScale is the measurement of the bars: STORE_SCALE=10000000 go test -run
// TestScale -timeout 1h. Without the variable it inserts few and asserts that
// what was inserted is counted.
func TestScale(t *testing.T) {
	total := 5000
	if v := os.Getenv("STORE_SCALE"); v != "" {
		total, _ = strconv.Atoi(v)
	}
	dir := filepath.Join(t.TempDir(), "db")
	kv, err := OpenPebble(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(kv, rand.NewChaCha8([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Folder(repl.FolderID{7})
	if err != nil {
		t.Fatal(err)
	}
	gen := newBenchRecords(f)
	begin, spent, last, mark := time.Now(), time.Duration(0), time.Duration(0), 0
	next := 100_000
	for n := 0; n < total; n += 1000 {
		batch := gen.batch(1000)
		t0 := time.Now()
		if err := f.Put(batch); err != nil {
			t.Fatal(err)
		}
		spent += time.Since(t0)
		if n+1000 == next {
			t.Logf("%9d records: %7.0f/s all, %7.0f/s since the last mark; wall %v; cpu %v; rss anon %d MB; go heap %d MB; %+v", next,
				float64(next)/spent.Seconds(), float64(next-mark)/(spent-last).Seconds(), time.Since(begin).Round(time.Second), cpuTime(), rssAnon(), heap(), s.Stats())
			mark, last = next, spent
			if next < 1_000_000 {
				next += 300_000
			} else {
				next += 1_000_000
			}
		}
	}
	c := f.Counts()
	if got := c.Files + c.Directories; got != int64(total)+1 {
		t.Fatalf("%d objects are counted, %d were inserted", got, total)
	}
	if total >= 100_000 {
		if err := kv.(*pebbleKV).db.Flush(); err != nil {
			t.Fatal(err)
		}
		t.Logf("at the end: %.0f bytes a record on disk; rss anon %d MB, %+v", float64(dirSize(t, dir))/float64(total), rssAnon(), s.Stats())
		measureReads(t, f, total)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// measureReads times what the engine does most.
func measureReads(t *testing.T, f *Folder, total int) {
	rng := rand.New(rand.NewPCG(3, 4))
	const reads = 50_000
	o := f.State().Originator
	var names []repl.Place
	begin := time.Now()
	for range reads {
		r, ok, err := f.Get(repl.UID{Originator: o, Version: version.FirstVersion + rng.Uint64N(uint64(total))})
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		names = append(names, repl.Place{Dir: r.Parent, Name: r.Name})
	}
	t.Logf("random Get: %.0f/s", reads/time.Since(begin).Seconds())
	begin = time.Now()
	for _, p := range names {
		if _, ok, err := f.At(p.Dir, p.Name); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	t.Logf("random At: %.0f/s", reads/time.Since(begin).Seconds())
	begin = time.Now()
	seen := 0
	var dirs []repl.UID
	if err := f.Children(f.root, "", func(r *repl.Record) bool {
		dirs = append(dirs, r.UID)
		return len(dirs) < 20_000
	}); err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if err := f.Children(d, "", func(*repl.Record) bool { seen++; return true }); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("Children: %.0f records/s over %d directories", float64(seen+len(dirs))/time.Since(begin).Seconds(), len(dirs))
	begin = time.Now()
	n, bytes, err := f.Count(f.Vector())
	t.Logf("Count: %d updates, %d bytes, %v: %.0f/s", n, bytes, err, float64(n)/time.Since(begin).Seconds())
	begin = time.Now()
	after, seen := version.GVSN{}, 0
	for seen < 1_000_000 {
		us, next, more, err := f.Updates(f.Vector(), after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		after, seen = next, seen+len(us)
		if !more {
			break
		}
	}
	t.Logf("Updates: %.0f/s; rss anon %d MB", float64(seen)/time.Since(begin).Seconds(), rssAnon())
	runtime.KeepAlive(names)
}

// cpuTime is what the process has used, on a machine that others use too.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Round(100 * time.Millisecond)
}

func rssAnon() int {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kb >> 10
		}
	}
	return 0
}

func heap() uint64 {
	m := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(m)
	return m[0].Value.Uint64() >> 20
}

func dirSize(t *testing.T, dir string) (n int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if i, err := e.Info(); err == nil {
			n += i.Size()
		}
	}
	return n
}
