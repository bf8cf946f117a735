package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"
	"opendfs/internal/pki"
	"opendfs/internal/repl"
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
	ca      *pki.Authority // nil on a server that does not hold it
	invites *pki.Invitations
	dir     *directory.File
	log     *slog.Logger
	// refuses says why what this server has cannot follow a change of the domain,
	// and what is worth saying of it; nil where there is no database.
	refuses func(now, next *directory.Domain) (warnings []string, err error)
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
	ca, err := pki.LoadAuthority(state.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	options := directory.FileOptions{Dir: state.path, Self: directory.UUID(id.Member()), Key: id.CA().PublicKey, Rand: rand.Reader}
	if ca != nil {
		options.Signer = ca.Signer()
	}
	dir, err := directory.OpenFile(options)
	if err != nil {
		return nil, err
	}
	return &admin{state: state, id: id, ca: ca, invites: pki.OpenInvitations(state.path), dir: dir, log: log}, nil
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
	return notMaster(a.domain().Domain, id)
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
	return control.Hint(fmt.Errorf("this server holds a copy of the domain; its master is %s", name), fmt.Sprintf("run the command on %s%s", name, at))
}

// Invite adds a server to the domain, if need be, and makes its token.
func (a *admin) Invite(ctx context.Context, req *controlpb.InviteRequest) (*controlpb.InviteReply, error) {
	if err := a.mayChange(); err != nil {
		return nil, err
	}
	if a.ca == nil {
		return nil, fmt.Errorf("invite %s: this server does not hold the domain's CA", req.Server)
	}
	self := a.domain().Domain.Server(a.self())
	if self == nil || len(self.Addresses) == 0 {
		return nil, control.Hint(fmt.Errorf("invite %s: this server has no address in the domain, so nobody could join", req.Server), "give it one in domain.yaml and apply that")
	}
	server, err := a.invited(ctx, req)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t, err := a.invites.Create(a.ca, repl.MemberID(server.ID), server.Name, self.Addresses, now)
	if err != nil {
		return nil, err
	}
	a.log.Info("server invited", "server", server.Name)
	return &controlpb.InviteReply{Token: t.Text(), Server: server.Name, Addresses: self.Addresses, Expires: now.Add(inviteLife).Format(time.RFC3339)}, nil
}

// invited finds the server to invite, or makes it.
func (a *admin) invited(ctx context.Context, req *controlpb.InviteRequest) (*directory.Server, error) {
	var found *directory.Server
	err := a.change(ctx, func(d *directory.Domain) (bool, error) {
		s := d.ServerByName(req.Server)
		switch {
		case s == nil:
			id, err := directory.NewUUID(rand.Reader)
			if err != nil {
				return false, err
			}
			s = &directory.Server{Name: req.Server, ID: id}
			d.Servers = append(d.Servers, s)
		case s.ID == a.self():
			return false, &control.Problem{Err: fmt.Errorf("invite %s: that is this server", req.Server), Usage: true}
		case len(s.Addresses) == 0: // invited before, not here yet
			found = s
			return false, nil
		case !req.Replace:
			return false, control.Hint(fmt.Errorf("invite %s: it is a server of the domain already (%s)", req.Server, s.Addresses[0]),
				"if that machine is lost and another takes its place: dfs invite "+req.Server+" --replace")
		default:
			id, err := directory.NewUUID(rand.Reader)
			if err != nil {
				return false, err
			}
			s.ID, s.Addresses, s.Listen = id, nil, nil
		}
		found = s
		return true, nil
	})
	return found, err
}

// change updates the domain by a function that says whether there is something
// to change; it is called again if somebody else was faster.
func (a *admin) change(ctx context.Context, f func(d *directory.Domain) (bool, error)) error {
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
		_, err = a.dir.Update(ctx, doc.Domain.Generation, next)
		var conflict *directory.ConflictError
		if !errors.As(err, &conflict) || ctx.Err() != nil {
			return err
		}
	}
}

// accept takes a newcomer's addresses into the domain and returns the signed
// copy that it then has.
func (a *admin) accept(ctx context.Context, n pki.Newcomer) ([]byte, error) {
	var addresses []string
	for _, s := range n.Addresses {
		p, err := directory.ParseAddress(s)
		if err != nil {
			return nil, wire.Errorf(wire.CodeProtocol, "%v", err)
		}
		addresses = append(addresses, p)
	}
	err := a.change(ctx, func(d *directory.Domain) (bool, error) {
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
