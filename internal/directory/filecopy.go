package directory

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
)

// ErrOlderCopy is the error of a copy that is older than the one here. Give
// the partner this one.
var ErrOlderCopy = errors.New("it is older than the domain that this server knows; nothing need be done")

// ErrDiverged is the error of a copy that says something else than the one
// here under the same term and generation: two servers were masters at once.
var ErrDiverged = errors.New("two servers changed the domain as masters at once; decide which is right and run `dfs directory promote` on it")

// Signed gives the bytes of the newest signed copy, to give to partners.
func (f *File) Signed() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.signed.Encode()
}

// Accept takes a copy that a partner brought. It says whether the domain
// changed; the change is durable then. A copy that is known already changes
// nothing and is no error.
//
// Errors: ErrBadCopy for what is not signed, ErrForeign for another domain,
// ErrOlderCopy, ErrDiverged. Nothing has changed then.
//
// A copy of a higher term ends the mastership of this server: another was
// promoted. Its domain.yaml is kept as domain.yaml.superseded. A newer copy
// that this server signed itself, as master, is taken back: its own files came
// from a backup.
func (f *File) Accept(copied []byte) (changed bool, err error) {
	s, err := DecodeSigned(bytes.Clone(copied))
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("take domain copy of term %d, generation %d: %w", s.Term, s.Generation, err)
	}
	// Cheap refusals first; none of them trusts the copy.
	if s.Domain != f.signed.Domain {
		return fail(ErrForeign)
	}
	order := s.compare(f.signed)
	if order < 0 {
		return fail(ErrOlderCopy)
	}
	doc, err := s.Open(f.options.Key)
	if err != nil {
		return fail(err)
	}
	// In a file one server signs a term; elsewhere each that reads it there may.
	other := s.Signer != f.signed.Signer && (doc.Domain.Home.Kind == HomeFile || f.doc.Domain.Home.Kind == HomeFile)
	switch {
	case order == 0 && bytes.Equal(doc.Text(), f.doc.Text()) && !other:
		return false, nil
	case order == 0 || s.Term == f.signed.Term && other:
		return fail(ErrDiverged)
	case !f.masterLocked():
		return true, f.storeCopyLocked(doc, s)
	case s.Signer == f.options.Self && doc.Domain.Home.Kind == HomeFile:
		if err := f.disk.keepOld(yamlName, supersededName); err != nil {
			return fail(err)
		}
		return true, f.publishLocked(doc)
	}
	if err := f.leaveLocked(doc, s); err != nil {
		return fail(err)
	}
	return true, nil
}

// UseSigner gives the private key of the CA to a server that did not have it.
func (f *File) UseSigner(key crypto.Signer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.options.Signer = key
}

// Promote makes this server the master, in a new term; nothing if it is. It
// needs the private key of the CA. If the old master lives it becomes a copy
// when it hears of the new term; changes that it made and nobody saw are then
// in its domain.yaml.superseded. A domain that lived elsewhere lives in a file
// from then on, for the day on which that place is gone for good.
func (f *File) Promote() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.masterLocked() {
		return nil
	}
	d := f.doc.Domain.Clone()
	if d.Server(f.options.Self) == nil {
		return fmt.Errorf("promote this server: the domain %q does not name it; join first", d.Name)
	}
	d.Term++
	d.Generation++
	d.Home = Home{}
	doc, err := f.doc.With(d)
	if err != nil {
		return err
	}
	// domain.yaml first: with a higher term than the copy it is a promotion
	// that OpenFile finishes.
	return f.publishLocked(doc)
}

// Refresh looks whether domain.yaml was edited by hand since it was last
// looked at, at the cost of one stat if it was not. On the master an edit that
// is valid becomes the next generation; one that is not, or that began from
// another generation than the present one, is refused with its error and stays
// in the file. Elsewhere there is nothing to edit: Refused says so.
func (f *File) Refresh() (updated bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refreshLocked()
}

func (f *File) refreshLocked() (updated bool, err error) {
	info, _ := f.disk.exists(yamlName)
	if !changed(f.yaml, info) {
		return false, nil
	}
	mine, info, yamlErr := f.readYAML()
	f.yaml = info
	switch {
	case !f.masterLocked():
		return false, errors.Join(f.settleCopyLocked(mine, yamlErr), f.refused)
	case info == nil:
		return false, f.publishLocked(f.doc)
	}
	return f.takeEditLocked(mine, yamlErr)
}

// Superseded gives the path of the domain.yaml that this server had as master
// when another was promoted; empty if there is none any more.
func (f *File) Superseded() string {
	if _, there := f.disk.exists(supersededName); !there {
		return ""
	}
	return f.disk.path(supersededName)
}
