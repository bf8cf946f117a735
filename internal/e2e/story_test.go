package e2e

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait of a story; what is waited for takes a few seconds.
const patience = 90 * time.Second

// TestTwoMembers is the main story, over IPv6.
func TestTwoMembers(t *testing.T) { mainStory(t, plan{family: ipv6}, small) }

// TestThreeMembersMesh is the main story, addressed by name.
func TestThreeMembersMesh(t *testing.T) { mainStory(t, plan{members: 3, family: byName}, small) }

// TestThreeMembersChain is the main story where the ends never speak with each other.
func TestThreeMembersChain(t *testing.T) { mainStory(t, plan{members: 3, shape: chain}, small) }

// TestThreeMembersHub is the main story around a hub.
func TestThreeMembersHub(t *testing.T) { mainStory(t, plan{members: 3, shape: spoke}, small) }

// TestSoakSourceTree is the main story with the whole source tree, in every shape.
func TestSoakSourceTree(t *testing.T) {
	if !soaking() && !benching() {
		t.Skip("SKIPPED: takes minutes; run `make soak`")
	}
	source := func(t *testing.T, root string) { copyTree(t, sourceTree(t), root) }
	for name, p := range map[string]plan{
		"two, IPv6": {family: ipv6}, "mesh, by name": {members: 3, family: byName}, "chain": {members: 3, shape: chain}, "hub": {members: 3, shape: spoke},
	} {
		t.Run(name, func(t *testing.T) {
			p.size = 8 * gib
			mainStory(t, p, source)
		})
	}
}

// small is a tree that everyday runs can afford.
func small(t *testing.T, root string) {
	fill{files: 3000, perDir: 50, bytes: 4000, seed: 1}.make(t, root)
	garnish(t, root)
}

// mainStory: initial sync, edits on all sides, a cut link, a killed daemon, and at the end equal trees, equal vectors, and a restart that
// mints nothing and sends no content.
func mainStory(t *testing.T, p plan, tree func(*testing.T, string)) {
	p.options += "breaker: off\n" // the users of the story replace and delete a third of it in a minute
	c := newCluster(t, p)
	hub, last := c.members[0], c.members[len(c.members)-1]
	tree(t, hub.root)
	c.apply()
	c.wait(10 * patience)
	c.converged()
	c.calm()
	stopIfFailed(t, "after the initial sync")

	scribes := c.scribes(7)
	edited := func(what string) {
		t.Helper()
		own := make([]map[string]look, len(scribes))
		for i, s := range scribes {
			own[i] = s.picture(s.root)
		}
		c.wait(patience)
		for i, s := range scribes {
			for _, m := range c.members {
				if diff := difference(own[i], s.picture(m.root)); len(diff) > 0 {
					t.Errorf("%s: what %s left is not what %s has:\n%s", what, c.members[i].name, m.name, shorten(strings.Join(diff, "\n"), 20))
					name, _, _ := strings.Cut(diff[0], ": ")
					c.tellAbout(name)
					t.Logf("what %s did: %s", c.members[i].name, shorten(strings.Join(s.diary(name), "\n"), 20))
				}
			}
		}
		c.converged()
		stopIfFailed(t, what)
	}

	all(t, scribes, 300)
	edited("edits on all sides")

	last.host.cut()
	all(t, scribes, 200)
	last.host.heal()
	edited("edits on both sides of a cut link")

	killed := make(chan struct{})
	go func() {
		defer close(killed)
		pass(100 * time.Millisecond)
		hub.kill()
	}()
	all(t, scribes, 200)
	<-killed
	hub.start()
	edited("a daemon killed in the middle")

	for _, s := range scribes {
		s.diligent()
	}
	c.calm("conflict-kept") // the killed daemon cannot tell what it finds from what a crash left: what that replaces is kept
	quietRestart(t, c)
}

// quietRestart stops and starts every daemon: nothing is minted, no content is sent.
func quietRestart(t *testing.T, c *cluster) {
	t.Helper()
	before := c.vectors()
	c.stop()
	c.start()
	c.wait(patience)
	for i, m := range c.members {
		f := m.folder()
		if f.Vector != before[i] {
			t.Errorf("the restart minted on %s: %s before, %s after", m.name, before[i], f.Vector)
		}
		if f.Installed+f.InstalledBytes+f.ServedBytes != 0 {
			t.Errorf("after a restart %s has installed %d updates, installed %d and served %d bytes; all should be 0",
				m.name, f.Installed, f.InstalledBytes, f.ServedBytes)
		}
	}
	c.converged()
}

