package peer

import (
	"context"
	"errors"
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
		var got []Lane
		var dones []func()
		enter := func(l Lane) {
			go func() {
				done, err := turns.Take(t.Context(), l)
				if err != nil {
					return
				}
				got, dones = append(got, l), append(dones, done)
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
		if a, w := turns.Counts(); a != 16 || w != 30 || got[15] != other {
			t.Fatalf("%d go on and %d wait", a, w)
		}
		for i := range 2 { // what comes free is the other's, who has fewer
			dones[i]()
			dones[i]()
			synctest.Wait()
		}
		if got[16] != other || got[17] != other {
			t.Errorf("turns went to %v", got[16:])
		}
		turns.Set(20)
		synctest.Wait()
		if a, _ := turns.Counts(); a != 20-20/4+6-1 && a != 20 {
			t.Errorf("%d go on after the bound was raised", a)
		}
		turns.Set(1)
		for len(dones) > 0 {
			dones[0]()
			dones = dones[1:]
			synctest.Wait()
		}
		if a, w := turns.Counts(); a != 0 || w != 0 || len(got) != 46 {
			t.Errorf("at last %d go on, %d wait, %d have had a turn", a, w, len(got))
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
		dones[0]()
		var none *Turns
		if done, err := none.Take(t.Context(), flood); err != nil || done == nil {
			t.Errorf("without turns: %v", err)
		}
	})
}
