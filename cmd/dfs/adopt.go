package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/engine"
	"opendfs/internal/finding"
	"opendfs/internal/store"

	"github.com/spf13/cobra"
)

// adoptTime is how long an adopted tree may take to be opened before the command says
// that it goes on by itself.
const adoptTime = 20 * time.Second

func adoptCommand(o *options) *cobra.Command {
	dryRun := false
	c := &cobra.Command{
		Use:   "adopt GROUP/FOLDER@SERVER",
		Short: "take the tree that lies at a membership's path for its own",
		Long: `
For a folder that has stopped with folder-marker-missing, folder-marker-foreign or
root-unmounted although the right tree lies at its path: one that was restored from a
backup, copied from another disk, or left by an earlier membership. SERVER itself is
asked (--server SERVER from elsewhere).

What the member had on record of the folder is dropped, and the tree is compared with
the partners, not authoritatively: what is the same is not sent, what differs loses and
is kept, what only this tree has goes to pre-existing. What its .dfsr holds, the conflict
store above all, stays. A tree that has never been of this folder is taken as a new
membership takes any: a primary's content wins.`,
		Example: "  dfs membership adopt projects/docs@branch --dry-run\n  dfs membership adopt projects/docs@branch",
		Args:    one("GROUP/FOLDER@SERVER"),
		RunE: does(func(c *cobra.Command, args []string) error {
			if _, _, err := splitMembership(args[0]); err != nil {
				return err
			}
			r, err := askRunning(c.Context(), o, func(ctx context.Context, m *control.Client) (*controlpb.AdoptReply, error) {
				return m.Adopt(ctx, &controlpb.AdoptRequest{Membership: args[0], DryRun: dryRun})
			})
			switch {
			case err != nil:
				return err
			case o.json:
				return printJSON(c.OutOrStdout(), r)
			case dryRun:
				fmt.Fprintf(c.OutOrStdout(), "%s would take the tree in %s (now: %s). Nothing was changed.\n", r.Membership, r.Path, r.Was)
			default:
				fmt.Fprintf(c.OutOrStdout(), "%s has taken the tree in %s; `dfs status --wait` returns when it is in sync.\n", r.Membership, r.Path)
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be taken, and change nothing")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
	c.ValidArgsFunction = completing(o, first(membershipNames))
	return c
}

// Adopt is that of control.Member.
func (m *member) Adopt(ctx context.Context, q *controlpb.AdoptRequest) (*controlpb.AdoptReply, error) {
	folder, server, err := splitMembership(q.Membership)
	if err != nil {
		return nil, err
	}
	if err := m.mayOperate(ctx, "membership adopt "+q.Membership, groupOf(folder)); err != nil {
		return nil, err
	}
	if _, _, err := findMembership(m.domain().Domain, q.Membership); err != nil {
		return nil, err
	}
	if self := m.id.Name(); server != self {
		return nil, &control.Problem{Err: fmt.Errorf("adopt %s: this server is %s", q.Membership, self), Hint: "ask it itself: --server " + server, Usage: true}
	}
	k, err := m.folders.named(folder)
	if err != nil {
		return nil, control.Hint(err, "its membership is disabled; `dfs membership set "+q.Membership+" --enabled`")
	}
	was, err := k.adoptable()
	if err != nil {
		return nil, err
	}
	reply := &controlpb.AdoptReply{Membership: q.Membership, Path: k.Path, Was: was}
	if q.DryRun {
		return reply, nil
	}
	if err := k.adopt(ctx); err != nil {
		return nil, err
	}
	m.record(ctx, event{What: "adopt " + k.Path, Object: q.Membership})
	return reply, nil
}

// adoptable says why the folder does not run, if that is a reason to adopt its tree.
func (k *keeper) adoptable() (was string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, foreign := errors.AsType[*engine.MarkerError](k.why)
	open, _ := errors.AsType[*openError](k.why)
	switch {
	case k.runner != nil:
		return "", control.Hint(fmt.Errorf("adopt %s: the folder runs, the tree in %s is its own", k.Name, k.Path), "nothing was changed; to make this tree win, or give it up for another's: `dfs folder restore`")
	case foreign || open != nil && open.code == finding.FolderMarkerMissing:
		return k.reason, nil
	}
	return "", control.Hint(fmt.Errorf("adopt %s: it does not run for another reason: %s", k.Name, k.reason), "nothing was changed; `dfs status` shows its findings and what to do")
}

// adopt has the tree taken, and returns when the folder runs on it.
func (k *keeper) adopt(ctx context.Context) error {
	k.mu.Lock()
	k.adopting, k.why = true, nil
	k.mu.Unlock()
	select {
	case k.retry <- struct{}{}:
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, adoptTime)
	defer cancel()
	for {
		k.mu.Lock()
		runs, why := k.runner != nil, k.why
		k.mu.Unlock()
		if runs || why != nil {
			return why
		}
		if !pause(ctx, captureEvery) {
			return control.Hint(fmt.Errorf("adopt %s: it takes long to open", k.Name), "it goes on by itself; `dfs status --wait` returns when it is in sync")
		}
	}
}

// adopted is where a membership ran last whose records were dropped to adopt a tree: no
// path at all, so that a start that follows takes the tree for one of elsewhere.
const adopted = "adopted"

// drops reports whether records are to be dropped because a tree is adopted that they
// do not tell.
func (k *keeper) drops(records *store.Folder) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.adopting || records.State().Phase == store.PhaseNew {
		return false, nil
	}
	return true, k.f.roots.runs(k.Membership, adopted)
}
