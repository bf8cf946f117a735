// Package digest computes the BLAKE3 hash of long contents, as fast as the
// processor can.
//
// The hash is the one of the BLAKE3 paper, section 2, 32 bytes, without key. On a
// processor with AVX-512 a Hasher hashes sixteen chunks of 1 KiB in step; elsewhere
// it is that of github.com/zeebo/blake3, whose widest step is eight. What comes out
// is the same, below shortLen by that one everywhere.
//
// It does no I/O and starts no goroutines. The instructions in sixteen_amd64.s are
// written by tools/sixteen, which says what they mean.
package digest

import (
	"encoding/binary"
	"math/bits"
	"sync"

	"github.com/zeebo/blake3"
)

// Size is the length of a hash in bytes.
const Size = 32

const (
	blockLen = 64
	chunkLen = 1 << 10
	// groupLen is what sixteen takes at once, and mostLen what a Hasher does.
	groupLen = 16 * chunkLen
	mostLen  = 1 << 20
)

// The flags of a block.
const (
	chunkStart = 1 << iota
	chunkEnd
	parent
	root
)

// value is a chaining value: the hash of a subtree.
type value [Size]byte

// trees are the subtrees that what is hashed consists of: as many as chunks has
// bits set, with as many chunks as those say, the largest first. Something comes
// behind them, so that none is the root.
type trees struct {
	chunks uint64
	values [54]value // 2^64 bytes are 2^54 chunks
	n      int
}

// Hasher is a hash of what was written to it. It is for one goroutine at a time.
// Its zero value is not one: see New.
//
// Invariant: the bytes written are those of done and buf[:n] behind them; n is 0
// only if nothing was written.
type Hasher struct {
	narrow *blake3.Hasher // nil: this processor is wide
	done   trees
	buf    [groupLen]byte
	n      int
	values [mostLen / chunkLen * Size]byte // of what is being hashed
}

var pool = sync.Pool{New: func() any { return New() }}

// shortLen is the length below which the other implementation is as fast.
const shortLen = 32 << 10

// Sum256 is the hash of p.
func Sum256(p []byte) [Size]byte {
	if !wide || len(p) < shortLen {
		return blake3.Sum256(p)
	}
	h := pool.Get().(*Hasher)
	defer pool.Put(h)
	h.Reset()
	_, _ = h.Write(p) // it never fails
	return h.sum()
}

// New returns a Hasher of nothing.
func New() *Hasher {
	if !wide {
		return &Hasher{narrow: blake3.New()}
	}
	return new(Hasher)
}

// Reset makes h a Hasher of nothing.
func (h *Hasher) Reset() {
	if h.narrow != nil {
		h.narrow.Reset()
	}
	h.done.chunks, h.done.n, h.n = 0, 0, 0
}

// Write takes the next bytes. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	if h.narrow != nil {
		return h.narrow.Write(p)
	}
	all := len(p)
	for len(p) > 0 {
		if h.n == groupLen {
			h.subtree(h.buf[:])
			h.n = 0
		}
		if h.n == 0 && len(p) > groupLen {
			n := h.fits(len(p))
			h.subtree(p[:n])
			p = p[n:]
			continue
		}
		n := copy(h.buf[h.n:], p)
		h.n += n
		p = p[n:]
	}
	return all, nil
}

// fits is the length of the largest subtree that may follow what is hashed and is
// shorter than n, which is more than groupLen.
func (h *Hasher) fits(n int) int {
	size := min(mostLen, 1<<(bits.Len(uint(n-1))-1))
	for h.done.chunks%uint64(size/chunkLen) != 0 {
		size /= 2
	}
	return size
}

// subtree takes the next bytes, a power of two of at least groupLen that fits.
func (h *Hasher) subtree(p []byte) {
	n := len(p) / chunkLen
	h.hashChunks(p, n)
	for width := n / 2; width > 0; width /= 2 {
		// In its place: the values that a step reads are behind those that it writes,
		// or are read first.
		for i := 0; i < width; i += 16 {
			sixteen(&h.values[2*Size*i], 2*Size, 1, 0, parent, 0, 0, 0, &h.values[Size*i])
		}
	}
	h.done.push(value(h.values[:Size]), n)
}

// hashChunks makes the values of the next n chunks. p holds those, and what else
// there is up to a multiple of groupLen, which is hashed in vain.
func (h *Hasher) hashChunks(p []byte, n int) {
	for i := 0; i < n; i += 16 {
		sixteen(&p[i*chunkLen], chunkLen, chunkLen/blockLen, h.done.chunks+uint64(i), 0, chunkStart, chunkEnd, 1, &h.values[Size*i])
	}
}

// push adds the value of a subtree of n chunks, behind which something comes.
func (t *trees) push(v value, n int) {
	t.chunks += uint64(n)
	for count := t.chunks / uint64(n); count%2 == 0; count /= 2 {
		t.n--
		v = join(&t.values[t.n], &v, 0)
	}
	t.values[t.n] = v
	t.n++
}

// Sum appends the hash of all that was written to b. h may be written to further.
func (h *Hasher) Sum(b []byte) []byte {
	if h.narrow != nil {
		return h.narrow.Sum(b)
	}
	v := h.sum()
	return append(b, v[:]...)
}

func (h *Hasher) sum() value {
	if h.done.n == 0 {
		return blake3.Sum256(h.buf[:h.n]) // too little to be taken in step
	}
	whole := max(0, h.n-1) / chunkLen // behind which there is something
	h.hashChunks(h.buf[:], whole)
	done := h.done
	for i := range whole {
		done.push(value(h.values[Size*i:]), 1)
	}
	v := lastChunk(h.buf[whole*chunkLen:h.n], done.chunks)
	for i := done.n - 1; i >= 0; i-- {
		flag := uint32(0)
		if i == 0 {
			flag = root
		}
		v = join(&done.values[i], &v, flag)
	}
	return v
}

// join is the value of the subtree over two.
func join(left, right *value, flag uint32) value {
	var block [blockLen]byte
	copy(block[:], left[:])
	copy(block[Size:], right[:])
	cv := iv
	compress(&cv, &block, 0, blockLen, parent|flag)
	return bytesOf(&cv)
}

// lastChunk is the value of the chunk that ends the content, at most chunkLen
// bytes, and is not the only one.
func lastChunk(p []byte, counter uint64) value {
	cv, flags := iv, uint32(chunkStart)
	for {
		var block [blockLen]byte
		n := copy(block[:], p)
		p = p[n:]
		if len(p) == 0 {
			flags |= chunkEnd
		}
		compress(&cv, &block, counter, uint32(n), flags)
		if len(p) == 0 {
			return bytesOf(&cv)
		}
		flags = 0
	}
}

func bytesOf(cv *[8]uint32) (v value) {
	for i, w := range cv {
		binary.LittleEndian.PutUint32(v[4*i:], w)
	}
	return v
}
