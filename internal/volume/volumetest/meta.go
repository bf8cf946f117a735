package volumetest

import (
	"bytes"
	"slices"
	"syscall"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// me and group are this process's own, which it may always set.
func (s *story) me() uint32 {
	s.Helper()
	st, err := s.root.Stat()
	s.ok(err)
	return st.Owner
}

func (s *story) group() uint32 {
	s.Helper()
	st, err := s.root.Stat()
	s.ok(err)
	return st.Group
}

func (s *story) meta() {
	s.ok(s.u.WriteFile("f", []byte("x")))
	s.ok(s.u.Mkdir("d"))
	s.ok(s.u.Symlink("f", "l"))
	s.ok(s.u.Chmod("f", 0o4751))
	s.ok(s.u.Chmod("d", 0o1777))
	for name, mode := range map[string]uint32{"f": 0o4751, "d": 0o1777, "l": 0o777} {
		m := s.metaOf(s.root, name)
		if m.Mode != mode || m.Owner != s.me() || m.Group != s.group() || len(m.Xattrs) != 0 {
			s.Fatalf("metadata of %s: %+v, want mode %o", name, m, mode)
		}
	}
	s.refused(second(s.root.Meta("none")), volume.ErrNotExist, "read nothing's metadata")
	if second(s.root.Meta("none")) == nil || third(s.root.SetMeta("f", nil, []byte("rubbish"), 1)) == nil {
		s.Fatal("bytes that are no metadata were accepted")
	}
}

func (s *story) setMeta() {
	s.ok(s.u.WriteFile("f", []byte("x")))
	s.ok(s.u.Mkdir("d"))
	s.ok(s.u.Symlink("f", "l"))
	want := volume.Meta{Mode: 0o2750, Owner: s.me(), Group: s.group()}
	if s.Attrs {
		want.Xattrs = []volume.Xattr{
			{Name: "user.a", Value: []byte("1")},
			{Name: "user.empty", Value: nil},
			{Name: "user.z", Value: bytes.Repeat([]byte("z"), 300)},
		}
	}
	const mtime = repl.Time(1_234_567_890_123_456_789)
	for _, name := range []string{"f", "d"} {
		was := s.lookup(s.root, name)
		after, lacks, err := s.root.SetMeta(name, nil, s.bytesOf(want), mtime)
		s.ok(err)
		if len(lacks) != 0 {
			s.Fatalf("%s lacks %v", name, lacks)
		}
		if is := s.lookup(s.root, name); is != after || is.Identity != was.Identity || is.Print.Mtime != mtime || is.Mode != want.Mode {
			s.Fatalf("%s was %+v, SetMeta said %+v, it is %+v", name, was, after, is)
		}
		if got, err := s.root.Meta(name); err != nil || !bytes.Equal(got, s.bytesOf(want)) {
			s.Fatalf("metadata of %s: %+v, error %v", name, s.metaOf(s.root, name), err)
		}
	}
	// Fewer attributes, another value; a time before 1970.
	less := volume.Meta{Mode: 0o600, Owner: s.me(), Group: s.group()}
	if s.Attrs {
		less.Xattrs = []volume.Xattr{{Name: "user.a", Value: []byte("2")}}
	}
	after, _, err := s.root.SetMeta("f", nil, s.bytesOf(less), -1)
	s.ok(err)
	if got := s.metaOf(s.root, "f"); !slices.EqualFunc(got.Xattrs, less.Xattrs, sameXattr) || got.Mode != 0o600 || after.Print.Mtime != -1 {
		s.Fatalf("metadata %+v, object %+v", got, after)
	}
	// A link's own, not its target's.
	after, lacks, err := s.root.SetMeta("l", nil, s.bytesOf(volume.Meta{Mode: 0o777, Owner: s.me(), Group: s.group()}), mtime)
	s.ok(err)
	if len(lacks) != 0 || after.Type != repl.Symlink || after.Print.Mtime != mtime || s.lookup(s.root, "f").Print.Mtime != -1 {
		s.Fatalf("link is %+v, lacks %v, its target %+v", after, lacks, s.lookup(s.root, "f"))
	}
	s.refused(third(s.root.SetMeta("none", nil, s.bytesOf(less), 1)), volume.ErrNotExist, "set nothing's metadata")
	s.content(s.root, "f", "x")
	if syscall.Geteuid() == 0 {
		s.chown()
	}
}

// chown gives a file away, which clears setuid unless it is set afterwards.
func (s *story) chown() {
	want := volume.Meta{Mode: 0o6755, Owner: 4711, Group: 4712}
	_, lacks, err := s.root.SetMeta("f", nil, s.bytesOf(want), 5)
	s.ok(err)
	if st := s.lookup(s.root, "f"); len(lacks) != 0 || st.Owner != 4711 || st.Group != 4712 || st.Mode != 0o6755 {
		s.Fatalf("given away, the file is %+v and lacks %v", st, lacks)
	}
}

func sameXattr(x, y volume.Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) }

