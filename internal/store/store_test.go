package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/version"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	docs  = repl.FolderID{0xd0}
	other = version.Originator{0xee} // another member
)

// member is a store on one of the two databases, to be closed and opened again.
type member struct {
	t    *testing.T
	open func() (KV, error)
	kv   KV
	s    *Store
	f    *Folder
	runs byte // starts so far, for chance that differs
}

// eachKV runs one story on Pebble and in memory.
func eachKV(t *testing.T, story func(t *testing.T, m *member)) {
	memory := NewMemory()
	dir := filepath.Join(t.TempDir(), "db")
	for name, open := range map[string]func() (KV, error){
		"memory": func() (KV, error) { return memory, nil },
		"pebble": func() (KV, error) { return OpenPebble(dir, Options{}) },
	} {
		t.Run(name, func(t *testing.T) {
			m := &member{t: t, open: open}
			m.start()
			story(t, m)
			must(t, m.s.Close())
		})
	}
}

func (m *member) start() {
	m.t.Helper()
	var err error
	m.kv, err = m.open()
	must(m.t, err)
	m.runs++
	m.s, err = Open(m.kv, rand.NewChaCha8([32]byte{m.runs}))
	must(m.t, err)
	m.f, err = m.s.Folder(docs)
	must(m.t, err)
}

func (m *member) restart() {
	m.t.Helper()
	must(m.t, m.s.Close())
	m.start()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *member) put(b *Batch) {
	m.t.Helper()
	must(m.t, m.f.Put(b))
}

func (m *member) get(uid repl.UID) repl.Record {
	m.t.Helper()
	r, ok, err := m.f.Get(uid)
	if err != nil || !ok {
		m.t.Fatalf("record %v: there %v, %v", uid, ok, err)
	}
	return r
}

// object is a live record of our own.
func (m *member) object(typ repl.Type, parent repl.UID, name string) repl.Record {
	g := m.f.Next()
	draft := repl.Update{Parent: parent, Name: name, Type: typ, Present: true, Mtime: 77}
	switch typ {
	case repl.File:
		draft.Size = contentSize
		draft.Content = repl.Hash{byte(g.Version), 1}
	case repl.Symlink:
		draft.Target = "there"
		draft.Content = repl.Hash{9}
	}
	handle := fmt.Sprintf("\x01\x00\x00\x00%08d", g.Version)
	return repl.Record{
		Update:   repl.Mint(g, 1000, nil, draft),
		Identity: repl.Identity{Handle: handle, Birth: 5},
		Print:    repl.Print{Size: draft.Size, Mtime: 77, Ctime: 99},
	}
}

// create puts one new object and returns its record.
func (m *member) create(typ repl.Type, parent repl.UID, name string) repl.Record {
	m.t.Helper()
	r := m.object(typ, parent, name)
	m.put(&Batch{Writes: []Write{{Record: r}}})
	return r
}

// next is a version of ours over r, changed by edit.
func (m *member) next(r repl.Record, edit func(*repl.Record)) Write {
	n := r
	edit(&n)
	n.Update = repl.Mint(m.f.Next(), 1000, &r.Update, n.Update)
	return Write{Record: n, Base: r.GVSN}
}

func dead(r *repl.Record) { r.Present, r.Presence = false, repl.Absent }

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return // cmp is slow
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(repl.Hash{})); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func children(t *testing.T, r Reader, dir repl.UID, after string) (names []string) {
	t.Helper()
	must(t, r.Children(dir, after, func(rec *repl.Record) bool {
		names = append(names, rec.Name)
		return true
	}))
	return names
}

