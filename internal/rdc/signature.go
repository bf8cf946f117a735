package rdc

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// Signature is the list of the chunks of one version of a file, with its
// traits: about 20 bytes for each 160 KiB. The chunks' lengths add up to Size;
// each is in ChunkMin..ChunkMax, the last in 1..ChunkMax.
//
// Encode and DecodeSignature give the form in which it is kept on disk. It does
// not travel: see Tree.
type Signature struct {
	Size   int64
	Chunks []Chunk
	Traits Traits
}

// ID names the content: the hash at the root of its Tree. Two signatures have
// one ID only if they list the same chunks.
func (s *Signature) ID() Sum { return NewTree(s).Offer().Sum }

// offsets returns where each chunk starts, and Size behind the last.
func (s *Signature) offsets() []int64 {
	offs := make([]int64, len(s.Chunks)+1)
	for i, c := range s.Chunks {
		offs[i+1] = offs[i] + int64(c.Len)
	}
	return offs
}

// check says what about the chunks breaks the rules of a signature.
func (s *Signature) check() error {
	if len(s.Chunks) > MaxChunks {
		return fmt.Errorf("%d chunks are more than %d: %w", len(s.Chunks), MaxChunks, ErrFormat)
	}
	var at int64
	for i, c := range s.Chunks {
		last := i == len(s.Chunks)-1
		if c.Len == 0 || c.Len > ChunkMax || c.Len < ChunkMin && !last {
			return fmt.Errorf("chunk %d has %d bytes: %w", i, c.Len, ErrFormat)
		}
		at += int64(c.Len)
	}
	if at != s.Size {
		return fmt.Errorf("chunks of %d bytes for a file of %d: %w", at, s.Size, ErrFormat)
	}
	return nil
}

const (
	signatureMagic = "RDCs"
	signatureHead  = 4 + 4 + 8 + 16 + 4 // magic, version and zeros, size, traits, chunks
	signatureEntry = 4 + 16
	checksumSize   = 8
)

// Encode appends the kept form of s to b.
func (s *Signature) Encode(b []byte) []byte {
	start := len(b)
	b = append(b, signatureMagic...)
	b = append(b, FormatVersion, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Size))
	b = append(b, s.Traits[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.Chunks)))
	for _, c := range s.Chunks {
		b = binary.BigEndian.AppendUint32(b, c.Len)
		b = append(b, c.Sum[:]...)
	}
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b[start:]))
}

// DecodeSignature reads what Encode wrote, all of b. It takes no more memory
// than a small multiple of len(b). Damage and other versions are errors with
// ErrFormat: make the signature again from the file.
func DecodeSignature(b []byte) (*Signature, error) {
	bad := func(what string) error {
		return fmt.Errorf("rdc: decode signature: %s: %w", what, ErrFormat)
	}
	if len(b) < signatureHead+checksumSize || string(b[:4]) != signatureMagic {
		return nil, bad("no header")
	}
	if b[4] != FormatVersion || b[5]|b[6]|b[7] != 0 {
		return nil, bad("unknown version")
	}
	body, tail := b[:len(b)-checksumSize], b[len(b)-checksumSize:]
	if xxhash.Sum64(body) != binary.BigEndian.Uint64(tail) {
		return nil, bad("checksum differs")
	}
	n := binary.BigEndian.Uint32(b[32:])
	if n > MaxChunks || len(body) != signatureHead+int(n)*signatureEntry {
		return nil, bad("length differs from the number of chunks")
	}
	s := &Signature{
		Size:   int64(binary.BigEndian.Uint64(b[8:])),
		Traits: Traits(b[16:32]),
		Chunks: make([]Chunk, n),
	}
	for i := range s.Chunks {
		e := body[signatureHead+i*signatureEntry:]
		s.Chunks[i] = Chunk{Len: binary.BigEndian.Uint32(e), Sum: Sum(e[4:signatureEntry])}
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("rdc: decode signature: %w", err)
	}
	return s, nil
}
