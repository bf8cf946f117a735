package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// scribe is a user who works alone on some top-level directories of a tree, and does everything that users do.
type scribe struct {
	t     testing.TB
	rng   *rand.Rand
	root  string
	areas []string // top-level directories, his alone
	dirs  []string // beneath the areas, relative to the root
	files []string
	count int
	done  map[string]int // how often each kind of edit was made
	log   []string       // each edit that made, moved or removed a name
}

// note writes an edit down; names are relative to the root.
func (s *scribe) note(what string, paths ...string) {
	line := time.Now().Format("15:04:05.000000 ") + what
	for _, path := range paths {
		rel, err := filepath.Rel(s.root, path)
		if err != nil {
			rel = path
		}
		line += " " + rel
	}
	s.log = append(s.log, line)
}

// diary is what was noted of a name, of what lies below it, and of what it lies in.
func (s *scribe) diary(name string) []string {
	var out []string
	for _, line := range s.log {
		for _, f := range strings.Fields(line)[2:] {
			if f == name || strings.HasPrefix(f, name+"/") || strings.HasPrefix(name, f+"/") {
				out = append(out, line)
				break
			}
		}
	}
	return out
}

// scribes divides the top-level directories of a tree among the members, so that no two of them touch one name.
func (c *cluster) scribes(seed uint64) []*scribe {
	c.t.Helper()
	entries, err := os.ReadDir(c.members[0].root)
	if err != nil {
		c.t.Fatal(err)
	}
	var all []*scribe
	for i, m := range c.members {
		s := &scribe{t: c.t, rng: rand.New(rand.NewPCG(seed, uint64(i))), root: m.root, done: map[string]int{}}
		area := "of-" + m.name
		if err := os.MkdirAll(filepath.Join(m.root, area), 0o755); err != nil {
			c.t.Fatal(err)
		}
		s.areas = []string{area}
		all = append(all, s)
	}
	n := 0
	for _, e := range entries {
		if e.IsDir() && e.Name() != ".dfsr" && !slices.ContainsFunc(all, func(s *scribe) bool { return e.Name() == s.areas[0] }) {
			s := all[n%len(all)]
			s.areas = append(s.areas, e.Name())
			n++
		}
	}
	return all
}

