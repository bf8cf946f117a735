package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/volume"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

func hashOf(data []byte) repl.Hash { return repl.Hash(blake3.Sum256(data)) }

// story is one rule: what was there, what a user did, the names that a journal
// makes dirty, and what is to be drafted. Files are "path=text", links
// "path->target", directories "path/".
type story struct {
	name   string
	before string
	do     func(w *world)
	dirty  string // paths; "!" marks a write
	want   string // drafts, in the order of their text
	noRead bool   // no content may be read
}

func (w *world) build(spec string) {
	w.t.Helper()
	for item := range strings.FieldsSeq(spec) {
		switch {
		case strings.HasSuffix(item, "/"):
			w.mkdir(strings.TrimSuffix(item, "/"))
		case strings.Contains(item, "->"):
			p, to, _ := strings.Cut(item, "->")
			w.link(to, p)
		default:
			p, text, _ := strings.Cut(item, "=")
			w.write(p, text)
		}
	}
}

func (w *world) exchange(a, b string) {
	w.t.Helper()
	w.must(unix.Renameat2(unix.AT_FDCWD, w.abs(a), unix.AT_FDCWD, w.abs(b), unix.RENAME_EXCHANGE))
}

var stories = []story{
	{name: "create", do: func(w *world) { w.build("a=1 b->a d/ d/e/ d/e/f=2") }, dirty: "a! b d",
		want: "create a, create b, create d, create d/e, create d/e/f"},
	{name: "nothing happened", before: "a=1 d/ b->a", do: func(*world) {}, dirty: "a! b d c", want: "", noRead: true},
	{name: "edit in place", before: "a=1", do: func(w *world) { w.write("a", "22") }, dirty: "a!", want: "edit a"},
	{name: "append", before: "a=1", do: func(w *world) {
		f, err := os.OpenFile(w.abs("a"), os.O_APPEND|os.O_WRONLY, 0)
		w.must(err)
		_, err = f.WriteString("more")
		w.must(errors.Join(err, f.Close()))
	}, dirty: "a!", want: "edit a"},
	{name: "truncate by path", before: "a=12345", do: func(w *world) { w.must(os.Truncate(w.abs("a"), 2)) }, dirty: "a", want: "edit a"},
	{name: "mtime restored after an edit", before: "a=1", do: func(w *world) {
		at := w.mtime("a")
		w.write("a", "2")
		w.touch("a", at)
	}, dirty: "a!", want: "edit a"},
	{name: "written with what was there", before: "a=1", do: func(w *world) {
		at := w.mtime("a")
		w.write("a", "1")
		w.touch("a", at)
	}, dirty: "a!", want: ""},
	{name: "chmod only", before: "a=1 d/", do: func(w *world) { w.chmod("a", 0o600); w.chmod("d", 0o700) }, dirty: "a d",
		want: "meta a, meta d", noRead: true},
	{name: "chmod there and back", before: "a=1", do: func(w *world) { w.chmod("a", 0o600); w.chmod("a", 0o644) }, dirty: "a", noRead: true},
	{name: "touch only", before: "a=1", do: func(w *world) { w.touch("a", time.Unix(1, 5)) }, dirty: "a", want: "meta a mtime"},
	{name: "save by rename", before: "doc=1", do: func(w *world) { w.write("doc.new", "2"); w.rename("doc.new", "doc") },
		dirty: "doc doc.new!", want: "edit doc"},
	{name: "save by rename, same content", before: "doc=1", do: func(w *world) {
		at := w.mtime("doc")
		w.write("doc.new", "1")
		w.touch("doc.new", at)
		w.rename("doc.new", "doc")
	}, dirty: "doc doc.new!"},
	{name: "save by delete and create", before: "doc=1", do: func(w *world) { w.remove("doc"); w.write("doc", "2") }, dirty: "doc!", want: "edit doc"},
	{name: "backup dance", before: "doc=1", do: func(w *world) { w.rename("doc", "doc~"); w.write("doc", "2") }, dirty: "doc! doc~",
		want: "create doc~, edit doc"},
	{name: "rename", before: "a=1", do: func(w *world) { w.rename("a", "b") }, dirty: "a b", want: "move a -> b", noRead: true},
	{name: "rename, the old name first", before: "b=1", do: func(w *world) { w.rename("b", "a") }, dirty: "a b", want: "move b -> a", noRead: true},
	{name: "rename and edit", before: "a=1", do: func(w *world) { w.rename("a", "b"); w.write("b", "22") }, dirty: "a b!",
		want: "move a -> b edited"},
	{name: "edit, mtime restored, rename", before: "a=1", do: func(w *world) {
		at := w.mtime("a")
		w.write("a", "2")
		w.touch("a", at)
		w.rename("a", "b")
	}, dirty: "a! b", want: "move a -> b edited"},
	{name: "move to another directory", before: "d/ e/ d/a=1", do: func(w *world) { w.rename("d/a", "e/b") }, dirty: "d/a e/b",
		want: "move d/a -> e/b", noRead: true},
	{name: "move into a new directory, the old one removed", before: "d/ d/a=1", do: func(w *world) {
		w.mkdir("e")
		w.rename("d/a", "e/a")
		w.remove("d")
	}, dirty: "d/a d e", want: "create e, delete d, move d/a -> e/a", noRead: true},
	{name: "only the removal of the old directory was seen", before: "d/ d/a=1 e/", do: func(w *world) {
		w.rename("d/a", "e/a")
		w.remove("d")
	}, dirty: "d", want: "delete d, move d/a -> e/a", noRead: true},
	{name: "rename over", before: "a=1 b=22", do: func(w *world) { w.rename("a", "b") }, dirty: "a b", want: "delete a, edit b", noRead: true},
	{name: "rename over, across directories", before: "d/ d/a=1 b=22", do: func(w *world) { w.rename("d/a", "b") }, dirty: "d/a b",
		want: "delete d/a, edit b", noRead: true},
	{name: "rename of a link over a link", before: "a->x b->y", do: func(w *world) { w.rename("a", "b") }, dirty: "a b", want: "delete a, edit b"},
	{name: "rename of a file over a link", before: "a=1 b->y", do: func(w *world) { w.rename("a", "b") }, dirty: "a b",
		want: "delete b, move a -> b", noRead: true},
	{name: "swap of files", before: "a=1 b=22", do: func(w *world) { w.exchange("a", "b") }, dirty: "a b", want: "edit a, edit b", noRead: true},
	{name: "swap of directories", before: "a/ a/x=1 b/ b/y=2", do: func(w *world) { w.exchange("a", "b") }, dirty: "a b",
		want: "move a -> b, move b -> a", noRead: true},
	{name: "ring of directories", before: "a/ b/ c/ a/x=1", do: func(w *world) {
		w.rename("a", "t")
		w.rename("c", "a")
		w.rename("b", "c")
		w.rename("t", "b")
	}, dirty: "a b c t", want: "move a -> b, move b -> c, move c -> a", noRead: true},
	{name: "swap of a file and a directory", before: "a=1 d/ d/x=1", do: func(w *world) { w.exchange("a", "d") }, dirty: "a d",
		want: "create d, delete a, move d -> a"},
	{name: "deploy: the old aside, the new in its place", before: "current/ current/x=1 new/ new/y=1", do: func(w *world) {
		w.rename("current", "old")
		w.rename("new", "current")
	}, dirty: "current new old", want: "move current -> old, move new -> current", noRead: true},
	{name: "deploy, the old removed", before: "current/ current/x=1 current/s/ current/s/z=1 new/ new/y=1", do: func(w *world) {
		w.remove("current")
		w.rename("new", "current")
	}, dirty: "current new", want: "delete current, delete current/s, delete current/s/z, delete current/x, move new -> current", noRead: true},
	{name: "log rotation", before: "log=3 log.1=22 log.2=1", do: func(w *world) {
		w.rename("log.1", "log.2")
		w.rename("log", "log.1")
		w.write("log", "new")
	}, dirty: "log log.1 log.2", want: "edit log, edit log.1, edit log.2"},
	{name: "directory made anew", before: "d/ d/a=1 d/b=1", do: func(w *world) {
		w.remove("d")
		w.build("d/ d/a=1 d/c=1")
		w.must(os.Chtimes(w.abs("d/a"), time.Time{}, time.Unix(5, 0)))
	}, dirty: "d", want: "create d/c, delete d/b, meta d/a mtime"},
	{name: "directory moved, another made in its place", before: "d/ d/a=1", do: func(w *world) {
		w.rename("d", "e")
		w.build("d/ d/n=1")
	}, dirty: "d e", want: "create d, create d/n, move d -> e"},
	{name: "directory moved with its files", before: "d/ d/a=1 d/s/ d/s/b=1", do: func(w *world) { w.rename("d", "e") }, dirty: "d e",
		want: "move d -> e", noRead: true},
	{name: "directory moved into a new one, one of its files out of it", before: "d/ d/a=1 d/b=1", do: func(w *world) {
		w.mkdir("n")
		w.rename("d", "n/d")
		w.rename("n/d/a", "a")
	}, dirty: "a d n d/a", want: "create n, move d -> n/d, move d/a -> a", noRead: true},
	{name: "directory becomes a file", before: "d/ d/a=1", do: func(w *world) { w.remove("d"); w.write("d", "1") }, dirty: "d!",
		want: "create d, delete d, delete d/a"},
	{name: "directory aside, a file in its place", before: "d/ d/a=1", do: func(w *world) { w.rename("d", "e"); w.write("d", "1") }, dirty: "d! e",
		want: "create d, move d -> e"},
	{name: "directory wrapped in a new one of its name", before: "d/ d/a=1 d/s/ d/s/x=1", do: func(w *world) {
		w.rename("d", "t")
		w.mkdir("d/new")
		w.rename("t", "d/new/old")
	}, dirty: "d t", want: "create d/new, create d/new/old, move d/a -> d/new/old/a, move d/s -> d/new/old/s", noRead: true},
	{name: "two directories, each in a new one of the other's name", before: "a/ a/x=1 b/ b/y=1", do: func(w *world) {
		w.rename("a", "t")
		w.rename("b", "u")
		w.build("a/ b/")
		w.rename("t", "b/t")
		w.rename("u", "a/u")
	}, dirty: "a b t u", want: "create a/u, create b/t, move a/x -> b/t/x, move b/y -> a/u/y", noRead: true},
	{name: "each in the place of the next, the last one removed and the first one's in a new one", before: "a/ a/s/ a/s/x=1 b/ b/r/ b/r/y=1", do: func(w *world) {
		w.rename("b/r", "t")
		w.remove("b")
		w.rename("a", "b")
		w.rename("b/s", "u")
		w.rename("t", "b/s")
		w.mkdir("a/n")
		w.rename("u", "a/n/s")
	}, dirty: "a b t u", want: "create a/n, move a/s -> a/n/s, move b/r -> b/s", noRead: true},
	{name: "directory moved below what was in it", before: "a/ a/b/ a/b/c/ a/x=1", do: func(w *world) {
		w.rename("a/b", "t")
		w.rename("a", "t/c/a")
	}, dirty: "t/c/a a t", want: "move a -> t/c/a, move a/b -> t", noRead: true},
	{name: "what was deep in a directory takes its place", before: "a/ a/b/ a/b/c/ a/b/c/x=1 a/y=1", do: func(w *world) {
		w.rename("a/b/c", "t")
		w.remove("a")
		w.rename("t", "a")
	}, dirty: "a t", want: "delete a, delete a/b, delete a/y, move a/b/c -> a", noRead: true},
	{name: "what was in a directory takes its place", before: "d/ d/a=1 d/b=1 e/ e/s/ e/s/x=1 e/y=1", do: func(w *world) {
		w.rename("d/a", "t")
		w.remove("d")
		w.rename("t", "d")
		w.rename("e/s", "t")
		w.rename("e/y", "t/y")
		w.remove("e")
		w.rename("t", "e")
	}, dirty: "d e t", want: "delete d, delete d/b, delete e, move d/a -> d, move e/s -> e, move e/y -> e/s/y", noRead: true},
	{name: "directory becomes a link", before: "d/ d/a=1", do: func(w *world) { w.rename("d", "e"); w.link("e", "d") }, dirty: "d e",
		want: "create d, move d -> e", noRead: true},
	{name: "file becomes a directory", before: "f=1", do: func(w *world) { w.remove("f"); w.build("f/ f/a=1") }, dirty: "f",
		want: "create f, create f/a, delete f"},
	{name: "delete", before: "a=1 d/ d/b=1 d/e/ d/e/c=1", do: func(w *world) { w.remove("a"); w.remove("d") }, dirty: "a d d/b d/e d/e/c",
		want: "delete a, delete d, delete d/b, delete d/e, delete d/e/c", noRead: true},
	{name: "link made again", before: "a->x", do: func(w *world) { w.remove("a"); w.link("y", "a") }, dirty: "a", want: "edit a"},
	{name: "hard link added", before: "a=1", do: func(w *world) { w.hard("a", "b") }, dirty: "a b", want: "create b", noRead: true},
	{name: "hard link removed", before: "a=1", do: func(w *world) {
		w.hard("a", "b")
		w.settle(w.walk()...)
		w.remove("b")
	}, dirty: "a b", want: "delete b"},
	{name: "edit through one of two hard links", before: "a=1", do: func(w *world) {
		w.hard("a", "b")
		w.settle(w.walk()...)
		w.write("a", "22")
	}, dirty: "a!", want: "edit a, edit b"},
	{name: "hard link replaces a file", before: "a=1 b=22", do: func(w *world) { w.remove("b"); w.hard("a", "b") }, dirty: "b", want: "edit b", noRead: true},
	{name: "filtered names", before: "", do: func(w *world) { w.build("a.bak=1 x.tmp=1 cache/ cache/a=1 b=1") }, dirty: "a.bak! x.tmp cache b", want: "create b"},
	{name: "on to a filtered name", before: "a=1 d/ d/b=1", do: func(w *world) { w.rename("a", "a.bak"); w.rename("d", "cache") },
		dirty: "a a.bak d cache", want: "delete a, delete d, delete d/b"},
	{name: "off a filtered name", before: "a.bak=1 cache/ cache/b=1", do: func(w *world) { w.rename("a.bak", "a"); w.rename("cache", "d") },
		dirty: "a a.bak d cache", want: "create a, create d, create d/b"},
	{name: "moved into a filtered directory", before: "cache/ a=1", do: func(w *world) { w.rename("a", "cache/a") }, dirty: "a", want: "delete a"},
	{name: "moved out of the folder", before: "a=1 d/ d/b=1", do: func(w *world) {
		out := w.t.TempDir()
		w.must(os.Rename(w.abs("a"), out+"/a"))
		w.must(os.Rename(w.abs("d"), out+"/d"))
	}, dirty: "a d", want: "delete a, delete d, delete d/b"},
	{name: "moved, and only the old name was seen", before: "a=1 d/ d/b=1", do: func(w *world) { w.rename("a", "b"); w.rename("d", "e") },
		dirty: "a d", want: "move a -> b, move d -> e", noRead: true},
	{name: "moved into unseen directories, and only the old name was seen", before: "a=1", do: func(w *world) {
		w.mkdir("x/y")
		w.rename("a", "x/y/a")
	}, dirty: "a", want: "create x, create x/y, move a -> x/y/a"},
	{name: "odd names", do: func(w *world) {
		for _, n := range []string{"a b", "ä", "\xff\xfe", "-", "new\nline", "*", "..x", strings.Repeat("n", 255)} {
			w.write(n, "1")
		}
	}, dirty: ".", want: ""},
	{name: "sockets and pipes", before: "", do: func(w *world) { w.must(unix.Mkfifo(w.abs("p"), 0o600)); w.write("a", "1") }, dirty: "p a", want: "create a"},
	{name: "a pipe where a file was", before: "p=1", do: func(w *world) { w.remove("p"); w.must(unix.Mkfifo(w.abs("p"), 0o600)) }, dirty: "p", want: "delete p"},
}

