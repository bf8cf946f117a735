package volume_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/volume"

	"golang.org/x/sys/unix"
)

func open(t *testing.T, root string) *volume.Disk {
	t.Helper()
	v, err := volume.Open(root, volume.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func rootOf(t *testing.T, v *volume.Disk) volume.Dir {
	t.Helper()
	d, err := v.Root()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// TestContractWithoutPrivilege runs the suite as nobody, in a process of its own.
func TestContractWithoutPrivilege(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this process has no privilege anyway")
	}
	dir, err := os.MkdirTemp("", "unprivileged")
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	check(t, err)
	exe := filepath.Join(dir, "volume.test")
	check(t, errors.Join(os.WriteFile(exe, self, 0o755), os.Chmod(dir, 0o777)))
	cmd := exec.Command(exe, "-test.run", "^(TestDiskKeepsTheContract|TestLacksAreNamed)$", "-test.v")
	cmd.Dir, cmd.Env = dir, []string{"TMPDIR=" + dir}
	if shm, err := os.MkdirTemp("/dev/shm", "unprivileged"); err == nil { // many files are quicker there
		t.Cleanup(func() { _ = os.RemoveAll(shm) })
		check(t, os.Chmod(shm, 0o777))
		cmd.Env = []string{"TMPDIR=" + shm}
	}
	const nobody = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: TestLacksAreNamed") {
		t.Fatalf("as nobody: %v\n%s", err, out)
	}
}

// TestLacksAreNamed: what a process may not set is left out, and said.
func TestLacksAreNamed(t *testing.T) {
	v := open(t, t.TempDir())
	root := rootOf(t, v)
	m := volume.Meta{Mode: 0o640, Owner: 4711, Group: 4712, Xattrs: []volume.Xattr{{Name: "security.NTACL", Value: []byte("acl")}}}
	b, err := m.Encode()
	check(t, err)
	tmp, err := v.NewTemp(0, nil)
	check(t, err)
	lacks, err := tmp.SetMeta(b, 5)
	check(t, err)
	check(t, root.Link(tmp, "f"))
	check(t, tmp.Close())
	want := "owner group xattr security.NTACL"
	if os.Geteuid() == 0 {
		want = ""
	}
	if got := strings.Join(lacks, " "); got != want {
		t.Fatalf("lacks %q, want %q", got, want)
	}
	st, err := root.Lookup("f")
	check(t, err)
	if st.Mode != 0o640 || st.Print.Mtime != 5 {
		t.Fatalf("what could be set was not: %+v", st)
	}
}

// TestAttributesThatDoNotFit: ext4 says ENOSPC when an inode's attributes are
// full; the disk is not, and replication must go on.
func TestAttributesThatDoNotFit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts images")
	}
	v := open(t, image(t, "mkfs.ext4", "-q", "-F"))
	root := rootOf(t, v)
	check(t, root.Mkdir("d"))
	m := volume.Meta{Mode: 0o755, Xattrs: []volume.Xattr{{Name: "user.big", Value: make([]byte, 60000)}, {Name: "user.small", Value: []byte("s")}}}
	b, err := m.Encode()
	check(t, err)
	_, lacks, err := root.SetMeta("d", nil, b, 5)
	check(t, err)
	if len(lacks) != 1 || lacks[0] != "xattr user.big" {
		t.Fatalf("lacks %q", lacks)
	}
	got, err := root.Meta("d")
	check(t, err)
	if have, err := volume.DecodeMeta(got); err != nil || len(have.Xattrs) != 1 || have.Xattrs[0].Name != "user.small" {
		t.Fatalf("metadata %+v, error %v", have, err)
	}
}

// TestACLsTravel sets POSIX ACLs as bytes; the mode's group bits are the mask.
func TestACLsTravel(t *testing.T) {
	v := open(t, t.TempDir())
	root := rootOf(t, v)
	check(t, root.Mkdir("d"))
	entry := func(tag, perm uint16, id uint32) []byte {
		return []byte{byte(tag), byte(tag >> 8), byte(perm), byte(perm >> 8), byte(id), byte(id >> 8), byte(id >> 16), byte(id >> 24)}
	}
	const none = 0xffffffff
	acl := bytes.Join([][]byte{
		{2, 0, 0, 0}, entry(1, 7, none), entry(2, 5, 1234), entry(4, 0, none), entry(16, 5, none), entry(32, 0, none),
	}, nil)
	st, err := root.Stat()
	check(t, err)
	m := volume.Meta{Mode: 0o750, Owner: st.Owner, Group: st.Group, Xattrs: []volume.Xattr{
		{Name: "system.posix_acl_access", Value: acl}, {Name: "system.posix_acl_default", Value: acl},
	}}
	want, err := m.Encode()
	check(t, err)
	_, lacks, err := root.SetMeta("d", nil, want, 5)
	check(t, err)
	if len(lacks) != 0 {
		t.Skipf("this filesystem has no ACLs: %v", lacks)
	}
	got, err := root.Meta("d")
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("set %x, read %x", want, got)
	}
	// What is made inside inherits; metadata set on it take that away again.
	sub, err := root.OpenDir("d")
	check(t, err)
	check(t, sub.Mkdir("inner"))
	plain := volume.Meta{Mode: 0o700, Owner: st.Owner, Group: st.Group}
	want, err = plain.Encode()
	check(t, err)
	_, _, err = sub.SetMeta("inner", nil, want, 5)
	check(t, err)
	got, err = sub.Meta("inner")
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("set %x, read %x", want, got)
	}
	check(t, sub.Close())
}

