package volume

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links the way to a root may lead through: the
// kernel's own bound (path_resolution(7)).
const maxLinks = 40

// OpenRoot opens the directory at an absolute path as Open does, and gives its
// descriptor, close-on-exec, to the caller. The error is ErrLinked where a
// symbolic link on the way is not to be believed:
//
// Who opens a root reads and writes there with all its rights, so only root and
// the user of this process may lead it elsewhere. A link is believed if it
// belongs to one of them, and nobody else could have put it where it lies: all
// directories before it belong to them too, nobody else may write in them (in
// one with the sticky bit others may, but no link is believed that lies in it),
// and none is a replicated folder, where a link is what a user of any member made,
// whoever owns it here.
//
// It goes by handle, one name at a time: what was judged is what is used.
func OpenRoot(path string) (int, error) {
	const op = "open root"
	abs, err := filepath.Abs(path)
	if err != nil {
		return -1, fail(op, path, err)
	}
	fd, err := openRoot(abs)
	return fd, fail(op, abs, err)
}

// openRoot spares the walk where there is no link.
func openRoot(path string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
	fd, err := retry(func() (int, error) { return unix.Openat2(unix.AT_FDCWD, path, &how) })
	if err != unix.ELOOP {
		return fd, err
	}
	w := &way{fd: -1, left: strings.Split(path, "/")}
	if err := w.toTop(); err != nil {
		return -1, err
	}
	defer w.close()
	for len(w.left) > 0 {
		if err := w.step(); err != nil {
			return -1, err
		}
	}
	return openAt(w.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
}

// openFollowing opens a root wherever links lead.
func openFollowing(path string) (int, error) {
	return openAt(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY)
}

func openAt(dirfd int, name string, flags int) (int, error) {
	return retry(func() (int, error) { return unix.Openat(dirfd, name, flags|unix.O_CLOEXEC, 0) })
}

// way is a walk to a root.
type way struct {
	fd    int      // the directory that it has come to, O_PATH
	path  string   // of fd, without links
	left  []string // the names to come
	links int      // followed
	// doubt says why no link in fd is believed, empty if one may be. If lasting
	// none is beneath either.
	doubt   string
	lasting bool
}

func (w *way) close() { _ = unix.Close(w.fd) } // O_PATH: nothing is lost

func (w *way) toTop() error {
	fd, err := openAt(unix.AT_FDCWD, "/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	w.enter(fd, "/", &st)
	return nil
}

// step takes the next name: a directory is entered, a link put in place of its
// name. Of anything else the next step, or the last open, says what it is not.
func (w *way) step() error {
	name := w.left[0]
	w.left = w.left[1:]
	if name == "" || name == "." {
		return nil
	}
	// As a directory first: so an automounter is asked for it.
	fd, err := openAt(w.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		fd, err = openAt(w.fd, name, unix.O_PATH|unix.O_NOFOLLOW)
	}
	if err != nil {
		return err
	}
	at := path.Join(w.path, name)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		w.enter(fd, at, &st)
		return nil
	}
	err = w.follow(fd, at, &st)
	return errors.Join(err, unix.Close(fd))
}

// enter goes on from fd, which it takes over.
func (w *way) enter(fd int, at string, st *unix.Stat_t) {
	if w.fd >= 0 {
		w.close()
	}
	w.fd, w.path = fd, at
	if w.lasting {
		return
	}
	w.doubt = ""
	var private unix.Stat_t
	switch {
	case !ours(st.Uid):
		w.doubt, w.lasting = fmt.Sprintf("in %q, which belongs to user %d", at, st.Uid), true
	case unix.Fstatat(fd, privateName, &private, unix.AT_SYMLINK_NOFOLLOW) == nil:
		w.doubt, w.lasting = fmt.Sprintf("in %q, a replicated folder", at), true
	case st.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0:
		w.doubt, w.lasting = fmt.Sprintf("in %q, where others may write (mode %04o)", at, st.Mode&0o7777), st.Mode&unix.S_ISVTX == 0
	}
}

// follow puts what the link fd at the path at says before what is left.
func (w *way) follow(fd int, at string, st *unix.Stat_t) error {
	target, err := readLinkAt(fd)
	if err != nil {
		return err
	}
	const remedy = "give the path without the link"
	switch {
	case !ours(st.Uid):
		return linked("the symbolic link %q to %q belongs to user %d; %s, or make it root's (chown -h root)", at, target, st.Uid, remedy)
	case w.doubt != "":
		return linked("the symbolic link %q to %q lies %s; %s", at, target, w.doubt, remedy)
	case w.links == maxLinks:
		return linked("%q is the %dth symbolic link on the way; %s", at, maxLinks+1, remedy)
	}
	w.links++
	w.left = append(strings.Split(target, "/"), w.left...)
	if strings.HasPrefix(target, "/") {
		return w.toTop()
	}
	return nil
}

func linked(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrLinked, fmt.Errorf(format, args...))
}

// ours reports whether a user is one who may lead this process anywhere.
func ours(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }

// readLinkAt reads the link that fd has open, O_PATH.
func readLinkAt(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := retry(func() (int, error) { return unix.Readlinkat(fd, "", buf) })
	if err != nil {
		return "", err
	}
	if n == len(buf) {
		return "", unix.ENAMETOOLONG
	}
	return string(buf[:n]), nil
}
