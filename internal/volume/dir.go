package volume

import (
	"errors"
	"sync"

	"opendfs/internal/repl"

	"golang.org/x/sys/unix"
)

// dir is an open directory. One opened in the private area stays private, and
// so do those opened through it.
type dir struct {
	v       *Disk
	fd      *descriptor
	name    string // as it was opened, for errors only
	root    bool
	private bool
	unsynced
}

// unsynced are the objects whose metadata were set through a directory and
// are not durable yet; its entries alone do not carry them.
type unsynced struct {
	mu   sync.Mutex
	held []int // descriptors; at most maxUnsynced
	many bool  // more than that, or some that cannot be synced alone
}

// maxUnsynced is from how many objects on a syncfs is asked instead.
const maxUnsynced = 64

// hold takes over an open object whose metadata were set, and ends its lease.
func (u *unsynced) hold(o object) error {
	u.mu.Lock()
	if o.path != "" || len(u.held) >= maxUnsynced { // a path is of what cannot be synced by this descriptor
		u.many = true
		u.mu.Unlock()
		_ = unix.Close(o.fd) // nothing was written through it, and its lease goes with it
		return nil
	}
	defer u.mu.Unlock()
	u.held = append(u.held, o.fd)
	if !o.leased {
		return nil
	}
	_, err := unix.FcntlInt(uintptr(o.fd), unix.F_SETLEASE, unix.F_UNLCK)
	return err
}

// take returns what is held, the caller's to close.
func (u *unsynced) take() (held []int, many bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	held, many = u.held, u.many
	u.held, u.many = nil, false
	return held, many
}

// source checks a name that must name something.
func (d *dir) source(op, name string) error {
	if err := checkName(name); err != nil {
		return refuse(op, name, err)
	}
	if d.root && d.v.hides(name) {
		return refuse(op, name, ErrNotExist)
	}
	return nil
}

// place checks a name that must be free.
func (d *dir) place(op, name string) error {
	if err := checkName(name); err != nil {
		return refuse(op, name, err)
	}
	if d.root && d.v.hides(name) {
		return refuse(op, name, ErrExist)
	}
	return nil
}

func (d *dir) Stat() (Stat, error) {
	s, err := d.v.describe(d.fd.get(), "")
	return s, fail("stat", d.name, err)
}

func (d *dir) Lookup(name string) (Stat, error) {
	if err := d.source("look up", name); err != nil {
		return Stat{}, err
	}
	s, err := d.v.describe(d.fd.get(), name)
	return s, fail("look up", name, err)
}

