package staging

import (
	"math"

	"opendfs/internal/repl"
)

// How a store finds out that it is too small.
const (
	maxRemoved = 4096 // removed signatures that are remembered
	sizeWindow = 512  // questions between two judgements
	missedPart = 16   // one in so many is missed: too small
	maxGrowth  = 16   // times the quota
	freePart   = 8    // times what it would be must be free
)

// sizing is how much a store may hold, and whether that is enough for what is
// asked for.
type sizing struct {
	limit   int64
	small   bool
	grown   int // times that the limit was doubled
	asks    int // since the last judgement
	missed  int // of them, for what had been removed for want of room
	lately  map[repl.Hash]bool
	history []repl.Hash // of lately, oldest first
}

// removed notes that a signature went for want of room.
func (z *sizing) removed(h repl.Hash) {
	if z.lately == nil {
		z.lately = make(map[repl.Hash]bool)
	}
	if !z.lately[h] {
		z.lately[h] = true
		z.history = append(z.history, h)
	}
	if len(z.history) > maxRemoved {
		delete(z.lately, z.history[0])
		z.history = z.history[1:]
	}
}

// asked notes that a signature was asked for; free says how much the disk has.
func (z *sizing) asked(h repl.Hash, found bool, free func() uint64) {
	z.asks++
	if !found && z.lately[h] {
		z.missed++
	}
	enough := z.missed < sizeWindow/missedPart
	if z.asks < sizeWindow && enough {
		return
	}
	z.asks, z.missed = 0, 0
	if enough {
		z.small = false
		return
	}
	z.small = 1<<(z.grown+1) > maxGrowth || z.limit > math.MaxInt64/(2*freePart) || free() < uint64(2*freePart*z.limit)
	if !z.small {
		z.grown++
		z.limit *= 2
	}
}

// free is how many bytes the disk has.
func (s *Store) free() uint64 {
	n, _, err := s.vol.Free()
	if err != nil {
		return 0 // it cannot be told: nothing grows
	}
	return n
}
