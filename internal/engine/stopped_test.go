package engine

import (
	"errors"
	"testing"
	"time"
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

	before := b.env.Store.Vector()
	b.post(t.Context(), journalBroke{errors.New("it was taken away")})
	a.write("g", "of meanwhile")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(20 * time.Second); ; <-tick.C {
		s, err := b.Status(t.Context())
		check(t, err)
		if news := s.Links[member(1)].Known.Minus(before); len(news) > 0 {
			if !s.Vector.Equal(before) {
				t.Errorf("a folder that has stopped covers %v, and has no record of it", news)
			}
			break
		}
		if time.Now().After(until) {
			t.Fatal("the folder that has stopped was told of nothing")
		}
	}

	check(t, b.Close())
	check(t, b.jrn.Close())
	b.start()
	connect(a, b)
	settled(t, a, b)
	sameTrees(t, a, b)
}
