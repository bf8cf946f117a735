package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/version"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// checkAll asserts what holds in any state that a crash may leave: every
// record's indexes, the counts and the vector agree with the records.
func checkAll(t *testing.T, f *Folder) (names map[string]bool) {
	t.Helper()
	names = make(map[string]bool)
	var c Counts
	vector := f.Vector()
	prefix := f.keys.table(nil, tableRecord)
	cursor := f.kv.Scan(prefix, after(prefix))
	for cursor.Next() {
		r, err := decodeWholeRef(cursor.Key()[len(prefix):])
		must(t, err)
		uid, err := f.uid(r)
		must(t, err)
		rec, err := f.decode(cursor.Value(), uid)
		must(t, err)
		c.add(&rec, 1)
		if rec.Provisional == vector.Contains(rec.GVSN) {
			t.Fatalf("vector %v and record %v, provisional %v", vector, rec.GVSN, rec.Provisional)
		}
		if !rec.Present || uid == f.root {
			continue
		}
		names[rec.Name] = true
		if at, ok, err := f.At(rec.Parent, rec.Name); err != nil || !ok || at.UID != uid {
			t.Fatalf("at %q: %v, %v, %v; want %v", rec.Name, at.UID, ok, err, uid)
		}
		if indexedByHandle(&rec) {
			if got, err := f.ByHandle(rec.Identity.Handle); err != nil || len(got) == 0 {
				t.Fatalf("%q is not found by handle: %v", rec.Name, err)
			}
		}
	}
	must(t, cursor.Close())
	equal(t, "counts", f.Counts(), c)
	return names
}

// TestSyncedBatchesSurviveACrash writes batches of two records, some unsynced,
// crashes the filesystem at every one, and opens what is left.
func TestSyncedBatchesSurviveACrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	rng := rand.New(rand.NewPCG(7, 7))
	must(t, fs.MkdirAll("state", 0o700))
	open := func(fs vfs.FS) *member {
		m := &member{t: t, open: func() (KV, error) { return openPebble("state", Options{}, fs) }}
		m.start()
		return m
	}
	m := open(fs)
	synced, all := 0, 0
	for i := range 60 {
		pair := []Write{{Record: m.object(repl.File, m.f.root, fmt.Sprint("x", i))}, {Record: m.object(repl.File, m.f.root, fmt.Sprint("y", i))}}
		noSync := rng.IntN(3) == 0
		m.put(&Batch{Writes: pair, NoSync: noSync})
		all++
		if !noSync {
			synced = all
		}
		if i%20 == 19 {
			must(t, m.kv.(*pebbleKV).db.Flush())
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(3) * 50, RNG: rng})
		back := open(clone)
		names := checkAll(t, back.f)
		n := 0
		for ; names[fmt.Sprint("x", n)] && names[fmt.Sprint("y", n)]; n++ {
		}
		if n < synced || len(names) != 2*n {
			t.Fatalf("after batch %d of which %d were synced, %d are left and %d names", all, synced, n, len(names))
		}
		if next := back.f.Next(); back.f.Knows(next) {
			t.Fatalf("version %v is given again", next)
		}
		must(t, back.s.Close())
	}
	must(t, m.s.Close())
}

func TestASnapshotHoldsNothingThatACrashTakes(t *testing.T) {
	fs := vfs.NewCrashableMem()
	must(t, fs.MkdirAll("state", 0o700))
	m := &member{t: t, open: func() (KV, error) { return openPebble("state", Options{}, fs) }}
	m.start()
	m.put(&Batch{Writes: []Write{{Record: m.object(repl.File, m.f.root, "a")}}, NoSync: true})
	s, err := m.f.Snapshot()
	must(t, err)
	told := children(t, s, m.f.root, "")
	must(t, s.Close())
	clone := fs.CrashClone(vfs.CrashCloneCfg{})
	must(t, m.s.Close())
	m.open = func() (KV, error) { return openPebble("state", Options{}, clone) }
	m.start()
	equal(t, "told and kept", children(t, m.f, m.f.root, ""), told)
	must(t, m.s.Close())
}

func TestMemoryLosesWhatWasNotSynced(t *testing.T) {
	kv := NewMemory()
	m := &member{t: t, open: func() (KV, error) { return kv, nil }}
	m.start()
	a := m.create(repl.File, m.f.root, "a")
	m.create(repl.File, m.f.root, "b")
	before := m.f.Vector()
	m.put(&Batch{NoSync: true, Writes: []Write{
		{Record: m.object(repl.Directory, m.f.root, "c")}, m.next(a, dead),
	}, Join: version.Vector{other: {{Low: 1, High: 2}}}})
	m.put(&Batch{NoSync: true, Writes: []Write{m.next(m.get(a.UID), func(r *repl.Record) { r.Present, r.Presence = true, 0 })}})
	kv.Crash()
	m.start()
	equal(t, "names", checkAll(t, m.f), map[string]bool{"a": true, "b": true})
	equal(t, "record", m.get(a.UID), a)
	equal(t, "vector", m.f.Vector(), before)
	m.put(&Batch{NoSync: true, Writes: []Write{m.next(a, dead)}})
	must(t, m.s.Sync())
	kv.Crash()
	m.start()
	equal(t, "names after a sync", checkAll(t, m.f), map[string]bool{"b": true})
}
