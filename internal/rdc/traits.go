package rdc

import (
	"encoding/binary"
	"math/bits"

	"github.com/zeebo/blake3"
)

// Traits are a sketch of a file by which like files are found: 16 numbers of
// one byte, each the remnant of the least of one permutation of all its piece
// hashes (the idea of [MS-RDC] 3.1.5.4). Two files share a trait about as
// likely as a piece that either has is one that both have, or by chance once
// in 256. The zero value belongs to the empty file, which is like nothing.
type Traits [16]byte

// Similar counts the traits that a and b share, 0 to 16. Two or fewer may be
// chance; MinSimilar and more mean much content in common.
func Similar(a, b Traits) int {
	if a == (Traits{}) || b == (Traits{}) {
		return 0
	}
	x := binary.LittleEndian.Uint64(a[:8]) ^ binary.LittleEndian.Uint64(b[:8])
	y := binary.LittleEndian.Uint64(a[8:]) ^ binary.LittleEndian.Uint64(b[8:])
	return equalBytes(x) + equalBytes(y)
}

// MinSimilar is the least Similar at which a file is worth a look as a seed: by
// chance it is reached once in about 30,000 pairs.
const MinSimilar = 3

// equalBytes counts the zero bytes of x.
func equalBytes(x uint64) int {
	const low = 0x7f7f7f7f7f7f7f7f
	return bits.OnesCount64(^((x&low + low) | x | low))
}

// sketch gathers the least of each permutation; the least of two sketches is
// the sketch of both, so that parts of a file may be sketched apart.
type sketch struct {
	least [16]uint64
	any   bool
}

// permutations are the factors and offsets of the 16 permutations
// x -> (x + offset) * factor of the 64-bit numbers, frozen by FormatVersion.
var permutations = permutationTable()

const permutationSeed = "opendfs rdc traits 1"

type permutation struct{ offset, factor uint64 }

func permutationTable() *[16]permutation {
	h := blake3.New()
	_, _ = h.WriteString(permutationSeed) // a hash takes every byte
	raw := make([]byte, 16*16)
	_, _ = h.Digest().Read(raw) // an output stream has no end
	t := new([16]permutation)
	for i := range t {
		t[i].offset = binary.LittleEndian.Uint64(raw[16*i:])
		t[i].factor = binary.LittleEndian.Uint64(raw[16*i+8:]) | 1
	}
	return t
}

func newSketch() sketch {
	var s sketch
	for i := range s.least {
		s.least[i] = ^uint64(0)
	}
	return s
}

func (s *sketch) add(pieces []Piece) {
	for _, p := range pieces {
		s.any = true
		for i := range s.least {
			s.least[i] = min(s.least[i], (p.Hash+permutations[i].offset)*permutations[i].factor)
		}
	}
}

func (s *sketch) join(o sketch) {
	s.any = s.any || o.any
	for i := range s.least {
		s.least[i] = min(s.least[i], o.least[i])
	}
}

// traits keeps the low byte of each least number: the high ones are near zero
// in every file.
func (s *sketch) traits() Traits {
	var t Traits
	if !s.any {
		return t
	}
	for i, v := range s.least {
		t[i] = byte(v)
	}
	if t == (Traits{}) { // all zero by chance: not the empty file
		t[0] = 1
	}
	return t
}
