package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// inotifyJournal is the journal of a tree by one watch a directory. When the
// watches do not suffice it goes on as a walk.
type inotifyJournal struct {
	*names
	tree   *tree
	o      Options
	ctx    context.Context // ends with the journal
	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once

	state sync.Mutex
	kind  Kind
	why   string
	file  *os.File // of the current watches; closed with the journal
}

// newInotify watches the tree. t stays the caller's if it fails.
func newInotify(ctx context.Context, t *tree, o Options, why string) (*inotifyJournal, error) {
	w, err := newWatches(ctx, t)
	if err != nil {
		return nil, err
	}
	j := &inotifyJournal{
		names: newNames(o.MaxNames), tree: t, o: o, done: make(chan struct{}),
		kind: Inotify, why: why, file: w.file,
	}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(j.done)
		if err := j.read(w); err != nil && j.ctx.Err() == nil {
			j.becomeWalk(err)
		}
	}()
	return j, nil
}

// read reads and delivers until the journal is closed (nil) or blind.
func (j *inotifyJournal) read(w *watches) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		overflow, err := j.deliverAll(w, buf[:n])
		if err != nil {
			return err
		}
		if overflow { // directories may have come that nobody watches
			if w, err = j.renew(); err != nil {
				return err
			}
			j.doubt("the kernel's queue of events overflowed")
		}
	}
}

// renew replaces all watches by new ones.
func (j *inotifyJournal) renew() (*watches, error) {
	j.state.Lock()
	old := j.file
	j.state.Unlock()
	_ = old.Close() // nothing of it is wanted
	w, err := newWatches(j.ctx, j.tree)
	if err != nil {
		return nil, err
	}
	j.state.Lock()
	defer j.state.Unlock()
	j.file = w.file
	if j.ctx.Err() != nil {
		return nil, errors.Join(ErrClosed, w.file.Close())
	}
	return w, nil
}

func (j *inotifyJournal) deliverAll(w *watches, b []byte) (overflow bool, err error) {
	for len(b) > 0 {
		ev, rest, err := decodeWatch(b)
		if err != nil || ev.mask&unix.IN_Q_OVERFLOW != 0 {
			return true, nil
		}
		if err := j.deliver(w, ev); err != nil {
			return false, err
		}
		b = rest
	}
	return false, nil
}

// deliver takes one event. An error means that the tree cannot be watched.
func (j *inotifyJournal) deliver(w *watches, ev watchEvent) error {
	d := w.byWD[ev.wd]
	if d == nil {
		return nil // forgotten: its new place is reported with Tree, or it is gone
	}
	if ev.mask&(unix.IN_IGNORED|unix.IN_UNMOUNT) != 0 {
		if d == w.root {
			return errors.New("the root was removed or unmounted")
		}
		w.forget(d)
		return nil
	}
	if d.private {
		j.seen(ev.name)
		return nil
	}
	if len(ev.name) == 0 { // reported by the parent too, by name
		if d == w.root {
			j.put(".", Dirty{Path: "."}, []byte("."), nil)
		}
		return nil
	}
	if d == w.root && string(ev.name) == privateName {
		return nil
	}
	tree := false
	if ev.mask&unix.IN_ISDIR != 0 {
		name := string(ev.name)
		child := d.children[name]
		gone := ev.mask&(unix.IN_MOVED_FROM|unix.IN_DELETE) != 0
		come := ev.mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0
		if gone && child != nil {
			w.forget(child)
		}
		if come || ev.mask&unix.IN_ATTRIB != 0 && child == nil { // readable only now
			tree = true
			if err := w.watch(j.ctx, d, name); err != nil {
				return err
			}
		}
	}
	j.put(d.path, Dirty{Path: d.path, Wrote: ev.mask&unix.IN_CLOSE_WRITE != 0, Tree: tree}, ev.name, nil)
	return nil
}

// becomeWalk lets the watches go and makes Gaps until the journal is closed.
func (j *inotifyJournal) becomeWalk(why error) {
	j.state.Lock()
	j.kind = Walk
	if j.why != "" {
		j.why += "; "
	}
	j.why += fmt.Sprintf("inotify: %v", why)
	_ = j.file.Close() // nothing of it is wanted
	j.state.Unlock()
	j.goBlind(fmt.Sprintf("the tree is no longer watched: %v", why))
	walkPeriodically(j.names, j.o.WalkEvery, j.ctx.Done())
}

// Kind implements Journal.
func (j *inotifyJournal) Kind() Kind {
	j.state.Lock()
	defer j.state.Unlock()
	return j.kind
}

// Reason implements Journal.
func (j *inotifyJournal) Reason() string {
	j.state.Lock()
	defer j.state.Unlock()
	return j.why
}

// Drain implements Journal. If the watches are lost while it waits, the Gap
// that says so ends the wait.
func (j *inotifyJournal) Drain(ctx context.Context) (uint64, error) {
	if j.Kind() == Walk {
		return j.drainBlind(ctx)
	}
	return j.drain(ctx, j.tree.probe.mark)
}

// Close implements Journal.
func (j *inotifyJournal) Close() error {
	err := j.release()
	j.once.Do(j.tree.close)
	return err
}

// release ends the journal but leaves the tree open.
func (j *inotifyJournal) release() error {
	j.cancel()
	j.state.Lock()
	err := j.file.Close() // wakes the reader
	j.state.Unlock()
	<-j.done
	j.end(ErrClosed)
	if err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("journal: close inotify: %w", err)
	}
	return nil
}
