package rdc

import (
	"encoding/binary"

	"github.com/zeebo/blake3"
)

// The gear hash: h = h<<1 + gear[byte], over 64 bits, so that h depends on the
// last 64 bytes only and two places may be hashed at once. A place is a cut
// where h exceeds a threshold.
const (
	gearWindow = 64
	chunkMark  = ^uint64(0) - 1<<48 // one place in 64 Ki
	pieceMark  = ^uint64(0) - 1<<54 // one place in 1 Ki
)

// gear is frozen by FormatVersion: 2,048 bytes of the BLAKE3 output stream over
// gearSeed, read as 256 little-endian numbers.
var gear = gearTable()

const gearSeed = "opendfs rdc gear 1"

func gearTable() *[256]uint64 {
	h := blake3.New()
	_, _ = h.WriteString(gearSeed) // a hash takes every byte
	raw := make([]byte, 256*8)
	_, _ = h.Digest().Read(raw) // an output stream has no end
	t := new([256]uint64)
	for i := range t {
		t[i] = binary.LittleEndian.Uint64(raw[8*i:])
	}
	return t
}

// scan hashes b from h on and returns the number of bytes taken up to and with
// the first at which the hash exceeds mark, or all of b, and the hash there.
func scan(b []byte, h, mark uint64) (int, uint64) {
	t := gear
	i := 0
	for ; i+8 <= len(b); i += 8 {
		p := (*[8]byte)(b[i:])
		if h = h<<1 + t[p[0]]; h > mark {
			return i + 1, h
		}
		if h = h<<1 + t[p[1]]; h > mark {
			return i + 2, h
		}
		if h = h<<1 + t[p[2]]; h > mark {
			return i + 3, h
		}
		if h = h<<1 + t[p[3]]; h > mark {
			return i + 4, h
		}
		if h = h<<1 + t[p[4]]; h > mark {
			return i + 5, h
		}
		if h = h<<1 + t[p[5]]; h > mark {
			return i + 6, h
		}
		if h = h<<1 + t[p[6]]; h > mark {
			return i + 7, h
		}
		if h = h<<1 + t[p[7]]; h > mark {
			return i + 8, h
		}
	}
	for ; i < len(b); i++ {
		if h = h<<1 + t[b[i]]; h > mark {
			return i + 1, h
		}
	}
	return len(b), h
}

// scan2 is scan over a and b in step: it stops where either exceeds mark or the
// shorter ends. Two chains of dependent additions run in the time of one.
func scan2(a, b []byte, h, g, mark uint64) (int, uint64, uint64) {
	t := gear
	n := min(len(a), len(b))
	i := 0
	for ; i+16 <= n; i += 16 {
		p, q := (*[16]byte)(a[i:]), (*[16]byte)(b[i:])
		if h, g = h<<1+t[p[0]], g<<1+t[q[0]]; h > mark || g > mark {
			return i + 1, h, g
		}
		if h, g = h<<1+t[p[1]], g<<1+t[q[1]]; h > mark || g > mark {
			return i + 2, h, g
		}
		if h, g = h<<1+t[p[2]], g<<1+t[q[2]]; h > mark || g > mark {
			return i + 3, h, g
		}
		if h, g = h<<1+t[p[3]], g<<1+t[q[3]]; h > mark || g > mark {
			return i + 4, h, g
		}
		if h, g = h<<1+t[p[4]], g<<1+t[q[4]]; h > mark || g > mark {
			return i + 5, h, g
		}
		if h, g = h<<1+t[p[5]], g<<1+t[q[5]]; h > mark || g > mark {
			return i + 6, h, g
		}
		if h, g = h<<1+t[p[6]], g<<1+t[q[6]]; h > mark || g > mark {
			return i + 7, h, g
		}
		if h, g = h<<1+t[p[7]], g<<1+t[q[7]]; h > mark || g > mark {
			return i + 8, h, g
		}
		if h, g = h<<1+t[p[8]], g<<1+t[q[8]]; h > mark || g > mark {
			return i + 9, h, g
		}
		if h, g = h<<1+t[p[9]], g<<1+t[q[9]]; h > mark || g > mark {
			return i + 10, h, g
		}
		if h, g = h<<1+t[p[10]], g<<1+t[q[10]]; h > mark || g > mark {
			return i + 11, h, g
		}
		if h, g = h<<1+t[p[11]], g<<1+t[q[11]]; h > mark || g > mark {
			return i + 12, h, g
		}
		if h, g = h<<1+t[p[12]], g<<1+t[q[12]]; h > mark || g > mark {
			return i + 13, h, g
		}
		if h, g = h<<1+t[p[13]], g<<1+t[q[13]]; h > mark || g > mark {
			return i + 14, h, g
		}
		if h, g = h<<1+t[p[14]], g<<1+t[q[14]]; h > mark || g > mark {
			return i + 15, h, g
		}
		if h, g = h<<1+t[p[15]], g<<1+t[q[15]]; h > mark || g > mark {
			return i + 16, h, g
		}
	}
	for ; i < n; i++ {
		if h, g = h<<1+t[a[i]], g<<1+t[b[i]]; h > mark || g > mark {
			return i + 1, h, g
		}
	}
	return n, h, g
}

// scanLong is scan with h = 0 at its start, for long b: halves of a stripe are
// hashed in step, the second warmed up by the window before it, which gives the
// same hash as one that came all the way.
func scanLong(b []byte, mark uint64) int {
	const half = 4 << 10
	var h uint64
	pos := 0
	for ; len(b)-pos >= 2*half; pos += 2 * half {
		first, second := b[pos:pos+half], b[pos+half:pos+2*half]
		var g uint64
		for _, c := range b[pos+half-gearWindow : pos+half] {
			g = g<<1 + gear[c]
		}
		n, h2, g2 := scan2(first, second, h, g, mark)
		switch {
		case h2 > mark:
			return pos + n
		case g2 > mark: // unless the first half has one yet
			if m, h3 := scan(first[n:], h2, mark); h3 > mark {
				return pos + n + m
			}
			return pos + half + n
		}
		h = g2
	}
	n, _ := scan(b[pos:], h, mark)
	return pos + n
}
