package directory

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
)

// noteServersLocked writes down whom to ask for the domain when both copies of it
// are damaged: its servers and where it lives, unsigned. Nothing in it is believed;
// it says where to look for what is signed.
func (f *File) noteServersLocked() error {
	d := f.doc.Domain
	text := Marshal(&Domain{Name: d.Name, ID: d.ID, Term: d.Term, Home: d.Home, Servers: d.Servers})
	if bytes.Equal(text, f.noted) {
		return nil
	}
	if f.noted == nil {
		if f.noted, _, _ = f.disk.read(serversName); bytes.Equal(text, f.noted) { // what cannot be read is written
			return nil
		}
	}
	if err := f.disk.write(serversName, text); err != nil {
		return err
	}
	f.noted = text
	return nil
}

// KnownServers reads what a File wrote down of a domain whose copies are damaged:
// its id, its servers and where it lives. Nothing in it is to be believed beyond
// where to ask. The error is fs.ErrNotExist if there is nothing.
func KnownServers(dir string) (*Domain, error) {
	k := disk{dir: dir}
	text, _, err := k.read(serversName)
	if err != nil {
		return nil, err
	}
	doc, err := Read(text, serversName)
	if err != nil {
		return nil, err
	}
	return doc.Domain, nil
}

// IsLost reports whether an error of OpenFile says that a server of a domain has no
// good copy of it any more, so that one must be fetched (Restore).
func IsLost(err error) bool {
	var problems Problems
	return errors.Is(err, ErrBadCopy) || errors.Is(err, fs.ErrNotExist) || errors.As(err, &problems)
}

// Restore puts a signed copy that was fetched into a state directory whose own are
// damaged. What is damaged goes aside. A copy of another domain is ErrForeign, one
// that is not signed ErrBadCopy: nothing has changed then.
func Restore(o FileOptions, domain UUID, copied []byte) error {
	s, err := DecodeSigned(bytes.Clone(copied))
	if err != nil {
		return err
	}
	if s.Domain != domain {
		return fmt.Errorf("restore the domain: %w", ErrForeign)
	}
	doc, err := s.Open(o.Key)
	if err != nil {
		return err
	}
	f := &File{options: o, disk: disk{dir: o.Dir}}
	for _, name := range []string{copyName, oldCopyName, yamlName} {
		if _, there := f.disk.exists(name); there {
			if err := f.disk.rename(name, name+damagedSuffix); err != nil {
				return err
			}
		}
	}
	return f.storeCopyLocked(doc, s)
}

// Seal signs what this server read where the domain lives, for Restore.
func Seal(o FileOptions, doc *Document) ([]byte, error) {
	var s *Signed
	var err error
	if o.Signer != nil {
		s, err = Sign(doc, o.Self, o.Signer, o.Rand)
	} else {
		cert, key := o.Deputy()
		s, err = SignAsDeputy(doc, o.Self, cert, key, o.Rand)
	}
	if err != nil {
		return nil, err
	}
	return s.Encode(), nil
}