func TestANewFolderHasItsRootAndAnOriginator(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		root, err := m.f.Root()
		must(t, err)
		want := repl.Record{Update: repl.Update{
			UID: repl.RootUID(docs), GVSN: version.GVSN(repl.RootUID(docs)), Type: repl.Directory, Present: true,
		}}
		equal(t, "root", root, want)
		first := m.f.State()
		if first.Originator.IsZero() || first.Phase != PhaseNew || first.Epoch != 1 {
			t.Fatalf("first state %+v", first)
		}
		if g := m.f.Next(); g != (version.GVSN{Originator: first.Originator, Version: version.FirstVersion}) {
			t.Fatalf("first version %v", g)
		}
		p, err := m.f.Path(root.UID)
		equal(t, "path of the root", []any{p, err}, []any{".", nil})
		m.restart()
		equal(t, "state after a restart", m.f.State(), first)
		equal(t, "folders", m.s.Folders(), []repl.FolderID{docs})
		again, err := m.s.Folder(docs)
		if err != nil || again != m.f {
			t.Fatalf("a second Folder is %p, %v; the first %p", again, err, m.f)
		}
	})
}

func TestEveryFieldComesBack(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		dir := m.create(repl.Directory, m.f.root, "d")
		full := repl.Record{
			Update: repl.Update{
				UID: repl.UID{Originator: other, Version: 1 << 40}, GVSN: version.GVSN{Originator: m.f.State().Originator, Version: 1 << 33},
				Parent: dir.UID, Name: "ä\xff name", Type: repl.File, Present: true, Fence: 1 << 60,
				CreateTime: -5, Clock: 1 << 62, Size: 1 << 50, Mtime: -1 << 62, Content: repl.Hash{1, 2, 3},
				Target: "t", Meta: []byte(strings.Repeat("m", repl.MaxMeta)),
				History: repl.History{{Originator: other, Version: 9}, {Originator: version.Originator{0xef}, Version: 1 << 63}},
			},
			Presence: repl.Obscured, Unclean: true,
			Identity: repl.Identity{Handle: "\x00\x01handle", Birth: -1 << 63},
			Print:    repl.Print{Size: 3, Mtime: 1<<63 - 1, Ctime: -1 << 63},
		}
		m.put(&Batch{Writes: []Write{{Record: full}}})
		equal(t, "record", m.get(full.UID), full)
		m.restart()
		equal(t, "record after a restart", m.get(full.UID), full)
		if g := m.f.Next(); g.Version != 1<<33+1 {
			t.Fatalf("version after %v is %v", full.GVSN, g)
		}
	})
}

func TestARecordThatMovedOnIsNotReplaced(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		a := m.create(repl.File, m.f.root, "a")
		b := m.create(repl.File, m.f.root, "b")
		stale := m.next(a, func(r *repl.Record) { r.Size++ })
		m.put(&Batch{Writes: []Write{m.next(a, func(r *repl.Record) { r.Size += 2 })}})
		before := m.f.Vector()
		fresh := m.next(b, func(r *repl.Record) { r.Name = "c" })
		err := m.f.Put(&Batch{Writes: []Write{stale, fresh}, Join: version.Vector{other: {{Low: 8, High: 9}}}})
		var moved *MovedError
		if !errors.As(err, &moved) {
			t.Fatalf("stale write: %v", err)
		}
		equal(t, "moved", moved.UIDs, []repl.UID{a.UID})
		equal(t, "b beside a refused write", m.get(b.UID), b)
		equal(t, "vector after a refused batch", m.f.Vector(), before)
		if err := m.f.Put(&Batch{Writes: []Write{{Record: m.object(repl.File, m.f.root, "x"), Base: a.GVSN}}}); !errors.As(err, &moved) {
			t.Fatalf("write over a record that is not there: %v", err)
		}
	})
}