// drafted gives the drafts as a story writes them.
func drafted(lines []string) string {
	lines = slices.Clone(lines)
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

func TestStories(t *testing.T) {
	for _, s := range stories {
		for _, mode := range []string{"journal", "journal, stored late", "walk"} {
			t.Run(s.name+"/"+mode, func(t *testing.T) {
				w := newWorld(t)
				w.build(s.before)
				w.settle(w.walk()...)
				s.do(w)
				w.atEnd = mode == "journal, stored late"
				works, read := w.walk(), w.reads
				if mode != "walk" {
					works = w.together(strings.Fields(s.dirty))
				}
				got := drafted(w.settle(works...))
				if s.name == "odd names" {
					if n := strings.Count(got, "create "); n != 8 && mode == "walk" {
						t.Errorf("%d of 8 odd names are captured: %q", n, got)
					}
				} else if mode != "walk" || !strings.Contains(s.name, "mtime restored") {
					if got != s.want {
						t.Errorf("drafted: %s\nwant:    %s", got, s.want)
					}
				}
				if s.noRead && w.reads != read {
					t.Errorf("%d bytes were read", w.reads-read)
				}
				if mode == "walk" && strings.Contains(s.name, "mtime restored") || s.dirty == "." && mode != "walk" {
					return // a walk cannot see what hides its traces
				}
				w.agree()
			})
		}
	}
}

// together makes one work of the dirty names of a directory, as an engine does.
func (w *world) together(paths []string) []Work { return merged(w.mark(paths...)) }

func merged(works []Work) []Work {
	var out []Work
	for _, work := range works {
		i := slices.IndexFunc(out, func(o Work) bool { return o.Dir == work.Dir })
		if i < 0 {
			out = append(out, work)
			continue
		}
		out[i].Names = append(out[i].Names, work.Names...)
	}
	return out
}

// What must be stored in one batch is said to be.
func TestGroups(t *testing.T) {
	for what, c := range map[string]struct {
		before string
		do     func(w *world)
		names  []string
		want   string
	}{
		"rename over": {"a=1 b=2", func(w *world) { w.rename("a", "b") }, []string{"a", "b"}, "edit b + delete a"},
		"type change": {"a=1", func(w *world) { w.remove("a"); w.mkdir("a") }, []string{"a"}, "delete a + create a"},
		"swap":        {"a/ b/", func(w *world) { w.exchange("a", "b") }, []string{"a", "b"}, "move a -> b + move b -> a"},
	} {
		w := newWorld(t)
		w.build(c.before)
		w.settle(w.walk()...)
		c.do(w)
		var got []string
		var group uint32
		work := w.names(".", c.names...)
		_, err := Look(t.Context(), &w.deps, &work, func(d Draft) error {
			if d.Group == 0 || group != 0 && d.Group != group {
				t.Errorf("%s: draft %q is in group %d", what, w.line(&d), d.Group)
			}
			group = d.Group
			got = append(got, w.line(&d))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if g := strings.Join(got, " + "); g != c.want {
			t.Errorf("%s: %s, want %s", what, g, c.want)
		}
	}
}

func TestRenamedOverFileKeepsItsUID(t *testing.T) {
	w := newWorld(t)
	w.build("a=1 b=22")
	w.settle(w.walk()...)
	a, _ := w.rec("a")
	b, _ := w.rec("b")
	w.rename("a", "b")
	w.settle(w.names(".", "a", "b"))
	now, ok := w.rec("b")
	if !ok || now.UID != b.UID || now.Content != a.Content || now.Size != 1 || now.Identity != a.Identity {
		t.Errorf("b is %+v, want the object %v with the content of a", now, b.UID)
	}
	if dead, _, _ := w.book.Get(a.UID); dead.Present || dead.Presence != repl.Absent || !dead.Identity.IsZero() {
		t.Errorf("a is %+v, want a tombstone", dead)
	}
}

func TestMoveKeepsUIDAndRecordedMtime(t *testing.T) {
	w := newWorld(t)
	w.build("a=1")
	w.settle(w.walk()...)
	rec, _ := w.rec("a")
	// As on a filesystem that holds less of an mtime than the record.
	w.book.byUID[rec.UID].Mtime++
	w.rename("a", "b")
	w.settle(w.names(".", "b", "a"))
	now, ok := w.rec("b")
	if !ok || now.UID != rec.UID || now.Mtime != rec.Mtime+1 {
		t.Errorf("b is %+v, want %v with mtime %v", now, rec.UID, rec.Mtime+1)
	}
}

// A file that somebody writes to is left alone until it rests.
func TestOpenForWriting(t *testing.T) {
	w := newWorld(t)
	w.build("new=1 old=1")
	w.settle(w.names(".", "old"))
	for _, p := range []string{"new", "old"} {
		f, err := os.OpenFile(w.abs(p), os.O_WRONLY|os.O_APPEND, 0)
		w.must(err)
		defer f.Close()
		_, err = f.WriteString("more")
		w.must(err)
	}
	if got := w.settle(w.names(".", "new!", "old!")); len(got) > 0 {
		t.Errorf("drafted %q while being written", got)
	}
	for _, a := range w.last.Again {
		if a.Reason != OpenForWriting || a.After <= 55*time.Second || a.After > time.Minute || !a.Wrote {
			t.Errorf("again %+v, want open for writing for a minute", a)
		}
	}
	if len(w.last.Again) != 2 {
		t.Errorf("again %+v, want both files", w.last.Again)
	}
	w.ahead = time.Minute
	if got := drafted(w.settle(w.names(".", "new!", "old!"))); got != "create new, edit old" {
		t.Errorf("drafted %q at rest", got)
	}
}

// A rename does not wait for the content.
func TestMoveOfAFileThatIsOpen(t *testing.T) {
	w := newWorld(t)
	w.build("a=1")
	w.settle(w.walk()...)
	before, _ := w.rec("a")
	f, err := os.OpenFile(w.abs("a"), os.O_WRONLY|os.O_APPEND, 0)
	w.must(err)
	defer f.Close()
	_, err = f.WriteString("more")
	w.must(err)
	w.rename("a", "b")
	if got := drafted(w.settle(w.names(".", "a", "b"))); got != "move a -> b" {
		t.Errorf("drafted %q", got)
	}
	rec, _ := w.rec("b")
	if rec.Content != before.Content || rec.Print != before.Print {
		t.Errorf("moved record %+v claims content that was not read", rec)
	}
	w.ahead = time.Minute
	if got := drafted(w.settle(w.names(".", "b"))); got != "edit b" {
		t.Errorf("drafted %q at rest", got)
	}
}

// interrupted is a volume on which a user acts at chosen points of a look.
type interrupted struct {
	volume.Volume
	on func(op, name string) error
}

func (v *interrupted) Root() (volume.Dir, error) { return v.wrap(v.Volume.Root()) }
func (v *interrupted) OpenDir(p string) (volume.Dir, error) {
	if err := v.on("opendir", p); err != nil {
		return nil, err
	}
	return v.wrap(v.Volume.OpenDir(p))
}
func (v *interrupted) Resolve(id repl.Identity) (string, error) {
	if err := v.on("resolve", ""); err != nil {
		return "", err
	}
	return v.Volume.Resolve(id)
}
func (v *interrupted) wrap(d volume.Dir, err error) (volume.Dir, error) {
	if err != nil {
		return nil, err
	}
	return interruptedDir{d, v}, nil
}

type interruptedDir struct {
	volume.Dir
	v *interrupted
}

func (d interruptedDir) Lookup(name string) (volume.Stat, error) {
	if err := d.v.on("lookup", name); err != nil {
		return volume.Stat{}, err
	}
	return d.Dir.Lookup(name)
}

func (d interruptedDir) Again(name string, was *volume.Stat) (volume.Stat, error) {
	if err := d.v.on("lookup", name); err != nil {
		return volume.Stat{}, err
	}
	return d.Dir.Again(name, was)
}

func (d interruptedDir) Recognize(name string, _ repl.Identity, _ repl.Time) (volume.Stat, error) {
	return d.Lookup(name)
}

func (d interruptedDir) Meta(name string) ([]byte, error) {
	if err := d.v.on("meta", name); err != nil {
		return nil, err
	}
	return d.Dir.Meta(name)
}

func (d interruptedDir) MetaOf(name string, was *volume.Stat) ([]byte, error) {
	if err := d.v.on("meta", name); err != nil {
		return nil, err
	}
	return d.Dir.MetaOf(name, was)
}

func (d interruptedDir) OpenFile(name string) (volume.File, error) {
	if err := d.v.on("open", name); err != nil {
		return nil, err
	}
	f, err := d.Dir.OpenFile(name)
	if err != nil {
		return nil, err
	}
	return interruptedFile{f, d.v, name}, nil
}

type interruptedFile struct {
	volume.File
	v    *interrupted
	name string
}

func (f interruptedFile) Meta() ([]byte, error) {
	if err := f.v.on("meta", f.name); err != nil {
		return nil, err
	}
	return f.File.Meta()
}

func (d interruptedDir) List(fn func(volume.Entry) error) error {
	n := 0
	return d.Dir.List(func(e volume.Entry) error {
		if n++; n > 2 {
			if err := d.v.on("list", e.Name); err != nil {
				return err
			}
		}
		return fn(e)
	})
}

// interrupt has the hook called until it is lifted by the returned function.
func (w *world) interrupt(on func(op, name string) error) (lift func()) {
	was := w.deps.Volume
	w.deps.Volume = &interrupted{Volume: was, on: on}
	return func() { w.deps.Volume = was }
}

func TestAUserActsDuringALook(t *testing.T) {
	for _, at := range []string{"open", "meta"} {
		for what, act := range map[string]func(w *world){
			"writes":        func(w *world) { w.write("a", "changed") },
			"saves anew":    func(w *world) { w.write("n", "changed"); w.rename("n", "a") },
			"makes a link":  func(w *world) { w.remove("a"); w.link("/etc/passwd", "a") },
			"makes a dir":   func(w *world) { w.remove("a"); w.mkdir("a") },
			"removes":       func(w *world) { w.remove("a") },
			"makes a pipe":  func(w *world) { w.remove("a"); w.must(unix.Mkfifo(w.abs("a"), 0o600)) },
			"changes modes": func(w *world) { w.chmod("a", 0o600) },
		} {
			t.Run(at+"/"+what, func(t *testing.T) {
				w := newWorld(t)
				w.build("a=1")
				done := false
				lift := w.interrupt(func(op, name string) error {
					if op == at && name == "a" && !done {
						done = true
						act(w)
					}
					return nil
				})
				res := w.look(w.names(".", "a!"))
				lift()
				if len(w.lines) > 0 {
					t.Errorf("drafted %q of what did not hold still", w.lines)
				}
				if len(res.Again) != 1 || res.Again[0].Reason != Changing || !res.Again[0].Wrote {
					t.Errorf("again is %+v", res.Again)
				}
				w.settle(w.names(".", "a!"))
				w.agree()
			})
		}
	}
}

// The directory that is looked at is replaced by a link to another, or by
// another, while the walk is under way: nothing of the other is taken for this
// one, which is looked at where it is now.
func TestDirectoryReplacedBeforeItsLook(t *testing.T) {
	for what, act := range map[string]func(w *world){
		"link":      func(w *world) { w.link("other", "d") },
		"directory": func(w *world) { w.build("d/ d/a=2") },
	} {
		for _, privileged := range []bool{true, false} {
			w := newWorld(t)
			if !privileged {
				w.interrupt(withoutPrivilege)
			}
			w.build("d/ d/a=1 d/b=1 other/ other/a=2")
			w.settle(w.walk()...)
			d, _ := w.rec("d")
			b, _ := w.rec("d/b")
			w.rename("d", "e")
			act(w)
			w.remove("e/b")
			w.lines = nil
			for _, work := range []Work{{Dir: d.UID, All: true}, {Dir: d.UID, Names: []Name{{Name: "a"}, {Name: "b"}}}} {
				res := w.look(work)
				if len(w.lines) > 0 {
					t.Errorf("%s: drafted %q", what, w.lines)
				}
				if privileged && (res.Missing || !slices.Equal(res.Gone, []repl.UID{b.UID}) ||
					!slices.Equal(res.Dirty, []Dirty{{Dir: w.book.root, Name: "e"}})) {
					t.Errorf("%s: result %+v, want b gone and e dirty", what, res)
				}
				if !privileged && (!res.Missing || len(res.Gone) > 0) {
					t.Errorf("%s: result %+v, want nothing but missing", what, res)
				}
			}
			w.settle(w.names(".", "d", "e"))
			w.settle(w.walk()...)
			if e, ok := w.rec("e"); !ok || e.UID != d.UID {
				t.Errorf("%s: e is %v, want %v", what, e.UID, d.UID)
			}
			w.agree()
		}
	}
}

func TestGoneConcludesNothingOfAMissingDirectory(t *testing.T) {
	w := newWorld(t)
	w.interrupt(withoutPrivilege)
	w.build("d/ d/a=1")
	w.settle(w.walk()...)
	a, _ := w.rec("d/a")
	w.remove("d")
	w.mkdir("d")
	w.lines = nil
	res := w.run("gone", func(emit func(Draft) error) (Result, error) {
		return Gone(t.Context(), &w.deps, []repl.UID{a.UID}, emit)
	})
	if len(w.lines) > 0 || len(res.Gone) > 0 {
		t.Errorf("Gone drafted %q, result %+v", w.lines, res)
	}
}

var errIO = fmt.Errorf("read: %w", unix.EIO)

func TestListingErrorDeletesNothing(t *testing.T) {
	w := newWorld(t)
	w.build("a=1 b=1 c=1 d=1 e=1")
	w.settle(w.walk()...)
	w.remove("a")
	w.write("new", "1")
	lift := w.interrupt(func(op, _ string) error {
		if op == "list" {
			return errIO
		}
		return nil
	})
	res := w.look(w.walk()[0])
	lift()
	if res.Complete || len(res.Gone) > 0 {
		t.Errorf("result %+v of a listing that broke off", res)
	}
	if len(res.Findings) != 1 || res.Findings[0].Code != finding.ListingError || res.Findings[0].Object != "." {
		t.Errorf("findings %+v", res.Findings)
	}
	if got := drafted(w.settle(w.walk()...)); !strings.Contains(got, "delete a") {
		t.Errorf("drafted %q when the listing works again", got)
	}
}

func TestUnreadableFileIsAFindingAndNoDeletion(t *testing.T) {
	for _, op := range []string{"open", "meta", "lookup"} {
		w := newWorld(t)
		w.build("a=1 b=1 c=1")
		w.settle(w.walk()...)
		w.write("a", "2")
		lift := w.interrupt(func(o, name string) error {
			if o == op && name == "a" {
				return errIO
			}
			return nil
		})
		w.write("c", "22")
		got := drafted(w.settle(w.walk()...))
		lift()
		if got != "edit c" {
			t.Errorf("%s: drafted %q, want only the file beside it", op, got)
		}
		if f := w.last.Findings; len(f) != 1 || f[0].Code != finding.FileUnreadable || f[0].Object != "a" || f[0].Detail == "" {
			t.Errorf("%s: findings %+v", op, f)
		}
		if got := drafted(w.settle(w.walk()...)); got != "edit a" {
			t.Errorf("%s: drafted %q when it can be read", op, got)
		}
		w.agree()
	}
}

// What became of an object that is not at its place cannot be told for the
// moment: it is asked about again.
func TestAnErrorLeavesWhatIsGoneForLater(t *testing.T) {
	for _, hides := range []string{"resolve", "lookup"} {
		w := newWorld(t)
		w.build("a=1")
		w.settle(w.walk()...)
		a, _ := w.rec("a")
		w.remove("a")
		lift := w.interrupt(func(op, _ string) error {
			if op == hides {
				return errIO
			}
			return nil
		})
		w.lines = nil
		gone := func(emit func(Draft) error) (Result, error) {
			return Gone(t.Context(), &w.deps, []repl.UID{a.UID}, emit)
		}
		res := w.run("gone", gone)
		lift()
		if len(w.lines) > 0 || len(res.Unsure) != 1 || res.Unsure[0] != a.UID || len(res.Findings) != 1 {
			t.Errorf("%s: drafted %q, result %+v", hides, w.lines, res)
		}
		if res = w.run("gone", gone); len(w.lines) != 1 || len(res.Unsure) > 0 {
			t.Errorf("%s: drafted %q afterwards, result %+v", hides, w.lines, res)
		}
	}
}

func TestUnreadableDirectoryHidesWhatIsInIt(t *testing.T) {
	w := newWorld(t)
	w.build("d/ d/a=1")
	w.settle(w.walk()...)
	d, _ := w.rec("d")
	a, _ := w.rec("d/a")
	w.remove("d/a")
	lift := w.interrupt(func(op, name string) error {
		if op == "opendir" && name == "d" {
			return errIO
		}
		return nil
	})
	w.lines = nil
	res := w.look(Work{Dir: d.UID, All: true})
	w.lines = nil
	if res.Missing || res.Complete || len(res.Gone) > 0 || len(res.Findings) != 1 {
		t.Errorf("result %+v of a directory that cannot be opened", res)
	}
	w.run("gone", func(emit func(Draft) error) (Result, error) {
		return Gone(t.Context(), &w.deps, []repl.UID{a.UID}, emit)
	})
	lift()
	if len(w.lines) > 0 {
		t.Errorf("drafted %q of a directory that cannot be opened", w.lines)
	}
}

func TestMountIsNoDeletion(t *testing.T) {
	w := newWorld(t)
	w.build("d/ d/a=1")
	w.settle(w.walk()...)
	lift := w.interrupt(func(op, name string) error {
		if name == "d" {
			return volume.ErrMount
		}
		return nil
	})
	got := w.settle(w.walk()...)
	lift()
	if len(got) > 0 {
		t.Errorf("drafted %q beneath a mount", got)
	}
	mounts := 0
	for _, r := range w.seen {
		mounts += r.Skipped.Mounts
	}
	if mounts != 1 {
		t.Errorf("%d mounts counted", mounts)
	}
	w.agree()
}

func TestUnmountedRootIsAnError(t *testing.T) {
	w := newWorld(t)
	w.build("a=1")
	w.settle(w.walk()...)
	w.must(os.Rename(w.root, w.root+".away"))
	defer func() { w.must(os.Rename(w.root+".away", w.root)) }()
	w.must(os.Mkdir(w.root, 0o755))
	defer func() { w.must(os.Remove(w.root)) }()
	work := w.walk()[0]
	_, err := Look(t.Context(), &w.deps, &work, func(d Draft) error { t.Errorf("drafted %s", w.line(&d)); return nil })
	if !errors.Is(err, volume.ErrUnmounted) {
		t.Errorf("error %v, want unmounted", err)
	}
	a, _ := w.rec("a")
	_, err = Gone(t.Context(), &w.deps, []repl.UID{a.UID}, func(d Draft) error { t.Errorf("drafted %s", w.line(&d)); return nil })
	if !errors.Is(err, volume.ErrUnmounted) {
		t.Errorf("error %v of Gone, want unmounted", err)
	}
}

func withoutPrivilege(op, _ string) error {
	if op == "resolve" {
		return volume.ErrUnknown
	}
	return nil
}

// Without the privilege to resolve handles renames are still seen where both
// names are looked at; others become a deletion and a creation.
func TestWithoutPrivilege(t *testing.T) {
	instead := map[string]string{
		"each in the place of the next, the last one removed and the first one's in a new one": "create a, create a/n, create a/n/s, create a/n/s/x, create b/s/y, delete b, delete b/r, delete b/r/y, delete b/s/x, move a -> b",
		"directory moved below what was in it":                                                 "create t, create t/c, create t/c/a, create t/c/a/x, delete a, delete a/b, delete a/b/c, delete a/x",
		"what was deep in a directory takes its place":                                         "create a, create a/x, delete a, delete a/b, delete a/b/c, delete a/b/c/x, delete a/y",
		"what was in a directory takes its place":                                              "create d, create e, create e/x, create e/y, delete d, delete d/a, delete d/b, delete e, delete e/s, delete e/s/x, delete e/y",
		"directory moved into a new one, one of its files out of it":                           "create a, create n, delete n/d/a, move d -> n/d",
		"only the removal of the old directory was seen":                                       "delete d, delete d/a",
		"moved, and only the old name was seen":                                                "delete a, delete d, delete d/b",
		"moved into unseen directories, and only the old name was seen":                        "delete a",
		"moved into a filtered directory":                                                      "delete a",
		"move into a new directory, the old one removed":                                       "create e, create e/a, delete d, delete d/a",
	}
	for _, s := range stories {
		if s.name == "odd names" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t)
			w.interrupt(withoutPrivilege)
			w.build(s.before)
			w.settle(w.walk()...)
			s.do(w)
			got := drafted(w.settle(w.together(strings.Fields(s.dirty))...))
			want, other := instead[s.name]
			if !other {
				want = s.want
			}
			if got != want {
				t.Errorf("drafted: %s\nwant:    %s", got, want)
			}
			w.settle(w.walk()...)
			w.agree()
		})
	}
}

