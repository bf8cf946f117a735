package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"
	"opendfs/internal/pki"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
	"opendfs/internal/wire"
)

// inviteLife is how long an invitation is good (docs/formats/pki.md).
const inviteLife = time.Hour

// admin is the part of a member that changes the domain: the directory, this
// server's identity and, on the server that holds it, the CA. It works with and
// without a daemon around it; the state directory is held.
type admin struct {
	state   *stateDir
	id      *pki.Identity
	ca      atomic.Pointer[pki.Authority] // nil on a server that does not hold it
	invites *pki.Invitations
	dir     *directory.File
	names   *volume.System
	audit   *audit
	log     *slog.Logger
	// refuses says why what this server has cannot follow a change of the domain,
	// and what is worth saying of it; nil where there is no database.
	refuses func(now, next *directory.Domain) (warnings []string, err error)

	// changing is held from before a change of the domain until it is in the
	// audit log.
	changing sync.Mutex
	noted    *directory.Domain // guarded by changing; what the log knows of
}

// openAdmin opens the identity and the domain of a state directory.
func openAdmin(state *stateDir, log *slog.Logger) (*admin, error) {
	id, err := pki.Load(state.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noDomain(state.path)
	}
	if err != nil {
		return nil, err
	}
	if who := id.Subject(); who.Kind == pki.KindAdmin {
		return nil, control.Hint(fmt.Errorf("%s holds the identity of the administrator %q and is no server's state directory", state.path, who.Name), "ask a member of the domain: dfs --server HOST …")
	}
	ca, err := pki.LoadAuthority(state.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	trail, err := openAudit(state.file(auditName))
	if err != nil {
		return nil, err
	}
	options := fileOptions(state.path, id, ca)
	before, err := directory.ReadCopy(options)
	if err != nil {
		before = nil // OpenFile says what is wrong
	}
	dir, err := directory.OpenFile(options)
	if err != nil {
		return nil, err
	}
	a := &admin{state: state, id: id, invites: pki.OpenInvitations(state.path), dir: dir, names: new(volume.System), audit: trail, log: log}
	a.ca.Store(ca)
	return a, a.noteOpened(before)
}

// fileOptions are those of the domain's files in a state directory.
func fileOptions(state string, id *pki.Identity, ca *pki.Authority) directory.FileOptions {
	o := directory.FileOptions{Dir: state, Self: directory.UUID(id.Member()), Key: id.CA().PublicKey, Deputy: id.Signer, Rand: rand.Reader}
	if ca != nil {
		o.Signer = ca.Signer()
	}
	return o
}

func noDomain(state string) error {
	return control.Hint(fmt.Errorf("state directory %s belongs to no domain yet", state), "run `dfs init` on the first server of a domain, `dfs join` on every other")
}

// self is this server's id in the directory.
func (a *admin) self() directory.UUID { return directory.UUID(a.id.Member()) }

// domain is the newest domain that this server knows.
func (a *admin) domain() *directory.Document {
	doc, err := a.dir.Load(context.Background())
	if err != nil { // a File has its document in memory
		panic("dfs: load domain: " + err.Error())
	}
	return doc
}

// mayChange refuses a change on a server that is not the master.
func (a *admin) mayChange() error {
	id, here := a.dir.Master()
	if here {
		return nil
	}
	d := a.domain().Domain
	if d.Home.Kind != directory.HomeFile {
		self := d.Server(a.self())
		return &directory.AwayError{Home: d.Home, Here: self != nil && d.Home.Has(self.Name)}
	}
	return notMaster(d, id)
}

// notMaster says where the domain is changed.
func notMaster(d *directory.Domain, id directory.UUID) error {
	name, at := id.String(), ""
	if s := d.Server(id); s != nil {
		name = s.Name
		if len(s.Addresses) > 0 {
			at = " (" + s.Addresses[0] + ")"
		}
	}
	return control.Hint(fmt.Errorf("this server holds a copy of the domain; its master is %s", name), fmt.Sprintf("run the command on %s%s; if that server is gone for good: dfs directory promote", name, at))
}

// Invite adds a server or an administrator to the domain, if need be, and makes
// its token.
func (a *admin) Invite(ctx context.Context, req *controlpb.InviteRequest) (*controlpb.InviteReply, error) {
	if err := a.mayAdminister(ctx, "invite "+req.Server, ""); err != nil {
		return nil, err
	}
	if err := a.mayChange(); err != nil {
		return nil, err
	}
	ca := a.ca.Load()
	if ca == nil {
		return nil, control.Hint(fmt.Errorf("invite %s: this server does not hold the domain's CA", req.Server), "bring it here from a file that `dfs ca export` made: dfs ca import FILE")
	}
	self := a.domain().Domain.Server(a.self())
	if self == nil || len(self.Addresses) == 0 {
		return nil, control.Hint(fmt.Errorf("invite %s: this server has no address in the domain, so nobody could join", req.Server), "give it one: dfs server set "+a.id.Name()+" --address HOST:PORT")
	}
	invited, create := a.invited, a.createInvitation
	if req.Admin {
		invited, create = a.invitedAdmin, a.createAdminInvitation
	}
	id, err := invited(ctx, req)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t, err := create(ca, id, req.Server, self.Addresses, now)
	if err != nil {
		return nil, err
	}
	object := "server " + req.Server
	if req.Admin {
		object = "admin " + req.Server
	}
	a.record(ctx, event{What: "invite", Object: object})
	a.log.Info("invited", "object", object)
	return &controlpb.InviteReply{Token: t.Text(), Server: req.Server, Addresses: self.Addresses, Expires: now.Add(inviteLife).Format(time.RFC3339)}, nil
}

func (a *admin) createInvitation(ca *pki.Authority, id directory.UUID, name string, addresses []string, now time.Time) (pki.Token, error) {
	return a.invites.Create(ca, repl.MemberID(id), name, addresses, now)
}

func (a *admin) createAdminInvitation(ca *pki.Authority, id directory.UUID, name string, addresses []string, now time.Time) (pki.Token, error) {
	return a.invites.CreateAdmin(ca, repl.GUID(id), name, addresses, now)
}

// invited finds the server to invite, or makes it.
func (a *admin) invited(ctx context.Context, req *controlpb.InviteRequest) (id directory.UUID, err error) {
	err = a.change(ctx, "invite", func(d *directory.Domain) (bool, error) {
		fresh, err := directory.NewUUID(rand.Reader)
		if err != nil {
			return false, err
		}
		s := d.ServerByName(req.Server)
		switch {
		case s == nil:
			id = fresh
			d.Servers = append(d.Servers, &directory.Server{Name: req.Server, ID: id})
			return true, nil
		case s.ID == a.self():
			return false, &control.Problem{Err: fmt.Errorf("invite %s: that is this server", req.Server), Usage: true}
		case len(s.Addresses) == 0: // invited before, not here yet
			id = s.ID
			return false, nil
		case !req.Replace:
			return false, control.Hint(fmt.Errorf("invite %s: it is a server of the domain already (%s)", req.Server, s.Addresses[0]),
				"if that machine is lost and another takes its place: dfs invite "+req.Server+" --replace")
		}
		id = fresh
		s.ID, s.Addresses, s.Listen = id, nil, nil
		return true, nil
	})
	return id, err
}

// invitedAdmin makes the administrator to invite. One who is there already gets
// another identity: whether the one before was ever used nobody knows.
func (a *admin) invitedAdmin(ctx context.Context, req *controlpb.InviteRequest) (id directory.UUID, err error) {
	err = a.change(ctx, "invite", func(d *directory.Domain) (bool, error) {
		if id, err = directory.NewUUID(rand.Reader); err != nil {
			return false, err
		}
		o := d.AdminByName(req.Server)
		switch {
		case o == nil:
			d.Admins = append(d.Admins, &directory.Admin{Name: req.Server, ID: id})
			return true, nil
		case !req.Replace:
			return false, control.Hint(fmt.Errorf("invite --admin %s: there is an administrator of that name already", req.Server),
				"to end that identity and make another: dfs invite --admin "+req.Server+" --replace")
		}
		o.ID = id
		return true, nil
	})
	return id, err
}

// change updates the domain by a function that says whether there is something
// to change; it is called again if somebody else was faster. what is for the
// audit log.
func (a *admin) change(ctx context.Context, what string, f func(d *directory.Domain) (bool, error)) error {
	for {
		doc, err := a.dir.Load(ctx)
		if err != nil {
			return err
		}
		d := doc.Domain.Clone()
		if changed, err := f(d); err != nil || !changed {
			return err
		}
		next, err := doc.With(d)
		if err != nil {
			return &control.Problem{Err: plainProblems(err), Usage: true}
		}
		_, err = a.update(ctx, what, doc.Domain.Generation, next)
		var conflict *directory.ConflictError
		if !errors.As(err, &conflict) || ctx.Err() != nil {
			return err
		}
	}
}

// fits says what keeps a newcomer's addresses out of the domain, while its invitation
// is still good.
func (a *admin) fits(n pki.Newcomer) error {
	doc := a.domain()
	d := doc.Domain.Clone()
	s := d.Server(directory.UUID(n.ID))
	if n.Kind == pki.KindAdmin || s == nil {
		return nil // accept says so
	}
	addresses, _, err := parseAddresses(n.Addresses, nil)
	if err == nil {
		s.Addresses = addresses
		_, err = doc.With(d)
	}
	return err
}

// accept takes a newcomer's addresses into the domain and returns the signed
// copy that it then has.
func (a *admin) accept(ctx context.Context, n pki.Newcomer) ([]byte, error) {
	if n.Kind == pki.KindAdmin {
		if a.domain().Domain.Admin(directory.UUID(n.ID)) == nil {
			return nil, pki.ErrUnknownServer
		}
		a.record(ctx, event{Who: "admin:" + n.Name, From: "invitation", What: "join", Object: "admin " + n.Name})
		return a.dir.Signed(), nil
	}
	addresses, _, err := parseAddresses(n.Addresses, nil)
	if err != nil {
		return nil, wire.Errorf(wire.CodeProtocol, "%v", err)
	}
	ctx = joiner(ctx, n.Subject)
	err = a.change(ctx, "join", func(d *directory.Domain) (bool, error) {
		s := d.Server(directory.UUID(n.ID))
		if s == nil {
			return false, pki.ErrUnknownServer
		}
		s.Addresses = addresses
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return a.dir.Signed(), nil
}
