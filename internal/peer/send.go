package peer

import (
	"context"
	"errors"
	"io"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// pay adds to a stream's credit. A credit for a stream that has ended is late,
// not wrong.
func (st *stream) pay(n uint64) {
	if st == nil {
		return
	}
	st.mu.Lock()
	st.credit = min(st.credit+int64(min(n, 1<<40)), 1<<40)
	st.mu.Unlock()
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// spend waits until the stream has credit and takes the frame's cost of it.
func (st *stream) spend(ctx context.Context, cost int64) error {
	for {
		st.mu.Lock()
		if st.credit > 0 {
			st.credit -= cost
			st.mu.Unlock()
			return nil
		}
		st.mu.Unlock()
		select {
		case <-st.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// outflow is one content stream on its way out: one frame that is being filled.
type outflow struct {
	in   *inbound
	ctx  context.Context
	id   uint32
	st   *stream
	done func()
	// folder and ps say who waits, and for what, before a frame is sent.
	folder repl.FolderID
	ps     pacers
	room   int // bytes of buf that this frame may use

	buf   []byte // of fixed length
	used  int
	parts []wire.Part
}

// content answers a content request frame by frame.
func (in *inbound) content(ctx context.Context, id uint32, st *stream, done func(), req *wire.ContentRequest) error {
	if err := in.allowed(req.Folder); err != nil {
		return err
	}
	st.pay(req.Credit)
	out := &outflow{in: in, ctx: ctx, id: id, st: st, done: done, folder: req.Folder, ps: in.pacers(req.Folder), buf: wire.Buffer(contentFrame)}
	out.begin()
	defer func() { wire.FreeBuffer(out.buf) }()
	h := in.server.cfg.Handler
	for i, item := range req.Items {
		if err := ctx.Err(); err != nil {
			return err
		}
		src, status := h.Content(ctx, in.partner, req.Folder, item)
		if status == wire.StatusOK && src.Size() < item.Offset {
			status = wire.StatusChanged
			_ = src.Close() // nothing was read: whatever it says, the item has changed
		}
		var err error
		if status != wire.StatusOK {
			err = out.part(wire.Part{Index: i, Status: status, Last: true})
		} else {
			err = out.copy(i, item, src)
		}
		if err != nil {
			return err
		}
	}
	return out.flush(true)
}

// part appends a part, in the next frame if this one is full.
func (out *outflow) part(p wire.Part) error {
	if len(out.parts) == wire.MaxItems || len(out.parts) > 0 && out.used+len(out.parts)*partHeader >= out.room {
		if err := out.flush(false); err != nil {
			return err
		}
	}
	out.parts = append(out.parts, p)
	return nil
}

// copy sends one item. Its source is closed whatever happens.
func (out *outflow) copy(index int, item wire.ContentItem, src ContentSource) error {
	if err := out.part(wire.Part{Index: index, Size: src.Size(), Hash: src.Hash()}); err != nil {
		return errors.Join(err, src.Close())
	}
	first, status := true, wire.StatusOK
	for left := src.Size() - item.Offset; left > 0 && status == wire.StatusOK; {
		if out.used >= out.room {
			if err := out.flush(false); err != nil {
				return errors.Join(err, src.Close())
			}
			out.parts = append(out.parts, wire.Part{Index: index})
			first = false
		}
		n, err := src.Read(out.buf[out.used:min(int64(out.room), int64(out.used)+left)])
		out.used += n
		left -= int64(n)
		p := &out.parts[len(out.parts)-1]
		p.Length += n
		switch {
		case left == 0:
		case err == io.EOF:
			status = wire.StatusChanged
		case err != nil:
			status = wire.StatusError
		}
	}
	if err := src.Close(); err != nil && status == wire.StatusOK {
		status = wire.StatusChanged
	}
	p := &out.parts[len(out.parts)-1]
	p.Last, p.Status = true, status
	if status != wire.StatusOK { // its bytes are worth nothing
		out.used -= p.Length
		p.Length = 0
		if first {
			*p = wire.Part{Index: index, Status: status, Last: true}
		}
	}
	return nil
}

// flush sends the frame, when there is credit.
func (out *outflow) flush(final bool) error {
	if err := out.st.spend(out.ctx, int64(out.used)+wire.FrameCost); err != nil {
		return err
	}
	if err := out.pace(final); err != nil {
		return err
	}
	if final {
		out.done()
	}
	err := out.in.send(&wire.Content{Parts: out.parts}, out.id, final, out.buf[:out.used])
	out.begin()
	if err != nil {
		out.in.close()
	}
	return err
}

// begin makes room for the next frame.
func (out *outflow) begin() {
	out.used, out.parts, out.room = 0, out.parts[:0], len(out.buf)
	if most := out.ps.frame(); most > 0 {
		out.room = min(out.room, bodyWithin(most, out.in.mss))
	}
}

// pace waits until the frame may be sent.
func (out *outflow) pace(final bool) error {
	if out.ps.frame() == 0 {
		return nil
	}
	head, err := wire.Append(nil, &wire.Content{Parts: out.parts}, out.id, final, out.used)
	if err != nil {
		return err
	}
	return out.ps.wait(out.ctx, out.folder, onWire(len(head)+out.used, out.in.mss))
}