// A fingerprint that may be too young is not believed, not even after a crash.
func TestTooYoungFingerprintIsReadAgain(t *testing.T) {
	w := newWorld(t)
	w.deps.Racy = time.Hour
	w.build("a=1 d/")
	res := w.look(w.names(".", "a!"))
	if len(res.Again) != 1 || res.Again[0].Reason != TooYoung || res.Again[0].After > time.Hour || res.Again[0].After < 59*time.Minute {
		t.Errorf("again is %+v", res.Again)
	}
	rec, ok := w.rec("a")
	if !ok || rec.Print.Ctime != 0 {
		t.Fatalf("record %+v believes a young ctime", rec)
	}
	// As if written again within the tick: size, mtime and ctime are the same.
	at := w.mtime("a")
	w.write("a", "2")
	w.touch("a", at)
	w.deps.Racy = 0
	if got := drafted(w.settle(w.walk()...)); got != "create d, edit a" {
		t.Errorf("drafted %q", got)
	}
	w.agree()
	// An old fingerprint that a write is reported for and that is young again.
	w.deps.Racy = time.Hour
	w.look(w.names(".", "a!"))
	if rec, _ := w.rec("a"); rec.Print.Ctime != 0 {
		t.Errorf("record %+v believes a ctime that a write was reported for", rec)
	}
}

