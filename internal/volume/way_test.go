package volume_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"opendfs/internal/volume"

	"golang.org/x/sys/unix"
)

// another is a user who is neither root nor this process.
const another = 54321

// ways is a place with directories and links for roots to lie behind.
type ways struct {
	t   *testing.T
	dir string
}

func newWays(t *testing.T) ways {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return ways{t, dir}
}

func (w ways) at(path string) string { return filepath.Join(w.dir, path) }

func (w ways) must(errs ...error) {
	w.t.Helper()
	if err := errors.Join(errs...); err != nil {
		w.t.Fatal(err)
	}
}

func (w ways) mkdir(path string, mode uint32) {
	w.t.Helper()
	w.must(os.MkdirAll(w.at(path), 0o755), unix.Chmod(w.at(path), mode))
}

// link makes a link; a target that begins with "@" lies in the place.
func (w ways) link(target, path string) {
	w.t.Helper()
	if rest, ok := strings.CutPrefix(target, "@"); ok {
		target = w.at(rest)
	}
	w.must(os.Symlink(target, w.at(path)))
}

func (w ways) chown(path string, uid int) {
	w.t.Helper()
	if os.Geteuid() != 0 {
		w.t.Skip("needs root, to make another user's")
	}
	w.must(os.Lchown(w.at(path), uid, uid))
}

// leads opens a root and checks which directory that is.
func (w ways) leads(path, to string) {
	w.t.Helper()
	v, err := volume.Open(w.at(path), volume.Options{Create: true})
	if err != nil {
		w.t.Errorf("%s: %v", path, err)
		return
	}
	root, err := v.Root()
	w.must(err, root.Close(), v.Close())
	if _, err := os.Lstat(w.at(to + "/.dfsr")); err != nil {
		w.t.Errorf("%s does not lead to %s: %v", path, to, err)
	}
	w.must(os.RemoveAll(w.at(to + "/.dfsr")))
}

