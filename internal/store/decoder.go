package store

import (
	"encoding/binary"
	"fmt"
	"slices"

	"opendfs/internal/version"
)

// decoder reads a value from its front. The first error stays and every later
// read returns zero.
type decoder struct {
	b     []byte
	names *names
	err   error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

// end returns the first error, or that bytes are left.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d %w", len(d.b), errLong)
	}
	return d.err
}

// take returns the next n bytes, zeros after an error. They belong to the value.
func (d *decoder) take(n int) []byte {
	if len(d.b) < n {
		d.fail(errShort)
		return make([]byte, n)
	}
	got := d.b[:n]
	d.b = d.b[n:]
	return got
}

func (d *decoder) uint32() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }
func (d *decoder) uint64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// string reads a length and that many bytes, at most limit.
func (d *decoder) string(limit int) string {
	n := d.uvarint()
	if n > uint64(limit) || n > uint64(len(d.b)) {
		d.fail(errShort)
		return ""
	}
	return string(d.take(int(n)))
}

func (d *decoder) ref() ref {
	r, rest, err := decodeRef(d.b)
	if err != nil {
		d.fail(err)
		return ref{}
	}
	d.b = rest
	return r
}

func (d *decoder) gvsn() version.GVSN {
	r := d.ref()
	if d.err != nil {
		return version.GVSN{}
	}
	g, err := d.names.gvsn(r)
	if err != nil {
		d.fail(err)
	}
	return g
}

// entries writes tag, length, value; see "State and intent" in the format.
type entries struct {
	b   []byte
	tmp []byte
}

func (e *entries) bytes(tag uint64, v []byte) {
	if len(v) > 0 {
		e.b = binary.AppendUvarint(e.b, tag)
		e.b = append(binary.AppendUvarint(e.b, uint64(len(v))), v...)
	}
}

func (e *entries) string(tag uint64, v string) {
	if len(v) > 0 {
		e.b = appendString(binary.AppendUvarint(e.b, tag), v)
	}
}

func (e *entries) uvarint(tag, v uint64) {
	if v != 0 {
		e.tmp = binary.AppendUvarint(e.tmp[:0], v)
		e.bytes(tag, e.tmp)
	}
}

func (e *entries) varint(tag uint64, v int64) {
	if v != 0 {
		e.tmp = binary.AppendVarint(e.tmp[:0], v)
		e.bytes(tag, e.tmp)
	}
}

func (e *entries) bool(tag uint64, v bool) {
	if v {
		e.uvarint(tag, 1)
	}
}

// guid writes 16 bytes that are not all zero.
func (e *entries) guid(tag uint64, v [16]byte) {
	if v != [16]byte{} {
		e.bytes(tag, v[:])
	}
}

func (e *entries) gvsn(tag uint64, g version.GVSN) {
	if !g.IsZero() {
		e.tmp = append(e.tmp[:0], g.Originator[:]...)
		e.tmp = binary.LittleEndian.AppendUint64(e.tmp, g.Version)
		e.bytes(tag, e.tmp)
	}
}

// eachEntry calls read for every entry of a value of layout 1, in ascending
// order of tags; read must consume the entry.
func eachEntry(b []byte, n *names, read func(tag uint64, d *decoder)) error {
	all := decoder{b: b, names: n}
	if layout := all.take(1)[0]; all.err == nil && layout != 1 {
		return fmt.Errorf("unknown layout %d", layout)
	}
	var last uint64
	for all.err == nil && len(all.b) > 0 {
		tag := all.uvarint()
		size := all.uvarint()
		if all.err != nil || tag <= last || size == 0 || size > uint64(len(all.b)) {
			all.fail(fmt.Errorf("bad entry after tag %d", last))
			break
		}
		last = tag
		d := decoder{b: all.take(int(size)), names: n}
		read(tag, &d)
		if err := d.end(); err != nil {
			return fmt.Errorf("entry %d: %w", tag, err)
		}
	}
	return all.err
}

// rest returns a copy of what is left.
func (d *decoder) rest() []byte {
	got := slices.Clone(d.b)
	d.b = nil
	return got
}

func (d *decoder) bool() bool { return d.uvarint() != 0 }

func (d *decoder) guid() [16]byte { return [16]byte(d.take(16)) }

// wholeGVSN reads a GVSN with all its originator.
func (d *decoder) wholeGVSN() version.GVSN {
	return version.GVSN{Originator: d.guid(), Version: d.uint64()}
}
