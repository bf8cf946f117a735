package rdc

import (
	"encoding/binary"
	"fmt"
	"slices"
)

const (
	// MaxRequest bounds the entries that one request names.
	MaxRequest = 1024
	// MaxReply bounds the bytes of one reply.
	MaxReply = 512 << 10
)

// Request asks the side that has a file for a part of its Tree: for Level 1 and
// above, what those nodes of that level hold; for Level 0, the pieces of those
// chunks. The indexes ascend.
type Request struct {
	Level   int
	Indexes []int
}

// Asker carries a request about one offered file to the side that has it and
// brings what its Answer returned.
type Asker func(Request) ([]byte, error)

// Encode appends the form of q that travels.
func (q Request) Encode(b []byte) []byte {
	b = append(b, FormatVersion, byte(q.Level))
	b = binary.AppendUvarint(b, uint64(len(q.Indexes)))
	prev := -1
	for _, i := range q.Indexes {
		b = binary.AppendUvarint(b, uint64(i-prev-1))
		prev = i
	}
	return b
}

// DecodeRequest reads what Encode wrote, all of b.
func DecodeRequest(b []byte) (Request, error) {
	d := decoder{b: b}
	d.version()
	q := Request{Level: int(d.byte())}
	n := int(d.uvarint(MaxRequest))
	if q.Level > maxDepth || n == 0 {
		d.fail("no such level or nothing asked")
	}
	prev := -1
	for range n {
		prev += 1 + int(d.uvarint(MaxChunks))
		if d.err != nil || prev >= MaxChunks {
			d.fail("index out of range")
			break
		}
		q.Indexes = append(q.Indexes, prev)
	}
	if err := d.end(); err != nil {
		return Request{}, fmt.Errorf("rdc: decode request: %w", err)
	}
	return q, nil
}

