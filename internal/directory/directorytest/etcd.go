package directorytest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Etcd is a cluster of the distribution's etcd with a CA of its own, which asks
// its clients for certificates. ca.crt, client.crt and client.key are in Dir.
type Etcd struct {
	Dir    string
	CA     *Authority
	inside func(i int, args ...string) []string
	hosts  []string // HOST:PORT for clients
	peers  []string // HOST:PORT for each other
	cmds   []*exec.Cmd
	starts []int
}

// NeedEtcd skips a test where no Etcd can run.
func NeedEtcd(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Skip("SKIPPED: etcd is not installed; `make deps` installs it (etcd-server)")
	}
}

// NewEtcd makes the certificates of a cluster, a server for each two addresses: for
// clients, for each other. inside makes of the command of server i one that runs where
// its addresses are; nil is here. Start starts each.
func NewEtcd(dir string, addresses [][2]string, inside func(i int, args ...string) []string) (*Etcd, error) {
	ca, err := NewAuthority("etcd test CA")
	if err != nil {
		return nil, err
	}
	if inside == nil {
		inside = func(_ int, args ...string) []string { return args }
	}
	e := &Etcd{Dir: dir, CA: ca, inside: inside, cmds: make([]*exec.Cmd, len(addresses)), starts: make([]int, len(addresses))}
	if err := os.WriteFile(e.file("ca.crt"), ca.PEM(), 0o600); err != nil {
		return nil, err
	}
	if err := ca.Issue(dir, "client"); err != nil {
		return nil, err
	}
	for i, a := range addresses {
		e.hosts, e.peers = append(e.hosts, a[0]), append(e.peers, a[1])
		host, _, err := net.SplitHostPort(a[0])
		if err != nil {
			return nil, err
		}
		if err := ca.Issue(dir, name(i), host); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func name(i int) string { return fmt.Sprintf("etcd%d", i+1) }

func (e *Etcd) file(name string) string { return filepath.Join(e.Dir, name) }

// Endpoints are the URLs for clients.
func (e *Etcd) Endpoints() []string {
	var list []string
	for _, h := range e.hosts {
		list = append(list, "https://"+h)
	}
	return list
}

// Start starts a server, with what it knew. It does not wait for it.
func (e *Etcd) Start(i int) error {
	var all []string
	for j, p := range e.peers {
		all = append(all, name(j)+"=https://"+p)
	}
	client, peer := "https://"+e.hosts[i], "https://"+e.peers[i]
	args := e.inside(i, "etcd", "--name", name(i), "--data-dir", e.file(name(i)+".data"), "--initial-cluster", strings.Join(all, ","), "--initial-cluster-token", "test",
		"--listen-client-urls", client, "--advertise-client-urls", client, "--client-cert-auth", "--trusted-ca-file", e.file("ca.crt"), "--cert-file", e.file(name(i)+".crt"), "--key-file", e.file(name(i)+".key"),
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--peer-client-cert-auth", "--peer-trusted-ca-file", e.file("ca.crt"), "--peer-cert-file", e.file(name(i)+".crt"), "--peer-key-file", e.file(name(i)+".key"))
	log, err := os.OpenFile(e.file(name(i)+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	c := exec.Command(args[0], args[1:]...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		return err
	}
	e.cmds[i] = c
	e.starts[i]++
	return nil
}

// Serves reports whether a server that was started has found the others since.
func (e *Etcd) Serves(i int) bool {
	text, _ := os.ReadFile(e.file(name(i) + ".log"))
	return e.cmds[i] != nil && strings.Count(string(text), "ready to serve client requests") >= e.starts[i]
}

// Kill ends a server at once, if it runs.
func (e *Etcd) Kill(i int) {
	if c := e.cmds[i]; c != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
		e.cmds[i] = nil
	}
}

// Close ends all and gives the ends of what they said.
func (e *Etcd) Close() string {
	var said strings.Builder
	for i := range e.cmds {
		e.Kill(i)
		text, _ := os.ReadFile(e.file(name(i) + ".log"))
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(&said, "%s:\n%s\n", name(i), strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
	return said.String()
}
