package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"syscall"

	"opendfs/internal/control/controlpb"
	"opendfs/internal/control/controlpb/controlpbconnect"

	"connectrpc.com/connect"
)

// ErrNotRunning says that no daemon answers on the socket.
var ErrNotRunning = errors.New("the member is not running")

// Client asks a running member. Its methods may be called from several
// goroutines. Their errors are the daemon's *Problem, ErrNotRunning where
// nobody answers, or the connection's own.
type Client struct {
	rpc  controlpbconnect.ControlClient
	http *http.Client
	path string
	// remote is a member that is not asked on a socket of this machine.
	remote bool
}

// NewClient makes a client of the socket at path; it connects when it is asked.
func NewClient(path string) *Client {
	h := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(path) },
	}}
	return &Client{rpc: controlpbconnect.NewControlClient(h, "http://dfs"), http: h, path: path}
}

// NewRemoteClient makes a client of a member that dial connects to; name is for
// messages.
func NewRemoteClient(name string, dial func(context.Context) (net.Conn, error)) *Client {
	h := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}
	return &Client{rpc: controlpbconnect.NewControlClient(h, "http://dfs"), http: h, path: name, remote: true}
}

// Close lets the connection go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// explain makes the client's error of the connection's.
func (c *Client) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case c.remote && connect.CodeOf(err) == connect.CodeUnavailable:
		return &Problem{Err: fmt.Errorf("ask the member at %s: %w", c.path, errors.Unwrap(err)), Hint: "`dfs serve` must run there, and this computer's identity must be of the domain"}
	case !c.remote && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)):
		return fmt.Errorf("ask the member at %s: %w", c.path, ErrNotRunning)
	case connect.CodeOf(err) == connect.CodeDeadlineExceeded: // the daemon noticed first
		return fmt.Errorf("ask the member at %s: %w", c.path, context.DeadlineExceeded)
	case errors.Is(err, fs.ErrPermission):
		return &Problem{Err: fmt.Errorf("ask the member at %s: permission denied", c.path), Hint: "run the command as root, or as the user who runs the member"}
	}
	return fromWire(err)
}

func ask[Q, R any](ctx context.Context, c *Client, call func(context.Context, *connect.Request[Q]) (*connect.Response[R], error), q *Q) (*R, error) {
	r, err := call(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, c.explain(err)
	}
	return r.Msg, nil
}

// Status is that of Member.
func (c *Client) Status(ctx context.Context) (*controlpb.StatusReply, error) {
	return ask(ctx, c, c.rpc.Status, &controlpb.StatusRequest{})
}

// Wait calls tell with each reply until one is done or ctx ends, whose error
// it then returns.
func (c *Client) Wait(ctx context.Context, q *controlpb.WaitRequest, tell func(*controlpb.WaitReply)) error {
	s, err := c.rpc.Wait(ctx, connect.NewRequest(q))
	if err != nil {
		return c.waitError(ctx, err)
	}
	defer func() { _ = s.Close() }() // what it had to say has been said
	for s.Receive() {
		tell(s.Msg())
		if s.Msg().Done {
			return nil
		}
	}
	if err := s.Err(); err != nil {
		return c.waitError(ctx, err)
	}
	return fmt.Errorf("wait: %w: it stopped meanwhile", ErrNotRunning)
}

func (c *Client) waitError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.explain(err)
}

// Backlog is that of Member.
func (c *Client) Backlog(ctx context.Context, q *controlpb.BacklogRequest) (*controlpb.BacklogReply, error) {
	return ask(ctx, c, c.rpc.Backlog, q)
}

// Queue is that of Member.
func (c *Client) Queue(ctx context.Context, q *controlpb.QueueRequest) (*controlpb.QueueReply, error) {
	return ask(ctx, c, c.rpc.Queue, q)
}

// Record is that of Member.
func (c *Client) Record(ctx context.Context, q *controlpb.RecordRequest) (*controlpb.RecordReply, error) {
	return ask(ctx, c, c.rpc.Record, q)
}

// Explain is that of Member.
func (c *Client) Explain(ctx context.Context, q *controlpb.ExplainRequest) (*controlpb.ExplainReply, error) {
	return ask(ctx, c, c.rpc.Explain, q)
}

// PreservedList is that of Member.
func (c *Client) PreservedList(ctx context.Context, q *controlpb.PreservedListRequest) (*controlpb.PreservedListReply, error) {
	return ask(ctx, c, c.rpc.PreservedList, q)
}

// PreservedRestore is that of Member.
func (c *Client) PreservedRestore(ctx context.Context, q *controlpb.PreservedRestoreRequest) (*controlpb.PreservedRestoreReply, error) {
	return ask(ctx, c, c.rpc.PreservedRestore, q)
}

// PreservedPurge is that of Member.
func (c *Client) PreservedPurge(ctx context.Context, q *controlpb.PreservedPurgeRequest) (*controlpb.PreservedPurgeReply, error) {
	return ask(ctx, c, c.rpc.PreservedPurge, q)
}

// Apply is that of Member.
func (c *Client) Apply(ctx context.Context, q *controlpb.ApplyRequest) (*controlpb.ApplyReply, error) {
	return ask(ctx, c, c.rpc.Apply, q)
}

// Invite is that of Member.
func (c *Client) Invite(ctx context.Context, q *controlpb.InviteRequest) (*controlpb.InviteReply, error) {
	return ask(ctx, c, c.rpc.Invite, q)
}

// Promote is that of Member.
func (c *Client) Promote(ctx context.Context, q *controlpb.PromoteRequest) (*controlpb.PromoteReply, error) {
	return ask(ctx, c, c.rpc.Promote, q)
}

// CaExport is that of Member.
func (c *Client) CaExport(ctx context.Context, q *controlpb.CaExportRequest) (*controlpb.CaExportReply, error) {
	return ask(ctx, c, c.rpc.CaExport, q)
}

// CaImport is that of Member.
func (c *Client) CaImport(ctx context.Context, q *controlpb.CaImportRequest) (*controlpb.CaImportReply, error) {
	return ask(ctx, c, c.rpc.CaImport, q)
}

// Events is that of Member.
func (c *Client) Events(ctx context.Context, q *controlpb.EventsRequest) (*controlpb.EventsReply, error) {
	return ask(ctx, c, c.rpc.Events, q)
}

// Domain is that of Member.
func (c *Client) Domain(ctx context.Context, q *controlpb.DomainRequest) (*controlpb.DomainReply, error) {
	return ask(ctx, c, c.rpc.Domain, q)
}

// Order is that of Member.
func (c *Client) Order(ctx context.Context, q *controlpb.OrderRequest) (*controlpb.OrderReply, error) {
	return ask(ctx, c, c.rpc.Order, q)
}

// HeldList is that of Member.
func (c *Client) HeldList(ctx context.Context, q *controlpb.HeldListRequest) (*controlpb.HeldListReply, error) {
	return ask(ctx, c, c.rpc.HeldList, q)
}

// HeldDecide is that of Member.
func (c *Client) HeldDecide(ctx context.Context, q *controlpb.HeldDecideRequest) (*controlpb.HeldListReply, error) {
	return ask(ctx, c, c.rpc.HeldDecide, q)
}

// Adopt is that of Member.
func (c *Client) Adopt(ctx context.Context, q *controlpb.AdoptRequest) (*controlpb.AdoptReply, error) {
	return ask(ctx, c, c.rpc.Adopt, q)
}

// Restore is that of Member.
func (c *Client) Restore(ctx context.Context, q *controlpb.RestoreRequest) (*controlpb.RestoreReply, error) {
	return ask(ctx, c, c.rpc.Restore, q)
}
