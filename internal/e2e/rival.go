package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pair is two bare hosts with a fresh filesystem each: what a rival gets, the same that our members stand on.
type pair struct {
	t    testing.TB
	dir  string
	net  *network
	a, b *image
}

func newPair(t testing.TB, size int64) *pair {
	t.Helper()
	dir := workDir(t)
	return &pair{
		t: t, dir: dir, net: newNetwork(t, "alpha", "beta"),
		a: newImage(t, "ext4", filepath.Join(dir, "a.img"), filepath.Join(dir, "a"), size),
		b: newImage(t, "ext4", filepath.Join(dir, "b.img"), filepath.Join(dir, "b"), size),
	}
}

// daemon runs a rival's server on a host until the test ends, and its output to a file.
func (p *pair) daemon(h *host, args ...string) {
	p.t.Helper()
	out, err := os.Create(filepath.Join(p.dir, h.name+"-"+filepath.Base(args[0])+".log"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close()
	all := h.command(args...)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+filepath.Join(p.dir, h.name+"-home"))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if p.t.Failed() {
			text, _ := os.ReadFile(out.Name())
			p.t.Logf("%s said:\n%s", strings.Join(args, " "), shorten(string(text), 40))
		}
	})
}

// background runs a program until the test or the function ends it.
func background(t testing.TB, args []string) (end func()) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	t.Cleanup(end)
	return end
}

// listening waits until something listens on a port of the host.
func (p *pair) listening(h *host, port int) {
	p.t.Helper()
	want := fmt.Sprintf(":%d ", port)
	eventually(p.t, 30*time.Second, fmt.Sprintf("port %d of %s listens", port, h.name), func() bool {
		args := h.command("ss", "-Hltn")
		out, _ := try(args[0], args[1:]...)
		return strings.Contains(out, want)
	})
}

// rsyncDaemon serves the first filesystem as module "tree".
func (p *pair) rsyncDaemon() {
	p.t.Helper()
	conf := filepath.Join(p.dir, "rsyncd.conf")
	text := "uid = 0\ngid = 0\nuse chroot = no\n[tree]\npath = " + p.a.point + "\nread only = yes\nexclude = /lost+found\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.daemon(p.net.hosts[0], "rsync", "--daemon", "--no-detach", "--config="+conf, "--port=873")
	p.listening(p.net.hosts[0], 873)
}

// rsync pulls the module into the second filesystem and syncs; seconds until all is durable.
func (p *pair) rsync(options ...string) float64 {
	p.t.Helper()
	args := append([]string{"rsync", "-a"}, options...)
	args = p.net.hosts[1].command(append(args, "rsync://"+p.net.hosts[0].v4+"/tree/", p.b.point+"/")...)
	return timed(func() {
		must(p.t, args[0], args[1:]...)
		must(p.t, "sync")
	})
}

// unison brings the first filesystem to the second over its own socket.
func (p *pair) unison() float64 {
	p.t.Helper()
	a, b := p.net.hosts[0], p.net.hosts[1]
	for _, h := range p.net.hosts {
		if err := os.MkdirAll(filepath.Join(p.dir, h.name+"-home", ".unison"), 0o700); err != nil {
			p.t.Fatal(err)
		}
	}
	p.daemon(a, "unison", "-socket", "5555")
	p.listening(a, 5555)
	args := b.command("env", "HOME="+filepath.Join(p.dir, b.name+"-home"), "unison", p.b.point, "socket://"+a.v4+":5555/"+p.a.point,
		"-batch", "-auto", "-silent", "-owner", "-group", "-times", "-numericids", "-ignore", "Path lost+found", "-confirmbigdel=false")
	return timed(func() {
		must(p.t, args[0], args[1:]...)
		must(p.t, "sync")
	})
}
