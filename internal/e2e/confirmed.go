package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// confirmed is the list, kept outside of every member, of what `dfs status --wait` promised: path and version. Versions of one path are
// numbered in the order in which its one writer closed them, so that what is found later can be told to be the promised one or a newer.
type confirmed struct {
	mu       sync.Mutex
	closed   map[string]int // path -> number of the version that stands closed; less than 0: of the deletion
	promised map[string]int // path -> the same, at the last promise
	careless map[string]int // path -> the last version begun in a way that a power cut may tear at its origin: in place, or without fsync
	promises int
}

func newConfirmed() *confirmed {
	return &confirmed{closed: map[string]int{}, promised: map[string]int{}, careless: map[string]int{}}
}

func (c *confirmed) close(path string, number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed[path] = number
}

// made is how often `dfs status --wait` has promised.
func (c *confirmed) made() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.promises
}

func (c *confirmed) risk(path string, number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.careless[path] = number
}

// confirm asks the member until stop is closed, each time for what was closed before it asked.
func (c *confirmed) confirm(m *member, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
		c.mu.Lock()
		before := make(map[string]int, len(c.closed))
		for path, number := range c.closed {
			before[path] = number
		}
		c.mu.Unlock()
		if !promise(m, stop) {
			continue
		}
		c.mu.Lock()
		for path, number := range before {
			c.promised[path] = number
		}
		c.promises++
		c.mu.Unlock()
	}
}

// promise runs `dfs status --wait` once, unless stop is closed before it returns.
func promise(m *member, stop <-chan struct{}) bool {
	args := m.command("status", "--wait", "--timeout", "30s")
	cmd := exec.Command(args[0], args[1:]...)
	if cmd.Start() != nil {
		return false
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err == nil
	case <-stop:
		_ = cmd.Process.Kill()
		return <-done == nil
	}
}

// author writes files of one member, his alone, in the ways that programs save.
type author struct {
	c     *confirmed
	rng   *rand.Rand
	m     *member
	next  int
	err   error
	files int
}

// work goes on until stop is closed.
func (a *author) work(stop <-chan struct{}) {
	for a.err == nil {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(a.rng.IntN(30_000)) * time.Microsecond):
		}
		a.err = a.write(fmt.Sprintf("by-%s/%d/file-%d", a.m.name, a.rng.IntN(4), a.rng.IntN(a.files)))
	}
}

func (a *author) write(rel string) error {
	path := a.m.path(rel)
	a.next++
	text := version(rel, a.next, a.rng.IntN(40_000))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	switch a.rng.IntN(6) {
	case 0:
		a.c.risk(rel, a.next)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	case 1:
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		a.c.close(rel, -a.next)
		return nil
	case 2:
		a.c.risk(rel, a.next)
		temp := filepath.Join(filepath.Dir(path), "~new")
		if err := errors.Join(os.WriteFile(temp, text, 0o644), os.Rename(temp, path)); err != nil {
			return err
		}
	default:
		temp := filepath.Join(filepath.Dir(path), "~new")
		if err := errors.Join(writeSynced(temp, text), os.Rename(temp, path)); err != nil {
			return err
		}
	}
	a.c.close(rel, a.next)
	return nil
}

func writeSynced(path string, text []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// version is the content of a version: it says what it is in its first and its last line, and how long it is.
func version(rel string, number, pad int) []byte {
	mark := fmt.Sprintf("%s %d %d\n", rel, number, pad)
	return []byte(mark + strings.Repeat("p", pad) + "\n" + mark)
}

// numberOf is the number of the version that a file holds, 0 for no file; false for a file that is no whole version of this path.
func numberOf(path, rel string) (int, bool) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, true
	}
	if err != nil {
		return 0, false
	}
	line, _, _ := strings.Cut(string(text), "\n")
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != rel {
		return 0, false
	}
	number, err1 := strconv.Atoi(f[1])
	pad, err2 := strconv.Atoi(f[2])
	if err1 != nil || err2 != nil || string(version(rel, number, pad)) != string(text) {
		return 0, false
	}
	return number, true
}

// check holds the members, at rest after a power cut, to what was promised before it.
func (c *confirmed) check(t testing.TB, members []*member) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := make(map[string]bool)
	for _, m := range members {
		_ = filepath.WalkDir(m.private(), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if text, err := os.ReadFile(path); err == nil {
					line, _, _ := strings.Cut(string(text), "\n")
					kept[line] = true
				}
			}
			return nil
		})
	}
	for rel, promised := range c.promised {
		for _, m := range members {
			if problem := c.judge(m, rel, promised, kept); problem != "" {
				t.Errorf("on %s, %s: %s", m.name, rel, problem)
				for _, who := range members {
					record, _ := who.dfs("record", folder+":"+rel)
					born, _ := try("stat", "-c", "%i born %w modified %y changed %z", who.path(rel))
					t.Logf("on %s: %s\n%s", who.name, born, record)
				}
			}
		}
	}
}

func (c *confirmed) judge(m *member, rel string, promised int, kept map[string]bool) string {
	is, whole := numberOf(m.path(rel), rel)
	later, dead := c.closed[rel] != promised, promised <= 0
	order := max(promised, -promised)
	switch {
	case !whole && c.careless[rel] <= order:
		return fmt.Sprintf("version %d was promised, and a torn one is there", promised)
	case !whole && dead:
	case !whole:
		for line := range kept {
			if f := strings.Fields(line); len(f) == 3 && f[0] == rel {
				if n, _ := strconv.Atoi(f[1]); n >= promised {
					return ""
				}
			}
		}
		return fmt.Sprintf("version %d was promised, what its user wrote over it is torn, and it was not kept", promised)
	case is == 0 && !dead && !later:
		return fmt.Sprintf("version %d was promised, and the file is gone", promised)
	case is < order && is != 0:
		return fmt.Sprintf("version %d was promised (below 0: its deletion), and the older %d is there", promised, is)
	case is != 0 && dead && !later:
		return fmt.Sprintf("the deletion was promised, and version %d is there", is)
	}
	return ""
}

// rebase takes what stands on a member as the truth from which its author goes on. A file that his own disk tore he throws away.
func (c *confirmed) rebase(m *member) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for rel := range c.closed {
		if !strings.HasPrefix(rel, "by-"+m.name+"/") {
			continue
		}
		number, whole := numberOf(m.path(rel), rel)
		if !whole {
			errs = append(errs, os.Remove(m.path(rel)))
		}
		c.closed[rel] = number
		delete(c.promised, rel)
		delete(c.careless, rel)
	}
	return errors.Join(errs...)
}
