package preserve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/volume"

	"golang.org/x/sys/unix"
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
	f, err := v.NewTemp(0, nil)
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

// bring brings one object back.
func bring(t *testing.T, s *Store, e Entry, path string, overwrite bool) error {
	t.Helper()
	r, err := s.Return(ReturnOptions{Now: now, Overwrite: overwrite, Known: func(path string) repl.Update {
		return repl.Update{UID: repl.UID(gvsn(5)), GVSN: gvsn(6), Name: path}
	}})
	check(t, err)
	err = r.Put(e, path)
	check(t, r.Close())
	return err
}

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
	if err := bring(t, s, got, "taken", false); !errors.Is(err, volume.ErrExist) {
		t.Fatalf("restored over a user's file: %v", err)
	}
	check(t, bring(t, s, got, "report (kept).txt", false))
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
		check(t, s.Purge(t.Context(), e))
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

// An eviction that can remove nothing is not tried again before it can, unless
// something comes that may go.
func TestEvictionIsNotRepeated(t *testing.T) {
	v := fresh(t)
	s := Open(v)
	p := Policy{Quota: 1000, Retention: 7 * 24 * time.Hour}
	if s.Due(p) {
		t.Fatal("due with nothing kept")
	}
	keepSome(t, v, s, Conflict, 3*day, 2000)
	evict := func(at repl.Time, due bool, objects int, over bool) {
		t.Helper()
		if s.Due(p) != due {
			t.Errorf("due: %v", !due)
		}
		out, err := s.Evict(t.Context(), at, p)
		check(t, err)
		if out.Objects != objects || out.OverQuota != over {
			t.Errorf("eviction %+v, want %d objects, over quota %v", out, objects, over)
		}
	}
	evict(now, true, 0, true)
	if !s.promisedAll(now, p) || s.promisedAll(now+4*day+1, p) || s.promisedAll(now, Policy{Retention: time.Hour}) {
		t.Error("what is left is promised for four days, under the same policy")
	}
	evict(now, false, 0, true)
	r := root(t, v)
	check(t, r.Mkdir("d"))
	file(t, v, sub(t, r, "d"), "f", strings.Repeat("x", 700))
	_, err := s.Keep(r, "d", Entry{Why: Deleted, At: now, Path: "d"})
	check(t, err)
	evict(now, true, 1, true)
	evict(now+4*day+1, false, 1, false)
	if got := kept(t, s); got != "" {
		t.Errorf("left %s", got)
	}
}

