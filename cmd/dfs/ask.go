package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
)

// memberAPI is what can be asked of a member whether it runs or not.
type memberAPI interface {
	Apply(context.Context, *controlpb.ApplyRequest) (*controlpb.ApplyReply, error)
	Invite(context.Context, *controlpb.InviteRequest) (*controlpb.InviteReply, error)
	Domain(context.Context, *controlpb.DomainRequest) (*controlpb.DomainReply, error)
	Promote(context.Context, *controlpb.PromoteRequest) (*controlpb.PromoteReply, error)
	CaExport(context.Context, *controlpb.CaExportRequest) (*controlpb.CaExportReply, error)
	CaImport(context.Context, *controlpb.CaImportRequest) (*controlpb.CaImportReply, error)
	Events(context.Context, *controlpb.EventsRequest) (*controlpb.EventsReply, error)
}

// askMember asks the running member, or, where none runs, does the same in the
// state directory itself.
func askMember[R any](ctx context.Context, o *options, ask func(context.Context, memberAPI) (R, error)) (r R, err error) {
	client, err := newClient(ctx, o)
	if err != nil {
		return r, err
	}
	defer client.Close()
	r, err = ask(ctx, client)
	if !errors.Is(err, control.ErrNotRunning) || o.server != "" || o.socket != "" {
		return r, err
	}
	state, err := holdState(o.state, false)
	var used *inUseError
	if errors.As(err, &used) {
		return r, control.Hint(fmt.Errorf("%w, which does not answer on its control socket", used), "it is starting or stopping, or it is another command: try again")
	}
	if err != nil {
		return r, err
	}
	r, err = ask(ctx, offline{state})
	return r, errors.Join(err, state.Close())
}

// askRunning asks the running member.
func askRunning[R any](ctx context.Context, o *options, ask func(context.Context, *control.Client) (R, error)) (r R, err error) {
	client, err := newClient(ctx, o)
	if err != nil {
		return r, err
	}
	defer client.Close()
	r, err = ask(ctx, client)
	if errors.Is(err, control.ErrNotRunning) && o.server == "" && o.socket == "" {
		if _, serr := os.Stat(o.state); errors.Is(serr, os.ErrNotExist) {
			err = control.Hint(fmt.Errorf("state directory %s does not exist", o.state), "name the member's state directory with --state; a new member is made by `dfs init` or `dfs join`")
		}
	}
	return r, err
}