func (s *story) setMetaExpect() {
	s.ok(s.u.WriteFile("f", []byte("one")))
	s.ok(s.u.Mkdir("d"))
	meta := s.bytesOf(volume.Meta{Mode: 0o740, Owner: s.me(), Group: s.group()})
	seen := s.lookup(s.root, "f")
	after, _, err := s.root.SetMeta("f", &seen, meta, 7)
	s.ok(err)
	if after.Mode != 0o740 || after.Print.Mtime != 7 {
		s.Fatalf("the file is %+v", after)
	}
	_, _, err = s.root.SetMeta("f", &seen, meta, 8)
	s.refused(err, volume.ErrChanged, "set metadata of a file whose mtime moved")
	s.ok(s.u.WriteFile("new", []byte("two")))
	s.ok(s.u.Rename("new", "f"))
	_, _, err = s.root.SetMeta("f", &after, meta, 9)
	s.refused(err, volume.ErrChanged, "set metadata of a replaced file")
	now := s.lookup(s.root, "f")
	if s.Leases {
		w, err := s.u.OpenForWrite("f")
		s.ok(err)
		_, _, err = s.root.SetMeta("f", &now, meta, 10)
		s.refused(err, volume.ErrInUse, "set metadata of a file that is written to")
		s.ok(w.Close())
	}
	if is := s.lookup(s.root, "f"); is.Print != now.Print || is.Mode != now.Mode {
		s.Fatalf("refused, and yet %+v became %+v", now, is)
	}
	// A directory is expected by its identity alone.
	dir := s.lookup(s.root, "d")
	s.ok(s.u.WriteFile("d/x", nil))
	_, _, err = s.root.SetMeta("d", &dir, meta, 11)
	s.ok(err)
	s.ok(s.u.Remove("d/x"))
	s.ok(s.u.Remove("d"))
	s.ok(s.u.WriteFile("d", nil))
	_, _, err = s.root.SetMeta("d", &dir, meta, 12)
	s.refused(err, volume.ErrChanged, "set metadata of a directory that is a file now")
}

