package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func preservedCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "preserved",
		Short: "list, restore and purge what replication has put aside",
		Long: strings.TrimSpace(`
Losers of conflicts, files that another member deleted, and what only this server
had at its initial sync are kept in the folder's .dfsr/ on the server where it
happened: losers for the folder's conflict-retention at least, deleted files as
long as there is room, what is from the initial sync until it is purged.`),
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, add := range []*cobra.Command{preservedListCommand(o), preservedRestoreCommand(o), preservedPurgeCommand(o)} {
		add.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
		c.AddCommand(add)
	}
	return c
}

// keptFlags are the choice that the commands have in common.
type keptFlags struct {
	since, before string
	why           []string
}

func (f *keptFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.since, "since", "", "kept since then: 2h, 3d, 2026-11-21, '2026-11-21 17:30'")
	c.Flags().StringVar(&f.before, "before", "", "kept before then")
	c.Flags().StringSliceVar(&f.why, "why", nil, "kept for this reason: "+reasonList())
}

// selection reads GROUP/FOLDER[:PATH] [PATH…] and the flags.
func (f *keptFlags) selection(args []string) (*controlpb.KeptSelection, error) {
	folder, path, ok := strings.Cut(args[0], ":")
	sel := &controlpb.KeptSelection{Folder: folder, Why: f.why}
	if ok {
		sel.Paths = append(sel.Paths, []byte(path))
	}
	for _, arg := range args[1:] {
		sel.Paths = append(sel.Paths, []byte(arg))
	}
	var err error
	if sel.Since, err = momentText(f.since, time.Now()); err != nil {
		return nil, usageError("--since: %v", err)
	}
	if sel.Before, err = momentText(f.before, time.Now()); err != nil {
		return nil, usageError("--before: %v", err)
	}
	return sel, nil
}

// chosen reports whether a selection leaves anything out.
func chosen(sel *controlpb.KeptSelection) bool {
	return len(sel.Paths)+len(sel.Why) > 0 || sel.Since != "" || sel.Before != ""
}

// momentText makes a time of the API of what a user typed: how long ago, or a
// date, or a time, in this machine's zone.
func momentText(text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	if ago, err := directory.ParseDuration(text); err == nil {
		return timeText(now.Add(-ago)), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return timeText(t), nil
		}
	}
	return "", fmt.Errorf("%q is no time; write for example 2h, 3d, 2026-11-21 or '2026-11-21 17:30'", text)
}

// folderFirst asks for GROUP/FOLDER and any number of paths.
func folderFirst(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return nil
	}
	return usageError("%s wants GROUP/FOLDER; usage: %s", c.CommandPath(), c.UseLine())
}

func preservedListCommand(o *options) *cobra.Command {
	f := &keptFlags{}
	q := &controlpb.PreservedListRequest{}
	c := &cobra.Command{
		Use:   "list GROUP/FOLDER [PATH...]",
		Short: "list what is kept: when, why, and whose update won",
		Long: strings.TrimSpace(`
Lists what this server keeps of a folder, the newest first. PATH is where it was,
or a directory above: relative to the folder's root, or a local path. A file that
"is gone" may be kept on another member: look where it was last seen.`),
		Example: "  dfs preserved list projects/docs\n  dfs preserved list projects/docs reports/2026 --since 3d --why deleted",
		Args:    folderFirst,
		RunE: does(func(c *cobra.Command, args []string) error {
			var err error
			if q.Selection, err = f.selection(args); err != nil {
				return err
			}
			r, err := askRunning(c.Context(), o, func(ctx context.Context, m *control.Client) (*controlpb.PreservedListReply, error) {
				return m.PreservedList(ctx, q)
			})
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), r)
			}
			printKept(c.OutOrStdout(), r)
			return nil
		}),
	}
	f.add(c)
	c.Flags().Int64Var(&q.Limit, "limit", defaultList, "objects listed")
	return c
}

