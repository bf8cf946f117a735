package fetch

import (
	"errors"
	"fmt"
	"io"

	"opendfs/internal/digest"
	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// assembly is a new version that is put together. Parts of it share their room
// with an old version; those are neither written nor, for the hash, read
// anywhere but in the new file itself (rule 18). Reading and writing go on side by
// side, each at its own place.
type assembly struct {
	temp           volume.Temp
	shared         []rdc.Range // of the new version, in order
	reads, written place

	kept  int64  // the first bytes, which an earlier transfer brought
	begin func() // to be called once, when they are in the new file; nil: not
}

// place is where one who goes through the new version is.
type place struct {
	at   int64
	next int // the first shared range that is not behind at
}

// alike returns how many of the n bytes at at, which is at or behind the place,
// are alike: shared, or not.
func (p *place) alike(shared []rdc.Range, at, n int64) (int64, bool) {
	for p.next < len(shared) && shared[p.next].Off+shared[p.next].Len <= p.at {
		p.next++
	}
	for _, r := range shared[p.next:] {
		switch {
		case at >= r.Off+r.Len:
			continue
		case at >= r.Off:
			return min(n, r.Off+r.Len-at), true
		}
		return min(n, r.Off-at), false
	}
	return n, false
}

// assemble makes a Temp of runs of old versions and of literals.
func (s *Stager) assemble(w *Wanted, o *olds, needs *rdc.Needs, literals io.Reader, out *Staged) error {
	u := &w.Update
	if needs.Size != u.Size {
		return fmt.Errorf("needs of %d bytes for %d: %w", needs.Size, u.Size, rdc.ErrFormat)
	}
	t, err := s.Volume.NewTemp(u.Size, u.Meta)
	if err != nil {
		return err
	}
	a := &assembly{temp: t}
	if err = a.share(needs, o, s.MinDelta); err == nil {
		err = s.put(a, w, o, needs, literals)
	}
	if errors.Is(err, rdc.ErrMismatch) {
		err = errors.Join(err, o.unchanged())
	}
	if o.part != nil && (err == nil || healed(err)) {
		s.Parts.DropPart(u.Content)
	}
	if err == nil {
		out.Lacks, out.Stat, err = dress(t, u)
	}
	if err != nil {
		if !healed(err) && len(a.shared) == 0 {
			s.keepPart(u, t, err)
		}
		return errors.Join(err, t.Close())
	}
	out.Temp = t
	return nil
}

// put writes the new version, signs it on its way and holds it against its hash.
func (s *Stager) put(a *assembly, w *Wanted, o *olds, needs *rdc.Needs, literals io.Reader) error {
	u := &w.Update
	var seeds []io.ReaderAt
	for _, f := range o.files {
		seeds = append(seeds, &seedReader{a, f})
	}
	if o.part != nil {
		seeds = append(seeds, o.part)
		a.kept = needs.Runs[0].Len
	}
	if len(a.shared) == 0 { // else what lies behind the first bytes is there already
		a.begin = func() { s.begin(u, a.temp) }
	}
	h := hashers.Get().(*digest.Hasher)
	defer hashers.Put(h)
	h.Reset()
	signed, end := s.Signatures.Assembled(u.Size, w.like(), needs, a.unshared(u.Size) < u.Size/fineShare)
	n, err := s.feed(u, &newVersion{a, rdc.NewPatched(needs, seeds, literals)}, a, h, signed)
	var sum repl.Hash
	h.Sum(sum[:0])
	if err == nil && (n != u.Size || sum != u.Content) {
		err = rdc.ErrMismatch
	}
	end(u.Content, err == nil)
	return err
}

// fineShare is the part of a content that its pieces take in staging.
const fineShare = 200

// unshared is how much of a content of size bytes takes room of its own.
func (a *assembly) unshared(size int64) int64 {
	for _, r := range a.shared {
		size -= r.Len
	}
	return size
}

// share shares what can be; a run of less than least bytes is written.
func (a *assembly) share(needs *rdc.Needs, o *olds, least int64) error {
	var at int64
	for _, r := range needs.Runs {
		if r.Seed != rdc.Fetch && r.Seed < len(o.files) && r.Len >= least {
			first, past, err := a.temp.Share(o.files[r.Seed], r.Off, at, r.Len)
			if err != nil {
				return err
			}
			if past > first {
				a.shared = append(a.shared, rdc.Range{Off: first, Len: past - first})
			}
		}
		at += r.Len
	}
	return nil
}

// Write takes the next bytes of the new version.
func (a *assembly) Write(p []byte) (int, error) {
	for left := p; len(left) > 0; {
		n, shared := a.written.alike(a.shared, a.written.at, int64(len(left)))
		if !shared {
			if _, err := a.temp.WriteAt(left[:n], a.written.at); err != nil {
				return len(p) - len(left), err
			}
		}
		left = left[n:]
		a.written.at += n
	}
	return len(p), nil
}

// newVersion reads the new version and keeps count of it.
type newVersion struct {
	a *assembly
	*rdc.Patched
}

// Read reads on.
func (v *newVersion) Read(p []byte) (int, error) {
	n, err := v.Patched.Read(p)
	v.a.reads.at += int64(n)
	if v.a.begin != nil && v.a.reads.at >= v.a.kept {
		v.a.begin()
		v.a.begin = nil
	}
	return n, err
}

// seedReader reads an old version for the place where the reading is.
type seedReader struct {
	a   *assembly
	old volume.File
}

// ReadAt fills p with the bytes of the old version at off, which come next in
// the new one: what is shared comes from the new file.
func (s *seedReader) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := s.a.reads.at + int64(done)
		n, shared := s.a.reads.alike(s.a.shared, at, int64(len(p)-done))
		part := p[done : done+int(n)]
		var k int
		var err error
		if shared {
			k, err = s.a.temp.ReadAt(part, at)
		} else {
			k, err = s.old.ReadAt(part, off+int64(done))
		}
		done += k
		if k < len(part) {
			return done, err
		}
	}
	return done, nil
}
