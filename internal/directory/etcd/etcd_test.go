package etcd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/directory/directorytest"
	"opendfs/internal/pki"
	"opendfs/internal/repl"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var quiet = slog.New(slog.DiscardHandler)

// cluster is one or more voters of a domain in this process.
type cluster struct {
	doc     *directory.Document
	ca      *pki.Authority
	dir     string
	voters  map[string]string
	running map[string]*Server
}

func newCluster(t *testing.T, doc *directory.Document, voters ...string) *cluster {
	t.Helper()
	c := &cluster{doc: doc, dir: t.TempDir(), voters: make(map[string]string), running: make(map[string]*Server)}
	var err error
	if c.ca, err = pki.CreateAuthority(filepath.Join(c.dir, "ca"), repl.GUID(doc.Domain.ID), "corp", time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range voters {
		c.voters[name] = freeAddress(t)
	}
	started := make(chan error, len(voters))
	for _, name := range voters {
		o := c.options(t, name, true)
		go func() {
			s, err := Serve(o)
			if err == nil {
				c.keep(name, s)
			}
			started <- err
		}()
	}
	for range voters {
		if err := <-started; err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, s := range c.running {
			s.Close()
		}
	})
	return c
}

var keeping = make(chan struct{}, 1)

func (c *cluster) keep(name string, s *Server) {
	keeping <- struct{}{}
	c.running[name] = s
	<-keeping
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// options are those of a server of the domain, with or without the role.
func (c *cluster) options(t testing.TB, name string, voter bool) ServerOptions {
	t.Helper()
	member := repl.MemberID(c.doc.Domain.ServerByName(name).ID)
	id, err := c.ca.CreateIdentity(filepath.Join(t.TempDir(), name), member, name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if voter {
		r, err := pki.NewRequest()
		if err != nil {
			t.Fatal(err)
		}
		der, err := c.ca.Issue(r.DER, member, name, time.Now(), directory.DeputyName(c.doc.Domain.ID))
		if err == nil {
			err = id.Renew(r, der)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cert, key, ca, err := id.PEM()
	if err != nil {
		t.Fatal(err)
	}
	return ServerOptions{Dir: filepath.Join(c.dir, name), Self: name, Voters: c.voters, Domain: c.doc.Domain.ID, Term: 2, Cert: cert, Key: key, CA: ca, Log: quiet}
}

func (c *cluster) open(t testing.TB, name string, first *directory.Document, step func(string) error) *Store {
	t.Helper()
	s, err := c.tryOpen(t.Context(), name, first, step)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (c *cluster) tryOpen(ctx context.Context, name string, first *directory.Document, step func(string) error) (*Store, error) {
	return open(ctx, Options{Client: c.running[name].Client(), Domain: c.doc.Domain.ID, Rand: rand.Reader}, first, step)
}

// One voter is a cluster; each test of the suite has a domain of its own in it.
func TestEtcdIsAStore(t *testing.T) {
	c := newCluster(t, directorytest.First(t), "hub")
	directorytest.Run(t, func(t *testing.T) directorytest.Backend {
		return c.backend(directorytest.First(t))
	})
}

func (c *cluster) backend(first *directory.Document) directorytest.Backend {
	return directorytest.Backend{Shared: true, Open: func(t testing.TB, step func(string) error) directory.Store {
		s, err := open(t.Context(), Options{Client: c.running["hub"].Client(), Domain: first.Domain.ID, Rand: rand.Reader}, first, step)
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
}

// A domain too large for one request stands in parts, of which none is left over.
func TestALargeDomainIsOneChangeToo(t *testing.T) {
	c := newCluster(t, directorytest.First(t), "hub")
	s := c.open(t, "hub", c.doc, nil)
	parts := func() int {
		r, err := s.options.Client.Get(t.Context(), s.parts(), clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		return int(r.Count)
	}
	text := append(bytes.Clone(c.doc.Text()), bytes.Repeat([]byte("# What an administrator has written down about the servers.\n"), 20000)...)
	big, err := directory.Read(text, "domain.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(big.Text()) <= inline {
		t.Fatalf("%d bytes are not large", len(big.Text()))
	}
	crash := errors.New("stop")
	stopped := c.open(t, "hub", nil, func(step string) error {
		if step == "put domain" {
			return crash
		}
		return nil
	})
	if _, err := stopped.Update(t.Context(), 1, big); !errors.Is(err, crash) {
		t.Fatalf("stopped before the domain was put: %v", err)
	}
	if n := parts(); n < 2 {
		t.Errorf("%d parts before the domain names them", n)
	}
	got, err := s.Update(t.Context(), 1, big)
	if err != nil {
		t.Fatal(err)
	}
	if n := parts(); n != (len(got.Text())+inline-1)/inline {
		t.Errorf("%d parts of a domain of %d bytes", n, len(got.Text()))
	}
	again := c.open(t, "hub", nil, nil)
	if now := directorytest.Load(t, again); !bytes.Equal(now.Text(), got.Text()) {
		t.Error("it reads back as something else")
	}
	if _, err := again.Update(t.Context(), 2, c.doc); err != nil {
		t.Fatal(err)
	}
	if n := parts(); n != 0 {
		t.Errorf("%d parts are left over", n)
	}
}

// Three voters: one is killed, changes still land and are seen; it returns and
// knows them. With two gone nothing is changed, and the error says why.
func TestThreeVotersSurviveTheLossOfOne(t *testing.T) {
	c := newCluster(t, directorytest.First(t), "hub", "branch", "lab")
	hub := c.open(t, "hub", c.doc, nil)
	branch := c.open(t, "branch", nil, nil)
	seen := branch.Watch(t.Context())
	if _, err := hub.Update(t.Context(), 1, directorytest.With(t, c.doc, "one")); err != nil {
		t.Fatal(err)
	}
	for d := <-seen; d.Generation != 2; {
		d = <-seen
	}
	c.running["lab"].Close()
	began := time.Now()
	got, err := hub.Update(t.Context(), 2, directorytest.With(t, directorytest.Load(t, hub), "two"))
	if err != nil {
		t.Fatalf("a change with one voter gone: %v", err)
	}
	t.Logf("changed with one of three gone after %v", time.Since(began).Round(time.Millisecond))
	for d := <-seen; d.Generation != 3; {
		d = <-seen
	}

	s, err := Serve(c.options(t, "lab", true))
	if err != nil {
		t.Fatal(err)
	}
	c.running["lab"] = s
	lab := c.open(t, "lab", nil, nil)
	if now := directorytest.Load(t, lab); !bytes.Equal(now.Text(), got.Text()) {
		t.Errorf("the voter that returned knows generation %d", now.Domain.Generation)
	}

	for _, name := range []string{"branch", "lab"} {
		c.running[name].Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := hub.Update(ctx, 3, directorytest.With(t, got, "three")); err == nil || !strings.Contains(err.Error(), "dfs directory promote") {
		t.Errorf("a change with two of three gone: %v", err)
	}
	if now := directorytest.Load(t, hub); now.Domain.Generation != 3 {
		t.Errorf("what is known is generation %d", now.Domain.Generation)
	}
}

// A server that the CA has not made a voter is not taken for one.
func TestWhoIsNoVoterIsShutOut(t *testing.T) {
	c := newCluster(t, directorytest.First(t), "hub")
	c.voters["branch"], c.voters["lab"] = freeAddress(t), freeAddress(t)
	for _, o := range []ServerOptions{c.options(t, "branch", true), c.options(t, "lab", false)} {
		status, err := raftStatus(t, o, c.voters["hub"])
		if member := o.Self == "branch"; member != (err == nil) {
			t.Errorf("%s asks hub: %v, %v", o.Self, status, err)
		}
	}
}

// A value of another term is one that the domain has been moved away from.
func TestAMoveBackReplacesWhatWasLeft(t *testing.T) {
	c := newCluster(t, directorytest.First(t), "hub")
	c.open(t, "hub", c.doc, nil)
	d := c.doc.Domain.Clone()
	d.Term, d.Generation = 3, 9
	later, err := c.doc.With(d)
	if err != nil {
		t.Fatal(err)
	}
	if now := directorytest.Load(t, c.open(t, "hub", later, nil)); now.Domain.Generation != 9 {
		t.Errorf("after a move back generation %d", now.Domain.Generation)
	}
	if now := directorytest.Load(t, c.open(t, "hub", c.doc, nil)); now.Domain.Generation != 9 {
		t.Errorf("an earlier term replaced a later one: generation %d", now.Domain.Generation)
	}
	empty := Options{Client: c.running["hub"].Client(), Domain: directory.UUID{1}, Rand: rand.Reader}
	if _, err := Open(t.Context(), empty, nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("a domain that is not there: %v", err)
	}
}
