package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// samba is an smbd over a member's folder, on the member's own host.
type samba struct {
	m    *member
	dir  string
	conf string
	user string    // who clients are, with the password
	cmd  *exec.Cmd // nil: it was stopped
}

// sambaUser is who clients of a server without a domain are: root, so that no right stands between a story and what it looks at.
const sambaUser = "root%secret"

// newSamba starts an smbd whose share "docs" is the member's folder, as file servers have it: NT ACLs, streams and DOS attributes in extended
// attributes. options are further lines of the share.
func newSamba(t testing.TB, m *member, options ...string) *samba {
	t.Helper()
	needRoot(t, "smbd", "smbclient", "smbcacls", "smbpasswd")
	needSambaModules(t)
	dir := filepath.Join(workDir(t), fmt.Sprintf("samba-%s-%d", m.name, len(options)))
	s := &samba{m: m, dir: dir, conf: filepath.Join(dir, "smb.conf"), user: sambaUser}
	s.configure("server role = standalone server\npassdb backend = tdbsam:"+filepath.Join(dir, "passdb.tdb"), options)
	must(t, "sh", "-c", `printf 'secret\nsecret\n' | smbpasswd -c "$1" -s -a root`, "sh", s.conf)
	t.Cleanup(s.end)
	s.run(nil, s.daemon("smbd")...)
	s.answers()
	return s
}

func needSambaModules(t testing.TB) {
	t.Helper()
	if modules, _ := filepath.Glob("/usr/lib/*/samba/vfs/acl_xattr.so"); len(modules) == 0 {
		t.Skip("SKIPPED: samba's module acl_xattr is not installed; `make deps` installs it")
	}
}

// configure writes smb.conf: global are the lines that say what server it is, options further ones of the share.
func (s *samba) configure(global string, options []string) {
	s.m.t.Helper()
	text := "[global]\nserver string = dfs test\nnetbios name = " + s.m.name + "\nworkgroup = CORP\n" +
		"disable netbios = yes\nload printers = no\nprintcap name = /dev/null\ndisable spoolss = yes\nmap to guest = never\nlog level = 1\nsmb2 leases = yes\n"
	for _, what := range []string{"private dir", "lock directory", "state directory", "cache directory", "pid directory", "ncalrpc dir"} {
		sub := filepath.Join(s.dir, strings.ReplaceAll(what, " ", "-"))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			s.m.t.Fatal(err)
		}
		text += what + " = " + sub + "\n"
	}
	text += "log file = " + filepath.Join(s.dir, "log") + "\n" + global + "\n" +
		"[docs]\npath = " + s.m.root + "\nread only = no\nveto files = /.dfsr/\nvfs objects = acl_xattr streams_xattr\nstore dos attributes = yes\n" +
		"map archive = no\nmap hidden = no\nmap system = no\nmap readonly = no\nea support = yes\n" + strings.Join(options, "\n") + "\n"
	if err := os.WriteFile(s.conf, []byte(text), 0o644); err != nil {
		s.m.t.Fatal(err)
	}
}

