package ad

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"opendfs/internal/directory"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/sys/unix"
)

// controller is a Samba domain controller in a network namespace of its own, which
// the first test that needs one provisions and all share.
type controller struct {
	ns   string // a file of the namespace
	ca   []byte
	base string
}

const (
	dcHost   = "dc1.corp.example"
	dcAdmin  = "CORP\\Administrator"
	dcSecret = "Passw0rd.of.Tests"
)

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
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a domain controller needs root")
	}
	for _, p := range []string{"samba", "samba-tool", "unshare", "ip"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("SKIPPED: %s is not installed; `make deps` installs it", p)
		}
	}
	if _, err := os.Stat("/usr/share/samba/setup/provision.ldif"); err != nil {
		t.Skip("SKIPPED: samba-ad-provision is not installed; `make deps` installs it")
	}
	if modules, _ := filepath.Glob("/usr/lib/*/samba/ldb/samba_dsdb.so"); len(modules) == 0 {
		t.Skip("SKIPPED: samba-dsdb-modules is not installed; `make deps` installs it")
	}
	dc, err := theController()
	if err != nil {
		t.Fatal(err)
	}
	return dc
}

// startController provisions a domain and starts its controller.
func startController() (*controller, error) {
	dir, err := os.MkdirTemp("", "dfsdc")
	if err != nil {
		return nil, err
	}
	stopDC = func() { _ = os.RemoveAll(dir) }
	out, err := exec.Command("unshare", "-n", "samba-tool", "domain", "provision", "--realm=CORP.EXAMPLE", "--domain=CORP", "--adminpass="+dcSecret,
		"--server-role=dc", "--dns-backend=NONE", "--targetdir="+dir, "--host-name=dc1", "--host-ip=127.0.0.1", "--option=log file="+dir+"/log").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("samba-tool domain provision: %w\n%s", err, out)
	}
	ca, err := writeCertificates(dir)
	if err != nil {
		return nil, err
	}
	args := []string{"-n", "sh", "-c", `ip link set lo up && exec samba --foreground --no-process-group --model=single --maximum-runtime=600 --debug-stdout -d 1 -s "$0" "$@"`, dir + "/etc/smb.conf"}
	for _, o := range []string{
		"server services = ldap", "tls certfile = " + dir + "/dc.crt", "tls keyfile = " + dir + "/dc.key", "tls cafile = " + dir + "/ca.crt",
		"pid directory = " + dir, "ncalrpc dir = " + dir + "/ncalrpc", "ntp signd socket directory = " + dir, "winbindd socket directory = " + dir, "log file = " + dir + "/log",
	} {
		args = append(args, "--option="+o)
	}
	cmd := exec.Command("unshare", args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // no Pdeathsig: threads end here (dial)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stopDC = func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	dc := &controller{ns: fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid), ca: ca, base: "DC=corp,DC=example"}
	return dc, dc.waitReady(&said)
}

func (dc *controller) waitReady(said *bytes.Buffer) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		o := dc.options()
		c, err := o.dial(ctx)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the domain controller does not answer: %w\n%s", err, said)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (dc *controller) options() *Options {
	return &Options{URL: "ldaps://" + dcHost, Base: dc.base, User: dcAdmin, Password: dcSecret, CA: dc.ca, Dial: dc.dial}
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
		f, err := os.Open(dc.ns)
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

// writeCertificates makes a CA and the controller's certificate: the one that
// Samba makes itself has a negative serial number, which Go refuses.
func writeCertificates(dir string) ([]byte, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CORP test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	dc := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: dcHost}, DNSNames: []string{dcHost}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	dcDER, err := x509.CreateCertificate(rand.Reader, dc, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	for name, data := range map[string][]byte{
		"ca.crt": caPEM,
		"dc.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: dcDER}),
		"dc.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	return caPEM, nil
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
