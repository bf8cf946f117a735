package preserve

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/volume"
)

const day = repl.Time(24 * time.Hour)

// now is when the stories play.
const now = 100 * 365 * day / 2

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fresh opens a volume on an empty directory. Power cuts and full disks are
// told on the simulated one, in internal/sim/disk.
func fresh(t *testing.T) volume.Volume {
	t.Helper()
	v, err := volume.Open(t.TempDir(), volume.Options{Create: true})
	check(t, err)
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// tight is a volume with so many bytes free.
type tight struct {
	volume.Volume
	free uint64
}

func (v tight) Free() (free, total uint64, err error) { return v.free, 1 << 40, nil }

func file(t *testing.T, v volume.Volume, d volume.Dir, name, data string) {
	t.Helper()
	f, err := v.NewTemp(0)
	check(t, err)
	_, err = f.Write([]byte(data))
	check(t, err)
	check(t, errors.Join(f.Sync(), d.Link(f, name), f.Close(), d.Sync()))
}

func root(t *testing.T, v volume.Volume) volume.Dir {
	t.Helper()
	d, err := v.Root()
	check(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func sub(t *testing.T, d volume.Dir, name string) volume.Dir {
	t.Helper()
	s, err := d.OpenDir(name)
	check(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func names(t *testing.T, d volume.Dir) (out []string) {
	t.Helper()
	check(t, d.List(func(e volume.Entry) error { out = append(out, e.Name); return nil }))
	return out
}

func entries(t *testing.T, s *Store) (out []Entry) {
	t.Helper()
	check(t, s.List(func(e Entry) error { out = append(out, e); return nil }))
	return out
}

func gvsn(n uint64) version.GVSN { return version.GVSN{Originator: version.Originator{7}, Version: n} }

func TestKeptAndRestored(t *testing.T) {
	v := fresh(t)
	r, s := root(t, v), Open(v)
	file(t, v, r, "report.txt", "mine")
	meta, err := r.Meta("report.txt")
	check(t, err)
	want := Entry{
		Why: Conflict, At: now, Path: "docs/bad\xffname\n.txt", Winner: gvsn(12),
		Record: repl.Update{UID: repl.UID(gvsn(9)), GVSN: gvsn(11), Content: repl.Hash{1, 2, 3}},
	}
	kept, err := s.Keep(r, "report.txt", want)
	check(t, err)
	if got := names(t, r); len(got) != 0 {
		t.Fatalf("the tree still has %v", got)
	}
	all := entries(t, s)
	if len(all) != 1 {
		t.Fatalf("%d entries: %+v", len(all), all)
	}
	got := all[0]
	want.Area, want.Name, want.Type, want.Size, want.Mtime, want.Meta = volume.Conflicts, kept, repl.File, 4, got.Mtime, meta
	if !reflect.DeepEqual(got, want) || got.Mtime == 0 {
		t.Fatalf("kept %+v, listed %+v", want, got)
	}
	if one, err := s.Get(volume.Conflicts, kept); err != nil || !reflect.DeepEqual(one, want) {
		t.Fatalf("by name %+v, %v", one, err)
	}
	file(t, v, r, "taken", "a user's")
	if err := s.Restore(got, r, "taken"); !errors.Is(err, volume.ErrExist) {
		t.Fatalf("restored over a user's file: %v", err)
	}
	check(t, s.Restore(got, r, "report (kept).txt"))
	area, err := v.Private(volume.Conflicts)
	check(t, err)
	if left := names(t, area); len(left) != 0 || len(entries(t, s)) != 0 {
		t.Fatalf("after the restore the store has %v", left)
	}
	check(t, area.Close())
	st, err := r.Lookup("report (kept).txt")
	check(t, err)
	if st.Print.Size != 4 {
		t.Fatalf("restored %+v", st)
	}
}

func TestDirectoriesGoWhole(t *testing.T) {
	v := fresh(t)
	r, s := root(t, v), Open(v)
	ctx := t.Context()
	// Deeper than a purge descends at once.
	check(t, r.Mkdir("d"))
	at := sub(t, r, "d")
	for i := range maxDepth + 20 {
		file(t, v, at, fmt.Sprint("f", i), "12345")
		check(t, at.Symlink("nowhere", "l"))
		check(t, at.Mkdir("x"))
		check(t, at.Mkdir("empty"))
		at = sub(t, at, "x")
	}
	_, err := s.Keep(r, "d", Entry{Why: PreExisting, At: now, Path: "d"})
	check(t, err)
	file(t, v, r, "f", "123")
	_, err = s.Keep(r, "f", Entry{Why: Deleted, At: now, Path: "f"})
	check(t, err)
	u, err := s.Usage(ctx)
	check(t, err)
	if u != (Usage{Objects: 1, Bytes: 3, PreExisting: 1, PreExistingBytes: 5 * maxDepth}) {
		t.Fatalf("usage %+v", u)
	}
	for _, e := range entries(t, s) {
		check(t, s.Purge(e))
	}
	for _, p := range []volume.Private{volume.Conflicts, volume.PreExisting} {
		area, err := v.Private(p)
		check(t, err)
		if left := names(t, area); len(left) != 0 {
			t.Fatalf("%s still has %v", p, left)
		}
		check(t, area.Close())
	}
	if u, err := s.Usage(ctx); err != nil || u != (Usage{}) {
		t.Fatalf("usage %+v, %v", u, err)
	}
}

// keepSome keeps a file of size bytes, kept age ago.
func keepSome(t *testing.T, v volume.Volume, s *Store, why Why, age repl.Time, size int) {
	t.Helper()
	r := root(t, v)
	name := fmt.Sprint(why, "-", age/day)
	file(t, v, r, name, strings.Repeat("x", size))
	_, err := s.Keep(r, name, Entry{Why: why, At: now - age, Path: name})
	check(t, err)
}

func kept(t *testing.T, s *Store) string {
	t.Helper()
	var out []string
	for _, e := range entries(t, s) {
		out = append(out, e.Path)
	}
	return strings.Join(out, " ")
}

func TestEviction(t *testing.T) {
	policy := Policy{Quota: 1000, Retention: 7 * 24 * time.Hour}
	for _, c := range []struct {
		what    string
		deleted int // bytes each
		policy  Policy
		free    uint64
		left    string
		over    bool
	}{
		{"below the watermark nothing goes", 50, policy, 1 << 30,
			"conflict-30 deleted-20 unclean-10 conflict-3 deleted-2 pre-existing-99", false},
		{"deleted go first, then what outlived its promise", 300, policy, 1 << 30,
			"conflict-30 unclean-10 conflict-3 pre-existing-99", false},
		{"the promise is held over the quota", 50, Policy{Quota: 100, Retention: policy.Retention}, 1 << 30,
			"conflict-3 pre-existing-99", true},
		{"a short disk evicts too", 50, Policy{Quota: 1 << 30, Retention: policy.Retention, Reserve: 1000}, 940,
			"conflict-30 unclean-10 conflict-3 deleted-2 pre-existing-99", false},
		{"a longer promise", 50, Policy{Quota: 100, Retention: 15 * 24 * time.Hour}, 1 << 30,
			"unclean-10 conflict-3 pre-existing-99", true},
	} {
		t.Run(c.what, func(t *testing.T) {
			v := tight{fresh(t), c.free}
			s := Open(v)
			keepSome(t, v, s, Conflict, 30*day, 150)
			keepSome(t, v, s, Deleted, 20*day, c.deleted+10)
			keepSome(t, v, s, Unclean, 10*day, 150)
			keepSome(t, v, s, Conflict, 3*day, 150)
			keepSome(t, v, s, Deleted, 2*day, c.deleted)
			keepSome(t, v, s, PreExisting, 99*day, 10_000)
			before, err := s.Usage(t.Context())
			check(t, err)
			out, err := s.Evict(t.Context(), now, c.policy)
			check(t, err)
			if got := kept(t, s); got != c.left || out.OverQuota != c.over {
				t.Fatalf("left %s, over quota %v, want %s, %v", got, out.OverQuota, c.left, c.over)
			}
			fresh, err := Open(v).Usage(t.Context())
			check(t, err)
			if fresh != out.After || before.Bytes-out.Bytes != fresh.Bytes || before.Objects-out.Objects != fresh.Objects {
				t.Fatalf("before %+v, evicted %+v, measured afterwards %+v", before, out, fresh)
			}
		})
	}
}

func TestEvictionStops(t *testing.T) {
	v := fresh(t)
	s := Open(v)
	keepSome(t, v, s, Deleted, day, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Evict(ctx, now, Policy{Quota: 100}); !errors.Is(err, context.Canceled) {
		t.Fatalf("evicted when told to stop: %v", err)
	}
	if len(entries(t, s)) != 1 {
		t.Fatal("something went")
	}
}

func TestNamesOfKeptObjects(t *testing.T) {
	v := fresh(t)
	r, s := root(t, v), Open(v)
	odd := []string{"a.json", "a", ".json", strings.Repeat("n", 255), "line\nbreak", "bad\xff", "x.json.json"}
	for range 2 {
		for _, name := range odd {
			file(t, v, r, name, name)
			_, err := s.Keep(r, name, Entry{Why: Conflict, At: now, Path: name})
			check(t, err)
		}
	}
	// Another run of the program counts from one again.
	s = Open(v)
	file(t, v, r, "a", "a")
	_, err := s.Keep(r, "a", Entry{Why: Conflict, At: now, Path: "a"})
	check(t, err)
	all := entries(t, s)
	if len(all) != 2*len(odd)+1 {
		t.Fatalf("%d entries of %d", len(all), 2*len(odd)+1)
	}
	for _, e := range all {
		if e.Why != Conflict || int(e.Size) != len(e.Path) {
			t.Errorf("entry %+v", e)
		}
	}
	check(t, s.Tidy())
	if len(entries(t, s)) != len(all) {
		t.Fatal("tidying lost an object")
	}
	if _, err := s.Get(volume.Conflicts, all[0].Name+manifestSuffix); !errors.Is(err, volume.ErrNotExist) {
		t.Fatalf("a manifest was taken for an object: %v", err)
	}
}

func TestManifestsAreChecked(t *testing.T) {
	e := Entry{Why: Unclean, At: -5, Path: "a/b", Type: repl.Symlink, Mtime: 7, Winner: gvsn(3), Record: repl.Update{UID: repl.UID(gvsn(1)), GVSN: gvsn(2)}}
	b, err := encode(&e)
	check(t, err)
	back, err := decode(b)
	check(t, err)
	if back.Why != e.Why || back.At != e.At || back.Path != e.Path || back.Mtime != e.Mtime || back.Winner != e.Winner ||
		!reflect.DeepEqual(back.Record, e.Record) {
		t.Fatalf("%+v became %+v", e, back)
	}
	for what, bad := range map[string][2]string{
		"version": {`"version": 1`, `"version": 2`},
		"reason":  {`"why": "unclean"`, `"why": "boredom"`},
		"time":    {`"kept-at": "1969`, `"kept-at": "yesterday`},
		"winner":  {`-v3"`, `-w3"`},
		"content": {`"winner"`, `"content": "abcd", "winner"`},
	} {
		s := strings.Replace(string(b), bad[0], bad[1], 1)
		if s == string(b) {
			t.Fatalf("%s: nothing to spoil in %s", what, b)
		}
		if e, err := decode([]byte(s)); err == nil {
			t.Errorf("bad %s is accepted as %+v", what, e)
		}
	}
}

func FuzzDecode(f *testing.F) {
	e := Entry{Why: Conflict, At: now, Path: "bad\xff", Meta: []byte{1, 2}, Winner: gvsn(3), Record: repl.Update{UID: repl.UID(gvsn(1)), GVSN: gvsn(2), Content: repl.Hash{1}}}
	b, err := encode(&e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"kept-at":"2026-01-02T03:04:05Z","why":"deleted","mtime":"2026-01-02T03:04:05Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b)
		if err != nil {
			return
		}
		again, err := encode(&e)
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", e, err)
		}
		if back, err := decode(again); err != nil || !reflect.DeepEqual(back.Record, e.Record) || back.At != e.At || back.Path != e.Path {
			t.Fatalf("%+v became %+v, error %v", e, back, err)
		}
	})
}

// TestManyAtOnce keeps, restores and purges at random and compares with a model.
func TestManyAtOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	v := fresh(t)
	top, s := root(t, v), Open(v)
	var bytes int64
	var objects int
	for i := range 300 {
		name := fmt.Sprint("f", i)
		size := r.IntN(50)
		file(t, v, top, name, strings.Repeat("x", size))
		_, err := s.Keep(top, name, Entry{Why: Conflict, At: now + repl.Time(i), Path: name})
		check(t, err)
		bytes, objects = bytes+int64(size), objects+1
		if r.IntN(3) == 0 {
			all := entries(t, s)
			e := all[r.IntN(len(all))]
			if r.IntN(2) == 0 {
				check(t, s.Purge(e))
			} else {
				check(t, s.Restore(e, top, e.Path))
			}
			bytes, objects = bytes-e.Size, objects-1
		}
		if u, err := s.Usage(t.Context()); err != nil || u.Bytes != bytes || u.Objects != objects {
			t.Fatalf("usage %+v, %v; want %d bytes in %d objects", u, err, bytes, objects)
		}
	}
}
