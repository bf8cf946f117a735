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
	// packs: the other side takes packed bodies.
	packs, always bool

	buf   []byte // of fixed length
	used  int
	parts []wire.Part
}

// content answers a content request frame by frame.
func (in *inbound) content(ctx context.Context, id uint32, st *stream, done func(), req *wire.ContentRequest) error {
	if err := in.allowed(req.Folder); err != nil {
		return err
	}
	turn, err := in.server.cfg.Turns.Take(ctx, Lane{in.partner, req.Folder})
	if err != nil {
		return err
	}
	defer turn()
	st.pay(req.Credit)
	out := &outflow{
		in: in, ctx: ctx, id: id, st: st, done: done, folder: req.Folder, ps: in.pacers(req.Folder),
		packs: req.Packed, always: req.Always, buf: wire.Buffer(contentFrame),
	}
	out.begin()
	defer func() { wire.FreeBuffer(out.buf) }()
	h := in.server.cfg.Handler
	for i, item := range req.Items {
		if err := ctx.Err(); err != nil {
			return err
		}
		src, status := h.Content(ctx, in.partner, req.Folder, item)
		var head wire.Head
		if status == wire.StatusOK {
			if head = src.Head(); item.Carried(&head) < 0 {
				status = wire.StatusChanged
				_ = src.Close() // nothing was read: whatever it says, the item has changed
			}
		}
		var err error
		if status != wire.StatusOK {
			err = out.part(wire.Part{Index: i, Head: wire.Head{Status: status}, Last: true})
		} else {
			err = out.copy(i, head, item.Carried(&head), src)
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

// copy sends one item of left bytes. Its source is closed whatever happens.
func (out *outflow) copy(index int, head wire.Head, left int64, src ContentSource) error {
	if err := out.part(wire.Part{Index: index, Head: head}); err != nil {
		return errors.Join(err, src.Close())
	}
	first, status := true, wire.StatusOK
	for left > 0 && status == wire.StatusOK {
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
			*p = wire.Part{Index: index, Head: wire.Head{Status: status}, Last: true}
		}
	}
	return nil
}

// flush sends the frame, when there is credit.
func (out *outflow) flush(final bool) error {
	m, body := &wire.Content{Parts: out.parts}, out.buf[:out.used]
	if out.packs {
		if packed := out.in.bounds.packer.pack(body, out.always); packed != nil {
			defer wire.FreeBuffer(packed)
			m.Raw, body = out.used, packed
		}
	}
	if err := out.st.spend(out.ctx, int64(len(body))+wire.FrameCost); err != nil {
		return err
	}
	if err := out.pace(m, final, len(body)); err != nil {
		return err
	}
	if final {
		out.done()
	}
	err := out.in.send(m, out.id, final, body)
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
func (out *outflow) pace(m *wire.Content, final bool, body int) error {
	if out.ps.frame() == 0 {
		return nil
	}
	head, err := wire.Append(nil, m, out.id, final, body)
	if err != nil {
		return err
	}
	return out.ps.wait(out.ctx, out.folder, onWire(len(head)+body, out.in.mss))
}
