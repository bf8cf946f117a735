package digest

import (
	"encoding/binary"
	"math/bits"
)

var iv = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

// order is how the words of a block are permuted from round to round.
var order = [16]uint8{2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8}

// compress is the compression function of the BLAKE3 paper, section 2.2, cut to a
// chaining value, for the few blocks that are hashed alone.
func compress(cv *[8]uint32, block *[blockLen]byte, counter uint64, n, flags uint32) {
	var m [16]uint32
	for i := range m {
		m[i] = binary.LittleEndian.Uint32(block[4*i:])
	}
	s := [16]uint32{
		cv[0], cv[1], cv[2], cv[3], cv[4], cv[5], cv[6], cv[7],
		iv[0], iv[1], iv[2], iv[3], uint32(counter), uint32(counter >> 32), n, flags,
	}
	for range 7 {
		mix(&s, 0, 4, 8, 12, m[0], m[1])
		mix(&s, 1, 5, 9, 13, m[2], m[3])
		mix(&s, 2, 6, 10, 14, m[4], m[5])
		mix(&s, 3, 7, 11, 15, m[6], m[7])
		mix(&s, 0, 5, 10, 15, m[8], m[9])
		mix(&s, 1, 6, 11, 12, m[10], m[11])
		mix(&s, 2, 7, 8, 13, m[12], m[13])
		mix(&s, 3, 4, 9, 14, m[14], m[15])
		was := m
		for i, from := range order {
			m[i] = was[from]
		}
	}
	for i := range cv {
		cv[i] = s[i] ^ s[i+8]
	}
}

func mix(s *[16]uint32, a, b, c, d int, x, y uint32) {
	s[a] += s[b] + x
	s[d] = bits.RotateLeft32(s[d]^s[a], -16)
	s[c] += s[d]
	s[b] = bits.RotateLeft32(s[b]^s[c], -12)
	s[a] += s[b] + y
	s[d] = bits.RotateLeft32(s[d]^s[a], -8)
	s[c] += s[d]
	s[b] = bits.RotateLeft32(s[b]^s[c], -7)
}
