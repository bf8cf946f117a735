package rdc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// hostile are contents that cost a careless matcher dear, of n bytes each.
func hostile(n int) map[string][]byte {
	files := map[string][]byte{"zeros": make([]byte, n)}
	for _, p := range []int{1, 2, 3, 7, 64, 255, 1024, 1280, 4096, 65536} {
		files[fmt.Sprintf("period %d", p)] = bytes.Repeat(random(p), n/p+1)[:n]
	}
	// A word that is a cut wherever it stands makes all cuts as short as may be;
	// a byte that never is makes them as long.
	files["all cuts least"] = bytes.Repeat(marker(pieceMark), n)[:n]
	files["all chunks least"] = bytes.Repeat(marker(chunkMark), n)[:n]
	return files
}

// marker finds eight bytes that, repeated, exceed mark once in every eight.
func marker(mark uint64) []byte {
	for i := uint64(0); ; i++ {
		var w [8]byte
		binary.LittleEndian.PutUint64(w[:], word(99, i))
		b := bytes.Repeat(w[:], 9)
		_, h := scan(b[:gearWindow], 0, ^uint64(0))
		if _, h = scan(b[gearWindow:], h, mark); h > mark {
			return w[:]
		}
	}
}

// work is what costs time, counted.
type work struct {
	chunks, pieces, nodes, asked, runs int
	wire                               int64
}

// count brings next to who has old and counts.
func count(t *testing.T, old, next *version) work {
	var w work
	counted := func(f PieceFunc) PieceFunc {
		return func(chunks []int, each func(int, []Piece) error) error {
			return f(chunks, func(i int, ps []Piece) error {
				w.chunks++
				w.pieces += len(ps)
				return each(i, ps)
			})
		}
	}
	tree := NewTree(next.sig)
	ask := func(q Request) ([]byte, error) {
		if w.asked += len(q.Indexes); q.Level > 0 {
			w.nodes += len(q.Indexes)
		}
		reply, err := tree.Answer(nil, q, next.fine.Pieces)
		w.wire += int64(len(reply))
		return reply, err
	}
	sig, err := Learn(tree.Offer(), []Seed{old.seed()}, ask)
	if err != nil {
		t.Fatal(err)
	}
	needs, err := Match(Seed{sig, counted(AskPieces(sig, ask))}, []Seed{{old.sig, counted(old.fine.Pieces)}})
	if err != nil {
		t.Fatal(err)
	}
	w.runs = len(needs.Runs)
	return w
}

// limits are what two files of n bytes may cost whatever they hold: twice what
// random ones with nothing in common do (a piece is 2 KiB on average there, a
// chunk 160 KiB), and the ends.
func (w work) check(t *testing.T, name string, n int) {
	t.Helper()
	if w.pieces > 2*2*(n/2048)+64 || w.chunks > 2*(n/ChunkMin+2) || w.nodes > n/ChunkMin/nodeMin+8 || w.runs > n/PieceMin+2 {
		t.Errorf("%s: too much work: %+v", name, w)
	}
	if w.wire > int64(n)/PieceMin*(2+8)+int64(n)/ChunkMin*24+1024 {
		t.Errorf("%s: %d bytes of signatures for %d", name, w.wire, n)
	}
}