func printKept(w io.Writer, r *controlpb.PreservedListReply) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if len(r.Objects) > 0 {
		fmt.Fprint(t, "KEPT\tWHY\tSIZE\tWON BY\tPATH\n")
	}
	for _, k := range r.Objects {
		path := readable(k.Path)
		switch {
		case k.Homeless:
			path += "  (nobody knows where it was)"
		case k.Type == "directory":
			path += "/"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", clockTime(k.KeptAt), k.Why, size(k.Size), orDash(k.WonBy), path)
	}
	must(t.Flush())
	switch left := r.Count - int64(len(r.Objects)); {
	case r.Count == 0:
		fmt.Fprintln(w, "Nothing is kept here that fits.")
	case left > 0:
		fmt.Fprintf(w, "and %s older ones; --limit shows more\n", thousands(left))
	}
	fmt.Fprintf(w, "Chosen: %s in %s. Conflict store: %s of %s; from initial sync: %s.\n",
		size(r.Bytes), objects(r.Count), size(r.ConflictBytes), size(r.ConflictQuota), size(r.PreexistingBytes))
}

func objects(n int64) string {
	if n == 1 {
		return "1 object"
	}
	return thousands(n) + " objects"
}

// readable is a name as a terminal may show it: quoted if it is no plain text.
func readable(name []byte) string {
	s := string(name)
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
}

func preservedRestoreCommand(o *options) *cobra.Command {
	f := &keptFlags{}
	q := &controlpb.PreservedRestoreRequest{}
	var to string
	c := &cobra.Command{
		Use:   "restore GROUP/FOLDER [PATH...]",
		Short: "bring kept files back, with owners, ACLs and times",
		Long: strings.TrimSpace(`
Brings back the latest kept version of each path that is chosen: to its place, or
to the same path beneath --to DIR. Directories that are gone are made. In the
folder the file is moved out of the conflict store, and replicates like any user's
change; a DIR outside of the folder gets a copy.

Nothing is overwritten: if the place is taken, as it is by the winner of a
conflict, --overwrite exchanges the two (what was there is kept in turn), --all
puts every kept version beside it under a name that says when it was kept. "."
chooses all that is kept.`),
		Example: strings.Join([]string{
			"  dfs preserved restore projects/docs reports/plan.odt",
			"  dfs preserved restore projects/docs reports --since 2h --why deleted",
			"  dfs preserved restore projects/docs plan.odt --all --to /root/recovered",
		}, "\n"),
		Args: folderFirst,
		RunE: does(func(c *cobra.Command, args []string) error {
			var err error
			if q.Selection, err = f.selection(args); err != nil {
				return err
			}
			if !chosen(q.Selection) {
				return usageError("say what is to be restored: a PATH (. for all), --since, --before or --why")
			}
			if to != "" {
				if to, err = userPath(to); err != nil {
					return err
				}
				q.To = []byte(to)
			}
			r, err := askRunning(c.Context(), o, func(ctx context.Context, m *control.Client) (*controlpb.PreservedRestoreReply, error) {
				return m.PreservedRestore(ctx, q)
			})
			if err != nil {
				return err
			}
			if o.json {
				err = printJSON(c.OutOrStdout(), r)
			} else {
				printRestored(c.OutOrStdout(), c.ErrOrStderr(), r)
			}
			if err != nil {
				return err
			}
			return restoreError(q, r)
		}),
	}
	f.add(c)
	c.Flags().StringVar(&to, "to", "", "restore beneath this directory")
	c.Flags().BoolVar(&q.All, "all", false, "every version, not the latest alone")
	c.Flags().BoolVar(&q.Overwrite, "overwrite", false, "exchange with what is in the place")
	return c
}