func (d *dir) OpenDir(name string) (Dir, error) {
	const op = "open directory"
	if err := d.source(op, name); err != nil {
		return nil, err
	}
	fd, err := openBeneath(d.fd.get(), name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ELOOP {
		return nil, &OpError{Op: op, Name: name, Kind: ErrNotDir, Err: err}
	}
	if err != nil {
		return nil, fail(op, name, err)
	}
	return d.v.newDir(op, fd, name, d.private)
}

func (d *dir) ReadLink(name string) (string, error) {
	if err := d.source("read link", name); err != nil {
		return "", err
	}
	var buf [repl.MaxTarget + 2]byte
	n, err := retry(func() (int, error) { return unix.Readlinkat(d.fd.get(), name, buf[:]) })
	if err != nil {
		return "", fail("read link", name, err)
	}
	if n > repl.MaxTarget {
		return "", fail("read link", name, unix.ENAMETOOLONG)
	}
	return string(buf[:n]), nil
}

func (d *dir) Mkdir(name string) error {
	if err := d.place("make directory", name); err != nil {
		return err
	}
	return fail("make directory", name, unix.Mkdirat(d.fd.get(), name, 0o700))
}

func (d *dir) Symlink(target, name string) error {
	if err := d.place("make link", name); err != nil {
		return err
	}
	return fail("make link", name, unix.Symlinkat(target, d.fd.get(), name))
}

func (d *dir) Rename(name string, to Dir, newName string) error {
	const op = "rename"
	dst, err := d.other(op, name, to)
	if err != nil {
		return err
	}
	if err := d.source(op, name); err != nil {
		return err
	}
	if err := dst.place(op, newName); err != nil {
		return err
	}
	err = unix.Renameat2(d.fd.get(), name, dst.fd.get(), newName, unix.RENAME_NOREPLACE)
	return d.moveError(op, name+" to "+newName, err)
}

func (d *dir) Exchange(name string, with Dir, otherName string) error {
	const op = "exchange"
	dst, err := d.other(op, name, with)
	if err != nil {
		return err
	}
	if err := d.source(op, name); err != nil {
		return err
	}
	if err := dst.source(op, otherName); err != nil {
		return err
	}
	err = unix.Renameat2(d.fd.get(), name, dst.fd.get(), otherName, unix.RENAME_EXCHANGE)
	return d.moveError(op, name+" with "+otherName, err)
}

// other returns the implementation behind a Dir of the same volume.
func (d *dir) other(op, name string, o Dir) (*dir, error) {
	other, ok := o.(*dir)
	if !ok || other.v.dev != d.v.dev {
		return nil, refuse(op, name, ErrMount)
	}
	return other, nil
}

// moveError explains EINVAL, which renameat2 gives for two reasons.
func (d *dir) moveError(op, name string, err error) error {
	switch {
	case err == unix.EINVAL && !d.v.features.Exchange:
		return &OpError{Op: op, Name: name, Kind: errors.ErrUnsupported, Err: errNoExchange}
	case err == unix.EINVAL:
		return &OpError{Op: op, Name: name, Kind: ErrIntoItself, Err: err}
	case err == unix.EBUSY:
		return &OpError{Op: op, Name: name, Kind: ErrMount, Err: err}
	}
	return fail(op, name, err)
}

var errNoExchange = errors.New("this filesystem cannot rename without replacing, nor exchange: put the folder on ext4, xfs or btrfs")

func (d *dir) Remove(name string) error {
	if err := d.source("remove", name); err != nil {
		return err
	}
	if !d.private {
		return refuse("remove", name, ErrNotPrivate)
	}
	return fail("remove", name, unix.Unlinkat(d.fd.get(), name, 0))
}

func (d *dir) Rmdir(name string) error {
	if err := d.source("remove directory", name); err != nil {
		return err
	}
	err := unix.Unlinkat(d.fd.get(), name, unix.AT_REMOVEDIR)
	switch err {
	case unix.EEXIST: // POSIX lets a filesystem say so instead of ENOTEMPTY
		return &OpError{Op: "remove directory", Name: name, Kind: ErrNotEmpty, Err: err}
	case unix.EBUSY:
		return &OpError{Op: "remove directory", Name: name, Kind: ErrMount, Err: err}
	}
	return fail("remove directory", name, err)
}

// Sync is fsync of the directory, after those of the objects whose metadata
// were set, or syncfs if these are many. After an error nothing is known to be
// durable, and all of it must be done again.
func (d *dir) Sync() error {
	held, many := d.take()
	var err error
	for _, fd := range held {
		if !many {
			err = errors.Join(err, unix.Fsync(fd))
		}
		err = errors.Join(err, unix.Close(fd))
	}
	if many {
		return fail("sync directory", d.name, errors.Join(err, unix.Syncfs(d.fd.get())))
	}
	return fail("sync directory", d.name, errors.Join(err, unix.Fsync(d.fd.get())))
}

// Close closes the directory; metadata that were not synced stay so.
func (d *dir) Close() error {
	held, _ := d.take()
	var err error
	for _, fd := range held {
		err = errors.Join(err, unix.Close(fd))
	}
	return fail("close directory", d.name, errors.Join(err, d.fd.close()))
}
