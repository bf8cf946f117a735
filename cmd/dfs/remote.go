package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/directory"
	"opendfs/internal/pki"
	"opendfs/internal/repl"
)

// dialTime bounds the connection to a member's port.
const dialTime = 10 * time.Second

// newClient makes the client that the flags ask for.
func newClient(ctx context.Context, o *options) (*control.Client, error) {
	if o.server != "" {
		return remoteClient(ctx, o)
	}
	path := socketOf(o.state)
	if o.socket != "" {
		path = o.socket
	} else if o.state == defaultState && os.Geteuid() != 0 {
		if _, err := os.Stat(runSocket); err == nil { // the state directory is root's
			path = runSocket
		}
	}
	return control.NewClient(path), nil
}

// userState is where a user who is not root keeps an administrator's identity.
func userState() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", control.Hint(fmt.Errorf("find a place for the identity: %w", err), "name a directory with --state")
	}
	return filepath.Join(dir, "dfs"), nil
}

// identityDir is the directory of the identity to show: the state directory, or
// where nothing was said and it is not ours the user's own.
func identityDir(o *options) (string, error) {
	if o.state != defaultState || os.Geteuid() == 0 {
		return o.state, nil
	}
	return userState()
}

// remoteClient makes a client of a member that is asked by its port, with this
// computer's identity.
func remoteClient(ctx context.Context, o *options) (*control.Client, error) {
	dir, err := identityDir(o)
	if err != nil {
		return nil, err
	}
	id, err := pki.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, control.Hint(fmt.Errorf("ask %s: there is no identity in %s", o.server, dir),
			"on a server name its state directory with --state; elsewhere join as an administrator: `dfs invite --admin NAME` there, `dfs join TOKEN` here")
	}
	if err != nil {
		return nil, err
	}
	expected, addresses, err := locateMember(dir, id, o.server)
	if err != nil {
		return nil, err
	}
	policy := pki.Policy{Now: time.Now}
	if err := renewAdmin(ctx, id, policy, expected, addresses); err != nil {
		return nil, err
	}
	return control.NewRemoteClient(o.server, func(ctx context.Context) (net.Conn, error) {
		return dialMember(ctx, addresses, id.CallTLS(policy, pki.ALPNControl, expected))
	}), nil
}

// locateMember says where a member is reached, and its id if it was named and the
// domain is known here; any server of the domain will do for an address.
func locateMember(dir string, id *pki.Identity, server string) (repl.MemberID, []string, error) {
	doc, err := directory.ReadCopy(directory.FileOptions{Dir: dir, Key: id.CA().PublicKey})
	if err == nil {
		if s := doc.Domain.ServerByName(server); s != nil && len(s.Addresses) > 0 {
			return repl.MemberID(s.ID), s.Addresses, nil
		}
	}
	address, err := directory.ParseAddress(server)
	if err != nil {
		return repl.MemberID{}, nil, &failure{fmt.Errorf("--server: %w", err), exitUsage}
	}
	return repl.MemberID{}, []string{address}, nil
}

func dialMember(ctx context.Context, addresses []string, c *tls.Config) (net.Conn, error) {
	var errs []error
	for _, address := range addresses {
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTime}, Config: c}
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, fmt.Errorf("at %s: %w", address, pki.Explain(err)))
	}
	return nil, errors.Join(errs...)
}

// renewAdmin renews an administrator's certificate when two thirds of its life
// are over, if the member asked is the one that can. A server's own member renews
// its certificate.
func renewAdmin(ctx context.Context, id *pki.Identity, p pki.Policy, holder repl.MemberID, addresses []string) error {
	if id.Subject().Kind != pki.KindAdmin || !id.RenewalDue(time.Now()) {
		return nil
	}
	err := id.RenewAt(ctx, p, holder, addresses)
	if err == nil || time.Now().Before(id.NotAfter()) { // another time, at another server
		return nil
	}
	return control.Hint(err, "ask the server that holds the CA by --server, or for a new invitation: `dfs invite --admin`")
}

// keepDomain keeps the domain that a member told, so that servers can be named.
func keepDomain(o *options, signed []byte) {
	if o.server == "" || len(signed) == 0 {
		return
	}
	dir, err := identityDir(o)
	if err != nil {
		return
	}
	id, err := pki.Load(dir)
	if err != nil || id.Subject().Kind != pki.KindAdmin { // a server's is its member's
		return
	}
	f, err := directory.OpenFile(directory.FileOptions{Dir: dir, Self: directory.UUID(id.Subject().ID), Key: id.CA().PublicKey, Rand: rand.Reader})
	if err == nil {
		_, _ = f.Accept(signed) // an older one, or one that does not hold, changes nothing
	}
}