// Records that are not on this disk are never found deleted. What a filter hides,
// or hid, goes with its directory.
func TestOnlyWhatIsOnDiskIsFoundDeleted(t *testing.T) {
	for _, p := range []repl.Presence{repl.Hidden, repl.Carried, repl.Obscured, repl.Absent} {
		w := newWorld(t)
		w.build("a=1 d/ d/b=1 d/c=1")
		w.settle(w.walk()...)
		for _, name := range []string{"a", "d/b"} {
			rec, _ := w.rec(name)
			w.book.byUID[rec.UID].Presence = p
		}
		w.remove("a")
		d, _ := w.rec("d")
		w.remove("d")
		filtered := p == repl.Hidden || p == repl.Absent
		want := "delete d/c"
		if filtered {
			want = "delete d, delete d/b, delete d/c"
		}
		if got := drafted(w.settle(w.walk()...)); got != want {
			t.Errorf("%v: drafted %q, want %q", p, got, want)
		}
		if _, ok := w.rec("a"); !ok {
			t.Errorf("%v: a is found deleted", p)
		}
		if filtered {
			continue
		}
		wanted := false
		for _, r := range w.seen {
			wanted = wanted || slices.Contains(r.Wanted, d.UID)
		}
		if !wanted {
			t.Errorf("%v: nobody is told that the directory is wanted", p)
		}
	}
}

