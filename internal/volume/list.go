package volume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"

	"opendfs/internal/repl"

	"golang.org/x/sys/unix"
)

// listBuffer is how much of a directory is read at once: about 8,000 names.
const listBuffer = 256 << 10

var listBuffers = sync.Pool{New: func() any { return new([listBuffer]byte) }}

// Offsets in the kernel's struct linux_dirent64.
const (
	direntLength = 16
	direntType   = 18
	direntName   = 19
)

var errBadDirent = errors.New("the kernel returned a malformed directory entry")

// List reads through a descriptor of its own, so that listings of one Dir do
// not share an offset.
func (d *dir) List(fn func(Entry) error) (err error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(d.fd.get(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return fail("list", d.name, err)
	}
	defer func() { err = errors.Join(err, fail("list", d.name, unix.Close(fd))) }()
	buf := listBuffers.Get().(*[listBuffer]byte)
	defer listBuffers.Put(buf)
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, buf[:]) })
		if err != nil {
			return fail("list", d.name, err)
		}
		if n == 0 {
			return nil
		}
		if err := d.emit(buf[:n], fn); err != nil {
			return err
		}
	}
}

// emit hands the entries in b to fn.
func (d *dir) emit(b []byte, fn func(Entry) error) error {
	for len(b) > 0 {
		if len(b) < direntName {
			return fail("list", d.name, errBadDirent)
		}
		length := int(binary.NativeEndian.Uint16(b[direntLength:]))
		if length < direntName || length > len(b) {
			return fail("list", d.name, errBadDirent)
		}
		name := b[direntName:length]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		kind := b[direntType]
		b = b[length:]
		if string(name) == "." || string(name) == ".." || d.root && d.v.hides(string(name)) {
			continue
		}
		if err := fn(Entry{Name: string(name), Type: direntTypeOf(kind)}); err != nil {
			return err
		}
	}
	return nil
}

func direntTypeOf(kind byte) repl.Type {
	switch kind {
	case unix.DT_REG:
		return repl.File
	case unix.DT_DIR:
		return repl.Directory
	case unix.DT_LNK:
		return repl.Symlink
	}
	return repl.Other
}
