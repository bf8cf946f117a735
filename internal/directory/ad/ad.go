// Package ad keeps a domain in Active Directory, Samba's or Windows': a
// directory.Store over LDAP with TLS and a simple bind, in DFSR's own schema
// (MS-FRS2 section 2.3), so that groups which Windows' tools have made are read as
// they are, and ours are well-formed to those tools. docs/formats/ad.md has the
// objects.
//
// Active Directory changes one object at a time. So one object of ours,
// CN=OpenDFS,CN=System, holds the domain as a whole, with a stamp. A change is
// made there first, by compare-and-swap, marked as pending: from then on it holds.
// Then the other objects are written to say the same, and the mark goes. Whoever
// finds the mark finishes that work, so a change is never half applied.
//
// What somebody else changes in those objects is read back and becomes the next
// generation. What the schema cannot say (rates between the levels, bytes of a
// quota, comments) stays as we know it, as long as what can be said is unchanged.
//
// Compare-and-swap holds on one domain controller: all servers of one domain name
// the same URL.
package ad

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"opendfs/internal/directory"

	"github.com/go-ldap/ldap/v3"
)

// Rhythm.
const (
	// poll is between two looks at whether anything has changed; wholly is between
	// two that believe no number.
	poll   = time.Second
	wholly = time.Minute
)

// Store is a domain in Active Directory.
type Store struct {
	link     link
	domain   directory.UUID
	rand     io.Reader
	problem  func(error)
	step     func(string) error // asked before each step of a change; nil: nobody. Tests set it.
	watchers directory.Watchers
	cancel   context.CancelFunc
	done     chan struct{}

	// changing is held over a change or a look, outside mu.
	changing sync.Mutex
	usn      string    // guarded by changing; the last that was seen to be quiet
	looked   time.Time // guarded by changing; when everything was last read

	mu  sync.Mutex
	doc *directory.Document // guarded by mu
}

var _ directory.Store = (*Store)(nil)

// ErrEmpty is the error of an Active Directory that does not hold the domain.
var ErrEmpty = errors.New("the domain is not in it; `dfs directory move` puts it there")

// Settings are what a Store needs beside the way to Active Directory.
type Settings struct {
	Options
	// Domain is the id of the domain.
	Domain directory.UUID
	Rand   io.Reader
	// Problem is told why a look failed, and nil when one succeeds. It may be nil.
	Problem func(error)
}

// Open gives the Store of a domain. If it is not there, or one of an earlier term
// than first (which it was moved away from), first is put there; with a nil first
// the error is ErrEmpty.
func Open(ctx context.Context, o Settings, first *directory.Document) (*Store, error) {
	return open(ctx, o, first, nil)
}

func open(ctx context.Context, o Settings, first *directory.Document, step func(string) error) (*Store, error) {
	s := &Store{link: link{options: o.Options}, domain: o.Domain, rand: o.Rand, problem: o.Problem, step: step, done: make(chan struct{})}
	if err := s.begin(ctx, first); err != nil {
		s.link.close()
		return nil, fmt.Errorf("open the domain in Active Directory: %w", err)
	}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(s.done)
		s.follow(ctx)
	}()
	return s, nil
}

// Close ends the Store.
func (s *Store) Close() error {
	s.cancel()
	<-s.done
	s.link.close()
	return nil
}

