// Package volumetest is the contract suite of volume.Volume: stories that the
// volume on a real filesystem and the simulated one must both pass, so that
// what the simulator shows holds on a disk.
//
// A story is told by two hands: the volume under test, and a user who works on
// the same tree beside it, by plain paths and without manners. Every method
// and every declared error is in a story. What a filesystem or a process cannot
// do is said by Subject and its stories are skipped.
package volumetest

import (
	"errors"
	"io"
	"slices"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// User is somebody who works on the tree beside the volume. Paths are relative
// to the root.
type User interface {
	Mkdir(path string) error
	// WriteFile makes or truncates a file.
	WriteFile(path string, data []byte) error
	// OpenForWrite opens an existing file and holds it open.
	OpenForWrite(path string) (io.WriteCloser, error)
	// Rename replaces what is in the way.
	Rename(from, to string) error
	// Remove removes a file, a link or an empty directory.
	Remove(path string) error
	Symlink(target, path string) error
	// Link makes a hard link.
	Link(from, to string) error
	Chmod(path string, mode uint32) error
	// Pipe makes an object that does not replicate.
	Pipe(path string) error
}

// Subject is a fresh, empty volume with private area, and its user.
type Subject struct {
	Volume volume.Volume
	User   User
	// Resolves: this process has the right to resolve handles.
	Resolves bool
	// Leases: Writable can be told.
	Leases bool
	// Shares: files can share blocks.
	Shares bool
	// Attrs: user.* attributes can be set.
	Attrs bool
	// Mount mounts another filesystem over the directory path until the test
	// ends; nil if this process cannot.
	Mount func(t *testing.T, path string)
}

// Test runs every story, each on a Subject of its own.
func Test(t *testing.T, open func(t *testing.T) Subject) {
	for _, s := range []struct {
		name string
		tell func(*story)
	}{
		{"paths stay beneath the root", (*story).paths},
		{"names are single components", (*story).badNames},
		{"any name the kernel takes", (*story).oddNames},
		{"the private area is not seen", (*story).private},
		{"private files are replaced whole", (*story).privateFiles},
		{"a look-up tells the types", (*story).types},
		{"a listing is complete", (*story).list},
		{"a listing of what is gone fails", (*story).listGone},
		{"only regular files are opened", (*story).openFile},
		{"a file is read", (*story).read},
		{"a new file gets its name once", (*story).temp},
		{"a large new file", (*story).largeTemp},
		{"a new file shares blocks", (*story).share},
		{"no place is taken twice", (*story).taken},
		{"links", (*story).links},
		{"metadata there and back", (*story).meta},
		{"metadata in place", (*story).setMeta},
		{"metadata only on what is expected", (*story).setMetaExpect},
		{"metadata over those on record", (*story).amend},
		{"described once more", (*story).again},
		{"a directory's own metadata", (*story).ownMeta},
		{"a directory's mtime", (*story).mtime},
		{"rename", (*story).rename},
		{"exchange", (*story).exchange},
		{"remove", (*story).remove},
		{"identity", (*story).identity},
		{"who could still write", (*story).writable},
		{"a directory stays itself", (*story).dirStays},
		{"a parent swapped for a link", (*story).swapped},
		{"handles are resolved", (*story).resolve},
		{"mounts are not entered", (*story).mounts},
		{"syncs and space", (*story).syncs},
	} {
		t.Run(s.name, func(t *testing.T) {
			sub := open(t)
			st := &story{T: t, Subject: sub, v: sub.Volume, u: sub.User}
			root, err := st.v.Root()
			st.ok(err)
			st.root = root
			s.tell(st)
			st.ok(root.Close())
			st.ok(st.v.Close())
		})
	}
}

// story is one test with its subject.
type story struct {
	*testing.T
	Subject
	v    volume.Volume
	u    User
	root volume.Dir
}

func (s *story) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("unexpected error: %v", err)
	}
}

// refused checks that err is want.
func (s *story) refused(err, want error, what string) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("%s: got error %v, want %v", what, err, want)
	}
}

func (s *story) dir(path string) volume.Dir {
	s.Helper()
	d, err := s.v.OpenDir(path)
	s.ok(err)
	s.Cleanup(func() { _ = d.Close() })
	return d
}

func (s *story) area(p volume.Private) volume.Dir {
	s.Helper()
	d, err := s.v.Private(p)
	s.ok(err)
	s.Cleanup(func() { _ = d.Close() })
	return d
}

func (s *story) lookup(d volume.Dir, name string) volume.Stat {
	s.Helper()
	st, err := d.Lookup(name)
	s.ok(err)
	return st
}

func (s *story) gone(d volume.Dir, name string) {
	s.Helper()
	_, err := d.Lookup(name)
	s.refused(err, volume.ErrNotExist, "look up "+name)
}

func (s *story) content(d volume.Dir, name, want string) {
	s.Helper()
	f, err := d.OpenFile(name)
	s.ok(err)
	got, err := io.ReadAll(f)
	s.ok(err)
	s.ok(f.Close())
	if string(got) != want {
		s.Fatalf("%s holds %.80q, want %.80q", name, got, want)
	}
}

// names lists d, sorted.
func (s *story) names(d volume.Dir) []string {
	s.Helper()
	var names []string
	s.ok(d.List(func(e volume.Entry) error {
		names = append(names, e.Name)
		return nil
	}))
	slices.Sort(names)
	return names
}

func (s *story) listed(d volume.Dir, want ...string) {
	s.Helper()
	slices.Sort(want)
	if got := s.names(d); !slices.Equal(got, want) {
		s.Fatalf("listing shows %q, want %q", got, want)
	}
}

// file makes a file by a Temp, as an install does.
func (s *story) file(d volume.Dir, name, data string) volume.Stat {
	s.Helper()
	t, err := s.v.NewTemp(int64(len(data)), nil)
	s.ok(err)
	_, err = t.Write([]byte(data))
	s.ok(err)
	s.ok(d.Link(t, name))
	s.ok(t.Close())
	return s.lookup(d, name)
}

// metaOf decodes an object's metadata.
func (s *story) metaOf(d volume.Dir, name string) volume.Meta {
	s.Helper()
	b, err := d.Meta(name)
	s.ok(err)
	m, err := volume.DecodeMeta(b)
	s.ok(err)
	return m
}

// bytesOf encodes metadata.
func (s *story) bytesOf(m volume.Meta) []byte {
	s.Helper()
	b, err := m.Encode()
	s.ok(err)
	return b
}

func (s *story) is(st volume.Stat, want repl.Type) {
	s.Helper()
	if st.Type != want {
		s.Fatalf("object is a %v, want a %v", st.Type, want)
	}
}
