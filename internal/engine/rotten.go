package engine

import (
	"errors"

	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"

	"github.com/zeebo/blake3"
)

// ErrRotten says that a file whose print is the record's has not the content that the
// record tells: one of the two rotted. No partner can take such a version.
var ErrRotten = errors.New("the file's bytes do not give the hash on record")

// maxServed bounds the versions that are remembered as sent whole.
const maxServed = 4096

// prove has a content hashed on its way if the version was sent whole before: whoever
// got it did not find the hash on record in it, or lost the connection. One that was
// proven since, or was sent only once, costs nothing.
func (s *Served) prove(c *Content) {
	s.mu.Lock()
	defer s.mu.Unlock()
	proven, before := s.whole[c.rec.GVSN]
	switch {
	case proven:
	case before:
		c.proof, c.served = blake3.New(), s
	default:
		if s.whole == nil || len(s.whole) >= maxServed {
			s.whole = make(map[version.GVSN]bool)
		}
		s.whole[c.rec.GVSN] = false
	}
}

// proven looks at the hash of a file that was read to its end and found unchanged.
func (c *Content) proven() {
	var sum repl.Hash
	c.proof.Sum(sum[:0])
	s := c.served
	if sum != c.rec.Content {
		if s.Doubt != nil {
			s.Doubt(c.rec.UID, ErrRotten)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.whole[c.rec.GVSN]; known {
		s.whole[c.rec.GVSN] = true
	}
}

// rotten has a file read whose content is not the one on record.
func (f *Folder) rotten(rec *repl.Record) {
	if rec.Present && rec.Presence == repl.OnDisk && rec.Type == repl.File {
		f.storeFailed(f.st.Put(&store.Batch{Writes: []store.Write{f.forgetPrint(*rec)}}))
	}
}
