package rdc

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"opendfs/internal/digest"
)

// Options say how a Signer works, never what it yields.
type Options struct {
	// Workers is how many goroutines cut pieces and hash; with 0 or 1 the
	// caller's does it, inside Write.
	Workers int
	// Fine takes the fine level in the form that OpenFine reads, about 0.5 % of
	// the file, written in order by the caller's goroutine. Nil: not kept.
	Fine io.Writer
	// ChunksOnly leaves the pieces out: no fine level and no traits, in about
	// two thirds of the time. The chunks are the same.
	ChunksOnly bool
	// Like is a version of which this one may have much, nil: none. Its chunks are
	// known by their pieces, at the speed of xxHash, and not cut and hashed again.
	// The result is the same, unless pieces were made to collide.
	Like *Seed
	// Runs say how this version is put together, if that is known: those of seed 0
	// are copies of Like, whose chunks in them are known by their places. With
	// ChunksOnly, Like need not have pieces. Nil: not known.
	Runs *Needs
}

// Signer makes the signature of what is written to it. Either Finish or Close
// must be called, or its workers stay. It is for one goroutine at a time.
//
// It holds at most queueMax pairs of chunks that are not hashed yet, and of what
// is, 24 bytes a chunk.
type Signer struct {
	opt    Options
	err    error
	blk    *block
	lo, hi int   // blk.buf[lo:hi] is received and not cut
	past   int64 // how much is still to come of the chunk taken last; then lo is hi
	next   *task // has one chunk and waits for the second
	queue  []*task
	jobs   chan *task
	wg     sync.WaitGroup
	sig    Signature
	sketch sketch
	fine   *fineWriter
	guide  *guide
}

const (
	blockSize = 4 << 20
	queueMax  = 32
)

// block is a stretch of the file; refs counts the parts that point into it, and
// the signer while it fills it.
type block struct {
	buf  []byte
	refs atomic.Int32
}

var blocks = sync.Pool{New: func() any { return &block{buf: make([]byte, blockSize)} }}

func getBlock() *block {
	b := blocks.Get().(*block)
	b.refs.Store(1)
	return b
}

func (b *block) release() {
	if b.refs.Add(-1) == 0 {
		blocks.Put(b)
	}
}

// task is one or two chunks, hashed together.
type task struct {
	parts  [2]part
	n      int
	coarse bool // no pieces are wanted
	sketch sketch
	done   chan struct{} // closed when hashed; nil when the caller hashes
}

type part struct {
	data   []byte
	blk    *block
	chunk  Chunk
	pieces []Piece
	known  bool // chunk and pieces are those of a guide
}

var tasks = sync.Pool{New: func() any { return new(task) }}

// NewSigner returns a Signer of an empty file.
func NewSigner(opt Options) *Signer {
	s := &Signer{opt: opt, blk: getBlock(), sketch: newSketch()}
	if opt.Fine != nil && !opt.ChunksOnly {
		s.fine = newFineWriter(opt.Fine)
	}
	s.guide = newGuide(&opt)
	if opt.Workers > 1 {
		s.jobs = make(chan *task, queueMax)
		for range opt.Workers {
			s.wg.Go(func() {
				for t := range s.jobs {
					t.hash()
					close(t.done)
				}
			})
		}
	}
	return s
}

// Write takes the next bytes of the file. Its errors are ErrTooLarge and those
// of Options.Fine; after one there is no signature.
func (s *Signer) Write(p []byte) (int, error) {
	all := len(p)
	for len(p) > 0 && s.err == nil {
		if n := min(s.past, int64(len(p))); n > 0 { // nothing of a chunk that is known need be held
			s.past -= n
			s.sig.Size += n
			p = p[n:]
			s.took(0)
			continue
		}
		n := copy(s.room(), p)
		p = p[n:]
		s.took(n)
	}
	return all - len(p), s.err
}

// ReadFrom takes the rest of r. Errors of r are returned as they are.
func (s *Signer) ReadFrom(r io.Reader) (int64, error) {
	var all int64
	for s.err == nil {
		n, err := r.Read(s.room())
		all += int64(n)
		s.took(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return all, err
		}
	}
	return all, s.err
}

// room returns where the next bytes go, at least one.
func (s *Signer) room() []byte {
	if s.hi == len(s.blk.buf) {
		s.flushPair()
		b := getBlock()
		s.hi = copy(b.buf, s.blk.buf[s.lo:s.hi])
		s.lo = 0
		s.blk.release()
		s.blk = b
	}
	return s.blk.buf[s.hi:]
}

func (s *Signer) took(n int) {
	s.hi += n
	s.sig.Size += int64(n)
	n = int(min(s.past, int64(s.hi-s.lo)))
	s.past -= int64(n)
	s.lo += n
	for s.err == nil {
		if s.pass() {
			continue
		}
		if s.past > 0 || s.hi-s.lo < ChunkMax {
			return
		}
		s.cut(false)
	}
}

// pass takes one chunk that is known by its place, whether it has been received or not.
func (s *Signer) pass() bool {
	if s.past > 0 || s.guide == nil {
		return false
	}
	t := s.begun()
	p := &t.parts[t.n]
	p.chunk, p.pieces, p.known = s.guide.placed(s.sig.Size-int64(s.hi-s.lo), p.pieces[:0])
	if !p.known {
		return false
	}
	n := min(int(p.chunk.Len), s.hi-s.lo)
	s.lo += n
	s.past = int64(p.chunk.Len) - int64(n)
	if t.n++; t.n == len(t.parts) {
		s.flushPair()
	}
	return true
}

