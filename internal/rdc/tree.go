package rdc

import (
	"encoding/binary"
	"fmt"
)

// The limits of a node: it has nodeMin..nodeMax entries, the last of a level
// 1..nodeMax. After nodeMin, an entry whose hash begins with a byte below
// nodeMark ends its node: 32 entries on average, at places that the content
// chooses, so that a change moves the nodes above it and no others.
const (
	nodeMin  = 16
	nodeMax  = 128
	nodeMark = 16
	// maxDepth is enough for MaxChunks entries by nodeMin.
	maxDepth = 6
)

// Tree is a signature with hashes over its hashes. Level 0 lists the chunks;
// each entry of a level above covers a run of the level below; the level at
// the top has one. Two trees with the same chunk run in them have the same
// nodes over it, its ends apart.
type Tree struct {
	sig    *Signature
	levels [][]node // levels[0] is level 1
}

// node covers the entries [first, first+count) of the level below, which cover
// size bytes of the file.
type node struct {
	first, count int
	size         int64
	sum          Sum
}

// Offer names a tree and is what the side that lacks the file begins with: the
// file's size, the number of levels over its chunks (0 only for an empty file)
// and the hash of the node at the top.
type Offer struct {
	Size  int64
	Depth int
	Sum   Sum
}

// entry is a child as it is listed in its parent.
type entry struct {
	size int64
	sum  Sum
}

// NewTree builds the tree of sig in one pass over its chunks.
func NewTree(sig *Signature) *Tree {
	t := &Tree{sig: sig}
	for n := len(sig.Chunks); n > 1 || n == 1 && len(t.levels) == 0; {
		t.build()
		n = len(t.levels[len(t.levels)-1])
	}
	return t
}

// build adds the next level.
func (t *Tree) build() {
	below := len(t.levels)
	n := t.width(below)
	level := make([]node, 0, n/(2*nodeMin)+1)
	cur := node{}
	buf := make([]byte, 0, nodeMax*(binary.MaxVarintLen64+16)+8)
	for i := range n {
		e := t.entry(below, i)
		cur.count++
		cur.size += e.size
		if cur.count < nodeMax && i < n-1 && (cur.count < nodeMin || e.sum[0] >= nodeMark) {
			continue
		}
		buf = t.appendNode(buf[:0], below+1, cur)
		cur.sum = nodeSum(below+1, buf)
		level = append(level, cur)
		cur = node{first: i + 1}
	}
	t.levels = append(t.levels, level)
}

// width is the number of entries of a level.
func (t *Tree) width(level int) int {
	if level == 0 {
		return len(t.sig.Chunks)
	}
	return len(t.levels[level-1])
}

func (t *Tree) entry(level, i int) entry {
	if level == 0 {
		c := t.sig.Chunks[i]
		return entry{int64(c.Len), c.Sum}
	}
	n := t.levels[level-1][i]
	return entry{n.size, n.sum}
}

// appendNode appends what a node of the given level holds: the number of its
// entries, and of each its size and hash.
func (t *Tree) appendNode(b []byte, level int, n node) []byte {
	b = binary.AppendUvarint(b, uint64(n.count))
	for i := n.first; i < n.first+n.count; i++ {
		e := t.entry(level-1, i)
		b = binary.AppendUvarint(b, uint64(e.size))
		b = append(b, e.sum[:]...)
	}
	return b
}

// nodeSum is the hash of a node: over its level, so that no level can be taken
// for another, and what it holds.
func nodeSum(level int, body []byte) Sum {
	buf := make([]byte, 0, 1+nodeMax*(3+16))
	return sumOf(append(append(buf, byte(level)), body...))
}

// Offer returns what names this tree.
func (t *Tree) Offer() Offer {
	o := Offer{Size: t.sig.Size, Depth: len(t.levels)}
	if o.Depth > 0 {
		o.Sum = t.levels[o.Depth-1][0].sum
	}
	return o
}

// Encode appends the form of o that travels, 19 to 27 bytes.
func (o Offer) Encode(b []byte) []byte {
	b = append(b, FormatVersion)
	b = binary.AppendUvarint(b, uint64(o.Size))
	b = append(b, byte(o.Depth))
	return append(b, o.Sum[:]...)
}

// DecodeOffer reads what Encode wrote, all of b.
func DecodeOffer(b []byte) (Offer, error) {
	d := decoder{b: b}
	d.version()
	o := Offer{Size: d.size()}
	o.Depth = int(d.byte())
	copy(o.Sum[:], d.take(16))
	if o.Depth > maxDepth || (o.Depth == 0) != (o.Size == 0) || o.Depth == 0 && o.Sum != (Sum{}) {
		d.fail("depth and size do not go together")
	}
	if err := d.end(); err != nil {
		return Offer{}, fmt.Errorf("rdc: decode offer: %w", err)
	}
	return o, nil
}
