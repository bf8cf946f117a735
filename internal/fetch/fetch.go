// Package fetch brings the content of updates here, by whatever is cheapest: a
// file that this member already has with the same content; an old version and
// what it lacks (package rdc); else all of it from the partner.
//
// Of an old version the partner is told the hash. Either it keeps the signature of
// that and answers with what is missing, or it offers its own signature to be
// asked about. What comes out otherwise than it should is fetched whole.
//
// What the package hands over is a nameless file with content, metadata and mtime set,
// its hash verified over what was written (rule 18). It makes nothing durable
// and knows no record.
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"opendfs/internal/digest"
	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
	"opendfs/internal/wire"
)

// ErrHash says that what arrived is not what the update promised.
var ErrHash = errors.New("content does not match its hash")

// Upstream streams contents in the order asked for. For each item sink is
// called once; an item the partner cannot serve has a status other than
// wire.StatusOK, and r is not read. The stream is valid only during the call, and
// its last Read reports a file that changed while it was sent.
type Upstream interface {
	Content(ctx context.Context, folder repl.FolderID, items []wire.ContentItem, sink func(i int, head *wire.Head, r io.Reader) error) error
	// Rdc asks about the signature of a content that was offered.
	Rdc(ctx context.Context, req *wire.RdcRequest) ([]byte, error)
}

// Local names a file of this member that had the content when it was recorded.
type Local struct {
	Area     volume.Private // of the private area that it lies in; "": it lies in the tree
	Dir      string         // path of its directory in the tree
	Name     string
	Identity repl.Identity
	Print    repl.Print
}

// Wanted is one content to bring here. Local lists where it may already be, Old
// where most of it may.
type Wanted struct {
	Update repl.Update
	Local  []Local
	Old    []Old // at most wire.MaxSeeds
}

// like is the content of which the wanted one is likely another version; zero if
// there is none.
func (w *Wanted) like() repl.Hash {
	if len(w.Old) == 0 {
		return repl.Hash{}
	}
	return w.Old[0].Content
}

// Staged is what became of one Wanted.
type Staged struct {
	Temp   volume.Temp // nil if Err is set
	Stat   volume.Stat
	Lacks  []string
	Err    error
	Status wire.Status // why the partner did not send it
	Copied bool        // taken from a local file
	Delta  Delta

	whole bool        // a delta came to nothing: it is to be fetched whole
	begun volume.File // what an earlier transfer brought of it
	// held is the old version, of which the partner is told the grains.
	held, grains []byte
}

// Stager stages the contents of one folder.
type Stager struct {
	Volume  volume.Volume
	Folder  repl.FolderID
	Workers int // writers at once; 0: everything in the caller's goroutine
	// Signatures are those kept here; nil: everything is fetched whole.
	Signatures Signatures
	// Parts are the beginnings of contents whose transfer was cut; nil: they begin
	// anew.
	Parts Parts
	// MinDelta is the size from which on a content is signed and its old versions
	// are made use of.
	MinDelta int64
	// Whole: contents are brought whole all the same.
	Whole bool
	// Find finds a file here, in the tree or kept aside, with a content of which
	// the signature is kept; nil: no files but older versions are made use of.
	Find func(content repl.Hash) (Old, bool)
}

// small is the size up to which a content is buffered and written by a worker
// while the next one is received.
const small = 256 << 10

// Stage brings every wanted content here. The error is for what stops the
// whole: the partner is gone; then each item without a Temp has an Err too.
func (s *Stager) Stage(ctx context.Context, up Upstream, wanted []Wanted) ([]Staged, error) {
	out := make([]Staged, len(wanted))
	var index []int
	for i := range wanted {
		if !s.local(&wanted[i], &out[i]) {
			index = append(index, i)
		}
	}
	err := s.bring(ctx, up, wanted, out, index, !s.Whole)
	if err == nil {
		var again []int
		for _, i := range index {
			if out[i].whole {
				again = append(again, i)
			}
		}
		err = s.bring(ctx, up, wanted, out, again, false)
	}
	for _, i := range index {
		if out[i].Temp == nil && out[i].Err == nil {
			out[i].Err = fmt.Errorf("content of %v did not arrive: %w", wanted[i].Update.UID, errors.Join(err, ctx.Err()))
		}
	}
	return out, err
}

