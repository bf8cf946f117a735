package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/directory/ad"
	"opendfs/internal/directory/etcd"
	"opendfs/internal/finding"
	"opendfs/internal/pki"
	"opendfs/internal/repl"
)

// home keeps this server's way to where the domain lives, while that is no file
// and this server is one of those that speak to it. It is owned by the member's
// loop.
type home struct {
	m      *member
	key    string // what runs: term and place; empty if nothing does
	cancel context.CancelFunc
	done   chan struct{}
}

const (
	homeRetry = 2 * time.Second
	voterDir  = "etcd"        // of STATE: a voter's data and identity
	clientDir = "etcd-client" // how a cluster of somebody else's is spoken to
	adDir     = "ad"          // how Active Directory is
)

// follow starts and stops the way as the domain says.
func (h *home) follow(ctx context.Context, d *directory.Domain) {
	key := ""
	if self := d.Server(h.m.self()); self != nil && d.Home.Kind != directory.HomeFile && d.Home.Has(self.Name) {
		key = fmt.Sprintf("%d %v", d.Term, &d.Home)
	}
	if key == h.key {
		return
	}
	h.stop()
	if h.key = key; key == "" {
		h.m.find.Clear(finding.DirectoryUnreachable, "")
		return
	}
	ctx, h.cancel = context.WithCancel(ctx)
	h.done = make(chan struct{})
	first := h.m.domain()
	go func() {
		defer close(h.done)
		h.run(ctx, first)
	}()
}

// stop ends the way, if there is one.
func (h *home) stop() {
	if h.key != "" {
		h.cancel()
		<-h.done
		h.key = ""
	}
}

// run keeps the way open until ctx ends.
func (h *home) run(ctx context.Context, first *directory.Document) {
	for {
		err := h.once(ctx, first)
		if ctx.Err() != nil {
			return
		}
		h.problem(err)
		if !pause(ctx, homeRetry) {
			return
		}
	}
}

func (h *home) problem(err error) {
	if err == nil {
		h.m.find.Clear(finding.DirectoryUnreachable, "")
		return
	}
	h.m.find.Raise(finding.DirectoryUnreachable, "", err.Error())
}

// once opens the way and follows what comes by it until something is wrong.
func (h *home) once(ctx context.Context, first *directory.Document) (err error) {
	if err := h.m.deputise(ctx, first.Domain); err != nil {
		return err
	}
	var ended <-chan error
	var client *etcdClient
	d := first.Domain
	way := &way{h.m.state.path, h.m.id, h.m.log, h.problem}
	if d.Home.Kind == directory.HomeEtcd {
		if client, err = way.openEtcd(ctx, d); err != nil {
			return err
		}
		defer client.close()
		ended = client.ended()
	}
	store, err := way.open(ctx, client, d, first)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	h.m.dir.Attach(store)
	defer h.m.dir.Attach(nil)
	h.m.log.Info("the domain's directory is reached", "directory", d.Home.Kind.String())
	h.problem(nil)
	news := store.Watch(ctx)
	for {
		select {
		case _, open := <-news:
			if !open {
				return nil
			}
			h.adopt(ctx, store)
		case err := <-ended:
			return fmt.Errorf("etcd on this server has ended: %w", err)
		case <-ctx.Done():
			return nil
		}
	}
}

// closer is a store that is to be closed.
type closer interface {
	directory.Store
	Close() error
}

// way is what it takes to speak to where a domain lives.
type way struct {
	state   string
	id      *pki.Identity
	log     *slog.Logger
	problem func(error)
}

// open gives the store of the domain d; first is put there if it is not there yet,
// unless it is nil.
func (w *way) open(ctx context.Context, client *etcdClient, d *directory.Domain, first *directory.Document) (closer, error) {
	if client != nil {
		return etcd.Open(ctx, etcd.Options{Client: client.client, Domain: d.ID, Rand: rand.Reader, Refusal: client.refusal, Problem: w.problem}, first)
	}
	o, err := adOptions(w.state, &d.Home)
	if err != nil {
		return nil, err
	}
	return ad.Open(ctx, ad.Settings{Options: o, Domain: d.ID, Rand: rand.Reader, Problem: w.problem}, first)
}

// adopt takes what the directory has. Where that says that the domain lives in a
// file again, the server with the CA's key becomes master, and its copy tells all.
func (h *home) adopt(ctx context.Context, store directory.Store) {
	doc, err := store.Load(ctx)
	if err == nil {
		_, err = h.m.adopt(ctx, doc)
	}
	switch {
	case err == nil, errors.Is(err, directory.ErrOlderCopy), errors.Is(err, directory.ErrWithoutCA):
	default:
		h.m.find.Raise(finding.DirectoryCopyStale, "", err.Error())
		return
	}
	h.m.find.Clear(finding.DirectoryCopyStale, "")
}

