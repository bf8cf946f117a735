package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/version"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// sample makes a database with tables, a log with unflushed batches, and
// several edits in its MANIFEST, and returns what its folder holds.
func sample(t *testing.T, dir string) map[string]repl.Record {
	m := &member{t: t, open: func() (KV, error) { return OpenPebble(dir, Options{}) }}
	m.start()
	var before []repl.Record
	for i := range 40 {
		r := m.object(repl.File, m.f.root, fmt.Sprintf("file-%02d", i))
		r.Meta = []byte(strings.Repeat(fmt.Sprint("meta", i%3), 20))
		m.put(&Batch{Writes: []Write{{Record: r}}})
		before = append(before, r)
		if i%10 == 9 {
			must(t, m.kv.(*pebbleKV).db.Flush())
		}
	}
	m.put(&Batch{Writes: []Write{m.next(before[3], dead), m.next(before[15], func(r *repl.Record) { r.Size++ })}})
	must(t, m.kv.(*pebbleKV).db.Compact(t.Context(), []byte{0}, []byte{0xff}, false))
	for i := range 10 {
		m.put(&Batch{Writes: []Write{{Record: m.object(repl.File, m.f.root, fmt.Sprintf("late-%02d", i))}}})
		if i == 4 {
			must(t, m.kv.(*pebbleKV).db.Flush())
		}
	}
	held := held(t, m.f)
	must(t, m.s.Close())
	return held
}

// held returns a folder's live records by name and checks all of them.
func held(t *testing.T, f *Folder) map[string]repl.Record {
	out := make(map[string]repl.Record)
	must(t, f.Children(f.root, "", func(r *repl.Record) bool {
		out[r.Name] = *r
		return true
	}))
	return out
}

// read opens a database that may be damaged and reads all of it: the records,
// or the error that it gives instead.
func read(dir string) (out map[string]repl.Record, err error) {
	kv, err := OpenPebble(dir, Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, kv.Close()) }()
	s, err := Open(kv, rand.NewChaCha8([32]byte{}))
	if err != nil {
		return nil, err
	}
	if !slices.Contains(s.Folders(), docs) {
		return nil, nil
	}
	f, err := s.Folder(docs)
	if err != nil {
		return nil, err
	}
	out = make(map[string]repl.Record)
	err = f.Children(f.root, "", func(r *repl.Record) bool {
		out[r.Name] = *r
		return true
	})
	if err != nil {
		return nil, err
	}
	u, _, _, err := f.Updates(f.Vector(), version.GVSN{}, 1000)
	if n, _, err := f.Count(f.Vector()); err == nil && n != len(u) {
		return nil, fmt.Errorf("%d updates are counted, %d are there", n, len(u))
	}
	return out, err
}

// judge accepts damage that is named, the whole truth, and, where the end of a
// log was hit, the truth of an earlier moment.
func judge(t *testing.T, what string, want map[string]repl.Record, got map[string]repl.Record, err error, logEnd bool) (found bool) {
	t.Helper()
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: the error is not ErrCorrupt: %v", what, err)
		}
		return true
	}
	for name, r := range got {
		// Only log's end makes an earlier version of a file true.
		if w, ok := want[name]; (!ok || w.GVSN != r.GVSN || w.Content != r.Content || string(w.Meta) != string(r.Meta)) && !logEnd {
			t.Errorf("%s: %s came back as %v", what, name, r.GVSN)
		}
	}
	if len(got) != len(want) {
		if !logEnd {
			t.Errorf("%s: %d records of %d, and no error", what, len(got), len(want))
		}
		// A shorter history lacks the last names, not some in the middle.
		for _, name := range slices.Sorted(maps.Keys(got)) {
			if strings.HasPrefix(name, "late-") && name != "late-00" {
				var n int
				if _, err := fmt.Sscanf(name, "late-%d", &n); err != nil {
					t.Fatal(err)
				}
				if _, ok := got[fmt.Sprintf("late-%02d", n-1)]; !ok {
					t.Errorf("%s: %s without the one before", what, name)
				}
			}
		}
	}
	return false
}