// bring asks for the contents with those indexes, with deltas or whole: in as many
// requests as the grains of old versions need.
func (s *Stager) bring(ctx context.Context, up Upstream, wanted []Wanted, out []Staged, index []int, deltas bool) error {
	for len(index) > 0 {
		n := len(index)
		if deltas {
			n = s.hold(wanted, out, index)
		}
		err := s.ask(ctx, up, wanted, out, index[:n], deltas)
		for _, i := range index[:n] {
			out[i].held, out[i].grains = nil, nil
		}
		if err != nil {
			return err
		}
		index = index[n:]
	}
	return nil
}

// ask makes one request of contents.
func (s *Stager) ask(ctx context.Context, up Upstream, wanted []Wanted, out []Staged, index []int, deltas bool) error {
	items := make([]wire.ContentItem, len(index))
	for n, i := range index {
		u := &wanted[i].Update
		items[n] = wire.ContentItem{UID: u.UID, GVSN: u.GVSN}
		if deltas {
			items[n].Seeds = s.seeds(&wanted[i])
		}
		if len(out[i].held) > 0 {
			items[n].Grains = out[i].grains
		} else if len(items[n].Seeds) == 0 {
			if f, size, ok := s.part(u); ok {
				items[n].Offset, out[i].begun = size, f
				continue
			}
		} else if f, _, ok := s.part(u); ok {
			items[n].Needs = true
			_ = f.Close() // it is opened when it is wanted
		}
		items[n].Similar = deltas && s.similar(&wanted[i])
	}
	defer func() {
		for _, i := range index {
			if f := out[i].begun; f != nil {
				_ = f.Close() // it was only read
				out[i].begun = nil
			}
		}
	}()
	pool := newPool(s.Workers)
	var offers []offered
	var lacking []lacks
	err := up.Content(ctx, s.Folder, items, func(n int, head *wire.Head, r io.Reader) error {
		i := index[n]
		switch {
		case head.Status != wire.StatusOK:
			out[i].Status, out[i].Err = head.Status, fmt.Errorf("content of %v: partner says %v", wanted[i].Update.UID, head.Status)
		case head.Form == wire.FormDelta:
			if items[n].Needs && int64(head.Needs) == head.Carries {
				lacking = append(lacking, s.receiveNeeds(i, head, r))
				break
			}
			s.receiveDelta(pool, &wanted[i], &out[i], head, r)
		case head.Form == wire.FormGraft:
			s.receiveGraft(pool, &wanted[i], &out[i], head, r)
		case head.Form == wire.FormOffer:
			offers = append(offers, offered{i, bytes.Clone(head.Offer), head.Traits})
		default:
			s.receive(pool, &wanted[i], &out[i], r)
		}
		return nil
	})
	pool.wait()
	for k := 0; k < len(lacking) && err == nil; k++ {
		i := lacking[k].index
		out[i].set(&wanted[i], s.bringLacking(ctx, up, &wanted[i], &out[i], &lacking[k]))
	}
	if err == nil && len(offers) > 0 {
		s.follow(ctx, up, wanted, out, offers)
	}
	return err
}

