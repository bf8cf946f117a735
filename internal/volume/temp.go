package volume

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"

	"opendfs/internal/repl"

	"golang.org/x/sys/unix"
)

// reserveFrom is the size from which a Temp's space is allocated ahead, so
// that a full disk is known before the content travels.
const reserveFrom = 1 << 20

// writeAhead is how much of a Temp may be dirty before the kernel is told to
// write it, so that the disk works beside what brings the content and Sync finds
// little left to do.
const writeAhead = 8 << 20

// temp is a file under construction. Where the filesystem has no nameless
// files it has a name in staging, which Link takes away and Close removes.
type temp struct {
	v       *Disk
	fd      *descriptor
	staging *descriptor // only of a named one
	name    string      // in staging; empty if nameless
	linked  bool
	sparse  sparse
	handle  string // once it was asked for

	telling atomic.Bool    // the kernel is being told
	told    sync.WaitGroup // Close waits for that
}

// wrote tells the kernel to begin writing once there is enough. Nobody but Close
// waits for it, and nothing depends on it: handing a GiB to the disk takes the kernel
// longer (0.25 to 0.3 s) than taking it from us (0.17 s).
func (t *temp) wrote() {
	if t.sparse.cached < writeAhead || !t.telling.CompareAndSwap(false, true) {
		return
	}
	t.sparse.cached = 0
	t.told.Go(func() {
		_ = unix.SyncFileRange(t.fd.get(), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
		t.telling.Store(false)
	})
}

const tempLabel = "new file"

// NewTemp makes a nameless file in staging. From reserveFrom bytes on its space
// is allocated at once: ENOSPC or EDQUOT if there is none.
func (v *Disk) NewTemp(size int64, meta []byte) (Temp, error) {
	t, err := v.makeTemp(madeWith(meta))
	if err != nil {
		return nil, fail("make", tempLabel, err)
	}
	t.sparse.fd = t.fd
	t.sparse.reserved = v.features.Filesystem == "xfs" // which allocates behind what is written, unasked
	if size >= reserveFrom {
		err := unix.Fallocate(t.fd.get(), unix.FALLOC_FL_KEEP_SIZE, 0, size)
		t.sparse.reserved = t.sparse.reserved || err == nil
		if err != nil && err != unix.EOPNOTSUPP && err != unix.ENOSYS && err != unix.EINTR {
			return nil, errors.Join(fail("reserve "+strconv.FormatInt(size, 10)+" bytes for", tempLabel, err), t.Close())
		}
	}
	return t, nil
}

// madeWith is the mode that a Temp is made with: what is to be set, as far as its owner
// can work with it meanwhile. Nobody else reaches it before it is linked.
func madeWith(meta []byte) uint64 {
	const owners, permissions = 0o600, 0o777
	return uint64(modeOf(meta)&permissions | owners)
}

func (v *Disk) makeTemp(mode uint64) (*temp, error) {
	const staging = privateName + "/" + string(Staging)
	if v.features.Tmpfile {
		how := unix.OpenHow{Flags: unix.O_TMPFILE | unix.O_RDWR | unix.O_CLOEXEC, Mode: mode, Resolve: resolveFlags}
		fd, err := retry(func() (int, error) { return unix.Openat2(v.fd, staging, &how) })
		if err != nil {
			return nil, err
		}
		return &temp{v: v, fd: newFD(fd)}, nil
	}
	at, err := openPath(v.fd, staging)
	if err != nil {
		return nil, err
	}
	how := unix.OpenHow{Flags: unix.O_CREAT | unix.O_EXCL | unix.O_RDWR | unix.O_CLOEXEC, Mode: mode, Resolve: resolveFlags}
	for {
		name := "temp-" + strconv.FormatUint(v.temps.Add(1), 10)
		fd, err := retry(func() (int, error) { return unix.Openat2(at, name, &how) })
		if err == nil {
			return &temp{v: v, fd: newFD(fd), staging: newFD(at), name: name}, nil
		}
		if err != unix.EEXIST { // left by an earlier run: the next number
			return nil, errors.Join(err, unix.Close(at))
		}
	}
}

func (t *temp) Write(p []byte) (int, error) {
	if err := t.sparse.append(p); err != nil {
		return 0, fail("write", tempLabel, err)
	}
	t.wrote()
	return len(p), nil
}

// WriteAt takes what is put together of an old version: long pieces of it go past the
// kernel's cache.
func (t *temp) WriteAt(p []byte, off int64) (int, error) {
	t.sparse.past = &t.v.past
	if err := t.sparse.place(p, off); err != nil {
		return 0, fail("write", tempLabel, err)
	}
	t.wrote()
	return len(p), nil
}

func (t *temp) ReadAt(p []byte, off int64) (int, error) {
	if err := t.sparse.finish(); err != nil {
		return 0, fail("write", tempLabel, err)
	}
	return readAt(t.fd.get(), tempLabel, p, off)
}

// Share is FICLONERANGE.
func (t *temp) Share(src File, from, at, n int64) (first, past int64, err error) {
	f, ok := src.(*file)
	if !ok || f.v != t.v || !t.v.features.Reflink || from < 0 || at < 0 {
		return at, at, nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(t.fd.get(), &st); err != nil {
		return at, at, fail("share with", tempLabel, err)
	}
	block := max(st.Bsize, 1)
	if (from-at)%block != 0 {
		return at, at, nil
	}
	first, past = (at+block-1)/block*block, (at+n)/block*block
	if past <= first {
		return at, at, nil
	}
	arg := unix.FileCloneRange{
		Src_fd: int64(f.fd.get()), Src_offset: uint64(from + first - at), Src_length: uint64(past - first), Dest_offset: uint64(first),
	}
	if err := t.sparse.finish(); err != nil {
		return at, at, fail("write", tempLabel, err)
	}
	switch err := unix.IoctlFileCloneRange(t.fd.get(), &arg); err {
	case nil:
		t.sparse.reach(past)
		return first, past, nil
	case unix.ENOSPC, unix.EDQUOT, unix.EIO:
		return at, at, fail("share with", tempLabel, err)
	}
	return at, at, nil // refused for this file: it is copied
}

// Name gives t a name in staging while it is made, so that what there is of it is
// found there if this process ends before it is done. Link takes the name away, and
// Close, unless Leave was called, removes it. ErrExist if the name is taken.
func (t *temp) Name(name string) error {
	const op = "name new file"
	if t.name != "" || t.linked {
		return refuse(op, name, errLinked)
	}
	at, err := openPath(t.v.fd, privateName+"/"+string(Staging))
	if err != nil {
		return fail(op, name, err)
	}
	if err := t.linkNameless(at, name); err != nil {
		return fail(op, name, errors.Join(err, unix.Close(at)))
	}
	t.staging, t.name = newFD(at), name
	return nil
}

// Leave lets a Temp that was given a name keep it: Close only closes.
func (t *temp) Leave() { t.linked = t.linked || t.name != "" }

func (t *temp) SetMeta(meta []byte, mtime repl.Time) ([]string, error) {
	m, err := DecodeMeta(meta)
	if err == nil {
		err = t.sparse.finish()
	}
	if err != nil {
		return nil, fail("set metadata of", tempLabel, err)
	}
	o := object{fd: t.fd.get()}
	now, err := t.v.again(o.fd, "") // nobody else knows the file
	if err != nil {
		return nil, fail("set metadata of", tempLabel, err)
	}
	lacks, err := t.v.apply(o, now, m, mtime, nil)
	return lacks, fail("set metadata of", tempLabel, err)
}

func (t *temp) Stat() (Stat, error) {
	if err := t.sparse.finish(); err != nil {
		return Stat{}, fail("write", tempLabel, err)
	}
	s, err := t.v.known(t.fd.get(), &t.handle)
	return s, fail("stat", tempLabel, err)
}

func (t *temp) Sync() error {
	if err := t.sparse.finish(); err != nil {
		return fail("write", tempLabel, err)
	}
	return fail("sync", tempLabel, unix.Fsync(t.fd.get()))
}

// Link gives t its name in d. The file keeps being t's: it can still be read,
// and Close only closes it.
func (d *dir) Link(t Temp, name string) error {
	const op = "link new file as"
	if err := d.place(op, name); err != nil {
		return err
	}
	own, ok := t.(*temp)
	if !ok {
		return refuse(op, name, ErrMount)
	}
	if own.linked {
		return refuse(op, name, errLinked)
	}
	err := own.sparse.finish()
	if err != nil {
		return fail(op, name, err)
	}
	if own.name == "" {
		err = own.linkNameless(d.fd.get(), name)
	} else {
		err = own.linkNamed(d.fd.get(), name)
	}
	if err != nil {
		return fail(op, name, err)
	}
	own.linked = true
	return nil
}

var errLinked = errors.New("it has its name already")

func (t *temp) linkNameless(dirfd int, name string) error {
	if !t.v.noAtPath.Load() {
		err := unix.Linkat(t.fd.get(), "", dirfd, name, unix.AT_EMPTY_PATH)
		if err != unix.ENOENT { // ENOENT: no CAP_DAC_READ_SEARCH
			return err
		}
	}
	err := unix.Linkat(unix.AT_FDCWD, procPath(t.fd.get()), dirfd, name, unix.AT_SYMLINK_FOLLOW)
	if err == nil {
		t.v.noAtPath.Store(true)
	}
	return err
}

// linkNamed moves a named temp. A filesystem without RENAME_NOREPLACE takes
// the longer way, which refuses a taken place as well.
func (t *temp) linkNamed(dirfd int, name string) error {
	at := t.staging.get()
	err := unix.Renameat2(at, t.name, dirfd, name, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	if err := unix.Linkat(at, t.name, dirfd, name, 0); err != nil {
		return err
	}
	return unix.Unlinkat(at, t.name, 0)
}

func (t *temp) Close() error {
	t.told.Wait()
	err := t.fd.close()
	if t.staging != nil {
		if !t.linked {
			err = errors.Join(err, unix.Unlinkat(t.staging.get(), t.name, 0))
		}
		err = errors.Join(err, t.staging.close())
	}
	return fail("close", tempLabel, err)
}
