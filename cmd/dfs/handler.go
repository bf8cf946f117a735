package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/engine"
	"opendfs/internal/peer"
	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// handler answers partners from the folders that run here. Which folder a
// partner may name was checked by the server.
type handler struct {
	folders *folders
	dir     *directory.File
	heard   *heard
	// directoryNews is closed and replaced when there is a newer domain.
	directoryNews *news
	windows       *windows
	// told is called with the domain that a partner has.
	told func(partner repl.MemberID, term, generation uint64)
	// informed waits until this member has asked its partners for a newer domain,
	// and wait is set; whoever is revoked by that is served nothing before.
	informed func(ctx context.Context, wait bool) bool
}

var _ peer.Handler = (*handler)(nil)

// runner finds the folder's runner, or tells the partner to come back.
func (h *handler) runner(folder repl.FolderID) (*engine.Runner, *keeper, error) {
	k, r := h.folders.runner(folder)
	if !h.informed(context.Background(), false) {
		return nil, nil, wire.Errorf(wire.CodeUnavailable, "the member has just started and asks for the newest domain first")
	}
	if r != nil {
		select {
		case <-r.Ended(): // it has no news any more: who waits for some would ask it without end
			r = nil
		default:
		}
	}
	if r == nil {
		return nil, nil, wire.Errorf(wire.CodeUnavailable, "the folder does not run here at present")
	}
	return r, k, nil
}

// paused tells the partner that an order keeps the folder from it.
func (h *handler) paused(partner repl.MemberID, folder repl.FolderID) error {
	until, paused := h.windows.paused(folder, partner)
	switch {
	case !paused:
		return nil
	case until.IsZero():
		return wire.Errorf(wire.CodeUnavailable, "replication of the folder is paused there")
	}
	return wire.Errorf(wire.CodeUnavailable, "replication of the folder is paused there until %s", until.UTC().Format(time.RFC3339))
}

// Diff is that of peer.Handler. The first question of an exchange tells what
// the partner knows.
func (h *handler) Diff(ctx context.Context, partner repl.MemberID, req *wire.DiffRequest) (*wire.DiffPage, error) {
	h.informed(ctx, true)
	if err := h.paused(partner, req.Folder); err != nil {
		return nil, err
	}
	r, _, err := h.runner(req.Folder)
	if err != nil {
		return nil, err
	}
	h.heard.note(partner, req.Folder, time.Now())
	if req.After.IsZero() {
		r.Heard(ctx, partner, req)
	}
	return r.Served.Diff(ctx, partner, req)
}

// Changed is that of peer.Handler.
func (h *handler) Changed(folder repl.FolderID) (<-chan struct{}, error) {
	r, _, err := h.runner(folder)
	if err != nil {
		return nil, err
	}
	return r.Changed(), nil
}

// Records is that of peer.Handler.
func (h *handler) Records(ctx context.Context, _ repl.MemberID, folder repl.FolderID, uids []repl.UID) (*wire.RecordsReply, error) {
	r, _, err := h.runner(folder)
	if err != nil {
		return nil, err
	}
	return r.Served.Records(ctx, uids)
}

// Content is that of peer.Handler.
func (h *handler) Content(ctx context.Context, partner repl.MemberID, folder repl.FolderID, item wire.ContentItem) (peer.ContentSource, wire.Status) {
	r, k, err := h.runner(folder)
	if err != nil || h.paused(partner, folder) != nil {
		return nil, wire.StatusBusy
	}
	c, status := r.Served.Content(ctx, &item)
	if status != wire.StatusOK {
		return nil, status
	}
	return &source{c, &k.served, func() bool { return h.paused(partner, folder) != nil }}, wire.StatusOK
}

// Rdc is that of peer.Handler.
func (h *handler) Rdc(ctx context.Context, partner repl.MemberID, req *wire.RdcRequest) ([]byte, error) {
	r, _, err := h.runner(req.Folder)
	if err == nil {
		err = h.paused(partner, req.Folder)
	}
	if err != nil {
		return nil, err
	}
	return r.Served.Rdc(ctx, req)
}

// source is a version's content on its way to a partner.
type source struct {
	*engine.Content
	served *atomic.Uint64
	paused func() bool
}

