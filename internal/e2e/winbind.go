package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"opendfs/internal/directory/directorytest"
)

// corp is an Active Directory domain: its controller stands on a host of its own in the cluster's network, and file servers join it.
type corp struct {
	t    testing.TB
	host *host
	dir  string
}

// domainNumbers and otherNumbers are what a server's winbind counts the domain's users and groups in.
const (
	domainNumbers = "100000-199999"
	otherNumbers  = "500000-599999"
)

// newCorp starts the domain's controller in the network of a cluster, whose hosts are then called by name, and lets them find it.
func newCorp(t testing.TB, c *cluster) (*corp, *directorytest.Controller) {
	t.Helper()
	directorytest.NeedController(t)
	needRoot(t, "winbindd", "wbinfo", "net", "smbd", "smbclient", "smbcacls", "getent")
	needSambaModules(t)
	if modules, _ := filepath.Glob("/lib/*/libnss_winbind.so.2"); len(modules) == 0 {
		t.Skip("SKIPPED: libnss-winbind is not installed; `make deps` installs it")
	}
	if err := os.MkdirAll("/run/samba", 0o755); err != nil { // something of each host's own lies over it
		t.Fatal(err)
	}
	a := &corp{t: t, host: c.net.host("dc1.corp", 9), dir: workDir(t)}
	c.net.hosts = append(c.net.hosts, a.host)
	c.net.writeHosts()
	for _, h := range c.net.hosts {
		h.lay("resolv.conf", "nameserver "+a.host.v4+"\nsearch corp.example\n")
		h.lay("nsswitch.conf", "passwd: files winbind\ngroup: files winbind\nhosts: files dns\n")
		h.run = filepath.Join(a.dir, "run-"+h.name)
		if err := os.MkdirAll(h.run, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dc, err := directorytest.StartDomain(filepath.Join(a.dir, "dc"), a.host.v4, a.host.command)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if said := dc.Stop(); t.Failed() {
			t.Logf("the domain controller said:\n%s", shorten(said, 30))
		}
	})
	return a, dc
}

// join makes a member's host a server of the domain. It serves nothing yet.
func (a *corp) join(m *member) *samba {
	a.t.Helper()
	s := &samba{m: m, dir: filepath.Join(a.dir, m.name), user: directorytest.ControllerUser + "%" + directorytest.ControllerPassword}
	s.conf = filepath.Join(s.dir, "smb.conf")
	s.configure(ofCorp(domainNumbers), nil)
	join := m.host.command("net", "-s", s.conf, "ads", "join", "--no-dns-updates", "-U", s.user)
	eventually(a.t, 30*time.Second, m.name+" joins the domain", func() bool {
		_, err := try(join[0], join[1:]...) // refused until the controller answers
		return err == nil
	})
	a.t.Cleanup(s.end)
	return s
}

// ofCorp are the lines of smb.conf that make a server one of the domain's, as operations.md recommends them.
func ofCorp(numbers string) string {
	return "security = ads\nrealm = CORP.EXAMPLE\ntemplate shell = /bin/sh\ninterfaces = lan0\n" +
		"idmap config * : backend = tdb\nidmap config * : range = 3000-7999\n" +
		"idmap config CORP : backend = rid\nidmap config CORP : range = " + numbers
}

// serve starts winbindd and smbd on a host that has joined, and returns when users are known and served. What they remember of other numbers
// goes first.
func (s *samba) serve(numbers string, options ...string) {
	s.m.t.Helper()
	s.stop()
	for _, cache := range []string{"lock-directory", "state-directory", "cache-directory"} {
		if err := os.RemoveAll(filepath.Join(s.dir, cache)); err != nil {
			s.m.t.Fatal(err)
		}
	}
	s.configure(ofCorp(numbers), options)
	again, say, err := os.Pipe()
	if err != nil {
		s.m.t.Fatal(err)
	}
	defer again.Close()
	defer say.Close()
	both := append([]string{"sh", "-c", `"$@" & read go; shift; exec smbd "$@" </dev/null`, "sh"}, s.daemon("winbindd")...)
	s.run(again, both...)
	var first int
	_, _ = fmt.Sscanf(numbers, "%d-", &first)
	user := fmt.Sprintf("%d", first+513) // the RID of the domain's users
	eventually(s.m.t, 30*time.Second, "winbindd of "+s.m.name+" knows the domain", func() bool {
		args := s.m.host.command("getent", "group", user)
		_, err := try(args[0], args[1:]...)
		return err == nil
	})
	if _, err := say.WriteString("go\n"); err != nil {
		s.m.t.Fatal(err)
	}
	s.answers()
}
