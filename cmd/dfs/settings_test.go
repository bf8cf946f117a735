package main

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Settings of a server take effect while it runs.
func TestServerSettings(t *testing.T) {
	hub, branch := pair(t)
	hub.refused(exitUsage, "no such level", "server", "set", "branch", "--log-level", "loud")
	hub.refused(exitUsage, "write 1 to 256", "server", "set", "branch", "--transfers-in", "1000")
	hub.refused(exitUsage, "write 1 to 256", "server", "set", "branch", "--transfers-out", "0")
	hub.must("server", "set", "branch", "--log-level", "error", "--transfers-in", "1", "--transfers-out", "3")
	if out := hub.must("server", "show", "branch"); !strings.Contains(out, "1 in, 3 out") || !strings.Contains(out, "error") {
		t.Errorf("shown:\n%s", out)
	}
	branch.eventually("follows", func() bool { return strings.Contains(branch.must("server", "show", "branch"), "1 in") })
	for _, name := range []string{"a", "b", "c", "d"} {
		hub.write(name, strings.Repeat(name, 100_000))
	}
	branch.must("status", "--wait", "--timeout", "20s")
	for _, name := range []string{"a", "b", "c", "d"} {
		if len(branch.read(name)) != 100_000 {
			t.Errorf("%s did not arrive", name)
		}
	}
	quiet := len(branch.log.String())
	branch.must("pause", "projects", "--for", "1m") // a line at level info
	if got := branch.log.String()[quiet:]; strings.Contains(got, "order given") {
		t.Errorf("logged in spite of the level:\n%s", got)
	}
	hub.must("server", "set", "branch", "--log-level", "default")
	branch.eventually("logs again", func() bool {
		branch.must("resume", "projects")
		branch.must("pause", "projects", "--for", "1m")
		return strings.Contains(branch.log.String()[quiet:], "order given")
	})
	branch.must("resume", "projects")

	elsewhere, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	hub.must("server", "set", "branch", "--address", elsewhere, "--listen", elsewhere)
	hub.eventually("reaches it elsewhere", func() bool {
		return strings.Contains(branch.log.String(), "listening elsewhere") && strings.Contains(hub.must("status", "--json"), elsewhere)
	})
	branch.write("from-there.txt", "x")
	hub.must("status", "--wait", "--timeout", "20s")
	if !hub.has("from-there.txt") {
		t.Error("nothing comes from the new address")
	}
}

// Which owners and extended attributes of a folder replicate is chosen by its
// commands, and holds for what changes from then on.
func TestOwnersAndAttributesOfAFolder(t *testing.T) {
	hub, branch := pair(t)
	const folder = "projects/docs"
	hub.refused(exitUsage, `--owners "ids": it is numeric, name or none`, "folder", "set", folder, "--owners", "ids")
	hub.refused(exitUsage, `--attributes "user": it is capability, selinux or trusted; user.*, ACLs and NT ACLs always replicate`, "folder", "set", folder, "--attributes", "trusted,user")
	hub.refused(exitUsage, "--owners", "folder", "create", "projects/other", "--owners", "0")
	hub.must("folder", "create", "projects/other", "--owners", "name", "--attributes", "selinux,capability,selinux")
	shown := func(s *site, folder, owners, attributes string) bool {
		out := s.must("folder", "show", folder, "--json")
		return strings.Contains(out, `"owners": "`+owners+`"`) && strings.Contains(strings.Join(strings.Fields(out), ""), `"attributes":[`+attributes+`]`)
	}
	if !shown(hub, "projects/other", "name", `"capability","selinux"`) {
		t.Errorf("created:\n%s", hub.must("folder", "show", "projects/other", "--json"))
	}
	hub.must("folder", "set", "projects/other", "--attributes", "")
	if !shown(hub, "projects/other", "name", "") {
		t.Errorf("without attributes:\n%s", hub.must("folder", "show", "projects/other", "--json"))
	}
	if os.Geteuid() != 0 {
		t.Skip("the rest needs root, to give files away")
	}
	if _, err := exec.LookPath("setfattr"); err != nil {
		t.Skip("setfattr is not installed (attr)")
	}
	made := func(name string) (uid uint32, trusted bool) {
		t.Helper()
		hub.user("sh", "-c", "set -e; >"+name+"; chown 54321 "+name+"; setfattr -n trusted.x -v 1 "+name)
		settled(hub, branch)
		var st unix.Stat_t
		at := filepath.Join(branch.folder, name)
		if err := unix.Stat(at, &st); err != nil {
			t.Fatal(err)
		}
		_, err := unix.Getxattr(at, "trusted.x", make([]byte, 8))
		return st.Uid, err == nil
	}
	set := func(owners, attributes, stored string) {
		t.Helper()
		hub.must("folder", "set", folder, "--owners", owners, "--attributes", attributes)
		branch.eventually("follows", func() bool { return shown(branch, folder, owners, stored) })
		settled(hub, branch)
	}
	set("none", "trusted", `"trusted"`)
	if uid, trusted := made("kept"); uid != 0 || !trusted {
		t.Errorf("with none and trusted: user %d, %v", uid, trusted)
	}
	set("numeric", "", "")
	if uid, trusted := made("given"); uid != 54321 || trusted {
		t.Errorf("with numeric and no attributes: user %d, %v", uid, trusted)
	}
}

