package engine

import (
	"context"
	"errors"
	"testing"

	"opendfs/internal/preserve"
)

// Whoever works on the conflict store is told when the folder is to end, is
// waited for, and is not let in after that.
func TestGuestsOfTheConflictStore(t *testing.T) {
	m := newMember(t, 1, true)
	m.start()
	in, out := make(chan struct{}), make(chan error, 1)
	go func() {
		out <- m.Kept(t.Context(), func(ctx context.Context, s *preserve.Store) error {
			close(in)
			<-ctx.Done()
			select {
			case <-m.Ended():
				return errors.New("the folder has ended under its guest")
			default:
			}
			_, err := s.Usage(context.WithoutCancel(ctx))
			return err
		})
	}()
	<-in
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-out; err != nil {
		t.Error(err)
	}
	if err := m.Kept(t.Context(), func(context.Context, *preserve.Store) error { return nil }); err == nil {
		t.Error("let in after the end")
	}
}
