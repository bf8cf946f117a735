package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/engine"
	"opendfs/internal/repl"

	"github.com/spf13/cobra"
)

func folderRestoreCommand(o *options) *cobra.Command {
	var authoritative bool
	var from string
	c := &cobra.Command{
		Use:   "restore --authoritative PATH | --from SERVER GROUP/FOLDER",
		Short: "make this server's tree win on purpose, or take another server's",
		Long: strings.TrimSpace(`
With --authoritative: what this server has at PATH, and below it, wins on every member,
whatever they did meanwhile and whatever their clocks say; what it deleted stays deleted.
Put the files back first, from a backup for example, then run it on that server. What
the others had that differs is kept in their conflict stores. PATH is a local path,
GROUP/FOLDER for all of it, or GROUP/FOLDER:relative.

With --from SERVER: this server's tree of the folder is replaced by that server's. Its
records are dropped, and it goes through an initial sync with SERVER, which sends only
what differs; what differs here is kept in the conflict store, what only this server
has goes to pre-existing. dfs status --wait returns when it is over.`),
		Example: "  dfs folder restore --authoritative /srv/docs/reports\n  dfs folder restore --authoritative projects/docs\n  dfs folder restore --from hub projects/docs",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && authoritative != (from != "") {
				return nil
			}
			return usageError("%s wants either --authoritative and a PATH, or --from SERVER and GROUP/FOLDER", c.CommandPath())
		},
		ValidArgsFunction: completing(o, first(folderNames)),
		RunE: does(func(c *cobra.Command, args []string) error {
			q := &controlpb.RestoreRequest{From: from, Path: []byte(args[0])}
			if strings.Count(args[0], "/") != 1 || strings.HasPrefix(args[0], "/") || strings.HasPrefix(args[0], ".") {
				path, err := userPath(args[0])
				if err != nil {
					return err
				}
				q.Path = []byte(path)
			}
			r, err := askRunning(c.Context(), o, func(ctx context.Context, m *control.Client) (*controlpb.RestoreReply, error) {
				return m.Restore(ctx, q)
			})
			if err != nil {
				return err
			}
			switch {
			case o.json:
				return printJSON(c.OutOrStdout(), r)
			case from != "":
				fmt.Fprintf(c.OutOrStdout(), "%s takes over the tree of %s; `dfs status --wait` returns when it has.\n", r.Folder, from)
			default:
				fmt.Fprintf(c.OutOrStdout(), "%s of %s win from now on; `dfs status --wait` returns when the partners have them.\n", objects(r.Updates), r.Folder)
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&authoritative, "authoritative", false, "what this server has at PATH wins")
	c.Flags().StringVar(&from, "from", "", "the server whose tree replaces this one's")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
	return c
}

// Restore is that of control.Member.
func (m *member) Restore(ctx context.Context, q *controlpb.RestoreRequest) (*controlpb.RestoreReply, error) {
	path := string(q.Path)
	if !strings.HasPrefix(path, "/") && !strings.Contains(path, ":") {
		path += ":"
	}
	p, err := m.folders.locate(path)
	if err != nil {
		return nil, err
	}
	if err := m.mayOperate(ctx, "restore "+p.String(), groupOf(p.k.Name)); err != nil {
		return nil, err
	}
	r, _, err := p.k.running()
	if err != nil {
		return nil, err
	}
	reply, e := &controlpb.RestoreReply{Folder: p.k.Name}, event{What: "restore authoritative", Object: p.String()}
	if q.From != "" {
		e.What = "restore from " + q.From
		err = m.restoreFrom(ctx, p, r, q.From)
	} else {
		n, aerr := r.Authorize(ctx, p.rel)
		reply.Updates, err = int64(n), restoreHint(p, aerr)
	}
	if err != nil {
		return nil, err
	}
	m.record(ctx, e)
	return reply, nil
}

// restoreHint says what to do about an authoritative restore that was refused.
func restoreHint(p place, err error) error {
	if _, ok := errors.AsType[*engine.ReadOnlyError](err); ok {
		return control.Hint(err, "restore on a member that is not read-only; --from SERVER makes this one as that")
	}
	if _, ok := errors.AsType[*engine.NotNormalError](err); ok {
		return control.Hint(err, "`dfs status --wait` returns when it is Normal")
	}
	if _, ok := errors.AsType[*engine.NoRecordError](err); ok {
		return control.Hint(err, fmt.Sprintf("`dfs explain %v` tells why", p))
	}
	return err
}

// restoreFrom has a folder take over a partner's tree.
func (m *member) restoreFrom(ctx context.Context, p place, r *engine.Runner, from string) error {
	if p.rel != "." {
		return &control.Problem{Err: fmt.Errorf("restore %v from %s: --from takes the whole folder", p, from), Hint: "name GROUP/FOLDER", Usage: true}
	}
	s := m.domain().Domain.ServerByName(from)
	if s == nil || !slices.Contains(p.k.partners().Upstreams, repl.MemberID(s.ID)) {
		return control.Hint(fmt.Errorf("restore %s from %s: this server does not pull the folder from it", p.k.Name, from), "`dfs status` lists its partners")
	}
	if p.k.f.session(repl.MemberID(s.ID)) == nil {
		return control.Hint(fmt.Errorf("restore %s from %s: there is no connection to it now", p.k.Name, from), "nothing was changed; `dfs status` says why it is away")
	}
	p.k.mu.Lock()
	p.k.follow = repl.MemberID(s.ID)
	p.k.mu.Unlock()
	r.StartAnew(ctx)
	select {
	case <-r.Ended():
	case <-ctx.Done():
	}
	return ctx.Err()
}
