package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
)

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// init makes a state directory that is private, and refuses one that is there.
func TestInit(t *testing.T) {
	hub := initialised(t)
	st, err := os.Stat(hub.state)
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode of the state directory: %v, %v", st.Mode(), err)
	}
	for _, name := range []string{"ca.key", "member.pem", "domain.yaml"} {
		if st, err := os.Stat(filepath.Join(hub.state, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	before := read(t, filepath.Join(hub.state, "domain.yaml"))
	hub.refused(exitFailed, "belongs to a domain already", "init", "--domain", "other", "--server", "x", "--address", "h:1")
	if after := read(t, filepath.Join(hub.state, "domain.yaml")); after != before {
		t.Error("a refused init changed domain.yaml")
	}

	fresh := newSite(t, "fresh")
	fresh.refused(exitUsage, "required flag", "init", "--domain", "corp")
	fresh.refused(exitUsage, "needs brackets", "init", "--domain", "corp", "--server", "s", "--address", "::1")
	fresh.refused(exitUsage, "is not a name", "init", "--domain", "two words", "--server", "s", "--address", "h:1")
	if _, err := os.Stat(fresh.state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused init left a state directory: %v", err)
	}
	fresh.refused(exitFailed, "does not exist", "serve")
	fresh.refused(exitFailed, "does not exist", "status")
	hub.refused(exitFailed, "not running", "status")
	hub.refused(exitUsage, "unknown command", "stauts")
	hub.refused(exitUsage, `unknown command "frob"`, "membership", "frob", "projects/docs@hub", "--path", "/srv/docs")
	hub.refused(exitUsage, "unknown flag: --path", "membership", "--path", "/srv/docs")
}

// apply without a daemon checks, shows, stores, and writes back what it filled
// in.
func TestApplyWithoutDaemon(t *testing.T) {
	hub := initialised(t)
	file := filepath.Join(t.TempDir(), "mine.yaml")
	text := read(t, filepath.Join(hub.state, "domain.yaml")) + `
groups:
  projects:
    folders:
      docs:
        members:
          hub: {path: /srv/kept, primary: true}  # kept
`
	put(t, file, text)
	if out := hub.must("apply", "-f", file, "--dry-run"); !strings.Contains(out, "add folder projects/docs") || !strings.Contains(out, "generation 1") {
		t.Errorf("dry run:\n%s", out)
	}
	if got := read(t, file); got != text {
		t.Error("a dry run wrote to the file")
	}
	if out := hub.must("apply", "-f", file); !strings.Contains(out, "generation 2") {
		t.Errorf("apply:\n%s", out)
	}
	stored := read(t, filepath.Join(hub.state, "domain.yaml"))
	if got := read(t, file); got != stored || !strings.Contains(got, "# kept") || strings.Count(got, "id:") != 5 {
		t.Errorf("written back:\n%s", got)
	}
	if out := hub.must("apply", "-f", file); !strings.Contains(out, "Nothing changes") {
		t.Errorf("apply again:\n%s", out)
	}
	put(t, file, text) // of generation 1, though the domain is at 2
	hub.refused(exitFailed, "generation 1", "apply", "-f", file)
	put(t, file, strings.Replace(stored, "primary: true}  # kept", "primry: true}", 1))
	hub.refused(exitFailed, "mine.yaml:", "apply", "-f", file)
	hub.refused(exitFailed, `did you mean "primary"`, "apply", "-f", file)

	own := filepath.Join(hub.state, "domain.yaml") // edited in place
	put(t, own, strings.Replace(stored, "/srv/kept", "/srv/papers", 1))
	if out := hub.must("apply", "-f", own, "--dry-run"); !strings.Contains(out, "path /srv/kept -> /srv/papers") {
		t.Errorf("dry run of an edit in place:\n%s", out)
	}
	if out := hub.must("apply", "-f", own); !strings.Contains(out, "generation 3") {
		t.Errorf("apply of an edit in place:\n%s", out)
	}
}

// What is wrong with a command line is named, and what it is to be.
func TestWrongWords(t *testing.T) {
	hub := initialised(t)
	hub.refused(exitUsage, `dfs status takes no argument, and was given "extra"`, "status", "extra")
	hub.refused(exitUsage, `unknown command "frob"`, "server", "frob")
	hub.refused(exitUsage, `"maybe" for "--rdc" flag: write true or false`, "connection", "set", "projects", "hub->branch", "--rdc=maybe")
	if out := hub.must("group", "create", "--help"); !strings.Contains(out, "--topology string") {
		t.Errorf("help of a flag:\n%s", out)
	}
	hub.refused(exitUsage, `queue "sideways": it is inbound or outbound`, "queue", "sideways")
	hub.refused(exitUsage, "dfs queue wants inbound or outbound", "queue")
	hub.refused(exitFailed, "user:jim has not got any role", "ungrant", "user:jim")
	hub.refused(exitFailed, "user:jim has not got operator", "ungrant", "operator", "user:jim")
	hub.refused(exitFailed, "compare with other hashes", "hash", hub.state, "--check", filepath.Join(hub.state, "none"))
	hub.refused(exitFailed, "read what `dfs ca export` made", "ca", "import", filepath.Join(hub.state, "none"))
	if got := wordsOf("PreservedRestore"); got != "preserved restore" {
		t.Errorf("a call is %q in words", got)
	}
}

// What a computer elsewhere applies is what it sent, though its file has the path
// that this server's own has.
func TestApplyFromTheSamePathElsewhere(t *testing.T) {
	hub := initialised(t)
	hub.serve()
	file := filepath.Join(hub.state, "domain.yaml")
	client := control.NewClient(filepath.Join(hub.state, control.SocketName))
	defer client.Close()
	text := strings.Replace(read(t, file), "\nservers:", "\ngroups: {sent: {}}\nservers:", 1)
	r, err := client.Apply(t.Context(), &controlpb.ApplyRequest{Document: []byte(text), Filename: []byte("domain.yaml"), Path: []byte(file)})
	if err != nil || len(r.Changes) != 1 || r.Generation != 2 || !strings.Contains(string(r.Document), "sent:") {
		t.Errorf("apply: %v, %v", r, err)
	}
	if out := hub.must("group", "list"); !strings.Contains(out, "sent") {
		t.Errorf("groups:\n%s", out)
	}
}

// An invitation is the token alone, good once.
func TestInviteAndJoin(t *testing.T) {
	hub, branch := initialised(t), newSite(t, "branch")
	token := strings.TrimSpace(hub.must("invite", "branch"))
	if strings.ContainsAny(token, " \n") || len(token) < 100 {
		t.Fatalf("invite printed %q", token)
	}
	branch.refused(exitFailed, "connection refused", "join", token, "--address", branch.address)
	hub.serve()
	branch.refused(exitUsage, "cut off or mistyped", "join", token[:len(token)-2], "--address", branch.address)
	branch.must("join", token, "--address", branch.address)
	other := newSite(t, "other")
	other.refused(exitFailed, "used already", "join", token, "--address", other.address)
	branch.refused(exitFailed, "belongs to a domain already", "join", token, "--address", branch.address)
	hub.refused(exitFailed, "--replace", "invite", "branch")
	hub.refused(exitUsage, "that is this server", "invite", "hub")
	hub.refused(exitUsage, "is not a name", "invite", "two words")
	other.must("join", hub.must("invite", "branch", "--replace"), "--address", other.address)
	if strings.Contains(hub.log.String(), token) {
		t.Error("the token is in the log")
	}
}

// Two daemons on one state directory: the second names the first.
func TestStateInUse(t *testing.T) {
	hub := initialised(t)
	hub.serve()
	hub.refused(exitFailed, "in use by process", "serve")
	used := new(inUseError)
	if _, err := holdState(hub.state, false); !errors.As(err, &used) || used.pid != os.Getpid() || used.command == "" {
		t.Errorf("second holder: %v", err)
	}
	if exit := hub.stop(); exit != exitDone {
		t.Errorf("serve ended with %d", exit)
	}
	state, err := holdState(hub.state, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(socketOf(hub.state)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket is left: %v", err)
	}
	if err := state.Close(); err != nil {
		t.Error(err)
	}
}

// A state directory in a folder is found through links too.
func TestStateOverlaps(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"root/a/state", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "root"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	state := &stateDir{path: filepath.Join(dir, "link/a/state")}
	for root, want := range map[string]bool{"root": true, "link": true, "root/a": true, "root/a/state": true, "other": false} {
		if got, err := state.overlaps(filepath.Join(dir, root)); err != nil || got != want {
			t.Errorf("state in %s: %v, %v", root, got, err)
		}
	}
}

// Findings are one line when raised and one when cleared, with their code.
func TestFindingsLog(t *testing.T) {
	log := new(logBuffer)
	f := newFindings(newLog(log, slog.LevelInfo))
	f.Raise("disk-full", "projects/docs", "ENOSPC")
	f.Raise("disk-full", "projects/docs", "ENOSPC")
	f.Clear("disk-full", "projects/docs")
	f.Clear("disk-full", "projects/docs")
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"code":"disk-full"`) || !strings.Contains(lines[1], "cleared") {
		t.Errorf("log:\n%s", log.String())
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{thousands(0), "0"}, {thousands(999), "999"}, {thousands(1000), "1,000"}, {thousands(-1234567), "-1,234,567"},
		{size(0), "0 B"}, {size(999), "999 B"}, {size(1000), "1.0 kB"}, {size(9_940), "9.9 kB"}, {size(12_345), "12 kB"},
		{size(999_600), "1.0 MB"}, {size(1_300_000_000), "1.3 GB"}, {size(5e15), "5.0 PB"},
		{short(300 * time.Millisecond), "less than a second"}, {short(59 * time.Second), "59 s"}, {short(90 * time.Minute), "1 h 30 min"}, {short(72 * time.Hour), "3 days"},
		{ago("", time.Now()), "-"}, {clockTime("nonsense"), "-"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestMemoryHigh(t *testing.T) {
	dir := t.TempDir()
	self := filepath.Join(dir, "cgroup")
	put(t, self, "0::/system.slice/dfs.service\n")
	if err := os.MkdirAll(filepath.Join(dir, "system.slice/dfs.service"), 0o755); err != nil {
		t.Fatal(err)
	}
	high := filepath.Join(dir, "system.slice/dfs.service/memory.high")
	for text, want := range map[string]int64{"max\n": 0, "2147483648\n": 2 << 30} {
		put(t, high, text)
		if got := memoryHigh(self, dir); got != want {
			t.Errorf("memory.high %q: %d", text, got)
		}
	}
	if got := memoryHigh(filepath.Join(dir, "none"), dir); got != 0 {
		t.Errorf("without a cgroup: %d", got)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A join with an address that cannot be is told why, and does not cost the invitation.
func TestJoinWithTheAddressOfAnother(t *testing.T) {
	hub, branch := initialised(t), newSite(t, "branch")
	hub.serve()
	token := strings.TrimSpace(hub.must("invite", "branch"))
	branch.refused(exitFailed, "give each server its own address or port", "join", token, "--address", hub.address)
	branch.refused(exitFailed, "the invitation is still good", "join", token, "--address", hub.address)
	if _, err := os.Stat(branch.state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused join left a state directory: %v", err)
	}
	branch.must("join", token, "--address", branch.address)
}
