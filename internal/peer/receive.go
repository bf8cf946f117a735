package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// Delivery is what the other side says of one item of a content request.
type Delivery struct {
	Index int // in the request
	wire.Head
}

// Sink takes one item. r yields the item's bytes, which are what the form in its
// head says, if the status is ok, and ends with io.EOF if the other side vouches for them, with
// ErrChanged if they must be thrown away. r is valid until Sink returns; what
// was not read is skipped. An error of Sink ends the whole request.
// r also is an io.WriterTo that hands out whole frames without copying.
type Sink func(d Delivery, r io.Reader) error

// Content asks for the content of at most wire.MaxItems items; sink is called
// for each, in their order, from this goroutine. Its error is the request's
// end: everything before it was delivered.
func (s *Session) Content(ctx context.Context, folder repl.FolderID, items []wire.ContentItem, sink Sink) error {
	return s.PackedContent(ctx, folder, PackAuto, items, sink)
}

// PackedContent is Content with a say in whether it comes packed.
func (s *Session) PackedContent(ctx context.Context, folder repl.FolderID, packing Packing, items []wire.ContentItem, sink Sink) error {
	if len(items) == 0 {
		return nil
	}
	select {
	case s.contents <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("ContentRequest: %w", context.Cause(ctx))
	case <-s.control.life.Done():
		return fmt.Errorf("ContentRequest: %w", s.control.reason())
	}
	defer func() { <-s.contents }()
	l, err := s.dataLink(ctx)
	if err != nil {
		return err
	}
	defer s.release(l)
	window := s.windows.take()
	in := &inflow{ctx: ctx, link: l, folder: folder, all: &s.windows, window: window, allowance: window, wake: make(chan struct{}, 1)}
	defer func() { s.windows.give(in.window) }()
	in.id, err = l.open(&wire.ContentRequest{Folder: folder, Items: items, Credit: uint64(window), Packed: packing != PackNever, Always: packing == PackOn}, in)
	if err != nil {
		return fmt.Errorf("send ContentRequest: %w", err)
	}
	defer in.close()
	if err := in.deliver(items, sink); err != nil {
		return fmt.Errorf("ContentRequest of folder %v: %w", folder, err)
	}
	return nil
}

// windows shares credit among the streams of a session.
type windows struct {
	mu   sync.Mutex
	free int64 // may be below 0: no stream gets less than minWindow
}

func (w *windows) take() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(max(w.free/2, minWindow), maxWindow)
	w.free -= n
	return n
}

// more returns how much a stream's window of size have may grow by now.
func (w *windows) more(have, want int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := max(0, min(want, maxWindow-have, w.free/2))
	w.free -= n
	return n
}

func (w *windows) give(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free += n
}

// inflow is one content stream on its way in. The link's reader appends to its
// queue, the caller of Content takes from it.
type inflow struct {
	ctx  context.Context
	link *link
	id   uint32
	all  *windows

	folder repl.FolderID

	// Owned by the caller's goroutine.
	window int64 // credit granted to the stream at most, on its way and unread
	unpaid int64 // consumed and not granted again yet
	held   wire.Frame
	owed   int64       // what held cost
	parts  []wire.Part // of held, not taken yet
	body   []byte      // of held, not read yet
	ended  bool        // held is the final frame

	mu        sync.Mutex
	queue     []inframe
	allowance int64 // what the other side may still send; above -(MaxBody+FrameCost)
	err       error
	closed    bool
	wake      chan struct{} // holds one: the queue or err has changed
}

type inframe struct {
	frame wire.Frame
	parts []wire.Part
	raw   int // bytes of the body when it is unpacked; 0: it is not packed
}

// receive queues one frame within the credit that was given.
func (in *inflow) receive(f *wire.Frame) error {
	err := in.enqueue(f)
	if err != nil {
		f.Release()
		in.fail(err)
	}
	return err
}

