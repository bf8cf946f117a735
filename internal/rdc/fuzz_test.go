package rdc

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// Whatever a decoder takes, it gives back byte for byte: there is one form of
// everything, and it is within its limits.

func FuzzDecodeSignature(f *testing.F) {
	for _, n := range []int{0, 1, 70_000, 2 << 20} {
		b := signBytes(f, random(n)).sig.Encode(nil)
		f.Add(b[:len(b)-checksumSize])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = binary.BigEndian.AppendUint64(bytes.Clone(b), xxhash.Sum64(b)) // to come behind it
		s, err := DecodeSignature(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Encode(nil), b) {
			t.Fatal("decodes to what encodes otherwise")
		}
		s.ID()
	})
}

func FuzzDecodeNeeds(f *testing.F) {
	seeds := []int64{1 << 20, 77}
	for _, n := range []Needs{
		{},
		{Size: 5, Runs: []Run{{Fetch, 0, 5}}},
		{Size: 1 << 20, Runs: []Run{{0, 100, 500}, {Fetch, 500, 1 << 19}, {0, 0, 1<<19 - 577}, {1, 0, 77}}},
	} {
		n.Size = 0
		for _, r := range n.Runs {
			n.Size += r.Len
		}
		f.Add(n.Encode(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := DecodeNeeds(b, seeds)
		if err != nil {
			return
		}
		if !bytes.Equal(n.Encode(nil), b) {
			t.Fatal("decodes to what encodes otherwise")
		}
		if err := n.check(seeds); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add(Request{0, []int{0, 1, 2, 900}}.Encode(nil))
	f.Add(Request{3, []int{MaxChunks - 1}}.Encode(nil))
	v := signBytes(f, random(5<<20))
	tree := NewTree(v.sig)
	f.Add(Request{1, []int{0}}.Encode(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := DecodeRequest(b)
		if err != nil {
			return
		}
		if !bytes.Equal(q.Encode(nil), b) {
			t.Fatal("decodes to what encodes otherwise")
		}
		reply, err := tree.Answer(nil, q, v.fine.Pieces)
		if err == nil && (len(reply) > MaxReply || len(reply) < 2) {
			t.Fatalf("reply of %d bytes", len(reply))
		}
	})
}

func FuzzDecodeOffer(f *testing.F) {
	f.Add(Offer{}.Encode(nil))
	f.Add(NewTree(signBytes(f, random(1<<20)).sig).Offer().Encode(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := DecodeOffer(b); err == nil && !bytes.Equal(o.Encode(nil), b) {
			t.Fatal("decodes to what encodes otherwise")
		}
	})
}

// FuzzReply lets the other side answer with anything.
func FuzzReply(f *testing.F) {
	v := signBytes(f, random(5<<20))
	tree := NewTree(v.sig)
	var nodes [][]byte
	_, _, err := Sync(tree.Offer(), nil, func(q Request) ([]byte, error) {
		r, err := tree.Answer(nil, q, v.fine.Pieces)
		nodes = append(nodes, r)
		return r, err
	})
	if err != nil {
		f.Fatal(err)
	}
	pieces, err := tree.Answer(nil, Request{0, []int{0, 1}}, v.fine.Pieces)
	if err != nil {
		f.Fatal(err)
	}
	for _, n := range nodes {
		f.Add(n, pieces)
	}
	f.Fuzz(func(t *testing.T, node, piece []byte) {
		rounds := 0
		ask := func(q Request) ([]byte, error) {
			if rounds++; rounds > 100 {
				t.Fatal("asks for ever")
			}
			if q.Level == 0 {
				return piece, nil
			}
			return node, nil
		}
		if sig, err := Learn(tree.Offer(), nil, ask); err == nil && sig.ID() != tree.Offer().Sum {
			t.Fatal("learnt what was not offered")
		}
		_ = AskPieces(v.sig, ask)([]int{0, 1}, func(i int, ps []Piece) error { return checkPieces(ps, v.sig.Chunks[i]) })
	})
}

func FuzzDecodeGrainRequest(f *testing.F) {
	f.Add(GrainRequest{[]Range{{0, 100}, {100, rangeMax}, {1 << 40, 1}}}.Encode(nil))
	f.Add(GrainRequest{[]Range{{7, 5000}, {90_000, 64}}}.Encode(nil))
	data := random(100_000)
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := DecodeGrainRequest(b)
		if err != nil {
			return
		}
		if !bytes.Equal(q.Encode(nil), b) {
			t.Fatal("decodes to what encodes otherwise")
		}
		reply, err := AnswerGrains(nil, q, bytes.NewReader(data), int64(len(data)))
		if err == nil && (len(reply) > MaxReply || len(reply) < 2) {
			t.Fatalf("reply of %d bytes", len(reply))
		}
	})
}

// FuzzGrainReply lets the other side answer with anything: what comes out is a
// list of needs of the same file, or an error.
func FuzzGrainReply(f *testing.F) {
	old := random(64 << 10)
	sizes := []int64{int64(len(old))}
	needs := &Needs{Size: 60_000, Runs: []Run{{0, 0, 10_000}, {Fetch, 10_000, 1000}, {0, 12_000, 9000}, {Fetch, 20_000, 40_000}}}
	seeds := []io.ReaderAt{bytes.NewReader(old)}
	_, err := Refine(needs, seeds, sizes, func(q GrainRequest) ([]byte, error) {
		reply, err := AnswerGrains(nil, q, bytes.NewReader(old), sizes[0])
		f.Add(reply)
		return reply, err
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		better, err := Refine(needs, seeds, sizes, func(GrainRequest) ([]byte, error) { return reply, nil })
		if err != nil {
			return
		}
		if err := better.check(sizes); err != nil || better.Size != needs.Size {
			t.Fatalf("%d bytes: %v", better.Size, err)
		}
	})
}

func FuzzOpenFine(f *testing.F) {
	data := random(300_000)
	var kept bytes.Buffer
	sig, _, err := Sign(bytes.NewReader(data), Options{Fine: &kept})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(kept.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if tail := 2*len(sig.Chunks) + fineFoot; len(b) >= tail { // to come behind the checksum
			b = bytes.Clone(b)
			end := len(b) - checksumSize
			binary.BigEndian.PutUint64(b[end:], xxhash.Sum64(b[len(b)-tail:end]))
		}
		fine, err := OpenFine(bytes.NewReader(b), int64(len(b)), sig)
		if err != nil {
			return
		}
		for i := range sig.Chunks {
			_ = fine.Pieces([]int{i}, func(i int, ps []Piece) error {
				if err := checkPieces(ps, sig.Chunks[i]); err != nil {
					t.Fatal(err)
				}
				return nil
			})
		}
	})
}

func FuzzSign(f *testing.F) {
	f.Add([]byte{0}, 200_000, 3)
	f.Add([]byte("abcabd"), 700_000, 65536)
	f.Fuzz(func(t *testing.T, period []byte, n, step int) {
		if len(period) == 0 || n < 0 || n > 1<<20 || step < 1 {
			return
		}
		b := bytes.Repeat(period, n/len(period)+1)
		chunks, pieces := plainChunks(b)
		v := signBytes(t, b)
		if !slices.Equal(v.sig.Chunks, chunks) {
			t.Fatal("chunks differ from those of the rule")
		}
		for i := range chunks {
			err := v.fine.Pieces([]int{i}, func(_ int, ps []Piece) error {
				if !slices.Equal(ps, pieces[i]) {
					t.Fatal("pieces differ from those of the rule")
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}
