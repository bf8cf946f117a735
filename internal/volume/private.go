package volume

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxPrivate bounds a file that ReadPrivate reads, in bytes.
const maxPrivate = 16 << 20

// privateDirs lists the private area's directories.
var privateDirs = [...]Private{Staging, Installing, Conflicts, PreExisting, CarriedArea}

// createPrivate makes what is missing of the private area and takes from it
// what it may have inherited: others' access and default ACLs, which every
// Temp would inherit in turn.
func (v *Disk) createPrivate() error {
	names := []string{privateName}
	for _, p := range privateDirs {
		names = append(names, privateName+"/"+string(p))
	}
	made := false
	for _, name := range names {
		err := unix.Mkdirat(v.fd, name, 0o700)
		made = made || err == nil
		if err != nil && err != unix.EEXIST {
			return fail("make private directory", name, err)
		}
		if err := v.closeOff(name); err != nil {
			return fail("make private directory", name, err)
		}
	}
	if !made {
		return nil
	}
	return v.syncPrivate(names)
}

// closeOff checks that a directory of the private area is this process's own
// and makes it inaccessible to all others.
func (v *Disk) closeOff(name string) error {
	fd, err := openPath(v.fd, name)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // read-only: nothing is lost
	s, err := v.describe(fd, "")
	if err != nil {
		return err
	}
	if s.Owner != uint32(os.Geteuid()) {
		return fmt.Errorf("it belongs to user %d, not to user %d who runs this process: change its owner, or move it away", s.Owner, os.Geteuid())
	}
	for _, acl := range []string{aclAccess, aclDefault} {
		if err := unix.Fremovexattr(fd, acl); err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
			return err
		}
	}
	if s.Mode == 0o700 {
		return nil
	}
	return unix.Fchmod(fd, 0o700)
}

// syncPrivate makes the private directories themselves durable.
func (v *Disk) syncPrivate(names []string) error {
	for _, name := range names {
		fd, err := openPath(v.fd, name)
		if err != nil {
			return fail("sync private directory", name, err)
		}
		if err := errors.Join(unix.Fsync(fd), unix.Close(fd)); err != nil {
			return fail("sync private directory", name, err)
		}
	}
	return fail("sync", v.path, unix.Fsync(v.fd))
}

// ReadPrivate reads a small file of the private area.
func (v *Disk) ReadPrivate(name string) ([]byte, error) {
	const op = "read private file"
	if err := checkName(name); err != nil {
		return nil, refuse(op, name, err)
	}
	fd, err := openBeneath(v.fd, privateName+"/"+name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK)
	if err != nil {
		return nil, fail(op, name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	data, err := io.ReadAll(io.LimitReader(f, maxPrivate+1))
	if err == nil && len(data) > maxPrivate {
		err = unix.EFBIG
	}
	return data, fail(op, name, errors.Join(err, f.Close()))
}

// WritePrivate durably replaces a small file of the private area: a new file
// is written and synced, renamed over the old one, the directory synced.
func (v *Disk) WritePrivate(name string, data []byte) error {
	const op = "write private file"
	if err := checkName(name); err != nil {
		return refuse(op, name, err)
	}
	v.privMu.Lock()
	defer v.privMu.Unlock()
	dirfd, err := openPath(v.fd, privateName)
	if err != nil {
		return fail(op, name, err)
	}
	fresh := name + ".new"
	err = writeSynced(dirfd, fresh, data)
	if err == nil {
		err = unix.Renameat(dirfd, fresh, dirfd, name)
	}
	if err == nil {
		err = unix.Fsync(dirfd)
	}
	return fail(op, name, errors.Join(err, unix.Close(dirfd)))
}

// writeSynced makes or truncates a file and syncs what it holds then.
func writeSynced(dirfd int, name string, data []byte) error {
	how := unix.OpenHow{
		Flags:   unix.O_CREAT | unix.O_TRUNC | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Mode:    0o600,
		Resolve: resolveFlags,
	}
	fd, err := retry(func() (int, error) { return unix.Openat2(dirfd, name, &how) })
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
