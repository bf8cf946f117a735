package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// watches is one inotify instance and the directories that it watches. One
// goroutine at a time owns it; only file.Close is called by others.
//
// Holds: byWD[d.wd] == d for every watched d; d is in d.parent.children under
// its own name; paths never change: what moves is forgotten and watched anew.
type watches struct {
	file *os.File
	tree *tree
	byWD map[int32]*watched
	root *watched
}

type watched struct {
	wd       int32
	path     string // relative to the root
	name     string
	parent   *watched
	children map[string]*watched
	private  bool // the private area: only markers are of interest
}

const watchMask = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_ONLYDIR

// newWatches watches the whole tree.
func newWatches(ctx context.Context, t *tree) (*watches, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init: %w%s", err, limitHint(err))
	}
	w := &watches{file: os.NewFile(uintptr(fd), "inotify"), tree: t, byWD: map[int32]*watched{}}
	if err = w.watch(ctx, nil, "."); err == nil && w.root == nil {
		err = errors.New("the root cannot be read")
	}
	if err != nil {
		return nil, errors.Join(err, w.file.Close())
	}
	return w, nil
}

// watch watches the directory with that name in parent, and all below it. What
// has vanished, is no directory, is another filesystem or may not be read is
// left out. An error means that something is there and cannot be watched.
func (w *watches) watch(ctx context.Context, parent *watched, name string) error {
	type todo struct {
		parent *watched
		name   string
	}
	work := []todo{{parent, name}}
	for len(work) > 0 {
		next := work[len(work)-1]
		work = work[:len(work)-1]
		if err := ctx.Err(); err != nil {
			return err
		}
		err := w.watchOne(next.parent, next.name, func(d *watched, sub string) {
			work = append(work, todo{d, sub})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// watchOne watches one directory and then calls below for each of its
// subdirectories: in this order, so that none made meanwhile is missed.
func (w *watches) watchOne(parent *watched, name string, below func(d *watched, sub string)) error {
	path := name
	if parent != nil && parent.path != "." {
		path = parent.path + "/" + name
	}
	fd, err := w.tree.openDir(path)
	switch {
	case err == unix.ENOENT, err == unix.ENOTDIR, err == unix.ELOOP, err == unix.EXDEV, err == unix.EACCES:
		return nil
	case err != nil:
		return fmt.Errorf("open %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close() //nolint:errcheck // read-only
	d, err := w.add(fd, path, name, parent)
	if err != nil || d.private {
		return err
	}
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			if e.IsDir() {
				below(d, e.Name())
			}
		}
		if err == io.EOF || errors.Is(err, unix.ENOENT) { // ENOENT: removed meanwhile
			return nil
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", path, err)
		}
	}
}

// add watches the open directory. The kernel gives a directory that is watched
// already its old number: then it has moved, and its old place is forgotten.
func (w *watches) add(fd int, path, name string, parent *watched) (*watched, error) {
	c, err := w.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	var wd int
	var addErr error
	err = c.Control(func(in uintptr) {
		wd, addErr = unix.InotifyAddWatch(int(in), fmt.Sprintf("/proc/self/fd/%d", fd), watchMask)
	})
	if err = errors.Join(err, addErr); err != nil {
		return nil, fmt.Errorf("watch %s: %w%s", path, err, limitHint(addErr))
	}
	d := &watched{wd: int32(wd), path: path, name: name, parent: parent}
	if old := w.byWD[d.wd]; old != nil {
		old.detach()
		d.children = old.children // watched anew in a moment, or forgotten when their going is read
		for _, c := range d.children {
			c.parent = d
		}
	}
	d.private = path == privateName
	w.byWD[d.wd] = d
	if parent == nil {
		w.root = d
		return d, nil
	}
	if other := parent.children[name]; other != nil {
		w.forget(other)
	}
	if parent.children == nil {
		parent.children = map[string]*watched{}
	}
	parent.children[name] = d
	return d, nil
}

// detach takes d out of its parent.
func (d *watched) detach() {
	if d.parent != nil && d.parent.children[d.name] == d {
		delete(d.parent.children, d.name)
	}
}

// forget ends the watches of d and all below it.
func (w *watches) forget(d *watched) {
	d.detach()
	work := []*watched{d}
	for len(work) > 0 {
		d := work[len(work)-1]
		work = work[:len(work)-1]
		for _, c := range d.children {
			work = append(work, c)
		}
		if w.byWD[d.wd] != d {
			continue // watched elsewhere by now
		}
		delete(w.byWD, d.wd)
		if c, err := w.file.SyscallConn(); err == nil {
			_ = c.Control(func(in uintptr) {
				_, _ = unix.InotifyRmWatch(int(in), uint32(d.wd)) // EINVAL: it went with the directory
			})
		}
	}
}

// limitHint says which limit to raise.
func limitHint(err error) string {
	name := ""
	switch err {
	case unix.ENOSPC:
		name = "max_user_watches"
	case unix.EMFILE:
		name = "max_user_instances"
	default:
		return ""
	}
	value, _ := os.ReadFile("/proc/sys/fs/inotify/" + name) // for the text only
	return fmt.Sprintf(": raise the sysctl fs.inotify.%s (now %s)", name, strings.TrimSpace(string(value)))
}
