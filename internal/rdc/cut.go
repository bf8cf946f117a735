package rdc

import (
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
)

// cutChunk returns the length of the first chunk of b, which holds ChunkMax
// bytes or all that the file still has. The hash starts anew at the least
// length: what lies before it never decides.
func cutChunk(b []byte) int {
	if len(b) <= ChunkMin {
		return len(b)
	}
	b = b[:min(len(b), ChunkMax)]
	return ChunkMin + scanLong(b[ChunkMin:], chunkMark)
}

// lane cuts one chunk into pieces. data[from:] is not cut yet; data[at:end] is
// where the next cut may fall, hash that of data[from+PieceMin:at].
type lane struct {
	data          []byte
	from, at, end int
	hash          uint64
	out           []Piece
}

func newLane(data []byte, out []Piece) lane {
	l := lane{data: data, out: out}
	l.begin()
	return l
}

// begin starts the piece at from. A rest of at most PieceMin bytes is one piece.
func (l *lane) begin() {
	for {
		l.hash = 0
		l.end = min(l.from+PieceMax, len(l.data))
		l.at = min(l.from+PieceMin, l.end)
		if l.at < l.end || l.from == len(l.data) {
			return
		}
		l.emit()
	}
}

func (l *lane) emit() {
	p := l.data[l.from:l.at]
	l.out = append(l.out, Piece{Len: uint16(len(p)), Hash: xxhash.Sum64(p)})
	l.from = l.at
}

func (l *lane) open() bool { return l.from < len(l.data) }

// took moves on by n bytes after which the hash is h, and cuts where it is to.
func (l *lane) took(n int, h uint64) {
	l.at += n
	l.hash = h
	if h > pieceMark || l.at == l.end {
		l.emit()
		l.begin()
	}
}

func (l *lane) finish() []Piece {
	for l.open() {
		l.took(scan(l.data[l.at:l.end], l.hash, pieceMark))
	}
	return l.out
}

// cutPieces appends the pieces of two chunks, cut in step; the second may be
// empty. The result is that of cutting each alone.
func cutPieces(a, b []byte, outA, outB []Piece) ([]Piece, []Piece) {
	x, y := newLane(a, outA), newLane(b, outB)
	for x.open() && y.open() {
		n, h, g := scan2(x.data[x.at:x.end], y.data[y.at:y.end], x.hash, y.hash, pieceMark)
		x.took(n, h)
		y.took(n, g)
	}
	return x.finish(), y.finish()
}

// CutPieces gives the pieces of a file whose content r holds by cutting the
// chunks asked for again: it reads them and no more. sig is the signature of
// that content. An error names the chunk.
func CutPieces(r io.ReaderAt, sig *Signature) PieceFunc {
	return func(chunks []int, each func(int, []Piece) error) error {
		offs := sig.offsets()
		buf := make([]byte, 0, ChunkMax)
		var out []Piece
		for _, i := range chunks {
			buf = buf[:sig.Chunks[i].Len]
			if n, err := r.ReadAt(buf, offs[i]); n < len(buf) {
				return fmt.Errorf("rdc: read chunk %d at %d: %w", i, offs[i], err)
			}
			out, _ = cutPieces(buf, nil, out[:0], nil)
			if err := each(i, out); err != nil {
				return err
			}
		}
		return nil
	}
}
