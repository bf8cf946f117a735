package volume_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
	"opendfs/internal/volume/volumetest"

	"golang.org/x/sys/unix"
)

// hand is the user of a real tree.
type hand string

func (h hand) at(path string) string                 { return filepath.Join(string(h), path) }
func (h hand) Mkdir(path string) error               { return os.Mkdir(h.at(path), 0o755) }
func (h hand) WriteFile(path string, b []byte) error { return os.WriteFile(h.at(path), b, 0o644) }
func (h hand) Rename(from, to string) error          { return os.Rename(h.at(from), h.at(to)) }
func (h hand) Remove(path string) error              { return os.Remove(h.at(path)) }
func (h hand) Symlink(target, path string) error     { return os.Symlink(target, h.at(path)) }
func (h hand) Link(from, to string) error            { return os.Link(h.at(from), h.at(to)) }
func (h hand) Chmod(path string, mode uint32) error  { return unix.Chmod(h.at(path), mode) }
func (h hand) Pipe(path string) error                { return unix.Mkfifo(h.at(path), 0o600) }
func (h hand) OpenForWrite(path string) (io.WriteCloser, error) {
	return os.OpenFile(h.at(path), os.O_WRONLY, 0)
}

// contract runs the suite on volumes below the directory base.
func contract(t *testing.T, base string) {
	volumetest.Test(t, func(t *testing.T) volumetest.Subject {
		root, err := os.MkdirTemp(base, "root")
		if err != nil {
			t.Fatal(err)
		}
		v, err := volume.Open(root, volume.Options{Create: true})
		if err != nil {
			t.Fatal(err)
		}
		f := v.Features()
		s := volumetest.Subject{Volume: v, User: hand(root), Resolves: f.Privileged, Leases: f.Leases, Shares: f.Reflink, Attrs: f.Xattrs}
		if os.Geteuid() == 0 {
			s.Mount = func(t *testing.T, path string) { mountOver(t, filepath.Join(root, path)) }
		}
		return s
	})
}

// mountOver mounts a tmpfs on dir until the test ends.
func mountOver(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

func TestDiskKeepsTheContract(t *testing.T) { contract(t, t.TempDir()) }

func TestDiskKeepsTheContractInMemory(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "volume")
	if err != nil {
		t.Skipf("no tmpfs at /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	contract(t, dir)
}

// TestDiskKeepsTheContractOnImages runs the suite on fresh filesystems.
func TestDiskKeepsTheContractOnImages(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts images")
	}
	for _, mkfs := range [][]string{
		{"mkfs.ext4", "-q", "-F"},
		{"mkfs.xfs", "-q", "-f"},
		{"mkfs.btrfs", "-q", "-f"},
	} {
		t.Run(mkfs[0], func(t *testing.T) { contract(t, image(t, mkfs...)) })
	}
}

// image makes a filesystem in a file and mounts it until the test ends.
func image(t *testing.T, mkfs ...string) string {
	t.Helper()
	if _, err := exec.LookPath(mkfs[0]); err != nil {
		t.Skipf("%s is not installed", mkfs[0])
	}
	dir := t.TempDir()
	file, at := filepath.Join(dir, "image"), filepath.Join(dir, "mounted")
	err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 400<<20), os.Mkdir(at, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], file)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", mkfs[0], err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", file, at).CombinedOutput(); err != nil {
		t.Skipf("mount an image: %v: %s", err, out)
	}
	t.Cleanup(func() {
		out, err := exec.Command("umount", at).CombinedOutput()
		if err != nil && t.Failed() { // a story that broke off has left things open
			out, err = exec.Command("umount", "-l", at).CombinedOutput()
		}
		if err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return at
}

// An object that was given the inode of the one on record is not taken for it, and one
// that is still there is recognised.
func TestAnInodeGivenAgainIsNotRecognised(t *testing.T) {
	root := hand(t.TempDir())
	v, err := volume.Open(string(root), volume.Options{Create: true})
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(err)
	d, err := v.Root()
	ok(err)
	defer d.Close() //nolint:errcheck // it was only read
	ok(root.WriteFile("f", nil))
	was, err := d.Lookup("f")
	ok(err)
	if was.Identity.Handle == "" || was.Identity.Birth == 0 {
		t.Skip("this filesystem has no handles or no times of birth")
	}
	for was.Print.Ctime < was.Identity.Birth+repl.Time(30*time.Millisecond) {
		ok(os.Chmod(root.at("f"), 0o600))
		is, err := d.Recognize("f", was.Identity, was.Print.Ctime)
		ok(err)
		if is.Identity != was.Identity {
			t.Fatalf("%v is recognised as %v", was.Identity, is.Identity)
		}
		was = is
	}
	inode := func() uint64 {
		t.Helper()
		var st unix.Stat_t
		ok(unix.Stat(root.at("f"), &st))
		return st.Ino
	}
	old, again := inode(), 0
	for range 50 {
		ok(os.Remove(root.at("f")))
		ok(root.WriteFile("f", nil))
		if inode() == old {
			again++
		}
		is, err := d.Recognize("f", was.Identity, was.Print.Ctime)
		ok(err)
		now, err := d.Lookup("f")
		ok(err)
		if is != now || is.Identity == was.Identity {
			t.Fatalf("%v is recognised as %v and was %v", now.Identity, is.Identity, was.Identity)
		}
	}
	t.Logf("the inode was given again %d times of 50", again)
}
