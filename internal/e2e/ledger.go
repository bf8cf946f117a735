package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ledger remembers every version that a user closed, and every version that a user who had it replaced or deleted. A version is a text that
// is written once and never again, so that it is found again wherever its content is kept.
type ledger struct {
	mu     sync.Mutex
	closed map[string]string // version -> where it was closed
	gone   map[string]string // version -> who replaced or deleted it
	opened map[string]string // version -> where a writer began it; content of this kind may be seen half written
}

func newLedger() *ledger {
	return &ledger{closed: map[string]string{}, gone: map[string]string{}, opened: map[string]string{}}
}

func (l *ledger) close(version, where string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed[version] = where
}

func (l *ledger) drop(version, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone[version] = why
}

// missing lists the versions that were closed, that no user replaced, and that are on none of the roots, neither live nor kept.
func (l *ledger) missing(t testing.TB, roots []string) []string {
	t.Helper()
	have := make(map[string]bool)
	for _, root := range roots {
		err := fs.ErrNotExist
		for tries := 0; tries < 100 && errors.Is(err, fs.ErrNotExist); tries++ { // a member at rest may still move losers to where they are kept
			err = addTexts(have, root)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for version, where := range l.closed {
		if _, ok := l.gone[version]; !ok && !have[version] {
			out = append(out, where+": "+brief(version))
		}
	}
	return out
}

// addTexts adds the content of every small file below root, kept ones included.
func addTexts(have map[string]bool, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.Contains(path, "/.dfsr/staging/") {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() > 64<<10 {
			return err
		}
		text, err := os.ReadFile(path)
		have[string(text)] = true
		return err
	})
}

// brief is a version without its padding.
func brief(version string) string {
	line, _, _ := strings.Cut(version, "\n")
	return line
}

// user works on files of one member that other users work on elsewhere at the same time. What stood under a name when he saved is what he
// had: he reads it where it comes out, after the exchange, so that he cannot be wrong about it.
type user struct {
	l    *ledger
	rng  *rand.Rand
	name string
	root string
	// places are the names that all users share.
	places []string
	count  int
	done   map[string]int
	err    error
}

func (u *user) version() string {
	u.count++
	pad := strings.Repeat("x", u.rng.IntN(3000))
	return fmt.Sprintf("version %s/%d %x\n%s", u.name, u.count, u.rng.Uint64(), pad)
}

// work goes on until stop is closed.
func (u *user) work(stop <-chan struct{}) {
	acts := []func(string) error{u.create, u.edit, u.edit, u.save, u.save, u.save, u.hold, u.delete, u.rename}
	for u.err == nil {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(u.rng.IntN(2000)) * time.Microsecond):
		}
		u.err = acts[u.rng.IntN(len(acts))](filepath.Join(u.root, u.places[u.rng.IntN(len(u.places))]))
	}
}

// did counts an act; one that met nothing to act on is none.
func (u *user) did(what string, err error) error {
	switch {
	case err == nil:
		u.done[what]++
	case os.IsNotExist(err), os.IsExist(err):
		return nil
	}
	return err
}

// create makes a file where there is none.
func (u *user) create(path string) error {
	v := u.version()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return u.did("create", err)
	}
	return u.did("create", u.finish(f, v, path))
}

func (u *user) finish(f *os.File, v, path string) error {
	if _, err := f.WriteString(v); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	u.l.close(v, u.name+" "+filepath.Base(path))
	return nil
}

// edit overwrites in place: what he reads from the open file is what he replaces.
func (u *user) edit(path string) error { return u.did("edit", u.inPlace(path, 0)) }

// hold is an edit that keeps the file open for a while with half of it written.
func (u *user) hold(path string) error {
	return u.did("hold", u.inPlace(path, time.Duration(u.rng.IntN(200))*time.Millisecond))
}

func (u *user) inPlace(path string, open time.Duration) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	before, err := readAll(f)
	if err != nil {
		return err
	}
	v := u.version()
	if err := f.Truncate(0); err != nil {
		return err
	}
	if open > 0 {
		if _, err := f.WriteAt([]byte(v[:len(v)/2]), 0); err != nil {
			return err
		}
		<-time.After(open)
	}
	u.l.drop(before, u.name+" edits")
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	return u.finish(f, v, path)
}

// save writes a new file and exchanges it with the old one; what comes out is what he replaced.
func (u *user) save(path string) error {
	temp := filepath.Join(filepath.Dir(path), "~"+u.name)
	v := u.version()
	if err := os.WriteFile(temp, []byte(v), 0o644); err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp) }()
	// Closed before it is named: from the exchange on it is a version like any other.
	u.l.close(v, u.name+" "+filepath.Base(path))
	if err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE); err != nil {
		u.l.drop(v, "never named")
		return u.did("save", err)
	}
	return u.did("save", u.discard(temp))
}

// delete takes the file away under a name that does not replicate, and so knows what he deletes.
func (u *user) delete(path string) error {
	temp := filepath.Join(filepath.Dir(path), "~"+u.name)
	if err := os.Rename(path, temp); err != nil {
		return u.did("delete", err)
	}
	return u.did("delete", u.discard(temp))
}

func (u *user) discard(temp string) error {
	text, err := os.ReadFile(temp)
	if err != nil {
		return err
	}
	u.l.drop(string(text), u.name+" replaced or deleted it")
	return os.Remove(temp)
}

// rename moves a file to a free name.
func (u *user) rename(path string) error {
	to := filepath.Join(u.root, u.places[u.rng.IntN(len(u.places))])
	return u.did("rename", unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE))
}

func readAll(f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	buf := make([]byte, info.Size())
	n, err := f.ReadAt(buf, 0)
	if n == len(buf) {
		err = nil
	}
	return string(buf[:n]), err
}
