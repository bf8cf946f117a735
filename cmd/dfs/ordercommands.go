package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"

	"github.com/spf13/cobra"
)

// defaultSyncNow is how long sync-now opens what it names.
const defaultSyncNow = 30 * time.Minute

func pauseCommand(o *options) *cobra.Command {
	return orderCommand(o, verbPause, "stop replication of something on this server for a while", `
Stops what this server pulls and serves of a group, a folder or a connection: at
once, for the time of --for, or until dfs resume. What users change here is still
captured, and goes out afterwards. It outlives a restart of the member.`,
		"  dfs pause projects --for 30m\n  dfs pause hub->branch\n  dfs pause --all")
}

func resumeCommand(o *options) *cobra.Command {
	return orderCommand(o, verbResume, "take back what was paused or opened",
		"\nTakes back `dfs pause` and `dfs sync-now` of an object and of what lies in it: the\nschedule counts again.",
		"  dfs resume projects\n  dfs resume --all")
}

func syncNowCommand(o *options) *cobra.Command {
	return orderCommand(o, verbSyncNow, "replicate now, whatever the schedule says", `
Opens what this server pulls of a group, a folder or a connection in spite of its
schedule and without the schedule's rates, for the time of --for. max-rate of a server
still holds. Run it on the server that is to receive.`,
		"  dfs sync-now projects/docs --for 30m\n  dfs sync-now hub->branch")
}

func orderCommand(o *options, verb, short, long, example string) *cobra.Command {
	var all bool
	var span string
	c := &cobra.Command{
		Use: verb + " OBJECT|--all", Short: short, Long: strings.TrimSpace(long), Example: example,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 || all == (len(args) == 1) {
				return usageError("%s wants one GROUP, GROUP/FOLDER or FROM->TO, or --all", c.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: completing(o, domainObjects),
		RunE: does(func(c *cobra.Command, args []string) error {
			req := &controlpb.OrderRequest{Verb: verb}
			if len(args) == 1 {
				req.Object = args[0]
			}
			d, err := orderSpan(verb, span)
			if err != nil {
				return err
			}
			req.Seconds = int64(d / time.Second)
			r, err := askRunning(c.Context(), o, func(ctx context.Context, m *control.Client) (*controlpb.OrderReply, error) { return m.Order(ctx, req) })
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), r)
			}
			if len(r.Orders) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "No order holds; schedules count.")
				return nil
			}
			printOrders(c.OutOrStdout(), r.Orders)
			return nil
		}),
	}
	c.Flags().BoolVar(&all, "all", false, "everything on this server")
	if verb != verbResume {
		c.Flags().StringVar(&span, "for", "", "how long, as 30m, 2h or 1d")
	}
	return c
}

func orderSpan(verb, text string) (time.Duration, error) {
	if text == "" {
		if verb == verbSyncNow {
			return defaultSyncNow, nil
		}
		return 0, nil
	}
	d, err := directory.ParseDuration(text)
	if err != nil || d < time.Second {
		return 0, usageError("--for %q: give a time as 30m, 2h or 1d", text)
	}
	return d, nil
}
