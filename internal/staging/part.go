package staging

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// maxParts is how many beginnings of contents are kept; the oldest goes first.
const maxParts = 8

const partPrefix = "part-"

// part is the beginning of a content whose transfer was cut.
type part struct {
	content repl.Hash
	size    int64
}

func partName(h repl.Hash) string { return partPrefix + hex.EncodeToString(h[:]) }

func parsePart(name string) (h repl.Hash, ok bool) {
	text, ok := strings.CutPrefix(name, partPrefix)
	b, err := hex.DecodeString(text)
	if !ok || err != nil || len(b) != len(h) || partName(repl.Hash(b)) != name {
		return repl.Hash{}, false
	}
	return repl.Hash(b), true
}

// namer is a Temp that can have a name while it is made.
type namer interface {
	// Name gives it a name in the staging area; Link takes the name away, Close
	// removes it.
	Name(name string) error
	// Leave makes Close leave the name.
	Leave()
}

// Begin has what there is of a content found by KeepPart's name if this process
// ends while it is brought: a Temp that holds the content's first bytes, and never
// anything behind them. Where a volume cannot do that nothing is kept of it then.
func (s *Store) Begin(h repl.Hash, t volume.Temp) {
	n, ok := t.(namer)
	if !ok {
		return
	}
	s.DropPart(h)
	_ = n.Name(partName(h)) // taken by another transfer of the same: one of them is enough
}

// KeepPart keeps a Temp as the beginning of a content. It may not be: then the
// content comes from its beginning again. The Temp stays the caller's, to close.
func (s *Store) KeepPart(h repl.Hash, t volume.Temp) {
	s.load()
	st, err := t.Stat()
	if err != nil || st.Print.Size > s.quota.Load() || s.partSize(h) > st.Print.Size {
		return
	}
	s.DropPart(h)
	d, err := s.vol.Private(volume.Staging)
	if err != nil {
		return
	}
	defer func() { _ = d.Close() }() // it was only read
	if n, ok := t.(namer); ok {
		if at, err := d.Lookup(partName(h)); err == nil && at.Identity == st.Identity {
			n.Leave()
			s.addPart(part{h, st.Print.Size})
			return
		}
	}
	if d.Link(t, partName(h)) == nil {
		s.addPart(part{h, st.Print.Size})
	}
}

// partSize is how much is kept of a content.
func (s *Store) partSize(h repl.Hash) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.content == h {
			return p.size
		}
	}
	return 0
}

// addPart enters a part and removes those that there is no room for.
func (s *Store) addPart(p part) {
	s.mu.Lock()
	s.parts = append(s.parts, p)
	var sum int64
	for _, p := range s.parts {
		sum += p.size
	}
	var old []repl.Hash
	for len(s.parts)-len(old) > maxParts || sum > s.quota.Load() && len(s.parts)-len(old) > 1 {
		old = append(old, s.parts[len(old)].content)
		sum -= s.parts[len(old)-1].size
	}
	s.mu.Unlock()
	for _, h := range old {
		s.DropPart(h)
	}
}

// Part opens the kept beginning of a content, of size bytes. The caller closes
// it, and drops it when it is of no more use.
func (s *Store) Part(h repl.Hash) (f volume.File, size int64, ok bool) {
	s.load()
	s.mu.Lock()
	ok = slices.ContainsFunc(s.parts, func(p part) bool { return p.content == h })
	s.mu.Unlock()
	if !ok {
		return nil, 0, false
	}
	d, err := s.vol.Private(volume.Staging)
	if err != nil {
		return nil, 0, false
	}
	f, err = d.OpenFile(partName(h))
	if err = errors.Join(err, d.Close()); err != nil {
		s.DropPart(h)
		return nil, 0, false
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close() // nothing was read
		return nil, 0, false
	}
	return f, st.Print.Size, true
}

// DropParts removes all kept beginnings: their room is wanted.
func (s *Store) DropParts() {
	s.load()
	s.mu.Lock()
	all := slices.Clone(s.parts)
	s.mu.Unlock()
	for _, p := range all {
		s.DropPart(p.content)
	}
}

// DropPart removes the kept beginning of a content, if there is one.
func (s *Store) DropPart(h repl.Hash) {
	s.load()
	s.mu.Lock()
	n := len(s.parts)
	s.parts = slices.DeleteFunc(s.parts, func(p part) bool { return p.content == h })
	found := len(s.parts) < n
	s.mu.Unlock()
	if !found {
		return
	}
	d, err := s.vol.Private(volume.Staging)
	if err != nil {
		return
	}
	_ = d.Remove(partName(h)) // gone already, or found again by the next run
	_ = d.Close()
}