func printRestored(w, errs io.Writer, r *controlpb.PreservedRestoreReply) {
	for _, one := range r.Restored {
		line := readable(one.Path)
		if string(one.To) != string(one.Path) {
			line += " -> " + readable(one.To)
		}
		if one.Problem != "" {
			line += "  (" + one.Problem + ")"
		}
		fmt.Fprintln(w, line)
	}
	if more := r.RestoredCount - int64(len(r.Restored)); more > 0 {
		fmt.Fprintf(w, "and %s more\n", thousands(more))
	}
	for _, one := range r.Refused {
		fmt.Fprintf(errs, "not restored: %s: %s\n", readable(one.Path), one.Problem)
	}
	done := "Restored"
	if r.Copied {
		done = "Copied"
	}
	fmt.Fprintf(w, "%s: %s.\n", done, objects(r.RestoredCount))
}

// restoreError says that not all was restored.
func restoreError(q *controlpb.PreservedRestoreRequest, r *controlpb.PreservedRestoreReply) error {
	switch {
	case r.RefusedCount > 0 && q.Overwrite:
		return fmt.Errorf("%s not restored; what is kept stays so", objects(r.RefusedCount))
	case r.RefusedCount > 0:
		return control.Hint(fmt.Errorf("%s not restored; what is kept stays so", objects(r.RefusedCount)),
			"if the place is taken: --overwrite exchanges the two, --all puts it beside, --to DIR elsewhere")
	case r.RestoredCount == 0:
		return control.Hint(fmt.Errorf("nothing is kept here of %s that fits", q.Selection.Folder),
			fmt.Sprintf("`dfs preserved list %s` lists what is; it may be kept on another member", q.Selection.Folder))
	}
	return nil
}

func preservedPurgeCommand(o *options) *cobra.Command {
	f := &keptFlags{}
	q := &controlpb.PreservedPurgeRequest{}
	var all, yes bool
	c := &cobra.Command{
		Use:   "purge GROUP/FOLDER [PATH...]",
		Short: "remove kept files for good",
		Long: strings.TrimSpace(`
Removes what is kept on this server for good, promised or not: by path, by age
(--before), by reason, or --all of it. It says how much that is and asks; where
there is no terminal to ask on, --yes is wanted.`),
		Example: "  dfs preserved purge projects/docs --before 30d\n  dfs preserved purge projects/docs --why pre-existing --yes",
		Args:    folderFirst,
		RunE: does(func(c *cobra.Command, args []string) error {
			var err error
			if q.Selection, err = f.selection(args); err != nil {
				return err
			}
			if chosen(q.Selection) == all {
				return usageError("say what is to be purged: a PATH, --before, --since or --why; or --all without them")
			}
			return purge(c, o, q, yes)
		}),
	}
	f.add(c)
	c.Flags().BoolVar(&all, "all", false, "all that is kept of this folder")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// purge asks, unless it is told not to, and purges what was asked about.
func purge(c *cobra.Command, o *options, q *controlpb.PreservedPurgeRequest, yes bool) error {
	ask := func(ctx context.Context, m *control.Client) (*controlpb.PreservedPurgeReply, error) {
		return m.PreservedPurge(ctx, q)
	}
	if !yes {
		q.DryRun = true
		r, err := askRunning(c.Context(), o, ask)
		if err != nil {
			return err
		}
		in, ok := c.InOrStdin().(*os.File)
		switch {
		case r.Count == 0:
		case !ok || !term.IsTerminal(int(in.Fd())):
			return usageError("%s (%s) would be removed for good; say --yes, as there is no terminal to ask on", objects(r.Count), size(r.Bytes))
		default:
			fmt.Fprintf(c.ErrOrStderr(), "Remove %s (%s) for good? [y/N] ", objects(r.Count), size(r.Bytes))
			if answer, _ := bufio.NewReader(in).ReadString('\n'); !strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y") {
				return fmt.Errorf("nothing was purged")
			}
		}
		q.DryRun = false
		if q.Selection.Before == "" {
			q.Selection.Before = r.AsOf // what came since was not asked about
		}
	}
	r, err := askRunning(c.Context(), o, ask)
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(c.OutOrStdout(), r)
	}
	fmt.Fprintf(c.OutOrStdout(), "Purged: %s, %s.\n", objects(r.Count), size(r.Bytes))
	return nil
}
