package version

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxVectorBytes bounds the byte form of a vector that a decoder accepts.
const MaxVectorBytes = 16 << 20

var errShort = errors.New("truncated")

// AppendGVSN appends the byte form of g: 16 bytes originator, then the version
// as an unsigned varint.
func AppendGVSN(b []byte, g GVSN) []byte {
	b = append(b, g.Originator[:]...)
	return binary.AppendUvarint(b, g.Version)
}

// DecodeGVSN reads a GVSN from the front of b and returns the rest.
func DecodeGVSN(b []byte) (GVSN, []byte, error) {
	if len(b) < 17 {
		return GVSN{}, nil, fmt.Errorf("decode GVSN: %w", errShort)
	}
	g := GVSN{Originator: Originator(b[:16])}
	v, n := binary.Uvarint(b[16:])
	if n <= 0 {
		return GVSN{}, nil, fmt.Errorf("decode GVSN: %w", errShort)
	}
	g.Version = v
	return g, b[16+n:], nil
}

// Append appends the byte form of v: a varint count of originators; for each,
// in order, 16 bytes, a varint count of intervals, and for each interval the
// distance of its low end from the last high end and its length, as varints.
func (v Vector) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	for _, o := range v.Originators() {
		b = append(b, o[:]...)
		b = binary.AppendUvarint(b, uint64(len(v[o])))
		last := uint64(0)
		for _, iv := range v[o] {
			b = binary.AppendUvarint(b, iv.Low-last)
			b = binary.AppendUvarint(b, iv.High-iv.Low)
			last = iv.High
		}
	}
	return b
}

// DecodeVector reads the whole of b as one vector. It refuses input that
// Append cannot have made: unordered, empty or touching intervals, overflow.
func DecodeVector(b []byte) (Vector, error) {
	if len(b) > MaxVectorBytes {
		return nil, fmt.Errorf("decode vector: %d bytes, limit %d", len(b), MaxVectorBytes)
	}
	d := decoder{b: b}
	count := d.uvarint()
	v := make(Vector)
	var prev Originator
	for i := uint64(0); i < count && d.err == nil; i++ {
		o := d.originator()
		if i > 0 && prev.Compare(o) >= 0 {
			return nil, errors.New("decode vector: originators out of order")
		}
		prev = o
		v[o] = d.intervals()
	}
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.b))
	}
	if d.err != nil {
		return nil, fmt.Errorf("decode vector: %w", d.err)
	}
	return v, nil
}

type decoder struct {
	b   []byte
	err error
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) originator() Originator {
	if len(d.b) < 16 {
		d.fail(errShort)
		return Originator{}
	}
	o := Originator(d.b[:16])
	d.b = d.b[16:]
	return o
}

func (d *decoder) intervals() []Interval {
	count := d.uvarint()
	if d.err == nil && (count == 0 || count > uint64(len(d.b))/2) {
		d.fail(errors.New("bad count of intervals"))
	}
	var s []Interval
	last := uint64(0)
	for i := uint64(0); i < count && d.err == nil; i++ {
		gap, length := d.uvarint(), d.uvarint()
		low := last + gap
		high := low + length
		if low < last || high <= low || (i > 0 && gap == 0) {
			d.fail(errors.New("bad interval"))
		}
		s = append(s, Interval{low, high})
		last = high
	}
	return s
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}
