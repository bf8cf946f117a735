package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"opendfs/internal/store"
)

// site is a server of a story: its state directory, its folder, and a member
// that runs in this process.
type site struct {
	t       *testing.T
	name    string
	state   string
	folder  string
	address string
	stop    func() int // ends the member; nil while it does not run
	log     *logBuffer
}

func newSite(t *testing.T, name string) *site {
	t.Helper()
	dir := t.TempDir() // long enough that the socket's path does not fit into sockaddr_un by itself
	deep := filepath.Join(dir, strings.Repeat("deep/", 12), name)
	s := &site{t: t, name: name, state: filepath.Join(deep, "state"), folder: filepath.Join(dir, "folder"), log: new(logBuffer)}
	for _, d := range []string{deep, s.folder} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if s.address, err = freeAddress(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.stop != nil {
			s.stop()
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, s.log.String())
		}
	})
	return s
}

// dfs runs a command of this server and returns what it printed and its status.
func (s *site) dfs(args ...string) (out, errs string, exit int) {
	var o, e bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	exit = run(ctx, append([]string{"--state", s.state}, args...), strings.NewReader(""), &o, &e)
	return o.String(), e.String(), exit
}

// must runs a command that has to succeed.
func (s *site) must(args ...string) string {
	s.t.Helper()
	out, errs, exit := s.dfs(args...)
	if exit != exitDone {
		s.t.Fatalf("on %s: dfs %s: exit %d\n%s%s", s.name, strings.Join(args, " "), exit, out, errs)
	}
	return out
}

// refused runs a command that has to fail, and looks for words in its error.
func (s *site) refused(exit int, words string, args ...string) {
	s.t.Helper()
	out, errs, got := s.dfs(args...)
	if got != exit || !strings.Contains(errs, words) {
		s.t.Errorf("on %s: dfs %s: exit %d, want %d and %q\n%s%s", s.name, strings.Join(args, " "), got, exit, words, out, errs)
	}
}

// serve starts the member and returns when it answers.
func (s *site) serve() { s.t.Helper(); s.serveWith() }

func (s *site) serveWith(flags ...string) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"--state", s.state, "serve", "--metrics", "off"}, flags...), nil, new(logBuffer), s.log)
	}()
	s.stop = func() int {
		s.stop = nil
		cancel()
		return <-ended
	}
	s.eventually("answers", func() bool {
		_, _, exit := s.dfs("status")
		return exit == exitDone
	})
}

// eventually waits for something that is bound to become true.
func (s *site) eventually(what string, is func() bool) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-end:
			s.t.Fatalf("%s: never %s", s.name, what)
		}
	}
}

// write writes a file as another process: what the members' own one does to a
// folder is no user's change.
func (s *site) write(name, text string) {
	s.t.Helper()
	tee := exec.Command("tee", filepath.Join(s.folder, name))
	tee.Stdin = strings.NewReader(text)
	if err := tee.Run(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) read(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.folder, name))
	if err != nil {
		s.t.Error(err)
	}
	return string(b)
}

// initialised makes the hub of a domain that nobody serves yet.
func initialised(t *testing.T) *site {
	t.Helper()
	hub := newSite(t, "hub")
	hub.must("init", "--domain", "corp", "--server", "hub", "--address", hub.address, "--listen", hub.address)
	return hub
}

