package engine

import (
	"context"
	"errors"
	"io"

	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
	"opendfs/internal/wire"

	"github.com/zeebo/blake3"
)

// Content opens what one item names. With another status than ok there is none.
func (s *Served) Content(ctx context.Context, item *wire.ContentItem) (*Content, wire.Status) {
	c, status := s.version(item.UID, item.GVSN)
	if status != wire.StatusOK {
		return nil, status
	}
	c.head = wire.Head{Size: c.rec.Size, Hash: c.rec.Content}
	left := item.Carried(&c.head)
	if left < 0 {
		_ = c.File.Close() // nothing was read
		return nil, wire.StatusChanged
	}
	c.ranges = item.Ranges
	if len(c.ranges) == 0 {
		c.ranges = []rdc.Range{{Off: item.Offset, Len: left}}
	}
	if len(item.Seeds) > 0 || len(item.Grains) > 0 || item.Similar {
		s.delta(ctx, c, item)
	}
	if c.head.Form == wire.FormWhole && item.Offset == 0 && len(item.Ranges) == 0 {
		if len(c.lead) == 0 {
			s.signSent(c)
		}
		s.prove(c)
	}
	return c, wire.StatusOK
}

// signSentFrom is the size from which on a content that is sent whole is signed on
// its way: whoever gets it will be sent the next version by what differs.
const signSentFrom = 1 << 20

func (s *Served) signSent(c *Content) {
	kept := s.env.Staging
	if kept == nil || c.rec.Size < signSentFrom || s.env.Workers == 0 || kept.Has(c.rec.Content) {
		return
	}
	c.signed, c.signEnd = kept.Sign(c.rec.Size, repl.Hash{})
}

// Content is an open version of a file: what of it one item asks for.
type Content struct {
	volume.File
	rec    repl.Record
	head   wire.Head
	lead   []byte      // what is sent before bytes of the file
	ranges []rdc.Range // of the file, to be sent; the first is what is left of it
	done   bool        // read to its end and found unchanged

	signed  io.Writer // takes what is sent; nil: nobody wants it
	signEnd func(content repl.Hash, ok bool)

	proof  *blake3.Hasher // of what is sent; nil: nobody doubts it
	served *Served        // is told of the proof
}

// Head is what is said of the content before its bytes.
func (c *Content) Head() wire.Head { return c.head }

// Read yields the bytes that the item asks for and, at their end, looks whether
// the file is still the version that was promised.
func (c *Content) Read(p []byte) (int, error) {
	if len(c.lead) > 0 {
		n := copy(p, c.lead)
		c.lead = c.lead[n:]
		if c.proof != nil { // all of it was read to find out what of it is new
			_, _ = c.proof.Write(p[:n]) // a hasher takes everything
		}
		return n, nil
	}
	if c.left() {
		r := &c.ranges[0]
		n, err := c.ReadAt(p[:min(int64(len(p)), r.Len)], r.Off)
		r.Off += int64(n)
		r.Len -= int64(n)
		switch {
		case n > 0:
			if c.proof != nil {
				_, _ = c.proof.Write(p[:n]) // a hasher takes everything
			}
			if c.signed != nil {
				_, _ = c.signed.Write(p[:n]) // a signer takes everything
			}
			return n, nil
		case errors.Is(err, io.EOF):
			return 0, ErrChanged
		}
		return 0, err
	}
	if !c.done {
		if c.done = c.unchanged(); !c.done {
			return 0, ErrChanged
		}
	}
	return 0, io.EOF
}

// left drops the ranges that were sent and reports whether others are left.
func (c *Content) left() bool {
	for len(c.ranges) > 0 && c.ranges[0].Len == 0 {
		c.ranges = c.ranges[1:]
	}
	return len(c.ranges) > 0
}

// Close ends the reading. It returns ErrChanged if what was read may not be of
// the version, or is not all that was asked for.
func (c *Content) Close() error {
	ok := c.done || len(c.lead) == 0 && !c.left() && c.unchanged()
	if c.signed != nil {
		c.signEnd(c.rec.Content, ok)
		c.signed = nil
	}
	if c.proof != nil && ok {
		c.proven()
	}
	if err := c.File.Close(); err != nil {
		return err
	}
	if !ok {
		return ErrChanged
	}
	return nil
}

// ErrChanged says that a file changed while it was sent.
var ErrChanged = errors.New("content changed while it was read")

func (c *Content) unchanged() bool {
	st, err := c.Stat()
	if err != nil || st.Identity != c.rec.Identity || !st.Print.SameData(c.rec.Print) {
		return false
	}
	if c.rec.Print.Ctime <= 0 { // not known since an install moved the file; its hash tells the rest
		c.rec.Print.Ctime = st.Print.Ctime
	}
	return st.Print == c.rec.Print
}
