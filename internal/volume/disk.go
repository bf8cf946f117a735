package volume

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"opendfs/internal/repl"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// privateName is the private area's name in the root.
const privateName = repl.PrivateName

// openHow is how everything beneath the root is opened: no link is followed,
// no mount crossed, the root never left.
const resolveFlags = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS

// pathChunk is how long a path is handed to the kernel at once: PATH_MAX, its
// NUL and some room off.
const pathChunk = 4000

// Options say how Open prepares a volume.
type Options struct {
	// Create makes the private area if it is not there. Without it a root
	// without private area opens too: then ReadPrivate and Private return
	// ErrNotExist, which is how a member tells that a root is not the one that
	// it knew.
	Create bool
	// ReadOnly leaves the tree and its private area untouched: features that must
	// be tried are not known.
	ReadOnly bool
	// AnyLink opens the root wherever the symbolic links on the way lead, for who asks
	// with rights of its own. Without it Open believes those alone that OpenRoot does.
	AnyLink bool
	// Owners says in which form owners replicate, Names whom to ask for them; nil:
	// the system.
	Owners Owners
	Names  Names
	// Optional are the attributes that replicate besides those that always do.
	Optional Optional
}

// Disk is the Volume of a directory on a Linux filesystem.
type Disk struct {
	path     string // as given to Open, absolute
	open     func(path string) (int, error)
	fd       int // the root
	dev      uint64
	mount    uint64 // the kernel's mount id, 0 if it tells none
	root     Stat
	features Features
	owners   Owners
	names    Names
	optional Optional
	unknown  unknownNames
	doubts   doubts      // see DoubtedNTACLs
	meant    meantOwners // see OtherNumbers
	syncs    shared

	temps    atomic.Uint64 // names of named temps
	privMu   sync.Mutex    // one WritePrivate at a time
	noAtPath atomic.Bool   // linkat by AT_EMPTY_PATH was refused
	past     pastCache
	amended  metaMemo // what objects had whose metadata are set
	given    metaMemo // what they are given
}

var _ Volume = (*Disk)(nil)

// Open opens the directory root as a volume and measures what its filesystem
// can do. The path may lead through links that are believed (OpenRoot, Options.AnyLink);
// it is looked at again by Root.
func Open(root string, opts Options) (*Disk, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open volume %q: %w", root, err)
	}
	v := &Disk{path: abs, open: openRoot, owners: opts.Owners, names: opts.Names, optional: opts.Optional}
	if opts.AnyLink {
		v.open = openFollowing
	}
	if v.fd, err = v.open(abs); err != nil {
		return nil, fail("open volume", abs, err)
	}
	if v.names == nil {
		v.names = new(System)
	}
	if err := v.prepare(opts); err != nil {
		return nil, errors.Join(fail("open volume", abs, err), unix.Close(v.fd))
	}
	return v, nil
}

// prepare learns what the root and its filesystem are.
func (v *Disk) prepare(opts Options) error {
	var c cname
	var st unix.Statx_t
	if err := statAt(v.fd, &c, &st); err != nil {
		return err
	}
	v.dev = unix.Mkdev(st.Dev_major, st.Dev_minor)
	if st.Mask&unix.STATX_MNT_ID != 0 {
		v.mount = st.Mnt_id
	}
	if err := v.measureFilesystem(); err != nil {
		return err
	}
	root, err := v.describe(v.fd, "")
	if err != nil {
		return err
	}
	v.root = root
	v.features.BirthTimes = root.Identity.Birth != 0
	if opts.Create {
		if err := v.createPrivate(); err != nil {
			return err
		}
	}
	if opts.ReadOnly {
		return nil
	}
	return v.measurePrivate()
}

// Path returns the absolute path that the volume was opened by.
func (v *Disk) Path() string { return v.path }

// Root opens the root directory and checks that its path still leads to it.
func (v *Disk) Root() (Dir, error) {
	fd, err := v.open(v.path)
	if err != nil {
		return nil, &OpError{Op: "open root", Name: v.path, Kind: ErrUnmounted, Err: err}
	}
	now, err := v.describe(fd, "")
	if err == nil && now.Identity == v.root.Identity {
		return &dir{v: v, fd: newFD(fd), name: ".", root: true}, nil
	}
	return nil, errors.Join(&OpError{Op: "open root", Name: v.path, Kind: ErrUnmounted, Err: err}, unix.Close(fd))
}