func TestBrokenInvariantsAreRefused(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		dir := m.create(repl.Directory, m.f.root, "dir")
		a := m.create(repl.File, dir.UID, "a")
		b := m.create(repl.File, dir.UID, "b")
		provisional := m.object(repl.Directory, dir.UID, "p")
		provisional.Provisional = true
		m.put(&Batch{Writes: []Write{{Record: provisional}}})
		inside := m.create(repl.File, provisional.UID, "inside")
		edit := m.next(a, func(r *repl.Record) { r.Mtime++ })
		m.put(&Batch{Writes: []Write{edit}})
		a2 := m.get(a.UID)
		change := func(r repl.Record, base version.GVSN, edit func(*repl.Record)) *Batch {
			edit(&r)
			return &Batch{Writes: []Write{{Record: r, Base: base}}}
		}
		fresh := m.object(repl.File, dir.UID, "fresh")
		for what, batch := range map[string]*Batch{
			"a smaller version":         change(a2, a2.GVSN, func(r *repl.Record) { r.GVSN = m.f.Next(); r.Clock-- }),
			"an update that changes":    change(a2, a2.GVSN, func(r *repl.Record) { r.Size++ }),
			"another's first version":   change(a2, a2.GVSN, func(r *repl.Record) { r.GVSN = version.GVSN(b.UID); r.Clock++ }),
			"another's later version":   change(b, b.GVSN, func(r *repl.Record) { r.GVSN = a2.GVSN; r.Clock++ }),
			"a taken place":             change(fresh, version.GVSN{}, func(r *repl.Record) { r.Name = "a" }),
			"a parent without a record": change(fresh, version.GVSN{}, func(r *repl.Record) { r.Parent = repl.UID{Originator: other, Version: 9} }),
			"a parent that is a file":   change(fresh, version.GVSN{}, func(r *repl.Record) { r.Parent = b.UID }),
			"a second root":             change(fresh, version.GVSN{}, func(r *repl.Record) { r.Parent, r.Name = repl.UID{}, "" }),
			"another type":              change(b, b.GVSN, func(r *repl.Record) { r.GVSN = m.f.Next(); r.Clock++; r.Type = repl.Symlink }),
			"a tombstone on disk":       change(b, b.GVSN, func(r *repl.Record) { r.GVSN = m.f.Next(); r.Clock++; r.Present = false }),
			"back to provisional":       change(b, b.GVSN, func(r *repl.Record) { r.Provisional = true }),
			"one record twice":          {Writes: []Write{{Record: fresh}, {Record: fresh}}},
			"one version twice":         {Writes: []Write{{Record: fresh}, change(b, b.GVSN, func(r *repl.Record) { r.GVSN = fresh.GVSN; r.Clock++ }).Writes[0]}},
			"a place twice":             {Writes: []Write{{Record: fresh}, {Record: m.object(repl.File, dir.UID, "fresh")}}},
			"dropping a real record":    {Drop: []repl.UID{b.UID}},
			"collecting a live record":  {Collect: []repl.UID{b.UID}},
			"dropping a parent":         {Drop: []repl.UID{provisional.UID}},
			"no originator":             {State: &State{}},
			"an intent of nothing":      {AddIntents: []Intent{{}}},
		} {
			var broken *InvariantError
			if err := m.f.Put(batch); !errors.As(err, &broken) {
				t.Errorf("%s: %v", what, err)
			}
		}
		m.put(&Batch{Writes: []Write{{Record: fresh}}})
		equal(t, "children", children(t, m.f, dir.UID, ""), []string{"a", "b", "fresh", "p"})
		equal(t, "a", m.get(a.UID), a2)
		equal(t, "inside", m.get(inside.UID), inside)
	})
}

func TestANameConflictsLoserNeverComesBack(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		a := m.create(repl.File, m.f.root, "a")
		m.put(&Batch{Writes: []Write{m.next(a, func(r *repl.Record) { dead(r); r.NameConflict = true })}})
		lost := m.get(a.UID)
		back := lost
		back.Present, back.NameConflict, back.GVSN, back.Fence, back.Clock = true, false, m.f.Next(), 1<<60, 1<<60
		var broken *InvariantError
		if err := m.f.Put(&Batch{Writes: []Write{{Record: back, Base: lost.GVSN}}}); !errors.As(err, &broken) {
			t.Fatalf("a name conflict's loser came back: %v", err)
		}
	})
}

