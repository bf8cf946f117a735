package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"

	"github.com/spf13/cobra"
)

// editTries is how often an edit is made anew when somebody else was faster.
const editTries = 8

// edit changes the domain by a function: it is read from the member, changed in
// its text, and applied if nobody changed it meanwhile.
func edit(c *cobra.Command, o *options, dryRun bool, change func(d *directory.Domain) error) error {
	for try := 1; ; try++ {
		r, before, err := editOnce(c.Context(), o, dryRun, change)
		if try < editTries && isOvertaken(err) {
			continue
		}
		if err != nil {
			return err
		}
		r.Warnings = slices.DeleteFunc(r.Warnings, func(w string) bool { return warned(before, w) })
		return printEdit(c, o, dryRun, r)
	}
}

// isOvertaken reports whether an edit was refused because the domain had moved on.
func isOvertaken(err error) bool {
	return err != nil && strings.Contains(err.Error(), "the domain is at generation")
}

// warned reports whether a warning held before the edit: it is no news then.
func warned(before directory.Problems, warning string) bool {
	return slices.ContainsFunc(before, func(p directory.Problem) bool { return strings.HasSuffix(warning, ": "+p.What+"; "+p.Remedy) })
}

func editOnce(ctx context.Context, o *options, dryRun bool, change func(d *directory.Domain) error) (*controlpb.ApplyReply, directory.Problems, error) {
	doc, _, err := present(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	d := doc.Domain.Clone()
	if err := change(d); err != nil {
		return nil, nil, err
	}
	next, err := doc.With(d)
	if err != nil {
		return nil, nil, &control.Problem{Err: plainProblems(err), Hint: "nothing was changed", Usage: true}
	}
	r, err := askMember(ctx, o, func(ctx context.Context, m memberAPI) (*controlpb.ApplyReply, error) {
		return m.Apply(ctx, &controlpb.ApplyRequest{Document: next.Text(), Filename: []byte("domain"), DryRun: dryRun})
	})
	return r, doc.Warnings, err
}

func printEdit(c *cobra.Command, o *options, dryRun bool, r *controlpb.ApplyReply) error {
	if o.json {
		return printJSON(c.OutOrStdout(), r)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(c.ErrOrStderr(), "warning: %s\n", w)
	}
	for _, change := range r.Changes {
		fmt.Fprintln(c.OutOrStdout(), change)
	}
	switch {
	case len(r.Changes) == 0:
		fmt.Fprintln(c.OutOrStdout(), "Nothing changes.")
	case dryRun:
		fmt.Fprintln(c.OutOrStdout(), "Nothing was changed (--dry-run).")
	}
	return nil
}

// editor is one command that edits the domain.
type editor struct {
	use, short, long, example string
	args                      cobra.PositionalArgs
	complete                  func(d *directory.Domain, args []string) []string
	flags                     func(c *cobra.Command)
	// change is called with the command, to see which flags were given.
	change func(c *cobra.Command, d *directory.Domain, args []string) error
}

func (e editor) command(o *options) *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use: e.use, Short: e.short, Long: strings.TrimSpace(e.long), Example: e.example, Args: e.args,
		RunE: does(func(c *cobra.Command, args []string) error {
			return edit(c, o, dryRun, func(d *directory.Domain) error { return e.change(c, d, args) })
		}),
	}
	switch verb, _, _ := strings.Cut(e.use, " "); verb {
	case "create":
		c.Aliases = []string{"add"}
	case "add":
		c.Aliases = []string{"create"}
	}
	if e.complete != nil {
		c.ValidArgsFunction = completing(o, e.complete)
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, change nothing")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
	if e.flags != nil {
		e.flags(c)
	}
	return c
}

// viewer is one command that shows objects of the domain: rows for people, values
// for programs.
type viewer struct {
	use, short, example string
	args                cobra.PositionalArgs
	complete            func(d *directory.Domain, args []string) []string
	show                func(d *directory.Domain, args []string) (view, error)
}

// view is what a viewer shows.
type view struct {
	header []string
	rows   [][]string
	below  string // text behind the rows
	value  any    // as --json shows it
}

