package rdc

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Fetch stands in place of the number of a seed and marks a run of new bytes.
const Fetch = -1

// Run is a stretch of the new version: Len bytes that are at Off in the seed of
// number Seed, or, if Seed is Fetch, bytes that nobody here has, at Off in the
// new version itself.
type Run struct {
	Seed int
	Off  int64
	Len  int64
}

// Needs say how the new version is put together: its runs in order, which add up
// to Size. No run is empty, and none can be joined with the one before.
type Needs struct {
	Size int64
	Runs []Run
}

// add appends a run and joins it with the one before where it goes on from it.
func (n *Needs) add(r Run) {
	n.Size += r.Len
	if k := len(n.Runs) - 1; k >= 0 {
		last := &n.Runs[k]
		if last.Seed == r.Seed && last.Off+last.Len == r.Off {
			last.Len += r.Len
			return
		}
	}
	n.Runs = append(n.Runs, r)
}

// Missing is how many bytes are to be fetched.
func (n *Needs) Missing() int64 {
	var sum int64
	for _, r := range n.Runs {
		if r.Seed == Fetch {
			sum += r.Len
		}
	}
	return sum
}

// check says what about n breaks its rules, given the sizes of the seeds.
func (n *Needs) check(seeds []int64) error {
	if len(n.Runs) > MaxRuns {
		return fmt.Errorf("%d runs are more than %d: %w", len(n.Runs), MaxRuns, ErrFormat)
	}
	var at int64
	for i, r := range n.Runs {
		limit, from := n.Size, at
		if r.Seed != Fetch {
			if r.Seed < 0 || r.Seed >= len(seeds) {
				return fmt.Errorf("run %d copies from seed %d of %d: %w", i, r.Seed, len(seeds), ErrFormat)
			}
			limit, from = seeds[r.Seed], r.Off
		}
		if r.Len <= 0 || r.Len > n.Size-at || r.Off != from || r.Off < 0 || r.Off > limit || r.Len > limit-r.Off {
			return fmt.Errorf("run %d (seed %d, %d bytes at %d) is out of range: %w", i, r.Seed, r.Len, r.Off, ErrFormat)
		}
		if i > 0 && n.Runs[i-1].Seed == r.Seed && n.Runs[i-1].Off+n.Runs[i-1].Len == r.Off {
			return fmt.Errorf("run %d goes on from the one before: %w", i, ErrFormat)
		}
		at += r.Len
	}
	if at != n.Size {
		return fmt.Errorf("runs of %d bytes for a file of %d: %w", at, n.Size, ErrFormat)
	}
	return nil
}

// Encode appends the form of n that travels where the side that has the new
// version made the match: a few bytes a run.
func (n *Needs) Encode(b []byte) []byte {
	b = append(b, FormatVersion)
	b = binary.AppendUvarint(b, uint64(n.Size))
	b = binary.AppendUvarint(b, uint64(len(n.Runs)))
	var next [MaxSeeds]int64 // where a copy would go on
	for _, r := range n.Runs {
		b = binary.AppendUvarint(b, uint64(r.Seed+1))
		b = binary.AppendUvarint(b, uint64(r.Len))
		if r.Seed != Fetch {
			b = binary.AppendVarint(b, r.Off-next[r.Seed])
			next[r.Seed] = r.Off + r.Len
		}
	}
	return b
}

// DecodeNeeds reads what Encode wrote, all of b. seeds are the sizes of the
// versions that the runs copy from: no run reaches outside them. It takes no
// more memory than twelve times len(b).
func DecodeNeeds(b []byte, seeds []int64) (*Needs, error) {
	d := decoder{b: b}
	d.version()
	n := &Needs{Size: d.size()}
	count := d.uvarint(MaxRuns)
	if len(seeds) > MaxSeeds || count > uint64(len(d.b)/2) {
		d.fail("more seeds or runs than there may be")
		count = 0
	}
	if count > 0 {
		n.Runs = make([]Run, 0, count)
	}
	var next [MaxSeeds]int64
	var at int64
	for range count {
		r := Run{Seed: int(d.uvarint(uint64(len(seeds)))) - 1, Off: at}
		r.Len = d.size()
		if r.Seed != Fetch {
			step := d.varint()
			if r.Off = next[r.Seed] + step; r.Off < 0 || r.Len > math.MaxInt64-r.Off {
				d.fail("run out of range")
			}
			next[r.Seed] = r.Off + r.Len
		}
		if d.err != nil || r.Len > n.Size-at {
			d.fail("run out of range")
			break
		}
		at += r.Len
		n.Runs = append(n.Runs, r)
	}
	err := d.end()
	if err == nil {
		err = n.check(seeds)
	}
	if err != nil {
		return nil, fmt.Errorf("rdc: decode needs: %w", err)
	}
	return n, nil
}
