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

func explainCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "explain PATH",
		Short: "tell the walk of one file: captured, known by whom, waiting for what",
		Long: strings.TrimSpace(`
Follows one file or directory on its walk from a user's close to the partners'
disks, as far as this server knows it: what is on disk, whether a filter keeps it
out, its ID record, whether the record is what is on disk, which partners have
that version and which do not, whether there is a newer one elsewhere and what
that waits for. PATH is a local path, or GROUP/FOLDER:relative.`),
		Example: "  dfs explain /srv/docs/plan.odt\n  dfs explain projects/docs:plan.odt",
		Args:    one("PATH"),
		RunE: does(func(c *cobra.Command, args []string) error {
			path, err := userPath(args[0])
			if err != nil {
				return err
			}
			r, err := askRunning(c.Context(), o, func(ctx context.Context, m *control.Client) (*controlpb.ExplainReply, error) {
				return m.Explain(ctx, &controlpb.ExplainRequest{Path: []byte(path)})
			})
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), r)
			}
			printExplain(c.OutOrStdout(), r)
			return nil
		}),
	}
}

// marks are how a station of the walk looks.
var marks = map[string]string{"ok": "ok", "wait": "...", "stop": "NO", "info": ""}

func printExplain(w io.Writer, r *controlpb.ExplainReply) {
	fmt.Fprintf(w, "%s\n%s\n\n", r.Object, r.Verdict)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, s := range r.Steps {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", s.Name, marks[s.Mark], s.Text)
	}
	must(t.Flush())
	for _, f := range r.Findings {
		text := f.Text
		if f.Detail != "" {
			text += " (" + f.Detail + ")"
		}
		fmt.Fprintf(w, "\n%s %s %s: %s\n  -> %s\n", f.Severity, f.Code, f.Object, text, f.Remedy)
	}
}
