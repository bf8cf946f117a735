package directorytest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Controller is a Samba domain controller of the domain corp.example, which runs
// from files of its own.
type Controller struct {
	Dir  string // has ca.crt, which has signed its certificate
	CA   []byte // that file
	PID  int
	cmd  *exec.Cmd
	said bytes.Buffer
}

// What a Controller has. Its certificate is for its name and for 127.0.0.1.
const (
	dcHost             = "dc1.corp.example"
	ControllerURL      = "ldaps://" + dcHost
	ControllerBase     = "DC=corp,DC=example"
	ControllerUser     = "CORP\\Administrator"
	ControllerPassword = "Passw0rd.of.Tests"
)

// noSync has Samba's databases write without waiting for the disk: nothing of them
// outlives the test.
const noSync = "TDB_NO_FSYNC=1"

// NeedController skips a test where no Controller can run.
func NeedController(t testing.TB) {
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
}

// StartController provisions a domain in dir and starts its controller, which
// answers LDAP alone. inside makes of a command one that runs in a network
// namespace with its loopback up; nil is a namespace of the controller's own.
func StartController(dir string, inside func(args ...string) []string) (*Controller, error) {
	if inside == nil {
		inside = func(args ...string) []string {
			return append([]string{"unshare", "-n", "sh", "-c", `ip link set lo up && exec "$@"`, "sh"}, args...)
		}
	}
	return startController(dir, "127.0.0.1", "NONE", "ldap", inside)
}

// StartDomain provisions a domain in dir and starts a controller at address that
// file servers can join: with DNS, which leads to it, Kerberos and the services
// over SMB. inside makes of a command one that runs in a network namespace which
// has the address, and with a /run/samba of its own: there winbindd is found.
func StartDomain(dir, address string, inside func(args ...string) []string) (*Controller, error) {
	return startController(dir, address, "SAMBA_INTERNAL", "ldap cldap kdc rpc dns s3fs winbindd", inside)
}

func startController(dir, address, dns, services string, inside func(args ...string) []string) (*Controller, error) {
	// Options stand in smb.conf, because the controller's smbd and winbindd see that alone.
	args := []string{
		"-n", "samba-tool", "domain", "provision", "--realm=CORP.EXAMPLE", "--domain=CORP", "--adminpass=" + ControllerPassword, "--server-role=dc",
		"--dns-backend=" + dns, "--targetdir=" + dir, "--host-name=dc1", "--host-ip=" + address,
	}
	for _, o := range []string{
		"server services = " + services, "disable netbios = yes", "tls certfile = " + dir + "/dc.crt", "tls keyfile = " + dir + "/dc.key", "tls cafile = " + dir + "/ca.crt",
		"pid directory = " + dir, "ncalrpc dir = " + dir + "/ncalrpc", "ntp signd socket directory = " + dir, "log file = " + dir + "/log",
	} {
		args = append(args, "--option="+o)
	}
	provision := exec.Command("unshare", args...)
	provision.Env = append(os.Environ(), noSync)
	out, err := provision.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("samba-tool domain provision: %w\n%s", err, out)
	}
	c := &Controller{Dir: dir}
	if c.CA, err = writeCertificates(dir); err != nil {
		return nil, err
	}
	// In a namespace of process ids nothing that it started outlives it.
	args = inside("unshare", "--pid", "--fork", "--kill-child", "samba", "--foreground", "--no-process-group", "--model=single", "--maximum-runtime=600", "--debug-stdout", "-d", "1", "-s", c.conf())
	c.cmd = exec.Command(args[0], args[1:]...)
	c.cmd.Env = append(os.Environ(), noSync)
	c.cmd.Stdout, c.cmd.Stderr = &c.said, &c.said
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // no Pdeathsig: it is of the thread that starts it, and threads end
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.PID = c.cmd.Process.Pid
	return c, nil
}

func (c *Controller) conf() string { return filepath.Join(c.Dir, "etc", "smb.conf") }

// AddUser makes a user of the domain.
func (c *Controller) AddUser(name, password string) error {
	return c.tool("user", "create", name, password)
}

// AddGroup makes a security group of the domain with these members.
func (c *Controller) AddGroup(name string, members ...string) error {
	if err := c.tool("group", "add", name); err != nil {
		return err
	}
	return c.tool("group", "addmembers", name, strings.Join(members, ","))
}

// tool runs samba-tool on the controller's database.
func (c *Controller) tool(args ...string) error {
	cmd := exec.Command("samba-tool", append(args, "-s", c.conf(), "-H", filepath.Join(c.Dir, "private", "sam.ldb"))...)
	cmd.Env = append(os.Environ(), noSync)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("samba-tool %s: %w\n%s", strings.Join(args[:2], " "), err, out)
	}
	return nil
}

// Stop ends the controller and gives what it said.
func (c *Controller) Stop() string {
	_ = syscall.Kill(-c.PID, syscall.SIGKILL)
	_ = c.cmd.Wait()
	return c.said.String()
}

// writeCertificates makes a CA and the controller's certificate: the one that
// Samba makes itself has a negative serial number, which Go refuses.
func writeCertificates(dir string) ([]byte, error) {
	ca, err := NewAuthority("CORP test CA")
	if err != nil {
		return nil, err
	}
	if err := ca.Issue(dir, "dc", dcHost, "127.0.0.1"); err != nil {
		return nil, err
	}
	return ca.PEM(), os.WriteFile(filepath.Join(dir, "ca.crt"), ca.PEM(), 0o600)
}
