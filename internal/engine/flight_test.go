package engine

import (
	"crypto/rand"
	"slices"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// A change of metadata locks its place by the record that is there, and gets locks of
// its own as soon as something else happens to its object or directories are merged:
// who asks sees no difference.
func TestMetadataStayInTheirPlaces(t *testing.T) {
	s, err := store.Open(store.NewMemory(), rand.Reader)
	check(t, err)
	st, err := s.Folder(repl.FolderID{1})
	check(t, err)
	uid := func(n uint64) repl.UID { return repl.UID{Originator: version.Originator{9}, Version: n} }
	root, dir, other, file := repl.RootUID(repl.FolderID{1}), uid(1), uid(2), uid(3)
	record := func(id, parent repl.UID, name string, kind repl.Type) repl.Record {
		r := repl.Record{Presence: repl.OnDisk, Update: repl.Update{UID: id, GVSN: version.GVSN(id), Parent: parent, Name: name, Type: kind, Present: true, Fence: repl.Unfenced, CreateTime: 1, Clock: 1, Meta: []byte{1}}}
		if kind == repl.File {
			r.Content, r.Identity = repl.Hash{1}, repl.Identity{Handle: "handle of " + name}
		}
		return r
	}
	was := record(file, dir, "f", repl.File)
	check(t, st.Put(&store.Batch{Writes: []store.Write{
		{Record: record(dir, root, "d", repl.Directory)}, {Record: record(other, root, "o", repl.Directory)}, {Record: was},
	}}))
	next := func(r *repl.Record, v uint64, change func(u *repl.Update)) repl.Change {
		place := repl.Place{Dir: r.Parent, Name: r.Name}
		c := repl.Change{Was: *r, Object: *r, Update: r.Update, From: place, To: place}
		c.Update.GVSN.Version = v
		change(&c.Update)
		return c
	}
	meta := next(&was, 10, func(u *repl.Update) { u.Meta = []byte{2} })
	meta.Meta = true
	moved := next(&repl.Record{Update: meta.Update, Identity: was.Identity}, 11, func(u *repl.Update) { u.Parent, u.Name = other, "g" })
	moved.To = repl.Place{Dir: other, Name: "g"}
	dead := record(other, root, "o", repl.Directory)
	merged := next(&dead, 12, func(u *repl.Update) { u.Present, u.Heir = false, dir })
	merged.To = repl.Place{}

	left := record(uid(4), other, "k", repl.File)
	check(t, st.Put(&store.Batch{Writes: []store.Write{{Record: left}}}))

	var v flight
	v.init(st)
	shows := func(when string, at repl.Place, version uint64, held bool) {
		t.Helper()
		rec, ok, err := v.At(at.Dir, at.Name)
		check(t, err)
		var names []string
		check(t, v.Children(at.Dir, "", func(r *repl.Record) bool { names = append(names, r.Name); return true }))
		if ok != (version != 0) || ok && rec.GVSN.Version != version || slices.Contains(names, at.Name) != ok || len(names) > 2 {
			t.Errorf("%s %v holds %v (%v), its directory %q; version %d is to be there", when, at, rec.GVSN, ok, names, version)
		}
		if v.holdsPlace(at) != held {
			t.Errorf("%s %v is held: %v", when, at, !held)
		}
	}
	f, g := repl.Place{Dir: dir, Name: "f"}, repl.Place{Dir: other, Name: "g"}
	shows("before all", f, 3, false)
	v.add(&meta)
	if v.still != 1 || !v.holds(file) || !v.touches(dir) {
		t.Errorf("%d objects stay, held %v, directory touched %v", v.still, v.holds(file), v.touches(dir))
	}
	shows("with other metadata", f, 10, true)
	v.add(&moved)
	shows("when it moves", f, 0, true)
	shows("when it moves", g, 11, true)
	v.remove(&meta)
	v.remove(&moved)
	shows("after all", f, 3, false)
	shows("after all", g, 0, false)
	v.add(&meta)
	v.add(&merged)
	if v.still != 0 {
		t.Errorf("%d objects stay though directories are merged", v.still)
	}
	shows("beside a merge", f, 10, true)
	shows("beside a merge", repl.Place{Dir: dir, Name: "k"}, 4, false)
	shows("beside a merge", repl.Place{Dir: other, Name: "k"}, 0, false)
	v.remove(&meta)
	v.remove(&merged)
	shows("after the merge", f, 3, false)
	shows("after the merge", repl.Place{Dir: other, Name: "k"}, 4, false)
	if n := len(v.aloft) + len(v.locked) + len(v.touched) + len(v.unseen) + len(v.merged) + v.still; n != 0 {
		t.Errorf("%d things are left in the flight: %+v", n, v)
	}
}
