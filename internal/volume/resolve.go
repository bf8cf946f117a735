package volume

import (
	"encoding/binary"
	"errors"
	"strings"

	"opendfs/internal/repl"

	"golang.org/x/sys/unix"
)

// deletedMark is what the kernel adds to the path of an unlinked object. A
// name may end like this too.
const deletedMark = " (deleted)"

// openHandle opens what a handle names, close-on-exec.
func openHandle(mount int, handle string, flags int) (int, error) {
	if len(handle) < 4 || len(handle) > 4+maxHandle {
		return -1, unix.EINVAL
	}
	kind := int32(binary.LittleEndian.Uint32([]byte(handle[:4])))
	return retry(func() (int, error) {
		return unix.OpenByHandleAt(mount, unix.NewFileHandle(kind, []byte(handle[4:])), flags|unix.O_CLOEXEC)
	})
}

// Resolve opens the handle and asks the kernel where that is. Every path is
// checked by looking up what lies there, because the kernel's answer may be
// outdated, or a path in another view of the filesystem. A file that the kernel
// has in memory without its name cannot be located: ErrUnknown, ErrForgotten.
func (v *Disk) Resolve(id repl.Identity) (string, error) {
	const op = "resolve handle of"
	if id.Handle == "" || v.features.handles != fullHandles {
		return "", refuse(op, v.path, ErrUnknown)
	}
	fd, err := openHandle(v.fd, id.Handle, unix.O_PATH)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EINVAL):
		return "", &OpError{Op: op, Name: v.path, Kind: ErrUnknown, Err: err}
	case errors.Is(err, unix.ENOENT):
		return "", &OpError{Op: op, Name: v.path, Kind: ErrStale, Err: err}
	case err != nil:
		return "", fail(op, v.path, err)
	}
	defer func() { _ = unix.Close(fd) }() // O_PATH: nothing is lost
	is, err := v.describe(fd, "")
	if errors.Is(err, unix.EXDEV) {
		return "", refuse(op, v.path, ErrOutside)
	}
	if err != nil {
		return "", fail(op, v.path, err)
	}
	if is.Links == 0 || is.Identity.Handle != id.Handle || id.Birth != 0 && is.Identity.Birth != id.Birth {
		return "", refuse(op, v.path, ErrStale)
	}
	for range racesMax {
		path, err := v.locate(fd)
		if err != nil {
			return "", fail(op, v.path, err)
		}
		if v.lies(path, is.Identity) {
			return path, nil
		}
		// Moved while we looked, or deleted, or a name that is none.
		if real, cut := strings.CutSuffix(path, deletedMark); cut && !v.lies(path, is.Identity) {
			if is.Type == repl.Directory || real == "" {
				return "", refuse(op, v.path, ErrStale)
			}
			break
		}
	}
	return "", refuse(op, v.path, ErrUnknown)
}

// locate returns the path beneath the root that the kernel gives for fd.
func (v *Disk) locate(fd int) (string, error) {
	at, err := readLinkFull(procPath(fd))
	if err != nil {
		return "", err
	}
	root, err := readLinkFull(procPath(v.fd))
	if err != nil {
		return "", err
	}
	if at == root {
		return ".", nil
	}
	if at == "/" {
		return "", &OpError{Op: "locate", Name: at, Kind: ErrUnknown, Err: ErrForgotten}
	}
	path, ok := strings.CutPrefix(at, strings.TrimSuffix(root, "/")+"/")
	if !ok {
		return "", ErrOutside
	}
	if first, _, _ := strings.Cut(path, "/"); v.hides(first) {
		return "", ErrOutside
	}
	return path, nil
}

// lies reports whether the object at path has that identity.
func (v *Disk) lies(path string, id repl.Identity) bool {
	if path == "." {
		return v.root.Identity == id
	}
	parent, name, found := cutLast(path)
	dirfd := v.fd
	if found {
		fd, err := openPath(v.fd, parent)
		if err != nil {
			return false
		}
		defer func() { _ = unix.Close(fd) }() // read-only: nothing is lost
		dirfd = fd
	}
	s, err := v.describe(dirfd, name)
	return err == nil && s.Identity == id
}

// cutLast splits a path at its last slash.
func cutLast(path string) (parent, name string, found bool) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:], true
	}
	return "", path, false
}

// readLinkFull is readlink without a bound on the target's length.
func readLinkFull(path string) (string, error) {
	for size := 512; ; size *= 2 {
		buf := make([]byte, size)
		n, err := retry(func() (int, error) { return unix.Readlink(path, buf) })
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}
