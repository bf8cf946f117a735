package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"

	"github.com/spf13/cobra"
)

func heldCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "held",
		Short: "list, release and reject mass changes that this server holds",
		Long: strings.TrimSpace(`
Where one server replaces the content of more than 30 % of a folder's files within
ten minutes, or deletes them, the others hold it: from there on they install nothing
of what it does, and raise the finding mass-change-held. Each server holds and decides
for itself; --server NAME asks another one.`),
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, add := range []*cobra.Command{heldListCommand(o), heldReleaseCommand(o), heldRejectCommand(o)} {
		add.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
		c.AddCommand(add)
	}
	return c
}

func heldListCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "list [GROUP/FOLDER]",
		Short: "list whose changes are held here, since when, and how many",
		Long: strings.TrimSpace(`
Lists the originators that this server holds: the server whose changes they are, as
far as this one knows, what it did when it was held, and how many of its updates are
known of and not here. What was released or rejected stays in the list until all of
it has arrived.`),
		Example:           "  dfs held list\n  dfs held list projects/docs",
		Args:              wants(0, 1, "at most one GROUP/FOLDER"),
		ValidArgsFunction: completing(o, first(folderNames)),
		RunE: does(func(c *cobra.Command, args []string) error {
			q := &controlpb.HeldListRequest{}
			if len(args) == 1 {
				q.Folder = args[0]
			}
			r, err := askRunning(c.Context(), o, func(ctx context.Context, m *control.Client) (*controlpb.HeldListReply, error) {
				return m.HeldList(ctx, q)
			})
			if err != nil {
				return err
			}
			return tellHeld(c.OutOrStdout(), o, r)
		}),
	}
}

func heldReleaseCommand(o *options) *cobra.Command {
	return heldDecision(o, "release", false, "let what is held go on", `
Installs what is held of a folder, and what comes after it: the change was meant. What
is known of the server by now does not trip the breaker again; what it does later is
counted anew.`)
}

func heldRejectCommand(o *options) *cobra.Command {
	return heldDecision(o, "reject", true, "restore the versions that this server has, everywhere", `
Answers every held update that replaced or deleted something by an update of this
server, which says what it has: the old versions come back on every member, and the
rejected ones are kept in the conflict store of the members that have them. What was
made anew, moved or given other metadata stays. It does not bring back what was
installed before the breaker tripped: dfs preserved restore --why deleted, or a backup.

Stop what made the changes first. Other members that hold the same server are to
release it when the old versions have arrived: there is nothing left to install then.`)
}

func heldDecision(o *options, verb string, reject bool, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " GROUP/FOLDER [SERVER|ORIGINATOR]", Short: short,
		Long:              strings.TrimSpace(long) + "\n\nWithout SERVER or ORIGINATOR (dfs held list shows both), all that is held of the folder.",
		Example:           "  dfs held " + verb + " projects/docs\n  dfs held " + verb + " projects/docs branch",
		Args:              wants(1, 2, "GROUP/FOLDER, and a SERVER or an originator"),
		ValidArgsFunction: completing(o, first(folderNames)),
		RunE: does(func(c *cobra.Command, args []string) error {
			q := &controlpb.HeldDecideRequest{Folder: args[0], Reject: reject}
			if len(args) == 2 {
				q.Of = args[1]
			}
			r, err := askRunning(c.Context(), o, func(ctx context.Context, m *control.Client) (*controlpb.HeldListReply, error) {
				return m.HeldDecide(ctx, q)
			})
			if err != nil {
				return err
			}
			return tellHeld(c.OutOrStdout(), o, r)
		}),
	}
}

func tellHeld(w io.Writer, o *options, r *controlpb.HeldListReply) error {
	if o.json {
		return printJSON(w, r)
	}
	if len(r.Held) == 0 {
		_, err := fmt.Fprintln(w, "Nothing is held here.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprint(t, "FOLDER\tSERVER\tSTATE\tSINCE\tFILES\tREPLACED\tDELETED\tUPDATES\tORIGINATOR\n")
	for _, h := range r.Held {
		server := h.Server
		if server == "" {
			server = "? (by " + h.ToldBy + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.Folder, server, h.State, clockTime(h.Since),
			thousands(h.Live), thousands(h.Replaced), thousands(h.Deleted), thousands(int64(h.Updates)), h.Originator)
	}
	return t.Flush()
}
