package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Hub owns one fanotify group for each filesystem on which this process has
// replicated folders. Pass one Hub to every Open of a process: each further
// group costs every writer of its filesystem the making of its events.
type Hub struct {
	mu     sync.Mutex
	groups map[uint64]*group // by device
}

// NewHub returns a Hub without groups. It needs no closing: a group ends with
// the last journal on it.
func NewHub() *Hub { return &Hub{groups: map[uint64]*group{}} }

// group is one filesystem's mark and its reader. The reader holds mu while it
// works on what it read, so whoever holds mu finds the reader at rest.
type group struct {
	fd   int   // of the fanotify group
	stop int   // an eventfd that ends the reader
	self int32 // our own process id, as in events
	done chan struct{}
	// closing is closed before stop is set: the reader ends.
	closing chan struct{}

	mu    sync.Mutex
	subs  []*subscriber
	cache verdicts
	err   error // why the reader has ended

	// What follows from subs; guarded by mu.
	fixed map[string]placed  // by handle: the roots and the private areas
	roots map[objectID][]int // the folders by their roots
	views []*tree            // one folder of each mount that roots were reached by
	// others says that no folder wants what this process did.
	others bool
}

// subscriber is the fanotify journal of one folder.
type subscriber struct {
	*names
	tree  *tree
	hub   *Hub
	known func(dir []byte) bool
	// others leaves out what process self did.
	others bool
	self   int32
	once   sync.Once
	fixed  map[string]location // by handle: the root and the private area, wherever they are
	id     objectID            // of the root
}

const (
	groupFlags = unix.FAN_CLASS_NOTIF | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK |
		unix.FAN_REPORT_DFID_NAME_TARGET | unix.FAN_UNLIMITED_QUEUE
	groupMask = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_RENAME |
		unix.FAN_CLOSE_WRITE | unix.FAN_ATTRIB | unix.FAN_ONDIR
	readSize = 256 << 10
)

// subscribe joins t to the group of its filesystem. t stays the caller's if it
// fails.
func (h *Hub) subscribe(t *tree, o Options) (*subscriber, error) {
	handle, mount, err := handleAt(t.root)
	if err != nil {
		return nil, fmt.Errorf("file handles: %w", err)
	}
	fd, err := openHandle(t.root, handle)
	if err != nil {
		return nil, fmt.Errorf("open by file handle: %w", err)
	}
	_ = unix.Close(fd) // a path only
	t.mount = mount
	area, _, err := handleAt(t.probe.dir)
	if err != nil {
		return nil, fmt.Errorf("file handle of %s: %w", privateName, err)
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.groups[t.device]
	if g == nil {
		if g, err = newGroup(t); err != nil {
			return nil, err
		}
		h.groups[t.device] = g
	}
	s := &subscriber{names: newNames(o.MaxNames), tree: t, hub: h, known: o.Known, others: o.Others, self: int32(os.Getpid())}
	s.fixed = map[string]location{string(handle): {inside, "."}, string(area): {private, privateName}}
	var st unix.Stat_t
	if err := unix.Fstat(t.root, &st); err != nil {
		return nil, fmt.Errorf("stat: %w", err)
	}
	s.id = objectID{st.Dev, st.Ino}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.subs = append(g.subs, s)
	g.regroup()
	if g.err != nil {
		s.end(g.err)
	}
	return s, nil
}

func newGroup(t *tree) (*group, error) {
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	fd, err := unix.FanotifyInit(groupFlags, unix.O_RDONLY|unix.O_LARGEFILE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fanotify_init: %w", err), unix.Close(stop))
	}
	err = unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, groupMask, t.root, "")
	if err != nil {
		hint := ""
		switch {
		case errors.Is(err, unix.EXDEV):
			hint = " (a btrfs subvolume cannot be marked by itself)"
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENODEV):
			hint = " (this filesystem has no file handles to report)"
		}
		return nil, errors.Join(fmt.Errorf("mark the filesystem: %w%s", err, hint), unix.Close(fd), unix.Close(stop))
	}
	g := &group{
		fd: fd, stop: stop,
		self: int32(os.Getpid()),
		done: make(chan struct{}),

		closing: make(chan struct{}),
	}
	go func() {
		defer close(g.done)
		g.read()
	}()
	return g, nil
}

