package wire

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// packLeast is the size from which on packing a page is tried.
const packLeast = 512

var (
	pagePacker = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithWindowSize(256<<10))
		if err != nil {
			panic("wire: options of the packer: " + err.Error())
		}
		return e
	})
	pageUnpacker = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(MaxPage), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic("wire: options of the unpacker: " + err.Error())
		}
		return d
	})
)

// packPage returns the packed form of a page, nil if that is not shorter.
func packPage(page []byte) []byte {
	if len(page) < packLeast {
		return nil
	}
	if out := pagePacker().EncodeAll(page, nil); len(out) < len(page) {
		return out
	}
	return nil
}

// unpackPage returns the page that has raw bytes; a form that gives more or
// fewer is an error.
func unpackPage(packed []byte, raw uint32) ([]byte, error) {
	if err := bounded("bytes of the unpacked page", int(raw), MaxPage); err != nil {
		return nil, err
	}
	if int(raw) <= len(packed) {
		return nil, fmt.Errorf("a packed page of %d bytes is no shorter than the %d it gives", len(packed), raw)
	}
	out, err := pageUnpacker().DecodeAll(packed, make([]byte, 0, raw))
	if err != nil || len(out) != int(raw) {
		return nil, fmt.Errorf("a packed page of %d bytes does not give %d (%v)", len(packed), raw, err)
	}
	return out, nil
}
