package rdc

import (
	"slices"

	"github.com/cespare/xxhash/v2"
)

// guideMax bounds the chunks of a guide that are found where they are not
// expected: 40 GiB of a file as a rule, in a few MB of memory.
const guideMax = 1 << 18

// guide is the signature of a version that the one being signed may have much of.
// A chunk that is there too need not be cut and hashed again. Where it is told
// how the new version is put together, the chunk is known by its place; else by
// its pieces. A guide changes nothing of the signature and is never believed, but
// for the hashes of pieces, as a match is.
type guide struct {
	seed  Seed
	next  int            // the chunk that is expected
	index map[uint64]int // the chunks by the hash of their first piece; nil: not made yet
	one   [1]int

	runs []Run // of the new version, those that are behind left out; nil: not told
	from int64 // where the first of them begins
	offs []int64
}

func newGuide(opt *Options) *guide {
	seed := opt.Like
	if seed == nil || seed.Sig == nil || len(seed.Sig.Chunks) == 0 {
		return nil
	}
	if seed.Pieces == nil && !opt.ChunksOnly || opt.Runs == nil && opt.ChunksOnly {
		return nil
	}
	g := &guide{seed: *seed}
	if opt.ChunksOnly {
		g.seed.Pieces = noPieces
	}
	if opt.Runs != nil {
		g.runs, g.offs = opt.Runs.Runs, seed.Sig.offsets()
	}
	return g
}

// noPieces gives none for any chunk.
func noPieces(chunks []int, each func(int, []Piece) error) error {
	for _, i := range chunks {
		if err := each(i, nil); err != nil {
			return err
		}
	}
	return nil
}

// chunk returns the chunk that b begins with, if the guide has it, and appends
// its pieces to out. b lies at at and holds ChunkMax bytes or, at the end, all that
// the file still has. What the guide cannot read makes it end.
func (g *guide) chunk(b []byte, at int64, end bool, out []Piece) (Chunk, []Piece, bool) {
	if g == nil {
		return Chunk{}, out, false
	}
	if g.offs != nil {
		if i, ok := g.copied(at); ok && int64(g.seed.Sig.Chunks[i].Len) <= g.from+g.runs[0].Len-at {
			return g.is(i, b, end, out)
		}
		return Chunk{}, out, false
	}
	if c, pieces, ok := g.is(g.next, b, end, out); ok {
		g.next++
		return c, pieces, true
	}
	if i, ok := g.find(b); ok && i != g.next {
		if c, pieces, ok := g.is(i, b, end, out); ok {
			g.next = i + 1
			return c, pieces, true
		}
	}
	g.next++ // a miss is taken for one chunk in the place of one
	return Chunk{}, out, false
}

// placed returns the chunk that begins at at, if it is known by its place and lies whole
// within its run: none of its bytes is needed to know it. The last chunk of the guide is
// not, see is.
func (g *guide) placed(at int64, out []Piece) (Chunk, []Piece, bool) {
	if g == nil || g.offs == nil || g.seed.Pieces == nil {
		return Chunk{}, out, false
	}
	i, ok := g.copied(at)
	chunks := g.seed.Sig.Chunks
	if !ok || i == len(chunks)-1 || int64(chunks[i].Len) > g.from+g.runs[0].Len-at {
		return Chunk{}, out, false
	}
	n := len(out)
	g.one[0] = i
	err := g.seed.Pieces(g.one[:], func(_ int, pieces []Piece) error {
		out = append(out, pieces...)
		return nil
	})
	if err != nil {
		g.seed.Pieces = nil // a damaged guide: the rest is cut
		return Chunk{}, out[:n], false
	}
	return chunks[i], out, true
}

// copied finds the chunk of the guide whose first byte was copied to at.
func (g *guide) copied(at int64) (int, bool) {
	for len(g.runs) > 0 && g.from+g.runs[0].Len <= at {
		g.from += g.runs[0].Len
		g.runs = g.runs[1:]
	}
	if len(g.runs) == 0 || g.runs[0].Seed != 0 {
		return 0, false
	}
	return slices.BinarySearch(g.offs[:len(g.offs)-1], g.runs[0].Off+at-g.from)
}

// is reports whether b begins with chunk i of the guide. The last one of the guide
// ends where its file did, and so only where this one does.
func (g *guide) is(i int, b []byte, end bool, out []Piece) (Chunk, []Piece, bool) {
	chunks := g.seed.Sig.Chunks
	if i >= len(chunks) || g.seed.Pieces == nil {
		return Chunk{}, out, false
	}
	c, n := chunks[i], len(out)
	if int(c.Len) > len(b) || i == len(chunks)-1 && !(end && int(c.Len) == len(b)) {
		return Chunk{}, out, false
	}
	same := g.offs != nil
	g.one[0] = i
	err := g.seed.Pieces(g.one[:], func(_ int, pieces []Piece) error {
		same = same || begins(b[:c.Len], pieces)
		if same {
			out = append(out, pieces...)
		}
		return nil
	})
	if err != nil {
		g.seed.Pieces = nil // a damaged guide: the rest is cut
	}
	if !same || err != nil {
		return Chunk{}, out[:n], false
	}
	return c, out, true
}

// begins reports whether b consists of pieces.
func begins(b []byte, pieces []Piece) bool {
	for _, p := range pieces {
		if int(p.Len) > len(b) || xxhash.Sum64(b[:p.Len]) != p.Hash {
			return false
		}
		b = b[p.Len:]
	}
	return len(b) == 0
}

// find looks for the chunk that b begins with, by its first piece.
func (g *guide) find(b []byte) (int, bool) {
	if len(b) <= PieceMax || g.seed.Pieces == nil {
		return 0, false
	}
	if g.index == nil {
		g.list()
	}
	n, _ := scan(b[PieceMin:PieceMax], 0, pieceMark)
	i, ok := g.index[xxhash.Sum64(b[:PieceMin+n])]
	return i, ok
}

// list makes the index, of the chunks around the one that was expected.
func (g *guide) list() {
	from := max(0, min(g.next-guideMax/4, len(g.seed.Sig.Chunks)-guideMax))
	want := make([]int, min(guideMax, len(g.seed.Sig.Chunks)-from))
	g.index = make(map[uint64]int, len(want))
	for i := range want {
		want[i] = from + i
	}
	err := g.seed.Pieces(want, func(i int, pieces []Piece) error {
		if _, ok := g.index[pieces[0].Hash]; !ok {
			g.index[pieces[0].Hash] = i
		}
		return nil
	})
	if err != nil {
		g.seed.Pieces = nil
	}
}
