package journal

import (
	"context"
	"fmt"
	"sync"
)

// names is the bounded set of what waits for Next, and the rendezvous of Drain.
//
// Holds: gap != nil implies dirty is empty; len(index) == len(dirty) <= max;
// ready has a value whenever there is something for Next and nobody took it.
type names struct {
	ready chan struct{}
	max   int

	mu     sync.Mutex
	index  map[place]int // into dirty
	dirty  []Dirty
	gap    *Gap
	token  uint64 // of the batch handed out last
	err    error  // why nothing more will come
	blind  bool   // no event will come: a marker is answered by a Gap
	drains map[string]chan uint64
}

// place is the identity of a Dirty: dir (handle or path) and name, or, without
// a name, the child's handle.
type place struct{ dir, name, child string }

// Reasons of a Gap: of the one that every journal begins with, and of the
// answer to Drain where there are no events.
const (
	first = "the journal was opened: what happened before is not known"
	asked = "everything changed so far was asked for"
)

func newNames(max int) *names {
	return &names{
		ready:  make(chan struct{}, 1),
		max:    max,
		index:  map[place]int{},
		gap:    &Gap{Reason: first, Planned: true},
		drains: map[string]chan uint64{},
	}
}

// putLocked marks (dir, name) dirty. key is dir's handle or path and becomes
// part of the set, as do d.Dir and d.Path; name and child are copied.
func (n *names) putLocked(key string, d Dirty, name, child []byte) {
	if n.gap != nil || n.err != nil {
		return
	}
	var i int
	var ok bool
	if len(name) > 0 { // a literal in the index expression does not allocate
		i, ok = n.index[place{dir: key, name: string(name)}]
	} else {
		i, ok = n.index[place{child: string(child)}]
	}
	if ok {
		old := &n.dirty[i]
		old.Wrote = old.Wrote || d.Wrote
		old.Tree = old.Tree || d.Tree
		if d.Path != "" {
			old.Path = d.Path
		}
		if len(child) > 0 && string(child) != string(old.Child) {
			old.Child = append([]byte(nil), child...)
		}
		return
	}
	if len(n.dirty) >= n.max {
		n.gapLocked(Gap{Reason: fmt.Sprintf("more than %d names were waiting", n.max)})
		return
	}
	d.Name = string(name)
	if len(child) > 0 {
		d.Child = append([]byte(nil), child...)
	}
	p := place{dir: key, name: d.Name}
	if d.Name == "" {
		p = place{child: string(child)}
	}
	n.index[p] = len(n.dirty)
	n.dirty = append(n.dirty, d)
	if len(n.dirty) == 1 {
		n.wake()
	}
}

// put is putLocked for one place.
func (n *names) put(key string, d Dirty, name, child []byte) {
	n.mu.Lock()
	n.putLocked(key, d, name, child)
	n.mu.Unlock()
}

func (n *names) wake() {
	select {
	case n.ready <- struct{}{}:
	default:
	}
}

// doubt replaces everything that waits by a Gap and lets every Drain go: the
// Gap covers what it was waiting for.
func (n *names) doubt(reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.doubtLocked(Gap{Reason: reason})
}

func (n *names) doubtLocked(g Gap) {
	n.gapLocked(g)
	for name := range n.drains {
		n.seenLocked(name)
	}
}

// walkNow is doubt as planned.
func (n *names) walkNow(reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.doubtLocked(Gap{Reason: reason, Planned: true})
}

// goBlind is doubt, and from now on no event will come.
func (n *names) goBlind(reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blind = true
	n.doubtLocked(Gap{Reason: reason})
}

// gapLocked empties the set for a Gap; of two, one that was not planned stands.
func (n *names) gapLocked(g Gap) {
	n.forgetLocked()
	if n.gap == nil || n.gap.Planned && !g.Planned {
		n.gap = &g
	}
	n.wake()
}

// forgetLocked empties the set. A map keeps the room it once had, so a large
// one is left to the collector.
func (n *names) forgetLocked() {
	n.dirty = nil
	if len(n.index) > 1024 {
		n.index = map[place]int{}
	} else {
		clear(n.index)
	}
}

// coverLocked returns the token of the batch that covers all seen so far.
func (n *names) coverLocked() uint64 {
	if n.gap != nil || len(n.dirty) > 0 {
		return n.token + 1
	}
	return n.token
}

// end stops the set: what waits is still handed out unless err is ErrClosed.
func (n *names) end(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == ErrClosed {
		n.forgetLocked()
		n.gap = nil
		n.err = err
	}
	if n.err == nil {
		n.err = err
	}
	for name, ch := range n.drains {
		close(ch)
		delete(n.drains, name)
	}
	n.wake()
}

// Next implements Journal.
func (n *names) Next(ctx context.Context) (Batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Batch{}, err
		}
		if b, ok, err := n.take(); ok || err != nil {
			return b, err
		}
		select {
		case <-n.ready:
		case <-ctx.Done():
		}
	}
}

func (n *names) take() (b Batch, ok bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gap == nil && len(n.dirty) == 0 {
		return Batch{}, false, n.err
	}
	n.token++
	b = Batch{Dirty: n.dirty, Gap: n.gap, Token: n.token}
	n.gap = nil
	n.forgetLocked()
	return b, true, nil
}

// expect registers a marker: the channel gets a token once seen was called with
// its name, and is closed without one if the journal ends before.
func (n *names) expect(name string) (<-chan uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return nil, n.err
	}
	ch := make(chan uint64, 1)
	n.drains[name] = ch
	if n.blind {
		n.gapLocked(Gap{Reason: asked, Planned: true})
		n.seenLocked(name)
	}
	return ch, nil
}

// seen says that the marker's event has been read, after all before it were put.
func (n *names) seen(name []byte) {
	n.mu.Lock()
	n.seenLocked(string(name))
	n.mu.Unlock()
}

func (n *names) seenLocked(name string) {
	if ch, ok := n.drains[name]; ok {
		ch <- n.coverLocked()
		delete(n.drains, name)
	}
}

// drain sets a marker into the kernel's queue by mark, which calls its argument
// with the marker's name before it makes the event, and waits for it.
func (n *names) drain(ctx context.Context, mark func(expect func(name string) error) error) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var name string
	var ch <-chan uint64
	err := mark(func(next string) (err error) {
		name = next
		ch, err = n.expect(next)
		return err
	})
	defer n.unexpect(name)
	if err != nil {
		return 0, err
	}
	select {
	case token, ok := <-ch:
		if !ok {
			n.mu.Lock()
			defer n.mu.Unlock()
			return 0, n.err
		}
		return token, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (n *names) unexpect(name string) {
	n.mu.Lock()
	delete(n.drains, name)
	n.mu.Unlock()
}

// drainBlind is drain where no event will come.
func (n *names) drainBlind(ctx context.Context) (uint64, error) {
	return n.drain(ctx, func(expect func(name string) error) error { return expect("") })
}