// TestFlippedBytesNeverPassForRecords flips bytes of every file of a real
// database and opens each damaged copy.
func TestFlippedBytesNeverPassForRecords(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	want := sample(t, dir)
	files, err := os.ReadDir(dir)
	must(t, err)
	scratch := filepath.Join(t.TempDir(), "copy")
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(dir, file.Name()))
		must(t, err)
		isLog := strings.HasSuffix(file.Name(), ".log")
		tries, detected, shorter := 0, 0, 0
		for _, at := range places(len(content), testing.Short()) {
			copyDir(t, dir, scratch)
			damaged := slices.Clone(content)
			damaged[at] ^= 1 << (at % 8)
			must(t, os.WriteFile(filepath.Join(scratch, file.Name()), damaged, 0o600))
			what := fmt.Sprintf("byte %d of %d of %s", at, len(content), file.Name())
			got, err := read(scratch)
			tries++
			if judge(t, what, want, got, err, isLog) {
				detected++
			} else if len(got) < len(want) {
				shorter++
			}
		}
		t.Logf("%-45s %5d bytes: %3d flips, %3d reported, %3d a shorter history", file.Name(), len(content), tries, detected, shorter)
	}
}

// places returns bytes to flip: all of a small file's ends, some of the middle.
func places(size int, few bool) []int {
	n := 24
	if few {
		n = 8
	}
	var out []int
	for i := range min(size, n) {
		out = append(out, i*size/min(size, n))
	}
	for i := max(0, size-8); i < size; i++ {
		out = append(out, i)
	}
	return slices.Compact(slices.Sorted(slices.Values(out)))
}

func copyDir(t *testing.T, from, to string) {
	must(t, os.RemoveAll(to))
	must(t, os.CopyFS(to, os.DirFS(from)))
}

// TestMissingFilesAreDamage takes files away, one a copy.
func TestMissingFilesAreDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	want := sample(t, dir)
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, file := range files {
		name := file.Name()
		scratch := filepath.Join(t.TempDir(), "copy")
		copyDir(t, dir, scratch)
		must(t, os.Remove(filepath.Join(scratch, name)))
		got, err := read(scratch)
		found := judge(t, name+" is missing", want, got, err, strings.HasSuffix(name, ".log"))
		needed := strings.HasSuffix(name, ".sst") || strings.HasPrefix(name, "marker.manifest")
		if needed && !found {
			t.Errorf("%s is missing, and nobody says so", name)
		}
	}
}

// TestAShortManifestIsToldFromATornOne cuts and spoils the MANIFEST's end.
func TestAShortManifestIsToldFromATornOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	sample(t, dir)
	found, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	must(t, err)
	b, err := os.ReadFile(found[len(found)-1])
	must(t, err)
	must(t, checkChunks(b))
	must(t, checkChunks(append(slices.Clone(b), make([]byte, 100)...)))
	for cut := 1; cut < 30; cut++ {
		must(t, checkChunks(b[:len(b)-cut]))
	}
	last, at := 0, 0 // where the last chunk begins
	for at < len(b) {
		last, at = at, at+logHeader+int(b[at+4])+int(b[at+5])<<8
	}
	for i := last; i < len(b); i++ {
		for bit := range 8 {
			bad := slices.Clone(b)
			bad[i] ^= 1 << bit
			if err := checkChunks(bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("bit %d of byte %d of the last record: %v", bit, i-last, err)
			}
		}
	}
}

func TestADamagedDatabaseIsMovedAsideAndMadeAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	sample(t, dir)
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, want := range []string{"db.damaged-20260203-040506", "db.damaged-20260203-040506-2"} {
		to, err := MoveAside(dir, now)
		if err != nil || filepath.Base(to) != want {
			t.Fatalf("moved to %s, %v; want %s", to, err, want)
		}
		if _, err := os.Stat(filepath.Join(to, "LOCK")); err != nil {
			t.Fatal(err)
		}
		m := &member{t: t, open: func() (KV, error) { return OpenPebble(dir, Options{}) }}
		m.start()
		equal(t, "children of the new one", children(t, m.f, m.f.root, ""), []string{})
		must(t, m.s.Close())
	}
}

func TestNewerFilesAreNoDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebbleFormat + 1, Logger: &health{logger: quiet()}})
	must(t, err)
	must(t, db.Close())
	if _, err := OpenPebble(dir, Options{}); !errors.Is(err, ErrNewer) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("newer files: %v", err)
	}
}

func TestAForeignDatabaseIsDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebbleFormat, Logger: &health{logger: quiet()}})
	must(t, err)
	must(t, db.Set([]byte("k"), []byte("v"), pebble.Sync))
	must(t, db.Close())
	kv, err := OpenPebble(dir, Options{})
	must(t, err)
	if _, err := Open(kv, nil); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("foreign database: %v", err)
	}
	must(t, kv.Close())
}

// TestASecondProcessIsRefused runs this test binary again as the process that
// holds the database.
func TestASecondProcessIsRefused(t *testing.T) {
	if dir := os.Getenv("STORE_HOLD"); dir != "" {
		kv, err := OpenPebble(dir, Options{})
		must(t, err)
		fmt.Println("open")
		_, _ = io.ReadAll(os.Stdin) // until the parent lets go
		must(t, kv.Close())
		return
	}
	dir := filepath.Join(t.TempDir(), "db")
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestASecondProcessIsRefused$")
	child.Env = append(os.Environ(), "STORE_HOLD="+dir)
	in, err := child.StdinPipe()
	must(t, err)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "open" {
		t.Fatalf("the holder says %q, %v", lines.Text(), lines.Err())
	}
	_, err = OpenPebble(dir, Options{})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), fmt.Sprint("process ", child.Process.Pid)) {
		t.Errorf("open while process %d holds it: %v", child.Process.Pid, err)
	}
	must(t, in.Close())
	for lines.Scan() {
	}
	must(t, child.Wait())
	kv, err := OpenPebble(dir, Options{})
	must(t, err)
	if _, err := OpenPebble(dir, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("open twice in one process: %v", err)
	}
	must(t, kv.Close())
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestADiskThatRefusesWritesEndsTheDatabase lets the log's writes fail.
func TestADiskThatRefusesWritesEndsTheDatabase(t *testing.T) {
	var broken atomic.Bool
	mem := vfs.NewMem()
	must(t, mem.MkdirAll("state", 0o700))
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasSuffix(op.Path, ".log") {
			return syscall.ENOSPC
		}
		return nil
	}))
	m := &member{t: t, open: func() (KV, error) { return openPebble("state", Options{}, fs) }}
	m.start()
	m.create(repl.File, m.f.root, "a")
	broken.Store(true)
	err := m.f.Put(&Batch{Writes: []Write{{Record: m.object(repl.File, m.f.root, "b")}}})
	if !errors.Is(err, syscall.ENOSPC) && (err == nil || !strings.Contains(err.Error(), "no space left")) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("put on a full disk: %v", err)
	}
	if _, _, err := m.f.Get(m.f.root); err == nil {
		t.Fatal("a database at its end still answers")
	}
	if _, err := m.f.Snapshot(); err == nil {
		t.Fatal("a database at its end gives a snapshot")
	}
	broken.Store(false)
	if err := m.s.Close(); err == nil {
		t.Fatal("a database at its end closes as if nothing were")
	}
}

// TestAFailureBehindOurBackIsTold lets the MANIFEST's writes fail, in a flush
// that runs on a goroutine of the database.
func TestAFailureBehindOurBackIsTold(t *testing.T) {
	var broken atomic.Bool
	mem := vfs.NewMem()
	must(t, mem.MkdirAll("state", 0o700))
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.Contains(op.Path, "MANIFEST") {
			return syscall.EIO
		}
		return nil
	}))
	told := make(chan error, 1)
	m := &member{t: t, open: func() (KV, error) {
		return openPebble("state", Options{Fatal: func(err error) { told <- err }}, fs)
	}}
	m.start()
	m.create(repl.File, m.f.root, "a")
	broken.Store(true)
	if _, err := m.kv.(*pebbleKV).db.AsyncFlush(); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err == nil || errors.Is(err, ErrCorrupt) {
		t.Fatalf("told %v", err)
	}
	if err := m.f.Put(&Batch{}); err == nil {
		t.Fatal("a database at its end takes a batch")
	}
	if err := m.s.Close(); err == nil {
		t.Fatal("a database at its end closes as if nothing were")
	}
}