func TestWhatComesBackIsOnDiskAgain(t *testing.T) {
	w := newWorld(t)
	w.build("a=1 d/ d/b=1")
	w.settle(w.walk()...)
	for _, name := range []string{"a", "d"} {
		rec, _ := w.rec(name)
		w.book.byUID[rec.UID].Presence = repl.Obscured
	}
	w.write("d/n", "1")
	if got := drafted(w.settle(w.names(".", "a", "d"))); got != "create d/n" {
		t.Errorf("drafted %q", got)
	}
	w.agree()
}

// Something appears where a live record is that this disk does not have.
func TestRival(t *testing.T) {
	for _, c := range []struct {
		text, want string
		presence   repl.Presence
	}{{"1", "meta a mtime", repl.Absent}, {"22", "edit a", repl.Absent}, {"1", "meta a mtime", repl.Carried}, {"22", "create a", repl.Carried}} {
		w := newWorld(t)
		w.build("a=1")
		w.settle(w.walk()...)
		rec, _ := w.rec("a")
		r := w.book.byUID[rec.UID]
		r.Presence, r.Identity, r.Print = c.presence, repl.Identity{}, repl.Print{}
		w.remove("a")
		w.write("a", c.text)
		w.touch("a", time.Unix(9, 9))
		var got []Draft
		work := w.names(".", "a!")
		if _, err := Look(t.Context(), &w.deps, &work, func(d Draft) error { got = append(got, d); return nil }); err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || w.line(&got[0]) != c.want || got[0].Presence != repl.OnDisk {
			t.Fatalf("drafted %+v, want %s", got, c.want)
		}
		if (got[0].Rival != nil && got[0].Rival.UID == rec.UID) != (got[0].Kind == KindCreate) {
			t.Errorf("rival of %s is %+v", c.want, got[0].Rival)
		}
	}
}

