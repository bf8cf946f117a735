package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"sync"
)

const (
	prefixSize = 16
	flagFinal  = 1
	// step is how far a header's buffer runs ahead of what was received.
	step = 64 << 10
	// keep is the largest header buffer that a Reader holds on to.
	keep = 1 << 20
)

// Frame is one frame as it was read. Header is valid until the next one is
// read; Body belongs to the reader of the frame, who calls Release once.
type Frame struct {
	Type   Type
	Final  bool
	Stream uint32
	Header []byte
	Body   []byte
}

// Release gives the body's buffer back. Body must not be used after it.
func (f *Frame) Release() {
	FreeBuffer(f.Body)
	f.Body = nil
}

// Message decodes the header.
func (f *Frame) Message() (Message, error) { return Decode(f.Type, f.Header) }

// Append appends the prefix and header of a frame that carries m; bodyLen raw
// bytes must follow them.
func Append(b []byte, m Message, stream uint32, final bool, bodyLen int) ([]byte, error) {
	k := kinds[m.Type()]
	start := len(b)
	b = append(b, make([]byte, prefixSize)...)
	b, err := m.append(b)
	if err != nil {
		return nil, fmt.Errorf("encode %v: %w", m.Type(), err)
	}
	header := len(b) - start - prefixSize
	if header > k.maxHeader || bodyLen > k.maxBody {
		return nil, fmt.Errorf("encode %v: header of %d bytes, limit %d; body of %d, limit %d",
			m.Type(), header, k.maxHeader, bodyLen, k.maxBody)
	}
	p := b[start:]
	binary.BigEndian.PutUint32(p[0:], uint32(prefixSize-4+header+bodyLen))
	p[4] = byte(m.Type())
	if final {
		p[5] = flagFinal
	}
	binary.BigEndian.PutUint32(p[8:], stream)
	binary.BigEndian.PutUint32(p[12:], uint32(header))
	return b, nil
}

// Decode decodes the header of a frame of type t. The result shares nothing
// with header.
func Decode(t Type, header []byte) (Message, error) {
	k, ok := kinds[t]
	if !ok {
		return nil, fmt.Errorf("decode %v: unknown", t)
	}
	if len(header) > k.maxHeader {
		return nil, fmt.Errorf("decode %v: header of %d bytes, limit %d", t, len(header), k.maxHeader)
	}
	m := k.fresh()
	if err := m.decode(header); err != nil {
		return nil, fmt.Errorf("decode %v: %w", t, err)
	}
	return m, nil
}

// Reader reads frames. It allocates at most step bytes beyond what has
// arrived, and one body.
type Reader struct {
	r      *bufio.Reader
	header []byte
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 32<<10)} }

// Next reads one frame. io.EOF means that the stream ended between two frames.
func (r *Reader) Next() (Frame, error) {
	p, err := r.r.Peek(prefixSize)
	if err != nil {
		if err == io.EOF && len(p) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	f := Frame{Type: Type(p[4]), Final: p[5] == flagFinal, Stream: binary.BigEndian.Uint32(p[8:])}
	length, header := binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[12:])
	k, ok := kinds[f.Type]
	switch {
	case !ok:
		return Frame{}, fmt.Errorf("read frame: %v is unknown", f.Type)
	case p[5]&^flagFinal != 0 || p[6] != 0 || p[7] != 0:
		return Frame{}, fmt.Errorf("read %v frame: flags %#x", f.Type, p[5:8])
	case uint64(length) < prefixSize-4+uint64(header):
		return Frame{}, fmt.Errorf("read %v frame: length %d, header %d", f.Type, length, header)
	}
	body := length - (prefixSize - 4) - header
	if int64(header) > int64(k.maxHeader) || int64(body) > int64(k.maxBody) {
		return Frame{}, fmt.Errorf("read %v frame: header of %d bytes, limit %d; body of %d, limit %d", f.Type, header, k.maxHeader, body, k.maxBody)
	}
	if _, err := r.r.Discard(prefixSize); err != nil {
		return Frame{}, err
	}
	if err := r.readHeader(int(header)); err != nil {
		return Frame{}, fmt.Errorf("read %v frame: %w", f.Type, noEOF(err))
	}
	f.Header = r.header
	f.Body = Buffer(int(body))
	if _, err := io.ReadFull(r.r, f.Body); err != nil {
		f.Release()
		return Frame{}, fmt.Errorf("read %v frame: %w", f.Type, noEOF(err))
	}
	return f, nil
}

func (r *Reader) readHeader(n int) error {
	if cap(r.header) > keep {
		r.header = nil
	}
	r.header = r.header[:0]
	for len(r.header) < n {
		at := len(r.header)
		more := min(n-at, max(step, at))
		if cap(r.header)-at < more {
			r.header = append(make([]byte, 0, at+more), r.header...)
		}
		r.header = r.header[:at+more]
		if _, err := io.ReadFull(r.r, r.header[at:]); err != nil {
			return err
		}
	}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Bodies come from pools of powers of two, so that what is held is at most
// twice what is used.
const (
	minClass = 10
	maxClass = 20
)

var pools [maxClass - minClass + 1]sync.Pool

// Buffer returns n bytes, 0 to MaxBody, of any content; nil for 0.
func Buffer(n int) []byte {
	if n == 0 {
		return nil
	}
	c := max(minClass, bits.Len(uint(n-1)))
	if p, ok := pools[c-minClass].Get().(*[]byte); ok {
		return (*p)[:n]
	}
	return make([]byte, n, 1<<c)
}

// FreeBuffer gives back what Buffer returned; nobody may use it afterwards.
func FreeBuffer(b []byte) {
	if c := bits.Len(uint(cap(b))) - 1; cap(b) > 0 && cap(b) == 1<<c && c >= minClass && c <= maxClass {
		b = b[:cap(b)]
		pools[c-minClass].Put(&b)
	}
}
