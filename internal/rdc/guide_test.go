package rdc

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/iotest"
)

// TestAGuideChangesNothing: whatever the version is that a guide describes, the signature and the fine level are those that are made without one.
func TestAGuideChangesNothing(t *testing.T) {
	old := random(3 << 20)
	fresh := func(seed uint64, n int) []byte {
		b := make([]byte, n)
		stretch{stream: 1000 + seed}.read(b, 0)
		return b
	}
	overwritten := slices.Clone(old)
	for i := range 5 {
		copy(overwritten[(i+1)*500_000:], fresh(uint64(i), 4096))
	}
	files := map[string][]byte{
		"the same":           old,
		"a byte at the head": slices.Concat([]byte{1}, old),
		"overwritten":        overwritten,
		"insertions":         slices.Concat(old[:1_000_000], fresh(1, 700_000), old[1_000_000:2_000_000], fresh(2, 5), old[2_000_000:]),
		"a large removal":    slices.Concat(old[:800_000], old[2_000_000:]),
		"moved":              slices.Concat(old[1_500_000:], old[:1_500_000]),
		"longer":             slices.Concat(old, fresh(3, 600_000)),
		"a little longer":    slices.Concat(old, []byte{7}),
		"shorter":            old[:2_500_001],
		"twice":              slices.Concat(old, old),
		"another":            fresh(4, 1<<20),
		"empty":              nil,
		"zeros":              make([]byte, 2<<20),
	}
	guides := map[string]Seed{"old": signBytes(t, old).seed(), "zeros": signBytes(t, files["zeros"]).seed(), "empty": signBytes(t, nil).seed()}
	for name, data := range files {
		var plain bytes.Buffer
		want, sum, err := Sign(bytes.NewReader(data), Options{Fine: &plain})
		for guide, seed := range guides {
			for _, workers := range []int{1, 2} {
				var guided bytes.Buffer
				got, sum2, err2 := Sign(iotest.HalfReader(bytes.NewReader(data)), Options{Fine: &guided, Like: &seed, Workers: workers})
				if err != nil || err2 != nil || sum != sum2 {
					t.Fatalf("%s like %s: %v, %v", name, guide, err, err2)
				}
				if !reflect.DeepEqual(want, got) || !bytes.Equal(plain.Bytes(), guided.Bytes()) {
					t.Errorf("%s like %s with %d workers: another signature than without a guide", name, guide, workers)
				}
			}
		}
	}
}

// TestAGuideSavesTheCutting: chunks of which nothing changed are taken over, behind insertions and removals too.
func TestAGuideSavesTheCutting(t *testing.T) {
	old := random(8 << 20)
	next := slices.Concat(old[:1_000_000], random(5), old[1_000_000:3_000_000], old[5_000_000:])
	o := signBytes(t, old)
	asked := 0
	seed := Seed{o.sig, func(chunks []int, each func(int, []Piece) error) error {
		asked += len(chunks)
		return o.seed().Pieces(chunks, each)
	}}
	s := NewSigner(Options{Like: &seed})
	if _, err := io.Copy(s, bytes.NewReader(next)); err != nil {
		t.Fatal(err)
	}
	g := s.guide
	if _, err := s.Finish(); err != nil {
		t.Fatal(err)
	}
	if n := len(o.sig.Chunks); g.next != n || asked > 3*n {
		t.Errorf("the guide of %d chunks expects %d and was asked for %d", n, g.next, asked)
	}
}

// TestADamagedGuideIsLeft: a guide that cannot be read ends, and the signature is made without it.
func TestADamagedGuideIsLeft(t *testing.T) {
	old := random(4 << 20)
	o := signBytes(t, old)
	damaged := Seed{o.sig, func([]int, func(int, []Piece) error) error { return errors.New("bad sector") }}
	got, _, err := Sign(bytes.NewReader(old), Options{Like: &damaged})
	if err != nil || !reflect.DeepEqual(got, o.sig) {
		t.Errorf("signature differs from that without a guide (%v)", err)
	}
}