func TestOnlyWhatTheDiskSaysMayChangeUnderOneVersion(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		a := m.create(repl.File, m.f.root, "a")
		seen := m.f.Vector()
		hidden := a
		hidden.Presence, hidden.Unclean, hidden.Identity.Handle, hidden.Print.Ctime = repl.Hidden, true, "other", 1
		hidden.Meta = append([]byte(nil), a.Meta...)
		m.put(&Batch{Writes: []Write{{Record: hidden, Base: a.GVSN}}})
		equal(t, "rewritten", m.get(a.UID), hidden)
		equal(t, "vector", m.f.Vector(), seen)
		for _, handle := range []string{"other", a.Identity.Handle} {
			if got, err := m.f.ByHandle(handle); err != nil || len(got) != 0 {
				t.Fatalf("a hidden record is found by handle %q: %v, %v", handle, got, err)
			}
		}
	})
}

func TestProvisionalRecordsStayAtHome(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		p := m.object(repl.File, m.f.root, "p")
		p.Provisional, p.Fence = true, repl.FenceInitialSync
		q := m.object(repl.File, m.f.root, "q")
		q.Provisional = true
		before := m.f.Vector()
		m.put(&Batch{Writes: []Write{{Record: p}, {Record: q}}})
		equal(t, "vector", m.f.Vector(), before)
		if u, _, _, err := m.f.Updates(version.Vector{p.GVSN.Originator: {{Low: 0, High: 100}}}, version.GVSN{}, 10); err != nil || len(u) != 0 {
			t.Fatalf("provisional records are served: %v, %v", u, err)
		}
		equal(t, "counts", m.f.Counts(), Counts{Files: 2, Directories: 1, Bytes: 2 * contentSize, Provisional: 2})
		m.restart()
		if g := m.f.Next(); g.Version <= q.GVSN.Version {
			t.Fatalf("version %v is given again after %v", g, q.GVSN)
		}
		found, err := m.f.Provisional(10)
		equal(t, "provisional", []any{found, err}, []any{[]repl.UID{p.UID, q.UID}, nil})
		found, err = m.f.Provisional(1)
		equal(t, "one provisional", []any{found, err}, []any{[]repl.UID{p.UID}, nil})
		real := p
		real.Provisional = false
		partner := repl.Record{Update: repl.Update{
			UID: repl.UID{Originator: other, Version: 9}, GVSN: version.GVSN{Originator: other, Version: 9},
			Parent: m.f.root, Name: "q", Type: repl.File, Present: true, Fence: 3, Content: repl.Hash{5},
		}}
		m.put(&Batch{Writes: []Write{{Record: real, Base: p.GVSN}, {Record: partner}}, Drop: []repl.UID{q.UID, {Originator: other, Version: 99}}})
		if v := m.f.Vector(); !v.Contains(p.GVSN) || !v.Contains(partner.GVSN) || v.Contains(q.GVSN) {
			t.Fatalf("vector %v", v)
		}
		got, ok, err := m.f.At(m.f.root, "q")
		if err != nil || !ok || got.UID != partner.UID {
			t.Fatalf("at q: %v, %v, %v", got.UID, ok, err)
		}
		if _, ok, err := m.f.Get(q.UID); ok || err != nil {
			t.Fatalf("a dropped record is there: %v", err)
		}
		equal(t, "counts", m.f.Counts(), Counts{Files: 2, Directories: 1, Bytes: contentSize})
		found, err = m.f.Provisional(10)
		equal(t, "provisional at the end", []any{found, err}, []any{[]repl.UID(nil), nil})
	})
}

