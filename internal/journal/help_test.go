package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come; it is never used up.
const patience = 20 * time.Second

func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// folder makes the root of a replicated folder.
func folder(t testing.TB, root string) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(root, privateName), 0o700))
	return root
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a fanotify mark on a filesystem and mounts")
	}
}

// tmpfs mounts a filesystem of the test's own, so that nothing else makes events.
func tmpfs(t testing.TB) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("mount of a tmpfs is refused here: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir
}

// image mounts a fresh filesystem on a loop device.
func image(t testing.TB, kind string, size int64) string {
	t.Helper()
	needRoot(t)
	if _, err := exec.LookPath("mkfs." + kind); err != nil {
		t.Skipf("mkfs.%s is not installed", kind)
	}
	base := t.TempDir()
	file, dir := filepath.Join(base, "image"), filepath.Join(base, "mnt")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Truncate(file, size))
	if out, err := exec.Command("mkfs."+kind, "-q", file).CombinedOutput(); err != nil {
		t.Skipf("mkfs.%s: %v: %s", kind, err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", file, dir).CombinedOutput(); err != nil {
		t.Skipf("mount of an image is refused here: %v: %s", err, out)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir
}

// open opens a journal and takes the Gap it begins with.
func open(t testing.TB, root string, o Options) Journal {
	t.Helper()
	j, err := Open(deadline(t), root, o)
	must(t, err)
	t.Cleanup(func() { must(t, j.Close()) })
	b, err := j.Next(deadline(t))
	must(t, err)
	if b.Gap == nil || !b.Gap.Planned || b.Token != 1 || len(b.Dirty) != 0 {
		t.Fatalf("the first batch is %+v, want a Gap with token 1", b)
	}
	return j
}

// settle drains and returns all that became dirty before. It fails on a Gap.
func settle(t testing.TB, j Journal) []Dirty {
	t.Helper()
	token, err := j.Drain(deadline(t))
	must(t, err)
	return upTo(t, j, token)
}

// seenToken remembers how far each journal has been read.
var seenToken = map[Journal]uint64{}

func upTo(t testing.TB, j Journal, token uint64) (all []Dirty) {
	t.Helper()
	for max(seenToken[j], 1) < token {
		b, err := j.Next(deadline(t))
		must(t, err)
		if b.Gap != nil {
			t.Fatalf("Gap: %s", b.Gap.Reason)
		}
		seenToken[j] = b.Token
		all = append(all, b.Dirty...)
	}
	return all
}

// show renders dirty places as sorted lines "dir/name [wrote] [tree]", what is
// known by handle alone as "<child>".
func show(dirty []Dirty) string {
	var lines []string
	for _, d := range dirty {
		line := "<child>"
		if d.Name != "" {
			line = d.Path + "/" + d.Name
			if temporary([]byte(d.Name)) {
				line = d.Path + "/#"
			}
		}
		if d.Wrote {
			line += " wrote"
		}
		if d.Tree {
			line += " tree"
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

func want(t testing.TB, dirty []Dirty, lines ...string) {
	t.Helper()
	slices.Sort(lines)
	if got, want := show(dirty), strings.Join(lines, "\n"); got != want {
		t.Errorf("dirty:\n%s\nwant:\n%s", got, want)
	}
}

// handleOf returns the handle of a path, in the form of Dirty.Dir.
func handleOf(t testing.TB, path string) []byte {
	t.Helper()
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	must(t, err)
	b := []byte{byte(h.Type()), byte(h.Type() >> 8), byte(h.Type() >> 16), byte(h.Type() >> 24)}
	return append(b, h.Bytes()...)
}

func hasChild(dirty []Dirty, name string, child []byte) bool {
	return slices.ContainsFunc(dirty, func(d Dirty) bool { return d.Name == name && bytes.Equal(d.Child, child) })
}

func write(t testing.TB, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

// run does it in another process, as a user beside us.
func run(t testing.TB, dir, script string) {
	t.Helper()
	c := exec.Command("sh", "-ec", script)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// linkedTemporary makes a file by O_TMPFILE in dir, links it to path, writes
// once more and closes it.
func linkedTemporary(t testing.TB, dir, path string) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("no O_TMPFILE on the filesystem of %s", dir)
	}
	must(t, err)
	must(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW))
	_, err = unix.Write(fd, []byte("late"))
	must(t, err)
	must(t, unix.Close(fd))
}