// A version that is restored over another leaves that one in the store; the
// directories on the way are made; nothing else is overwritten.
func TestRestoredOver(t *testing.T) {
	v := fresh(t)
	r, s := root(t, v), Open(v)
	check(t, r.Mkdir("a"))
	meta := volume.Meta{Mode: 0o2751, Owner: uint32(os.Getuid()), Group: uint32(os.Getgid())}
	b, err := meta.Encode()
	check(t, err)
	_, _, err = r.SetMeta("a", nil, b, 5)
	check(t, err)
	file(t, v, r, "f", "lost")
	e := Entry{Why: Conflict, At: now - 3, Path: "a/b/c/f", Record: repl.Update{UID: repl.UID(gvsn(1)), GVSN: gvsn(2)}}
	_, err = s.Keep(r, "f", e)
	check(t, err)
	check(t, bring(t, s, entries(t, s)[0], "a/b/c/f", false))
	for _, dir := range []string{"a", "a/b"} {
		at, err := v.OpenDir(dir)
		check(t, err)
		st, err := at.Stat()
		check(t, err)
		if st.Mode != 0o2751 {
			t.Errorf("%s has mode %o", dir, st.Mode)
		}
		check(t, at.Close())
	}

	at, err := v.OpenDir("a/b/c")
	check(t, err)
	file(t, v, r, "f", "older")
	e.At, e.Why, e.Record.GVSN = now-9, PreExisting, gvsn(1)
	_, err = s.Keep(r, "f", e)
	check(t, err)
	older := entries(t, s)[0]
	if err := bring(t, s, older, "a/b", true); !errors.Is(err, volume.ErrExist) {
		t.Errorf("a file over a directory: %v", err)
	}
	if err := bring(t, s, older, "a/b/c/f/g", true); !errors.Is(err, volume.ErrNotDir) {
		t.Errorf("into a file: %v", err)
	}
	for _, path := range []string{"../f", ".dfsr/f", "/f", ".", "a/../f"} {
		if bring(t, s, older, path, true) == nil {
			t.Errorf("restored to %q", path)
		}
	}
	writer, err := os.OpenFile(filepath.Join(v.(*volume.Disk).Path(), "a/b/c/f"), os.O_WRONLY, 0)
	check(t, err)
	if err := bring(t, s, older, "a/b/c/f", true); !errors.Is(err, volume.ErrInUse) {
		t.Errorf("over a file that is open for writing: %v", err)
	}
	check(t, writer.Close())
	check(t, bring(t, s, older, "a/b/c/f", true))
	if st, err := at.Lookup("f"); err != nil || st.Print.Size != 5 {
		t.Errorf("restored %+v, %v", st, err)
	}
	all := entries(t, s)
	if len(all) != 1 || all[0].Why != Replaced || all[0].Path != "a/b/c/f" || all[0].Size != 4 || all[0].At != now ||
		all[0].Area != volume.Conflicts || all[0].Record.GVSN != gvsn(6) || all[0].Winner != gvsn(1) || all[0].Meta == nil {
		t.Fatalf("what was replaced is kept as %+v", all)
	}
	known, err := s.Usage(t.Context())
	check(t, err)
	if read, err := Open(v).Usage(t.Context()); err != nil || read != known || read.Objects != 1 {
		t.Errorf("usage %+v, measured %+v, %v", known, read, err)
	}
	for _, p := range []volume.Private{volume.Conflicts, volume.PreExisting} {
		area, err := v.Private(p)
		check(t, err)
		for _, name := range names(t, area) {
			if !strings.HasPrefix(name, all[0].Name) {
				t.Errorf("%s holds %s", p, name)
			}
		}
		check(t, area.Close())
	}
}

// A directory is merged into the one that took its place; what both have stays
// as it is, or is exchanged by order.
func TestDirectoriesMerge(t *testing.T) {
	v := fresh(t)
	r, s := root(t, v), Open(v)
	tree := func(text string, names ...string) {
		for _, name := range names {
			dir, base := filepath.Split(name)
			for at, part := r, strings.Split(strings.TrimSuffix(dir, "/"), "/"); ; part = part[1:] {
				if len(part) == 0 {
					file(t, v, at, base, text)
					break
				}
				check(t, ignore(at.Mkdir(part[0]), volume.ErrExist))
				at = sub(t, at, part[0])
			}
		}
	}
	tree("kept", "d/only", "d/both", "d/x/only", "d/x/both", "d/y/z")
	_, err := s.Keep(r, "d", Entry{Why: PreExisting, At: now, Path: "d"})
	check(t, err)
	tree("a user's", "d/both", "d/x/both", "d/x/mine")
	read := func(path string) string {
		b, err := os.ReadFile(filepath.Join(v.(*volume.Disk).Path(), path))
		check(t, err)
		return string(b)
	}
	if err := bring(t, s, entries(t, s)[0], "d", false); !errors.Is(err, volume.ErrExist) {
		t.Fatalf("merged: %v", err)
	}
	if got := read("d/only") + read("d/x/only") + read("d/y/z") + read("d/both") + read("d/x/both") + read("d/x/mine"); got != "keptkeptkepta user'sa user'sa user's" {
		t.Errorf("after the first merge: %s", got)
	}
	if u, err := s.Usage(t.Context()); err != nil || u.PreExistingBytes != 8 {
		t.Errorf("still kept: %+v, %v", u, err)
	}
	check(t, bring(t, s, entries(t, s)[0], "d", true))
	if got := read("d/both") + read("d/x/both") + read("d/x/mine"); got != "keptkepta user's" {
		t.Errorf("after the second merge: %s", got)
	}
	if u, err := s.Usage(t.Context()); err != nil || u.PreExistingBytes != 16 {
		t.Errorf("what was replaced: %+v, %v", u, err)
	}
}