func TestNamesTradePlacesInOneBatch(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		a := m.create(repl.File, m.f.root, "a")
		b := m.create(repl.File, m.f.root, "b")
		m.put(&Batch{Writes: []Write{
			m.next(a, func(r *repl.Record) { r.Name = "b" }),
			m.next(b, func(r *repl.Record) { r.Name = "a" }),
		}})
		for name, uid := range map[string]repl.UID{"a": b.UID, "b": a.UID} {
			if r, ok, err := m.f.At(m.f.root, name); err != nil || !ok || r.UID != uid {
				t.Fatalf("at %s: %v, %v, %v", name, r.UID, ok, err)
			}
		}
		dirA := m.create(repl.Directory, m.f.root, "dir")
		m.put(&Batch{Writes: []Write{
			m.next(m.get(a.UID), func(r *repl.Record) { r.Parent, r.Name = dirA.UID, "moved" }),
			m.next(m.get(b.UID), dead),
		}})
		equal(t, "children of the root", children(t, m.f, m.f.root, ""), []string{"dir"})
		p, err := m.f.Path(a.UID)
		equal(t, "path", []any{p, err}, []any{"dir/moved", nil})
	})
}

func TestMergedDirectoriesAnswerAsOne(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		// c was merged into b, b into a; each had children of its own.
		var dirs []repl.Record
		for i, name := range []string{"a", "b", "c"} {
			d := m.create(repl.Directory, m.f.root, name)
			m.create(repl.File, d.UID, "f"+name)
			m.create(repl.File, d.UID, fmt.Sprint(3-i))
			dirs = append(dirs, d)
		}
		a, b, c := dirs[0], dirs[1], dirs[2]
		merge := func(d repl.Record, heir repl.UID) Write {
			return m.next(d, func(r *repl.Record) { dead(r); r.Heir = heir })
		}
		m.put(&Batch{Writes: []Write{merge(c, b.UID)}})
		m.put(&Batch{Writes: []Write{merge(b, a.UID)}})
		for range 2 {
			equal(t, "children", children(t, m.f, a.UID, ""), []string{"1", "2", "3", "fa", "fb", "fc"})
			equal(t, "children after 3", children(t, m.f, a.UID, "3"), []string{"fa", "fb", "fc"})
			r, ok, err := m.f.At(a.UID, "fc")
			if err != nil || !ok || r.Parent != c.UID {
				t.Fatalf("at fc: %v, %v, %v", r, ok, err)
			}
			uid, err := m.f.Canonical(c.UID)
			equal(t, "canonical", []any{uid, err}, []any{a.UID, nil})
			p, err := m.f.Path(r.UID)
			equal(t, "path", []any{p, err}, []any{"a/fc", nil})
			equal(t, "counts", m.f.Counts(), Counts{Files: 6, Directories: 2, Bytes: 6 * contentSize, Tombstones: 2, Merged: 2})
			m.restart()
		}
		uid, err := m.f.Canonical(repl.UID{Originator: other, Version: 5})
		equal(t, "canonical of the unknown", []any{uid, err}, []any{repl.UID{Originator: other, Version: 5}, nil})
		if _, err := m.f.Path(repl.UID{Originator: other, Version: 5}); !errors.Is(err, ErrNoRecord) {
			t.Fatalf("path of the unknown: %v", err)
		}
		// a comes to name c its heir: nothing may look for ever.
		m.put(&Batch{Writes: []Write{merge(a, c.UID)}})
		if _, err := m.f.Canonical(c.UID); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("heirs in a cycle: %v", err)
		}
		equal(t, "children in a cycle", len(children(t, m.f, a.UID, "")), 6)
	})
}

func TestPathEndsInACycle(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		a := m.create(repl.Directory, m.f.root, "a")
		b := m.create(repl.Directory, a.UID, "b")
		m.put(&Batch{Writes: []Write{m.next(a, func(r *repl.Record) { r.Parent = b.UID })}})
		if _, err := m.f.Path(a.UID); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("path in a cycle: %v", err)
		}
	})
}

