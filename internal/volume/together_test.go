package volume

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

// TestRunsAreShared: who asks while a run is on its way gets the next one, with all who do, and its error.
func TestRunsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shared
		gate := make(chan error)
		runs := 0
		run := func() error {
			runs++
			return <-gate
		}
		var all sync.WaitGroup
		var first error
		all.Go(func() { first = s.share(run) })
		synctest.Wait() // it runs
		late := make([]error, 5)
		for i := range late {
			all.Go(func() { late[i] = s.share(run) })
		}
		synctest.Wait()
		if runs != 1 {
			t.Fatalf("%d runs at once", runs)
		}
		gate <- nil
		synctest.Wait()
		bad := errors.New("the disk is gone")
		gate <- bad
		all.Wait()
		if runs != 2 || first != nil {
			t.Errorf("%d runs for one and five; the first one's error %v", runs, first)
		}
		for i, err := range late {
			if !errors.Is(err, bad) {
				t.Errorf("caller %d got %v", i, err)
			}
		}
	})
}
