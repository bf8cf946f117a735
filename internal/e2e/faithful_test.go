package e2e

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFaithful: a tree of everything that a file server's file can be is the same on the other member, looked at by rsync, getfattr and getfacl.
func TestFaithful(t *testing.T) { faithful(t, 2000, "ext4") }

// TestSoakFaithful is the same with a larger tree, on each filesystem.
func TestSoakFaithful(t *testing.T) {
	if !soaking() {
		t.Skip("SKIPPED: takes minutes; run `make soak`")
	}
	for _, kind := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(kind, func(t *testing.T) { faithful(t, 20_000, kind) })
	}
}

func faithful(t *testing.T, files int, kind string) {
	c := newCluster(t, plan{kind: kind, filters: "{files: []}"})
	needRoot(t, "getfattr", "getfacl")
	a, b := c.members[0], c.members[1]
	makeOddTree(t, a.root, files, 11)
	c.apply()
	c.wait(2 * patience)
	same := func(chapter string) {
		t.Helper()
		c.converged()
		equalMetadata(t, a.root, b.root)
		stopIfFailed(t, chapter)
	}
	same("the first sync")

	// Metadata of all kinds, on both sides, the root's own among them.
	sent := a.folder().ServedBytes + b.folder().ServedBytes
	o := &oddTree{t: t, root: b.root, rng: random(12, "changes")}
	o.directory(b.root, 4)
	o.do(unix.Setxattr(b.root, "user.of the root", []byte("changed there"), 0))
	must(t, "setfacl", "-R", "-m", "u:4242:rx,d:g:4243:r", b.path("odd"))
	must(t, "chown", "-hR", "17:18", a.path(" with\na line01"))
	must(t, "setfattr", "-n", "user.DosStream.added:$DATA", "-v", "a stream", a.path(".txt00", "part 0"))
	must(t, "touch", "-h", "-d", "2001-02-03 04:05:06.789", a.path("odd", "dangling"), a.path("odd", "old"))
	c.wait(patience)
	same("changes of metadata")
	if now := a.folder().ServedBytes + b.folder().ServedBytes; now != sent {
		t.Errorf("%d bytes of content were sent for metadata", now-sent)
	}
	quietRestart(t, c)
	equalMetadata(t, a.root, b.root)
	c.calm()
}

