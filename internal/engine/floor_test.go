package engine

import (
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// TestAFloorIsForWhoHasNothing: a member in its initial sync begins with what a partner
// has collected only while nothing of another one is here, or on its way.
func TestAFloorIsForWhoHasNothing(t *testing.T) {
	a, c := version.Originator{11}, version.Originator{13}
	floor := version.Vector{a: {{Low: 8, High: 9}}}
	page := wire.DiffPage{Vector: version.Vector{a: {{Low: 8, High: 12}}}, Floor: floor}
	know := func(f *Folder, v version.Vector) { check(t, f.st.Put(&store.Batch{Join: v})) }
	for _, tt := range []struct {
		name  string
		begin func(f *Folder)
		takes bool
	}{
		{"nothing is here", func(*Folder) {}, true},
		{"a database was given up", func(f *Folder) { know(f, closed(c)) }, true},
		{"users have made something", func(f *Folder) { know(f, version.Vector{f.st.State().Originator: {{Low: 8, High: 9}}}) }, true},
		{"another one's diff is open", func(f *Folder) { f.links[member(3)].diff = new(diff) }, false},
		{"what another one brought is on its way", func(f *Folder) { f.flight.aloft[repl.UID{Originator: c, Version: 9}] = new(aloft) }, false},
		{"something is here that the partner does not know", func(f *Folder) { know(f, version.Vector{c: {{Low: 8, High: 9}}}) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMember(t, 2, false, 1, 3)
			m.start()
			check(t, m.between(t.Context(), func(f *Folder) {
				other := f.links[member(3)]
				other.up = true // it may go on with that one
				tt.begin(f)
				if took := f.aboveFloors(f.links[member(1)], &page); took != tt.takes || f.st.Floor().Covers(floor) != took {
					t.Errorf("it took the floor: %t, and has %v", took, f.st.Floor())
				}
				other.up, other.diff = false, nil
				clear(f.flight.aloft)
			}))
		})
	}
}