// How the reader lets events gather. One that comes alone is read at once; a
// stream of them, and what this process does itself, costs a wake-up each only
// if it is read as it comes.
const (
	gather     = time.Millisecond     // the rest between two reads of a stream
	gatherOwn  = 2 * time.Millisecond // after a read of nothing but this process's events
	streamFrom = 4                    // reads in a row, each within gather of the one before, that are a stream
)

// pace tells how long to rest after a read.
type pace struct {
	last time.Time
	row  int
}

func (p *pace) rest(now time.Time, own bool) time.Duration {
	if now.Sub(p.last) > 2*gather {
		p.row = 0
	}
	p.last = now
	p.row++
	switch {
	case own:
		return gatherOwn
	case p.row >= streamFrom:
		return gather
	}
	return 0
}

// read reads and delivers until it is stopped. It waits in a poll of its own: the
// runtime's would be woken by each event, also while the reader rests.
func (g *group) read() {
	buf := make([]byte, readSize)
	var p pace
	for {
		n, stopped, err := g.next(buf)
		if stopped {
			return
		}
		g.mu.Lock()
		if err != nil {
			g.err = fmt.Errorf("journal: read fanotify events: %w", err)
			for _, s := range g.subs {
				s.doubt("fanotify cannot be read any more")
				s.end(g.err)
			}
			g.mu.Unlock()
			return
		}
		own := g.deliverAll(buf[:n])
		g.mu.Unlock()
		g.pause(p.rest(time.Now(), own))
	}
}

// next waits for events and reads them.
func (g *group) next(buf []byte) (n int, stopped bool, err error) {
	for {
		select {
		case <-g.closing:
			return 0, true, nil
		default:
		}
		n, err = unix.Read(g.fd, buf)
		if err != unix.EAGAIN && err != unix.EINTR {
			return n, false, err
		}
		on := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}, {Fd: int32(g.stop), Events: unix.POLLIN}}
		if _, err := unix.Poll(on, -1); err != nil && err != unix.EINTR {
			return 0, false, err
		}
	}
}

// pause rests until something gathered, or the group ends.
func (g *group) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-g.closing:
	}
}

// deliverAll decodes and delivers one read. Bytes that make no sense may have
// hidden events: a Gap for everyone. own says that this process did it all.
func (g *group) deliverAll(b []byte) (own bool) {
	own = true
	for len(b) > 0 {
		ev, rest, err := decode(b)
		if err != nil {
			g.doubt(err.Error())
			return false
		}
		own = own && ev.pid == g.self
		g.deliver(&ev)
		b = rest
	}
	return own
}

func (g *group) doubt(reason string) {
	for _, s := range g.subs {
		s.doubt(reason)
	}
}

// Kind implements Journal.
func (s *subscriber) Kind() Kind { return Fanotify }

// Reason implements Journal.
func (s *subscriber) Reason() string { return "" }

// Drain implements Journal.
func (s *subscriber) Drain(ctx context.Context) (uint64, error) {
	return s.drain(ctx, s.tree.probe.mark)
}

// Close implements Journal.
func (s *subscriber) Close() error {
	err := s.release()
	s.once.Do(s.tree.close)
	return err
}

// release leaves the group, and ends it when it was the last one.
func (s *subscriber) release() error {
	defer s.end(ErrClosed)
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	g := s.hub.groups[s.tree.device]
	if g == nil || !g.leave(s) {
		return nil
	}
	delete(s.hub.groups, s.tree.device)
	close(g.closing)
	_, err := unix.Write(g.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // wakes the reader
	<-g.done
	if err = errors.Join(err, unix.Close(g.fd), unix.Close(g.stop)); err != nil {
		return fmt.Errorf("journal: close fanotify: %w", err)
	}
	return nil
}

// leave reports whether s was there and nobody is left.
func (g *group) leave(s *subscriber) (last bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.subs {
		if g.subs[i] == s {
			g.subs = append(g.subs[:i:i], g.subs[i+1:]...)
			g.regroup()
			return len(g.subs) == 0
		}
	}
	return false
}