// Existing reads what an Active Directory says of replication, as a domain of its
// own: for one that was never ours. The document is not complete.
func Existing(ctx context.Context, o Options) (*directory.Document, error) {
	l := link{options: o}
	defer l.close()
	var d *directory.Domain
	err := l.with(ctx, func(c *ldap.Conn) error {
		s, err := take(c, o.Base, nil)
		if err == nil {
			d = s.read(nil)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read Active Directory: %w", err)
	}
	return directory.NewDocument(d)
}

func (s *Store) base() string { return s.link.options.Base }

// begin reads the domain, and puts first there if that is called for.
func (s *Store) begin(ctx context.Context, first *directory.Document) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.link.with(ctx, func(c *ldap.Conn) error {
		for {
			st, err := readState(c, s.base())
			if err != nil {
				return err
			}
			switch {
			case st != nil && st.doc.Domain.ID != s.domain:
				return directory.ErrForeign
			case st != nil && (first == nil || st.doc.Domain.Term >= first.Domain.Term):
				_, err := s.look(c, st)
				return err
			case first == nil:
				return ErrEmpty
			}
			var before *directory.Document
			if st == nil {
				if before, err = directory.NewDocument(&directory.Domain{Name: first.Domain.Name, ID: first.Domain.ID, Term: 1}); err != nil {
					return err
				}
			} else {
				before = st.doc
			}
			_, err = s.put(c, st, first, before, nil)
			if err != nil && !errors.Is(err, errSwapped) {
				return err
			}
		}
	})
}

// put makes doc the domain in the place of the state was, and the objects say so.
// snap is what they say now, nil if that was not read.
func (s *Store) put(c *ldap.Conn, was *state, doc, before *directory.Document, snap *snapshot) (*directory.Document, error) {
	var err error
	if snap == nil {
		snap, err = take(c, s.base(), serverNames(doc.Domain))
	} else {
		err = snap.addNamed(c, serverNames(doc.Domain))
	}
	if err != nil {
		return nil, err
	}
	snap.read(doc.Domain)
	if err := snap.obstacles(doc.Domain); err != nil {
		return nil, err
	}
	if err := s.before("write the domain"); err != nil {
		return nil, err
	}
	st, err := writeState(c, s.base(), was, doc, before)
	if err != nil {
		return nil, err
	}
	s.take(doc)
	return doc, s.finish(c, st, snap)
}

// finish makes the objects say what a pending change says, and takes the mark away.
func (s *Store) finish(c *ldap.Conn, st *state, snap *snapshot) error {
	a := &applier{c: c, base: s.base(), step: s.step}
	if err := a.apply(st.before.Domain, st.doc.Domain, snap); err != nil {
		return fmt.Errorf("the change holds; writing its objects in Active Directory goes on: %w", err)
	}
	if err := s.before("take the mark away"); err != nil {
		return err
	}
	if _, err := writeState(c, s.base(), st, st.doc, nil); err != nil && !errors.Is(err, errSwapped) {
		return err // swapped: another has finished it, or the next change has begun
	}
	return nil
}

func (s *Store) before(step string) error {
	if s.step == nil {
		return nil
	}
	return s.step(step)
}

// look brings what is known up to the state st: it finishes what is pending, and
// makes the next generation of what somebody else has changed. It gives what the
// objects say if that is what the state says.
func (s *Store) look(c *ldap.Conn, st *state) (*snapshot, error) {
	if st.pending {
		s.take(st.doc)
		return nil, s.finish(c, st, nil)
	}
	snap, err := take(c, s.base(), serverNames(st.doc.Domain))
	if err != nil {
		return nil, err
	}
	seen := snap.read(st.doc.Domain)
	s.looked = time.Now()
	if seen.Equal(st.doc.Domain) {
		s.take(st.doc)
		return snap, nil
	}
	next, err := st.doc.With(seen)
	if err == nil {
		next, err = directory.Successor(st.doc, next, st.doc.Domain.Generation, s.rand)
	}
	if err != nil {
		s.take(st.doc)
		return nil, fmt.Errorf("somebody has changed Active Directory into what cannot be; the domain stays as it was: %w", err)
	}
	if _, err = writeState(c, s.base(), st, next, nil); errors.Is(err, errSwapped) {
		return nil, nil // another has seen it too; the next look tells
	}
	if err == nil {
		s.take(next)
	}
	return nil, err
}

// take remembers what was seen, if it is newer.
func (s *Store) take(doc *directory.Document) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doc != nil && !doc.Domain.Newer(s.doc.Domain) {
		return
	}
	s.doc = doc
	s.watchers.Tell(doc.Domain)
}

