package pki

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// Newcomer is a server or an administrator that holds a valid invitation.
type Newcomer struct {
	Subject
	Addresses []string // as it says itself; not checked
}

// Door lets invited servers in. It is the holder of the CA's part of a join.
type Door struct {
	Authority   *Authority
	Invitations *Invitations
	// Accept takes a newcomer's addresses into the domain file and returns the
	// signed copy that it then has. ErrUnknownServer says that the server is
	// not in the domain any more; an address that cannot be is a *wire.Error.
	Accept func(ctx context.Context, n Newcomer) ([]byte, error)
	// Fits says, before its invitation is used, what keeps a newcomer out of the
	// domain: it is told as it is. Nil: nobody asks.
	Fits func(n Newcomer) error
	// Roles gives the DNS names of what a member may do beside being one; nil:
	// nothing.
	Roles func(repl.MemberID) []string
	// Known returns the present name of one who wants a new certificate, and
	// whether it is of the domain; nil: nobody is.
	Known func(Subject) (name string, ok bool)
	// Now is this server's clock.
	Now func() time.Time
	Log *slog.Logger
}

// Serve answers one newcomer on a connection whose handshake by ALPNJoin is
// done and whose deadlines the caller has set. It does not close it.
func (d *Door) Serve(ctx context.Context, conn net.Conn) error {
	from := conn.RemoteAddr().String()
	f, err := wire.NewReader(conn).Next()
	if err != nil {
		return err
	}
	m, err := f.Message()
	r, ok := m.(*wire.JoinRequest)
	var reply wire.Message
	if err != nil || !ok {
		reply = wire.Errorf(wire.CodeProtocol, "want a JoinRequest, got %v", f.Type)
	} else if accepted, newcomer, err := d.answer(ctx, r); err != nil {
		d.Log.Warn("join refused", "from", from, "err", err)
		reply = refusal(err)
	} else {
		d.Log.Info(newcomer.Kind.String()+" joined", "name", newcomer.Name, "id", newcomer.ID, "addresses", newcomer.Addresses, "from", from)
		reply = accepted
	}
	return sendOne(conn, reply)
}

// ServeRenew answers one who wants a new certificate, on a connection whose
// handshake by ALPNRenew is done. An expired certificate is good for this alone,
// and only while who it names is of the domain.
func (d *Door) ServeRenew(conn net.Conn, who Subject) error {
	f, err := wire.NewReader(conn).Next()
	if err != nil {
		return err
	}
	m, err := f.Message()
	r, ok := m.(*wire.RenewRequest)
	if err != nil || !ok {
		return sendOne(conn, wire.Errorf(wire.CodeProtocol, "want a RenewRequest, got %v", f.Type))
	}
	name, known := "", false
	if d.Known != nil {
		name, known = d.Known(who)
	}
	if !known {
		d.Log.Warn("renewal refused", "of", who, "from", conn.RemoteAddr(), "err", ErrRevoked)
		return sendOne(conn, wire.Errorf(wire.CodeIdentity, "%v is not in the domain any more: %v", who, ErrRevoked))
	}
	who.Name = name
	cert, err := d.Authority.IssueTo(r.Request, who, d.Now(), d.roles(who)...)
	if err != nil {
		return sendOne(conn, wire.Errorf(wire.CodeProtocol, "%v", err))
	}
	d.Log.Info("certificate renewed for another", "of", who, "from", conn.RemoteAddr())
	return sendOne(conn, &wire.RenewReply{Certificate: cert})
}

// askOne sends the one question of a connection and returns the answer; a refusal
// is a *wire.Error.
func askOne(conn net.Conn, m wire.Message) (wire.Message, error) {
	if err := sendOne(conn, m); err != nil {
		return nil, err
	}
	f, err := wire.NewReader(conn).Next()
	if err != nil {
		return nil, err
	}
	answer, err := f.Message()
	if refusal, ok := answer.(*wire.Error); ok && err == nil {
		return nil, refusal
	}
	return answer, err
}

func sendOne(conn net.Conn, m wire.Message) error {
	b, err := wire.Append(nil, m, 1, true, 0)
	if err != nil {
		return err
	}
	_, err = conn.Write(b)
	return err
}

func (d *Door) answer(ctx context.Context, r *wire.JoinRequest) (*wire.JoinReply, Newcomer, error) {
	now := d.Now()
	if _, err := wire.Negotiate(wire.OldestProtocol, wire.Protocol, r.Min, r.Max); err != nil {
		return nil, Newcomer{}, err
	}
	csr, err := parseRequest(r.Request)
	if err != nil {
		return nil, Newcomer{}, wire.Errorf(wire.CodeProtocol, "%v", err)
	}
	var n Newcomer
	_, err = d.Invitations.consume(r, fingerprint(csr.RawSubjectPublicKeyInfo), now, func(i invitation) error {
		id, err := repl.ParseGUID(i.ServerID)
		if err != nil {
			return err
		}
		n = Newcomer{Subject: invitee(i.Server, id), Addresses: r.Addresses}
		if err := compareClocks(now, time.Unix(0, int64(r.Clock)), "the inviting server's", "this server's"); err != nil || d.Fits == nil {
			return err
		}
		if err := d.Fits(n); err != nil {
			return wire.Errorf(wire.CodeProtocol, "%v", err)
		}
		return nil
	})
	if err != nil {
		return nil, Newcomer{}, err
	}
	domain, err := d.Accept(ctx, n)
	if err != nil {
		return nil, n, err
	}
	cert, err := d.Authority.IssueTo(r.Request, n.Subject, now)
	if err != nil {
		return nil, n, err
	}
	return &wire.JoinReply{Certificate: cert, CA: d.Authority.cert.Raw, Domain: domain, Clock: repl.Time(now.UnixNano())}, n, nil
}

// refusal is what a newcomer is told. The reason of an inner error stays here.
func refusal(err error) *wire.Error {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e
	}
	for reason, code := range joinCodes {
		if errors.Is(err, reason) {
			return wire.Errorf(code, "%v", reason)
		}
	}
	return wire.Errorf(wire.CodeInternal, "the inviting server could not complete the join; its log says why")
}

// Renew issues a new certificate for a member that a session has identified.
func (d *Door) Renew(request []byte, member repl.MemberID, name string) ([]byte, error) {
	return d.Authority.Issue(request, member, name, d.Now(), d.roles(Subject{KindServer, repl.GUID(member), name})...)
}

func (d *Door) roles(of Subject) []string {
	if d.Roles == nil || of.Kind != KindServer {
		return nil
	}
	return d.Roles(repl.MemberID(of.ID))
}