// Read counts what is sent. It ends short when the folder is paused: what came is
// thrown away there, and asked for again afterwards.
func (s *source) Read(p []byte) (int, error) {
	if s.paused() {
		return 0, io.EOF
	}
	n, err := s.Content.Read(p)
	s.served.Add(uint64(n))
	return n, err
}

// Barrier is that of peer.Handler.
func (h *handler) Barrier(ctx context.Context, partner repl.MemberID, folder repl.FolderID) (version.Vector, error) {
	r, _, err := h.runner(folder)
	if err != nil {
		return nil, err
	}
	h.heard.note(partner, folder, time.Now())
	if err := r.Drain(ctx); err != nil {
		return nil, err
	}
	if err := captured(ctx, r, func(*engine.Status) {}); err != nil {
		return nil, err
	}
	return r.Served.Vector()
}

// Cover is that of peer.Handler.
func (h *handler) Cover(ctx context.Context, _ repl.MemberID, folder repl.FolderID, heard []repl.Statement) ([]repl.Statement, error) {
	r, _, err := h.runner(folder)
	if err != nil {
		return nil, err
	}
	return r.Cover(ctx, heard)
}

// Compare is that of peer.Handler.
func (h *handler) Compare(ctx context.Context, partner repl.MemberID, req *wire.CompareRequest) (*wire.CompareReply, error) {
	r, _, err := h.runner(req.Folder)
	if err != nil {
		return nil, err
	}
	return r.Compare(ctx, partner, req)
}

// Status is that of peer.Handler.
func (h *handler) Status(ctx context.Context, _ repl.MemberID, folder repl.FolderID) (*wire.StatusReply, error) {
	r, _, err := h.runner(folder)
	if err != nil {
		return nil, err
	}
	s, err := r.Status(ctx)
	if err != nil {
		return nil, err
	}
	v, err := r.Served.Vector()
	if err != nil {
		return nil, err
	}
	return &wire.StatusReply{Phase: s.Phase, Vector: v, Pending: uint64(s.Dirty + s.Looking + s.Later + s.InFlight)}, nil
}

// Directory is that of peer.Handler.
func (h *handler) Directory(ctx context.Context, partner repl.MemberID, term, generation uint64) (*wire.DirectoryCopy, error) {
	h.told(partner, term, generation)
	doc, err := h.dir.Load(ctx)
	if err != nil {
		return nil, err
	}
	d := doc.Domain
	c := &wire.DirectoryCopy{Term: d.Term, Generation: d.Generation}
	if d.Newer(&directory.Domain{Term: term, Generation: generation}) {
		// A change in between makes the copy newer still; its header says so.
		c.Signed = h.dir.Signed()
	}
	return c, nil
}

// DirectoryChanged is that of peer.Handler.
func (h *handler) DirectoryChanged() <-chan struct{} { return h.directoryNews.next() }

// captureEvery is how often a folder is asked whether it has captured.
const captureEvery = 10 * time.Millisecond

// captured returns once nothing that the folder was told of its tree is left to
// be looked at. tell sees each status until then.
func captured(ctx context.Context, r *engine.Runner, tell func(*engine.Status)) error {
	tick := time.NewTicker(captureEvery)
	defer tick.Stop()
	for {
		s, err := r.Status(ctx)
		if err != nil {
			return err
		}
		tell(&s)
		if !s.Walking && s.Dirty+s.Looking+s.Later == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until changes are captured: %w", context.Cause(ctx))
		}
	}
}

// news tells any number of listeners that something has changed.
type news struct {
	mu sync.Mutex
	c  chan struct{} // guarded by mu
}

func newNews() *news { return &news{c: make(chan struct{})} }

// next is closed at the next change.
func (n *news) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.c
}

// tell wakes whoever listens.
func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.c)
	n.c = make(chan struct{})
}

// heard notes when downstream partners last asked.
type heard struct {
	mu sync.Mutex
	at map[heardKey]time.Time // guarded by mu
}

// heardKey names a partner and a folder; no folder: the partner itself.
type heardKey struct {
	partner repl.MemberID
	folder  repl.FolderID
}

func newHeard() *heard { return &heard{at: make(map[heardKey]time.Time)} }

func (h *heard) note(partner repl.MemberID, folder repl.FolderID, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at[heardKey{partner, folder}] = now
	h.at[heardKey{partner: partner}] = now
}

func (h *heard) last(partner repl.MemberID, folder repl.FolderID) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at[heardKey{partner, folder}]
}
