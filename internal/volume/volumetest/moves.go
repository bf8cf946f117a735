package volumetest

import (
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

func (s *story) rename() {
	s.ok(s.u.Mkdir("a"))
	s.ok(s.u.Mkdir("a/b"))
	s.ok(s.u.WriteFile("a/f", []byte("f")))
	a, b, area := s.dir("a"), s.dir("a/b"), s.area(volume.Installing)
	was := s.lookup(a, "f")
	s.ok(a.Rename("f", b, "g"))
	s.gone(a, "f")
	if is := s.lookup(b, "g"); is.Identity != was.Identity || !is.Print.SameData(was.Print) {
		s.Fatalf("renamed %+v became %+v", was, is)
	}
	s.ok(b.Rename("g", area, "out"))
	s.listed(b)
	s.ok(area.Rename("out", s.root, "in"))
	s.listed(area)
	s.content(s.root, "in", "f")
	s.refused(a.Rename("none", b, "x"), volume.ErrNotExist, "rename nothing")
	s.refused(s.root.Rename("a", b, "x"), volume.ErrIntoItself, "rename a directory below itself")
	s.refused(s.root.Rename("a", a, "x"), volume.ErrIntoItself, "rename a directory into itself")
	s.refused(s.root.Rename("in", s.root, "in"), volume.ErrExist, "rename onto itself")
	// A whole directory at once.
	s.file(b, "deep", "deep")
	s.ok(s.root.Rename("a", area, "moved"))
	s.listed(s.root, "in")
	s.ok(area.Rename("moved", s.root, "back"))
	s.content(s.dir("back/b"), "deep", "deep")
	// A hard link of the same file is in the way like any other.
	s.ok(s.u.Link("in", "in2"))
	s.refused(s.root.Rename("in", s.root, "in2"), volume.ErrExist, "rename over a link of the same file")
	s.listed(s.root, "back", "in", "in2")
}

func (s *story) exchange() {
	s.ok(s.u.Mkdir("d"))
	s.ok(s.u.Mkdir("d/full"))
	s.ok(s.u.WriteFile("f", []byte("f")))
	s.ok(s.u.Symlink("x", "l"))
	area := s.area(volume.Installing)
	s.file(area, "new", "new")
	news := s.lookup(area, "new").Identity
	for _, name := range []string{"f", "d", "l"} {
		was := s.lookup(s.root, name)
		s.ok(area.Exchange("new", s.root, name))
		s.content(s.root, name, "new")
		out := s.lookup(area, "new")
		// A directory's mtime may move: xfs rewrites its "..".
		if out.Identity != was.Identity || out.Type != was.Type || out.Type != repl.Directory && !out.Print.SameData(was.Print) {
			s.Fatalf("%s went in as %+v, came out as %+v", name, was, out)
		}
		s.ok(s.root.Exchange(name, area, "new"))
		if in := s.lookup(s.root, name); in.Identity != was.Identity {
			s.Fatalf("%s is not back: %+v", name, in)
		}
	}
	if s.lookup(area, "new").Identity != news {
		s.Fatal("the new file was lost on the way")
	}
	s.listed(s.dir("d"), "full")
	s.refused(area.Exchange("new", s.root, "none"), volume.ErrNotExist, "exchange with nothing")
	s.refused(area.Exchange("none", s.root, "f"), volume.ErrNotExist, "exchange nothing")
	s.refused(s.root.Exchange("d", s.dir("d"), "full"), volume.ErrIntoItself, "exchange a directory with its own child")
	s.content(area, "new", "new")
	s.listed(s.root, "d", "f", "l")
}

func (s *story) remove() {
	s.ok(s.u.WriteFile("f", []byte("users")))
	s.ok(s.u.Mkdir("d"))
	s.ok(s.u.WriteFile("d/f", nil))
	s.refused(s.root.Remove("f"), volume.ErrNotPrivate, "remove a user's file")
	s.content(s.root, "f", "users")
	area := s.area(volume.Installing)
	s.file(area, "old", "old")
	s.ok(area.Symlink("x", "l"))
	s.ok(area.Mkdir("sub"))
	sub, err := area.OpenDir("sub")
	s.ok(err)
	s.file(sub, "inner", "x")
	s.ok(sub.Remove("inner"))
	s.ok(sub.Close())
	s.ok(area.Remove("old"))
	s.ok(area.Remove("l"))
	s.refused(area.Remove("old"), volume.ErrNotExist, "remove twice")
	if area.Remove("sub") == nil {
		s.Fatal("a directory was unlinked")
	}
	s.ok(area.Rmdir("sub"))
	s.listed(area)
	s.refused(s.root.Rmdir("d"), volume.ErrNotEmpty, "remove a full directory")
	s.refused(s.root.Rmdir("f"), volume.ErrNotDir, "remove a file as a directory")
	s.refused(s.root.Rmdir("none"), volume.ErrNotExist, "remove no directory")
	s.ok(s.u.Remove("d/f"))
	s.ok(s.root.Rmdir("d"))
	s.listed(s.root, "f")
}

func (s *story) identity() {
	s.ok(s.u.WriteFile("f", []byte("one")))
	s.ok(s.u.Mkdir("d"))
	first := s.lookup(s.root, "f")
	if first.Identity.Handle == "" {
		s.Fatal("a file has no handle")
	}
	s.ok(s.u.Rename("f", "d/g"))
	s.ok(s.u.WriteFile("d/g", []byte("other content")))
	s.ok(s.u.Chmod("d/g", 0o640))
	d := s.dir("d")
	now := s.lookup(d, "g")
	if now.Identity != first.Identity {
		s.Fatalf("rename, write and chmod made %+v of %+v", now.Identity, first.Identity)
	}
	if now.Print == first.Print || now.Mode != 0o640 {
		s.Fatalf("after rename, write and chmod the file is still %+v", now)
	}
	seen := map[repl.Identity]bool{now.Identity: true}
	for range 20 {
		s.ok(s.u.Remove("d/g"))
		s.ok(s.u.WriteFile("d/g", []byte("new")))
		id := s.lookup(d, "g").Identity
		if seen[id] {
			s.Fatalf("another file in the same place has a known identity %+v", id)
		}
		seen[id] = true
	}
	// An attribute moves ctime but not what SameData compares.
	before := s.lookup(d, "g")
	s.ok(s.u.Chmod("d/g", 0o600))
	after := s.lookup(d, "g")
	if !after.Print.SameData(before.Print) || after.Print.Ctime == before.Print.Ctime {
		s.Fatalf("chmod made print %+v of %+v", after.Print, before.Print)
	}
}

func (s *story) dirStays() {
	s.ok(s.u.Mkdir("a"))
	s.ok(s.u.Mkdir("z"))
	a := s.dir("a")
	was, err := a.Stat()
	s.ok(err)
	s.ok(s.u.Rename("a", "z/moved"))
	s.ok(s.u.Mkdir("a"))
	s.file(a, "f", "x")
	s.listed(s.dir("a"))
	s.listed(s.dir("z/moved"), "f")
	is, err := a.Stat()
	s.ok(err)
	if is.Identity != was.Identity {
		s.Fatalf("an open directory was %+v and is %+v", was.Identity, is.Identity)
	}
	s.ok(a.Rename("f", s.dir("a"), "f"))
	s.listed(a)
}

func (s *story) swapped() {
	s.ok(s.u.Mkdir("a"))
	s.ok(s.u.Mkdir("trap"))
	a := s.dir("a")
	s.ok(s.u.Rename("a", "b"))
	s.ok(s.u.Symlink("trap", "a"))
	s.file(a, "f", "x")
	s.ok(a.Mkdir("d"))
	s.listed(s.dir("trap"))
	s.listed(s.dir("b"), "d", "f")
	s.refused(second(s.v.OpenDir("a")), volume.ErrEscapes, "open a directory that became a link")
	s.refused(second(s.root.OpenDir("a")), volume.ErrNotDir, "open a directory that became a link")
	// The same below the directory that is open.
	s.ok(s.u.Symlink("../trap", "b/l"))
	s.refused(second(a.OpenDir("l")), volume.ErrNotDir, "open a link")
	s.ok(a.Rename("l", s.root, "l"))
	if got, err := s.root.ReadLink("l"); err != nil || got != "../trap" {
		s.Fatalf("the link itself was not moved: %q, error %v", got, err)
	}
}

func (s *story) resolve() {
	s.ok(s.u.Mkdir("a"))
	s.ok(s.u.Mkdir("a/b"))
	s.ok(s.u.WriteFile("a/b/f (deleted)", []byte("x")))
	s.ok(s.u.WriteFile("a/b/g", []byte("x")))
	b := s.dir("a/b")
	f, g := s.lookup(b, "f (deleted)").Identity, s.lookup(b, "g").Identity
	dir := s.lookup(s.dir("a"), "b").Identity
	if !s.Resolves {
		s.refused(second(s.v.Resolve(f)), volume.ErrUnknown, "resolve without privilege")
		return
	}
	lies := func(id repl.Identity, want string) {
		s.Helper()
		if got, err := s.v.Resolve(id); err != nil || got != want {
			s.Fatalf("resolved to %q, error %v, want %q", got, err, want)
		}
	}
	lies(f, "a/b/f (deleted)")
	lies(g, "a/b/g")
	lies(dir, "a/b")
	root, err := s.root.Stat()
	s.ok(err)
	lies(root.Identity, ".")
	s.ok(s.u.Rename("a/b", "c"))
	lies(g, "c/g")
	lies(dir, "c")
	s.ok(s.u.Rename("c/g", "a/h"))
	lies(g, "a/h")
	s.ok(s.root.Rename("c", s.area(volume.Installing), "c"))
	s.refused(second(s.v.Resolve(f)), volume.ErrOutside, "resolve what lies in the private area")
	s.refused(second(s.v.Resolve(dir)), volume.ErrOutside, "resolve a directory in the private area")
	s.ok(s.u.Remove("a/h"))
	s.refused(second(s.v.Resolve(g)), volume.ErrStale, "resolve what was removed")
	s.ok(s.area(volume.Installing).Rename("c", s.root, "c"))
	s.ok(s.u.Remove("c/f (deleted)"))
	s.ok(s.u.WriteFile("c/f", []byte("in its place")))
	s.refused(second(s.v.Resolve(f)), volume.ErrStale, "resolve a file that another one replaced")
	s.ok(s.u.Remove("c/f"))
	s.ok(s.u.Remove("c"))
	s.refused(second(s.v.Resolve(dir)), volume.ErrStale, "resolve a removed directory")
	// Removed, but kept alive by an open descriptor.
	s.ok(s.u.WriteFile("held", nil))
	held, err := s.root.OpenFile("held")
	s.ok(err)
	id := s.lookup(s.root, "held").Identity
	s.ok(s.u.Remove("held"))
	s.refused(second(s.v.Resolve(id)), volume.ErrStale, "resolve what only a descriptor holds")
	s.ok(held.Close())
	s.refused(second(s.v.Resolve(repl.Identity{})), volume.ErrUnknown, "resolve nothing")
}

func (s *story) mounts() {
	if s.Mount == nil {
		s.Skip("this process cannot mount")
	}
	s.ok(s.u.Mkdir("a"))
	s.ok(s.u.Mkdir("a/m"))
	s.ok(s.u.WriteFile("a/m/under", []byte("x")))
	a := s.dir("a")
	m, err := a.OpenDir("m")
	s.ok(err)
	s.Mount(s.T, "a/m")
	s.refused(second(a.Lookup("m")), volume.ErrMount, "look up a mount point")
	s.refused(second(a.OpenDir("m")), volume.ErrMount, "open a mount point")
	s.refused(second(s.v.OpenDir("a/m")), volume.ErrMount, "open a mount point by path")
	s.refused(second(s.v.OpenDir("a/m/x")), volume.ErrMount, "open a path below a mount point")
	s.refused(second(a.Meta("m")), volume.ErrMount, "read a mount point's metadata")
	s.refused(third(a.SetMeta("m", nil, s.bytesOf(volume.Meta{Mode: 0o755}), 1)), volume.ErrMount, "set a mount point's metadata")
	s.refused(a.Rename("m", s.root, "x"), volume.ErrMount, "rename a mount point")
	s.ok(s.u.Mkdir("other"))
	s.refused(a.Exchange("m", s.root, "other"), volume.ErrMount, "exchange a mount point")
	s.refused(a.Rmdir("m"), volume.ErrMount, "remove a mount point")
	s.listed(a, "m")
	s.listed(m, "under") // what was open before stays what it was
	s.ok(m.Close())
}
