package disk

import (
	"io"
	"os"
	"strings"
	"syscall"

	"opendfs/internal/repl"
)

// User works on the tree beside the member, by paths relative to the root;
// those that begin with "../" lie outside on the same filesystem. He follows no
// links, fails only where a kernel would refuse, and syncs nothing.
type User struct{ d *Disk }

// User returns the disk's user.
func (d *Disk) User() User { return User{d} }

// at finds the directory and the last component of a path.
func (u User) at(op, path string) (*inode, string, error) {
	n := u.d.root
	if rest, out := strings.CutPrefix(path, "../"); out {
		n, path = u.d.outside, rest
	}
	for {
		first, rest, more := strings.Cut(path, "/")
		if bad(first) != nil {
			return nil, "", &os.PathError{Op: op, Path: path, Err: syscall.EINVAL}
		}
		if len(first) > u.d.longest() {
			return nil, "", &os.PathError{Op: op, Path: path, Err: syscall.ENAMETOOLONG}
		}
		if !more {
			return n, first, nil
		}
		next := n.child(first)
		switch {
		case next == nil:
			return nil, "", &os.PathError{Op: op, Path: path, Err: syscall.ENOENT}
		case next.kind != repl.Directory:
			return nil, "", &os.PathError{Op: op, Path: path, Err: syscall.ENOTDIR}
		case next.mounted: // what is mounted there is empty
			return nil, "", &os.PathError{Op: op, Path: path, Err: syscall.ENOENT}
		}
		n, path = next, rest
	}
}

// object finds what lies at path.
func (u User) object(op, path string) (*inode, error) {
	at, name, err := u.at(op, path)
	if err != nil {
		return nil, err
	}
	n := at.child(name)
	if n == nil {
		return nil, &os.PathError{Op: op, Path: path, Err: syscall.ENOENT}
	}
	return n, nil
}

// fresh makes an object at a free place.
func (u User) fresh(what, path string, kind repl.Type) (*inode, error) {
	at, name, err := u.at(what, path)
	if err != nil {
		return nil, err
	}
	if at.child(name) != nil {
		return nil, &os.PathError{Op: what, Path: path, Err: syscall.EEXIST}
	}
	n := u.d.newInode(kind)
	if kind == repl.File {
		n.cur.mode = 0o644
		n.dur = n.cur
	}
	u.d.enter(op{n: 1, eff: [2]effect{{dir: at, name: name, after: n}}})
	return n, nil
}

// Mkdir makes a directory.
func (u User) Mkdir(path string) error {
	_, err := u.fresh("mkdir", path, repl.Directory)
	return err
}

// Symlink makes a symbolic link.
func (u User) Symlink(target, path string) error {
	n, err := u.fresh("symlink", path, repl.Symlink)
	if err == nil {
		n.target = target
	}
	return err
}

// Pipe makes an object that does not replicate.
func (u User) Pipe(path string) error {
	_, err := u.fresh("mkfifo", path, repl.Other)
	return err
}

// WriteFile makes or truncates a file and writes data to it: open, write,
// close.
func (u User) WriteFile(path string, data []byte) error {
	n, err := u.object("open", path)
	if os.IsNotExist(err) {
		n, err = u.fresh("open", path, repl.File)
	}
	if err != nil {
		return err
	}
	if err := n.forWriting(path); err != nil {
		return err
	}
	n.truncate(0)
	u.d.write(n, data, 0)
	u.d.emitAll(n, true)
	return nil
}

// Append adds data to a file: open, write, close.
func (u User) Append(path string, data []byte) error {
	w, err := u.OpenForWrite(path)
	if err != nil {
		return err
	}
	w.(*Writer).off = int64(len(w.(*Writer).n.data))
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Close()
}

// Truncate sets a file's size: open, ftruncate, close.
func (u User) Truncate(path string, size int64) error {
	n, err := u.object("truncate", path)
	if err == nil {
		err = n.forWriting(path)
	}
	if err != nil {
		return err
	}
	n.truncate(size)
	u.d.write(n, nil, size)
	u.d.emitAll(n, true)
	return nil
}

// Read returns a file's content.
func (u User) Read(path string) ([]byte, error) {
	n, err := u.object("open", path)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), n.data...), nil
}

// OpenForWrite opens a file for writing at its beginning and holds it open.
func (u User) OpenForWrite(path string) (io.WriteCloser, error) {
	n, err := u.object("open", path)
	if err == nil {
		err = n.forWriting(path)
	}
	if err != nil {
		return nil, err
	}
	n.writers++
	return &Writer{d: u.d, n: n}, nil
}

// forWriting tells why an object cannot be opened to be written to: it is no file,
// or somebody has a lease on it, for whose end a user without O_NONBLOCK would wait.
func (n *inode) forWriting(path string) error {
	switch {
	case n.kind != repl.File:
		return &os.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	case n.leased:
		return &os.PathError{Op: "open", Path: path, Err: syscall.EAGAIN}
	}
	return nil
}

// Writer is a file that a user holds open for writing, wherever its name goes.
type Writer struct {
	d    *Disk
	n    *inode
	off  int64
	done bool
}