// replicate adds the folder to the hub's domain file.
func replicate(t *testing.T, hub, branch *site) string {
	t.Helper()
	file := filepath.Join(hub.state, "domain.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = fmt.Appendf(text, `
groups:
  projects:
    folders:
      docs:
        members:
          hub:    {path: %q, primary: true}
          branch: {path: %q}
`, hub.folder, branch.folder)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// pair makes two members that replicate projects/docs and are in sync.
func pair(t *testing.T) (hub, branch *site) {
	t.Helper()
	return pairAfter(t, func(_, _ *site, domain string) string { return domain })
}

// pairAfter is pair after something has been done to the folders, or to the
// text of the domain file.
func pairAfter(t *testing.T, before func(hub, branch *site, domain string) string) (hub, branch *site) {
	t.Helper()
	hub, branch = initialised(t), newSite(t, "branch")
	hub.serve()
	token := hub.must("invite", "branch")
	branch.must("join", strings.TrimSpace(token), "--address", branch.address)
	branch.serve()
	file := replicate(t, hub, branch)
	put(t, file, before(hub, branch, read(t, file)))
	hub.must("apply", "-f", file)
	branch.must("status", "--wait", "--timeout", "20s")
	hub.must("status", "--wait", "--timeout", "20s")
	return hub, branch
}

// One change goes the whole way, in both directions, and every command that
// looks at it says so.
func TestTwoMembers(t *testing.T) {
	hub, branch := pair(t)
	hub.write("plan.txt", "first")
	hub.must("status", "--wait", "--timeout", "20s")
	if got := branch.read("plan.txt"); got != "first" {
		t.Fatalf("branch has %q", got)
	}
	branch.write("plan.txt", "second, longer")
	hub.must("status", "--wait", "--timeout", "20s") // the barrier makes branch capture it first
	if got := hub.read("plan.txt"); got != "second, longer" {
		t.Errorf("hub has %q", got)
	}
	var status struct {
		Master  bool
		Folders []struct {
			Name, State, Journal string
			Files                int64
			Links                []struct{ Connected bool }
		}
	}
	if err := json.Unmarshal([]byte(hub.must("status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	if f := status.Folders; !status.Master || len(f) != 1 || f[0].State != "normal" || f[0].Files != 1 || f[0].Journal == "" || len(f[0].Links) != 2 || !f[0].Links[0].Connected {
		t.Errorf("status of hub: %+v", status)
	}
	if out := hub.must("explain", filepath.Join(hub.folder, "plan.txt")); !strings.Contains(out, "In order") {
		t.Errorf("explain on hub:\n%s", out)
	}
	if out := branch.must("record", "projects/docs:plan.txt"); !strings.Contains(out, "Uid ") || !strings.Contains(out, "on-disk") {
		t.Errorf("record on branch:\n%s", out)
	}
	hub.write("draft.bak", "kept out")
	if out := hub.must("explain", "projects/docs:draft.bak"); !strings.Contains(out, "filter keeps this name out") {
		t.Errorf("explain of a filtered name:\n%s", out)
	}
	hub.refused(exitFailed, "no ID record", "record", filepath.Join(hub.folder, "nothing"))
	hub.refused(exitFailed, "lies in no replicated folder", "explain", "/etc/passwd")
	branch.refused(exitFailed, "its master is hub", "apply", "-f", filepath.Join(hub.state, "domain.yaml"))
	branch.refused(exitFailed, "its master is hub", "invite", "third")
	branch.refused(exitFailed, "dfs directory promote", "invite", "third") // should the master be no more
}

// A partner that is gone is waited for, by name; what it lacks is listed; a
// member that stops does so in order.
func TestPartnerGone(t *testing.T) {
	hub, branch := pair(t)
	if exit := branch.stop(); exit != exitDone {
		t.Fatalf("branch ended with %d", exit)
	}
	hub.write("late.txt", "late")
	hub.refused(exitNotYet, "branch", "status", "--wait", "--timeout", "500ms")
	if out := hub.must("backlog", "projects/docs", "--from", "hub", "--to", "branch"); !strings.Contains(out, "late.txt") {
		t.Errorf("backlog:\n%s", out)
	}
	if out := hub.must("queue", "outbound"); !strings.Contains(out, "late.txt") {
		t.Errorf("queue:\n%s", out)
	}
	if out := hub.must("explain", "projects/docs:late.txt"); !strings.Contains(out, "branch does not have it yet") {
		t.Errorf("explain:\n%s", out)
	}
	hub.refused(exitUsage, `server "nobody" is not in the domain`, "backlog", "projects/docs", "--to", "nobody")
	branch.serve()
	hub.must("status", "--wait", "--timeout", "20s")
	if got := branch.read("late.txt"); got != "late" {
		t.Errorf("branch has %q", got)
	}
}

// A database that breaks while it is used is replaced without a restart, and
// the folder goes on. Alone, a member takes its own tree.
func TestDatabaseBreaksWhileRunning(t *testing.T) {
	hub := initialised(t)
	file := filepath.Join(hub.state, "domain.yaml")
	put(t, file, read(t, file)+"\ngroups: {g: {folders: {f: {members: {hub: {path: "+hub.folder+", primary: true}}}}}}\n")
	hub.write("file", "content")
	m, stop := inside(hub)
	hub.must("status", "--wait", "--timeout", "20s")
	m.damaged(fmt.Errorf("read row: %w", store.ErrCorrupt))
	hub.eventually("has moved the database aside", func() bool {
		aside, err := filepath.Glob(filepath.Join(hub.state, dbName+".damaged-*"))
		return err == nil && len(aside) == 1
	})
	hub.write("later", "more")
	hub.must("status", "--wait", "--timeout", "20s")
	if out := hub.must("explain", "g/f:later"); !strings.Contains(out, "In order") {
		t.Errorf("explain after the rebuild:\n%s", out)
	}
	stop()
}

// inside starts the member of a site whose insides a test looks at.
func inside(s *site) (m *member, stop func()) {
	s.t.Helper()
	state, err := holdState(s.state, false)
	if err != nil {
		s.t.Fatal(err)
	}
	if m, err = newMember(state, newLog(s.log, slog.LevelInfo)); err != nil {
		s.t.Fatal(err)
	}
	f, err := openFaces(m, serveOptions{metrics: "127.0.0.1:0"})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.run(ctx, f) }()
	return m, sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("member ended: %v", err)
		}
		f.close()
		if err := state.Close(); err != nil {
			s.t.Error(err)
		}
	})
}

// A root that is not there is a finding, and nothing else; when it is back the
// folder goes on. A database that is damaged is rebuilt.
func TestBadRootAndDatabase(t *testing.T) {
	hub, branch := pair(t)
	hub.write("file", "content")
	hub.must("status", "--wait", "--timeout", "20s")
	branch.stop()
	away := branch.folder + ".away"
	if err := os.Rename(branch.folder, away); err != nil {
		t.Fatal(err)
	}
	branch.serve()
	branch.eventually("misses its root", func() bool { return strings.Contains(branch.must("status"), "root-missing") })
	branch.stop()
	if err := os.Rename(away, branch.folder); err != nil {
		t.Fatal(err)
	}
	manifests, err := filepath.Glob(filepath.Join(branch.state, dbName, "MANIFEST*"))
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no manifest in the database: %v", err)
	}
	for _, m := range manifests {
		b, err := os.ReadFile(m)
		if err != nil {
			t.Fatal(err)
		}
		b[20] ^= 0xff
		if err := os.WriteFile(m, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	branch.serve()
	branch.must("status", "--wait", "--timeout", "20s")
	if got := hub.read("file"); got != "content" {
		t.Errorf("hub has %q after branch was rebuilt", got)
	}
	aside, err := filepath.Glob(filepath.Join(branch.state, dbName+".damaged-*"))
	if err != nil || len(aside) != 1 {
		t.Errorf("damaged databases: %v, %v", aside, err)
	}
	if !strings.Contains(branch.log.String(), "state-rebuilt") {
		t.Error("the log has no line about state-rebuilt")
	}
}
