// Package fetch brings the content of updates here, by whatever is cheapest: a
// file that this member already has with the same content, else the partner.
// What it hands over is a nameless file with content, metadata and mtime set,
// its hash verified over what was written (rule 18). It makes nothing durable
// and knows no record.
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
	"opendfs/internal/wire"

	"github.com/zeebo/blake3"
)

// ErrHash says that what arrived is not what the update promised.
var ErrHash = errors.New("content does not match its hash")

// Upstream streams contents in the order asked for. For each item sink is
// called once; an item the partner cannot serve has a status other than
// wire.StatusOK, and r is nil. The stream is valid only during the call, and
// its last Read reports a file that changed while it was sent.
type Upstream interface {
	Content(ctx context.Context, folder repl.FolderID, items []wire.ContentItem, sink func(i int, status wire.Status, r io.Reader) error) error
}

// Local names a file of this member that had the content when it was recorded.
type Local struct {
	Dir      string // path of its directory
	Name     string
	Identity repl.Identity
	Print    repl.Print
}

// Wanted is one content to bring here. Local lists where it may already be.
type Wanted struct {
	Update repl.Update
	Local  []Local
}

// Staged is what became of one Wanted.
type Staged struct {
	Temp   volume.Temp // nil if Err is set
	Stat   volume.Stat
	Lacks  []string
	Err    error
	Status wire.Status // why the partner did not send it
	Copied bool        // taken from a local file
}

// Stager stages the contents of one folder.
type Stager struct {
	Volume  volume.Volume
	Folder  repl.FolderID
	Workers int // writers at once; 0: everything in the caller's goroutine
}

// small is the size up to which a content is buffered and written by a worker
// while the next one is received.
const small = 256 << 10

// Stage brings every wanted content here. The error is for what stops the
// whole: the partner is gone; then each item without a Temp has an Err too.
func (s *Stager) Stage(ctx context.Context, up Upstream, wanted []Wanted) ([]Staged, error) {
	out := make([]Staged, len(wanted))
	var items []wire.ContentItem
	var index []int
	for i := range wanted {
		if s.local(&wanted[i], &out[i]) {
			continue
		}
		u := &wanted[i].Update
		items = append(items, wire.ContentItem{UID: u.UID, GVSN: u.GVSN})
		index = append(index, i)
	}
	if len(items) == 0 {
		return out, nil
	}
	pool := newPool(s.Workers)
	err := up.Content(ctx, s.Folder, items, func(n int, status wire.Status, r io.Reader) error {
		i := index[n]
		if status != wire.StatusOK {
			out[i].Status, out[i].Err = status, fmt.Errorf("content of %v: partner says %v", wanted[i].Update.UID, status)
			return nil
		}
		return s.receive(pool, &wanted[i].Update, &out[i], r)
	})
	pool.wait()
	for _, i := range index {
		if out[i].Temp == nil && out[i].Err == nil {
			out[i].Err = fmt.Errorf("content of %v did not arrive: %w", wanted[i].Update.UID, errors.Join(err, ctx.Err()))
		}
	}
	return out, err
}

func (s *Stager) receive(pool *pool, u *repl.Update, out *Staged, r io.Reader) error {
	if u.Size > small || pool == nil {
		s.write(u, out, r)
		return nil
	}
	buf := buffers.Get().(*bytes.Buffer)
	buf.Reset()
	if _, err := buf.ReadFrom(io.LimitReader(r, u.Size+1)); err != nil {
		buffers.Put(buf)
		out.Err = fmt.Errorf("receive %v: %w", u.UID, err)
		return nil
	}
	pool.do(func() {
		s.write(u, out, buf)
		buffers.Put(buf)
	})
	return nil
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// write makes a Temp of what r holds.
func (s *Stager) write(u *repl.Update, out *Staged, r io.Reader) {
	t, err := s.Volume.NewTemp(u.Size)
	if err != nil {
		out.Err = fmt.Errorf("stage %v: %w", u.UID, err)
		return
	}
	if err := fill(t, u, r); err != nil {
		out.Err = errors.Join(fmt.Errorf("stage %v: %w", u.UID, err), t.Close())
		return
	}
	if out.Lacks, err = t.SetMeta(u.Meta, u.Mtime); err == nil {
		out.Stat, err = t.Stat()
	}
	if err != nil {
		out.Err = errors.Join(fmt.Errorf("stage %v: %w", u.UID, err), t.Close())
		return
	}
	out.Temp = t
}

func fill(t volume.Temp, u *repl.Update, r io.Reader) error {
	h := hashers.Get().(*blake3.Hasher)
	defer hashers.Put(h)
	h.Reset()
	n, err := io.Copy(io.MultiWriter(t, h), io.LimitReader(r, u.Size+1))
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

var hashers = sync.Pool{New: func() any { return blake3.New() }}

// local stages the content from a file that is already here and still has it.
func (s *Stager) local(w *Wanted, out *Staged) bool {
	for _, l := range w.Local {
		d, err := s.Volume.OpenDir(l.Dir)
		if err != nil {
			continue
		}
		s.copyFrom(d, &l, &w.Update, out)
		if err := d.Close(); err == nil && out.Temp != nil {
			out.Copied = true
			return true
		}
		*out = Staged{} // a copy that does not match is no error: the partner has it
	}
	return false
}

func (s *Stager) copyFrom(d volume.Dir, l *Local, u *repl.Update, out *Staged) {
	f, err := d.OpenFile(l.Name)
	if err != nil {
		out.Err = err
		return
	}
	if st, err := f.Stat(); err == nil && st.Identity == l.Identity && st.Print.SameData(l.Print) {
		s.write(u, out, f)
	}
	if err := f.Close(); err != nil && out.Err == nil {
		out.Err = err
	}
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
