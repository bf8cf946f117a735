package rdc

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

// plainCut is the rule as the document states it, byte for byte.
func plainCut(b []byte, least, most int, mark uint64) int {
	var h uint64
	for i := least; i < min(len(b), most); i++ {
		if h = h<<1 + gear[b[i]]; h > mark {
			return i + 1
		}
	}
	return min(len(b), most)
}

func plainChunks(b []byte) (chunks []Chunk, pieces [][]Piece) {
	for len(b) > 0 {
		n := plainCut(b, ChunkMin, ChunkMax, chunkMark)
		c := b[:n]
		chunks = append(chunks, Chunk{uint32(n), sumOf(c)})
		var ps []Piece
		for len(c) > 0 {
			k := plainCut(c, PieceMin, PieceMax, pieceMark)
			ps = append(ps, Piece{uint16(k), xxhash.Sum64(c[:k])})
			c = c[k:]
		}
		pieces = append(pieces, ps)
		b = b[n:]
	}
	return chunks, pieces
}

// content draws bytes of the kinds that cutting may meet.
func content(t *rapid.T, most int, name string) []byte {
	var b []byte
	for range rapid.IntRange(0, 4).Draw(t, name) {
		n := rapid.IntRange(0, most/4).Draw(t, "len")
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			b = append(b, make([]byte, n)...)
		case 1:
			p := rapid.SliceOfN(rapid.Byte(), 1, 70).Draw(t, "period")
			b = append(b, bytes.Repeat(p, n/len(p)+1)[:n]...)
		default:
			part := make([]byte, n)
			stretch{stream: uint64(rapid.IntRange(0, 5).Draw(t, "stream"))}.read(part, 0)
			b = append(b, part...)
		}
	}
	return b
}

func TestEveryWayToSignGivesTheCutsOfTheRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := content(t, 3<<20, "stretches")
		chunks, pieces := plainChunks(b)
		var kept [2]bytes.Buffer
		one, sum1, err := Sign(iotest.HalfReader(bytes.NewReader(b)), Options{Fine: &kept[0]})
		if err != nil {
			t.Fatal(err)
		}
		two, sum2, err := Sign(bytes.NewReader(b), Options{Workers: 3, Fine: &kept[1]})
		if err != nil {
			t.Fatal(err)
		}
		s := NewSigner(Options{ChunksOnly: true, Workers: 2})
		for rest := b; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "write")
			if _, err := s.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		coarse, err := s.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(one.Chunks, chunks) || !slices.Equal(two.Chunks, chunks) || !slices.Equal(coarse.Chunks, chunks) {
			t.Fatal("chunks differ from those of the rule")
		}
		if sum1 != sum2 || one.Traits != two.Traits || !bytes.Equal(kept[0].Bytes(), kept[1].Bytes()) {
			t.Fatal("the number of workers changed the result")
		}
		fine, err := OpenFine(bytes.NewReader(kept[0].Bytes()), int64(kept[0].Len()), one)
		if err != nil {
			t.Fatal(err)
		}
		all := make([]int, len(chunks))
		for i := range all {
			all[i] = i
		}
		for _, f := range []PieceFunc{fine.Pieces, CutPieces(bytes.NewReader(b), one)} {
			seen := 0
			err := f(all, func(i int, ps []Piece) error {
				if seen++; !slices.Equal(ps, pieces[i]) {
					t.Fatalf("pieces of chunk %d differ from those of the rule", i)
				}
				return nil
			})
			if err != nil || seen != len(all) {
				t.Fatalf("%d chunks of %d: %v", seen, len(all), err)
			}
		}
	})
}

// edit draws a change of b: a part dropped, bytes put in, a block moved or
// doubled.
func edit(t *rapid.T, b []byte) []byte {
	at := rapid.IntRange(0, len(b)).Draw(t, "at")
	end := min(len(b), at+rapid.IntRange(0, 300_000).Draw(t, "drop"))
	to := rapid.IntRange(0, len(b)).Draw(t, "to")
	switch rapid.IntRange(0, 3).Draw(t, "edit") {
	case 0:
		return slices.Concat(b[:at], b[end:])
	case 1:
		in := make([]byte, rapid.IntRange(0, 5000).Draw(t, "in"))
		stretch{stream: rapid.Uint64().Draw(t, "new")}.read(in, 0)
		return slices.Concat(b[:at], in, b[end:])
	case 2:
		rest := slices.Concat(b[:at], b[end:])
		to = min(to, len(rest))
		return slices.Concat(rest[:to], b[at:end], rest[to:])
	default:
		return slices.Concat(b[:to], b[at:end], b[to:])
	}
}

func TestPatchOfNeedsIsTheNewVersion(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		old := content(r, 2<<20, "old")
		other := content(r, 1<<20, "other")
		next := old
		for range rapid.IntRange(0, 5).Draw(r, "edits") {
			next = edit(r, next)
		}
		if rapid.Bool().Draw(r, "mixed") {
			next = slices.Concat(next, other)
		}
		o, p, n := signBytes(t, old), signBytes(t, other), signBytes(t, next)
		w, pulled := pull(t, n, o, p)
		v, pushed := push(t, n, o, p)
		if w.literals != v.literals || !slices.Equal(pulled.Runs, pushed.Runs) {
			r.Fatalf("asking gives other needs than knowing: %+v and %+v", pulled, pushed)
		}
		// Without pieces, and with pieces cut again, it is the same file too.
		for _, s := range []Seed{{Sig: o.sig}, {o.sig, CutPieces(o.data, o.sig)}} {
			needs, err := Match(n.seed(), []Seed{s})
			if err != nil {
				r.Fatal(err)
			}
			var out bytes.Buffer
			if err := Patch(&out, needs, []io.ReaderAt{o.data}, literals(needs, n.data), n.sum); err != nil {
				r.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), next) {
				r.Fatal("another file came out")
			}
		}
	})
}
