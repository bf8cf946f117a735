package volumetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

func (s *story) openFile() {
	s.ok(s.u.Mkdir("d"))
	s.ok(s.u.WriteFile("f", []byte("x")))
	s.ok(s.u.Symlink("f", "l"))
	s.ok(s.u.Pipe("p"))
	for _, name := range []string{"d", "l", "p"} {
		s.refused(second(s.root.OpenFile(name)), volume.ErrNotFile, "open "+name+" as a file")
	}
	s.refused(second(s.root.OpenFile("none")), volume.ErrNotExist, "open nothing as a file")
	for _, name := range []string{"f", "l", "p"} {
		s.refused(second(s.root.OpenDir(name)), volume.ErrNotDir, "open "+name+" as a directory")
	}
	s.refused(second(s.root.OpenDir("none")), volume.ErrNotExist, "open nothing as a directory")
}

func (s *story) read() {
	s.ok(s.u.WriteFile("f", []byte("0123456789")))
	f, err := s.root.OpenFile("f")
	s.ok(err)
	var head [4]byte
	_, err = io.ReadFull(f, head[:])
	s.ok(err)
	var at [3]byte
	if n, err := f.ReadAt(at[:], 6); n != 3 || err != nil || string(at[:]) != "678" {
		s.Fatalf("read at 6: %q, %d bytes, error %v", at, n, err)
	}
	if n, err := f.ReadAt(at[:], 8); n != 2 || !errors.Is(err, io.EOF) {
		s.Fatalf("read over the end: %d bytes, error %v", n, err)
	}
	if n, err := f.ReadAt(at[:], 50); n != 0 || !errors.Is(err, io.EOF) {
		s.Fatalf("read behind the end: %d bytes, error %v", n, err)
	}
	// It stays the same file whatever becomes of its name.
	s.ok(s.u.Rename("f", "g"))
	s.ok(s.u.WriteFile("f", []byte("another")))
	s.ok(s.u.Remove("g"))
	rest, err := io.ReadAll(f)
	s.ok(err)
	if string(head[:])+string(rest) != "0123456789" {
		s.Fatalf("file reads %q and %q", head, rest)
	}
	if st, err := f.Stat(); err != nil || st.Print.Size != 10 || st.Links != 0 {
		s.Fatalf("the open file is now %+v, error %v", st, err)
	}
	s.ok(f.Close())
	if f.Close() == nil {
		s.Fatal("closed twice without an error")
	}
}

func (s *story) temp() {
	lost, err := s.v.NewTemp(3, nil)
	s.ok(err)
	_, err = lost.Write([]byte("abc"))
	s.ok(err)
	s.ok(lost.Close())

	t, err := s.v.NewTemp(0, nil)
	s.ok(err)
	_, err = t.Write([]byte("abc"))
	s.ok(err)
	_, err = t.Write([]byte("def"))
	s.ok(err)
	_, err = t.WriteAt([]byte("XY"), 1)
	s.ok(err)
	_, err = t.WriteAt([]byte("!"), 8)
	s.ok(err)
	const want = "aXYdef\x00\x00!"
	var got [16]byte
	if n, err := t.ReadAt(got[:], 0); !errors.Is(err, io.EOF) || string(got[:n]) != want {
		s.Fatalf("new file reads %q, error %v", got[:n], err)
	}
	lacks, err := t.SetMeta(s.bytesOf(volume.Meta{Mode: 0o640, Owner: s.me(), Group: s.group()}), 12_345_678_901)
	s.ok(err)
	if len(lacks) != 0 {
		s.Fatalf("new file lacks %v", lacks)
	}
	s.ok(t.Sync())
	before, err := t.Stat()
	s.ok(err)
	s.listed(s.root)
	s.ok(s.root.Link(t, "f"))
	s.listed(s.root, "f")
	after := s.lookup(s.root, "f")
	if after.Identity != before.Identity || !after.Print.SameData(before.Print) || after.Print.Mtime != 12_345_678_901 ||
		after.Mode != 0o640 || after.Links != 1 || after.Type != repl.File {
		s.Fatalf("before it had a name %+v, after %+v", before, after)
	}
	s.content(s.root, "f", want)
	if s.root.Link(t, "g") == nil {
		s.Fatal("a new file got a second name")
	}
	s.ok(t.Close())
	s.content(s.root, "f", want)
	s.listed(s.root, "f")
	s.listed(s.area(volume.Staging))
	s.announced()
}

