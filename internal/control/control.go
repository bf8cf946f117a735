// Package control is the management API of a member: one server in front of a
// running daemon, and the typed client that every command of `dfs` uses. It
// speaks Connect over HTTP/1.1 on a unix socket or on TLS, so that curl can ask too;
// controlpb/control.proto is its specification.
//
// # Contract
//
// Each connection has a Caller: on a socket the kernel's word about who made it,
// on the members' port whom its certificate names. What a caller may do the
// member says, once before a request is read and again by what it touches;
// anybody else gets CodePermissionDenied. The socket in the state directory has
// mode 0600, another may be open to every user of the machine.
//
// An error carries a Hint, what to do about it, where there is something to be
// done, and says whether the caller's words were wrong (Usage) or the state of
// things. Both survive the wire: what Member returns as a *Problem the client
// returns as an equal *Problem.
//
// The package decides nothing about replication, knows no engine and opens no
// file but its socket.
package control

import (
	"context"
	"errors"
	"strings"

	"opendfs/internal/control/controlpb"
	"opendfs/internal/control/controlpb/controlpbconnect"

	"connectrpc.com/connect"
)

// Member is the daemon behind the API. Its methods may be called from several
// goroutines; what they return is not changed afterwards. An error that is not
// a *Problem is an unforeseen one.
type Member interface {
	Status(context.Context, *controlpb.StatusRequest) (*controlpb.StatusReply, error)
	// Wait calls tell whenever what is waited for has changed, and lastly with
	// Done. It returns the error of tell, or that of the context.
	Wait(ctx context.Context, req *controlpb.WaitRequest, tell func(*controlpb.WaitReply) error) error
	Backlog(context.Context, *controlpb.BacklogRequest) (*controlpb.BacklogReply, error)
	Queue(context.Context, *controlpb.QueueRequest) (*controlpb.QueueReply, error)
	Record(context.Context, *controlpb.RecordRequest) (*controlpb.RecordReply, error)
	Explain(context.Context, *controlpb.ExplainRequest) (*controlpb.ExplainReply, error)
	PreservedList(context.Context, *controlpb.PreservedListRequest) (*controlpb.PreservedListReply, error)
	PreservedRestore(context.Context, *controlpb.PreservedRestoreRequest) (*controlpb.PreservedRestoreReply, error)
	PreservedPurge(context.Context, *controlpb.PreservedPurgeRequest) (*controlpb.PreservedPurgeReply, error)
	Apply(context.Context, *controlpb.ApplyRequest) (*controlpb.ApplyReply, error)
	Invite(context.Context, *controlpb.InviteRequest) (*controlpb.InviteReply, error)
	Promote(context.Context, *controlpb.PromoteRequest) (*controlpb.PromoteReply, error)
	CaExport(context.Context, *controlpb.CaExportRequest) (*controlpb.CaExportReply, error)
	CaImport(context.Context, *controlpb.CaImportRequest) (*controlpb.CaImportReply, error)
	Events(context.Context, *controlpb.EventsRequest) (*controlpb.EventsReply, error)
	Domain(context.Context, *controlpb.DomainRequest) (*controlpb.DomainReply, error)
	Order(context.Context, *controlpb.OrderRequest) (*controlpb.OrderReply, error)
	Restore(context.Context, *controlpb.RestoreRequest) (*controlpb.RestoreReply, error)
	Adopt(context.Context, *controlpb.AdoptRequest) (*controlpb.AdoptReply, error)
	HeldList(context.Context, *controlpb.HeldListRequest) (*controlpb.HeldListReply, error)
	HeldDecide(context.Context, *controlpb.HeldDecideRequest) (*controlpb.HeldListReply, error)
}

// Problem is an error that says what to do about it.
type Problem struct {
	Err   error
	Hint  string // may be empty
	Usage bool   // the caller's words are wrong
}

// Error is the error's text alone; the hint is shown on a line of its own.
func (p *Problem) Error() string { return p.Err.Error() }

// Unwrap returns the error.
func (p *Problem) Unwrap() error { return p.Err }

// Hint adds to an error what to do about it; nil stays nil.
func Hint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Problem{Err: err, Hint: hint}
}

// toWire makes the API's form of an error.
func toWire(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	code := connect.CodeFailedPrecondition
	info := &controlpb.ErrorInfo{}
	var p *Problem
	switch {
	case errors.As(err, &p):
		info.Hint, info.Usage = strings.ToValidUTF8(p.Hint, "\uFFFD"), p.Usage // a hint may name a file
		if errors.Is(err, ErrDenied) {
			code = connect.CodePermissionDenied
		}
		if p.Usage {
			code = connect.CodeInvalidArgument
		}
	case errors.Is(err, context.DeadlineExceeded):
		code = connect.CodeDeadlineExceeded
	case ctx.Err() != nil:
		code = connect.CodeCanceled
	}
	e := connect.NewError(code, err)
	if d, derr := connect.NewErrorDetail(info); derr == nil {
		e.AddDetail(d)
	}
	return e
}

// fromWire is the inverse of toWire.
func fromWire(err error) error {
	var e *connect.Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	p := &Problem{Err: errors.New(e.Message())}
	for _, d := range e.Details() {
		if v, derr := d.Value(); derr == nil {
			if info, ok := v.(*controlpb.ErrorInfo); ok {
				p.Hint, p.Usage = info.Hint, info.Usage
				return p
			}
		}
	}
	// Not from the daemon: the connection's own.
	return err
}