func TestContentAndHandlesAreFound(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		a := m.create(repl.File, m.f.root, "a")
		copyOf := m.object(repl.File, m.f.root, "copy")
		copyOf.Content, copyOf.Identity.Handle = a.Content, a.Identity.Handle // a hard link
		near := m.object(repl.File, m.f.root, "near")
		near.Content = a.Content
		near.Content[31]++ // the same first eight bytes
		small := m.object(repl.File, m.f.root, "small")
		small.Content, small.Size = a.Content, contentSize-1
		m.put(&Batch{Writes: []Write{{Record: copyOf}, {Record: near}, {Record: small}}})
		got, err := m.f.ByContent(a.Content, a.Size)
		equal(t, "by content", []any{got, err}, []any{[]repl.Record{a, copyOf}, nil})
		got, err = m.f.ByHandle(a.Identity.Handle)
		equal(t, "by handle", []any{got, err}, []any{[]repl.Record{a, copyOf}, nil})
		for _, nothing := range []struct {
			h    repl.Hash
			size int64
		}{{a.Content, a.Size + 1}, {small.Content, small.Size}, {repl.Hash{}, a.Size}} {
			if got, err := m.f.ByContent(nothing.h, nothing.size); err != nil || len(got) > 0 {
				t.Fatalf("content %v of %d bytes is found: %v, %v", nothing.h, nothing.size, got, err)
			}
		}
		m.put(&Batch{Writes: []Write{m.next(a, dead)}})
		got, err = m.f.ByContent(a.Content, a.Size)
		equal(t, "by content after a delete", []any{got, err}, []any{[]repl.Record{copyOf}, nil})
	})
}

func TestUpdatesComeInOrderAndPages(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		var live []repl.Record
		for i := range 30 {
			live = append(live, m.create(repl.File, m.f.root, fmt.Sprint("n", i)))
		}
		for i := 0; i < 30; i += 3 {
			w := m.next(live[i], func(r *repl.Record) { r.Size++ })
			m.put(&Batch{Writes: []Write{w}})
			live[i] = w.Record
		}
		low := version.Originator{0x01} // sorts before ours, has a later number
		foreign := repl.Record{Update: repl.Update{
			UID: repl.UID{Originator: low, Version: 500}, GVSN: version.GVSN{Originator: low, Version: 500},
			Parent: m.f.root, Name: "foreign", Type: repl.Directory, Present: true, Fence: 3,
		}}
		m.put(&Batch{Writes: []Write{{Record: foreign}, m.next(live[1], dead)}})
		live[1] = m.get(live[1].UID)
		live = append(live, foreign)
		slices.SortFunc(live, func(a, b repl.Record) int { return a.GVSN.Compare(b.GVSN) })
		var want []repl.Update
		for _, r := range live {
			want = append(want, r.Update)
		}
		all := m.f.Vector().Minus(version.Vector{version.Originator(docs): {{Low: 0, High: 1}}})
		snapshot, err := m.f.Snapshot()
		must(t, err)
		for _, r := range []Reader{m.f, snapshot} {
			var got []repl.Update
			after, pages := version.GVSN{}, 0
			for more := true; more; pages++ {
				var us []repl.Update
				us, after, more, err = r.Updates(all, after, 7)
				must(t, err)
				got = append(got, us...)
			}
			equal(t, "updates", got, want)
			equal(t, "pages", pages, 5)
			n, bytes, err := r.Count(all)
			equal(t, "count", []any{n, bytes, err}, []any{31, int64(29*contentSize + 10), nil})
			o := want[5].GVSN.Originator
			part, next, more, err := r.Updates(version.Vector{o: {{Low: want[5].GVSN.Version - 1, High: want[6].GVSN.Version}}}, version.GVSN{}, 7)
			equal(t, "an interval", []any{part, next, more, err}, []any{want[5:7], want[6].GVSN, false, nil})
		}
		must(t, snapshot.Close())
		none, _, more, err := m.f.Updates(version.Vector{other: {{Low: 0, High: 1 << 62}}}, version.GVSN{}, 7)
		equal(t, "updates of a stranger", []any{none, more, err}, []any{[]repl.Update(nil), false, nil})
	})
}

