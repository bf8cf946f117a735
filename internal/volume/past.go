package volume

import (
	"bytes"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// pastFrom is how much must be read or written at once for it to go past the
// kernel's cache: less costs the disk more than it spares the memory (ext4, 1 GiB:
// 0.4 to 0.55 s by the MiB, 0.8 to 1.6 s by 128 KiB).
const pastFrom = 1 << 20

// pastCache reads and writes long stretches of large files without leaving them in
// the kernel's cache (RWF_DONTCACHE): a new version of a large file must not drive out
// what users work with, and the memory that it passes through is the same few MiB
// over and over. Fresh memory for all of it is not free: a guest whose host has
// taken back what was free pays three seconds a GiB. What is in the cache already
// is used and stays. What is written is on its way to the disk at once, so that Sync
// finds little left to do; its errors come with Sync, as ever.
//
// A kernel or filesystem that cannot do it is asked once.
type pastCache struct{ refused atomic.Bool }

// pread is pread(2).
func (c *pastCache) pread(fd int, p []byte, off int64) (int, error) {
	if c.takes(p) {
		n, err := retry(func() (int, error) { return unix.Preadv2(fd, [][]byte{p}, off, unix.RWF_DONTCACHE) })
		if !c.refuses(err) {
			return n, err
		}
	}
	return retry(func() (int, error) { return unix.Pread(fd, p, off) })
}

// pwrite is pwrite(2).
func (c *pastCache) pwrite(fd int, p []byte, off int64) (int, error) {
	if c.takes(p) {
		n, err := retry(func() (int, error) { return unix.Pwritev2(fd, [][]byte{p}, off, unix.RWF_DONTCACHE) })
		if !c.refuses(err) {
			return n, err
		}
	}
	return retry(func() (int, error) { return unix.Pwrite(fd, p, off) })
}

func (c *pastCache) takes(p []byte) bool { return c != nil && len(p) >= pastFrom && !c.refused.Load() }

func (c *pastCache) refuses(err error) bool {
	if err != unix.EOPNOTSUPP && err != unix.ENOSYS && err != unix.EINVAL {
		return false
	}
	c.refused.Store(true)
	return true
}

// firstPast is the first Linux whose RWF_DONTCACHE is asked for: 6.14 has it, with
// pages freed too early by writes, which 6.15 shut off and 6.16 mended.
var firstPast = [2]int{6, 17}

// try finds out whether the kernel's is to be used at all.
func (c *pastCache) try() {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		c.refused.Store(true)
		return
	}
	major, rest, _ := bytes.Cut(u.Release[:], []byte{'.'})
	minor := rest[:len(rest)-len(bytes.TrimLeft(rest, "0123456789"))]
	a, err1 := strconv.Atoi(string(major))
	b, err2 := strconv.Atoi(string(minor))
	c.refused.Store(err1 != nil || err2 != nil || a < firstPast[0] || a == firstPast[0] && b < firstPast[1])
}