func (s *Store) known() *directory.Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doc
}

// Load is that of directory.Store.
func (s *Store) Load(context.Context) (*directory.Document, error) { return s.known(), nil }

// Watch is that of directory.Store.
func (s *Store) Watch(ctx context.Context) <-chan *directory.Domain {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watchers.Add(ctx, s.doc.Domain)
}

// Update is that of directory.Store. What somebody else has changed in the objects
// comes first: then the error is a *ConflictError.
func (s *Store) Update(ctx context.Context, base uint64, next *directory.Document) (doc *directory.Document, err error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	err = s.link.with(ctx, func(c *ldap.Conn) error {
		st, err := readState(c, s.base())
		if err != nil {
			return err
		}
		if st == nil {
			return ErrEmpty
		}
		// What cannot be, somebody else's change, does not stop ours.
		snap, err := s.look(c, st)
		if err != nil && st.pending {
			return err
		}
		if snap == nil {
			if st, err = readState(c, s.base()); err != nil {
				return err
			}
		}
		s.take(st.doc)
		if doc, err = directory.Successor(st.doc, next, base, s.rand); err != nil {
			return err
		}
		doc, err = s.put(c, st, doc, st.doc, snap)
		if errors.Is(err, errSwapped) {
			if st, err = readState(c, s.base()); err == nil {
				s.take(st.doc)
				err = &directory.ConflictError{Base: base, Current: st.doc.Domain.Generation}
			}
		}
		return err
	})
	if err != nil {
		var conflict *directory.ConflictError
		if errors.As(err, &conflict) || errors.Is(err, directory.ErrForeign) {
			return nil, err
		}
		return nil, fmt.Errorf("change the domain in Active Directory: %w", err)
	}
	return doc, nil
}

// follow looks whether something has changed until ctx ends.
func (s *Store) follow(ctx context.Context) {
	t := time.NewTicker(poll)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		err := s.glance(ctx)
		if ctx.Err() == nil && s.problem != nil {
			s.problem(err)
		}
	}
}

// glance asks for the number of the last change on the domain controller and, if
// that has moved, for what has changed since among what matters.
func (s *Store) glance(ctx context.Context) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.link.with(ctx, func(c *ldap.Conn) error {
		root, err := search(c, "", ldap.ScopeBaseObject, "(objectClass=*)", "highestCommittedUSN")
		if err != nil || len(root) != 1 {
			return errors.Join(err, errNoRoot(len(root)))
		}
		usn := root[0].one("highestCommittedUSN")
		if usn == s.usn && time.Since(s.looked) < wholly {
			return nil
		}
		st, err := readState(c, s.base())
		if err != nil {
			return err
		}
		if st == nil {
			return ErrEmpty
		}
		if known := s.known(); !st.pending && time.Since(s.looked) < wholly && bytes.Equal(known.Text(), st.doc.Text()) {
			if some, err := s.changedSince(c); err != nil || !some {
				s.usn = usn
				return err
			}
		}
		if _, err := s.look(c, st); err != nil {
			return err
		}
		s.usn = usn
		return nil
	})
}

func errNoRoot(n int) error {
	if n == 1 {
		return nil
	}
	return errors.New("read the root of Active Directory: it is not shown; give the service account the right to read it")
}

// changedSince says whether an object of replication has changed since the last
// look. What was deleted does not show; the next whole look finds that.
func (s *Store) changedSince(c *ldap.Conn) (bool, error) {
	n, err := strconv.ParseUint(s.usn, 10, 64)
	if err != nil {
		return true, nil //nolint:nilerr // there was no look yet
	}
	newer := fmt.Sprintf("(uSNChanged>=%d)", n+1)
	for base, filter := range map[string]string{globalDN(s.base()): newer, s.base(): "(&" + localFilter + newer + ")"} {
		list, err := search(c, base, ldap.ScopeWholeSubtree, filter, "cn")
		if err != nil || len(list) > 0 {
			return true, err
		}
	}
	return false, nil
}
