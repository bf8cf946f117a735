package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asCommand makes the test's binary dfs itself, for commands of other users.
const asCommand = "DFS_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// stranger is a user of the machine who is not root.
type stranger struct {
	t       *testing.T
	program string
	socket  string
	uid     uint32
	groups  []uint32
}

// publicDir is a directory that every user may enter.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "dfs-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func newStranger(t *testing.T, socket string, uid uint32, groups ...uint32) *stranger {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(publicDir(t), "dfs")
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return &stranger{t, program, socket, uid, groups}
}

// dfs runs a command as the stranger, who names the socket alone.
func (s *stranger) dfs(args ...string) (string, error) {
	c := exec.Command(s.program, append([]string{"--socket", s.socket}, args...)...)
	c.Env = []string{asCommand + "=1", "PATH=/usr/bin:/bin", "HOME=/nonexistent"}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.uid, Gid: s.uid, Groups: s.groups}}
	out, err := c.CombinedOutput()
	return string(out), err
}

func (s *stranger) must(args ...string) string {
	s.t.Helper()
	out, err := s.dfs(args...)
	if err != nil {
		s.t.Fatalf("as user %d: dfs %s: %v\n%s", s.uid, strings.Join(args, " "), err, out)
	}
	return out
}

func (s *stranger) refused(words string, args ...string) {
	s.t.Helper()
	if out, err := s.dfs(args...); err == nil || !strings.Contains(out, words) {
		s.t.Errorf("as user %d: dfs %s: %v, want %q in\n%s", s.uid, strings.Join(args, " "), err, words, out)
	}
}

// A user of the machine asks and changes what was granted, and is told which role
// is missing for the rest, at once and without a restart.
func TestRolesOfUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	hub, branch := pair(t)
	branch.stop()
	hub.stop()
	socket := filepath.Join(publicDir(t), "control.sock")
	hub.serveWith("--socket", socket)
	bob := newStranger(t, socket, 54321, 54321, 60001)
	bob.refused("user:54321 has no role; it takes the role reader", "status")
	bob.refused("dfs grant reader 'user:54321'", "backlog", "projects/docs")
	hub.must("grant", "reader", "user:54321")
	if out := bob.must("status"); !strings.Contains(out, "projects/docs") {
		t.Errorf("status:\n%s", out)
	}
	bob.must("backlog", "projects/docs")
	bob.must("server", "list")
	bob.must("events")
	bob.refused("has reader; it takes the role operator", "pause", "projects")
	bob.refused("role group-admin", "group", "set", "projects", "--topology", "connections")
	bob.refused("role admin", "invite", "lab")
	bob.refused("role admin", "ca", "export", filepath.Join(t.TempDir(), "x"), "--passphrase-file", "/etc/hostname")

	hub.must("ungrant", "user:54321")
	bob.refused("has no role", "status")
	hub.must("grant", "group-admin", "projects", "group:60001")
	bob.must("pause", "projects", "--for", "1m")
	bob.must("resume", "projects")
	bob.refused("has group-admin projects; it takes the role operator", "pause", "--all")
	bob.must("folder", "set", "projects/docs", "--rest", "5s")
	bob.must("group", "set", "projects", "--topology", "hub-and-spoke", "--hub", "hub")
	bob.refused("reaches beyond", "group", "create", "mine")
	bob.refused("reaches beyond", "grant", "admin", "user:54321")
	bob.refused("not near a root", "membership", "set", "projects/docs@hub", "--path", "/etc")
	bob.refused("reaches beyond", "server", "set", "hub", "--max-rate", "1mbps", "--dry-run")
	hub.must("grant", "operator", "user:54321")
	bob.refused("role admin", "preserved", "restore", "projects/docs", "plan.txt", "--to", "/nonexistent") // nor told what is there
	bob.must("pause", "--all", "--for", "1m")
	bob.must("resume", "--all")
	if out := hub.must("grants"); !strings.Contains(out, "group:60001  group-admin projects") || !strings.Contains(out, "user:54321   operator") {
		t.Errorf("grants:\n%s", out)
	}
	out := hub.must("events")
	for _, want := range []string{
		"user:54321 (control socket)  apply domain corp\n    set folder projects/docs, rest: 1m -> 5s",
		"user:root (control socket)  apply domain corp\n    set grant to user:54321, roles: none -> reader",
		"user:54321 (control socket)  pause projects\n    set orders: - -> pause projects until ",
		"(invitation)  join domain corp", "invite server branch",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the audit log lacks %q:\n%s", want, out)
		}
	}
	hub.must("group", "set", "projects", "--name", "plans")
	if out := hub.must("grants"); !strings.Contains(out, "group-admin plans") {
		t.Errorf("grants after the renaming:\n%s", out)
	}
	hub.must("group", "remove", "plans")
	if out := hub.must("grants", "--json"); strings.Contains(out, "plans") {
		t.Errorf("grants after the group has gone:\n%s", out)
	}
}