func (in *inflow) enqueue(f *wire.Frame) error {
	if f.Type != wire.TypeContent {
		return wire.Errorf(wire.CodeProtocol, "%v where Content was asked for", f.Type)
	}
	m, err := f.Message()
	if err != nil {
		return err
	}
	content := m.(*wire.Content)
	raw := len(f.Body)
	if content.Raw > 0 {
		raw = content.Raw
	}
	if content.Bytes() != raw || raw < len(f.Body) {
		return wire.Errorf(wire.CodeProtocol, "parts of %d bytes in a body of %d (%d)", content.Bytes(), raw, len(f.Body))
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.allowance <= 0 {
		return wire.Errorf(wire.CodeProtocol, "content without credit")
	}
	in.allowance -= cost(f)
	if in.closed {
		f.Release()
		return nil
	}
	f.Header = nil // the reader's
	in.queue = append(in.queue, inframe{*f, content.Parts, content.Raw})
	in.signal()
	return nil
}

func cost(f *wire.Frame) int64 { return int64(len(f.Body)) + wire.FrameCost }

// fail ends the stream after what is queued.
func (in *inflow) fail(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err == nil {
		in.err = err
	}
	in.signal()
}

func (in *inflow) signal() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// close gives back what is left and cancels what is under way.
func (in *inflow) close() {
	if !in.ended {
		in.link.cancel(in.id)
	}
	in.held.Release()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	for i := range in.queue {
		in.queue[i].frame.Release()
	}
	in.queue = nil
}

// deliver calls sink for each item.
func (in *inflow) deliver(items []wire.ContentItem, sink Sink) error {
	for i := range items {
		p, err := in.part()
		if err != nil {
			return err
		}
		d := Delivery{i, p.Head}
		if p.Index != i || p.Status != wire.StatusOK && (!p.Last || p.Length > 0) {
			return wire.Errorf(wire.CodeProtocol, "part of item %d (status %v, %d bytes) where item %d begins", p.Index, p.Status, p.Length, i)
		}
		r := &itemReader{in: in, part: p, left: items[i].Carried(&p.Head)}
		switch {
		case p.Status != wire.StatusOK:
			r.end = io.EOF
		case r.left < 0:
			return wire.Errorf(wire.CodeProtocol, "item %d is answered with form %d of %d bytes, which was not asked for", i, p.Form, p.Size)
		}
		if err := sink(d, r); err != nil {
			return err
		}
		if _, err := r.WriteTo(io.Discard); err != nil && !errors.Is(err, ErrChanged) {
			return err
		}
	}
	return in.finish()
}

// finish sees to it that nothing follows the last item but the final mark.
func (in *inflow) finish() error {
	for !in.ended {
		if len(in.parts) > 0 {
			break
		}
		if err := in.nextFrame(); err != nil {
			return err
		}
	}
	if len(in.parts) > 0 {
		return wire.Errorf(wire.CodeProtocol, "parts after the last item")
	}
	return nil
}

// part takes the next part; its bytes are at the front of in.body.
func (in *inflow) part() (wire.Part, error) {
	for len(in.parts) == 0 {
		if in.ended {
			return wire.Part{}, wire.Errorf(wire.CodeProtocol, "the content ends before its last item")
		}
		if err := in.nextFrame(); err != nil {
			return wire.Part{}, err
		}
	}
	p := in.parts[0]
	in.parts = in.parts[1:]
	return p, nil
}

// nextFrame gives the frame that was read back to the pool and as credit, and
// takes the next one from the queue.
func (in *inflow) nextFrame() error {
	if in.held.Type != 0 {
		in.unpaid += in.owed
		in.held.Release()
		in.held = wire.Frame{}
	}
	if err := in.grant(); err != nil {
		return err
	}
	for {
		in.mu.Lock()
		if len(in.queue) > 0 {
			next := in.queue[0]
			in.queue[0] = inframe{}
			in.queue = in.queue[1:]
			in.mu.Unlock()
			in.held, in.parts, in.owed = next.frame, next.parts, cost(&next.frame)
			in.ended = next.frame.Final
			if next.raw > 0 {
				body, err := unpack(next.frame.Body, next.raw)
				if err != nil {
					return err
				}
				in.link.raw.counter.Load().unpacked(in.folder, len(body)-len(in.held.Body))
				wire.FreeBuffer(in.held.Body)
				in.held.Body = body
			}
			in.body = in.held.Body
			return nil
		}
		err := in.err
		in.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case <-in.wake:
		case <-in.ctx.Done():
			return context.Cause(in.ctx)
		}
	}
}

// grant lets the other side send again what was consumed, in steps, and more
// if other streams have ended.
func (in *inflow) grant() error {
	if in.unpaid < min(in.window/4, minWindow) {
		return nil
	}
	in.mu.Lock()
	final := in.err != nil || len(in.queue) > 0 && in.queue[len(in.queue)-1].frame.Final
	in.mu.Unlock()
	if final { // nothing more will come
		return nil
	}
	grown := in.all.more(in.window, in.unpaid)
	n := in.unpaid + grown
	in.window += grown
	in.unpaid = 0
	in.mu.Lock()
	in.allowance += n
	in.mu.Unlock()
	return in.link.send(&wire.Credit{Bytes: uint64(n)}, in.id, false, nil)
}

// itemReader yields the bytes of one item, part by part.
type itemReader struct {
	in   *inflow
	part wire.Part // whose bytes are at the front of in.body
	left int64     // bytes that the item still has by its size
	end  error     // what ends the item, once known
}

// fill makes the current part have bytes, or returns the end.
func (r *itemReader) fill() error {
	for r.end == nil && r.part.Length == 0 {
		switch {
		case r.part.Last && r.part.Status == wire.StatusOK && r.left == 0:
			r.end = io.EOF
		case r.part.Last && r.part.Status == wire.StatusOK:
			r.end = wire.Errorf(wire.CodeProtocol, "item %d ends %d bytes before its size", r.part.Index, r.left)
		case r.part.Last:
			r.end = fmt.Errorf("%w (%v)", ErrChanged, r.part.Status)
		default:
			r.next()
		}
	}
	if r.end == nil && int64(r.part.Length) > r.left {
		r.end = wire.Errorf(wire.CodeProtocol, "item %d exceeds its size", r.part.Index)
	}
	return r.end
}

func (r *itemReader) next() {
	p, err := r.in.part()
	switch {
	case err != nil:
		r.end = err
	case p.Index != r.part.Index || p.Length == 0 && !p.Last:
		r.end = wire.Errorf(wire.CodeProtocol, "part of item %d with %d bytes inside item %d", p.Index, p.Length, r.part.Index)
	default:
		r.part = p
	}
}

func (r *itemReader) took(n int) {
	r.in.body = r.in.body[n:]
	r.part.Length -= n
	r.left -= int64(n)
}

// Read reads the item's bytes.
func (r *itemReader) Read(p []byte) (int, error) {
	if err := r.fill(); err != nil {
		return 0, err
	}
	n := copy(p, r.in.body[:r.part.Length])
	r.took(n)
	return n, nil
}

// WriteTo writes the rest of the item from the frames themselves.
func (r *itemReader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if err := r.fill(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return total, err
		}
		n, err := w.Write(r.in.body[:r.part.Length])
		r.took(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}