func (s *Stager) receive(pool *pool, w *Wanted, out *Staged, r io.Reader) {
	u := &w.Update
	if out.begun != nil {
		s.resume(w, out, r)
		return
	}
	if u.Size > small || pool == nil {
		s.write(w, out, r, true)
		return
	}
	buf := buffers.Get().(*bytes.Buffer)
	buf.Reset()
	if _, err := buf.ReadFrom(io.LimitReader(r, u.Size+1)); err != nil {
		buffers.Put(buf)
		out.Err = fmt.Errorf("receive %v: %w", u.UID, err)
		return
	}
	pool.do(func() {
		s.write(w, out, buf, true)
		buffers.Put(buf)
	})
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// write makes a Temp of what r holds, and signs it on the way if it is to.
func (s *Stager) write(w *Wanted, out *Staged, r io.Reader, sign bool) {
	u := &w.Update
	t, err := s.Volume.NewTemp(u.Size, u.Meta)
	if err != nil {
		out.Err = fmt.Errorf("stage %v: %w", u.UID, err)
		return
	}
	if sign {
		s.begin(u, t)
	}
	s.fillTemp(w, out, t, r, sign)
}

// fillTemp is write, into a Temp that was made for it.
func (s *Stager) fillTemp(w *Wanted, out *Staged, t volume.Temp, r io.Reader, sign bool) {
	u := &w.Update
	var signed io.Writer
	end := func(repl.Hash, bool) {}
	if sign && s.Signatures != nil && u.Size >= s.MinDelta {
		signed, end = s.Signatures.Sign(u.Size, w.like())
	}
	err := s.fill(t, signed, u, r)
	end(u.Content, err == nil)
	if err == nil {
		out.Lacks, out.Stat, err = dress(t, u)
	}
	if err != nil {
		s.keepPart(u, t, err)
		out.Err = errors.Join(fmt.Errorf("stage %v: %w", u.UID, err), t.Close())
		return
	}
	out.Temp = t
}

// dress gives a Temp with its content the rest of what an update says.
func dress(t volume.Temp, u *repl.Update) (lacks []string, st volume.Stat, err error) {
	if lacks, err = t.SetMeta(u.Meta, u.Mtime); err == nil {
		st, err = t.Stat()
	}
	return lacks, st, err
}

func (s *Stager) fill(t volume.Temp, signed io.Writer, u *repl.Update, r io.Reader) error {
	h := hashers.Get().(*digest.Hasher)
	defer hashers.Put(h)
	h.Reset()
	if _, whole := r.(*bytes.Buffer); !whole { // what is buffered was bounded on its way in
		r = io.LimitReader(r, u.Size+1)
	}
	n, err := s.feed(u, r, h, t, signed)
	if err != nil {
		return err
	}
	var sum repl.Hash
	h.Sum(sum[:0])
	if n != u.Size || sum != u.Content {
		return fmt.Errorf("%w: %d bytes of %d", ErrHash, n, u.Size)
	}
	return nil
}

// apartFrom is the size from which on a content is received, hashed, written and
// signed side by side.
const apartFrom = 1 << 20

// feed gives a content to those who take it; a nil one is left out. A buffered one
// they get in one piece.
func (s *Stager) feed(u *repl.Update, r io.Reader, takers ...io.Writer) (int64, error) {
	takers = slices.DeleteFunc(takers, func(w io.Writer) bool { return w == nil })
	if s.Workers > 0 && u.Size >= apartFrom {
		return rdc.Feed(r, true, takers...)
	}
	piece := pieces.Get().(*[]byte)
	defer pieces.Put(piece)
	return io.CopyBuffer(io.MultiWriter(takers...), r, *piece)
}

// pieceSize is how much of a content that is not buffered is read at once.
const pieceSize = 64 << 10

var pieces = sync.Pool{New: func() any {
	b := make([]byte, pieceSize)
	return &b
}}

var hashers = sync.Pool{New: func() any { return digest.New() }}

// local stages the content from a file that is already here and still has it.
func (s *Stager) local(w *Wanted, out *Staged) bool {
	for i := range w.Local {
		f, err := s.openLocal(&w.Local[i])
		if err != nil {
			continue
		}
		s.write(w, out, f, false)
		if err := f.Close(); err == nil && out.Temp != nil {
			out.Copied = true
			return true
		}
		*out = Staged{} // a copy that does not match is no error: the partner has it
	}
	return false
}

// pool runs writers beside the receiver.
type pool struct {
	jobs chan func()
	done sync.WaitGroup
}

func newPool(workers int) *pool {
	if workers == 0 {
		return nil
	}
	p := &pool{jobs: make(chan func(), 4*workers)}
	for range workers {
		p.done.Go(func() {
			for job := range p.jobs {
				job()
			}
		})
	}
	return p
}

func (p *pool) do(job func()) { p.jobs <- job }

func (p *pool) wait() {
	if p != nil {
		close(p.jobs)
		p.done.Wait()
	}
}
