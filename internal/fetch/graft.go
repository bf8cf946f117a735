package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"opendfs/internal/rdc"
	"opendfs/internal/wire"
)

// heldMost bounds the old versions that are held for one request, in bytes.
const heldMost = 16 << 20

// hold reads old versions, for the first of the contents with those indexes, until
// they or their grains fill a request, and returns for how many. What cannot be read is
// fetched whole.
func (s *Stager) hold(wanted []Wanted, out []Staged, index []int) int {
	left, room := wire.MaxGrains, int64(heldMost)
	for n, i := range index {
		w := &wanted[i]
		if len(w.Old) == 0 || w.Update.Size > rdc.MaxGraft || w.Old[0].Print.Size > rdc.MaxGraft {
			continue
		}
		old := &w.Old[0]
		if room -= old.Print.Size; room < 0 {
			return n
		}
		f, err := s.openLocal(&old.Local)
		if err != nil {
			continue
		}
		held := make([]byte, old.Print.Size)
		if n, _ := f.ReadAt(held, 0); n < len(held) || !same(f, &old.Local) {
			held = nil
		}
		_ = f.Close() // it was only read
		grains := rdc.Grains(nil, held)
		if left -= len(grains); left < 0 {
			return n
		}
		out[i].held, out[i].grains = held, grains
	}
	return len(index)
}

// receiveGraft takes an item that comes as runs of the grains of the old version, and
// new bytes.
func (s *Stager) receiveGraft(pool *pool, w *Wanted, out *Staged, head *wire.Head, r io.Reader) {
	came := make([]byte, head.Carries)
	if _, err := io.ReadFull(r, came); err != nil {
		out.Err = fmt.Errorf("receive %v: %w", w.Update.UID, err)
		return
	}
	needs, held := head.Needs, out.held
	job := func() { s.graft(w, out, held, came[:needs], came[needs:]) }
	if pool == nil {
		job()
		return
	}
	pool.do(job)
}

// graft assembles a content from the old version and what came; what is not the
// content is fetched whole.
func (s *Stager) graft(w *Wanted, out *Staged, held, runs, fresh []byte) {
	next, err := rdc.Ungraft(held, runs, fresh, w.Update.Size)
	if err == nil {
		s.write(w, out, bytes.NewReader(next), true)
		if err = out.Err; errors.Is(err, ErrHash) {
			err = errors.Join(rdc.ErrMismatch, err)
		}
		out.Err = nil
	}
	out.set(w, err)
	if err == nil {
		out.Delta.Saved = w.Update.Size - int64(len(runs)+len(fresh))
	}
}