// An administrator asks members from a computer that is none, by their port; what
// it may do is what is granted to it; an identity that is withdrawn is told so.
func TestAdministratorFromElsewhere(t *testing.T) {
	hub, branch := pair(t)
	desk := newSite(t, "desk")
	token := strings.TrimSpace(hub.must("invite", "--admin", "alice"))
	desk.refused(exitUsage, "an administrator's", "join", token, "--address", desk.address)
	desk.must("join", token)
	desk.refused(exitFailed, "used already", "--state", desk.state+"2", "join", token)
	desk.refused(exitFailed, "admin:alice has no role", "--server", hub.address, "status")
	hub.must("grant", "reader", "admin:alice")
	if out := desk.must("--server", hub.address, "status"); !strings.Contains(out, "projects/docs") {
		t.Errorf("status of hub:\n%s", out)
	}
	desk.must("--server", "branch", "status", "--wait", "--timeout", "20s") // by name: the domain came with the token
	desk.refused(exitFailed, "it takes the role group-admin", "--server", "hub", "group", "create", "other")
	hub.must("grant", "admin", "admin:alice")
	desk.refused(exitFailed, "there is an administrator of that name already", "--server", "hub", "invite", "--admin", "alice")
	desk.must("--server", "hub", "group", "create", "other")
	desk.refused(exitUsage, "run it on hub", "--server", "hub", "directory", "move", "--to", "ad", "--servers", "hub", "--url", "ldaps://dc", "--base", "DC=corp", "--user", "dfs")
	desk.must("--server", "hub", "server", "set", "branch", "--name", "lab")
	desk.must("--server", "hub", "server", "list")
	desk.must("--server", "lab", "status") // by its new name: the list before has told
	if out := desk.must("--server", "hub", "events", "--json"); !strings.Contains(out, `"who": "admin:alice"`) {
		t.Errorf("events:\n%s", out)
	}
	desk.refused(exitFailed, "no identity", "--state", desk.state+"3", "--server", "hub:1", "status")
	desk.refused(exitFailed, "127.0.0.1:1", "--server", "127.0.0.1:1", "status")
	desk.refused(exitFailed, "is not running", "status") // it is no member itself
	if out, errs, exit := desk.dfs("serve"); exit == exitDone || !strings.Contains(errs, "the administrator \"alice\"") {
		t.Errorf("an administrator serves: %d\n%s%s", exit, out, errs)
	}

	// A server's identity is one too.
	branch.refused(exitFailed, "server:lab has no role", "--server", "hub", "status")
	hub.must("grant", "admin", "server:lab")
	branch.must("--server", "hub", "group", "remove", "other")

	hub.must("admin", "remove", "alice")
	desk.refused(exitFailed, "not of this domain any more", "--server", "hub", "status")
	if out := hub.must("grants", "--json"); strings.Contains(out, "alice") {
		t.Errorf("grants after alice has gone:\n%s", out)
	}
}

// The audit log has before and after of what was removed, what was edited by hand
// while nothing ran, and goes on behind a line that a crash has cut off.
func TestAuditLog(t *testing.T) {
	hub := initialised(t)
	hub.must("group", "create", "projects")
	hub.must("folder", "create", "projects/docs")
	hub.must("membership", "create", "projects/docs@hub", "--path", "/srv/docs", "--primary")
	hub.must("group", "remove", "projects")
	file := filepath.Join(hub.state, "domain.yaml")
	put(t, file, strings.Replace(read(t, file), "\nservers:", "\n# by hand\ngroups: {extra: {}}\nservers:", 1))
	hub.must("group", "create", "last")
	trail := filepath.Join(hub.state, auditName)
	st, err := os.Stat(trail)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode of the log: %v, %v", st.Mode(), err)
	}
	put(t, trail, read(t, trail)+`{"number":99,"who":"cut o`)
	hub.must("group", "remove", "last")
	var r struct {
		Events []struct {
			Number     uint64
			Who, What  string
			Generation string
			Edits      []struct{ Op, Object, Property, Before, After string }
		}
	}
	out := hub.must("events", "--json")
	if err := json.Unmarshal([]byte(strings.ReplaceAll(out, `"generation": `, `"generationNumber": `)), &r); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for i, e := range r.Events {
		if e.Number != uint64(i+1) {
			t.Errorf("event %d has number %d", i, e.Number)
		}
		for _, d := range e.Edits {
			lines = append(lines, fmt.Sprintf("%s %s: %s %s %s: %s -> %s", e.Who, e.What, d.Op, d.Object, d.Property, d.Before, d.After))
		}
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{
		"apply: remove membership projects/docs@hub : path /srv/docs; primary yes -> ",
		"unknown edit: add group extra :  -> topology full-mesh",
		"apply: remove group last : topology full-mesh -> ",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the log lacks %q:\n%s", want, all)
		}
	}
	if out := hub.must("events", "--limit", "1"); strings.Count(out, "domain corp") != 1 {
		t.Errorf("one event:\n%s", out)
	}
	hub.refused(exitUsage, "--since", "events", "--since", "yesterday-ish")
}

// The log is bounded: older files make room, and numbers go on over all of them.
func TestAuditRotates(t *testing.T) {
	trail, err := openAudit(filepath.Join(t.TempDir(), auditName))
	if err != nil {
		t.Fatal(err)
	}
	trail.size = 1000
	for range 100 {
		if err := trail.note(event{Who: "user:x", What: "pause", Object: strings.Repeat("o", 100), Generation: 7, Term: 1}); err != nil {
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(trail.path + "*")
	if err != nil || len(names) != auditKept+1 {
		t.Errorf("files %v, %v", names, err)
	}
	again, err := openAudit(trail.path)
	if err != nil || again.number != 100 || again.last.Generation != 7 {
		t.Fatalf("opened again: %d, %v", again.number, err)
	}
	list, err := again.events(time.Time{}, 10)
	if err != nil || len(list) != 10 || list[9].Number != 100 || list[0].Number != 91 {
		t.Errorf("the last ten: %v, %v", list, err)
	}
}