// Children of a merged directory keep their parent and lie in its heir (rule 8).
func TestMergedDirectory(t *testing.T) {
	w := newWorld(t)
	w.build("d/ d/a=1 e/ e/b=2 e/c=3 e/s/ e/s/x=1")
	w.settle(w.walk()...)
	d, _ := w.rec("d")
	e, _ := w.rec("e")
	for _, name := range []string{"b", "c", "s"} {
		w.rename("e/"+name, "d/"+name)
	}
	w.remove("e")
	w.book.merge(e.UID, d.UID)
	read := w.reads
	if got := w.settle(w.walk()...); len(got) > 0 || w.reads != read {
		t.Errorf("drafted %q of a merged directory, %d bytes read", got, w.reads-read)
	}
	w.write("d/b", "22")
	w.rename("d/c", "d/z")
	w.remove("d/s")
	if got := drafted(w.settle(Work{Dir: e.UID, All: true})); got != "delete d/s, delete d/s/x, edit d/b, move d/c -> d/z" {
		t.Errorf("drafted %q", got)
	}
	if b, _ := w.rec("d/b"); b.Parent != e.UID {
		t.Errorf("the edited file's parent is %v, want %v as before", b.Parent, e.UID)
	}
	w.agree()
}

func TestSelfDraftsTheDirectorysMtime(t *testing.T) {
	w := newWorld(t)
	w.build("a=1")
	w.settle(Work{Dir: w.book.root, All: true, Self: true})
	root, _, _ := w.book.Get(w.book.root)
	if root.Mtime != repl.Time(w.mtime(".").UnixNano()) {
		t.Errorf("root's mtime is %v on record", root.Mtime)
	}
	minted := w.book.minted
	w.settle(Work{Dir: w.book.root, Self: true})
	if w.book.minted != minted {
		t.Errorf("an mtime that stands is minted again")
	}
}

