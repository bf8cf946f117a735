package volumetest

import (
	"errors"
	"strconv"
	"strings"
	"syscall"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

func (s *story) paths() {
	s.ok(s.u.Mkdir("a"))
	s.ok(s.u.Mkdir("a/b"))
	s.ok(s.u.WriteFile("a/f", []byte("x")))
	s.ok(s.u.Symlink("b", "a/l"))
	s.ok(s.u.Symlink("/", "a/r"))
	s.file(s.dir("a/b"), "deep", "deep")
	s.content(s.dir("a/b"), "deep", "deep")
	s.listed(s.dir("."), "a")
	for path, want := range map[string]error{
		"..":              volume.ErrEscapes,
		"../x":            volume.ErrEscapes,
		"a/../a":          volume.ErrEscapes,
		"a/./b":           volume.ErrEscapes,
		"a//b":            volume.ErrEscapes,
		"a/":              volume.ErrEscapes,
		"/":               volume.ErrEscapes,
		"/etc":            volume.ErrEscapes,
		"":                volume.ErrEscapes,
		"a\x00":           volume.ErrEscapes,
		"a/l":             volume.ErrEscapes, // the target is a link
		"a/l/deep":        volume.ErrEscapes, // a link in the middle
		"a/r/etc":         volume.ErrEscapes,
		"a/f":             volume.ErrNotDir,
		"a/f/x":           volume.ErrNotDir,
		"no":              volume.ErrNotExist,
		"a/no/x":          volume.ErrNotExist,
		".dfsr":           volume.ErrNotExist,
		".dfsr/conflicts": volume.ErrNotExist,
	} {
		d, err := s.v.OpenDir(path)
		s.refused(err, want, "open directory "+strconv.Quote(path))
		if d != nil {
			s.Fatalf("open directory %q returns a directory and an error", path)
		}
	}
}

func (s *story) badNames() {
	s.ok(s.u.Mkdir("a"))
	s.ok(s.u.Mkdir("a/b"))
	s.ok(s.u.WriteFile("f", []byte("x")))
	a := s.dir("a")
	t, err := s.v.NewTemp(0, nil)
	s.ok(err)
	meta := s.bytesOf(volume.Meta{Mode: 0o600})
	for _, name := range []string{"", ".", "..", "b/c", "/", "../f", "b\x00"} {
		for what, err := range map[string]error{
			"look up":     second(a.Lookup(name)),
			"open dir":    second(a.OpenDir(name)),
			"open file":   second(a.OpenFile(name)),
			"read link":   second(a.ReadLink(name)),
			"meta":        second(a.Meta(name)),
			"set meta":    third(a.SetMeta(name, nil, meta, 1)),
			"mkdir":       a.Mkdir(name),
			"symlink":     a.Symlink("x", name),
			"link":        a.Link(t, name),
			"rename":      a.Rename(name, a, "x"),
			"rename to":   a.Rename("b", a, name),
			"exchange":    a.Exchange(name, a, "b"),
			"exchange by": a.Exchange("b", a, name),
			"remove":      a.Remove(name),
			"rmdir":       a.Rmdir(name),
		} {
			s.refused(err, volume.ErrEscapes, what+" "+strconv.Quote(name))
		}
	}
	s.ok(t.Close())
	s.listed(a, "b")
	s.listed(s.root, "a", "f")
}

func second[T any](_ T, err error) error { return err }

func third[T, U any](_ T, _ U, err error) error { return err }

func (s *story) oddNames() {
	odd := []string{"line\nbreak", "bad\xff\xfeutf8", strings.Repeat("n", 255), " ", "-", "\\", "*", "ä", "a\u0308", "x (deleted)"}
	for _, name := range odd {
		s.file(s.root, name, name)
		s.content(s.root, name, name)
	}
	s.listed(s.root, odd...)
	s.ok(s.root.Mkdir("d"))
	d := s.dir("d")
	for _, name := range odd {
		s.ok(s.root.Rename(name, d, name))
	}
	s.listed(d, odd...)
	long := strings.Repeat("n", 256)
	s.refused(second(d.Lookup(long)), syscall.ENAMETOOLONG, "look up a name of 256 bytes")
	s.refused(d.Mkdir(long), syscall.ENAMETOOLONG, "make a name of 256 bytes")
	// A path longer than the kernel takes at once.
	part := strings.Repeat("p", 200)
	at := d
	for range 25 {
		s.ok(at.Mkdir(part))
		next, err := at.OpenDir(part)
		s.ok(err)
		defer func() { s.ok(next.Close()) }()
		at = next
	}
	s.file(at, "bottom", "deep")
	s.content(s.dir("d"+strings.Repeat("/"+part, 25)), "bottom", "deep")
}

func (s *story) private() {
	s.listed(s.root)
	s.listed(s.dir("."))
	meta := s.bytesOf(volume.Meta{Mode: 0o600})
	s.ok(s.root.Mkdir("d"))
	t, err := s.v.NewTemp(0, nil)
	s.ok(err)
	for what, err := range map[string]error{
		"look up":     second(s.root.Lookup(".dfsr")),
		"open dir":    second(s.root.OpenDir(".dfsr")),
		"open file":   second(s.root.OpenFile(".dfsr")),
		"meta":        second(s.root.Meta(".dfsr")),
		"set meta":    third(s.root.SetMeta(".dfsr", nil, meta, 1)),
		"rename":      s.root.Rename(".dfsr", s.root, "x"),
		"exchange":    s.root.Exchange(".dfsr", s.root, "d"),
		"exchange by": s.root.Exchange("d", s.root, ".dfsr"),
		"rmdir":       s.root.Rmdir(".dfsr"),
	} {
		s.refused(err, volume.ErrNotExist, what+" .dfsr")
	}
	for what, err := range map[string]error{
		"mkdir":     s.root.Mkdir(".dfsr"),
		"symlink":   s.root.Symlink("x", ".dfsr"),
		"link":      s.root.Link(t, ".dfsr"),
		"rename to": s.root.Rename("d", s.root, ".dfsr"),
	} {
		s.refused(err, volume.ErrExist, what+" .dfsr")
	}
	s.ok(t.Close())
	s.listed(s.root, "d")
	// Below the root it is a name like any other.
	d := s.dir("d")
	s.ok(d.Mkdir(".dfsr"))
	s.listed(d, ".dfsr")
	s.is(s.lookup(d, ".dfsr"), repl.Directory)
	for _, p := range []volume.Private{volume.Staging, volume.Installing, volume.Conflicts, volume.PreExisting, volume.CarriedArea} {
		area := s.area(p)
		s.listed(area)
		if st, err := area.Stat(); err != nil || st.Mode != 0o700 {
			s.Fatalf("private directory %s has mode %o, error %v", p, st.Mode, err)
		}
	}
	s.refused(second(s.v.Private("none")), volume.ErrNotExist, "open an unknown private directory")
	s.refused(second(s.v.Private("..")), volume.ErrEscapes, "open private directory ..")
}

func (s *story) privateFiles() {
	s.refused(second(s.v.ReadPrivate("marker")), volume.ErrNotExist, "read what was never written")
	for _, text := range []string{"first version", "second", ""} {
		s.ok(s.v.WritePrivate("marker", []byte(text)))
		if got, err := s.v.ReadPrivate("marker"); err != nil || string(got) != text {
			s.Fatalf("marker reads %q, error %v, want %q", got, err, text)
		}
	}
	s.refused(s.v.WritePrivate("../x", nil), volume.ErrEscapes, "write outside")
	s.refused(second(s.v.ReadPrivate("../x")), volume.ErrEscapes, "read outside")
	s.listed(s.root)
}

func (s *story) types() {
	s.ok(s.u.WriteFile("f", []byte("five.")))
	s.ok(s.u.Mkdir("d"))
	s.ok(s.u.Symlink("f", "l"))
	s.ok(s.u.Symlink("nowhere", "dangling"))
	s.ok(s.u.Pipe("p"))
	want := map[string]repl.Type{"f": repl.File, "d": repl.Directory, "l": repl.Symlink, "dangling": repl.Symlink, "p": repl.Other}
	for name, kind := range want {
		s.is(s.lookup(s.root, name), kind)
	}
	s.ok(s.root.List(func(e volume.Entry) error {
		if e.Type != want[e.Name] && e.Type != repl.Other {
			s.Errorf("listing calls %s a %v, it is a %v", e.Name, e.Type, want[e.Name])
		}
		return nil
	}))
	s.gone(s.root, "none")
	if f := s.lookup(s.root, "f"); f.Print.Size != 5 || f.Links != 1 || f.Print.Mtime == 0 || f.Print.Ctime == 0 {
		s.Fatalf("look-up of a file of 5 bytes says %+v", f)
	}
	s.ok(s.u.Link("f", "g"))
	f, g := s.lookup(s.root, "f"), s.lookup(s.root, "g")
	if f.Links != 2 || f.Identity != g.Identity {
		s.Fatalf("two links of one file: %+v and %+v", f, g)
	}
	d, err := s.root.OpenDir("d")
	s.ok(err)
	st, err := d.Stat()
	s.ok(err)
	if seen := s.lookup(s.root, "d"); st != seen {
		s.Fatalf("directory describes itself as %+v, its parent as %+v", st, seen)
	}
	s.ok(d.Close())
}

func (s *story) list() {
	const many = 10_000
	s.ok(s.u.Mkdir("d"))
	for i := range many {
		s.ok(s.u.WriteFile("d/entry number "+strconv.Itoa(i), nil))
	}
	d := s.dir("d")
	seen := map[string]bool{}
	s.ok(d.List(func(e volume.Entry) error {
		if seen[e.Name] {
			s.Errorf("%s is listed twice", e.Name)
		}
		seen[e.Name] = true
		if len(seen) == 10 { // a listing within a listing
			if inner := s.names(d); len(inner) != many {
				s.Errorf("inner listing shows %d names of %d", len(inner), many)
			}
		}
		return nil
	}))
	if len(seen) != many {
		s.Fatalf("listing shows %d names of %d", len(seen), many)
	}
	stop := errors.New("enough")
	calls := 0
	err := d.List(func(volume.Entry) error { calls++; return stop })
	s.refused(err, stop, "list until told to stop")
	if calls != 1 {
		s.Fatalf("listing went on for %d entries after being told to stop", calls)
	}
}

func (s *story) listGone() {
	s.ok(s.u.Mkdir("d"))
	d := s.dir("d")
	s.ok(s.u.Remove("d"))
	err := d.List(func(volume.Entry) error { return nil })
	s.refused(err, volume.ErrNotExist, "list a removed directory")
	s.refused(d.Mkdir("x"), volume.ErrNotExist, "make something in a removed directory")
}