// TestMovedWhileStopped: a directory that was moved while nobody looked is found by the walk at the start and is one update, of it alone, and one
// rename on the other side; the directory that it lay in has another time.
func TestMovedWhileStopped(t *testing.T) {
	c := newCluster(t, plan{size: 2 * gib})
	a, b := c.members[0], c.members[1]
	fill{files: 3000, perDir: 500, bytes: 1000, seed: 4}.make(t, a.path("all"))
	c.apply()
	c.wait(2 * patience)
	c.converged()
	installed, sent := b.folder().Installed, a.folder().ServedBytes
	was, err := os.Stat(b.path("all"))
	if err != nil {
		t.Fatal(err)
	}
	a.stop()
	if err := os.Rename(a.path("all"), a.path("moved")); err != nil {
		t.Fatal(err)
	}
	a.start()
	c.wait(patience)
	c.converged()
	is, err := os.Stat(b.path("moved"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(was, is) {
		t.Error("the directory was made anew")
	}
	if n := a.folder().Captured; n > 2 {
		t.Errorf("%d updates for the directory and the time of the one above it", n)
	}
	// The directory above has its time set by the move, and again by its own update.
	if n := b.folder().Installed - installed; n > 3 {
		t.Errorf("%d records were written for it", n)
	}
	if now := a.folder().ServedBytes; now != 0 && now != sent {
		t.Errorf("%d bytes of content were sent", now)
	}
}

// TestRootOfAnybody: members without privileges, who notice changes otherwise, replicate the root's own metadata too.
func TestRootOfAnybody(t *testing.T) {
	c := newLocal(t)
	a, b := c.members[0], c.members[1]
	c.apply()
	c.wait(patience)
	for i, mode := range []os.FileMode{0o750, 0o711} {
		m := c.members[i]
		if err := os.Chmod(m.root, mode); err != nil {
			t.Fatal(err)
		}
		c.wait(patience)
		x, err := os.Stat(a.root)
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.Stat(b.root)
		if err != nil || x.Mode() != y.Mode() || x.Mode().Perm() != mode {
			t.Errorf("the root has %v and %v, error %v", x.Mode(), y.Mode(), err)
		}
	}
}

// TestCarried: a member without privileges keeps what it can, says what it cannot, changes nothing of it for others, and hands all of it on.
func TestCarried(t *testing.T) {
	c := newCluster(t, plan{members: 3, shape: chain, humble: 2, filters: "{files: []}"})
	needRoot(t, "getfattr", "getfacl", "setpriv")
	first, middle, last := c.members[0], c.members[1], c.members[2]
	fill{files: 60, perDir: 20, bytes: 2000, seed: 5}.make(t, first.root)
	o := &oddTree{t: t, root: first.root, rng: random(5, "carried")}
	for i, name := range []string{"section-00", "section-00/part-0000", "section-00/part-0000/document-0000001.txt", "section-00/part-0000/document-0000002.txt"} {
		path := first.path(name)
		o.do(os.Chown(path, 1000+i, 2000+i))
		o.do(unix.Setxattr(path, "security.NTACL", []byte("an NT ACL"), 0))
		o.do(unix.Setxattr(path, "user.kept", []byte("by all"), 0))
	}
	o.do(os.Chmod(first.root, 0o777))
	c.apply()
	c.wait(patience)
	equal := func(chapter string) {
		t.Helper()
		if said := rsyncDifference(t, first.root, last.root); said != "" {
			t.Errorf("%s: rsync lists:\n%s", chapter, said)
		}
		equalMetadata(t, first.root, last.root)
		c.equalVectors()
		stopIfFailed(t, chapter)
	}
	equal("the first sync through a member without privileges")
	const carried = "section-00/part-0000/document-0000001.txt"
	value := make([]byte, 20)
	if n, err := unix.Getxattr(middle.path(carried), "user.kept", value); err != nil || string(value[:n]) != "by all" {
		t.Errorf("what the member may set is not set: %q, error %v", value[:n], err)
	}
	if f := middle.finds("metadata-carried", 5*time.Second); f.Object != folder {
		t.Errorf("finding %+v", f)
	}

	// Its users work on; a restart looks at all of it.
	nobody := func(script string) {
		t.Helper()
		must(t, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", "cd "+middle.root+" && "+script)
	}
	nobody("echo more >> " + carried + " && chmod 600 section-00/part-0000/document-0000002.txt && echo new > section-00/new && mv section-02 section-00/moved")
	c.wait(patience)
	equal("its users' changes")
	if info, err := os.Stat(last.path(carried)); err != nil || info.Size() == 0 || info.Sys().(*syscall.Stat_t).Uid != 1002 {
		t.Errorf("edited where nobody could set its owner: %v, error %v", info, err)
	}
	if info, err := os.Stat(first.path("section-00/part-0000/document-0000002.txt")); err != nil || info.Mode() != 0o600 {
		t.Errorf("its mode did not arrive: %v, error %v", info, err)
	}
	before := c.vectors()
	c.stop()
	c.start()
	c.wait(patience)
	if after := c.vectors(); !slices.Equal(before, after) {
		t.Errorf("the restart minted: %v before, %v after", before, after)
	}
	equal("a restart")

	// With other rights it sets what it carried.
	middle.stop()
	middle.prefix = nil
	middle.start()
	eventually(t, patience, "everything is set", func() bool { return rsyncDifference(t, first.root, middle.root) == "" })
	middle.clears("metadata-carried", patience)
	if after := c.vectors(); !slices.Equal(before, after) {
		t.Errorf("setting what was carried minted: %v before, %v after", before, after)
	}
}
