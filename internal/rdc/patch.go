package rdc

import (
	"errors"
	"fmt"
	"io"

	"opendfs/internal/digest"
)

// Patch writes the new version to w: the runs of needs in order, copied from
// seeds, whose numbers are those of the match, or read from literals, which
// gives the bytes of all Fetch runs one after the other. It compares the BLAKE3
// of all that it wrote with sum.
//
// ErrMismatch means that everything was written and is not the file: throw it
// away and fetch it whole. A seed that is shorter than when it was signed is an
// ErrMismatch too. Other errors are those of the readers and of w, with the
// place.
func Patch(w io.Writer, needs *Needs, seeds []io.ReaderAt, literals io.Reader, sum [32]byte) error {
	whole := digest.New()
	at, err := Feed(NewPatched(needs, seeds, literals), false, whole, w)
	if err != nil {
		return err
	}
	if at != needs.Size || [32]byte(whole.Sum(nil)) != sum {
		return ErrMismatch
	}
	return nil
}

// Patched reads a new version that is put together of old ones and new bytes, as
// it is said at Patch. Whether it is the file, its hash tells.
type Patched struct {
	needs    *Needs
	seeds    []io.ReaderAt
	literals io.Reader
	run      int   // the index of the run that comes next
	done     int64 // bytes of it that were read
	at       int64 // bytes of the new version that were read
}

// NewPatched returns a reader of the new version from its beginning on.
func NewPatched(needs *Needs, seeds []io.ReaderAt, literals io.Reader) *Patched {
	return &Patched{needs: needs, seeds: seeds, literals: literals}
}

// Read reads on. Its errors are those of Patch, and io.EOF.
func (t *Patched) Read(p []byte) (int, error) {
	if t.run == len(t.needs.Runs) {
		return 0, io.EOF
	}
	r := t.needs.Runs[t.run]
	p = p[:min(int64(len(p)), r.Len-t.done)]
	switch {
	case r.Seed == Fetch:
		if n, err := io.ReadFull(t.literals, p); err != nil {
			return n, fmt.Errorf("rdc: patch at %d: read new bytes: %w", t.at, err)
		}
	case r.Seed < 0 || r.Seed >= len(t.seeds):
		return 0, fmt.Errorf("rdc: patch at %d: no seed %d", t.at, r.Seed)
	default:
		n, err := t.seeds[r.Seed].ReadAt(p, r.Off+t.done)
		if n < len(p) && (err == nil || errors.Is(err, io.EOF)) {
			return n, fmt.Errorf("rdc: patch at %d: seed %d ends at %d: %w", t.at, r.Seed, r.Off+t.done+int64(n), ErrMismatch)
		}
		if n < len(p) {
			return n, fmt.Errorf("rdc: patch at %d: read seed %d: %w", t.at, r.Seed, err)
		}
	}
	t.at += int64(len(p))
	if t.done += int64(len(p)); t.done == r.Len {
		t.run, t.done = t.run+1, 0
	}
	return len(p), nil
}
