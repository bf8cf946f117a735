package volume

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// newSparse is a sparse writer of a new file, with space allocated ahead or not.
func newSparse(t *testing.T, ahead int64) (*sparse, *os.File) {
	t.Helper()
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	s := &sparse{fd: newFD(int(f.Fd()))}
	if ahead > 0 {
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, ahead); err != nil {
			t.Skipf("SKIPPED: %v", err)
		}
		s.reserved = true
	}
	return s, f
}

// TestSparseSame: whatever is appended and placed, the file reads as a plain one.
func TestSparseSame(t *testing.T) {
	for seed := range uint64(40) {
		ahead := int64(seed%2) * 300_000
		s, f := newSparse(t, ahead)
		rng := rand.New(rand.NewPCG(seed, 1))
		var want []byte
		for range 60 {
			p := make([]byte, 1+rng.IntN(3*holeSize))
			for i := 0; i < len(p); { // runs of zeros and of others
				n := min(1+rng.IntN(2*holeSize), len(p)-i)
				if rng.IntN(2) == 0 {
					copy(p[i:], bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, n))
				}
				i += n
			}
			if rng.IntN(6) == 0 && len(want) > 0 { // over what is there
				off := rng.IntN(len(want))
				p = p[:min(len(p), len(want)-off)]
				if err := s.place(p, int64(off)); err != nil {
					t.Fatal(err)
				}
				copy(want[off:], p)
				continue
			}
			if err := s.append(p); err != nil {
				t.Fatal(err)
			}
			want = append(want, p...)
		}
		if err := s.finish(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.Name())
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %d bytes were written, %d are read, equal %v, error %v", seed, len(want), len(got), bytes.Equal(got, want), err)
		}
	}
}

// TestSparseHoles: blocks of zeros take no space, in whichever pieces they come, also where space was allocated ahead.
func TestSparseHoles(t *testing.T) {
	data := make([]byte, 1<<20)
	copy(data[300_000:], bytes.Repeat([]byte("x"), 10_000))
	copy(data[1<<20-5:], "there")
	const want = " 299008-311296 1044480-1048576"
	for _, ahead := range []int64{0, 1 << 20} {
		for _, chunk := range []int{1 << 20, 32 << 10, 10_000, 4097, 100} {
			s, f := newSparse(t, ahead)
			for p := range slices.Chunk(data, chunk) {
				if err := s.append(p); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.finish(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.ReadFile(f.Name()); err != nil { // what is read and only allocated counts as data
				t.Fatal(err)
			}
			got := ""
			for at := int64(0); ; {
				from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
				if err != nil {
					break
				}
				if at, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
					t.Fatal(err)
				}
				got += fmt.Sprintf(" %d-%d", from, at)
			}
			if got != want {
				t.Errorf("in pieces of %d, %d bytes ahead: data lie at%s, want%s", chunk, ahead, got, want)
			}
		}
	}
}
