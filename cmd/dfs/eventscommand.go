package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"opendfs/internal/control/controlpb"

	"github.com/spf13/cobra"
)

func eventsCommand(o *options) *cobra.Command {
	var since string
	var limit int64
	c := &cobra.Command{
		Use:   "events",
		Short: "list what was changed on this server, by whom",
		Long: strings.TrimSpace(`
Lists the audit log of this server: every change of the domain, and every order,
restore and purge, with who did it, from where, and what was before and after. It
is STATE/` + auditName + `, JSON lines, the newest last; older files have .1 to .4
behind their names.`),
		Example: "  dfs events --since 2d\n  dfs events --json",
		Args:    none,
		RunE: does(func(c *cobra.Command, _ []string) error {
			req := &controlpb.EventsRequest{Limit: limit}
			if since != "" {
				at, err := momentText(since, time.Now())
				if err != nil {
					return usageError("--since: %v", err)
				}
				req.Since = at
			}
			r, err := askMember(c.Context(), o, func(ctx context.Context, m memberAPI) (*controlpb.EventsReply, error) { return m.Events(ctx, req) })
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), r)
			}
			printEvents(c.OutOrStdout(), r.Events)
			return nil
		}),
	}
	c.Flags().StringVar(&since, "since", "", "made since then: 2h, 3d, 2026-11-21, '2026-11-21 17:30'")
	c.Flags().Int64Var(&limit, "limit", defaultEvents, "how many, the newest")
	return c
}

func printEvents(w io.Writer, list []*controlpb.Event) {
	if len(list) == 0 {
		fmt.Fprintln(w, "None.")
	}
	for _, e := range list {
		fmt.Fprintf(w, "%s  %s (%s)  %s %s\n", eventTime(e.Time), e.Who, e.From, e.What, e.Object)
		if e.Error != "" {
			fmt.Fprintf(w, "    %s\n", e.Error)
		}
		for _, d := range e.Edits {
			fmt.Fprintf(w, "    %s\n", editText(d))
		}
	}
}

// editText is one edit in a line.
func editText(d *controlpb.Edit) string {
	head := strings.TrimSpace(d.Op + " " + d.Object)
	if d.Property != "" {
		head += ", " + d.Property
	}
	switch {
	case d.Before != "" && d.After != "":
		return head + ": " + d.Before + " -> " + d.After
	case d.Before+d.After != "" && d.Before+d.After != "none": // of what was made with nothing to tell
		return head + ": " + d.Before + d.After
	}
	return head
}

func eventTime(text string) string {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	return t.Local().Format(time.DateTime)
}