// Answer appends to b the reply to q, at most MaxReply bytes: as many of what is
// asked as fit, in order, at least one. It tells how many in front. pieces gives
// the pieces of this tree's file and is asked for Level 0 alone.
func (t *Tree) Answer(b []byte, q Request, pieces PieceFunc) ([]byte, error) {
	if q.Level < 0 || q.Level > len(t.levels) || len(q.Indexes) == 0 || len(q.Indexes) > MaxRequest {
		return nil, fmt.Errorf("rdc: answer: level %d of %d, %d entries: %w", q.Level, len(t.levels), len(q.Indexes), ErrFormat)
	}
	prev := -1
	for _, i := range q.Indexes {
		if i <= prev || i >= t.width(q.Level) {
			return nil, fmt.Errorf("rdc: answer: entry %d of level %d: %w", i, q.Level, ErrFormat)
		}
		prev = i
	}
	const room = MaxReply - 4
	var body []byte
	var count uint64
	if q.Level > 0 {
		for _, i := range q.Indexes {
			n := len(body)
			body = t.appendNode(body, q.Level, t.levels[q.Level-1][i])
			if len(body) > room {
				body = body[:n]
				break
			}
			count++
		}
		return append(binary.AppendUvarint(b, count), body...), nil
	}
	// No more chunks are cut than surely fit: what does not fit would be cut
	// again for the next request.
	ask, left := q.Indexes[:0:0], room
	for _, i := range q.Indexes {
		if left -= 2 + (int(t.sig.Chunks[i].Len)/PieceMin+1)*pieceEntry; left < 0 {
			break
		}
		ask = append(ask, i)
	}
	err := pieces(ask, func(_ int, ps []Piece) error {
		body = appendPieces(body, ps)
		count++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("rdc: answer: %w", err)
	}
	return append(binary.AppendUvarint(b, count), body...), nil
}

func appendPieces(b []byte, ps []Piece) []byte {
	b = binary.AppendUvarint(b, uint64(len(ps)))
	for _, p := range ps {
		b = binary.AppendUvarint(b, uint64(p.Len))
		b = binary.BigEndian.AppendUint64(b, p.Hash)
	}
	return b
}

// known finds nodes in the trees of the versions that are here.
type known map[knownKey]knownNode

type knownKey struct {
	level int
	sum   Sum
}

type knownNode struct {
	tree *Tree
	i    int
}

func newKnown(seeds []Seed) known {
	k := known{}
	for _, s := range seeds {
		t := NewTree(s.Sig)
		for l := range t.levels {
			for i, n := range t.levels[l] {
				k[knownKey{l + 1, n.sum}] = knownNode{t, i}
			}
		}
	}
	return k
}

// Learn brings the signature of the offered file here. Nodes that a seed has too
// are not asked for. What comes is held against the hash that asked for it, so
// that the signature is the offered one or there is an error; its traits are not
// learnt. More chunks than a file of that size can have are never held.
func Learn(o Offer, seeds []Seed, ask Asker) (*Signature, error) {
	sig := &Signature{Size: o.Size}
	if o.Depth == 0 {
		return sig, nil
	}
	if o.Size > MaxChunks*ChunkMax || o.Size < 0 || o.Depth > maxDepth {
		return nil, fmt.Errorf("rdc: learn signature: offer out of range: %w", ErrFormat)
	}
	have := newKnown(seeds)
	level := []entry{{o.Size, o.Sum}}
	for l := o.Depth; l > 0; l-- {
		below, err := expand(l, level, o.Size, have, ask)
		if err != nil {
			return nil, fmt.Errorf("rdc: learn signature: %w", err)
		}
		level = below
	}
	sig.Chunks = make([]Chunk, len(level))
	for i, e := range level {
		sig.Chunks[i] = Chunk{uint32(e.size), e.sum}
	}
	if err := sig.check(); err != nil {
		return nil, fmt.Errorf("rdc: learn signature: %w", err)
	}
	return sig, nil
}

// expand returns the entries under those of a level.
func expand(l int, level []entry, size int64, have known, ask Asker) ([]entry, error) {
	under := make([][]entry, len(level))
	first := map[Sum]int{} // nodes that occur again are asked for once
	var want []int
	for i, e := range level {
		if k, ok := have[knownKey{l, e.sum}]; ok {
			n := k.tree.levels[l-1][k.i]
			if n.size != e.size {
				return nil, fmt.Errorf("node %d of level %d: size differs: %w", i, l, ErrFormat)
			}
			for j := range n.count {
				under[i] = append(under[i], k.tree.entry(l-1, n.first+j))
			}
		} else if _, ok := first[e.sum]; !ok {
			first[e.sum] = i
			want = append(want, i)
		}
	}
	for len(want) > 0 {
		part := want[:min(len(want), MaxRequest)]
		reply, err := ask(Request{l, part})
		if err != nil {
			return nil, err
		}
		d := decoder{b: reply}
		n := int(d.uvarint(uint64(len(part))))
		for _, i := range part[:n] {
			under[i] = d.node(l, level[i], i == len(level)-1)
		}
		if n == 0 {
			d.fail("empty reply")
		}
		if err := d.end(); err != nil {
			return nil, fmt.Errorf("reply about level %d: %w", l, err)
		}
		want = want[n:]
	}
	var below []entry
	for i, e := range level {
		if under[i] == nil {
			f := first[e.sum]
			if level[f].size != e.size {
				return nil, fmt.Errorf("node %d of level %d: size differs: %w", i, l, ErrFormat)
			}
			under[i] = under[f]
		}
		if below = append(below, under[i]...); len(below) > MaxChunks || int64(len(below)) > size/ChunkMin+1 {
			return nil, fmt.Errorf("level %d: too many entries: %w", l-1, ErrFormat)
		}
	}
	return below, nil
}

// node reads what the node e of level l holds.
func (d *decoder) node(l int, e entry, last bool) []entry {
	before := d.b
	n := int(d.uvarint(nodeMax))
	if n == 0 || n < nodeMin && !last {
		d.fail("node with too few entries")
	}
	var sum int64
	out := make([]entry, 0, n)
	for range n {
		c := entry{size: int64(d.uvarint(uint64(e.size)))}
		copy(c.sum[:], d.take(16))
		if c.size == 0 || c.size > e.size-sum {
			d.fail("node with sizes that do not add up")
		}
		if d.err != nil {
			return nil
		}
		sum += c.size
		out = append(out, c)
	}
	if d.err == nil && (sum != e.size || nodeSum(l, before[:len(before)-len(d.b)]) != e.sum) {
		d.fail("node is not the one asked for")
	}
	return out
}

// AskPieces is the PieceFunc of a file that is not here, whose signature Learn
// brought.
func AskPieces(sig *Signature, ask Asker) PieceFunc {
	return func(chunks []int, each func(int, []Piece) error) error {
		var ps []Piece
		for len(chunks) > 0 {
			part := slices.Clone(chunks[:min(len(chunks), MaxRequest)])
			reply, err := ask(Request{0, part})
			if err != nil {
				return err
			}
			d := decoder{b: reply}
			n := int(d.uvarint(uint64(len(part))))
			for _, i := range part[:n] {
				ps = d.pieces(ps[:0])
				if d.err == nil {
					d.err = checkPieces(ps, sig.Chunks[i])
				}
				if d.err != nil {
					break
				}
				if err := each(i, ps); err != nil {
					return err
				}
			}
			if n == 0 {
				d.fail("empty reply")
			}
			if err := d.end(); err != nil {
				return fmt.Errorf("rdc: reply about pieces: %w", err)
			}
			chunks = chunks[n:]
		}
		return nil
	}
}

func (d *decoder) pieces(ps []Piece) []Piece {
	for range d.uvarint(maxPieces) {
		p := Piece{Len: uint16(d.uvarint(PieceMax))}
		h := d.take(8)
		if d.err != nil {
			return nil
		}
		p.Hash = binary.BigEndian.Uint64(h)
		ps = append(ps, p)
	}
	return ps
}

// Sync finds the needs of the offered file, which is on the other side of ask:
// it learns the signature and the pieces of what matches nothing, and matches.
// With every node known to a seed it asks nothing.
func Sync(o Offer, seeds []Seed, ask Asker) (*Signature, *Needs, error) {
	sig, err := Learn(o, seeds, ask)
	if err != nil {
		return nil, nil, err
	}
	needs, err := Match(Seed{sig, AskPieces(sig, ask)}, seeds)
	if err != nil {
		return nil, nil, err
	}
	return sig, needs, nil
}