// adopt takes what was read in the domain's home, for the audit log too.
func (a *admin) adopt(ctx context.Context, doc *directory.Document) (changed bool, err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	if changed, err = a.dir.Adopt(doc); changed {
		from := doc.Domain.Home.Kind.String()
		a.noteLocked(ctx, event{Who: "unknown", From: from, What: "follow"}, a.domain().Domain)
	}
	return changed, err
}

// roles are what a server may do beside being one.
func (a *admin) roles(id repl.MemberID) []string {
	d := a.domain().Domain
	if s := d.Server(directory.UUID(id)); s != nil && d.Home.Kind != directory.HomeFile && d.Home.Has(s.Name) {
		return []string{directory.DeputyName(d.ID)}
	}
	return nil
}

// deputise sees to it that this server's certificate says that it may speak to the
// directory.
func (m *member) deputise(ctx context.Context, d *directory.Domain) error {
	if m.id.HasRole(directory.DeputyName(d.ID)) {
		return nil
	}
	if err := m.renewNow(ctx, time.Now()); err != nil {
		return fmt.Errorf("have the CA say that this server may speak to the directory: %w", err)
	}
	if !m.id.HasRole(directory.DeputyName(d.ID)) {
		return errors.New("the holder of the CA has not heard yet that this server is one of those that speak to the directory")
	}
	return nil
}

// etcdClient is a client of etcd, with the voter that it is of if that runs here.
type etcdClient struct {
	client  *etcd.Client
	voter   *etcd.Server
	refusal func(context.Context) error // of a cluster that is there already
}

func (c *etcdClient) close() {
	if c.voter != nil {
		c.voter.Close()
	}
}

func (c *etcdClient) ended() <-chan error {
	if c.voter == nil {
		return nil
	}
	return c.voter.Ended()
}

// openEtcd starts this server's voter, or dials the cluster that is named.
func (w *way) openEtcd(ctx context.Context, d *directory.Domain) (*etcdClient, error) {
	cert, key, ca, err := w.id.PEM()
	if err != nil {
		return nil, err
	}
	if d.Home.Voters == nil {
		o, err := etcdOptions(w.state, &d.Home, etcd.DialOptions{Cert: cert, Key: key, CA: ca})
		if err != nil {
			return nil, err
		}
		c, err := etcd.Dial(ctx, o)
		return &etcdClient{c, nil, o.Refusal}, err
	}
	self := d.Server(directory.UUID(w.id.Member()))
	v, err := etcd.Serve(etcd.ServerOptions{
		Dir: filepath.Join(w.state, voterDir), Self: self.Name, Voters: d.Home.Voters, Domain: d.ID, Term: d.Term,
		Cert: cert, Key: key, CA: ca, Log: w.log.With("part", "etcd"),
	})
	if err != nil {
		return nil, err
	}
	return &etcdClient{v.Client(), v, nil}, nil
}

// etcdOptions reads how a cluster of somebody else's is spoken to; what is not
// there is o's.
func etcdOptions(state string, h *directory.Home, o etcd.DialOptions) (etcd.DialOptions, error) {
	o.Endpoints = h.Endpoints
	cert, err1 := secret(state, clientDir, "client.crt")
	key, err2 := secret(state, clientDir, "client.key")
	ca, err3 := secret(state, clientDir, "ca.crt")
	user, err4 := secret(state, clientDir, "user")
	password, err5 := secret(state, clientDir, "password")
	if len(cert) > 0 {
		o.Cert, o.Key = cert, key
	}
	if len(ca) > 0 {
		o.CA = ca
	}
	o.User, o.Password = oneLine(user), oneLine(password)
	return o, errors.Join(err1, err2, err3, err4, err5)
}

// adOptions reads how Active Directory is spoken to.
func adOptions(state string, h *directory.Home) (ad.Options, error) {
	user, err1 := secret(state, adDir, "user")
	password, err2 := secret(state, adDir, "password")
	ca, err3 := secret(state, adDir, "ca.crt")
	err := errors.Join(err1, err2, err3)
	if err == nil && (len(user) == 0 || len(password) == 0) {
		err = fmt.Errorf("%s holds no user and password of an account of Active Directory; write them there, a line each, mode 0600", filepath.Join(state, adDir))
	}
	return ad.Options{URL: h.URL, Base: h.Base, User: oneLine(user), Password: oneLine(password), CA: ca}, err
}

// secret reads a small file beneath the state directory; nil if there is none.
func secret(state, dir, name string) ([]byte, error) {
	path := filepath.Join(state, dir, name)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 && !strings.HasSuffix(name, ".crt") {
		return nil, fmt.Errorf("read %s: others may read it (mode %04o); run chmod 600 on it", path, st.Mode().Perm())
	}
	if st.Size() > maxHomeSecret {
		return nil, fmt.Errorf("read %s: %d bytes are no secret", path, st.Size())
	}
	return os.ReadFile(path)
}

// maxHomeSecret bounds a file of a password or a certificate.
const maxHomeSecret = 64 << 10

// oneLine is a file of one line without its end.
func oneLine(b []byte) string { return strings.TrimRight(string(b), "\r\n") }
