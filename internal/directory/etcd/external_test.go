package etcd

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/directory/directorytest"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// outside is an etcd of the distribution, one server with a CA of its own.
type outside struct {
	t *testing.T
	*directorytest.Etcd
}

func newOutside(t *testing.T) outside {
	t.Helper()
	directorytest.NeedEtcd(t)
	e, err := directorytest.NewEtcd(t.TempDir(), [][2]string{{freeAddress(t), freeAddress(t)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if said := e.Close(); t.Failed() {
			t.Log(said)
		}
	})
	o := outside{t, e}
	for Check(t.Context(), o.options("", "")) != nil { // until the test's own time has passed
		if !pause(t.Context()) {
			t.Fatal("it never answers")
		}
	}
	return o
}

func (o outside) read(name string) []byte {
	o.t.Helper()
	b, err := os.ReadFile(filepath.Join(o.Dir, name))
	if err != nil {
		o.t.Fatal(err)
	}
	return b
}

// options are those of a client that may, as a user if there is one.
func (o outside) options(user, password string) DialOptions {
	return DialOptions{Endpoints: o.Endpoints(), CA: o.read("ca.crt"), Cert: o.read("client.crt"), Key: o.read("client.key"), User: user, Password: password}
}

func (o outside) dial(user, password string) *Client {
	o.t.Helper()
	c, err := Dial(o.t.Context(), o.options(user, password))
	if err != nil {
		o.t.Fatal(err)
	}
	return c
}

// users has the cluster ask for users: dfs may read and write what is under
// /opendfs/, and nothing else.
func (o outside) users(ctx context.Context) {
	o.t.Helper()
	c := o.dial("", "")
	must := func(_ any, err error) {
		o.t.Helper()
		if err != nil {
			o.t.Fatal(err)
		}
	}
	for _, role := range []string{"root", "domain"} {
		must(c.RoleAdd(ctx, role))
	}
	must(c.RoleGrantPermission(ctx, "domain", "/opendfs/", clientv3.GetPrefixRangeEnd("/opendfs/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	for user, role := range map[string]string{"root": "root", "dfs": "domain"} {
		must(c.UserAdd(ctx, user, user+"-secret"))
		must(c.UserGrantRole(ctx, user, role))
	}
	must(c.AuthEnable(ctx))
	if err := c.Close(); err != nil {
		o.t.Fatal(err)
	}
}

// A cluster of the distribution's etcd, with its own CA and its own users, is a Store
// for who has a certificate and a user of it, and refuses everybody else.
func TestAnEtcdThatIsThereIsAStore(t *testing.T) {
	o := newOutside(t)
	o.users(t.Context())
	other, err := directorytest.NewAuthority("another CA")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Issue(o.Dir, "stranger"); err != nil {
		t.Fatal(err)
	}
	good := o.options("dfs", "dfs-secret")
	if err := Check(t.Context(), good); err != nil {
		t.Fatalf("with certificate and password: %v", err)
	}
	for why, change := range map[string]func(*DialOptions){
		"remote error: tls: ":                   func(d *DialOptions) { d.Cert, d.Key = nil, nil },
		"remote error:":                         func(d *DialOptions) { d.Cert, d.Key = o.read("stranger.crt"), o.read("stranger.key") },
		"signed by unknown authority":           func(d *DialOptions) { d.CA = other.PEM() },
		"connection refused":                    func(d *DialOptions) { d.Endpoints = []string{"https://127.0.0.1:1"} },
		"invalid user ID or password":           func(d *DialOptions) { d.Password = "root-secret" },
		"permission denied":                     func(d *DialOptions) { d.User, d.Password = "", "" },
		"a password would be sent in the clear": func(d *DialOptions) { d.Endpoints = []string{"http://127.0.0.1:1"} },
	} {
		bad := good
		change(&bad)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // a client that gets no answer waits for ever
		if err := Check(ctx, bad); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("asked for %q it says: %v", why, err)
		}
		cancel()
	}
	c := o.dial("dfs", "dfs-secret")
	if _, err := c.Put(t.Context(), "/elsewhere", "x"); err == nil {
		t.Error("the user may write elsewhere: the test shows nothing of rights")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}

	directorytest.Run(t, func(t *testing.T) directorytest.Backend {
		first := directorytest.First(t)
		return directorytest.Backend{Shared: true, Open: func(t testing.TB, step func(string) error) directory.Store {
			s, err := open(t.Context(), Options{Client: o.dial("dfs", "dfs-secret"), Domain: first.Domain.ID, Rand: rand.Reader}, first, step)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			return s
		}}
	})
}