// OpenDir opens the directory at path beneath the root.
func (v *Disk) OpenDir(path string) (Dir, error) {
	const op = "open directory"
	if err := checkPath(path); err != nil {
		return nil, refuse(op, path, err)
	}
	if path == "." {
		return v.Root()
	}
	if first, _, _ := strings.Cut(path, "/"); v.hides(first) {
		return nil, refuse(op, path, ErrNotExist)
	}
	fd, err := openPath(v.fd, path)
	if err != nil {
		return nil, fail(op, path, err)
	}
	return v.newDir(op, fd, path, false)
}

// newDir takes over fd, a directory that was opened beneath the root.
func (v *Disk) newDir(op string, fd int, name string, private bool) (Dir, error) {
	var c cname
	var st unix.Statx_t
	err := statAt(fd, &c, &st)
	if err == nil && v.foreign(&st) {
		err = unix.EXDEV
	}
	if err != nil {
		return nil, errors.Join(fail(op, name, err), unix.Close(fd))
	}
	return &dir{v: v, fd: newFD(fd), name: name, private: private}, nil
}

// hides reports whether name is the private area's in the root.
func (v *Disk) hides(name string) bool {
	return name == privateName || v.features.CaseFold && strings.EqualFold(name, privateName)
}

// Private opens a directory of the private area.
func (v *Disk) Private(p Private) (Dir, error) {
	const op = "open private directory"
	if err := checkName(string(p)); err != nil {
		return nil, refuse(op, string(p), err)
	}
	path := privateName + "/" + string(p)
	fd, err := openPath(v.fd, path)
	if err != nil {
		return nil, fail(op, path, err)
	}
	return v.newDir(op, fd, path, true)
}

// Sync is syncfs. Who comes while one runs shares the next with all who do: it
// begins after what they wrote.
func (v *Disk) Sync() error {
	err := v.syncs.share(func() error { return unix.Syncfs(v.fd) })
	return fail("sync filesystem of", v.path, err)
}

// Free returns the bytes this process may still write and the volume's size.
func (v *Disk) Free() (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(v.fd, &st); err != nil {
		return 0, 0, fail("free space of", v.path, err)
	}
	unit := uint64(st.Frsize)
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	return st.Bavail * unit, st.Blocks * unit, nil
}

// NameMax is what the filesystem says; eCryptfs holds names of 143 bytes.
func (v *Disk) NameMax() int { return v.features.nameMax }

// Close closes the root; open Dirs, Files and Temps stay their owners'.
func (v *Disk) Close() error { return fail("close volume", v.path, unix.Close(v.fd)) }

// openPath opens the directory path beneath dirfd, in pieces where the kernel
// would find the path too long.
func openPath(dirfd int, path string) (int, error) {
	at := dirfd
	for {
		piece, rest := path, ""
		if len(path) > pathChunk {
			cut := strings.LastIndexByte(path[:pathChunk], '/')
			if cut < 0 {
				cut = strings.IndexByte(path, '/')
			}
			if cut < 0 {
				cut = len(path)
			}
			piece, rest = path[:cut], strings.TrimPrefix(path[cut:], "/")
		}
		fd, err := openBeneath(at, piece, unix.O_RDONLY|unix.O_DIRECTORY)
		if at != dirfd {
			err = errors.Join(err, unix.Close(at))
		}
		if err != nil || rest == "" {
			return fd, err
		}
		at, path = fd, rest
	}
}

// openBeneath is openat2 under resolveFlags, close-on-exec.
func openBeneath(dirfd int, path string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolveFlags}
	return retry(func() (int, error) { return unix.Openat2(dirfd, path, &how) })
}

// retry repeats a call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// checkPath reports ErrEscapes for anything but "." and clean relative paths.
func checkPath(path string) error {
	if path == "." {
		return nil
	}
	for {
		first, rest, more := strings.Cut(path, "/")
		if err := checkName(first); err != nil {
			return err
		}
		if !more {
			return nil
		}
		path = rest
	}
}

// checkName reports ErrEscapes for what is not one path component.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return ErrEscapes
	}
	return nil
}

// descriptor is a file descriptor that can be closed once.
type descriptor struct{ n atomic.Int32 }

func newFD(fd int) *descriptor {
	d := new(descriptor)
	d.n.Store(int32(fd))
	return d
}

// get returns the descriptor, -1 (EBADF for every call) after close.
func (d *descriptor) get() int { return int(d.n.Load()) }

func (d *descriptor) close() error {
	fd := d.n.Swap(-1)
	if fd < 0 {
		return unix.EBADF
	}
	return unix.Close(int(fd))
}

// procPath is a path to what fd has open, for calls that take no descriptor.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