func TestASnapshotStandsStill(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		a := m.create(repl.File, m.f.root, "a")
		unsynced := m.object(repl.File, m.f.root, "b")
		m.put(&Batch{Writes: []Write{{Record: unsynced}}, NoSync: true})
		s, err := m.f.Snapshot()
		must(t, err)
		vector := m.f.Vector()
		m.create(repl.File, m.f.root, "c")
		m.put(&Batch{Writes: []Write{m.next(a, dead)}, Join: version.Vector{other: {{Low: 8, High: 99}}}})
		equal(t, "children", children(t, s, m.f.root, ""), []string{"a", "b"})
		equal(t, "vector", s.Vector(), vector)
		equal(t, "counts", s.Counts(), Counts{Files: 2, Directories: 1, Bytes: 2 * contentSize})
		got, ok, err := s.Get(a.UID)
		equal(t, "a", []any{got, ok, err}, []any{a, true, nil})
		must(t, s.Close())
		equal(t, "children now", children(t, m.f, m.f.root, ""), []string{"b", "c"})
	})
}

func TestIntentsStayUntilCleared(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		a := m.create(repl.File, m.f.root, "a")
		w := m.next(a, func(r *repl.Record) { r.Meta = []byte(strings.Repeat("x", 100)) })
		full := Intent{
			UID: a.UID, GVSN: w.Record.GVSN, Base: a.GVSN, Verdict: repl.VerdictMove,
			Place: repl.Place{Dir: m.f.root, Name: "new"}, From: repl.Place{Dir: m.f.root, Name: "a"},
			Identity: repl.Identity{Handle: "h\x00", Birth: -1}, Print: repl.Print{Size: 1, Mtime: -2, Ctime: 3},
			Displaced: repl.Identity{Handle: "d", Birth: 4}, DisplacedPrint: repl.Print{Ctime: 9},
			Keep: repl.KeepPreExisting, Temp: "i-77", Update: w.Record.Update, Seq: 3, Group: 2, Drop: true,
		}
		bare := Intent{UID: repl.UID{Originator: other, Version: 9}, GVSN: version.GVSN{Originator: other, Version: 9}}
		m.put(&Batch{AddIntents: []Intent{full, bare}})
		m.restart()
		got, err := m.f.Intents()
		equal(t, "intents", []any{got, err}, []any{[]Intent{full, bare}, nil})
		if g := m.f.Next(); g.Version <= full.GVSN.Version {
			t.Fatalf("version %v is given again; an intent has %v", g, full.GVSN)
		}
		m.put(&Batch{Writes: []Write{w}, ClearIntents: []repl.UID{a.UID}})
		got, err = m.f.Intents()
		equal(t, "intents left", []any{got, err}, []any{[]Intent{bare}, nil})
		m.put(&Batch{NoIntents: true, AddIntents: []Intent{full}})
		got, err = m.f.Intents()
		equal(t, "intents in place of all others", []any{got, err}, []any{[]Intent{full}, nil})
		m.put(&Batch{NoIntents: true})
		m.restart()
		got, err = m.f.Intents()
		equal(t, "intents when none is left", []any{got, err}, []any{[]Intent(nil), nil})
	})
}