func (v viewer) command(o *options) *cobra.Command {
	c := &cobra.Command{
		Use: v.use, Short: v.short, Example: v.example, Args: v.args,
		RunE: does(func(c *cobra.Command, args []string) error {
			doc, _, err := present(c.Context(), o)
			if err != nil {
				return err
			}
			seen, err := v.show(doc.Domain, args)
			if err != nil {
				return err
			}
			if o.json {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				e.SetEscapeHTML(false)
				return e.Encode(seen.value)
			}
			seen.print(c.OutOrStdout())
			return nil
		}),
	}
	if v.complete != nil {
		c.ValidArgsFunction = completing(o, v.complete)
	}
	c.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
	return c
}

func (v view) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if len(v.header) > 0 && len(v.rows) > 0 {
		fmt.Fprintln(t, strings.Join(v.header, "\t"))
	}
	for _, r := range v.rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	must(t.Flush())
	fmt.Fprint(w, v.below)
	if len(v.rows) == 0 && v.below == "" {
		fmt.Fprintln(w, "None.")
	}
}

// noun is a command whose verbs are subcommands.
func noun(o *options, name, short string, verbs ...interface {
	command(*options) *cobra.Command
}) *cobra.Command {
	c := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, v := range verbs {
		c.AddCommand(v.command(o))
	}
	return c
}

// domainCommands are the commands on objects of the domain.
func domainCommands(o *options) []*cobra.Command {
	return []*cobra.Command{
		serverCommand(o), groupCommand(o), folderCommand(o), memberCommand(o), membershipCommand(o), connectionCommand(o), scheduleCommand(o),
		grantCommand(o), ungrantCommand(o), grantsCommand(o), adminCommand(o), directoryCommand(o), caCommand(o),
	}
}

// wants asks for a number of arguments, told by what they are.
func wants(least, most int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		return usageError("%s wants %s, not %d arguments; usage: %s%s", c.CommandPath(), what, len(args), c.UseLine(), switched(c, args))
	}
}

// switched tells how a switch takes its value, where one seems to be among the
// arguments; else it is empty.
func switched(c *cobra.Command, args []string) string {
	if !slices.ContainsFunc(args, func(s string) bool { return slices.Contains([]string{"on", "off", "yes", "no", "true", "false"}, s) }) {
		return ""
	}
	for _, name := range []string{"enabled", "read-only", "primary", "rdc", "cross-file"} {
		if f := c.Flags().Lookup(name); f != nil && f.Changed && f.Value.Type() == "bool" {
			return fmt.Sprintf("; a switch has its value behind '=': --%s=false", name)
		}
	}
	return ""
}

// first makes a completion of the first argument alone.
func first(names func(*directory.Domain) []string) func(*directory.Domain, []string) []string {
	return func(d *directory.Domain, args []string) []string {
		if len(args) > 0 {
			return nil
		}
		return names(d)
	}
}

// unknown says that there is no such object, with those there are.
func unknown(kind, name string, have []string) error {
	hint := "there is none yet; `dfs " + kind + " --help` tells how to make one"
	if len(have) > 0 {
		hint = "there are: " + strings.Join(have[:min(len(have), 20)], ", ")
	}
	return &control.Problem{Err: fmt.Errorf("%s %q is not in the domain", kind, name), Hint: hint, Usage: true}
}

func exists(kind, name string) error {
	return &control.Problem{Err: fmt.Errorf("%s %q is in the domain already", kind, name), Hint: "`dfs " + kind + " set` changes it", Usage: true}
}

func findServer(d *directory.Domain, name string) (*directory.Server, error) {
	if s := d.ServerByName(name); s != nil {
		return s, nil
	}
	return nil, unknown("server", name, serverNames(d))
}

func findGroup(d *directory.Domain, name string) (*directory.Group, error) {
	if g := d.GroupByName(name); g != nil {
		return g, nil
	}
	return nil, unknown("group", name, groupNames(d))
}

// findFolder finds GROUP/FOLDER.
func findFolder(d *directory.Domain, name string) (*directory.Group, *directory.Folder, error) {
	group, folder, ok := strings.Cut(name, "/")
	if !ok {
		return nil, nil, usageError("%q is not of the form GROUP/FOLDER", name)
	}
	g, err := findGroup(d, group)
	if err != nil {
		return nil, nil, err
	}
	if f := g.FolderByName(folder); f != nil {
		return g, f, nil
	}
	return nil, nil, unknown("folder", name, folderNames(d))
}

