package rdc

import (
	"encoding/binary"
	"fmt"
	"math"
)

// decoder reads the forms that travel. After a fault it yields zeros, and end
// returns the first.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", what, ErrFormat)
	}
	d.b = nil
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail("cut short")
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) version() {
	if d.byte() != FormatVersion {
		d.fail("unknown version")
	}
}

// uvarint reads a number of at most most, in its shortest form.
func (d *decoder) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 || v > most {
		d.fail("number out of range")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// size reads a number of bytes.
func (d *decoder) size() int64 { return int64(d.uvarint(math.MaxInt64)) }

// varint reads a signed number.
func (d *decoder) varint() int64 {
	u := d.uvarint(math.MaxUint64)
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) end() error {
	if len(d.b) > 0 {
		d.fail("bytes left over")
	}
	return d.err
}
