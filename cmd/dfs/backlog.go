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

func backlogCommand(o *options) *cobra.Command {
	q := &controlpb.BacklogRequest{}
	c := &cobra.Command{
		Use:   "backlog GROUP/FOLDER",
		Short: "list the updates that a partner has not got yet",
		Long: strings.TrimSpace(`
Lists what this server has and its partners lack, and what they have and this
server lacks. --from and --to choose one connection: the server that has the
updates and the one that lacks them; one of the two is this server.`),
		Example: "  dfs backlog projects/docs\n  dfs backlog projects/docs --from hub --to branch",
		Args:    one("GROUP/FOLDER"),
		RunE: does(func(c *cobra.Command, args []string) error {
			q.Folder = args[0]
			r, err := askRunning(c.Context(), o, func(ctx context.Context, m *control.Client) (*controlpb.BacklogReply, error) {
				return m.Backlog(ctx, q)
			})
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), r)
			}
			printBacklog(c.OutOrStdout(), r)
			return nil
		}),
	}
	c.Flags().StringVar(&q.From, "from", "", "the server that has the updates")
	c.Flags().StringVar(&q.To, "to", "", "the server that lacks them")
	c.Flags().Int64Var(&q.Limit, "limit", defaultList, "updates listed of each connection")
	return c
}

// defaultList is how many updates a list shows if nothing else is asked for.
const defaultList = 100

func printBacklog(w io.Writer, r *controlpb.BacklogReply) {
	if len(r.Lists) == 0 {
		fmt.Fprintln(w, "No partner: nothing can be behind.")
	}
	for i, l := range r.Lists {
		if i > 0 {
			fmt.Fprintln(w)
		}
		total := "backlog not known"
		switch {
		case l.Known && l.Total.Updates == 0:
			total = "nothing is behind"
		case l.Known:
			total = backlogText(l.Total, "") + " behind"
		}
		fmt.Fprintf(w, "%s  %s->%s: %s\n", l.Folder, l.From, l.To, total)
		if l.Problem != "" {
			fmt.Fprintf(w, "  %s\n", l.Problem)
		}
		printUpdates(w, l.Updates, false)
		if left := l.Total.GetUpdates() - int64(len(l.Updates)); l.Known && left > 0 {
			fmt.Fprintf(w, "  … and %s more (--limit)\n", thousands(left))
		}
	}
}

func printUpdates(w io.Writer, list []*controlpb.UpdateLine, queue bool) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, u := range list {
		what := u.Kind
		if u.Deleted {
			what = "deleted " + what
		}
		bytes := "-"
		if u.Kind == "file" && !u.Deleted {
			bytes = size(u.Size)
		}
		if queue {
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\n", u.Folder, u.Server, what, bytes, u.Path, u.Reason)
		} else {
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", clockTime(u.Time), what, bytes, u.Path)
		}
	}
	must(t.Flush())
}