// refused checks that a root is not opened, for want of belief, in these words.
func (w ways) refused(path string, words ...string) {
	w.t.Helper()
	v, err := volume.Open(w.at(path), volume.Options{Create: true})
	if err == nil {
		w.must(v.Close())
	}
	if !errors.Is(err, volume.ErrLinked) {
		w.t.Errorf("%s: %v", path, err)
		return
	}
	for _, want := range words {
		if want = strings.ReplaceAll(want, "@", w.dir+"/"); !strings.Contains(err.Error(), want) {
			w.t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// A root may lie behind links of root's and of whom this process runs as, in
// whatever form.
func TestOwnLinksLeadToARoot(t *testing.T) {
	w := newWays(t)
	w.mkdir("mnt/srv/docs", 0o755)
	w.link("@mnt/srv", "srv")
	w.link("mnt/../srv/./docs/", "near")
	w.link("../srv/docs", "mnt/again")
	w.leads("srv/docs", "mnt/srv/docs")
	w.leads("near", "mnt/srv/docs")
	w.leads("mnt/again", "mnt/srv/docs")
	w.leads("srv/docs/", "mnt/srv/docs")
	w.link("srv/docs", "hop0")
	for i := 1; i < 39; i++ { // and the two of hop0
		w.link(fmt.Sprintf("hop%d", i-1), fmt.Sprintf("hop%d", i))
	}
	w.leads("hop38", "mnt/srv/docs")
	w.link("hop38", "hop39")
	w.refused("hop39", "41th symbolic link")
	w.link("round", "round")
	w.refused("round", "41th")

	w.link("nowhere", "dangles")
	w.must(os.WriteFile(w.at("file"), nil, 0o644))
	w.link("file", "plain")
	for path, want := range map[string]error{"dangles": volume.ErrNotExist, "plain": volume.ErrNotDir, "plain/x": volume.ErrNotDir, "srv/x": volume.ErrNotExist} {
		if _, err := volume.Open(w.at(path), volume.Options{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	before := descriptors(t)
	w.leads("hop38", "mnt/srv/docs")
	w.refused("round")
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, were %d", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Whoever may write beside a root, or beneath one, cannot lead it elsewhere: not
// by a link of his own, nor by one of root's that he has moved, nor by one that a
// member has made for him.
func TestLinksOfOthersLeadNowhere(t *testing.T) {
	w := newWays(t)
	w.mkdir("etc/ssl", 0o755)
	w.mkdir("team", 0o2775) // a group's
	w.link("@etc", "team/moved")
	w.mkdir("team/docs/sub", 0o755)
	w.link("@etc/ssl", "team/docs/sub/deep")
	w.mkdir("tmp", 0o1777)
	w.link("@etc", "tmp/moved")
	w.mkdir("tmp/own", 0o755)
	w.link("@etc", "tmp/own/link")
	w.mkdir("tree/.dfsr", 0o700)
	w.mkdir("tree/sub", 0o755)
	w.link("@etc", "tree/made")
	w.link("@etc", "tree/sub/made")
	w.link("@team/docs", "to-team")

	w.leads("team/docs", "team/docs")
	w.leads("to-team/sub", "team/docs/sub")
	w.leads("tmp/own/link/ssl", "etc/ssl")
	w.refused("team/moved/ssl", `"@team/moved" to "@etc" lies in "@team", where others may write (mode 2775)`, "give the path without the link")
	w.refused("to-team/sub/deep", `lies in "@team", where others may write`)
	w.refused("tmp/moved/ssl", `lies in "@tmp", where others may write (mode 1777)`)
	w.refused("tree/made", `lies in "@tree", a replicated folder`)
	w.refused("tree/sub/made/ssl", `lies in "@tree", a replicated folder`)

	w.mkdir("home/docs", 0o755)
	w.link("@etc", "home/link")
	w.link("@etc", "his")
	w.link("his/ssl", "through")
	w.chown("home", another)
	w.chown("his", another)
	w.leads("home/docs", "home/docs")
	w.refused("his/ssl", `open volume "@his/ssl"`, `the symbolic link "@his" to "@etc" belongs to user 54321`, "chown -h root")
	w.refused("through", `"@his" to "@etc" belongs to user 54321`)
	w.refused("home/link", `lies in "@home", which belongs to user 54321`)
	if _, err := os.Lstat(w.at("etc/.dfsr")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made there: %v", err)
	}
	v, err := volume.Open(w.at("his"), volume.Options{ReadOnly: true, AnyLink: true})
	if err != nil {
		t.Fatalf("who asks with rights of its own: %v", err)
	}
	w.must(v.Close())
}

// A root is looked at again: a link that takes its place while it runs leads
// nowhere, even to the same directory.
func TestARootThatBecomesALink(t *testing.T) {
	w := newWays(t)
	w.mkdir("home/docs", 0o755)
	v, err := volume.Open(w.at("home/docs"), volume.Options{Create: true})
	w.must(err)
	t.Cleanup(func() { w.must(v.Close()) })
	w.must(os.Rename(w.at("home/docs"), w.at("real")))
	w.link("@real", "home/docs")
	root, err := v.Root()
	w.must(err, root.Close())
	w.chown("home/docs", another)
	if _, err := v.Root(); !errors.Is(err, volume.ErrUnmounted) || !errors.Is(err, volume.ErrLinked) {
		t.Errorf("through another's link: %v", err)
	}
	if _, err := v.OpenDir("."); !errors.Is(err, volume.ErrLinked) {
		t.Errorf("through another's link: %v", err)
	}
}

// While somebody swaps a directory for a link and back, an opened root is the
// directory or none, never what the link leads to.
func TestSwappedWhileOpened(t *testing.T) {
	w := newWays(t)
	w.mkdir("home/docs", 0o755)
	w.mkdir("etc", 0o755)
	w.link("@etc", "home/link")
	w.link("@home", "srv") // so that each name is judged
	w.chown("home/link", another)
	stop := make(chan struct{})
	swapped := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				swapped <- nil
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, w.at("home/docs"), unix.AT_FDCWD, w.at("home/link"), unix.RENAME_EXCHANGE); err != nil {
				swapped <- err
				return
			}
		}
	}()
	opened, refused := 0, 0
	for range 4000 {
		fd, err := volume.OpenRoot(w.at("srv/docs"))
		switch {
		case err == nil:
			var is, bad unix.Stat_t
			w.must(unix.Fstat(fd, &is), unix.Stat(w.at("etc"), &bad), unix.Close(fd))
			if is.Ino == bad.Ino {
				t.Fatal("it was led away")
			}
			opened++
		case errors.Is(err, volume.ErrLinked), errors.Is(err, volume.ErrNotDir):
			refused++
		default:
			t.Fatal(err)
		}
	}
	close(stop)
	w.must(<-swapped)
	if opened == 0 || refused == 0 {
		t.Errorf("opened %d times and refused %d: nothing was swapped between", opened, refused)
	}
}