// stopIfFailed ends a story at the end of the chapter in which it went wrong.
func stopIfFailed(t *testing.T, chapter string) {
	t.Helper()
	if t.Failed() {
		t.Fatalf("the story ends here: %s", chapter)
	}
}

// TestInitialSyncKeeps: what the other side had, and the primary has differently or not at all, is kept under .dfsr/; the same content
// with other metadata is only corrected.
func TestInitialSyncKeeps(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	fill{files: 200, perDir: 20, bytes: 2000, seed: 3}.make(t, a.root)
	copyTree(t, a.root, b.root)
	same := "section-01/part-0001/document-0000021.txt"
	kept := map[string]string{
		"section-00/part-0000/document-0000001.txt":  "differs on the other side",
		"section-00/part-0000/extra":                 "a file of the other side",
		"theirs/below/extra":                         "in a directory of the other side",
		"section-02/part-0002/document-0000040.txt":  "",
		"section-02/part-0002/directory/deeper/last": "in a directory within a shared one",
	}
	for rel, text := range kept {
		if err := errors.Join(os.MkdirAll(filepath.Dir(b.path(rel)), 0o755), os.WriteFile(b.path(rel), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(b.path(same), 0o600), os.Chown(b.path(same), 4, 4)); err != nil {
		t.Fatal(err)
	}
	c.apply()
	c.wait(patience)
	c.converged()
	found := contents(t, b.private())
	for rel, text := range kept {
		if !found[text] {
			t.Errorf("%s of the other side is gone: %q is nowhere under .dfsr/", rel, text)
		}
	}
	// Two files differed; only they may have travelled.
	if n := a.folder().ServedBytes; n > 10_000 {
		t.Errorf("%d bytes of content were sent; what both sides have alike is not", n)
	}
}

// contents gathers the contents of all small files below dir.
func contents(t testing.TB, dirs ...string) map[string]bool {
	t.Helper()
	out := make(map[string]bool)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			if info, err := d.Info(); err != nil || info.Size() > mib {
				return err
			}
			text, err := os.ReadFile(path)
			out[string(text)] = true
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestConflictsKept: what two sides do to the same names while the link is cut ends in equal trees, and every content is live or kept.
func TestConflictsKept(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	write := func(m *member, rel, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(m.path(rel)), 0o755), os.WriteFile(m.path(rel), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, rel := range []string{"both", "edited and deleted", "deleted and edited", "renamed and edited", "dir/child", "renamed twice", "gone/child", "x/1", "y/2"} {
		write(a, rel, "first "+rel)
	}
	c.apply()
	c.wait(patience)
	b.host.cut()
	write(a, "both", "A's both")
	write(b, "both", "B's both")
	write(a, "new", "A's new")
	write(b, "new", "B's new")
	write(a, "edited and deleted", "A's edit")
	do(os.Remove(b.path("edited and deleted")))
	do(os.Remove(a.path("deleted and edited")))
	write(b, "deleted and edited", "B's edit")
	do(os.Rename(a.path("renamed and edited"), a.path("renamed by A")))
	write(b, "renamed and edited", "B's edit of what A renamed")
	do(os.Rename(a.path("dir"), a.path("dir of A")))
	write(b, "dir/child", "B's child")
	write(b, "dir/new child", "B's new child")
	do(os.Rename(a.path("renamed twice"), a.path("renamed by A too")))
	do(os.Rename(b.path("renamed twice"), b.path("renamed by B too")))
	do(os.RemoveAll(a.path("gone")))
	write(b, "gone/late", "B's late")
	do(os.Rename(a.path("x"), a.path("y", "x")))
	do(os.Rename(b.path("y"), b.path("x", "y")))
	write(a, "file or directory", "A's file")
	write(b, "file or directory/below", "B's below")
	write(a, "made twice/of A", "of A")
	write(b, "made twice/of B", "of B")
	b.host.heal()
	c.wait(patience)
	c.converged()
	have := contents(t, a.root, b.root)
	for _, text := range []string{"A's both", "B's both", "A's new", "B's new", "A's edit", "B's edit", "B's edit of what A renamed", "B's child", "B's new child",
		"first renamed twice", "B's late", "first x/1", "first y/2", "A's file", "B's below", "of A", "of B"} {
		if !have[text] {
			t.Errorf("%q is neither live nor kept", text)
		}
	}
	live := contents(t, a.path("made twice"))
	if !live["of A"] || !live["of B"] {
		t.Errorf("a directory made on both sides was not merged: %v", live)
	}
	quietRestart(t, c)
}

// TestUsersBesideUs: users edit, save, delete, rename and hold open the same names on both members while installs happen (rule 17).
func TestUsersBesideUs(t *testing.T) {
	usersBesideUs(t, 8*time.Second, "ext4")
}

// TestSoakUsersBesideUs is the same for minutes on each filesystem.
func TestSoakUsersBesideUs(t *testing.T) {
	if !soaking() {
		t.Skip("SKIPPED: takes minutes; run `make soak`")
	}
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) { usersBesideUs(t, 5*time.Minute, kind) })
	}
}

func usersBesideUs(t *testing.T, d time.Duration, kind string) {
	c := newCluster(t, plan{kind: kind})
	c.apply()
	c.wait(patience)
	l := newLedger()
	var users []*user
	stop := make(chan struct{})
	var done []chan struct{}
	for i, m := range c.members {
		for _, desk := range []string{"one", "two"} {
			u := &user{l: l, name: m.name + "-" + desk, root: m.root, rng: random(uint64(i), desk), done: map[string]int{}}
			for n := range 12 {
				u.places = append(u.places, "shared-"+desk+"-"+string(rune('a'+n)))
			}
			users = append(users, u)
			over := make(chan struct{})
			done = append(done, over)
			go func() {
				defer close(over)
				u.work(stop)
			}()
		}
	}
	pass(d)
	close(stop)
	for i, over := range done {
		<-over
		if users[i].err != nil {
			t.Fatalf("%s: %v", users[i].name, users[i].err)
		}
	}
	c.wait(patience)
	c.converged()
	if lost := l.missing(t, c.roots()); len(lost) > 0 {
		t.Errorf("%d of %d closed versions are lost; they are neither live nor kept, and no user replaced them:\n%s", len(lost), len(l.closed), shorten(strings.Join(lost, "\n"), 20))
	}
	installed := c.members[0].folder().Installed + c.members[1].folder().Installed
	t.Logf("%d versions closed, %d replaced by users, %d updates installed", len(l.closed), len(l.gone), installed)
	for _, u := range users {
		for _, act := range []string{"create", "edit", "save", "hold", "delete", "rename"} {
			if u.done[act] == 0 {
				t.Errorf("%s made no %q", u.name, act)
			}
		}
	}
	if installed < 100 {
		t.Errorf("only %d updates were installed beside the users; the story shows nothing", installed)
	}
}

// TestWaitBesideWriters: `dfs status --wait` speaks of what was closed before it began; writers who never stop do not keep it waiting.
func TestWaitBesideWriters(t *testing.T) {
	c := newCluster(t, plan{})
	c.apply()
	c.wait(patience)
	list := newConfirmed()
	stop := make(chan struct{})
	over := make(chan struct{})
	writer := &author{c: list, m: c.members[0], files: 200, rng: random(3, "writer")}
	go func() {
		defer close(over)
		writer.work(stop)
	}()
	var took []time.Duration
	for range 5 {
		began := time.Now()
		out, err := c.members[0].dfs("status", "--wait", "--timeout", "10s")
		if err != nil {
			t.Errorf("beside a writer of some hundred files a second: %v\n%s", err, out)
			break
		}
		took = append(took, time.Since(began))
	}
	close(stop)
	<-over
	if writer.err != nil {
		t.Fatal(writer.err)
	}
	t.Logf("%d versions written meanwhile; took %v", writer.next, took)
	c.wait(patience)
	c.converged()
}

// TestLargeFile replicates one file of many pieces whole, and an append to it.
func TestLargeFile(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	c.apply()
	c.wait(patience)
	data := bytes.Repeat([]byte("0123456789abcdef"), 8<<20)
	scribble(random(1, "large"), data)
	if err := os.WriteFile(a.path("large"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	c.wait(patience)
	c.converged()
	f, err := os.OpenFile(b.path("large"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("the end"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	c.wait(patience)
	c.converged()
}