// amend is about metadata of an object whose former ones are on record.
func (s *story) amend() {
	s.ok(s.u.WriteFile("f", []byte("one")))
	was := volume.Meta{Mode: 0o640, Owner: s.me(), Group: s.group()}
	if s.Attrs {
		was.Xattrs = []volume.Xattr{{Name: "user.a", Value: []byte("1")}, {Name: "user.b", Value: []byte("1")}, {Name: "user.c", Value: []byte("1")}}
	}
	_, _, err := s.root.SetMeta("f", nil, s.bytesOf(was), 7)
	s.ok(err)
	want := volume.Meta{Mode: 0o600, Owner: s.me(), Group: s.group()}
	if s.Attrs {
		want.Xattrs = []volume.Xattr{{Name: "user.a", Value: []byte("1")}, {Name: "user.b", Value: []byte("2")}, {Name: "user.d", Value: []byte("2")}}
	}
	seen := s.lookup(s.root, "f")
	after, lacks, err := s.root.Amend("f", &seen, s.bytesOf(was), s.bytesOf(want), 9)
	s.ok(err)
	if is := s.lookup(s.root, "f"); len(lacks) != 0 || is != after || is.Identity != seen.Identity || is.Print.Mtime != 9 || is.Mode != 0o600 {
		s.Fatalf("the file is %+v, was said to be %+v, lacks %v", is, after, lacks)
	}
	if got := s.metaOf(s.root, "f"); !slices.EqualFunc(got.Xattrs, want.Xattrs, sameXattr) {
		s.Fatalf("it has %+v", got)
	}
	_, _, err = s.root.Amend("f", &seen, s.bytesOf(want), s.bytesOf(was), 8)
	s.refused(err, volume.ErrChanged, "amend a file whose mtime moved")
	s.ok(s.u.Rename("f", "g"))
	_, _, err = s.root.Amend("f", &after, s.bytesOf(want), s.bytesOf(was), 8)
	s.refused(err, volume.ErrNotExist, "amend a file that moved away")
	s.ok(s.u.WriteFile("f", []byte("one")))
	_, _, err = s.root.Amend("f", &after, s.bytesOf(want), s.bytesOf(was), 8)
	s.refused(err, volume.ErrChanged, "amend another file")
	if s.Leases {
		w, err := s.u.OpenForWrite("g")
		s.ok(err)
		_, _, err = s.root.Amend("g", &after, s.bytesOf(want), s.bytesOf(was), 10)
		s.refused(err, volume.ErrInUse, "amend a file that is written to, and its mtime")
		s.ok(w.Close())
	}
	w, err := s.u.OpenForWrite("g") // where the mtime stays, a writer is let be, and seen by it
	s.ok(err)
	seen, _, err = s.root.Amend("g", &after, s.bytesOf(want), s.bytesOf(was), 9)
	s.ok(err)
	if is := s.lookup(s.root, "g"); !seen.Print.SameData(after.Print) || seen.Identity != after.Identity || is.Mode != 0o640 || is.Print.Mtime != 9 {
		s.Fatalf("the file is %+v, was said to be %+v", is, seen)
	}
	_, err = w.Write([]byte("one"))
	s.ok(err)
	s.ok(w.Close())
	if is := s.lookup(s.root, "g"); is.Print.SameData(seen.Print) || is.Mode != 0o640 {
		s.Fatalf("written to since, the file is %+v, and was said to be %+v", is, seen)
	}
	if third(s.root.Amend("g", nil, []byte("rubbish"), s.bytesOf(was), 1)) == nil {
		s.Fatal("bytes that are no metadata were accepted")
	}
	s.content(s.root, "g", "one")
}