// handler is Member as the generated service.
type handler struct{ m Member }

var _ controlpbconnect.ControlHandler = handler{}

func unary[Q, R any](ctx context.Context, req *connect.Request[Q], call func(context.Context, *Q) (*R, error)) (*connect.Response[R], error) {
	reply, err := call(ctx, req.Msg)
	if err != nil {
		return nil, toWire(ctx, err)
	}
	return connect.NewResponse(reply), nil
}

func (h handler) Status(ctx context.Context, r *connect.Request[controlpb.StatusRequest]) (*connect.Response[controlpb.StatusReply], error) {
	return unary(ctx, r, h.m.Status)
}

func (h handler) Wait(ctx context.Context, r *connect.Request[controlpb.WaitRequest], s *connect.ServerStream[controlpb.WaitReply]) error {
	return toWire(ctx, h.m.Wait(ctx, r.Msg, s.Send))
}

func (h handler) Backlog(ctx context.Context, r *connect.Request[controlpb.BacklogRequest]) (*connect.Response[controlpb.BacklogReply], error) {
	return unary(ctx, r, h.m.Backlog)
}

func (h handler) Queue(ctx context.Context, r *connect.Request[controlpb.QueueRequest]) (*connect.Response[controlpb.QueueReply], error) {
	return unary(ctx, r, h.m.Queue)
}

func (h handler) Record(ctx context.Context, r *connect.Request[controlpb.RecordRequest]) (*connect.Response[controlpb.RecordReply], error) {
	return unary(ctx, r, h.m.Record)
}

func (h handler) Explain(ctx context.Context, r *connect.Request[controlpb.ExplainRequest]) (*connect.Response[controlpb.ExplainReply], error) {
	return unary(ctx, r, h.m.Explain)
}

func (h handler) PreservedList(ctx context.Context, r *connect.Request[controlpb.PreservedListRequest]) (*connect.Response[controlpb.PreservedListReply], error) {
	return unary(ctx, r, h.m.PreservedList)
}

func (h handler) PreservedRestore(ctx context.Context, r *connect.Request[controlpb.PreservedRestoreRequest]) (*connect.Response[controlpb.PreservedRestoreReply], error) {
	return unary(ctx, r, h.m.PreservedRestore)
}

func (h handler) PreservedPurge(ctx context.Context, r *connect.Request[controlpb.PreservedPurgeRequest]) (*connect.Response[controlpb.PreservedPurgeReply], error) {
	return unary(ctx, r, h.m.PreservedPurge)
}

func (h handler) Apply(ctx context.Context, r *connect.Request[controlpb.ApplyRequest]) (*connect.Response[controlpb.ApplyReply], error) {
	return unary(ctx, r, h.m.Apply)
}

func (h handler) Invite(ctx context.Context, r *connect.Request[controlpb.InviteRequest]) (*connect.Response[controlpb.InviteReply], error) {
	return unary(ctx, r, h.m.Invite)
}

func (h handler) Promote(ctx context.Context, r *connect.Request[controlpb.PromoteRequest]) (*connect.Response[controlpb.PromoteReply], error) {
	return unary(ctx, r, h.m.Promote)
}

func (h handler) CaExport(ctx context.Context, r *connect.Request[controlpb.CaExportRequest]) (*connect.Response[controlpb.CaExportReply], error) {
	return unary(ctx, r, h.m.CaExport)
}

func (h handler) CaImport(ctx context.Context, r *connect.Request[controlpb.CaImportRequest]) (*connect.Response[controlpb.CaImportReply], error) {
	return unary(ctx, r, h.m.CaImport)
}

func (h handler) Events(ctx context.Context, r *connect.Request[controlpb.EventsRequest]) (*connect.Response[controlpb.EventsReply], error) {
	return unary(ctx, r, h.m.Events)
}

func (h handler) Domain(ctx context.Context, r *connect.Request[controlpb.DomainRequest]) (*connect.Response[controlpb.DomainReply], error) {
	return unary(ctx, r, h.m.Domain)
}

func (h handler) Order(ctx context.Context, r *connect.Request[controlpb.OrderRequest]) (*connect.Response[controlpb.OrderReply], error) {
	return unary(ctx, r, h.m.Order)
}

func (h handler) HeldList(ctx context.Context, r *connect.Request[controlpb.HeldListRequest]) (*connect.Response[controlpb.HeldListReply], error) {
	return unary(ctx, r, h.m.HeldList)
}

func (h handler) HeldDecide(ctx context.Context, r *connect.Request[controlpb.HeldDecideRequest]) (*connect.Response[controlpb.HeldListReply], error) {
	return unary(ctx, r, h.m.HeldDecide)
}

func (h handler) Adopt(ctx context.Context, r *connect.Request[controlpb.AdoptRequest]) (*connect.Response[controlpb.AdoptReply], error) {
	return unary(ctx, r, h.m.Adopt)
}

func (h handler) Restore(ctx context.Context, r *connect.Request[controlpb.RestoreRequest]) (*connect.Response[controlpb.RestoreReply], error) {
	return unary(ctx, r, h.m.Restore)
}
