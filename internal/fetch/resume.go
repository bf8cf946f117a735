package fetch

import (
	"errors"
	"io"

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
// is kept is used up: it is removed, and a longer beginning kept if r is cut too.
func (s *Stager) resume(w *Wanted, out *Staged, r io.Reader) {
	s.Parts.DropPart(w.Update.Content)
	s.write(w, out, io.MultiReader(out.begun, r), true)
}
