// Package rdc is Remote Differential Compression: it finds what of a new
// version of a file a partner has already, so that the bytes on the wire follow
// the change and not the file ([MS-RDC] is the model; bytes and numbers are our
// own, docs/formats/rdc.md).
//
// A file is cut twice, at places that its content chooses. Chunks (96 to
// 512 KiB, 160 KiB on average) carry 16 bytes of BLAKE3; they are the
// [Signature], small enough to be kept for every large file. Each chunk is cut
// again into pieces (1 to 8 KiB, 2 KiB on average) that carry 8 bytes of xxHash;
// they are the [Fine] level, looked at only inside chunks that matched nothing,
// and either kept beside the signature or cut again from the data when wanted.
// A [Signer] makes both, and the [Traits] by which like files find each other,
// in the one pass that reads the file.
//
// What is missing is found in one of two ways, with the same result:
//
//   - who has the signatures of both versions calls [Match]: nothing travels
//     but the [Needs] and the new bytes;
//   - who has only the old version calls [Sync] with a way to ask the other
//     side, which answers from a [Tree]: hashes over hashes, compared from the
//     root down, so that only what differs travels.
//
// [Refine] may look once more at what is to be fetched between two copies, by
// grains of 256 bytes: worth its question where many small places changed.
//
// Of a small file nothing is kept and nothing asked: [Grains] lists what the old
// version holds, [Graft] makes the new one of that, [Ungraft] carries it out.
//
// [Patch] carries out the needs: runs copied from old versions, runs of new
// bytes, and BLAKE3 over the whole compared with what the caller expects.
//
// Trust. Chunk hashes are strong: a chunk that matches is the same. Piece
// and grain hashes are not: who can write into a file can make two look alike. The
// hash over the whole file is the guard ([ErrMismatch]: fetch the file again,
// whole), as it is in [MS-RDC] note <5>; what that gains is one more transfer,
// which an edit gains too. Whatever comes from a partner is bounded: the length
// of every chunk, node, list and message, and with them the work, which is
// linear in the size of the files whatever they hold.
//
// The package does no input or output but through what it is given, sees no
// clock and no chance, and yields the same whatever the number of workers.
package rdc

import (
	"errors"

	"opendfs/internal/digest"
)

// FormatVersion is the number of the cutting rules and of every byte form here.
// Another gear table, another limit or another hash is another version.
const FormatVersion = 1

// The limits of the cuts, in bytes. Only the last chunk of a file and the last
// piece of a chunk may be shorter than the least.
const (
	ChunkMin = 96 << 10
	ChunkMax = 512 << 10
	PieceMin = 1 << 10
	PieceMax = 8 << 10
)

// The limits on lists.
const (
	// MaxChunks bounds a signature: files of 1.5 TiB always fit, of 2.5 TiB as a rule.
	MaxChunks = 1 << 24
	// MaxSeeds bounds the old versions that one match looks into.
	MaxSeeds = 8
	// MaxRuns bounds the runs of one list of needs.
	MaxRuns = 1 << 23
)

var (
	// ErrTooLarge says that a file has more than MaxChunks chunks; it is to be
	// sent whole.
	ErrTooLarge = errors.New("rdc: file has too many chunks for a signature: send it whole")
	// ErrMismatch says that the assembled file is not the one that was expected:
	// an old version changed under us, or piece hashes collided. It is to be
	// fetched whole.
	ErrMismatch = errors.New("rdc: assembled file has another hash than expected: fetch it whole")
	// ErrFormat is in the chain of every error about bytes that break the format.
	ErrFormat = errors.New("bytes are not of the documented form")
)

// Sum is the strong hash of a chunk or of a node: the first 16 bytes of BLAKE3.
type Sum [16]byte

func sumOf(b []byte) Sum {
	full := digest.Sum256(b)
	return Sum(full[:16])
}

// Chunk is one coarse cut: its length in bytes and the hash of its content.
type Chunk struct {
	Len uint32
	Sum Sum
}

// Piece is one fine cut: its length in bytes and the xxHash64 of its content.
type Piece struct {
	Len  uint16
	Hash uint64
}

// PieceFunc gives the pieces of the chunks whose indexes are listed, which
// ascend: it calls each once for each of them, in order, and stops at the first
// error, its own or that of each. The pieces are good until each returns.
type PieceFunc func(chunks []int, each func(chunk int, pieces []Piece) error) error

// Seed is a version of a file to match from or to match: its signature, and its
// pieces where they can be had. Without Pieces only whole chunks match.
type Seed struct {
	Sig    *Signature
	Pieces PieceFunc
}