// announced says before what a new file's metadata will be, or something else, or
// nothing that makes sense: it has what it is given afterwards.
func (s *story) announced() {
	meta := func(mode uint32) []byte {
		return s.bytesOf(volume.Meta{Mode: mode, Owner: s.me(), Group: s.group()})
	}
	for i, mode := range []uint32{0o644, 0o777, 0o400, 0, 0o4755, 0o666} {
		for k, said := range [][]byte{meta(mode), meta(0o755), []byte("rubbish"), nil} {
			t, err := s.v.NewTemp(1, said)
			s.ok(err)
			_, err = t.Write([]byte("x"))
			s.ok(err)
			lacks, err := t.SetMeta(meta(mode), 7)
			s.ok(err)
			name := fmt.Sprintf("%d-%d", i, k)
			s.ok(s.root.Link(t, name))
			s.ok(t.Close())
			if st := s.lookup(s.root, name); st.Mode != mode || len(lacks) != 0 {
				s.Fatalf("new file has mode %o in place of %o, lacks %v", st.Mode, mode, lacks)
			}
		}
	}
}

func (s *story) largeTemp() {
	const size = 3 << 20
	t, err := s.v.NewTemp(size, nil)
	s.ok(err)
	if st, err := t.Stat(); err != nil || st.Print.Size != 0 {
		s.Fatalf("new file for %d bytes has %d bytes at first, error %v", size, st.Print.Size, err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	_, err = t.Write(data)
	s.ok(err)
	s.ok(t.Sync())
	s.ok(s.root.Link(t, "large"))
	s.ok(t.Close())
	s.content(s.root, "large", string(data))
}

func (s *story) share() {
	const size = 1 << 20
	old := make([]byte, size+100)
	for i := range old {
		old[i] = byte(i * i >> 7)
	}
	s.ok(s.u.WriteFile("old", old))
	src, err := s.root.OpenFile("old")
	s.ok(err)
	t, err := s.v.NewTemp(size, nil)
	s.ok(err)
	// Asked for with odd ends: at most that is shared, the rest is written.
	want := bytes.Clone(old[:size])
	_, err = t.WriteAt(bytes.Repeat([]byte("n"), 100), 0)
	s.ok(err)
	copy(want, bytes.Repeat([]byte("n"), 100))
	first, past, err := t.Share(src, 100, 100, size-200)
	s.ok(err)
	if first < 100 || past > size-100 || past < first || s.Shares && past-first < size-200-2*65536 {
		s.Fatalf("shared from %d to %d of what was asked for from 100 to %d", first, past, size-100)
	}
	for _, rest := range [][2]int64{{100, first}, {past, size}} {
		_, err = t.WriteAt(old[rest[0]:rest[1]], rest[0])
		s.ok(err)
	}
	// Bytes that lie otherwise in their blocks, that src has not, or none.
	for _, no := range [][3]int64{{1, 0, size / 2}, {0, 0, 1}, {0, 0, 0}, {size, 0, size}, {1 << 40, 0, size}} {
		if first, past, err := t.Share(src, no[0], no[1], no[2]); err != nil || first != past {
			s.Fatalf("share %d bytes from %d at %d: from %d to %d, error %v", no[2], no[0], no[1], first, past, err)
		}
	}
	// What users do to the old file afterwards does not reach the new one.
	w, err := s.u.OpenForWrite("old")
	s.ok(err)
	_, err = w.Write(bytes.Repeat([]byte("u"), size/2))
	s.ok(err)
	s.ok(w.Close())
	s.ok(t.Sync())
	s.ok(s.root.Link(t, "new"))
	s.ok(t.Close())
	s.ok(src.Close())
	s.content(s.root, "new", string(want))
}

func (s *story) taken() {
	s.ok(s.u.WriteFile("f", []byte("users")))
	s.ok(s.u.Mkdir("d"))
	s.ok(s.u.Symlink("nowhere", "l"))
	t, err := s.v.NewTemp(0, nil)
	s.ok(err)
	s.ok(s.root.Mkdir("mine"))
	for _, name := range []string{"f", "d", "l"} {
		before := s.lookup(s.root, name)
		s.refused(s.root.Link(t, name), volume.ErrExist, "link over "+name)
		s.refused(s.root.Mkdir(name), volume.ErrExist, "make directory over "+name)
		s.refused(s.root.Symlink("x", name), volume.ErrExist, "make link over "+name)
		s.refused(s.root.Rename("mine", s.root, name), volume.ErrExist, "rename over "+name)
		if after := s.lookup(s.root, name); after.Identity != before.Identity || after.Print != before.Print {
			s.Fatalf("%s was %+v and is %+v", name, before, after)
		}
	}
	s.content(s.root, "f", "users")
	s.ok(s.root.Link(t, "g"))
	s.ok(t.Close())
	if st := s.lookup(s.root, "mine"); st.Mode&0o777 != 0o700 {
		s.Fatalf("new directory has mode %o", st.Mode)
	}
}

func (s *story) links() {
	targets := []string{"/etc/passwd", "nowhere", "../..", ".", "with\nbreak", "\xff", string(bytes.Repeat([]byte("t"), 1000))} // xfs takes 1,023 bytes
	for i, target := range targets {
		name := string(rune('a' + i))
		s.ok(s.root.Symlink(target, name))
		if got, err := s.root.ReadLink(name); err != nil || got != target {
			s.Fatalf("link to %q reads %q, error %v", target, got, err)
		}
		if st := s.lookup(s.root, name); st.Print.Size != int64(len(target)) {
			s.Fatalf("link to %q has size %d", target, st.Print.Size)
		}
	}
	s.ok(s.u.WriteFile("file", nil))
	if second(s.root.ReadLink("file")) == nil {
		s.Fatal("a file was read as a link")
	}
	s.refused(second(s.root.ReadLink("none")), volume.ErrNotExist, "read a missing link")
}

func (s *story) writable() {
	if !s.Leases {
		s.Skip("this filesystem cannot tell who writes")
	}
	s.ok(s.u.WriteFile("f", []byte("x")))
	f, err := s.root.OpenFile("f")
	s.ok(err)
	expect := func(want bool, when string) {
		s.Helper()
		if got, err := f.Writable(); err != nil || got != want {
			s.Fatalf("writable %s: %v, error %v", when, got, err)
		}
	}
	expect(false, "before anybody opened it")
	w, err := s.u.OpenForWrite("f")
	s.ok(err)
	expect(true, "while a user has it open")
	s.ok(s.u.Rename("f", "g"))
	expect(true, "after it was renamed")
	_, err = w.Write([]byte("late"))
	s.ok(err)
	s.ok(w.Close())
	expect(false, "after the user closed it")
	expect(false, "asked again")
	w, err = s.u.OpenForWrite("g") // we left no lease behind
	s.ok(err)
	s.ok(w.Close())
	s.ok(f.Close())
}

func (s *story) syncs() {
	s.file(s.root, "f", "x")
	s.ok(s.root.Mkdir("d"))
	s.ok(s.dir("d").Sync())
	s.ok(s.root.Sync())
	s.ok(s.v.Sync())
	free, total, err := s.v.Free()
	s.ok(err)
	if free == 0 || total < free {
		s.Fatalf("%d of %d bytes are free", free, total)
	}
	d := s.dir("d")
	s.ok(d.Close())
	if second(d.Lookup("x")) == nil || d.Close() == nil {
		s.Fatal("a closed directory still answers")
	}
}
