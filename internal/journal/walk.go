package journal

import (
	"context"
	"sync"
	"time"
)

// walk is the journal of a tree that gives no events: a Gap now and then.
type walk struct {
	*names
	why  string
	stop chan struct{}
	once sync.Once
	done chan struct{}
}

func newWalk(o Options, why string) *walk {
	w := &walk{names: newNames(o.MaxNames), why: why, stop: make(chan struct{}), done: make(chan struct{})}
	w.blind = true
	go func() {
		defer close(w.done)
		walkPeriodically(w.names, o.WalkEvery, w.stop)
	}()
	return w
}

// walkPeriodically makes a Gap every so often until stop is closed.
func walkPeriodically(n *names, every time.Duration, stop <-chan struct{}) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			n.walkNow("the tree is walked every " + every.String())
		case <-stop:
			return
		}
	}
}

// Kind implements Journal.
func (w *walk) Kind() Kind { return Walk }

// Reason implements Journal.
func (w *walk) Reason() string { return w.why }

// Drain implements Journal: only a walk can tell what was changed before.
func (w *walk) Drain(ctx context.Context) (uint64, error) { return w.drainBlind(ctx) }

// Close implements Journal.
func (w *walk) Close() error {
	w.once.Do(func() { close(w.stop) })
	<-w.done
	w.end(ErrClosed)
	return nil
}