func TestStateFloorAndPartnersAreKept(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		a := m.create(repl.File, m.f.root, "a")
		m.put(&Batch{Writes: []Write{m.next(a, dead)}})
		gone := m.get(a.UID)
		s := State{
			Originator: version.Originator{5}, Database: version.Originator{6}, Past: []version.Originator{m.f.State().Originator, other}, Phase: PhaseRecovery, Primary: true,
			Epoch: 1 << 40, Nonce: repl.GUID{1}, Membership: repl.GUID{2}, RootIdentity: repl.Identity{Handle: "root", Birth: 3},
			Volume: "uuid", Clean: true, Boot: repl.GUID{4}, Filter: repl.Hash{5}, Since: -6, Partner: repl.MemberID{7},
		}
		partner := version.Vector{other: {{Low: 8, High: 20}}}
		cover := Cover{repl.Statement{Member: repl.MemberID{9}, Database: other, Stamp: -4, Covers: partner}, 77}
		must(t, m.f.SetCovers([]Cover{cover, {Statement: repl.Statement{Member: repl.MemberID{8}, Covers: version.Vector{}}, Heard: 3}}))
		m.put(&Batch{State: &s, Collect: []repl.UID{a.UID}, Join: version.Vector{other: {{Low: 3, High: 7}, {Low: 9, High: 10}}, {8}: nil}})
		for range 2 {
			equal(t, "state", m.f.State(), s)
			if v := m.f.Vector(); !v.Contains(version.GVSN{Originator: other, Version: 10}) || v.Contains(version.GVSN{Originator: other, Version: 8}) {
				t.Fatalf("joined vector %v", v)
			}
			if g := m.f.Next(); g.Originator != s.Originator || g.Version < version.FirstVersion {
				t.Fatalf("next version %v is not of the new originator", g)
			}
			if _, ok, err := m.f.Get(a.UID); ok || err != nil || !m.f.Floor().Contains(gone.GVSN) {
				t.Fatalf("a collected tombstone is there: %v, %v; floor %v", ok, err, m.f.Floor())
			}
			equal(t, "counts", m.f.Counts(), Counts{Directories: 1})
			got, err := m.f.Covers()
			equal(t, "covers", []any{got[1], len(got), err}, []any{cover, 2, nil})
			m.restart()
		}
	})
}

func TestADroppedFolderIsGone(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		keep, err := m.s.Folder(repl.FolderID{1})
		must(t, err)
		a := m.create(repl.File, m.f.root, "a")
		old := m.f
		originator := old.State().Originator
		must(t, m.s.DropFolder(docs))
		if err := old.Put(&Batch{}); err == nil {
			t.Fatal("a dropped folder takes a batch")
		}
		equal(t, "folders", m.s.Folders(), []repl.FolderID{{1}})
		m.restart()
		if m.f.State().Originator == originator {
			t.Fatal("a folder that was dropped and made again has its old originator")
		}
		if _, ok, err := m.f.Get(a.UID); ok || err != nil {
			t.Fatalf("a record of the dropped folder is there: %v", err)
		}
		again, err := m.s.Folder(repl.FolderID{1})
		must(t, err)
		equal(t, "the other folder", again.State(), keep.State())
	})
}

func TestAnOlderProductRefusesNewerState(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		var ops Ops
		ops.Set(gateKey(), append(append([]byte(nil), gateMagic...), formatVersion+1))
		must(t, m.kv.Apply(&ops, true))
		if _, err := Open(m.kv, nil); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "format 2, known 1") {
			t.Fatalf("newer state: %v", err)
		}
		ops.Delete(gateKey())
		must(t, m.kv.Apply(&ops, true))
		if _, err := Open(m.kv, nil); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("foreign state: %v", err)
		}
	})
}

func TestACheckpointOpensByItself(t *testing.T) {
	dir := t.TempDir()
	kv, err := OpenPebble(filepath.Join(dir, "db"), Options{})
	must(t, err)
	m := &member{t: t, open: func() (KV, error) { return kv, nil }}
	m.start()
	a := m.create(repl.File, m.f.root, "a")
	must(t, m.s.Checkpoint(filepath.Join(dir, "copy")))
	m.create(repl.File, m.f.root, "b")
	must(t, m.s.Close())
	m.open = func() (KV, error) { return OpenPebble(filepath.Join(dir, "copy"), Options{}) }
	m.start()
	equal(t, "children of the copy", children(t, m.f, m.f.root, ""), []string{"a"})
	equal(t, "record of the copy", m.get(a.UID), a)
	if st := m.s.Stats(); st.Disk == 0 || st.BackgroundError != nil {
		t.Fatalf("stats %+v", st)
	}
	must(t, m.s.Close())
}
