package rdc

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
)

const (
	// MaxGraft bounds, in bytes, both versions of a content that goes as a graft.
	MaxGraft = 256 << 10
	// MaxGrains bounds the list of grains of one old version, in bytes.
	MaxGrains = (MaxGraft/GrainMin + 1) * grainHash
)

// Grains appends the list of the grains of an old version, at most MaxGraft bytes:
// the hash of each, one after the other. It is for contents so small that whoever
// lacks the new version says at once what it has: 5 bytes for 256.
func Grains(list, old []byte) []byte {
	for _, g := range cutGrains(old, nil) {
		var h [8]byte
		binary.BigEndian.PutUint64(h[:], g.hash)
		list = append(list, h[8-grainHash:]...)
	}
	return list
}

// CheckGrains says what about a list of grains cannot be.
func CheckGrains(list []byte) error {
	if len(list)%grainHash != 0 || len(list) > MaxGrains {
		return fmt.Errorf("rdc: list of grains of %d bytes: %w", len(list), ErrFormat)
	}
	return nil
}

// Graft makes a new version, at most MaxGraft bytes, of the grains of an old one:
// how they are put together (docs/formats/rdc.md, Graft), and the bytes that are in
// none of them, one run after the other. list is of CheckGrains' form.
func Graft(list, next []byte) (runs, fresh []byte) {
	at := make(map[uint64]int, len(list)/grainHash)
	var olds []uint64
	for i, h := range slices.Collect(slices.Chunk(list, grainHash)) {
		var b [8]byte
		copy(b[8-grainHash:], h)
		hash := binary.BigEndian.Uint64(b[:])
		olds = append(olds, hash)
		if _, ok := at[hash]; !ok {
			at[hash] = i
		}
	}
	runs = []byte{FormatVersion}
	var lit, first, count, end int // bytes in none; grains that go on from each other; where the last copy ended
	flush := func() {
		if lit > 0 {
			runs = binary.AppendUvarint(runs, uint64(lit)<<1)
		}
		if count > 0 {
			runs = binary.AppendUvarint(runs, uint64(count)<<1|1)
			runs = binary.AppendVarint(runs, int64(first-end))
			end = first + count
		}
		lit, count = 0, 0
	}
	for _, g := range cutGrains(next, nil) {
		part := next[:g.len]
		next = next[g.len:]
		if i := first + count; count > 0 && i < len(olds) && olds[i] == g.hash {
			count++
			continue
		}
		i, ok := at[g.hash]
		if end < len(olds) && count == 0 && olds[end] == g.hash {
			i, ok = end, true
		}
		switch {
		case ok && count > 0: // another copy
			flush()
			first, count = i, 1
		case ok:
			first, count = i, 1
		default:
			if count > 0 {
				flush()
			}
			lit += len(part)
			fresh = append(fresh, part...)
		}
	}
	flush()
	return runs, fresh
}

// Ungraft puts a new version of size bytes together of an old one, which the list
// was made of, and of what Graft made. What comes out is the new version only if its
// hash is.
func Ungraft(old, runs, fresh []byte, size int64) ([]byte, error) {
	d := decoder{b: runs}
	d.version()
	if size < 0 || size > MaxGraft || len(old) > MaxGraft {
		return nil, fmt.Errorf("rdc: graft of %d bytes on %d: %w", size, len(old), ErrFormat)
	}
	ends := []int{0}
	for _, g := range cutGrains(old, nil) {
		ends = append(ends, ends[len(ends)-1]+g.len)
	}
	out := make([]byte, 0, size)
	end := 0
	for d.err == nil && len(d.b) > 0 {
		n := d.uvarint(MaxGraft<<1 | 1)
		var part []byte
		if n&1 == 0 {
			if n>>1 > uint64(len(fresh)) {
				d.fail("more new bytes than came")
				break
			}
			part, fresh = fresh[:n>>1], fresh[n>>1:]
		} else {
			first := int64(end) + d.varint()
			if first < 0 || first >= int64(len(ends)) || n>>1 > uint64(int64(len(ends))-1-first) {
				d.fail("grains that the old version has not")
				break
			}
			end = int(first) + int(n>>1)
			part = old[ends[first]:ends[end]]
		}
		if n>>1 == 0 || len(part) > cap(out)-len(out) {
			d.fail("run that is empty or too long")
			break
		}
		out = append(out, part...)
	}
	if d.err == nil && (len(out) != int(size) || len(fresh) > 0) {
		d.fail("runs that do not add up")
	}
	if d.err != nil {
		return nil, fmt.Errorf("rdc: graft: %w", d.err)
	}
	return out, nil
}

// hashOf is the hash of a grain, 40 bits.
func hashOf(b []byte) uint64 { return xxhash.Sum64(b) >> 24 }