func TestPrivateAreaInheritsNothing(t *testing.T) {
	base := t.TempDir()
	check(t, os.Chmod(base, 0o777|os.ModeSetgid))
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 7, 0, 255, 255, 255, 255, 32, 0, 7, 0, 255, 255, 255, 255}
	if err := unix.Setxattr(base, "system.posix_acl_default", acl, 0); err != nil {
		t.Skipf("this filesystem has no ACLs: %v", err)
	}
	v := open(t, base)
	for _, name := range []string{".dfsr", ".dfsr/staging", ".dfsr/conflicts"} {
		path := filepath.Join(base, name)
		fi, err := os.Stat(path)
		check(t, err)
		if fi.Mode() != os.ModeDir|0o700 {
			t.Errorf("%s has mode %v", name, fi.Mode())
		}
		if _, err := unix.Getxattr(path, "system.posix_acl_default", make([]byte, 100)); !errors.Is(err, unix.ENODATA) {
			t.Errorf("%s has a default ACL: %v", name, err)
		}
	}
	tmp, err := v.NewTemp(0, nil)
	check(t, err)
	if st, err := tmp.Stat(); err != nil || st.Mode != 0o600 {
		t.Fatalf("new file has mode %o, error %v", st.Mode, err)
	}
	check(t, tmp.Close())
}

func TestPrivateAreaOfAStranger(t *testing.T) {
	base := t.TempDir()
	check(t, os.Symlink("/", filepath.Join(base, ".dfsr")))
	_, err := volume.Open(base, volume.Options{Create: true})
	wants(t, err, volume.ErrEscapes)
	if os.Geteuid() != 0 {
		return
	}
	check(t, os.Remove(filepath.Join(base, ".dfsr")))
	check(t, os.Mkdir(filepath.Join(base, ".dfsr"), 0o777))
	check(t, os.Chown(filepath.Join(base, ".dfsr"), 4711, 4711))
	_, err = volume.Open(base, volume.Options{Create: true})
	if err == nil || !strings.Contains(err.Error(), "belongs to user 4711") {
		t.Fatalf("a user's .dfsr was taken for ours: %v", err)
	}
}

func TestRootWithoutPrivateArea(t *testing.T) {
	base := t.TempDir()
	v, err := volume.Open(base, volume.Options{})
	check(t, err)
	_, err = v.ReadPrivate("marker")
	wants(t, err, volume.ErrNotExist)
	_, err = v.Private(volume.Staging)
	wants(t, err, volume.ErrNotExist)
	if entries, err := os.ReadDir(base); err != nil || len(entries) != 0 {
		t.Fatalf("opening a volume made %v, error %v", entries, err)
	}
	check(t, v.Close())
	_, err = volume.Open(filepath.Join(base, "none"), volume.Options{Create: true})
	wants(t, err, volume.ErrNotExist)
	check(t, os.WriteFile(filepath.Join(base, "file"), nil, 0o600))
	_, err = volume.Open(filepath.Join(base, "file"), volume.Options{Create: true})
	wants(t, err, volume.ErrNotDir)
}

func TestRootThatIsNoLongerThere(t *testing.T) {
	base := filepath.Join(t.TempDir(), "root")
	check(t, os.Mkdir(base, 0o755))
	v := open(t, base)
	check(t, rootOf(t, v).Mkdir("d"))
	check(t, os.Rename(base, base+"-away"))
	_, err := v.Root()
	wants(t, err, volume.ErrUnmounted)
	_, err = v.OpenDir(".")
	wants(t, err, volume.ErrUnmounted)
	check(t, os.Mkdir(base, 0o755))
	_, err = v.Root()
	wants(t, err, volume.ErrUnmounted)
	check(t, os.Remove(base))
	check(t, os.Symlink(base+"-away", base)) // leads to the same directory
	d, err := v.Root()
	check(t, err)
	check(t, d.Close())
	if os.Geteuid() == 0 {
		mountOver(t, base+"-away")
		_, err = v.Root()
		wants(t, err, volume.ErrUnmounted)
	}
}

func TestSubvolumeIsAnotherFilesystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts images")
	}
	base := image(t, "mkfs.btrfs", "-q", "-f")
	v := open(t, base)
	if out, err := exec.Command("btrfs", "subvolume", "create", filepath.Join(base, "sub")).CombinedOutput(); err != nil {
		t.Skipf("make a subvolume: %v: %s", err, out)
	}
	root := rootOf(t, v)
	_, err := root.Lookup("sub")
	wants(t, err, volume.ErrMount)
	_, err = v.OpenDir("sub")
	wants(t, err, volume.ErrMount)
	f := v.Features()
	if f.Filesystem != "btrfs" || !f.Reflink || !f.Tmpfile || !f.Exchange || !f.Leases || !f.Handles || f.Network {
		t.Fatalf("features of btrfs: %+v", f)
	}
	if err := errors.Join(root.Close(), v.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestCaseFoldingHidesThePrivateArea: where .DFSR and .dfsr are one name, both
// are hidden.
func TestCaseFoldingHidesThePrivateArea(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts images")
	}
	at := image(t, "mkfs.ext4", "-q", "-F", "-O", "casefold")
	base := filepath.Join(at, "root")
	check(t, os.Mkdir(base, 0o755))
	if out, err := exec.Command("chattr", "+F", base).CombinedOutput(); err != nil {
		t.Skipf("fold case: %v: %s", err, out)
	}
	v := open(t, base)
	root := rootOf(t, v)
	if !v.Features().CaseFold {
		t.Fatal("case folding was not noticed")
	}
	_, err := root.Lookup(".DFSR")
	wants(t, err, volume.ErrNotExist)
	wants(t, root.Mkdir(".Dfsr"), volume.ErrExist)
	if err := errors.Join(root.Close(), v.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestResolveOfWhatTheKernelForgot: a file's handle alone does not say where
// the file lies when the kernel has dropped its name; that must not be taken
// for a deletion.
func TestResolveOfWhatTheKernelForgot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root resolves handles")
	}
	at := image(t, "mkfs.ext4", "-q", "-F")
	v := open(t, at)
	root := rootOf(t, v)
	check(t, root.Mkdir("d"))
	check(t, os.WriteFile(filepath.Join(at, "d", "f"), []byte("x"), 0o600))
	dirStat, err := root.Lookup("d")
	check(t, err)
	d, err := root.OpenDir("d")
	check(t, err)
	fileStat, err := d.Lookup("f")
	check(t, err)
	check(t, d.Close())
	check(t, v.Sync())
	check(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0o200))
	if path, err := v.Resolve(dirStat.Identity); err != nil || path != "d" {
		t.Fatalf("directory resolves to %q, error %v", path, err)
	}
	path, err := v.Resolve(fileStat.Identity)
	if path != "d/f" && !(errors.Is(err, volume.ErrUnknown) && errors.Is(err, volume.ErrForgotten)) {
		t.Fatalf("file resolves to %q, error %v", path, err)
	}
	t.Logf("forgotten file: path %q, error %v", path, err)
	if err := errors.Join(root.Close(), v.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestErrorsSayWhatAndWhere(t *testing.T) {
	v := open(t, t.TempDir())
	root := rootOf(t, v)
	_, err := root.Lookup("no\nsuch")
	if err == nil || err.Error() != `look up "no\nsuch": does not exist: no such file or directory` {
		t.Fatalf("error reads %v", err)
	}
	if !errors.Is(err, os.ErrNotExist) || !errors.Is(err, unix.ENOENT) {
		t.Fatalf("error %v hides what the kernel said", err)
	}
}

func BenchmarkLookup(b *testing.B) {
	v, err := volume.Open(b.TempDir(), volume.Options{Create: true})
	if err != nil {
		b.Fatal(err)
	}
	d, err := v.Root()
	if err != nil {
		b.Fatal(err)
	}
	if err := d.Mkdir("x"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Lookup("x"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewFile(b *testing.B) {
	v, err := volume.Open(b.TempDir(), volume.Options{Create: true})
	if err != nil {
		b.Fatal(err)
	}
	area, err := v.Private(volume.Installing)
	if err != nil {
		b.Fatal(err)
	}
	m := volume.Meta{Mode: 0o644, Owner: uint32(os.Geteuid()), Group: uint32(os.Getegid())}
	meta, err := m.Encode()
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 16<<10)
	b.ReportAllocs()
	for b.Loop() {
		t, err := v.NewTemp(int64(len(data)), nil)
		if err == nil {
			_, err = t.Write(data)
		}
		if err == nil {
			_, err = t.SetMeta(meta, repl.Time(1))
		}
		if err == nil {
			err = area.Link(t, "f")
		}
		if err := errors.Join(err, t.Close(), area.Remove("f")); err != nil {
			b.Fatal(err)
		}
	}
}

// TestABrokenLeaseDoesNotKill: who opens a file for writing while we hold our
// read lease makes the kernel send SIGIO, whose default is death.
func TestABrokenLeaseDoesNotKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	check(t, os.WriteFile(path, nil, 0o600))
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	check(t, err)
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		t.Skipf("no leases here: %v", err)
	}
	_, err = unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	wants(t, err, unix.EAGAIN)
	check(t, unix.Close(fd))
	w, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	check(t, err)
	check(t, unix.Close(w))
}
