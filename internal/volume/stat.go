package volume

import (
	"encoding/binary"
	"time"
	"unsafe"

	"opendfs/internal/repl"

	"golang.org/x/sys/unix"
)

const (
	statxFlags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	statxMask  = unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID

	// maxHandle is the kernel's MAX_HANDLE_SZ, in bytes.
	maxHandle = 128
	// atHandleFID asks for a handle that identifies only (fcntl.h, Linux 6.5).
	atHandleFID = 0x200
	nameMax     = 255 // NAME_MAX: longer names are refused by every Linux filesystem
)

// cname is a NUL-terminated name on the stack, so that a look-up allocates
// nothing but its handle.
type cname [nameMax + 1]byte

func (c *cname) set(name string) error {
	if len(name) > nameMax {
		return unix.ENAMETOOLONG
	}
	c[copy(c[:], name)] = 0
	return nil
}

// statAt is statx of one name in dirfd, or of dirfd itself if the name is
// empty. It follows nothing.
func statAt(dirfd int, name *cname, st *unix.Statx_t) error {
	flags := statxFlags
	if name[0] == 0 {
		flags |= unix.AT_EMPTY_PATH
	}
	for {
		_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(dirfd), uintptr(unsafe.Pointer(name)),
			uintptr(flags), statxMask, uintptr(unsafe.Pointer(st)), 0)
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}

// fileHandle is the kernel's struct file_handle with room for any handle.
type fileHandle struct {
	bytes uint32
	kind  int32
	data  [maxHandle]byte
}

