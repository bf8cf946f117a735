package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
)

// AwayError says that the domain lives in a directory that this server does not
// speak to, or cannot at present.
type AwayError struct {
	Home Home
	// Here says that this server is one of those that speak to it.
	Here bool
}

// Error tells where to go.
func (e *AwayError) Error() string {
	if e.Here {
		return fmt.Sprintf("change domain: it lives in %s, which this server has not reached yet; is `dfs serve` running here and on %s, and do the log and `dfs status` name a finding?", e.what(), strings.Join(e.Home.Servers, ", "))
	}
	return fmt.Sprintf("change domain: it lives in %s; run the command on %s", e.what(), strings.Join(e.Home.Servers, " or "))
}

func (e *AwayError) what() string {
	if e.Home.Kind == HomeAD {
		return "Active Directory"
	}
	return e.Home.Kind.String()
}

// ErrWithoutCA is the error of a move of the domain on a server without the key of
// the domain's CA.
var ErrWithoutCA = errors.New("the key of the domain's CA is not here; run the command on the server that holds it, or `dfs ca import` here")

// Attach tells where changes go while the domain lives elsewhere: home is this
// server's way to it, nil if there is none at present.
func (f *File) Attach(home Store) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.home = home
}

// Attached reports whether there is a way to a home.
func (f *File) Attached() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.home != nil
}

// Adopt takes what this server read in the domain's home, signs it for partners
// and keeps it. It says whether the domain changed; the change is durable then.
// A document that says that the domain lives in a file again makes the server
// that holds the CA's key the master; on others it is ErrWithoutCA, and the
// master's copy comes by partners.
//
// Errors beside that: ErrForeign, ErrOlderCopy, ErrDiverged, as of Accept.
func (f *File) Adopt(doc *Document) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.adoptLocked(doc)
}

func (f *File) adoptLocked(doc *Document) (bool, error) {
	d, now := doc.Domain, f.doc.Domain
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("take domain of term %d, generation %d from its directory: %w", d.Term, d.Generation, err)
	}
	switch {
	case d.ID != now.ID:
		return fail(ErrForeign)
	case now.Newer(d):
		return fail(ErrOlderCopy)
	case bytes.Equal(doc.Text(), f.doc.Text()):
		return false, nil
	case !d.Newer(now):
		return fail(ErrDiverged)
	}
	if f.options.Signer != nil {
		return true, f.publishLocked(doc)
	}
	if d.Home.Kind == HomeFile {
		return fail(ErrWithoutCA)
	}
	if f.options.Deputy == nil {
		return fail(errors.New("this server has no key to sign it with"))
	}
	cert, key := f.options.Deputy()
	s, err := SignAsDeputy(doc, f.options.Self, cert, key, f.options.Rand)
	if err != nil {
		return fail(err)
	}
	if _, err := s.Open(f.options.Key); err != nil {
		return fail(err)
	}
	return true, f.leaveLocked(doc, s)
}

// leaveLocked stores a copy of a domain that lives elsewhere: no domain.yaml
// stands beside it.
func (f *File) leaveLocked(doc *Document, s *Signed) error {
	// The copy first: from then on a crash finds a domain.yaml of a lower term
	// than the copy, and puts it aside.
	aside := f.asideLocked(s)
	if err := f.storeCopyLocked(doc, s); err != nil {
		return err
	}
	f.yaml, f.refused = nil, nil
	if _, there := f.disk.exists(yamlName); !there {
		return nil
	}
	return f.disk.rename(yamlName, aside)
}

// asideLocked says under which name a domain.yaml goes aside for a copy: what this
// server moved has nothing that is not in the domain.
func (f *File) asideLocked(s *Signed) string {
	if s.Signer == f.options.Self {
		return movedName
	}
	return supersededName
}

// updateAway changes the domain where it lives.
func (f *File) updateAway(ctx context.Context, base uint64, next *Document) (*Document, error) {
	f.mu.Lock()
	home, now := f.home, f.doc
	f.mu.Unlock()
	moves := !next.Domain.Home.Equal(&now.Domain.Home)
	switch {
	case home == nil:
		return nil, f.awayError(now.Domain)
	case moves && f.options.Signer == nil:
		return nil, fmt.Errorf("move domain %q: %w", now.Domain.Name, ErrWithoutCA)
	}
	if err := f.stays(next.Domain); err != nil {
		return nil, err
	}
	doc, err := home.Update(ctx, base, next)
	if err != nil {
		return nil, err
	}
	// One that was adopted from the home meanwhile may be newer still.
	if _, err := f.Adopt(doc); err != nil && !errors.Is(err, ErrOlderCopy) {
		return nil, err
	}
	return doc, nil
}

// stays refuses a move of the domain, on the server that holds the CA's key, to
// servers of which it is none: nobody could make them what they are to be.
func (f *File) stays(d *Domain) error {
	self := d.Server(f.options.Self)
	if d.Home.Kind == HomeFile || self == nil || d.Home.Has(self.Name) || f.options.Signer == nil {
		return nil
	}
	return fmt.Errorf("move domain %q to %v: this server, %s, holds the CA's key and is not among the servers that speak to it; name it too", d.Name, d.Home.Kind, self.Name)
}

func (f *File) awayError(d *Domain) error {
	self := d.Server(f.options.Self)
	return &AwayError{Home: d.Home, Here: self != nil && d.Home.Has(self.Name)}
}

// Masters gives the ids of the servers where the domain can be changed: the
// master, or those that speak to its home.
func (f *File) Masters() []UUID {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.doc.Domain
	if d.Home.Kind == HomeFile {
		return []UUID{f.signed.Signer}
	}
	var list []UUID
	for _, name := range d.Home.Servers {
		if s := d.ServerByName(name); s != nil {
			list = append(list, s.ID)
		}
	}
	return list
}
