package store

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// model is what a folder should hold, in plain maps.
type model struct {
	records map[repl.UID]repl.Record
	vector  version.Vector
}

func (o *model) clone() *model {
	return &model{maps.Clone(o.records), o.vector.Clone()}
}

// sorted returns the model's records by UID.
func (o *model) sorted() []repl.Record {
	return slices.SortedFunc(maps.Values(o.records), func(a, b repl.Record) int { return a.UID.Compare(b.UID) })
}

// apply does what Put should do.
func (o *model) apply(b *Batch) {
	for _, w := range b.Writes {
		o.records[w.Record.UID] = w.Record
		if !w.Record.Provisional {
			o.vector.Add(w.Record.GVSN)
		}
	}
	for _, uid := range b.Drop {
		delete(o.records, uid)
	}
	o.vector = o.vector.Union(b.Join)
}

// TestRandomStepsAgreeWithAModel takes random steps on both databases, with
// restarts and crashes, and compares every answer with plain maps.
func TestRandomStepsAgreeWithAModel(t *testing.T) {
	eachKV(t, func(t *testing.T, m *member) {
		rng := rand.New(rand.NewPCG(5, 6))
		o := &model{make(map[repl.UID]repl.Record), m.f.Vector()}
		root, err := m.f.Root()
		must(t, err)
		o.records[root.UID] = root
		durable := o.clone()
		put, refused := 0, 0
		for step := range 250 {
			b := randomBatch(m, o, rng)
			b.NoSync = rng.IntN(4) == 0
			err := m.f.Put(b)
			var broken *InvariantError
			switch {
			case errors.As(err, &broken):
				refused++ // the generator does not avoid every taken place; nothing happened
				if !strings.Contains(err.Error(), "place of") && !strings.Contains(err.Error(), "two objects at") {
					t.Fatal(err)
				}
			case err != nil:
				t.Fatal(err)
			default:
				o.apply(b)
				put++
				if !b.NoSync {
					durable = o.clone()
				}
			}
			if kv, ok := m.kv.(*Memory); ok && rng.IntN(25) == 0 {
				kv.Crash()
				m.start()
				o = durable.clone()
			} else if rng.IntN(60) == 0 {
				m.restart()
				durable = o.clone()
			}
			if step%10 == 9 {
				o.compare(t, m)
				durable = o.clone() // its snapshot made it so
			}
		}
		t.Logf("%d batches put, %d refused; at the end %+v", put, refused, m.f.Counts())
	})
}

// randomBatch makes one to four changes that mostly may be.
func randomBatch(m *member, o *model, rng *rand.Rand) *Batch {
	b := &Batch{}
	all := o.sorted()
	touched := make(map[repl.UID]bool)
	dirs := slices.DeleteFunc(slices.Clone(all), func(r repl.Record) bool { return r.Type != repl.Directory || !r.Present })
	name := func() string { return fmt.Sprint("n", rng.IntN(12)) }
	for range 1 + rng.IntN(4) {
		parent := dirs[rng.IntN(len(dirs))]
		victim := all[rng.IntN(len(all))]
		kind := rng.IntN(10)
		if touched[parent.UID] || kind >= 4 && (touched[victim.UID] || victim.UID == m.f.root) {
			continue
		}
		switch {
		case kind < 4:
			r := m.object(repl.Type(1+rng.IntN(3)), parent.UID, name())
			r.Provisional = rng.IntN(5) == 0
			r.Content[0] %= 4
			b.Writes = append(b.Writes, Write{Record: r})
		case kind < 5 && victim.Provisional && victim.Type != repl.Directory:
			b.Drop = append(b.Drop, victim.UID)
			touched[victim.UID] = true
		case kind < 6 && victim.Present && !victim.Provisional:
			touched[victim.UID] = true
			b.Writes = append(b.Writes, m.next(victim, func(r *repl.Record) {
				dead(r)
				if r.Type == repl.Directory && parent.UID != r.UID {
					r.Heir = parent.UID
				}
			}))
		case kind < 7:
			touched[victim.UID] = true
			local := victim
			local.Identity.Handle = fmt.Sprint("\x01\x00\x00\x00handle", rng.IntN(30))
			local.Provisional = false
			b.Writes = append(b.Writes, Write{Record: local, Base: victim.GVSN})
		case kind < 9 && victim.Type != repl.Directory && !victim.Provisional:
			touched[victim.UID] = true
			b.Writes = append(b.Writes, m.next(victim, func(r *repl.Record) {
				r.Parent, r.Name, r.Present, r.Presence = parent.UID, name(), true, repl.Presence(rng.IntN(2))
				r.Meta = make([]byte, 1+rng.IntN(80))
			}))
		default:
			low := rng.Uint64N(50)
			b.Join = version.Vector{other: {{Low: low, High: low + 3}}}
		}
	}
	return b
}

