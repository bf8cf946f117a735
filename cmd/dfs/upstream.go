package main

import (
	"context"
	"io"

	"opendfs/internal/engine"
	"opendfs/internal/fetch"
	"opendfs/internal/peer"
	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// upstream is a session as the engine asks it: in requests that the protocol's
// limits allow, while the connection's window is open.
type upstream struct {
	s    *peer.Session
	w    *windows
	gate *gate
	pack peer.Packing
}

// within gives a context that ends with the window, too.
func (u upstream) within(ctx context.Context) (context.Context, func()) {
	life := u.w.lifeOf(u.gate)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(life, func() { cancel(context.Cause(life)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

var (
	_ engine.Upstream = upstream{}
	_ fetch.Upstream  = upstream{}
)

// Diff is that of engine.Upstream.
func (u upstream) Diff(ctx context.Context, req wire.DiffRequest) (wire.DiffPage, error) {
	ctx, done := u.within(ctx)
	defer done()
	p, err := u.s.Diff(ctx, &req)
	if err != nil {
		return wire.DiffPage{}, err
	}
	return *p, nil
}

// Records is that of engine.Upstream. The vector is that of the first answer,
// which every later one covers.
func (u upstream) Records(ctx context.Context, folder repl.FolderID, uids []repl.UID) (wire.RecordsReply, error) {
	ctx, done := u.within(ctx)
	defer done()
	var all wire.RecordsReply
	for len(uids) > 0 {
		r, err := u.s.Records(ctx, folder, uids[:min(len(uids), wire.MaxUIDs)])
		if err != nil {
			return wire.RecordsReply{}, err
		}
		if all.Answered == 0 {
			all.Vector = r.Vector
		}
		all.Updates = append(all.Updates, r.Updates...)
		all.Unknown = append(all.Unknown, r.Unknown...)
		all.Answered += r.Answered
		uids = uids[r.Answered:]
	}
	return all, nil
}

// Barrier is that of engine.Upstream.
func (u upstream) Barrier(ctx context.Context, folder repl.FolderID) (version.Vector, error) {
	ctx, done := u.within(ctx)
	defer done()
	return u.s.Barrier(ctx, folder)
}

// Cover is that of engine.Upstream.
func (u upstream) Cover(ctx context.Context, folder repl.FolderID, heard []repl.Statement) ([]repl.Statement, error) {
	ctx, done := u.within(ctx)
	defer done()
	return u.s.Cover(ctx, folder, heard)
}

// Compare is that of engine.Upstream.
func (u upstream) Compare(ctx context.Context, req wire.CompareRequest) (wire.CompareReply, error) {
	ctx, done := u.within(ctx)
	defer done()
	r, err := u.s.Compare(ctx, &req)
	if err != nil {
		return wire.CompareReply{}, err
	}
	return *r, nil
}

// Content is that of fetch.Upstream.
func (u upstream) Content(ctx context.Context, folder repl.FolderID, items []wire.ContentItem, sink func(i int, head *wire.Head, r io.Reader) error) error {
	ctx, done := u.within(ctx)
	defer done()
	turn, err := u.w.turns.Take(ctx, peer.Lane{Folder: folder})
	if err != nil {
		return err
	}
	defer turn()
	defer u.w.use(u.gate)()
	for base := 0; base < len(items); base += wire.MaxItems {
		some := items[base:min(base+wire.MaxItems, len(items))]
		err := u.s.PackedContent(ctx, folder, u.pack, some, func(d peer.Delivery, r io.Reader) error {
			return sink(base+d.Index, &d.Head, r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Rdc is that of fetch.Upstream.
func (u upstream) Rdc(ctx context.Context, req *wire.RdcRequest) ([]byte, error) {
	ctx, done := u.within(ctx)
	defer done()
	return u.s.Rdc(ctx, req)
}