// TestFeedGivesEveryoneAll: each taker gets all, in order, and the first error ends it.
func TestFeedGivesEveryoneAll(t *testing.T) {
	data := random(2<<20 + 17)
	for _, apart := range []bool{false, true} {
		var a, b bytes.Buffer
		n, err := Feed(iotest.OneByteReader(io.MultiReader(bytes.NewReader(data[:100]), iotest.DataErrReader(bytes.NewReader(data[100:1000])))), apart, &a)
		if err != nil || n != 1000 || !bytes.Equal(a.Bytes(), data[:1000]) {
			t.Errorf("%d bytes, %v", n, err)
		}
		a.Reset()
		if n, err := Feed(bytes.NewReader(data), apart, &a, &b); err != nil || n != int64(len(data)) || !bytes.Equal(a.Bytes(), data) || !bytes.Equal(b.Bytes(), data) {
			t.Errorf("%d bytes, %v", n, err)
		}
		full := errors.New("disk is full")
		if _, err := Feed(io.MultiReader(bytes.NewReader(data), rand.NewChaCha8([32]byte{})), apart, io.Discard, broken{full}); !errors.Is(err, full) {
			t.Errorf("a taker's error came out as %v", err)
		}
		if _, err := Feed(rand.NewChaCha8([32]byte{}), apart, broken{full}, io.Discard); !errors.Is(err, full) {
			t.Errorf("the error of the taker that the reader serves came out as %v", err)
		}
		gone := errors.New("link is gone")
		if _, err := Feed(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(gone)), apart, io.Discard); !errors.Is(err, gone) {
			t.Errorf("the reader's error came out as %v", err)
		}
		a.Reset()
		long := bytes.Repeat(data, feedLong/len(data)+2) // pieces are longer behind feedLong bytes
		if n, err := Feed(iotest.HalfReader(bytes.NewReader(long)), apart, &a, io.Discard); err != nil || n != int64(len(long)) || !bytes.Equal(a.Bytes(), long) {
			t.Errorf("%d bytes, %v", n, err)
		}
		if n, err := Feed(bytes.NewReader(data), apart); err != nil || n != int64(len(data)) {
			t.Errorf("nobody: %d, %v", n, err)
		}
	}
}

type broken struct{ err error }

func (f broken) Write([]byte) (int, error) { return 0, f.err }

// TestRunsNameTheChunks: who puts a version together knows its chunks without looking at them, and comes to the same signature; without pieces
// to the same chunks.
func TestRunsNameTheChunks(t *testing.T) {
	old := random(4 << 20)
	next := slices.Concat(old[:1_000_000], random(70_000), old[1_000_000:2_000_000], old[2_100_000:], old[:300_000])
	o, n := signBytes(t, old), signBytes(t, next)
	needs, err := Match(n.seed(), []Seed{o.seed()})
	if err != nil {
		t.Fatal(err)
	}
	seed := o.seed()
	var want bytes.Buffer
	if _, _, err := Sign(bytes.NewReader(next), Options{Fine: &want}); err != nil {
		t.Fatal(err)
	}
	for i, piece := range []int{len(next), len(next), 1 << 20, 128 << 10, 70_001, 999} {
		coarse := i == 0
		var fine bytes.Buffer
		s := NewSigner(Options{Like: &seed, Runs: needs, ChunksOnly: coarse, Fine: &fine, Workers: i % 3})
		for p := range slices.Chunk(next, piece) {
			if _, err := s.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		if left := len(s.guide.runs); left > 2 {
			t.Errorf("%d runs were not looked at", left)
		}
		got, err := s.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Chunks, n.sig.Chunks) || !coarse && got.Traits != n.sig.Traits {
			t.Errorf("pieces of %d, chunks only %v: another signature", piece, coarse)
		}
		if !coarse && !bytes.Equal(fine.Bytes(), want.Bytes()) {
			t.Errorf("pieces of %d: another fine level", piece)
		}
	}
	s := NewSigner(Options{Like: &seed, Runs: needs, ChunksOnly: true})
	if _, err := s.Write(next[:len(next)-300_000]); err != nil {
		t.Fatal(err)
	}
	if sig, err := s.Finish(); err == nil && sig.Size != int64(len(next)-300_000) {
		t.Errorf("a file that ends before its runs do is signed with %d bytes", sig.Size)
	}
	s = NewSigner(Options{Like: &seed, Runs: needs, ChunksOnly: true})
	if _, err := s.Write(next[:10]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Finish(); !errors.Is(err, ErrMismatch) {
		t.Errorf("a file that ends amidst a chunk that is known is signed: %v", err)
	}
}