func TestEndOfContextEndsALook(t *testing.T) {
	w := newWorld(t)
	w.build("a=1 b=1")
	w.deps.Records = w.book
	ctx, cancel := cancelled(t)
	work := w.walk()[0]
	n := 0
	_, err := Look(ctx, &w.deps, &work, func(Draft) error { n++; cancel(); return nil })
	if err == nil || n != 1 {
		t.Errorf("error %v after %d drafts", err, n)
	}
}

func TestEmitErrorEndsALook(t *testing.T) {
	w := newWorld(t)
	w.build("a=1 b=1")
	work := w.walk()[0]
	if _, err := Look(t.Context(), &w.deps, &work, func(Draft) error { return errOvertaken }); !errors.Is(err, errOvertaken) {
		t.Errorf("error %v, want emit's", err)
	}
}

func cancelled(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// A directory on the way to where another one went, and which lies in its own as it
// did, has nothing to be captured: it would be looked at for ever, because of it.
func TestWhatStayedInAMovedDirectoryIsNoMove(t *testing.T) {
	w := newWorld(t)
	w.build("top/ top/mid/ top/mid/low/ top/mid/low/f=1 gone/")
	w.settle(w.walk()...)
	mid, _ := w.rec("top/mid")
	low, _ := w.rec("top/mid/low")
	w.remove("gone")
	w.rename("top/mid", "gone")
	w.rename("top", "gone/low/top")
	for range 3 {
		res := w.look(Work{Dir: low.UID, All: true, Thorough: true})
		if slices.Contains(res.Dirty, Dirty{Dir: mid.UID, Name: "low", Wrote: true}) {
			t.Fatalf("a look has its own directory looked at anew: %+v", res)
		}
	}
	w.settle(w.walk()...)
	w.agree()
}
