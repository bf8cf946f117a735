package peer

import (
	"context"
	"sync"

	"opendfs/internal/repl"
)

// Lane names those whose transfers take turns among each other: a folder, and
// where contents are sent the partner that they go to.
type Lane struct {
	Partner repl.MemberID
	Folder  repl.FolderID
}

// Turns bounds how many transfers go on at once, over all folders and partners.
// Nobody's flood keeps another out: one lane has three quarters of the turns at
// most, and a turn that comes free goes to the lane that has the fewest, the one
// that has waited longest among those. The zero value has no bound. Safe for
// concurrent use.
type Turns struct {
	mu      sync.Mutex
	limit   int            // guarded by mu; 0: none
	total   int            // guarded by mu; turns that are taken
	active  map[Lane]int   // guarded by mu; the sum is total
	waiting []*turnWaiting // guarded by mu; who waits longest first
}

type turnWaiting struct {
	lane Lane
	mine chan struct{} // closed when it has its turn
}

// Set changes the bound, from now on; 0 is none. Those that have their turn keep
// it.
func (t *Turns) Set(limit int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit = limit
	t.grantLocked()
}

// Take waits for a turn. Whoever gets one calls done, once.
func (t *Turns) Take(ctx context.Context, lane Lane) (done func(), err error) {
	if t == nil {
		return func() {}, nil
	}
	w := &turnWaiting{lane, make(chan struct{})}
	t.mu.Lock()
	t.waiting = append(t.waiting, w)
	t.grantLocked()
	t.mu.Unlock()
	give := sync.OnceFunc(func() { t.give(lane) })
	select {
	case <-w.mine:
		return give, nil
	default:
	}
	select {
	case <-w.mine:
		return give, nil
	case <-ctx.Done():
	}
	if !t.leave(w) { // the turn came all the same
		give()
	}
	return nil, context.Cause(ctx)
}

// leave ends waiting; it reports whether that was not over already.
func (t *Turns) leave(w *turnWaiting) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, o := range t.waiting {
		if o == w {
			t.waiting = append(t.waiting[:i], t.waiting[i+1:]...)
			return true
		}
	}
	return false
}

func (t *Turns) give(lane Lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total--
	if t.active[lane]--; t.active[lane] == 0 {
		delete(t.active, lane)
	}
	t.grantLocked()
}

// grantLocked gives out the turns that are free.
func (t *Turns) grantLocked() {
	for len(t.waiting) > 0 && (t.limit == 0 || t.total < t.limit) {
		next := -1
		for i, w := range t.waiting {
			has := t.active[w.lane]
			if t.limit > 0 && has >= max(1, t.limit-t.limit/4) {
				continue
			}
			if next < 0 || has < t.active[t.waiting[next].lane] {
				next = i
			}
		}
		if next < 0 {
			return
		}
		w := t.waiting[next]
		t.waiting = append(t.waiting[:next], t.waiting[next+1:]...)
		if t.active == nil {
			t.active = make(map[Lane]int)
		}
		t.total++
		t.active[w.lane]++
		close(w.mine)
	}
}

// Counts returns how many transfers go on, and how many wait.
func (t *Turns) Counts() (active, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total, len(t.waiting)
}
