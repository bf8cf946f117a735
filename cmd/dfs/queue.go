package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"

	"github.com/spf13/cobra"
)

func queueCommand(o *options) *cobra.Command {
	q := &controlpb.QueueRequest{}
	c := &cobra.Command{
		Use:   "queue inbound|outbound",
		Short: "list what waits on this server, and why",
		Long: strings.TrimSpace(`
Lists, over all folders, the updates that this server knows of and has not
installed yet (inbound), each with what it waits for, or those that partners have
not got from it yet (outbound).`),
		Example: "  dfs queue inbound",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] != "inbound" && args[0] != "outbound" {
				return usageError("queue %q: it is inbound or outbound", args[0])
			}
			return one("inbound or outbound")(c, args)
		},
		ValidArgs: []string{"inbound", "outbound"},
		RunE: does(func(c *cobra.Command, args []string) error {
			q.Direction = args[0]
			r, err := askRunning(c.Context(), o, func(ctx context.Context, m *control.Client) (*controlpb.QueueReply, error) { return m.Queue(ctx, q) })
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), r)
			}
			printQueue(c.OutOrStdout(), q.Direction, r)
			return nil
		}),
	}
	c.Flags().Int64Var(&q.Limit, "limit", defaultList, "updates listed of each folder and partner")
	return c
}

func printQueue(w io.Writer, direction string, r *controlpb.QueueReply) {
	word := "from"
	if direction == "outbound" {
		word = "to"
	}
	var total int64
	for _, t := range r.Totals {
		text := "not known"
		if t.Known {
			text = backlogText(t.Total, "")
			total += t.Total.GetUpdates()
		}
		if t.Known && t.Total.GetUpdates() == 0 && t.Problem == "" {
			continue
		}
		fmt.Fprintf(w, "%s %s %s: %s", t.Folder, word, t.Server, text)
		if t.Problem != "" {
			fmt.Fprintf(w, " (%s)", t.Problem)
		}
		fmt.Fprintln(w)
	}
	if total == 0 {
		fmt.Fprintf(w, "Nothing waits %s.\n", direction)
		return
	}
	printUpdates(w, r.Updates, true)
}
