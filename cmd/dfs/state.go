package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"opendfs/internal/control"
	"opendfs/internal/volume"

	"golang.org/x/sys/unix"
)

// The files of the state directory that this package names; pki, directory and
// store name their own.
const (
	lockName = "lock"
	dbName   = "db"
)

// ownedNames are what shows that a state directory belongs to a domain already.
var ownedNames = []string{"member.pem", "ca.key", "ca.crt", "domain.yaml", "domain.copy", "domain.servers", dbName}

// stateDir is a state directory that this process holds.
type stateDir struct {
	path string // absolute
	lock *os.File
}

// inUseError says who holds a state directory.
type inUseError struct {
	path    string
	pid     int    // 0 if not known
	command string // its command line, if known
}

func (e *inUseError) Error() string {
	who := "another process"
	if e.pid > 0 {
		who = "process " + strconv.Itoa(e.pid)
		if e.command != "" {
			who += " (" + e.command + ")"
		}
	}
	return fmt.Sprintf("state directory %s is in use by %s", e.path, who)
}

// holdState takes a state directory for this process; with create it makes one.
// The error is *inUseError if another process has it.
func holdState(path string, create bool) (*stateDir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open state directory %s: %w", path, err)
	}
	if create {
		if err := os.MkdirAll(abs, 0o700); err != nil {
			return nil, fmt.Errorf("make state directory: %w", err)
		}
	}
	st, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, control.Hint(fmt.Errorf("state directory %s does not exist", abs), "make this server a member first: `dfs init` on the first server, `dfs join` on every other")
	case err != nil:
		return nil, fmt.Errorf("open state directory: %w", err)
	case !st.IsDir():
		return nil, fmt.Errorf("open state directory %s: it is not a directory", abs)
	}
	if st.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(abs, 0o700); err != nil {
			return nil, control.Hint(fmt.Errorf("state directory %s lets others in: %w", abs, err), "run `chmod 700` on it; it holds this server's keys")
		}
	}
	lock, err := takeLock(abs)
	if err != nil {
		return nil, err
	}
	return &stateDir{abs, lock}, nil
}

// takeLock locks the state directory and writes down who did.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return nil, control.Hint(fmt.Errorf("lock state directory: %w", err), "run it as root, or as the user whom the state directory belongs to")
	}
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		}
	}
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, errors.Join(lockHolder(dir, f), f.Close())
	}
	return nil, errors.Join(fmt.Errorf("lock state directory %s: %w", dir, err), f.Close())
}

// lockHolder reads who has the lock.
func lockHolder(dir string, f *os.File) error {
	e := &inUseError{path: dir}
	text := make([]byte, 32)
	n, _ := f.ReadAt(text, 0) // what cannot be read names nobody
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil || pid <= 0 {
		return e
	}
	e.pid = pid
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err == nil {
		e.command = strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
	}
	return e
}

// Close gives the state directory free.
func (s *stateDir) Close() error { return s.lock.Close() }

// file is the path of a file in the state directory.
func (s *stateDir) file(name string) string { return filepath.Join(s.path, name) }

// makeState makes a state directory and fills it. One that belongs to a domain
// is refused; what a set-up that went wrong has made is removed again.
func makeState(path string, fill func(*stateDir) error) (_ string, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("make state directory %s: %w", path, err)
	}
	if err := checkFresh(abs); err != nil {
		return "", err
	}
	_, err = os.Lstat(abs)
	made := errors.Is(err, fs.ErrNotExist)
	state, err := holdState(abs, true)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	if err = checkFresh(abs); err != nil { // somebody else was faster
		return "", err
	}
	if err = fill(state); err != nil {
		return "", errors.Join(err, state.cleanUp(made))
	}
	return state.path, nil
}

// checkFresh refuses a state directory that belongs to a domain.
func checkFresh(path string) error {
	for _, name := range ownedNames {
		if _, err := os.Lstat(filepath.Join(path, name)); err == nil {
			return control.Hint(fmt.Errorf("%s exists: the state directory %s belongs to a domain already", filepath.Join(path, name), path),
				"nothing was changed; name another directory with --state, or move this one aside if it is not wanted")
		}
	}
	return nil
}

// cleanUp removes what a set-up that went wrong has made in a fresh directory,
// and the directory if it was made too.
func (s *stateDir) cleanUp(all bool) error {
	if all {
		return os.RemoveAll(s.path)
	}
	var errs []error
	for _, name := range append([]string{lockName}, ownedNames...) {
		errs = append(errs, os.RemoveAll(s.file(name)))
	}
	return errors.Join(errs...)
}

// onNetwork names the network filesystem that the state directory lies on, ""
// for a local one.
func (s *stateDir) onNetwork() (string, error) {
	v, err := volume.Open(s.path, volume.Options{AnyLink: true})
	if err != nil {
		return "", err
	}
	f := v.Features()
	if err := v.Close(); err != nil {
		return "", err
	}
	if f.Network {
		return f.Filesystem, nil
	}
	return "", nil
}

// overlaps reports whether the state directory lies in the tree at root, or is
// it.
func (s *stateDir) overlaps(root string) (bool, error) {
	dir, err := openRoot(root)
	if err != nil {
		return false, err
	}
	top, err := dir.Stat()
	if err = errors.Join(err, dir.Close()); err != nil {
		return false, err
	}
	at, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", s.path, err)
	}
	for {
		st, err := os.Stat(at)
		if err != nil {
			return false, fmt.Errorf("look at %s: %w", at, err)
		}
		if os.SameFile(top, st) {
			return true, nil
		}
		if at == "/" {
			return false, nil
		}
		at = filepath.Dir(at)
	}
}

// openRoot opens the root of a folder, through links that are believed alone.
func openRoot(path string) (*os.File, error) {
	fd, err := volume.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// socketOf is where the member of a state directory listens.
func socketOf(state string) string { return filepath.Join(state, control.SocketName) }