// look lists what the scribe can work on.
func (s *scribe) look() error {
	s.dirs, s.files = nil, nil
	for _, area := range s.areas {
		err := filepath.WalkDir(filepath.Join(s.root, area), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(s.root, path)
			switch {
			case err != nil:
				return err
			case d.IsDir():
				s.dirs = append(s.dirs, rel)
			case d.Type().IsRegular():
				s.files = append(s.files, rel)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// edits are the kinds of edits, in turn.
var edits = []struct {
	name string
	do   func(*scribe) error
}{
	{"create", (*scribe).create}, {"write", (*scribe).write}, {"append", (*scribe).append}, {"truncate", (*scribe).truncate},
	{"replace", (*scribe).replace}, {"delete", (*scribe).delete}, {"rename", (*scribe).rename}, {"move", (*scribe).move},
	{"rename over", (*scribe).renameOver}, {"rename directory", (*scribe).renameDir}, {"move directory", (*scribe).moveDir},
	{"mkdir", (*scribe).mkdir}, {"remove directory", (*scribe).removeDir}, {"link", (*scribe).link},
	{"chmod", (*scribe).chmod}, {"chown", (*scribe).chown}, {"touch", (*scribe).touch}, {"chmod directory", (*scribe).chmodDir},
}

// work makes n edits, every kind in turn. An edit that has nothing to work on (any more) is passed over.
func (s *scribe) work(n int) error {
	for i := range n {
		if i%(2*len(edits)) == 0 {
			if err := s.look(); err != nil {
				return err
			}
		}
		e := edits[i%len(edits)]
		switch err := e.do(s); {
		case err == nil:
			s.done[e.name]++
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNothing), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOTEMPTY):
		default:
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return nil
}

// once makes one edit, and goes on until it met something to work on.
func (s *scribe) once(do func(*scribe) error) error {
	if err := s.look(); err != nil {
		return err
	}
	var err error
	for range 100 {
		if err = do(s); err == nil {
			return nil
		}
	}
	return err
}

// all lets every scribe make n edits at the same time.
func all(t testing.TB, scribes []*scribe, n int) {
	t.Helper()
	errs := make([]error, len(scribes))
	var wg sync.WaitGroup
	for i, s := range scribes {
		wg.Go(func() { errs[i] = s.work(n) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// diligent checks that every kind of edit was made.
func (s *scribe) diligent() {
	s.t.Helper()
	for _, e := range edits {
		if s.done[e.name] == 0 {
			s.t.Errorf("no %q was made in %s", e.name, s.root)
		}
	}
}

// picture is how the scribe's areas look on a root.
func (s *scribe) picture(root string) map[string]look {
	s.t.Helper()
	out := make(map[string]look)
	for _, area := range s.areas {
		if _, err := os.Lstat(filepath.Join(root, area)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		for name, l := range walk(s.t, filepath.Join(root, area)) {
			out[filepath.Join(area, name)] = l
		}
	}
	return out
}

var errNothing = errors.New("nothing to work on")

func (s *scribe) file() (string, error) {
	if len(s.files) == 0 {
		return "", errNothing
	}
	return filepath.Join(s.root, s.files[s.rng.IntN(len(s.files))]), nil
}

// dir is any directory; inner one that is not an area itself.
func (s *scribe) dir() string { return filepath.Join(s.root, s.dirs[s.rng.IntN(len(s.dirs))]) }

func (s *scribe) inner() (string, error) {
	for range 20 {
		if rel := s.dirs[s.rng.IntN(len(s.dirs))]; filepath.Dir(rel) != "." {
			return filepath.Join(s.root, rel), nil
		}
	}
	return "", errNothing
}

func (s *scribe) fresh(dir, kind string) string {
	s.count++
	return filepath.Join(dir, fmt.Sprintf("%s-%d", kind, s.count))
}

func (s *scribe) text() []byte {
	b := make([]byte, 1+s.rng.IntN(20_000))
	scribble(s.rng, b)
	return b
}

func (s *scribe) create() error {
	return os.WriteFile(s.fresh(s.dir(), "new"), s.text(), 0o644)
}

// open changes a file in place by way of do.
func (s *scribe) open(flag int, do func(*os.File) error) error {
	path, err := s.file()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, flag|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close())
}

func (s *scribe) write() error {
	return s.open(0, func(f *os.File) error {
		_, err := f.WriteAt(s.text(), int64(s.rng.IntN(5000)))
		return err
	})
}

func (s *scribe) append() error {
	return s.open(os.O_APPEND, func(f *os.File) error {
		_, err := f.Write(s.text())
		return err
	})
}

func (s *scribe) truncate() error {
	return s.open(0, func(f *os.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		return f.Truncate(info.Size() / 2)
	})
}

// replace saves as editors do: a new file, renamed over the old one.
func (s *scribe) replace() error {
	path, err := s.file()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err != nil {
		return err
	}
	temp := s.fresh(filepath.Dir(path), "~saving")
	if err := os.WriteFile(temp, s.text(), 0o640); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

func (s *scribe) delete() error {
	path, err := s.file()
	if err != nil {
		return err
	}
	s.note("delete", path)
	return os.Remove(path)
}

func (s *scribe) rename() error {
	path, err := s.file()
	if err != nil {
		return err
	}
	return s.relocate(path, s.fresh(filepath.Dir(path), "renamed"))
}

// relocate is os.Rename, written down.
func (s *scribe) relocate(from, to string) error {
	s.note("rename", from, to)
	return os.Rename(from, to)
}

func (s *scribe) move() error {
	path, err := s.file()
	if err != nil {
		return err
	}
	return s.relocate(path, s.fresh(s.dir(), "moved"))
}

func (s *scribe) renameOver() error {
	from, err := s.file()
	if err != nil {
		return err
	}
	to, err := s.file()
	if err != nil || from == to {
		return errNothing
	}
	if _, err := os.Lstat(to); err != nil {
		return err
	}
	return s.relocate(from, to)
}

func (s *scribe) renameDir() error {
	path, err := s.inner()
	if err != nil {
		return err
	}
	return s.relocate(path, s.fresh(filepath.Dir(path), "directory"))
}

func (s *scribe) moveDir() error {
	path, err := s.inner()
	if err != nil {
		return err
	}
	return s.relocate(path, s.fresh(s.dir(), "moved-directory"))
}

func (s *scribe) mkdir() error {
	dir := s.fresh(s.dir(), "made")
	s.note("mkdir", dir)
	if err := os.MkdirAll(filepath.Join(dir, "below"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "below", "file"), s.text(), 0o644)
}

// removeDir removes a directory of at most 50 entries with all that is in it.
func (s *scribe) removeDir() error {
	path, err := s.inner()
	if err != nil {
		return err
	}
	if entries, err := os.ReadDir(path); err != nil || len(entries) > 50 {
		return errors.Join(err, errNothing)
	}
	s.note("remove-all", path)
	return os.RemoveAll(path)
}

func (s *scribe) link() error {
	return os.Symlink("../somewhere/"+fmt.Sprint(s.rng.Uint32()), s.fresh(s.dir(), "link"))
}

func (s *scribe) chmod() error {
	path, err := s.file()
	if err != nil {
		return err
	}
	return os.Chmod(path, []os.FileMode{0o600, 0o755, 0o444, 0o664}[s.rng.IntN(4)])
}

func (s *scribe) chmodDir() error {
	path, err := s.inner()
	if err != nil {
		return err
	}
	return os.Chmod(path, []os.FileMode{0o700, 0o775, 0o777 | os.ModeSticky, 0o775 | os.ModeSetgid}[s.rng.IntN(4)])
}

func (s *scribe) chown() error {
	path, err := s.file()
	if err != nil {
		return err
	}
	return os.Lchown(path, 1000+s.rng.IntN(50), 2000+s.rng.IntN(50))
}

func (s *scribe) touch() error {
	path, err := s.file()
	if err != nil {
		return err
	}
	when := time.Unix(1_600_000_000+int64(s.rng.IntN(100_000_000)), int64(s.rng.IntN(1_000_000_000)))
	return os.Chtimes(path, when, when)
}