// A copy outside has all that the object has, and the object stays kept.
func TestCopiedOut(t *testing.T) {
	v := fresh(t)
	r, s := root(t, v), Open(v)
	check(t, r.Mkdir("d"))
	d := sub(t, r, "d")
	file(t, v, d, "f", "text")
	check(t, d.Symlink("nowhere", "l"))
	meta := volume.Meta{Mode: 0o640, Owner: uint32(os.Getuid()), Group: uint32(os.Getgid()), Xattrs: []volume.Xattr{{Name: "user.a", Value: []byte("1")}}}
	b, err := meta.Encode()
	check(t, err)
	_, _, err = d.SetMeta("f", nil, b, 5e9)
	check(t, err)
	_, err = s.Keep(r, "d", Entry{Why: Conflict, At: now, Path: "d"})
	check(t, err)
	dir := t.TempDir()
	to, err := os.OpenRoot(dir)
	check(t, err)
	e := entries(t, s)[0]
	lacks, err := s.CopyOut(t.Context(), e, to, "x/d")
	check(t, err)
	if len(lacks) > 0 {
		t.Errorf("lacks %v", lacks)
	}
	st, err := os.Stat(filepath.Join(dir, "x/d/f"))
	check(t, err)
	if st.Mode() != 0o640 || st.ModTime().UnixNano() != 5e9 || st.Size() != 4 {
		t.Errorf("copied %v", st)
	}
	var value [9]byte
	if n, err := unix.Getxattr(filepath.Join(dir, "x/d/f"), "user.a", value[:]); err != nil || string(value[:n]) != "1" {
		t.Errorf("attribute %q, %v", value[:max(n, 0)], err)
	}
	if target, err := os.Readlink(filepath.Join(dir, "x/d/l")); err != nil || target != "nowhere" {
		t.Errorf("link to %q, %v", target, err)
	}
	if _, err := s.CopyOut(t.Context(), e, to, "x/d"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("copied over a copy: %v", err)
	}
	if len(entries(t, s)) != 1 {
		t.Error("it is kept no more")
	}
}

func TestSelection(t *testing.T) {
	e := Entry{Why: Deleted, At: 50, Path: "a/b"}
	for _, c := range []struct {
		sel  Selection
		want bool
	}{
		{Selection{}, true}, {Selection{Since: 50}, true}, {Selection{Since: 51}, false}, {Selection{Before: 50}, false}, {Selection{Before: 51}, true},
		{Selection{Paths: []string{"a"}}, true}, {Selection{Paths: []string{"x", "a/b"}}, true}, {Selection{Paths: []string{"."}}, true},
		{Selection{Paths: []string{"a/"}}, false}, {Selection{Paths: []string{"a/b/c", "a/bc", "b"}}, false},
		{Selection{Why: []Why{Conflict, Deleted}}, true}, {Selection{Why: []Why{Conflict}}, false},
	} {
		if got := c.sel.Match(&e); got != c.want {
			t.Errorf("%+v: %v", c.sel, got)
		}
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
				check(t, s.Purge(t.Context(), e))
			} else {
				check(t, bring(t, s, e, e.Path, false))
			}
			bytes, objects = bytes-e.Size, objects-1
		}
		if u, err := s.Usage(t.Context()); err != nil || u.Bytes != bytes || u.Objects != objects {
			t.Fatalf("usage %+v, %v; want %d bytes in %d objects", u, err, bytes, objects)
		}
	}
}