// compare asks the folder and a snapshot everything and looks it up in the maps.
func (o *model) compare(t *testing.T, m *member) {
	t.Helper()
	snapshot, err := m.f.Snapshot()
	must(t, err)
	defer func() { must(t, snapshot.Close()) }()
	var counts Counts
	byDir := make(map[repl.UID]map[string]repl.UID)
	var updates []repl.Update
	for _, r := range o.sorted() {
		counts.add(&r, 1)
		if r.Present && !r.Parent.IsZero() {
			if byDir[r.Parent] == nil {
				byDir[r.Parent] = make(map[string]repl.UID)
			}
			byDir[r.Parent][r.Name] = r.UID
		}
		if !r.Provisional {
			updates = append(updates, r.Update)
		}
	}
	slices.SortFunc(updates, func(a, b repl.Update) int { return a.GVSN.Compare(b.GVSN) })
	equal(t, "counts", m.f.Counts(), counts)
	for _, r := range []Reader{m.f, snapshot} {
		equal(t, "vector", r.Vector().String(), o.vector.String())
		got, _, more, err := r.Updates(o.vector, version.GVSN{}, 1e6)
		if err != nil || more {
			t.Fatal(more, err)
		}
		equal(t, "updates", got, updates)
		for _, want := range o.sorted() {
			got, ok, err := r.Get(want.UID)
			if err != nil || !ok {
				t.Fatalf("record %v: %v, %v", want.UID, ok, err)
			}
			equal(t, "record", got, want)
			if want.Type == repl.Directory && want.Present {
				o.compareDir(t, r, want.UID, byDir)
			}
			if handle := want.Identity.Handle; indexedByHandle(&want) {
				found, err := r.ByHandle(handle)
				if err != nil || !slices.ContainsFunc(found, func(f repl.Record) bool { return f.UID == want.UID }) {
					t.Fatalf("%v is not found by handle %q: %v", want.UID, handle, err)
				}
			}
		}
	}
}

// compareDir compares one directory's children with the maps, what was merged
// into it included.
func (o *model) compareDir(t *testing.T, r Reader, dir repl.UID, byDir map[repl.UID]map[string]repl.UID) {
	t.Helper()
	var want []string
	merged := []repl.UID{dir}
	for i := 0; i < len(merged); i++ {
		want = slices.AppendSeq(want, maps.Keys(byDir[merged[i]]))
		for _, rec := range o.records {
			if rec.Heir == merged[i] && !slices.Contains(merged, rec.UID) {
				merged = append(merged, rec.UID)
			}
		}
	}
	slices.Sort(want)
	equal(t, "children", children(t, r, dir, ""), want)
	for name, uid := range byDir[dir] {
		if at, ok, err := r.At(dir, name); err != nil || !ok || at.UID != uid {
			t.Fatalf("at %v/%s: %v, %v, %v; want %v", dir, name, at.UID, ok, err, uid)
		}
	}
	names := slices.Sorted(maps.Keys(byDir[dir]))
	names = append(names, "~ not there")
	must(t, r.Named(dir, names, func(i int, rec *repl.Record) error {
		if uid, is := byDir[dir][names[i]]; is != (rec != nil) || is && rec.UID != uid {
			t.Fatalf("%v/%s among others: %+v; want %v", dir, names[i], rec, uid)
		}
		return nil
	}))
}