// Write writes at the current offset.
func (w *Writer) Write(p []byte) (int, error) {
	if w.done || w.d.off {
		return 0, os.ErrClosed
	}
	w.d.write(w.n, p, w.off)
	w.off += int64(len(p))
	return len(p), nil
}

// Close ends it; the journal hears of it.
func (w *Writer) Close() error {
	if w.done {
		return os.ErrClosed
	}
	w.done = true
	w.n.writers--
	if !w.d.off {
		w.d.emitAll(w.n, true)
	}
	return nil
}

// Rename moves an object and replaces a file, link or empty directory that is
// in its way, as rename(2) does.
func (u User) Rename(from, to string) error {
	src, name, err := u.at("rename", from)
	if err != nil {
		return err
	}
	dst, newName, err := u.at("rename", to)
	if err != nil {
		return err
	}
	n, old := src.child(name), dst.child(newName)
	fail := func(why syscall.Errno) error { return &os.LinkError{Op: "rename", Old: from, New: to, Err: why} }
	switch {
	case n == nil:
		return fail(syscall.ENOENT)
	case n == old:
		return nil
	case n.mounted || old != nil && old.mounted:
		return fail(syscall.EBUSY)
	case n.kind == repl.Directory && dst.within(n):
		return fail(syscall.EINVAL)
	case old == nil:
	case old.kind == repl.Directory && n.kind != repl.Directory:
		return fail(syscall.EISDIR)
	case old.kind != repl.Directory && n.kind == repl.Directory:
		return fail(syscall.ENOTDIR)
	case len(old.entries) > 0:
		return fail(syscall.ENOTEMPTY)
	}
	u.d.enter(op{n: 2, eff: [2]effect{{dir: src, name: name, before: n}, {dir: dst, name: newName, before: old, after: n}}})
	if old != nil {
		u.d.emitAll(old, false)
	}
	return nil
}

// Remove removes a file, a link or an empty directory.
func (u User) Remove(path string) error {
	at, name, err := u.at("remove", path)
	if err != nil {
		return err
	}
	n := at.child(name)
	switch {
	case n == nil:
		return &os.PathError{Op: "remove", Path: path, Err: syscall.ENOENT}
	case n.mounted:
		return &os.PathError{Op: "remove", Path: path, Err: syscall.EBUSY}
	case len(n.entries) > 0:
		return &os.PathError{Op: "remove", Path: path, Err: syscall.ENOTEMPTY}
	}
	u.d.enter(op{n: 1, eff: [2]effect{{dir: at, name: name, before: n}}})
	return nil
}

// RemoveAll removes an object and all that lies below it, child by child.
func (u User) RemoveAll(path string) error {
	n, err := u.object("remove", path)
	if err != nil {
		return err
	}
	for len(n.entries) > 0 {
		if err := u.RemoveAll(path + "/" + n.entries[len(n.entries)-1].name); err != nil {
			return err
		}
	}
	return u.Remove(path)
}

// Link makes a hard link.
func (u User) Link(from, to string) error {
	n, err := u.object("link", from)
	if err != nil {
		return err
	}
	at, name, err := u.at("link", to)
	if err != nil {
		return err
	}
	if at.child(name) != nil || n.kind == repl.Directory {
		return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EEXIST}
	}
	u.d.emitAll(n, false)
	u.d.enter(op{n: 1, eff: [2]effect{{dir: at, name: name, after: n}}})
	return nil
}

// Chmod sets the permission bits.
func (u User) Chmod(path string, mode uint32) error {
	n, err := u.object("chmod", path)
	if err != nil {
		return err
	}
	n.cur.mode, n.cur.ctime = mode, u.d.stamp()
	u.d.touch(n)
	u.d.emitAll(n, false)
	return nil
}

// Touch sets the mtime.
func (u User) Touch(path string, mtime repl.Time) error {
	n, err := u.object("utimes", path)
	if err != nil {
		return err
	}
	n.cur.mtime, n.cur.ctime = mtime, u.d.stamp()
	u.d.touch(n)
	u.d.emitAll(n, false)
	return nil
}

// Mount mounts an empty filesystem over a directory, Unmount takes it away.
func (u User) Mount(path string) error { return u.mount(path, true) }

// Unmount ends Mount.
func (u User) Unmount(path string) error { return u.mount(path, false) }

func (u User) mount(path string, on bool) error {
	n, err := u.object("mount", path)
	if err != nil {
		return err
	}
	if n.kind != repl.Directory || n.mounted == on {
		return &os.PathError{Op: "mount", Path: path, Err: syscall.EINVAL}
	}
	n.mounted = on
	return nil
}

// Content returns what the open file holds.
func (w *Writer) Content() string { return string(w.n.data) }

// Offset is where the next Write goes.
func (w *Writer) Offset() int64 { return w.off }

// Links counts the names that lead to the open file.
func (w *Writer) Links() int { return len(w.n.links) }

// Unmount takes away all that is mounted, wherever it has gone.
func (d *Disk) Unmount() {
	for _, n := range d.byHandle {
		n.mounted = false
	}
}