func TestHostileContentCostsAtMostTwiceRandom(t *testing.T) {
	const n = 3 << 20
	plain := signBytes(t, random(n))
	for name, b := range hostile(n) {
		v := signBytes(t, b)
		total := 0
		for i := range v.sig.Chunks {
			err := v.fine.Pieces([]int{i}, func(_ int, ps []Piece) error { total += len(ps); return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(v.sig.Chunks) > n/ChunkMin+1 || total > n/PieceMin+len(v.sig.Chunks) {
			t.Errorf("%s: %d chunks, %d pieces", name, len(v.sig.Chunks), total)
		}
		if name == "all cuts least" && total < n/(PieceMin+gearWindow+8) {
			t.Errorf("%s: only %d pieces", name, total)
		}
		if name == "all chunks least" && len(v.sig.Chunks) < n/(ChunkMin+gearWindow+8) {
			t.Errorf("%s: only %d chunks", name, len(v.sig.Chunks))
		}
		shifted := signBytes(t, append([]byte{1, 2, 3}, b...))
		count(t, v, shifted).check(t, name+" shifted", n)
		count(t, plain, v).check(t, name+" from random", n)
		count(t, v, plain).check(t, name+" to random", n)
		pull(t, shifted, v)
	}
}

func TestANearMissInEveryChunkCostsOneLookAtEachPiece(t *testing.T) {
	const n = 3 << 20
	old := random(n)
	o := signBytes(t, old)
	next := bytes.Clone(old)
	for off := 1000; off < n; off += PieceMin { // in nearly every piece
		next[off] ^= 1
	}
	v := signBytes(t, next)
	count(t, o, v).check(t, "near miss", n)
	pull(t, v, o)
}

// made is a version that is nothing but hashes.
func made(chunks []Chunk, piece func(chunk, i int) Piece) *Seed {
	sig := &Signature{Chunks: chunks}
	for _, c := range chunks {
		sig.Size += int64(c.Len)
	}
	return &Seed{sig, func(list []int, each func(int, []Piece) error) error {
		for _, c := range list {
			var ps []Piece
			for i, left := 0, chunks[c].Len; left > 0; i++ {
				p := piece(c, i)
				p.Len = uint16(min(uint32(p.Len), left))
				left -= uint32(p.Len)
				ps = append(ps, p)
			}
			if err := each(c, ps); err != nil {
				return err
			}
		}
		return nil
	}}
}

func TestHashesThatNearlyCollideMatchNothing(t *testing.T) {
	const n = 300
	side := func(b byte) *Seed {
		chunks := make([]Chunk, n)
		for i := range chunks { // 13 bytes of prefix are alike
			chunks[i] = Chunk{Len: ChunkMin, Sum: Sum{13: byte(i >> 8), 14: byte(i), 15: b}}
		}
		return made(chunks, func(c, i int) Piece { return Piece{PieceMin, uint64(c*1000+i)<<8 | uint64(b)} })
	}
	needs, err := Match(*side(1), []Seed{*side(2)})
	if err != nil {
		t.Fatal(err)
	}
	if len(needs.Runs) != 1 || needs.Missing() != n*ChunkMin {
		t.Errorf("runs %+v", needs.Runs)
	}
	// Like hashes of other lengths are no match either.
	like := made([]Chunk{{ChunkMin, Sum{1}}}, func(_, i int) Piece { return Piece{PieceMin, uint64(i)} })
	other := made([]Chunk{{ChunkMin + 1, Sum{1}}}, func(_, i int) Piece { return Piece{PieceMin + 1, uint64(i)} })
	if needs, err = Match(*like, []Seed{*other}); err != nil || needs.Missing() != ChunkMin {
		t.Errorf("%v, %+v", err, needs)
	}
}

func TestTreesOfChosenHashesStayWithinTheirLimits(t *testing.T) {
	for _, first := range []byte{0, 255} { // every hash ends a node, or none does
		chunks := make([]Chunk, 5000)
		for i := range chunks {
			chunks[i] = Chunk{ChunkMin, Sum{0: first, 1: byte(i >> 8), 2: byte(i)}}
		}
		s := made(chunks, nil)
		tree := NewTree(s.Sig)
		for l, level := range tree.levels {
			for i, n := range level {
				if n.count > nodeMax || n.count < nodeMin && i < len(level)-1 {
					t.Errorf("level %d, node %d: %d entries", l+1, i, n.count)
				}
			}
		}
		if len(tree.levels) > maxDepth {
			t.Errorf("%d levels", len(tree.levels))
		}
		ask := func(q Request) ([]byte, error) { return tree.Answer(nil, q, nil) }
		got, err := Learn(tree.Offer(), nil, ask)
		if err != nil || got.ID() != s.Sig.ID() {
			t.Errorf("learnt %v: %v", got, err)
		}
	}
}

func TestOneNodeRepeatedCannotOutgrowItsFile(t *testing.T) {
	// A tree whose sizes add up but whose entries are of a byte each.
	body := binary.AppendUvarint(nil, nodeMax)
	for range nodeMax {
		body = append(binary.AppendUvarint(body, 1), make([]byte, 16)...)
	}
	o := Offer{Size: nodeMax, Depth: 1, Sum: nodeSum(1, body)}
	_, err := Learn(o, nil, func(Request) ([]byte, error) { return append([]byte{1}, body...), nil })
	if err == nil {
		t.Error("learnt a signature of chunks of a byte")
	}
}
