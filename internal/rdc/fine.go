package rdc

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
)

const (
	fineMagic  = "RDCf"
	fineHead   = 4 + 4      // magic, version and zeros
	fineFoot   = 4 + 16 + 8 // chunks, ID, checksum of table and foot
	pieceEntry = 2 + 8
	maxPieces  = ChunkMax / PieceMin // of a chunk
)

// fineWriter writes the kept fine level: the entries as they come, then a table
// of how many each chunk has, then a foot that ties it to a signature.
type fineWriter struct {
	w     io.Writer
	buf   []byte
	table []byte
}

func newFineWriter(w io.Writer) *fineWriter {
	return &fineWriter{w: w, buf: append([]byte(fineMagic), FormatVersion, 0, 0, 0)}
}

func (f *fineWriter) add(pieces []Piece) error {
	f.table = binary.BigEndian.AppendUint16(f.table, uint16(len(pieces)))
	for _, p := range pieces {
		f.buf = binary.BigEndian.AppendUint16(f.buf, p.Len)
		f.buf = binary.BigEndian.AppendUint64(f.buf, p.Hash)
	}
	if len(f.buf) < 64<<10 {
		return nil
	}
	return f.flush()
}

func (f *fineWriter) flush() error {
	if _, err := f.w.Write(f.buf); err != nil {
		return fmt.Errorf("rdc: write the fine level: %w", err)
	}
	f.buf = f.buf[:0]
	return nil
}

func (f *fineWriter) finish(id Sum) error {
	foot := binary.BigEndian.AppendUint32(f.table, uint32(len(f.table)/2))
	foot = append(foot, id[:]...)
	foot = binary.BigEndian.AppendUint64(foot, xxhash.Sum64(foot))
	f.buf = append(f.buf, foot...)
	return f.flush()
}

// Fine is the kept fine level of one version of a file, read where it is asked
// for. It takes 8 bytes of memory a chunk.
type Fine struct {
	r   io.ReaderAt
	sig *Signature
	at  []int64 // where the entries of each chunk start, and the end of the last
}

// OpenFine opens the size bytes of r, which a Signer wrote as the fine level of
// the file that sig describes. An error with ErrFormat says that they are
// damaged or another file's: cut the pieces again with CutPieces.
func OpenFine(r io.ReaderAt, size int64, sig *Signature) (*Fine, error) {
	bad := func(what string) error {
		return fmt.Errorf("rdc: open fine level: %s: %w", what, ErrFormat)
	}
	n := len(sig.Chunks)
	tail := int64(2*n + fineFoot)
	if size < fineHead+tail {
		return nil, bad("too short for its signature")
	}
	var head [fineHead]byte
	if k, err := r.ReadAt(head[:], 0); k < len(head) {
		return nil, fmt.Errorf("rdc: read fine level: %w", err)
	}
	if string(head[:4]) != fineMagic || head[4] != FormatVersion || head[5]|head[6]|head[7] != 0 {
		return nil, bad("no header of this version")
	}
	table := make([]byte, tail)
	if k, err := r.ReadAt(table, size-tail); k < len(table) {
		return nil, fmt.Errorf("rdc: read fine level: %w", err)
	}
	body, foot := table[:tail-checksumSize], table[2*n:]
	if xxhash.Sum64(body) != binary.BigEndian.Uint64(table[tail-checksumSize:]) {
		return nil, bad("checksum differs")
	}
	if int(binary.BigEndian.Uint32(foot)) != n || Sum(foot[4:20]) != sig.ID() {
		return nil, bad("it belongs to another signature")
	}
	f := &Fine{r: r, sig: sig, at: make([]int64, n+1)}
	f.at[0] = fineHead
	for i := range n {
		count := binary.BigEndian.Uint16(table[2*i:])
		if count == 0 || count > maxPieces {
			return nil, bad("number of pieces out of range")
		}
		f.at[i+1] = f.at[i] + int64(count)*pieceEntry
	}
	if f.at[n] != size-tail {
		return nil, bad("entries and table differ")
	}
	return f, nil
}

// Pieces is the PieceFunc of this fine level.
func (f *Fine) Pieces(chunks []int, each func(int, []Piece) error) error {
	var raw []byte
	var out []Piece
	for _, i := range chunks {
		n := int(f.at[i+1] - f.at[i])
		if cap(raw) < n {
			raw = make([]byte, 2*n)
		}
		raw = raw[:n]
		if k, err := f.r.ReadAt(raw, f.at[i]); k < n {
			return fmt.Errorf("rdc: read fine level of chunk %d: %w", i, err)
		}
		out = out[:0]
		for e := raw; len(e) > 0; e = e[pieceEntry:] {
			out = append(out, Piece{Len: binary.BigEndian.Uint16(e), Hash: binary.BigEndian.Uint64(e[2:])})
		}
		if err := checkPieces(out, f.sig.Chunks[i]); err != nil {
			return fmt.Errorf("rdc: fine level of chunk %d: %w", i, err)
		}
		if err := each(i, out); err != nil {
			return err
		}
	}
	return nil
}

// checkPieces says whether pieces may be those of c.
func checkPieces(pieces []Piece, c Chunk) error {
	var sum uint32
	for i, p := range pieces {
		if p.Len == 0 || p.Len > PieceMax || p.Len < PieceMin && i < len(pieces)-1 {
			return fmt.Errorf("piece %d has %d bytes: %w", i, p.Len, ErrFormat)
		}
		sum += uint32(p.Len)
	}
	if sum != c.Len {
		return fmt.Errorf("pieces of %d bytes in a chunk of %d: %w", sum, c.Len, ErrFormat)
	}
	return nil
}
