package ad

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/directory/directorytest"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/sys/unix"
)

// controller is a Samba domain controller in a network namespace of its own, which
// the first test that needs one provisions and all share.
type controller struct {
	*directorytest.Controller
	base string
}

var (
	theController = sync.OnceValues(startController)
	stopDC        = func() {}
)

func TestMain(m *testing.M) {
	code := m.Run()
	stopDC()
	os.Exit(code)
}

// needController gives the domain controller, or skips.
func needController(t *testing.T) *controller {
	t.Helper()
	directorytest.NeedController(t)
	dc, err := theController()
	if err != nil {
		t.Fatal(err)
	}
	return dc
}

// startController starts it and waits until it answers.
func startController() (*controller, error) {
	dir, err := os.MkdirTemp("", "dfsdc")
	if err != nil {
		return nil, err
	}
	stopDC = func() { _ = os.RemoveAll(dir) }
	c, err := directorytest.StartController(dir, nil)
	if err != nil {
		return nil, err
	}
	stopDC = func() {
		c.Stop()
		_ = os.RemoveAll(dir)
	}
	dc := &controller{c, directorytest.ControllerBase}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := dc.options().dial(ctx)
		if err == nil {
			return dc, l.Close()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the domain controller does not answer: %w\n%s", err, c.Stop())
		case <-tick.C:
		}
	}
}

func (dc *controller) options() *Options {
	return &Options{URL: directorytest.ControllerURL, Base: dc.base, User: directorytest.ControllerUser, Password: directorytest.ControllerPassword, CA: dc.CA, Dial: dc.dial}
}

// dial connects inside the controller's namespace.
func (dc *controller) dial(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			done <- result{nil, err}
			return
		}
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", dc.PID))
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
			_ = f.Close()
		}
		if err != nil {
			done <- result{nil, err}
			return
		}
		c, err := new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		done <- result{c, err}
	}()
	r := <-done
	return r.c, r.err
}

// do calls f with a connection to the controller.
func (dc *controller) do(t testing.TB, f func(c *ldap.Conn) error) {
	t.Helper()
	c, err := dc.options().dial(t.Context())
	if err == nil {
		err = f(c)
		_ = c.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// clear removes everything that a test has made.
func (dc *controller) clear(t testing.TB) {
	t.Helper()
	dc.do(t, func(c *ldap.Conn) error {
		var list []*object
		for _, s := range []struct{ base, filter string }{
			{stateDN(dc.base), "(objectClass=*)"}, {globalDN(dc.base), "(objectClass=msDFSR-ReplicationGroup)"}, {"CN=Computers," + dc.base, "(objectClass=computer)"},
		} {
			found, err := search(c, s.base, ldap.ScopeWholeSubtree, s.filter, "cn")
			if err != nil {
				return err
			}
			list = append(list, found...)
		}
		for _, o := range list {
			if err := c.Del(ldap.NewDelRequest(o.dn, []ldap.Control{ldap.NewControlString(treeDelete, true, "")})); err != nil {
				return err
			}
		}
		return nil
	})
}

// ldif has an administrator's tool write entries.
func (dc *controller) ldif(t testing.TB, text string) {
	t.Helper()
	dc.do(t, func(c *ldap.Conn) error {
		for entry := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
			var r *ldap.AddRequest
			for line := range strings.SplitSeq(entry, "\n") {
				k, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
				if k == "dn" {
					r = ldap.NewAddRequest(v+","+dc.base, nil)
					continue
				}
				r.Attribute(k, []string{strings.ReplaceAll(v, "BASE", dc.base)})
			}
			if err := c.Add(r); err != nil {
				return fmt.Errorf("add %s: %w", r.DN, err)
			}
		}
		return nil
	})
}

func (dc *controller) settings(domain directory.UUID) Settings {
	return Settings{Options: *dc.options(), Domain: domain, Rand: rand.Reader}
}
