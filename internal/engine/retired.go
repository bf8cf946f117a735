package engine

import (
	"encoding/binary"
	"fmt"

	"opendfs/internal/version"
	"opendfs/internal/wire"

	"github.com/zeebo/blake3"
)

// Retired are the originators that were given up and that every member of the folder is
// known to cover to their end, as this member does: nothing will ever come of them
// that somebody lacks. They stay in the vectors, which must cover what they made, and
// are left out where a vector travels between two members that have the same of them.
// That changes nothing of what is known: the receiver, whose digest is the same, puts
// them in again.
type Retired struct {
	Vector version.Vector // each with all that is covered of it; never changed
	Digest uint64         // the first 8 bytes of BLAKE3 over Vector; 0: there are none
}

// retire finds out which originators are retired, when members have said what they
// cover.
func (f *Folder) retire() {
	mine, own := f.st.Vector(), f.st.State().Originator
	v := make(version.Vector)
	for o, spans := range mine {
		if o != own && len(spans) > 0 && spans[len(spans)-1].High == closing && f.coveredByAll(o, version.Vector{o: spans}) {
			v[o] = spans
		}
	}
	r := &Retired{Vector: v}
	if len(v) > 0 {
		sum := blake3.Sum256(v.Append(nil))
		r.Digest = max(binary.BigEndian.Uint64(sum[:]), 1)
	}
	f.retired = r
}

// coveredByAll reports whether each other member is known to cover the same of an
// originator, which is all that one has.
func (f *Folder) coveredByAll(o version.Originator, one version.Vector) bool {
	if len(f.cfg.Members) == 0 {
		return false
	}
	for i := range f.cfg.Members {
		m := &f.cfg.Members[i]
		if m.ID == f.cfg.Self || f.out(m) {
			continue
		}
		if c := f.covers[m.ID]; c.Database.IsZero() || !one.Equal(version.Vector{o: c.Covers[o]}) {
			return false
		}
	}
	return true
}

// Retired returns what vectors may leave out at the moment.
func (f *Folder) Retired() *Retired { return f.retired }

// SetRetired tells from now on what vectors of partners may leave out.
func (s *Served) SetRetired(r *Retired) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = r
}

// retiredNow returns what was told last, nil if nothing was.
func (s *Served) retiredNow() *Retired {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired
}

// Whole puts into a question's vector what it leaves out. If that is not known here it
// is refused, and asked again whole.
func (s *Served) Whole(req *wire.DiffRequest) error {
	if req.Retired == 0 {
		return nil
	}
	r := s.retiredNow()
	if r == nil || r.Digest != req.Retired {
		return wire.Errorf(wire.CodeRetired, "other originators are retired here; ask with the whole vector")
	}
	req.Vector = req.Vector.Union(r.Vector)
	return nil
}

// shortVector leaves out of a page's vector what its requester has retired too.
func (s *Served) shortVector(page *wire.DiffPage, req *wire.DiffRequest) {
	r := s.retiredNow()
	if r == nil {
		return
	}
	if page.Retired = r.Digest; r.Digest != 0 && r.Digest == req.Retired {
		page.Vector, page.Short = page.Vector.Minus(r.Vector), true
	}
}

// short is the request as it travels.
func (a *Ask) short() wire.DiffRequest {
	req := a.Request
	if a.retired != nil {
		req.Vector, req.Retired = req.Vector.Minus(a.retired.Vector), a.retired.Digest
	}
	return req
}

// whole puts into a page's vector what it leaves out.
func (a *Ask) whole(page *wire.DiffPage) error {
	switch {
	case !page.Short:
		return nil
	case a.retired == nil || a.retired.Digest != page.Retired:
		return fmt.Errorf("page of %v: its vector leaves out what was not left out of the question's", a.Member)
	}
	page.Vector = page.Vector.Union(a.retired.Vector)
	return nil
}
