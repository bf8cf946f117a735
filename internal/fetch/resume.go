package fetch

import (
	"errors"
	"fmt"
	"io"

	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// Parts are the beginnings of contents whose transfer was cut. Nothing depends
// on what they keep: the whole is held against its hash.
type Parts interface {
	// KeepPart keeps what a Temp holds, which stays the caller's to close.
	KeepPart(content repl.Hash, t volume.Temp)
	// Part opens what is kept.
	Part(content repl.Hash) (f volume.File, size int64, ok bool)
	DropPart(content repl.Hash)
	// Begin lets what comes of a content outlive this process: the Temp will hold
	// its first bytes and nothing behind them.
	Begin(content repl.Hash, t volume.Temp)
}

// beginFrom is the size from which on a content that is being brought outlives the
// process.
const beginFrom = 8 << 20

// begin lets what comes of a content outlive this process.
func (s *Stager) begin(u *repl.Update, t volume.Temp) {
	if s.Parts != nil && u.Size >= beginFrom {
		s.Parts.Begin(u.Content, t)
	}
}

// partFrom is how much of a content, in MinDelta, must be here to be kept.
const partFrom = 16

// part finds what is here of a content that is to come whole.
func (s *Stager) part(u *repl.Update) (volume.File, int64, bool) {
	if s.Parts == nil || u.Size < partFrom*s.MinDelta {
		return nil, 0, false
	}
	f, size, ok := s.Parts.Part(u.Content)
	if ok && size > u.Size {
		_ = f.Close() // it was not read
		s.Parts.DropPart(u.Content)
		ok = false
	}
	return f, size, ok
}

// keepPart keeps what came of a content before err ended it, if that can be the
// beginning of the content.
func (s *Stager) keepPart(u *repl.Update, t volume.Temp, err error) {
	if s.Parts == nil || errors.Is(err, ErrHash) {
		return
	}
	if st, err := t.Stat(); err == nil && st.Print.Size >= partFrom*s.MinDelta && st.Print.Size <= u.Size {
		s.Parts.KeepPart(u.Content, t)
	}
}

// resume makes a content of what is kept of it and of r, which is the rest. What
// is kept is used up: a longer beginning is kept if r is cut too.
func (s *Stager) resume(w *Wanted, out *Staged, r io.Reader) {
	t, err := s.Volume.NewTemp(w.Update.Size, w.Update.Meta)
	if err != nil {
		out.Err = fmt.Errorf("stage %v: %w", w.Update.UID, err)
		return
	}
	// What is kept stays until as much of it is in the new file.
	then := readerFunc(func([]byte) (int, error) {
		s.begin(&w.Update, t)
		return 0, io.EOF
	})
	s.fillTemp(w, out, t, io.MultiReader(out.begun, then, r), true)
	if out.Err == nil || errors.Is(out.Err, ErrHash) {
		s.Parts.DropPart(w.Update.Content)
	}
}

type readerFunc func(p []byte) (int, error)

// Read calls the function.
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// begun puts what is kept of a content, as the seed of that number, in the place of
// the beginning of needs, so that nothing of it is brought again. A beginning that is not right is found by the
// hash of the whole, and is gone then.
func (s *Stager) begun(u *repl.Update, needs *rdc.Needs, seed int) (*rdc.Needs, volume.File) {
	f, size, ok := s.part(u)
	if !ok || size == 0 {
		return needs, nil
	}
	out := &rdc.Needs{Size: needs.Size, Runs: []rdc.Run{{Seed: seed, Off: 0, Len: size}}}
	var at int64
	for _, r := range needs.Runs {
		if skip := min(max(0, size-at), r.Len); skip < r.Len {
			out.Runs = append(out.Runs, rdc.Run{Seed: r.Seed, Off: r.Off + skip, Len: r.Len - skip})
		}
		at += r.Len
	}
	return out, f
}
