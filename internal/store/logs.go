package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble's MANIFEST is a log of 32 KiB blocks; each holds chunks of checksum
// (4), length (2), kind (1: full, first, middle, last), payload. The checksum
// covers kind and payload. Less than a header at a block's end is padding.
const (
	logBlock  = 32 << 10
	logHeader = 7
)

// checkManifest reads the current MANIFEST as docs/formats/records.md says, for
// Pebble itself would take damage for the end of the file and drop tables.
func checkManifest(dir string, fs vfs.FS) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = openError(dir, fmt.Errorf("read its files: %v", r))
		}
	}()
	desc, err := pebble.Peek(dir, fs)
	if err != nil {
		return openError(dir, err)
	}
	if !desc.Exists {
		return checkNoTables(dir, fs)
	}
	f, err := fs.Open(desc.ManifestFilename)
	if err != nil {
		return openError(dir, err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return openError(dir, err)
	}
	if err := checkChunks(b); err != nil {
		return fmt.Errorf("open state %s: %s: %w", dir, fs.PathBase(desc.ManifestFilename), err)
	}
	return nil
}

// checkNoTables: a directory without a MANIFEST may hold nothing of a database
// but what creating one leaves, or a lost marker would make a new one of it.
func checkNoTables(dir string, fs vfs.FS) error {
	names, err := fs.List(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return openError(dir, err)
	}
	for _, n := range names {
		if len(n) > 4 && (n[len(n)-4:] == ".sst" || n[len(n)-4:] == ".log") {
			return fmt.Errorf("open state %s: %w", dir, corrupt("%s without a MANIFEST", n))
		}
	}
	return nil
}

// checkChunks reports a chunk that no torn write can have left.
func checkChunks(b []byte) error {
	open := false // a record has begun and not ended
	for at := 0; at < len(b); {
		left := logBlock - at%logBlock
		if left < logHeader {
			at += left
			continue
		}
		rest := b[at:]
		if allZero(rest) {
			return nil // never written
		}
		if len(rest) < logHeader {
			return nil // torn in its header
		}
		length := int(binary.LittleEndian.Uint16(rest[4:]))
		end := logHeader + length
		kind := rest[6]
		if end <= left && end > len(rest) && !chunkOK(rest) {
			return nil // torn in its payload
		}
		if end > left || end > len(rest) || kind < 1 || kind > 4 || !chunkOK(rest[:end]) {
			return corrupt("invalid record at %d of %d bytes", at, len(b))
		}
		if begins := kind == 1 || kind == 2; begins == open {
			return corrupt("record out of order at %d of %d bytes", at, len(b))
		}
		open = kind == 2 || kind == 3
		at += end
	}
	return nil
}

// chunkOK reports whether chunk, header and all, has the right checksum.
func chunkOK(chunk []byte) bool {
	sum := crc32.Checksum(chunk[6:], crc32.MakeTable(crc32.Castagnoli))
	masked := (sum>>15 | sum<<17) + 0xa282ead8 // LevelDB's mask
	return masked == binary.LittleEndian.Uint32(chunk)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// The write-ahead log has the same blocks. Its chunks have a longer header: the
// log's number (4) and the offset (8) up to which the log was synced when the
// chunk was written; kinds 9 to 12. The first log of a new database lacks the
// offset; kinds 5 to 8. A log that was closed ends with such a header of kind
// 5, without checksum, and the next log's number.
const (
	walHeader = 19
	oldHeader = 11
)

// checkLog reads the last log. Pebble takes its first invalid chunk for the
// end unless a later block proves otherwise; here the rest of the same block is
// searched for the proof too: a chunk that says that the place was synced, or
// the mark of a clean close. Earlier logs Pebble reads to their end itself.
func checkLog(dir string, fs vfs.FS) error {
	names, err := fs.List(dir)
	if err != nil {
		return openError(dir, err)
	}
	var last string
	var number uint64
	for _, n := range names {
		stem, isLog := strings.CutSuffix(n, ".log")
		if v, err := strconv.ParseUint(stem, 10, 64); isLog && err == nil && v >= number {
			last, number = n, v
		}
	}
	if last == "" {
		return nil
	}
	f, err := fs.Open(fs.PathJoin(dir, last))
	if err != nil {
		return openError(dir, err)
	}
	err = checkLogBlocks(f, uint32(number))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("open state %s: %s: %w", dir, last, err)
	}
	return nil
}

func checkLogBlocks(r io.Reader, number uint32) error {
	buf := make([]byte, logBlock)
	for base := 0; ; base += logBlock {
		n, err := io.ReadFull(r, buf)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		b := buf[:n]
		at := 0
		for at < n {
			size := walChunk(b[at:], number)
			if size == 0 {
				break
			}
			at += size
		}
		if n == logBlock && n-at < walHeader && allZero(b[at:]) {
			continue
		}
		if isTrailer(b[at:], number) {
			return nil
		}
		for later := at + 1; later < n; later++ {
			if isTrailer(b[later:], number) || walChunk(b[later:], number) > 0 && syncedTo(b[later:]) > uint64(base+at) {
				return corrupt("invalid record at %d, valid ones after it", base+at)
			}
		}
		return nil
	}
}

// walChunk returns the size of the valid chunk that b begins with, else 0.
func walChunk(b []byte, number uint32) int {
	le := binary.LittleEndian
	if len(b) < oldHeader || b[6] < 5 || b[6] > 12 || le.Uint32(b[7:]) != number {
		return 0
	}
	size := oldHeader + int(le.Uint16(b[4:]))
	if b[6] >= 9 {
		size += walHeader - oldHeader
	}
	if size > len(b) || !chunkOK(b[:size]) {
		return 0
	}
	return size
}

// syncedTo returns the offset that a valid chunk says was synced before it.
func syncedTo(chunk []byte) uint64 {
	if chunk[6] < 9 {
		return 0
	}
	return binary.LittleEndian.Uint64(chunk[oldHeader:])
}

// isTrailer reports whether b begins with the mark of a log's clean close.
func isTrailer(b []byte, number uint32) bool {
	return len(b) >= oldHeader && allZero(b[:6]) && b[6] == 5 && binary.LittleEndian.Uint32(b[7:]) == number+1
}
