package volume

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// handleKind says which file handles a filesystem gives.
type handleKind uint8

const (
	noHandles   handleKind = iota
	fidHandles             // identify only (AT_HANDLE_FID): Resolve is impossible
	fullHandles            // can be opened
)

// Features are what a volume's filesystem and this process's rights allow, as
// tried when the volume was opened. What needs a name to be tried is false on
// a volume without private area.
type Features struct {
	Filesystem string // ext4, xfs, btrfs, tmpfs, overlay, nfs, …; 0xHEX if unknown
	Network    bool   // other machines can change it unseen by this kernel
	Handles    bool   // objects have file handles
	Privileged bool   // handles can be opened: Resolve works
	BirthTimes bool
	Tmpfile    bool // nameless files
	Exchange   bool // rename without replacing and exchange
	Leases     bool // Writable can be told
	Xattrs     bool // user.* attributes
	ACLs       bool // POSIX ACLs
	Reflink    bool // files can share extents
	CaseFold   bool // a.txt and A.TXT are one name, at least in the private area

	handles handleKind
	xattrAt bool // the kernel reads attributes by directory and name (Linux 6.13)
	nameMax int  // bytes in a name
}

// Features returns what the volume can do.
func (v *Disk) Features() Features { return v.features }

// filesystems names the filesystems a folder may be met on, by statfs magic.
// The network ones are those whose changes can come from elsewhere.
var filesystems = map[uint32]struct {
	name    string
	network bool
}{
	unix.EXT4_SUPER_MAGIC:      {"ext4", false},
	unix.XFS_SUPER_MAGIC:       {"xfs", false},
	unix.BTRFS_SUPER_MAGIC:     {"btrfs", false},
	unix.TMPFS_MAGIC:           {"tmpfs", false},
	unix.OVERLAYFS_SUPER_MAGIC: {"overlay", false},
	unix.F2FS_SUPER_MAGIC:      {"f2fs", false},
	unix.BCACHEFS_SUPER_MAGIC:  {"bcachefs", false},
	unix.MSDOS_SUPER_MAGIC:     {"vfat", false},
	0x2fc12fc1:                 {"zfs", false},
	unix.FUSE_SUPER_MAGIC:      {"fuse", true},
	unix.NFS_SUPER_MAGIC:       {"nfs", true},
	unix.CIFS_SUPER_MAGIC:      {"cifs", true},
	unix.SMB_SUPER_MAGIC:       {"smb", true},
	unix.SMB2_SUPER_MAGIC:      {"smb", true},
	unix.CEPH_SUPER_MAGIC:      {"ceph", true},
	unix.AFS_SUPER_MAGIC:       {"afs", true},
	unix.AFS_FS_MAGIC:          {"afs", true},
	unix.CODA_SUPER_MAGIC:      {"coda", true},
	unix.NCP_SUPER_MAGIC:       {"ncp", true},
	unix.V9FS_MAGIC:            {"9p", true},
	unix.OCFS2_SUPER_MAGIC:     {"ocfs2", true},
	0x01161970:                 {"gfs2", true},
	0x0bd00bd0:                 {"lustre", true},
	0x47504653:                 {"gpfs", true},
	0x786f4256:                 {"vboxsf", true},
}

// measureFilesystem finds out what needs nothing but the root.
func (v *Disk) measureFilesystem() error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(v.fd, &st); err != nil {
		return err
	}
	f := &v.features
	if f.nameMax = nameMax; st.Namelen > 0 {
		f.nameMax = int(min(st.Namelen, nameMax))
	}
	magic := uint32(st.Type)
	known, ok := filesystems[magic]
	f.Filesystem, f.Network = known.name, known.network
	if !ok {
		f.Filesystem = "0x" + strconv.FormatUint(uint64(magic), 16)
	}
	var here cname
	var h fileHandle
	switch {
	case handleAt(v.fd, &here, fullHandles, &h) == nil:
		f.handles = fullHandles
	case handleAt(v.fd, &here, fidHandles, &h) == nil:
		f.handles = fidHandles
	}
	f.Handles = f.handles != noHandles
	f.xattrAt = knowsXattrAt(v.fd)
	v.past.try()
	if f.handles == fullHandles {
		if fd, err := openHandle(v.fd, h.text(), unix.O_PATH); err == nil {
			f.Privileged = true
			return unix.Close(fd)
		}
	}
	return nil
}

// Names that measuring makes and removes in staging.
const (
	probeOne   = "probe-one"
	probeTwo   = "probe-two"
	probeThree = "probe-three"
)

// measurePrivate tries what needs names, in staging.
func (v *Disk) measurePrivate() error {
	dirfd, err := openPath(v.fd, privateName+"/"+string(Staging))
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	v.probe(dirfd)
	for _, name := range []string{probeOne, probeTwo, probeThree} {
		_ = unix.Unlinkat(dirfd, name, 0) // most were never made
	}
	return unix.Close(dirfd)
}

// ownersOnly is an ACL that says no more than mode 0600.
var ownersOnly = []byte{
	2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 0, 0, 255, 255, 255, 255, 0x20, 0, 0, 0, 255, 255, 255, 255,
}

// probe tries one thing after the other; a refusal is an answer. A filesystem
// that takes no file at all, being full or read-only, is assumed able where
// trying later gives a clear error.
func (v *Disk) probe(dirfd int) {
	f := &v.features
	how := unix.OpenHow{Flags: unix.O_TMPFILE | unix.O_RDWR | unix.O_CLOEXEC, Mode: 0o600}
	fd, err := unix.Openat2(dirfd, ".", &how)
	f.Tmpfile = err == nil || err == unix.ENOSPC || err == unix.EDQUOT || err == unix.EROFS
	if err == nil {
		_ = unix.Close(fd)
	}
	one, err := probeFile(dirfd, probeOne)
	if err != nil {
		f.Exchange, f.Leases, f.Xattrs, f.ACLs = true, f.Filesystem != "overlay", true, true
		return
	}
	defer func() { _ = unix.Close(one) }()
	var st unix.Stat_t
	f.CaseFold = unix.Fstatat(dirfd, "PROBE-ONE", &st, unix.AT_SYMLINK_NOFOLLOW) == nil
	f.Xattrs = unix.Fsetxattr(one, "user.dfs", []byte{1}, 0) == nil
	f.ACLs = unix.Fsetxattr(one, aclAccess, ownersOnly, 0) == nil
	two, err := probeFile(dirfd, probeTwo)
	if err != nil {
		f.Exchange = true
		return
	}
	f.Reflink = unix.IoctlFileClone(two, one) == nil
	_ = unix.Close(two)
	f.Exchange = unix.Renameat2(dirfd, probeOne, dirfd, probeTwo, unix.RENAME_EXCHANGE) == nil &&
		unix.Renameat2(dirfd, probeOne, dirfd, probeThree, unix.RENAME_NOREPLACE) == nil
	if f.Filesystem == "overlay" {
		return // it grants a lease over somebody's writable mapping
	}
	if ro, err := unix.Openat(dirfd, probeTwo, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		// one is open for writing: a filesystem that can tell refuses, then grants.
		refused := lease(ro) == unix.EAGAIN
		_ = unix.Close(ro)
		f.Leases = refused
	}
}

// probeFile makes a small file whose content has blocks to share.
func probeFile(dirfd int, name string) (int, error) {
	fd, err := unix.Openat(dirfd, name, unix.O_CREAT|unix.O_TRUNC|unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, err
	}
	if _, err := unix.Pwrite(fd, make([]byte, 8192), 0); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}
