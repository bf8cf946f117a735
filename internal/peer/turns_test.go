package peer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"opendfs/internal/repl"
)

// A flood of one folder leaves turns for others, who get what comes free first;
// the bound can be changed while transfers go on.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := new(Turns)
		turns.Set(16)
		flood, other := Lane{Folder: repl.FolderID{1}}, Lane{Folder: repl.FolderID{2}}
		var mu sync.Mutex
		var got []Lane
		var dones []func()
		had := func() []Lane { // who had a turn
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(got)
		}
		leave := func(i int) {
			mu.Lock()
			done := dones[i]
			mu.Unlock()
			done()
			synctest.Wait()
		}
		enter := func(l Lane) {
			go func() {
				done, err := turns.Take(t.Context(), l)
				if err != nil {
					return
				}
				mu.Lock()
				got, dones = append(got, l), append(dones, done)
				mu.Unlock()
			}()
			synctest.Wait()
		}
		for range 40 {
			enter(flood)
		}
		if a, w := turns.Counts(); a != 12 || w != 28 {
			t.Fatalf("%d go on and %d wait of a flood", a, w)
		}
		for range 6 {
			enter(other)
		}
		if a, w := turns.Counts(); a != 16 || w != 30 || had()[15] != other {
			t.Fatalf("%d go on and %d wait", a, w)
		}
		for i := range 2 { // what comes free is the other's, who has fewer
			leave(i)
			leave(i) // to say so twice means nothing
		}
		if next := had()[16:]; next[0] != other || next[1] != other {
			t.Errorf("turns went to %v", next)
		}
		turns.Set(20)
		synctest.Wait()
		if a, w := turns.Counts(); a != 20 || w != 24 {
			t.Errorf("%d go on and %d wait after the bound was raised", a, w)
		}
		turns.Set(1)
		for i := range 46 {
			leave(i)
		}
		if a, w := turns.Counts(); a != 0 || w != 0 || len(had()) != 46 {
			t.Errorf("at last %d go on, %d wait, %d have had a turn", a, w, len(had()))
		}
		turns.Set(1)
		enter(flood)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := turns.Take(ctx, flood); !errors.Is(err, context.Canceled) {
			t.Errorf("who gives up: %v", err)
		}
		if _, w := turns.Counts(); w != 0 {
			t.Error("who gave up still waits")
		}
		leave(46)
		var none *Turns
		if done, err := none.Take(t.Context(), flood); err != nil || done == nil {
			t.Errorf("without turns: %v", err)
		}
	})
}