// splitMembership takes GROUP/FOLDER@SERVER apart.
func splitMembership(name string) (folder, server string, err error) {
	folder, server, ok := strings.Cut(name, "@")
	if !ok || server == "" || !strings.Contains(folder, "/") {
		return "", "", usageError("%q is not of the form GROUP/FOLDER@SERVER", name)
	}
	return folder, server, nil
}

// findMembership finds GROUP/FOLDER@SERVER.
func findMembership(d *directory.Domain, name string) (*directory.Folder, *directory.Membership, error) {
	folder, server, err := splitMembership(name)
	if err != nil {
		return nil, nil, err
	}
	_, f, err := findFolder(d, folder)
	if err != nil {
		return nil, nil, err
	}
	if m := f.Member(server); m != nil {
		return f, m, nil
	}
	return nil, nil, unknown("membership", name, membershipNames(d))
}

// splitConnection takes FROM->TO apart; both have to be servers.
func splitConnection(d *directory.Domain, name string) (from, to string, err error) {
	from, to, ok := strings.Cut(name, "->")
	if !ok {
		return "", "", usageError("%q is not of the form FROM->TO", name)
	}
	for _, end := range []string{from, to} {
		if _, err := findServer(d, end); err != nil {
			return "", "", err
		}
	}
	return from, to, nil
}

// renameServer gives a server another name everywhere.
func renameServer(d *directory.Domain, s *directory.Server, name string) error {
	if name == s.Name {
		return nil
	}
	if d.ServerByName(name) != nil {
		return exists("server", name)
	}
	now := func(n *string) {
		if *n == s.Name {
			*n = name
		}
	}
	eachReference(d, now)
	d.Home.Rename(s.Name, name)
	s.Name = name
	return nil
}

// eachReference visits every place where a server is named.
func eachReference(d *directory.Domain, visit func(name *string)) {
	for i := range d.Grants {
		if d.Grants[i].To.Kind == directory.PrincipalServer {
			visit(&d.Grants[i].To.Name)
		}
	}
	for _, g := range d.Groups {
		for i := range g.Topology.Hubs {
			visit(&g.Topology.Hubs[i])
		}
		for i := range g.Topology.Links {
			visit(&g.Topology.Links[i].From)
			visit(&g.Topology.Links[i].To)
		}
		for i := range g.Exceptions {
			visit(&g.Exceptions[i].From)
			visit(&g.Exceptions[i].To)
		}
		for i := range g.Transfers {
			visit(&g.Transfers[i].From)
			visit(&g.Transfers[i].To)
		}
		for _, f := range g.Folders {
			for _, m := range f.Members {
				visit(&m.Server)
			}
		}
	}
}

// leaveGroup takes a server out of a group's topology and schedules.
func leaveGroup(g *directory.Group, server string) error {
	t := &g.Topology
	t.Hubs = slices.DeleteFunc(t.Hubs, func(h string) bool { return h == server })
	if t.Kind == directory.HubAndSpoke && len(t.Hubs) == 0 {
		return control.Hint(fmt.Errorf("server %s is the only hub of group %s", server, g.Name), "name another first: dfs group set "+g.Name+" --hub SERVER")
	}
	t.Links = slices.DeleteFunc(t.Links, func(l directory.Link) bool { return l.From == server || l.To == server })
	g.Exceptions = slices.DeleteFunc(g.Exceptions, func(e directory.Exception) bool { return e.From == server || e.To == server })
	g.Transfers = slices.DeleteFunc(g.Transfers, func(e directory.TransferException) bool { return e.From == server || e.To == server })
	return nil
}

var errNoChange = errors.New("no change was named")

// named refuses a set without flags.
func named(c *cobra.Command) error {
	given := c.Flags().NFlag()
	for _, other := range []string{"dry-run", "json", "state", "socket", "server"} {
		if c.Flags().Changed(other) {
			given--
		}
	}
	if given == 0 {
		return usageError("%s: %v; `%s --help` lists what can be set", c.CommandPath(), errNoChange, c.CommandPath())
	}
	return nil
}
