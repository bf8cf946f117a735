package merge

import (
	"strings"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/version"

	"pgregory.net/rapid"
)

// drawUpdate draws an update that need not fit to anything.
func drawUpdate(t *rapid.T, uids []repl.UID, m *member) repl.Update {
	u := repl.Update{
		UID:        rapid.SampledFrom(uids).Draw(t, "uid"),
		GVSN:       version.GVSN{Originator: version.Originator{'X'}, Version: rapid.Uint64Range(9, 40).Draw(t, "version")},
		Parent:     rapid.SampledFrom(append(uids, root)).Draw(t, "parent"),
		Name:       rapid.SampledFrom([]string{"a", "b", "d"}).Draw(t, "name"),
		Type:       rapid.SampledFrom([]repl.Type{repl.File, repl.Directory, repl.Directory, repl.Symlink}).Draw(t, "type"),
		Present:    rapid.IntRange(0, 3).Draw(t, "present") > 0,
		Fence:      repl.Fence(rapid.IntRange(2, 4).Draw(t, "fence")),
		CreateTime: repl.Time(rapid.IntRange(998, 1002).Draw(t, "createTime")),
		Clock:      repl.Time(rapid.IntRange(998, 1010).Draw(t, "clock")),
	}
	if r, ok := m.recs[u.UID]; ok && rapid.IntRange(0, 7).Draw(t, "fits") > 0 {
		u.Type, u.CreateTime = r.Type, r.CreateTime
	}
	if u.Type != repl.Directory {
		u.Content = repl.Hash{2, byte(u.GVSN.Version)}
	}
	if !u.Present && rapid.Bool().Draw(t, "loser") {
		u.NameConflict = true
		if u.Type == repl.Directory {
			u.Heir = rapid.SampledFrom(append(uids, root)).Draw(t, "heir")
		}
	}
	if rapid.Bool().Draw(t, "saw") {
		if r, ok := m.recs[u.UID]; ok {
			u.History = u.History.With(r.GVSN)
		}
	}
	return u
}

// TestWhateverAPartnerSends: no batch makes Decide loop, panic or give a plan
// that cannot be carried out or leaves the records unsound.
func TestWhateverAPartnerSends(t *testing.T) {
	more(t, 1200, func(t *rapid.T) {
		w := newWorld(1)
		m := w.member("A")
		for range rapid.IntRange(0, 8).Draw(t, "acts") {
			possible := m.acts([]string{"a", "b"})
			possible[rapid.IntRange(0, len(possible)-1).Draw(t, "act")].do()
		}
		m.readOnly = rapid.IntRange(0, 5).Draw(t, "reader") == 0
		uids := m.uids()
		for n := range uint64(4) {
			uids = append(uids, repl.UID{Originator: version.Originator{'X'}, Version: 9 + n})
		}
		for range rapid.IntRange(1, 3).Draw(t, "batches") {
			var batch []repl.Update
			for range rapid.IntRange(1, 12).Draw(t, "updates") {
				batch = append(batch, drawUpdate(t, uids, m))
			}
			s := snapshot{name: "X", vec: version.Vector{version.Originator{'X'}: {{Low: 8, High: 40}}}, recs: make(map[repl.UID]repl.Record)}
			if rapid.Bool().Draw(t, "covers") {
				s.vec = s.vec.Union(m.vec)
			}
			asked := make(map[repl.UID]bool)
			for range 3 {
				opts := Options{Folder: folder, ReadOnly: m.readOnly, Asked: asked}
				if err := plainIsWhole(m, batch, s.vec, opts); err != nil {
					t.Fatal(err)
				}
				plan, err := Decide(m, batch, s.vec, opts)
				if err != nil {
					t.Fatal(err)
				}
				for i := range plan.Changes { // the partner has every content it names
					s.recs[plan.Changes[i].Update.UID] = repl.Record{Update: plan.Changes[i].Update}
				}
				if err := m.carryOut(&plan, s); err != nil {
					t.Fatalf("%v\n%s", err, strings.Join(w.log, "\n"))
				}
				if err := m.sound(); err != nil {
					t.Fatalf("%v\n%s", err, strings.Join(w.log, "\n"))
				}
				for _, uid := range plan.Need {
					asked[uid] = true
				}
				batch = plan.Waiting
			}
		}
	})
}
