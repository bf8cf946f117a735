package capture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"opendfs/internal/repl"

	"golang.org/x/sys/unix"
)

// user does random things to a tree and notes the names that a journal would
// report. It never waits, so that looks see many changes at once.
type user struct {
	w     *world
	rnd   *rand.Rand
	dirty []event
	n     int
}

// event is what a journal reports: the handle of the directory, and a name.
type event struct {
	dir  repl.Identity
	name string
}

func (u *user) note(paths ...string) {
	for _, p := range paths {
		d, err := u.w.plain.OpenDir(path.Dir(p))
		u.w.must(err)
		st, err := d.Stat()
		u.w.must(errors.Join(err, d.Close()))
		if e := (event{st.Identity, path.Base(p)}); !slices.Contains(u.dirty, e) {
			u.dirty = append(u.dirty, e)
		}
	}
}

// objects lists what is in the tree, "." among the directories.
func (u *user) objects() (files, dirs []string) {
	dirs = []string{"."}
	var list func(dir string)
	list = func(dir string) {
		entries, err := os.ReadDir(u.w.abs(dir))
		u.w.must(err)
		for _, e := range entries {
			p := path.Join(dir, e.Name())
			switch {
			case p == ".dfsr":
			case e.IsDir():
				dirs = append(dirs, p)
				list(p)
			default:
				files = append(files, p)
			}
		}
	}
	list(".")
	return files, dirs
}

func pick(r *rand.Rand, from []string) string { return from[r.IntN(len(from))] }

var someNames = []string{"a", "b", "c", "d", "a.bak", "~x", "cache", "é", "z z"}

func (u *user) act() {
	u.n++
	files, dirs := u.objects()
	place := path.Join(pick(u.rnd, dirs), pick(u.rnd, someNames))
	_, err := os.Lstat(u.w.abs(place))
	free := err != nil
	if len(files) == 0 {
		files = []string{fmt.Sprint("first", u.n)}
		u.w.write(files[0], "1")
		u.note(files[0] + "!")
	}
	f := pick(u.rnd, files)
	info, err := os.Lstat(u.w.abs(f))
	u.w.must(err)
	plain := info.Mode().IsRegular()
	switch u.rnd.IntN(12) {
	case 0, 1:
		if free {
			u.w.write(place, fmt.Sprint("text", u.rnd.IntN(3)))
			u.note(place + "!")
		}
	case 2:
		if plain {
			u.w.write(f, fmt.Sprint("edited", u.n))
			u.note(f + "!")
		}
	case 3:
		if plain { // a save by rename
			u.w.write("save", fmt.Sprint("saved", u.n))
			u.w.rename("save", f)
			u.note("save!", f)
		}
	case 4:
		u.w.remove(f)
		u.note(f)
	case 5:
		if free {
			u.w.mkdir(place)
			u.note(place)
		}
	case 6:
		if free {
			u.w.link(fmt.Sprint("to", u.rnd.IntN(3)), place)
			u.note(place)
		}
	case 7, 8:
		u.move(f, place)
	case 9:
		u.move(pick(u.rnd, dirs), place)
	case 10:
		u.swap(pick(u.rnd, append(dirs, files...)), pick(u.rnd, append(dirs, files...)))
	case 11:
		u.odd(f, plain, dirs)
	}
}

func (u *user) odd(f string, plain bool, dirs []string) {
	d := pick(u.rnd, dirs)
	switch {
	case u.rnd.IntN(2) == 0 && d != ".":
		u.w.remove(d)
		u.note(d)
	case plain && u.rnd.IntN(2) == 0:
		u.w.chmod(f, os.FileMode(0o600+u.rnd.IntN(8)*8))
		u.note(f)
	case plain:
		u.w.must(os.Truncate(u.w.abs(f), int64(u.rnd.IntN(4))))
		u.note(f + "!")
	}
}

// move renames over whatever is there, if the kernel lets it.
func (u *user) move(from, to string) {
	if from == "." || os.Rename(u.w.abs(from), u.w.abs(to)) != nil {
		return
	}
	u.note(from, to)
}

func (u *user) swap(a, b string) {
	if a == "." || b == "." || a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/") {
		return
	}
	if unix.Renameat2(unix.AT_FDCWD, u.w.abs(a), unix.AT_FDCWD, u.w.abs(b), unix.RENAME_EXCHANGE) == nil {
		u.note(a, b)
	}
}

// report turns the notes into work, as an engine does: by the handle of a
// directory that is on record, else by the first name on the way to where it is
// now that is not.
func (u *user) report(batch int) []Work {
	var works []Work
	u.rnd.Shuffle(len(u.dirty), func(i, j int) { u.dirty[i], u.dirty[j] = u.dirty[j], u.dirty[i] })
	for chunk := range slices.Chunk(u.dirty, batch) {
		var part []Work
		for _, e := range chunk {
			name := Name{strings.TrimSuffix(e.name, "!"), strings.HasSuffix(e.name, "!")}
			if dir, known := u.recordOf(e.dir); known {
				part = append(part, Work{Dir: dir, Names: []Name{name}})
			} else if at, err := u.w.plain.Resolve(e.dir); err == nil {
				part = append(part, u.w.mark(at+"/"+e.name)...)
			}
		}
		works = append(works, merged(part)...)
	}
	u.dirty = nil
	return works
}

func (u *user) recordOf(dir repl.Identity) (repl.UID, bool) {
	recs, err := u.w.book.ByHandle(dir.Handle)
	u.w.must(err)
	for i := range recs {
		if recs[i].Present {
			return recs[i].UID, true
		}
	}
	root, err := u.w.plain.Root()
	u.w.must(err)
	st, err := root.Stat()
	u.w.must(errors.Join(err, root.Close()))
	return u.w.book.root, st.Identity == dir
}

// Whatever was done to a tree, names touched or a walk bring the records to the
// state of the disk, after which a walk finds nothing.
func TestRecordsFollowTheTree(t *testing.T) {
	seeds := uint64(36)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		for _, mode := range []string{"walk", "journal", "journal without privilege"} {
			w := newWorldAt(t, inMemory(t))
			u := &user{w: w, rnd: rand.New(rand.NewPCG(seed, 1))}
			w.deps.Rest = 0
			if seed%3 == 0 {
				w.onStore()
			}
			if strings.HasSuffix(mode, "privilege") {
				w.interrupt(withoutPrivilege)
			}
			for round := range 4 {
				w.atEnd, w.label = round%2 == 1, fmt.Sprintf("seed %d, round %d, by %s", seed, round, mode)
				for range 5 + u.rnd.IntN(25) {
					u.act()
				}
				works := w.walk()
				if mode != "walk" {
					works = u.report(1 + u.rnd.IntN(12))
				}
				u.dirty = nil
				w.settle(works...)
				w.agree()
				if t.Failed() {
					t.Fatal(w.label)
				}
			}
		}
	}
}
