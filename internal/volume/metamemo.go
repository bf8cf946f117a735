package volume

import (
	"bytes"
	"sync/atomic"
)

// metaMemo decodes metadata and remembers the last: neighbours mostly have the same.
// It may be used by many at once.
type metaMemo struct {
	last atomic.Pointer[decodedMeta]
}

// decodedMeta is metadata beside their bytes. Nobody changes either.
type decodedMeta struct {
	raw  []byte
	meta Meta
}

// memoMost bounds what is remembered.
const memoMost = 4 << 10

// decode is DecodeMeta; what it returns is not to be changed.
func (c *metaMemo) decode(b []byte) (Meta, error) {
	if last := c.last.Load(); last != nil && bytes.Equal(last.raw, b) {
		return last.meta, nil
	}
	if len(b) > memoMost {
		return DecodeMeta(b)
	}
	raw := bytes.Clone(b) // its values share it
	m, err := DecodeMeta(raw)
	if err == nil {
		c.last.Store(&decodedMeta{raw, m})
	}
	return m, err
}
