package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// member is one server: a state directory, the root of its folder, and at most one daemon.
type member struct {
	t         testing.TB
	name      string
	host      *host // nil: this machine
	address   string
	addresses []string // in the domain file, where they are not address
	root      string
	state     string
	logs      string
	prefix    []string // of every command line: setpriv(1) and the like
	options   []string // of `dfs serve`
	cmd       *exec.Cmd
	gone      chan struct{} // closed when the daemon has ended
}

// newMember makes the directories of a server.
func newMember(t testing.TB, name string, h *host, address, root, state string) *member {
	t.Helper()
	m := &member{t: t, name: name, host: h, address: address, root: root, state: state, logs: filepath.Join(workDir(t), name+".log")}
	for _, dir := range []string{root, filepath.Dir(state)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			m.tell()
		}
	})
	return m
}

// nobody is the user without privileges that members run as.
const nobody = 65534

// humble makes the member run without privileges, and gives its directories away.
func (m *member) humble() {
	m.t.Helper()
	id := strconv.Itoa(nobody)
	m.prefix = []string{"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"}
	for _, d := range []string{m.root, filepath.Dir(m.state)} {
		if err := os.Chown(d, nobody, nobody); err != nil {
			m.t.Fatal(err)
		}
	}
}

// tell shows the end of the daemon's log beside a failure.
func (m *member) tell() {
	text, _ := os.ReadFile(m.logs)
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if len(lines) > 60 {
		lines = lines[len(lines)-60:]
	}
	m.t.Logf("log of %s, last %d lines:\n%s", m.name, len(lines), strings.Join(lines, "\n"))
}

// dfs runs a command on this server.
func (m *member) dfs(args ...string) (string, error) {
	all := m.command(args...)
	return try(all[0], all[1:]...)
}

// command is the whole command line of a dfs command on this server.
func (m *member) command(args ...string) []string {
	all := append(slices.Clone(m.prefix), program(m.t), "--state", m.state)
	return m.host.command(append(all, args...)...)
}

// must runs a command that has to succeed.
func (m *member) must(args ...string) string {
	m.t.Helper()
	out, err := m.dfs(args...)
	if err != nil {
		m.t.Fatalf("on %s: %v", m.name, err)
	}
	return out
}

// start runs `dfs serve` and returns when it answers.
func (m *member) start() {
	m.t.Helper()
	m.launch()
	eventually(m.t, 20*time.Second, m.name+" answers `dfs status`", func() bool {
		if m.ended() {
			m.t.Fatalf("`dfs serve` on %s ended: %v", m.name, m.cmd.ProcessState)
		}
		_, err := m.dfs("status", "--json")
		return err == nil
	})
}

// launch runs `dfs serve` and does not wait.
func (m *member) launch() {
	m.t.Helper()
	if m.running() {
		m.t.Fatalf("%s runs already", m.name)
	}
	out, err := os.OpenFile(m.logs, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	defer out.Close()
	args := m.command(append([]string{"serve"}, m.options...)...)
	m.cmd = exec.Command(args[0], args[1:]...)
	m.cmd.Stdout, m.cmd.Stderr = out, out
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	gone := make(chan struct{})
	m.gone = gone
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(gone)
	}(m.cmd)
}

func (m *member) running() bool { return m.cmd != nil && !m.ended() }

func (m *member) ended() bool {
	select {
	case <-m.gone:
		return true
	default:
		return false
	}
}

// stop ends the daemon as a service manager does, and holds it to its five seconds.
func (m *member) stop() {
	m.t.Helper()
	if !m.running() {
		return
	}
	began := time.Now()
	m.signal(syscall.SIGTERM)
	select {
	case <-m.gone:
	case <-time.After(20 * time.Second):
		m.signal(syscall.SIGABRT)
		<-m.gone
		m.t.Fatalf("%s runs 20 s after SIGTERM; its stacks are in the log", m.name)
	}
	if took := time.Since(began); took > 6*time.Second {
		m.t.Errorf("%s took %v to end after SIGTERM; it has 5 s", m.name, took)
	}
	if code := m.cmd.ProcessState.ExitCode(); code != 0 {
		m.t.Errorf("%s ended with %v after SIGTERM", m.name, m.cmd.ProcessState)
	}
}

// kill ends the daemon at once.
func (m *member) kill() {
	if m.running() {
		m.signal(syscall.SIGKILL)
		<-m.gone
	}
}

func (m *member) signal(s syscall.Signal) { _ = m.cmd.Process.Signal(s) }

// freeze stops the daemon where it is. When it returns no thread of it will run in user space again: each is stopped, or sits in a
// system call that will stop it on its way out.
func (m *member) freeze() {
	m.t.Helper()
	m.signal(syscall.SIGSTOP)
	eventually(m.t, 10*time.Second, m.name+" is stopped", func() bool {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", m.cmd.Process.Pid))
		for _, path := range stats {
			text, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			_, rest, _ := strings.Cut(string(text), ") ")
			if !strings.HasPrefix(rest, "T") && !strings.HasPrefix(rest, "D") {
				return false
			}
		}
		return len(stats) > 0
	})
}

// path is a place in the folder on this server.
func (m *member) path(rel ...string) string {
	return filepath.Join(append([]string{m.root}, rel...)...)
}

// private is a place in the folder's private area.
func (m *member) private(rel ...string) string {
	return filepath.Join(append([]string{m.root, ".dfsr"}, rel...)...)
}
