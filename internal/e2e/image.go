package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// image is a filesystem in a file, behind a loop device with direct I/O: what is written to the file is what a disk would have got.
type image struct {
	t      testing.TB
	file   string
	point  string
	loop   string
	kind   string
	option string // of mount(8), "" for the defaults
}

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// newImage makes a filesystem (ext4, xfs, btrfs; mkfs defaults) of size bytes in file and mounts it at point. A tmpfs has no file.
func newImage(t testing.TB, kind, file, point string, size int64) *image {
	t.Helper()
	im := &image{t: t, file: file, point: point, kind: kind}
	if kind == "tmpfs" {
		needRoot(t)
		must(t, "mkdir", "-p", point)
		must(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "tmpfs", point)
		t.Cleanup(im.discard)
		return im
	}
	needRoot(t, "losetup", "mkfs."+kind)
	for _, dir := range []string{filepath.Dir(file), point} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	args := []string{"-q", file}
	if kind == "xfs" {
		// A backing file that shares extents has sectors of 4 KiB, and a snapshot is one.
		args = []string{"-q", "-s", "size=4096", file}
	}
	must(t, "mkfs."+kind, args...)
	t.Cleanup(im.discard)
	im.mount()
	return im
}

// mount attaches the file to a loop device and mounts it.
func (im *image) mount() {
	im.t.Helper()
	im.loop = strings.TrimSpace(must(im.t, "losetup", "-f", "--show", "--direct-io=on", im.file))
	args := []string{im.loop, im.point}
	if im.option != "" {
		args = append(args, "-o", im.option)
	}
	must(im.t, "mount", args...)
	if im.kind == "ext4" {
		_, err := os.Stat("/proc/fs/jbd2/" + filepath.Base(im.loop) + "-8")
		if err != nil {
			im.t.Fatalf("%s has no journal: %v", im.loop, err)
		}
	}
}

// discard unmounts, whoever still stands in it, and removes the file.
func (im *image) discard() {
	if im.kind == "tmpfs" {
		_, _ = try("umount", "-l", im.point)
	}
	if im.loop != "" {
		_, _ = try("umount", "-l", im.point)
		_, _ = try("losetup", "-d", im.loop)
		im.loop = ""
	}
	_ = os.Remove(im.file)
}

// remount changes the options of the mounted filesystem: "ro", "rw".
func (im *image) remount(option string) {
	im.t.Helper()
	must(im.t, "mount", "-o", "remount,"+option, im.point)
}

// snapshot copies the backing file as it is at this moment into to. The file has to lie on a filesystem that shares extents: only then is
// the copy one moment's, while the kernel goes on writing to the original.
func (im *image) snapshot(to string) {
	im.t.Helper()
	src, err := os.Open(im.file)
	if err != nil {
		im.t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		im.t.Fatal(err)
	}
	defer dst.Close()
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		im.t.Fatalf("clone %s: %v", im.file, err)
	}
}

// become throws the running filesystem away and mounts another backing file in its place, as a machine does that lost its power.
func (im *image) become(file string) {
	im.t.Helper()
	must(im.t, "umount", im.point)
	must(im.t, "losetup", "-d", im.loop)
	im.loop = ""
	if err := os.Rename(file, im.file); err != nil {
		im.t.Fatal(err)
	}
	im.mount()
}

// disks is a filesystem that shares extents, for the backing files of others.
func disks(t testing.TB, dir string, size int64) string {
	t.Helper()
	point := filepath.Join(dir, "disks")
	newImage(t, "xfs", filepath.Join(dir, "disks.img"), point, size)
	return point
}

// String names the filesystem and its device.
func (im *image) String() string { return fmt.Sprintf("%s on %s at %s", im.kind, im.loop, im.point) }