// What a server sends at most is shared by the partners that ask: two that want the
// same have it at about the same time, and no sooner than the rate allows.
func TestMaxRateIsFairToPartners(t *testing.T) {
	lab := newSite(t, "lab")
	hub, branch := pair(t)
	hub.must("server", "set", "hub", "--max-rate", "24mbps") // 3 MB/s
	lab.must("join", strings.TrimSpace(hub.must("invite", "lab")), "--address", lab.address)
	lab.serve()
	hub.must("group", "set", "projects", "--hub", "hub")
	hub.must("membership", "create", "projects/docs@lab", "--path", lab.folder)
	lab.must("status", "--wait", "--timeout", "20s")
	hub.must("status", "--wait", "--timeout", "20s")
	data := make([]byte, 6_000_000)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	hub.write("large", string(data))
	first := make(map[*site]time.Duration)
	hub.eventually("has sent it to both", func() bool {
		for _, s := range []*site{branch, lab} {
			if s.has("large") && first[s] == 0 {
				first[s] = time.Since(began)
			}
		}
		return len(first) == 2
	})
	sooner, later := min(first[branch], first[lab]), max(first[branch], first[lab])
	t.Logf("12 MB to two partners at 3 MB/s: %v and %v", sooner, later)
	if later < 3500*time.Millisecond {
		t.Errorf("12 MB at 3 MB/s took %v", later)
	}
	if sooner < later*7/10 { // one after the other, the first would have it at half of the time
		t.Errorf("one has it after %v, the other after %v", sooner, later)
	}
}

// A pause cuts a large file; afterwards the rest comes, and not what had come.
func TestPauseCutsAndResumes(t *testing.T) {
	hub, branch := pair(t)
	hub.must("server", "set", "hub", "--max-rate", "60mbps")
	branch.eventually("follows", func() bool { return strings.Contains(branch.must("server", "show", "hub"), "60mbps") })
	data := make([]byte, 12_000_000)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	hub.write("large", string(data))
	served := func() uint64 { return hub.status().Folders[0].ServedBytes }
	hub.eventually("has sent a third", func() bool { return served() > 4_000_000 })
	branch.must("pause", "hub->branch")
	at := served()
	if at >= uint64(len(data)) {
		t.Fatalf("all was sent before the pause: %d", at)
	}
	began := time.Now()
	for last := at; ; last = served() { // what is in flight ends
		pause(t.Context(), 200*time.Millisecond)
		if served() == last {
			break
		}
		if time.Since(began) > 3*time.Second {
			t.Fatal("it goes on in spite of the pause")
		}
	}
	branch.must("resume", "hub->branch")
	branch.must("status", "--wait", "--timeout", "20s")
	if branch.read("large") != string(data) {
		t.Fatal("the file differs")
	}
	// What was in flight at the cut, a window of some MiB at most, comes again.
	if all := served(); all > uint64(len(data))+3<<20 {
		t.Errorf("%d bytes were sent for a file of %d that was cut at %d", all, len(data), at)
	}
}

// A path that is changed re-uses what lies at the new one: no content travels for
// what is the same, what differs is put aside, whoever is primary; and a tree that
// was moved with its marker goes on as if nothing had been.
func TestPathChanged(t *testing.T) {
	hub, branch := pair(t)
	for _, name := range []string{"a.txt", "b.txt", "c.txt"} {
		hub.write(name, strings.Repeat(name, 20_000))
	}
	branch.must("status", "--wait", "--timeout", "20s")
	served := hub.status().Folders[0].ServedBytes

	copied := filepath.Join(t.TempDir(), "copied")
	if out, err := exec.Command("cp", "-a", branch.folder, copied).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	if err := os.RemoveAll(filepath.Join(copied, ".dfsr")); err != nil {
		t.Fatal(err)
	}
	move := func(s *site, to string) {
		t.Helper()
		s.folder = to
		hub.must("membership", "set", "projects/docs@"+s.name, "--path", to)
		s.eventually("runs there", func() bool { return strings.Contains(s.must("status", "--json"), `"path": "`+to+`"`) })
		s.must("status", "--wait", "--timeout", "20s")
		hub.must("status", "--wait", "--timeout", "20s")
	}
	put(t, filepath.Join(copied, "b.txt"), "edited in the copy")
	move(branch, copied)
	if branch.read("b.txt") != strings.Repeat("b.txt", 20_000) || hub.read("b.txt") != branch.read("b.txt") {
		t.Error("the copy's edit won")
	}
	if out := branch.must("preserved", "list", "projects/docs"); !strings.Contains(out, "b.txt") {
		t.Errorf("what was edited in the copy is not kept:\n%s", out)
	}
	if now := hub.status().Folders[0].ServedBytes; now > served+200_000 {
		t.Errorf("%d bytes were sent for what was there", now-served)
	}
	branch.write("new.txt", "from the new place")
	hub.must("status", "--wait", "--timeout", "20s")
	if !hub.has("new.txt") {
		t.Error("the new place does not replicate")
	}

	served = hub.status().Folders[0].ServedBytes
	before := branch.log.String()
	moved := filepath.Join(t.TempDir(), "moved")
	branch.stop()
	if err := os.Rename(copied, moved); err != nil {
		t.Fatal(err)
	}
	branch.serve()
	move(branch, moved)
	if now := hub.status().Folders[0].ServedBytes; now != served {
		t.Errorf("%d bytes were sent for a tree that was moved", now-served)
	}
	if out := branch.log.String()[len(before):]; strings.Contains(out, "starts anew") {
		t.Errorf("a tree that was moved with its marker starts anew:\n%s", out)
	}

	empty := filepath.Join(t.TempDir(), "empty") // the primary's, of all
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	move(hub, empty)
	for _, name := range []string{"a.txt", "b.txt", "c.txt", "new.txt"} {
		if !hub.has(name) || !branch.has(name) {
			t.Errorf("%s is gone: on hub %v, on branch %v", name, hub.has(name), branch.has(name))
		}
	}
}
