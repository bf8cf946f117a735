package engine

import (
	"errors"
	"testing"
	"time"

	"opendfs/internal/repl"
)

// TestAStoppedFolderJoinsNothing: what comes to a folder that has stopped is not
// taken for known, so that it comes again when the folder runs.
func TestAStoppedFolderJoinsNothing(t *testing.T) {
	a, b := newMember(t, 1, true, 2), newMember(t, 2, false, 1)
	a.write("f", "of before")
	a.start()
	b.start()
	connect(a, b)
	settled(t, a, b)

	b.post(t.Context(), journalBroke{errors.New("it was taken away")})
	a.write("g", "of meanwhile")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(20 * time.Second); ; <-tick.C {
		made := a.record(repl.RootUID(a.cfg.Folder), "g").GVSN
		s, err := b.Status(t.Context())
		check(t, err)
		if !made.IsZero() && s.Links[member(1)].Known.Contains(made) {
			if s.Vector.Contains(made) {
				t.Errorf("a folder that has stopped covers %v, and has no record of it", made)
			}
			break
		}
		if time.Now().After(until) {
			t.Fatalf("the folder that has stopped was not told of %v", made)
		}
	}

	check(t, b.Close())
	check(t, b.jrn.Close())
	b.start()
	connect(a, b)
	settled(t, a, b)
	sameTrees(t, a, b)
}
