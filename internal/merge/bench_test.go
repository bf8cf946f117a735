package merge

import (
	"fmt"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// indexed is a view over maps: what is measured is the law, not a store.
type indexed struct {
	recs   map[repl.UID]*repl.Record
	places map[repl.Place]*repl.Record
	kids   map[repl.UID][]*repl.Record
	reads  int
}

func newIndexed() *indexed {
	return &indexed{recs: make(map[repl.UID]*repl.Record), places: make(map[repl.Place]*repl.Record), kids: make(map[repl.UID][]*repl.Record)}
}

func (v *indexed) put(u repl.Update) {
	r := &repl.Record{Update: u}
	if old := v.recs[u.UID]; old != nil && old.Present && v.places[placeOf(old)] == old {
		delete(v.places, placeOf(old))
	}
	v.recs[u.UID] = r
	if u.Present {
		v.places[placeOf(r)] = r
		v.kids[u.Parent] = append(v.kids[u.Parent], r)
	}
}

func placeOf(r *repl.Record) repl.Place { return repl.Place{Dir: r.Parent, Name: r.Name} }

func (v *indexed) Get(uid repl.UID) (repl.Record, bool, error) {
	v.reads++
	if r := v.recs[uid]; r != nil {
		return *r, true, nil
	}
	return repl.Record{}, false, nil
}

func (v *indexed) At(dir repl.UID, name string) (repl.Record, bool, error) {
	v.reads++
	if r := v.places[repl.Place{Dir: dir, Name: name}]; r != nil {
		return *r, true, nil
	}
	return repl.Record{}, false, nil
}

func (v *indexed) Children(dir repl.UID, after string, fn func(*repl.Record) bool) error {
	for _, r := range v.kids[dir] {
		if v.recs[r.UID] != r || !r.Present || r.Name <= after {
			continue
		}
		v.reads++
		if !fn(r) {
			break
		}
	}
	return nil
}

// tree makes the updates of a fresh tree: a directory for every wide files, or
// none if wide is 0.
func tree(n, wide int) ([]repl.Update, version.Vector) {
	org := version.Originator{'P'}
	updates := make([]repl.Update, n)
	dir := root
	for i := range updates {
		g := version.GVSN{Originator: org, Version: uint64(i) + 9}
		u := repl.Update{
			UID: repl.UID(g), GVSN: g, Parent: dir, Name: fmt.Sprintf("file-%08d.txt", i), Type: repl.File, Present: true,
			Fence: repl.FenceDefault, CreateTime: repl.Time(i) + 1, Clock: repl.Time(i) + 1, Content: repl.Hash{1, byte(i), byte(i >> 8), byte(i >> 16)},
		}
		if wide > 0 && i%wide == 0 {
			u.Type, u.Content = repl.Directory, repl.Hash{}
			dir = u.UID
			if i%(8*wide) == 0 {
				u.Parent = root
			}
		}
		updates[i] = u
	}
	return updates, version.Vector{org: {{Low: 8, High: uint64(n) + 8}}}
}

// BenchmarkInitialSync is the whole verdict on a fresh tree in pages of 1,024;
// one operation is one update.
func BenchmarkInitialSync(b *testing.B) {
	for _, c := range []struct {
		name string
		wide int
	}{{"tree", 16}, {"one directory", 0}} {
		b.Run(c.name, func(b *testing.B) {
			updates, vec := tree(b.N, c.wide)
			v := newIndexed()
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < len(updates); i += 1024 {
				batch := updates[i:min(i+1024, len(updates))]
				plan, err := Decide(v, batch, vec, Options{Folder: folder, InitialSync: true})
				if err != nil || len(plan.Changes) != len(batch) {
					b.Fatalf("%d changes of %d, %v", len(plan.Changes), len(batch), err)
				}
				b.StopTimer()
				for j := range plan.Changes {
					v.put(plan.Changes[j].Update)
				}
				b.StartTimer()
			}
		})
	}
}

// TestWorkFollowsTheBatch: what is read for a batch does not grow with the
// directories that it touches.
func TestWorkFollowsTheBatch(t *testing.T) {
	updates, vec := tree(50_000, 25_000)
	v := newIndexed()
	for i := range updates {
		v.put(updates[i])
	}
	org := version.Originator{'P'}
	next := uint64(len(updates)) + 9
	later := func(i int, change func(*repl.Update)) repl.Update {
		u := updates[i]
		u.GVSN, u.Clock, u.History = version.GVSN{Originator: org, Version: next}, u.Clock+1, u.History.With(u.GVSN)
		next++
		change(&u)
		return u
	}
	die := func(u *repl.Update) { *u = *tombstone(u); u.Present = false }
	asked := make(map[repl.UID]bool)
	decide := func(what string, limit int, batch ...repl.Update) repl.Plan {
		vec.AddInterval(org, version.Interval{Low: 8, High: next})
		v.reads = 0
		plan, err := Decide(v, batch, vec, Options{Folder: folder, Asked: asked})
		if err != nil || v.reads > limit {
			t.Errorf("%s: %d reads, want at most %d, %v", what, v.reads, limit, err)
		}
		return plan
	}
	if p := decide("a file moves between large directories", 10, later(1, func(u *repl.Update) { u.Parent = updates[25_000].UID })); len(p.Changes) != 1 {
		t.Errorf("%d changes", len(p.Changes))
	}
	if p := decide("a large directory moves", 10, later(0, func(u *repl.Update) { u.Name = "other" })); len(p.Changes) != 1 {
		t.Errorf("%d changes", len(p.Changes))
	}
	p := decide("the tombstone of a large directory", 3*maxNeed, later(0, die))
	if len(p.Waiting) != 1 || len(p.Need) != maxNeed {
		t.Errorf("%d wait, %d needed", len(p.Waiting), len(p.Need))
	}
	stranger := updates[0]
	stranger.UID = repl.UID{Originator: version.Originator{'Q'}, Version: 9}
	stranger.GVSN, stranger.CreateTime = version.GVSN(stranger.UID), stranger.CreateTime+1
	vec.Add(stranger.GVSN)
	v.recs[updates[0].UID].CreateTime--
	asked[updates[0].UID] = true
	if p := decide("a new directory is merged with a large one", 1000, stranger); len(p.Changes) != 2 {
		t.Errorf("%d changes", len(p.Changes))
	}
}