// begun returns the task that has room for a chunk.
func (s *Signer) begun() *task {
	if s.next == nil {
		s.next = tasks.Get().(*task)
		s.next.n, s.next.coarse = 0, s.opt.ChunksOnly
	}
	return s.next
}

// cut takes one chunk off what is received, which decides where it ends; end:
// nothing more will come.
func (s *Signer) cut(end bool) {
	t := s.begun()
	p := &t.parts[t.n]
	b := s.blk.buf[s.lo:s.hi]
	if p.chunk, p.pieces, p.known = s.guide.chunk(b, s.sig.Size-int64(len(b)), end, p.pieces[:0]); p.known {
		s.lo += int(p.chunk.Len)
	} else {
		n := cutChunk(b)
		p.data, p.blk = b[:n:n], s.blk
		s.blk.refs.Add(1)
		s.lo += n
	}
	if t.n++; t.n == len(t.parts) {
		s.flushPair()
	}
}

// flushPair has what is cut hashed.
func (s *Signer) flushPair() {
	t := s.next
	if t == nil || t.n == 0 {
		return
	}
	s.next = nil
	if s.jobs == nil {
		t.hash()
		s.keep(t)
		return
	}
	t.done = make(chan struct{})
	s.queue = append(s.queue, t)
	if t.parts[0].known && (t.n == 1 || t.parts[1].known) {
		t.hash()
		close(t.done)
	} else {
		s.jobs <- t
	}
	if len(s.queue) >= queueMax {
		s.drain(1)
	}
}

// drain waits for the first n tasks of the queue and keeps their results.
func (s *Signer) drain(n int) {
	for _, t := range s.queue[:n] {
		<-t.done
		s.keep(t)
	}
	s.queue = append(s.queue[:0], s.queue[n:]...)
}

// hash fills in the results, from the data alone.
func (t *task) hash() {
	a, b := &t.parts[0], &t.parts[1]
	if t.n == 1 {
		b.known, b.data = true, nil
	}
	switch {
	case t.coarse:
		a.pieces, b.pieces = a.pieces[:0], b.pieces[:0]
	case a.known && !b.known:
		b.pieces, _ = cutPieces(b.data, nil, b.pieces[:0], nil)
	case !a.known && b.known:
		a.pieces, _ = cutPieces(a.data, nil, a.pieces[:0], nil)
	case !a.known:
		a.pieces, b.pieces = cutPieces(a.data, b.data, a.pieces[:0], b.pieces[:0])
	}
	t.sketch = newSketch()
	for i := range t.parts[:t.n] {
		p := &t.parts[i]
		t.sketch.add(p.pieces)
		if p.known {
			continue
		}
		p.chunk = Chunk{Len: uint32(len(p.data)), Sum: sumOf(p.data)}
		p.blk.release()
		p.data, p.blk = nil, nil
	}
}

// keep takes the results of the next task in order and frees it.
func (s *Signer) keep(t *task) {
	s.sketch.join(t.sketch)
	for i := range t.parts[:t.n] {
		p := &t.parts[i]
		if len(s.sig.Chunks) == MaxChunks && s.err == nil {
			s.err = ErrTooLarge
		}
		if s.err != nil {
			break
		}
		s.sig.Chunks = append(s.sig.Chunks, p.chunk)
		if s.fine != nil {
			s.err = s.fine.add(p.pieces)
		}
	}
	t.done = nil
	tasks.Put(t)
}

// Finish ends the file and returns its signature.
func (s *Signer) Finish() (*Signature, error) {
	for s.hi > s.lo && s.err == nil {
		s.cut(true)
	}
	if s.past > 0 && s.err == nil {
		s.err = fmt.Errorf("rdc: sign: the file ends %d bytes before the runs that it is put together of: %w", s.past, ErrMismatch)
	}
	s.flushPair()
	s.drain(len(s.queue))
	if s.err == nil {
		s.sig.Traits = s.sketch.traits()
	}
	if s.err == nil && s.fine != nil {
		s.err = s.fine.finish(s.sig.ID())
	}
	err := s.err
	s.Close()
	if err != nil {
		return nil, err
	}
	return &s.sig, nil
}

// Close ends the workers. It may be called more than once, and after Finish.
func (s *Signer) Close() {
	s.drain(len(s.queue))
	if s.jobs != nil {
		close(s.jobs)
		s.wg.Wait()
		s.jobs = nil
	}
	if s.blk != nil {
		s.blk.release()
		s.blk, s.lo, s.hi = nil, 0, 0
	}
	if s.err == nil {
		s.err = errors.New("rdc: signer is closed")
	}
}

// Sign reads r to its end and returns the signature and the BLAKE3 of all of
// it. With more than one worker the whole is hashed beside the chunks.
func Sign(r io.Reader, opt Options) (*Signature, [32]byte, error) {
	s := NewSigner(opt)
	defer s.Close()
	whole := digest.New()
	if _, err := s.ReadFrom(io.TeeReader(r, whole)); err != nil {
		return nil, [32]byte{}, fmt.Errorf("rdc: sign: %w", err)
	}
	sig, err := s.Finish()
	if err != nil {
		return nil, [32]byte{}, fmt.Errorf("rdc: sign: %w", err)
	}
	return sig, [32]byte(whole.Sum(nil)), nil
}
