package volume

import (
	"bytes"
	"runtime"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// xattrFew is what mostly holds a list of names or a value. For each call the
// kernel clears as much memory as it is given room, so it is given little first.
const xattrFew = 1 << 10

// xattrRoom is memory for one call that reads attributes: a buffer of the
// kernel's XATTR_LIST_MAX and XATTR_SIZE_MAX, and what getxattrat(2) is told.
type xattrRoom struct {
	buf  [64 << 10]byte
	args struct { // struct xattr_args
		value unsafe.Pointer
		size  uint32
		flags uint32
	}
}

var xattrRooms = sync.Pool{New: func() any { return new(xattrRoom) }}

// xattrs reads the extended attributes that replicate, by name; but of those
// listed in unread the names alone.
func (o object) xattrs(optional Optional, unread ...string) ([]Xattr, error) {
	for range racesMax {
		names, err := o.xattrNames(optional)
		if err != nil || len(names) == 0 {
			return nil, err
		}
		out := make([]Xattr, 0, len(names))
		for _, name := range names {
			var value []byte
			if !slices.Contains(unread, name) {
				value, err = o.xattr(name)
			}
			if err != nil {
				break
			}
			out = append(out, Xattr{Name: name, Value: value})
		}
		if err != unix.ENODATA { // removed since it was listed
			return out, err
		}
	}
	return nil, ErrChanged
}

// xattrNames lists the extended attributes that replicate, in order.
func (o object) xattrNames(optional Optional) ([]string, error) {
	room := xattrRooms.Get().(*xattrRoom)
	defer xattrRooms.Put(room)
	n, err := o.list(room.buf[:xattrFew])
	if err == unix.ERANGE {
		n, err = o.list(room.buf[:])
	}
	if err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil || n == 0 {
		return nil, err
	}
	var names []string
	for text := range bytes.SplitSeq(room.buf[:n], []byte{0}) {
		if name := xattrName(text); Replicates(name) && optional.has(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// xattrName makes a name of its bytes; those that most objects have cost no
// memory.
func xattrName(text []byte) string {
	for _, known := range [...]string{aclAccess, aclDefault, ntACL, selinux} {
		if string(text) == known {
			return known
		}
	}
	return string(text)
}

func (o object) list(buf []byte) (int, error) {
	return retry(func() (int, error) {
		switch {
		case o.name != "":
			return listXattrAt(o.fd, o.name, buf)
		case o.path == "":
			return unix.Flistxattr(o.fd, buf)
		}
		return unix.Listxattr(o.path, buf)
	})
}

func (o object) xattr(name string) ([]byte, error) {
	room := xattrRooms.Get().(*xattrRoom)
	defer xattrRooms.Put(room)
	n, err := o.get(name, room, xattrFew)
	if err == unix.ERANGE {
		n, err = o.get(name, room, len(room.buf))
	}
	if err != nil {
		return nil, err
	}
	return append(make([]byte, 0, n), room.buf[:n]...), nil
}

// get reads an attribute of at most size bytes into the room; ERANGE if it is longer.
func (o object) get(name string, room *xattrRoom, size int) (int, error) {
	return retry(func() (int, error) {
		switch {
		case o.name != "":
			return getXattrAt(o.fd, o.name, name, room, size)
		case o.path == "":
			return unix.Fgetxattr(o.fd, name, room.buf[:size])
		}
		return unix.Getxattr(o.path, name, room.buf[:size])
	})
}

// listXattrAt is listxattrat(2) of a name in dirfd; it follows no link.
func listXattrAt(dirfd int, name string, buf []byte) (int, error) {
	var c cname
	if err := c.set(name); err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dirfd), uintptr(unsafe.Pointer(&c)),
		unix.AT_SYMLINK_NOFOLLOW, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// getXattrAt is getxattrat(2) of a name in dirfd; it follows no link.
func getXattrAt(dirfd int, name, attribute string, room *xattrRoom, size int) (int, error) {
	var c, a cname
	if err := c.set(name); err != nil {
		return 0, err
	}
	if err := a.set(attribute); err != nil {
		return 0, err
	}
	room.args.value, room.args.size, room.args.flags = unsafe.Pointer(&room.buf), uint32(size), 0
	n, _, errno := unix.Syscall6(unix.SYS_GETXATTRAT, uintptr(dirfd), uintptr(unsafe.Pointer(&c)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&room.args)), unsafe.Sizeof(room.args))
	runtime.KeepAlive(room)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// knowsXattrAt reports whether the kernel has these calls and lets this process
// make them.
func knowsXattrAt(dirfd int) bool {
	_, err := listXattrAt(dirfd, ".", make([]byte, 64<<10))
	return err == nil || err == unix.EOPNOTSUPP
}
