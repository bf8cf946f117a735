package digest

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/zeebo/blake3"
)

// content is n bytes that are the same every time.
func content(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b) // it never fails
	return b
}

// agree holds the hash of p, written in pieces of what next says, against the other implementation.
func agree(t *testing.T, h *Hasher, p []byte, next func() int) {
	t.Helper()
	h.Reset()
	for left := p; len(left) > 0; {
		n := min(max(1, next()), len(left))
		if k, err := h.Write(left[:n]); k != n || err != nil {
			t.Fatalf("Write of %d bytes returned %d, %v", n, k, err)
		}
		left = left[n:]
	}
	want := blake3.Sum256(p)
	if got := h.Sum(nil); !bytes.Equal(got, want[:]) {
		t.Fatalf("hash of %d bytes is %x, want %x", len(p), got, want)
	}
	if got := Sum256(p); got != want {
		t.Fatalf("Sum256 of %d bytes is %x, want %x", len(p), got, want)
	}
}

// TestEveryLength goes through all shapes of a tree up to a few groups, and of large ones around their edges.
func TestEveryLength(t *testing.T) {
	all := content(5 << 20)
	h := New()
	for n := 0; n < 3*groupLen; n += 61 {
		agree(t, h, all[:n], func() int { return n })
	}
	for size := chunkLen; size <= 4<<20; size *= 2 {
		for _, n := range []int{size - 1, size, size + 1, size + chunkLen, size + groupLen, size + groupLen + 1} {
			agree(t, h, all[:n], func() int { return n })
		}
	}
}

// TestEveryCut writes a content in pieces of all kinds: what the hash is does not depend on them.
func TestEveryCut(t *testing.T) {
	all := content(3<<20 + 12345)
	chance := rand.New(rand.NewPCG(1, 2))
	h := New()
	for _, most := range []int{100, blockLen, chunkLen, groupLen, 100_000, 1 << 20, 3 << 20} {
		agree(t, h, all, func() int { return chance.IntN(most) })
		agree(t, h, all, func() int { return most })
	}
}

// TestSumGoesOn asks for the hash on the way: what is written behind that counts as ever.
func TestSumGoesOn(t *testing.T) {
	all := content(1<<20 + 777)
	h, other := New(), blake3.New()
	for at := 0; at < len(all); at += 9973 {
		p := all[at:min(len(all), at+9973)]
		_, _ = h.Write(p)     // neither of them
		_, _ = other.Write(p) // ever fails
		if got, want := h.Sum([]byte("x")), other.Sum([]byte("x")); !bytes.Equal(got, want) {
			t.Fatalf("after %d bytes the hash is %x, want %x", at+len(p), got, want)
		}
	}
}

// TestFarCounters hashes chunks whose numbers need more than 32 bits, as those behind 4 TiB do.
func TestFarCounters(t *testing.T) {
	if !wide {
		t.Skip("this processor has no AVX-512")
	}
	all := content(groupLen)
	for _, counter := range []uint64{0, 1<<32 - 16, 1 << 32, 5<<32 + 1<<20} {
		h := New()
		h.done.chunks = counter
		h.hashChunks(all, 16)
		for i := range 16 {
			cv := iv
			for b := range chunkLen / blockLen {
				flags := uint32(0)
				if b == 0 {
					flags = chunkStart
				}
				if b == chunkLen/blockLen-1 {
					flags |= chunkEnd
				}
				compress(&cv, (*[blockLen]byte)(all[i*chunkLen+b*blockLen:]), counter+uint64(i), blockLen, flags)
			}
			if got := value(h.values[Size*i:]); got != bytesOf(&cv) {
				t.Fatalf("chunk %d has the value %x, want %x", counter+uint64(i), got, bytesOf(&cv))
			}
		}
	}
}

// TestNarrow is a Hasher of a processor that cannot take sixteen in step.
func TestNarrow(t *testing.T) {
	all := content(1<<20 + 12345)
	agree(t, &Hasher{narrow: blake3.New()}, all, func() int { return 100_000 })
}

func FuzzHasher(f *testing.F) {
	f.Add([]byte("abc"), 1, 1)
	f.Add(content(5000), 64, 1000)
	f.Add(content(100), 3000, 40000)
	f.Fuzz(func(t *testing.T, p []byte, times, cut int) {
		if len(p) == 0 {
			return
		}
		all := bytes.Repeat(p, 1+max(0, times)%(1+(2<<20)/len(p)))
		agree(t, New(), all, func() int { return cut })
	})
}

func BenchmarkHasher(b *testing.B) {
	all := content(64 << 20)
	h := New()
	b.SetBytes(int64(len(all)))
	for b.Loop() {
		h.Reset()
		for at := 0; at < len(all); at += 1 << 20 {
			_, _ = h.Write(all[at : at+1<<20]) // it never fails
		}
		h.Sum(nil)
	}
}

func BenchmarkSum256(b *testing.B) {
	for _, n := range []int{1 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10} {
		all := content(n)
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				Sum256(all)
			}
		})
	}
}
