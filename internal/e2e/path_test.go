package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSwappedParent: on B a user swaps a directory for a link that leads outside, again and again, while files are installed in it. Nothing is
// ever made, changed or removed outside.
func TestSwappedParent(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	outside := filepath.Join(c.trees[1].point, "outside")
	if err := errors.Join(os.Mkdir(outside, 0o755), os.WriteFile(filepath.Join(outside, "file-0"), []byte("untouched"), 0o644)); err != nil {
		t.Fatal(err)
	}
	write(t, a, "dir/file-0", "inside")
	c.apply()
	c.wait(patience)
	stop := make(chan struct{})
	over := make(chan struct{})
	swaps := 0
	go func() {
		defer close(over)
		for dir, aside := b.path("dir"), b.path("~aside"); ; {
			if os.Rename(dir, aside) == nil {
				if os.Symlink(outside, dir) == nil {
					swaps++
				}
				pass(time.Millisecond)
				_ = os.Remove(dir)
				if os.Rename(aside, dir) != nil {
					_ = os.Rename(aside, dir+fmt.Sprint(swaps)) // the member has made another one meanwhile
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
			}
		}
	}()
	root, err := os.OpenRoot(a.root) // the link arrives on A too, and this writer must not follow it
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	written := 0
	for i := range 300 {
		_ = root.Mkdir("dir", 0o755)
		if root.WriteFile(fmt.Sprintf("dir/file-%d", i), fmt.Appendf(nil, "from A %d", i), 0o644) == nil {
			written++
		}
		pass(5 * time.Millisecond)
	}
	close(stop)
	<-over
	c.wait(patience)
	entries, err := os.ReadDir(outside)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(outside, "file-0"))
	if err != nil || len(entries) != 1 || string(text) != "untouched" {
		t.Errorf("outside of the folder there are now %v, and the file there says %q (%v)", entries, text, err)
	}
	if swaps < 50 || written < 50 {
		t.Errorf("only %d swaps and %d files; the story shows nothing", swaps, written)
	}
	c.converged()
}

// TestDeepPath: a path longer than the kernel takes in one piece replicates, is renamed high up and removed.
func TestDeepPath(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	c.apply()
	c.wait(patience)
	name := strings.Repeat("d", 200)
	dig := fmt.Sprintf("mkdir top; cd top; for i in $(seq 30); do mkdir %s; cd %s; echo $i >file; done", name, name)
	must(t, "bash", "-ec", "cd "+a.root+"; "+dig)
	sum := func(m *member) string {
		t.Helper()
		return must(t, "bash", "-ec", "cd "+m.root+`; tar --sort=name --exclude=./.dfsr --numeric-owner -cf - . | sha256sum`)
	}
	same := func(what string) {
		t.Helper()
		c.wait(patience)
		if sum(a) != sum(b) {
			t.Errorf("%s: the trees differ", what)
		}
	}
	same("made")
	if n := b.folder().Files; n != 30 {
		t.Errorf("%s counts %d files, there are 30", b.name, n)
	}
	if err := os.Rename(b.path("top"), b.path("renamed")); err != nil {
		t.Fatal(err)
	}
	same("renamed")
	must(t, "rm", "-rf", a.path("renamed"))
	same("removed")
	vanishes(t, b, "renamed")
	c.calm()
}
