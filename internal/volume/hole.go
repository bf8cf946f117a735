package volume

import (
	"bytes"
	"sync"

	"golang.org/x/sys/unix"
)

// holeSize is the grain of holes: aligned blocks of zeros become holes. It is
// the block of every filesystem that a folder is met on, or a multiple of it.
const holeSize = 4096

var zeroBlock [holeSize]byte

// sparse writes a file so that what is zero takes no space, as it took none
// where it came from. Zeros that were written out are holes afterwards too:
// they read the same.
type sparse struct {
	fd *descriptor
	at int64 // where Write goes on
	// zeros are written but not on disk yet: they end at at and begin at a
	// multiple of holeSize.
	zeros int64

	mu     sync.Mutex
	end    int64      // no byte at or behind it has been written
	past   *pastCache // nil: all is written to the cache
	cached int        // bytes that were, since whoever writes has looked

	reserved bool // space is allocated ahead, holes must give it back
	packed   bool // the filesystem has no holes: zeros are written
}

// isZero reports whether p, at most holeSize long, holds only zeros.
func isZero(p []byte) bool {
	return p[0] == 0 && p[len(p)-1] == 0 && bytes.Equal(p, zeroBlock[:len(p)])
}

// append writes p where the last append ended.
func (s *sparse) append(p []byte) error {
	for len(p) > 0 {
		n, zero := s.cut(p, s.at, s.zeros > 0)
		if zero {
			s.zeros += int64(n)
		} else {
			if err := s.settle(); err != nil {
				return err
			}
			if err := s.put(p[:n], s.at); err != nil {
				return err
			}
		}
		s.at += int64(n)
		p = p[n:]
	}
	return nil
}

// cut returns the length of what leads p, which goes to off: zeros from a
// block's begin on, or what follows zeros if after, or other bytes up to such
// zeros.
func (s *sparse) cut(p []byte, off int64, after bool) (n int, zero bool) {
	for n < len(p) {
		piece := p[n:min(len(p), n+holeSize-int((off+int64(n))%holeSize))]
		z := isZero(piece) && (after && n == 0 || zero || (off+int64(n))%holeSize == 0)
		if n > 0 && z != zero {
			break
		}
		zero = z
		n += len(piece)
	}
	return n, zero
}

// settle brings the zeros at the end of what was appended to the disk: whole
// blocks as a hole, the rest as bytes if more follows in its block.
func (s *sparse) settle() error {
	if s.zeros == 0 {
		return nil
	}
	from, whole := s.at-s.zeros, s.zeros-s.zeros%holeSize
	rest := s.zeros - whole
	s.zeros = 0
	if whole > 0 {
		if err := s.hole(from, whole); err != nil {
			return err
		}
	}
	if rest == 0 {
		return nil
	}
	return s.put(zeroBlock[:rest], from+whole)
}

// finish is settle at the end of the file, whose last block need not be full.
func (s *sparse) finish() error {
	if s.zeros == 0 {
		return nil
	}
	from, n := s.at-s.zeros, s.zeros
	s.zeros = 0
	return s.hole(from, n)
}

// place writes p at off, its whole blocks of zeros as holes.
func (s *sparse) place(p []byte, off int64) error {
	if err := s.finish(); err != nil {
		return err
	}
	for len(p) > 0 {
		n, zero := s.cut(p, off, false)
		whole := n
		if zero { // a part of a block may hold other bytes behind it
			whole = n - n%holeSize
		}
		var err error
		if zero && whole > 0 {
			err = s.hole(off, int64(whole))
		}
		if err == nil && (!zero || whole < n) {
			from := 0
			if zero {
				from = whole
			}
			err = s.put(p[from:n], off+int64(from))
		}
		if err != nil {
			return err
		}
		off += int64(n)
		p = p[n:]
	}
	return nil
}

// reach notes that bytes were brought up to end.
func (s *sparse) reach(end int64) {
	s.mu.Lock()
	s.end = max(s.end, end)
	s.mu.Unlock()
}

// put writes bytes.
func (s *sparse) put(p []byte, off int64) error {
	s.reach(off + int64(len(p)))
	for len(p) > 0 {
		n, err := s.past.pwrite(s.fd.get(), p, off)
		if err != nil {
			return err
		}
		if !s.past.takes(p) {
			s.cached += n
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// hole makes n bytes from off zeros that take no space, and the file at least
// as long as that.
func (s *sparse) hole(off, n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.end
	if off+n > end { // first: behind a file's end nothing is given back
		s.end = off + n
		if err := unix.Ftruncate(s.fd.get(), s.end); err != nil {
			return err
		}
	}
	if (off < end || s.reserved) && !s.packed {
		whole := n
		if off+n == s.end { // the last block goes as a whole
			whole += -n & (holeSize - 1)
		}
		err := unix.Fallocate(s.fd.get(), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, whole)
		if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
			s.packed = true
		} else if err != nil {
			return err
		}
	}
	if !s.packed || off >= end {
		return nil
	}
	for done := int64(0); done < n; done += holeSize {
		if _, err := unix.Pwrite(s.fd.get(), zeroBlock[:min(holeSize, n-done)], off+done); err != nil {
			return err
		}
	}
	return nil
}
