package volume

import (
	"errors"
	"io"
	"sync"

	"opendfs/internal/repl"

	"golang.org/x/sys/unix"
)

// file is a regular file open for reading.
type file struct {
	v    *Disk
	fd   *descriptor
	name string

	asked  sync.Mutex
	handle string // once it was asked for; guarded by asked
}

func (d *dir) OpenFile(name string) (File, error) {
	const op = "open file"
	if err := d.source(op, name); err != nil {
		return nil, err
	}
	// Looked at before it is opened, because opening alone makes some devices act.
	if err := d.v.regular(d.fd.get(), name); err != nil {
		return nil, fail(op, name, err)
	}
	// O_NONBLOCK: neither a pipe put here meanwhile nor somebody's lease may
	// hold us. O_NOATIME: our reading is not the users'.
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := openBeneath(d.fd.get(), name, flags|unix.O_NOATIME)
	if err == unix.EPERM {
		fd, err = openBeneath(d.fd.get(), name, flags)
	}
	if err == unix.ELOOP || err == unix.ENXIO {
		return nil, &OpError{Op: op, Name: name, Kind: ErrNotFile, Err: err}
	}
	if err != nil {
		return nil, fail(op, name, err)
	}
	if err := d.v.regular(fd, ""); err != nil {
		return nil, errors.Join(fail(op, name, err), unix.Close(fd))
	}
	return &file{v: d.v, fd: newFD(fd), name: name}, nil
}

// regular returns nil if name in dirfd, or dirfd itself, is a regular file of
// this volume, else ErrNotFile or why it cannot be told.
func (v *Disk) regular(dirfd int, name string) error {
	var c cname
	var st unix.Statx_t
	if err := c.set(name); err != nil {
		return err
	}
	if err := statAt(dirfd, &c, &st); err != nil {
		return err
	}
	switch {
	case v.foreign(&st):
		return unix.EXDEV
	case typeOf(uint32(st.Mode)) != repl.File:
		return ErrNotFile
	}
	return nil
}

// Meta reads by the open descriptor.
func (f *file) Meta() ([]byte, error) {
	const op = "read metadata of"
	m, err := f.v.read(object{fd: f.fd.get()})
	if err != nil {
		return nil, fail(op, f.name, err)
	}
	b, err := m.Encode()
	return b, fail(op, f.name, err)
}

func (f *file) Read(p []byte) (int, error) {
	n, err := retry(func() (int, error) { return unix.Read(f.fd.get(), p) })
	if n == 0 && err == nil && len(p) > 0 {
		return 0, io.EOF
	}
	return max(n, 0), fail("read", f.name, err)
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	return readThrough(&f.v.past, f.fd.get(), f.name, p, off)
}

func (f *file) Stat() (Stat, error) {
	f.asked.Lock()
	defer f.asked.Unlock()
	s, err := f.v.known(f.fd.get(), &f.handle)
	return s, fail("stat", f.name, err)
}

// Writable asks for a read lease, which the kernel refuses while somebody has
// the file open for writing (fcntl(2), F_SETLEASE), and gives it back at once.
// A user who opens it for writing in between waits for that; the signal that
// the kernel then sends us is SIGIO, which Go's runtime catches and drops.
func (f *file) Writable() (bool, error) {
	err := lease(f.fd.get())
	switch {
	case err == unix.EAGAIN:
		return true, nil
	case err != nil || !f.v.features.Leases:
		return false, &OpError{Op: "ask who writes to", Name: f.name, Kind: ErrUnknown, Err: err}
	}
	return false, nil
}

func lease(fd int) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		return err
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	return err
}

// Sync is fsync, which a descriptor for reading may ask for.
func (f *file) Sync() error { return fail("sync", f.name, unix.Fsync(f.fd.get())) }

func (f *file) Close() error { return fail("close", f.name, f.fd.close()) }

// readAt fills p, as io.ReaderAt asks.
func readAt(fd int, name string, p []byte, off int64) (int, error) {
	return readThrough(nil, fd, name, p, off)
}

// readThrough is readAt, past the kernel's cache where that pays.
func readThrough(past *pastCache, fd int, name string, p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := past.pread(fd, p[done:], off+int64(done))
		if err != nil {
			return done, fail("read", name, err)
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}