// run starts a command that is, or becomes, smbd; in may be nil. What smbd starts beside it outlives it in a session of its own, so that all of
// it gets a namespace of process ids, which ends as a whole.
func (s *samba) run(in *os.File, command ...string) {
	s.m.t.Helper()
	args := s.m.host.command(append([]string{"unshare", "--pid", "--fork", "--kill-child"}, command...)...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if in != nil {
		cmd.Stdin = in
	}
	if err := cmd.Start(); err != nil {
		s.m.t.Fatal(err)
	}
	s.cmd = cmd
}

// daemon is the command line of one of Samba's daemons.
func (s *samba) daemon(program string) []string {
	return []string{program, "--foreground", "--no-process-group", "-s", s.conf}
}

// answers waits until clients are served.
func (s *samba) answers() {
	s.m.t.Helper()
	eventually(s.m.t, 20*time.Second, "smbd of "+s.m.name+" answers", func() bool {
		_, err := s.try("ls")
		return err == nil
	})
}

// stop ends the daemons.
func (s *samba) stop() {
	if s.cmd != nil {
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// end is stop at the end of a test.
func (s *samba) end() {
	s.stop()
	if s.m.t.Failed() {
		said, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		s.m.t.Logf("smbd of %s said:\n%s", s.m.name, shorten(string(said), 30))
	}
}

// as is the server for clients who are somebody else.
func (s *samba) as(user string) *samba {
	other := *s
	other.user = user
	return &other
}

// maps gives a SID to a group of the server's.
func (s *samba) maps(sid, group string) {
	s.m.t.Helper()
	args := s.m.host.command("net", "-s", s.conf, "groupmap", "add", "sid="+sid, "unixgroup="+group, "ntgroup="+group, "type=builtin")
	must(s.m.t, args[0], args[1:]...)
}

// command is the command line of a client of this server.
func (s *samba) command(program string, args ...string) []string {
	all := append([]string{program, "//" + s.m.host.v4 + "/docs", "-s", s.conf, "-U", s.user}, args...)
	return s.m.host.command(all...)
}

// try has smbclient carry out commands.
func (s *samba) try(script string) (string, error) {
	args := s.command("smbclient", "-c", script)
	return try(args[0], args[1:]...)
}

// client is try for what has to succeed.
func (s *samba) client(script string) string {
	s.m.t.Helper()
	out, err := s.try(script)
	if err != nil || strings.Contains(out, "NT_STATUS_") {
		s.m.t.Fatalf("smbclient on %s: %s: %s, error %v", s.m.name, script, out, err)
	}
	return out
}

// put writes a file through the server.
func (s *samba) put(name, text string) {
	s.m.t.Helper()
	path := filepath.Join(s.dir, "data")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.m.t.Fatal(err)
	}
	s.client("put " + path + ` "` + name + `"`)
}

// get reads a file through the server.
func (s *samba) get(name string) string {
	s.m.t.Helper()
	path := filepath.Join(s.dir, "got")
	_ = os.Remove(path)
	s.client(`get "` + name + `" ` + path)
	text, err := os.ReadFile(path)
	if err != nil {
		s.m.t.Fatal(err)
	}
	return string(text)
}

// acl runs smbcacls on a file; without options it is its ACL.
func (s *samba) acl(file string, options ...string) string {
	s.m.t.Helper()
	args := s.command("smbcacls", append([]string{file, "--numeric"}, options...)...)
	return must(s.m.t, args[0], args[1:]...)
}

// holder is a client with a batch oplock on one file: what it says is done, and its answer returned.
func (s *samba) holder(file string) func(line string) string {
	t := s.m.t
	t.Helper()
	if _, err := try("/usr/bin/python3", "-c", "import samba.samba3"); err != nil {
		t.Skip("SKIPPED: python3-samba is not installed; `make deps` installs it")
	}
	script, err := filepath.Abs("testdata/smbholder.py")
	if err != nil {
		t.Fatal(err)
	}
	args := s.m.host.command("/usr/bin/python3", script, s.m.host.v4, s.conf, file)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it ends
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(out)
	say := func(line string) string {
		t.Helper()
		if line != "" {
			if _, err := fmt.Fprintln(in, line); err != nil {
				t.Fatalf("client that holds %s: %q: %v", file, line, err)
			}
		}
		answer, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("client that holds %s: %q: %v", file, line, err)
		}
		return strings.TrimSuffix(answer, "\n")
	}
	if answer := say(""); answer != "open" {
		t.Fatalf("client that holds %s: %q", file, answer)
	}
	return say
}

// hold opens a file for writing through smbd and writes what the returned function is given, until it is given nothing.
func (s *samba) hold(file string) func(text string) {
	t := s.m.t
	t.Helper()
	fifo := filepath.Join(workDir(t), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	args := s.command("smbclient", "-c", fmt.Sprintf("put %s %s", fifo, file))
	cmd := exec.Command(args[0], args[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return func(text string) {
		t.Helper()
		if text != "" {
			if _, err := w.WriteString(text); err != nil {
				t.Fatal(err)
			}
			return
		}
		w.Close()
		if err := cmd.Wait(); err != nil {
			t.Fatalf("smbclient that held %s: %v", file, err)
		}
	}
}