// ownMeta is about a directory's metadata where it is no name, as the root.
// again describes objects at little cost: what Lookup and Meta say.
func (s *story) again() {
	s.ok(s.u.WriteFile("f", []byte("x")))
	s.ok(s.u.WriteFile("g", []byte("x")))
	s.ok(s.u.Mkdir("d"))
	s.ok(s.u.Symlink("f", "l"))
	want := volume.Meta{Mode: 0o640, Owner: s.me(), Group: s.group()}
	if s.Attrs {
		want.Xattrs = []volume.Xattr{{Name: "user.a", Value: bytes.Repeat([]byte("a"), 300)}, {Name: "user.empty"}}
	}
	for _, name := range []string{"f", "d", "l"} {
		before := s.lookup(s.root, name)
		if is, err := s.root.Again(name, &before); err != nil || is != before {
			s.Fatalf("%s was %+v, is described again as %+v, error %v", name, before, is, err)
		}
		if name != "l" {
			_, _, err := s.root.SetMeta(name, nil, s.bytesOf(want), 1_000_000_007)
			s.ok(err)
		}
		after := s.lookup(s.root, name)
		if is, err := s.root.Again(name, &before); err != nil || is != after {
			s.Fatalf("%s is %+v, is described again as %+v, error %v", name, after, is, err)
		}
		if is, err := s.root.Recognize(name, before.Identity, before.Identity.Birth+repl.Time(time.Hour)); err != nil || is != after {
			s.Fatalf("%s is %+v, is recognised as %+v, error %v", name, after, is, err)
		}
		if got, err := s.root.MetaOf(name, &after); err != nil || !bytes.Equal(got, s.bytesOf(s.metaOf(s.root, name))) {
			s.Fatalf("metadata of %s: %x, error %v", name, got, err)
		}
	}
	_, _, err := s.root.SetMeta("g", nil, s.bytesOf(want), 1_000_000_007)
	s.ok(err)
	f, g := s.lookup(s.root, "f"), s.lookup(s.root, "g")
	s.ok(s.root.Exchange("f", s.root, "g"))
	if is, err := s.root.Again("f", &f); err != nil || is.Identity != g.Identity {
		s.Fatalf("another object at its place is described as %+v, error %v", is, err)
	}
	if is, err := s.root.Recognize("f", f.Identity, f.Identity.Birth+repl.Time(time.Hour)); err != nil || is.Identity != g.Identity {
		s.Fatalf("another object at its place is recognised as %+v, error %v", is, err)
	}
	s.refused(second(s.root.Again("none", &f)), volume.ErrNotExist, "describe nothing")
	s.refused(second(s.root.Recognize("none", f.Identity, f.Print.Ctime)), volume.ErrNotExist, "recognise nothing")
	s.refused(second(s.root.MetaOf("none", &f)), volume.ErrNotExist, "read nothing's metadata")
}

func (s *story) ownMeta() {
	was, err := s.root.OwnMeta()
	s.ok(err)
	if m, err := volume.DecodeMeta(was); err != nil || m.Owner != s.me() {
		s.Fatalf("metadata of the root %+v, error %v", m, err)
	}
	s.ok(s.u.Mkdir("d"))
	want := volume.Meta{Mode: 0o2770, Owner: s.me(), Group: s.group()}
	if s.Attrs {
		want.Xattrs = []volume.Xattr{{Name: "user.a", Value: []byte("1")}}
	}
	for _, d := range []volume.Dir{s.root, s.dir("d")} {
		lacks, err := d.SetOwnMeta(s.bytesOf(want), 99)
		s.ok(err)
		is, err := d.OwnMeta()
		s.ok(err)
		st, err := d.Stat()
		s.ok(err)
		if len(lacks) != 0 || !bytes.Equal(is, s.bytesOf(want)) || st.Print.Mtime != 99 || st.Mode != want.Mode {
			s.Fatalf("the directory is %+v with metadata %x, lacks %v", st, is, lacks)
		}
		s.ok(d.Sync())
		if second(d.SetOwnMeta([]byte("rubbish"), 1)) == nil {
			s.Fatal("bytes that are no metadata were accepted")
		}
	}
	if got, err := s.root.Meta("d"); err != nil || !bytes.Equal(got, s.bytesOf(want)) {
		s.Fatalf("by its name it has %x, error %v", got, err)
	}
}

func (s *story) mtime() {
	s.ok(s.u.Mkdir("d"))
	d := s.dir("d")
	s.ok(d.Mkdir("x"))
	s.ok(d.SetMtime(77))
	if st := s.lookup(s.root, "d"); st.Print.Mtime != 77 {
		s.Fatalf("directory's mtime is %d", st.Print.Mtime)
	}
	s.ok(d.Mkdir("y"))
	if st := s.lookup(s.root, "d"); st.Print.Mtime == 77 {
		s.Fatal("a new entry did not move the directory's mtime")
	}
}
