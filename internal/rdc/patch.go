package rdc

import (
	"fmt"
	"io"

	"github.com/zeebo/blake3"
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
	whole := blake3.New()
	buf := make([]byte, 1<<20)
	var at int64
	for _, r := range needs.Runs {
		if r.Seed != Fetch && (r.Seed < 0 || r.Seed >= len(seeds)) {
			return fmt.Errorf("rdc: patch at %d: no seed %d", at, r.Seed)
		}
		for done := int64(0); done < r.Len; {
			p := buf[:min(int64(len(buf)), r.Len-done)]
			if r.Seed == Fetch {
				if _, err := io.ReadFull(literals, p); err != nil {
					return fmt.Errorf("rdc: patch at %d: read new bytes: %w", at, err)
				}
			} else if n, err := seeds[r.Seed].ReadAt(p, r.Off+done); n < len(p) {
				if err == nil || err == io.EOF {
					return fmt.Errorf("rdc: patch at %d: seed %d ends at %d: %w", at, r.Seed, r.Off+done+int64(n), ErrMismatch)
				}
				return fmt.Errorf("rdc: patch at %d: read seed %d: %w", at, r.Seed, err)
			}
			if _, err := whole.Write(p); err != nil {
				return fmt.Errorf("rdc: patch at %d: hash: %w", at, err)
			}
			if _, err := w.Write(p); err != nil {
				return fmt.Errorf("rdc: patch at %d: write: %w", at, err)
			}
			done += int64(len(p))
			at += int64(len(p))
		}
	}
	if at != needs.Size || [32]byte(whole.Sum(nil)) != sum {
		return ErrMismatch
	}
	return nil
}