// handleAt is name_to_handle_at of one name in dirfd, or of dirfd itself if
// the name is empty. kind is a handleKind other than noHandles.
func handleAt(dirfd int, name *cname, kind handleKind, h *fileHandle) error {
	flags := 0
	if name[0] == 0 {
		flags |= unix.AT_EMPTY_PATH
	}
	if kind == fidHandles {
		flags |= atHandleFID
	}
	var mount int32
	for {
		h.bytes = maxHandle
		_, _, errno := unix.Syscall6(unix.SYS_NAME_TO_HANDLE_AT, uintptr(dirfd), uintptr(unsafe.Pointer(name)),
			uintptr(unsafe.Pointer(h)), uintptr(unsafe.Pointer(&mount)), uintptr(flags), 0)
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}

// text is the handle as repl.Identity holds it.
func (h *fileHandle) text() string {
	var b [4 + maxHandle]byte
	binary.LittleEndian.PutUint32(b[:], uint32(h.kind))
	n := copy(b[4:], h.data[:h.bytes])
	return string(b[:4+n])
}

// holds reports whether the handle visibly is that inode's: ext4, xfs, f2fs
// and btrfs begin with the inode's number, tmpfs has it as second word.
func (h *fileHandle) holds(ino uint64) bool {
	low := uint32(ino)
	return h.bytes >= 8 && (binary.LittleEndian.Uint32(h.data[:]) == low || binary.LittleEndian.Uint32(h.data[4:]) == low)
}

// describe is lstat and handle of one object at one instant: name in dirfd, or
// dirfd itself if the name is empty.
func (v *Disk) describe(dirfd int, name string) (Stat, error) {
	var c cname
	var st unix.Statx_t
	if err := c.set(name); err != nil {
		return Stat{}, err
	}
	if err := statAt(dirfd, &c, &st); err != nil {
		return Stat{}, err
	}
	if v.foreign(&st) {
		return Stat{}, unix.EXDEV
	}
	if v.features.handles == noHandles {
		return statOf(&st, ""), nil
	}
	var h fileHandle
	for range racesMax {
		if err := handleAt(dirfd, &c, v.features.handles, &h); err != nil {
			return Stat{}, err
		}
		if h.holds(st.Ino) || name == "" {
			return statOf(&st, h.text()), nil
		}
		// Either the handle hides its inode, or the name was given to another
		// object between the two calls.
		before := st.Ino
		if err := statAt(dirfd, &c, &st); err != nil {
			return Stat{}, err
		}
		if st.Ino == before {
			return statOf(&st, h.text()), nil
		}
	}
	return Stat{}, ErrChanged
}

// known describes an open object. Its handle, which never changes, is asked for once.
func (v *Disk) known(fd int, handle *string) (Stat, error) {
	if *handle != "" {
		return v.again(fd, *handle)
	}
	s, err := v.describe(fd, "")
	*handle = s.Identity.Handle
	return s, err
}

// again describes an open object once more, whose handle is known.
func (v *Disk) again(fd int, handle string) (Stat, error) {
	var self cname
	var st unix.Statx_t
	err := statAt(fd, &self, &st)
	return statOf(&st, handle), err
}

// glance is a look-up without the handle.
func (d *dir) glance(name string, st *unix.Statx_t) error {
	const op = "look up"
	if err := d.source(op, name); err != nil {
		return err
	}
	var c cname
	err := c.set(name)
	if err == nil {
		err = statAt(d.fd.get(), &c, st)
	}
	if err == nil && d.v.foreign(st) {
		err = unix.EXDEV
	}
	if err != nil {
		return fail(op, name, err)
	}
	return nil
}

// Again is a look-up that asks for the handle only if something else than the
// handle differs. An object that took another's place under the same number,
// born and changed at the same instants, passes for it; the journal tells of it.
func (d *dir) Again(name string, was *Stat) (Stat, error) {
	var st unix.Statx_t
	if err := d.glance(name, &st); err != nil {
		return Stat{}, err
	}
	now := statOf(&st, was.Identity.Handle)
	if handleHolds(was.Identity.Handle, st.Ino) && alike(&now, was) {
		return now, nil
	}
	return d.Lookup(name)
}

// bornApart is by how much an object must have outlived its birth, to be known by
// it: the clock that births are read from stands still for a tick, 10 ms at most.
const bornApart = repl.Time(20 * time.Millisecond)

// Recognize rests on this: an inode's number is given to another object only when
// its last one is gone, so that one which lived longer than a tick has its time of
// birth alone.
func (d *dir) Recognize(name string, id repl.Identity, seen repl.Time) (Stat, error) {
	if id.Birth == 0 || seen < id.Birth+bornApart {
		return d.Lookup(name)
	}
	var st unix.Statx_t
	if err := d.glance(name, &st); err != nil {
		return Stat{}, err
	}
	if now := statOf(&st, id.Handle); now.Identity.Birth == id.Birth && handleNames(id.Handle, st.Ino) {
		return now, nil
	}
	return d.Lookup(name)
}

// The kinds of handles that begin with the whole number of an inode (exportfs.h):
// ext4's and most others', and xfs's.
const (
	handleIno32 = 0x01
	handleIno64 = 0x81
)

// handleNames reports whether a handle's text is of that inode and of no other
// number.
func handleNames(text string, ino uint64) bool {
	if len(text) < 4+8 {
		return false
	}
	b := []byte(text[:4+8])
	switch binary.LittleEndian.Uint32(b) {
	case handleIno32:
		return uint64(binary.LittleEndian.Uint32(b[4:])) == ino
	case handleIno64:
		return binary.LittleEndian.Uint64(b[4:]) == ino
	}
	return false
}

// alike reports whether two descriptions differ in nothing but the number of
// names.
func alike(a, b *Stat) bool {
	return a.Type == b.Type && a.Identity == b.Identity && a.Print == b.Print && a.Mode == b.Mode && a.Owner == b.Owner && a.Group == b.Group
}

// handleHolds is fileHandle.holds of a handle's text.
func handleHolds(text string, ino uint64) bool {
	if len(text) < 12 {
		return false
	}
	low := func(at int) uint32 {
		return uint32(text[at]) | uint32(text[at+1])<<8 | uint32(text[at+2])<<16 | uint32(text[at+3])<<24
	}
	return low(4) == uint32(ino) || low(8) == uint32(ino)
}

// kind is what lies at a name in dirfd.
func (v *Disk) kind(dirfd int, name string) (repl.Type, error) {
	var c cname
	var st unix.Statx_t
	if err := c.set(name); err != nil {
		return repl.Other, err
	}
	err := statAt(dirfd, &c, &st)
	if err == nil && v.foreign(&st) {
		err = unix.EXDEV
	}
	return typeOf(uint32(st.Mode)), err
}

// racesMax bounds how often an operation starts again because the tree moved
// under it.
const racesMax = 16

// foreign reports whether an object belongs to another mount or, as a btrfs
// subvolume does, to another device. Files do not count for the device:
// overlayfs shows those of its lower layers under other numbers.
func (v *Disk) foreign(st *unix.Statx_t) bool {
	if st.Mask&unix.STATX_MNT_ID != 0 && v.mount != 0 && st.Mnt_id != v.mount {
		return true
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR && unix.Mkdev(st.Dev_major, st.Dev_minor) != v.dev
}

func statOf(st *unix.Statx_t, handle string) Stat {
	s := Stat{
		Type:     typeOf(uint32(st.Mode)),
		Identity: repl.Identity{Handle: handle},
		Print:    repl.Print{Size: int64(st.Size), Mtime: timeOf(st.Mtime), Ctime: timeOf(st.Ctime)},
		Links:    st.Nlink,
		Mode:     uint32(st.Mode) & modeBits,
		Owner:    st.Uid,
		Group:    st.Gid,
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		s.Identity.Birth = timeOf(st.Btime)
	}
	return s
}

func typeOf(mode uint32) repl.Type {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return repl.File
	case unix.S_IFDIR:
		return repl.Directory
	case unix.S_IFLNK:
		return repl.Symlink
	}
	return repl.Other
}

func timeOf(t unix.StatxTimestamp) repl.Time {
	return repl.Time(t.Sec*int64(time.Second) + int64(t.Nsec))
}

// timespecOf splits a time so that the nanoseconds are never negative.
func timespecOf(t repl.Time) unix.Timespec {
	sec, nsec := int64(t)/int64(time.Second), int64(t)%int64(time.Second)
	if nsec < 0 {
		sec, nsec = sec-1, nsec+int64(time.Second)
	}
	return unix.Timespec{Sec: sec, Nsec: nsec}
}
