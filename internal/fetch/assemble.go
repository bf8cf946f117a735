package fetch

import (
	"errors"
	"fmt"
	"io"

	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// assembly is a new version that is put together. Parts of it share their room
// with an old version; those are neither written nor, for the hash, read
// anywhere but in the new file itself (rule 18).
type assembly struct {
	temp   volume.Temp
	shared []rdc.Range // of the new version, in order; those behind at
	at     int64       // what lies before it is done
	signed io.Writer
}

// assemble makes a Temp of runs of old versions and of literals.
func (s *Stager) assemble(u *repl.Update, o *olds, needs *rdc.Needs, literals io.Reader, out *Staged) error {
	if needs.Size != u.Size {
		return fmt.Errorf("needs of %d bytes for %d: %w", needs.Size, u.Size, rdc.ErrFormat)
	}
	t, err := s.Volume.NewTemp(u.Size)
	if err != nil {
		return err
	}
	signed, end := s.Signatures.Sign(u.Size)
	a := &assembly{temp: t, signed: signed}
	err = a.share(needs, o, s.MinDelta)
	if err == nil {
		var seeds []io.ReaderAt
		for _, f := range o.files {
			seeds = append(seeds, &seedReader{a, f})
		}
		err = rdc.Patch(a, needs, seeds, literals, u.Content)
	}
	end(u.Content, err == nil)
	if errors.Is(err, rdc.ErrMismatch) {
		err = errors.Join(err, o.unchanged())
	}
	if err == nil {
		out.Lacks, out.Stat, err = dress(t, u)
	}
	if err != nil {
		return errors.Join(err, t.Close())
	}
	out.Temp = t
	return nil
}

// share shares what can be; a run of less than least bytes is written.
func (a *assembly) share(needs *rdc.Needs, o *olds, least int64) error {
	var at int64
	for _, r := range needs.Runs {
		if r.Seed != rdc.Fetch && r.Len >= least {
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

// next returns how many of the n bytes at at are alike: shared, or not.
func (a *assembly) next(at, n int64) (int64, bool) {
	for len(a.shared) > 0 && a.shared[0].Off+a.shared[0].Len <= a.at {
		a.shared = a.shared[1:]
	}
	for _, r := range a.shared {
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

// Write takes the next bytes of the new version.
func (a *assembly) Write(p []byte) (int, error) {
	for left := p; len(left) > 0; {
		n, shared := a.next(a.at, int64(len(left)))
		if !shared {
			if _, err := a.temp.WriteAt(left[:n], a.at); err != nil {
				return len(p) - len(left), err
			}
		}
		left = left[n:]
		a.at += n
	}
	_, _ = a.signed.Write(p) // a signer takes everything
	return len(p), nil
}

// seedReader reads an old version for the place where the assembly is.
type seedReader struct {
	a   *assembly
	old volume.File
}

// ReadAt fills p with the bytes of the old version at off, which Patch writes
// next: what is shared comes from the new file.
func (s *seedReader) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := s.a.at + int64(done)
		n, shared := s.a.next(at, int64(len(p)-done))
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
