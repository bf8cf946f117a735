package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/protobuf/proto"
)

func statusCommand(o *options) *cobra.Command {
	var wait bool
	var timeout time.Duration
	var folder string
	c := &cobra.Command{
		Use:   "status",
		Short: "show folders, backlog, partners and findings",
		Long: strings.TrimSpace(`
Shows what this member replicates: each folder's state, how changes are noticed,
files, what is on its way in and out, rates, the last change; its partners; and
every finding that holds now, with what to do.

With --wait it returns once every folder is Normal and every change that was
closed on this server, or on one that it pulls from, before the command began is
on this server and on every partner that pulls from it; exit status 3 if
--timeout passed first. A partner that cannot be reached is waited for.`),
		Example: "  dfs status --wait --timeout 10m",
		Args:    none,
		RunE: does(func(c *cobra.Command, _ []string) error {
			if !wait && (timeout != 0 || folder != "") {
				return usageError("--timeout and --folder belong to --wait")
			}
			if wait {
				if err := waitForSync(c, o, folder, timeout); err != nil {
					return err
				}
			}
			s, err := askRunning(c.Context(), o, func(ctx context.Context, m *control.Client) (*controlpb.StatusReply, error) { return m.Status(ctx) })
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), s)
			}
			printStatus(c.OutOrStdout(), s, time.Now())
			return nil
		}),
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until all is in sync")
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long --wait may take, as 90s or 10m; without it, for ever")
	c.Flags().StringVar(&folder, "folder", "", "wait for one folder, GROUP/FOLDER")
	return c
}

// printJSON prints a reply for programs.
func printJSON(w io.Writer, m proto.Message) error {
	b, err := control.JSON(m)
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

// waitForSync waits; its error has exit status 3 if the time was too short.
func waitForSync(c *cobra.Command, o *options, folder string, timeout time.Duration) error {
	ctx := c.Context()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	line := newLine(c.ErrOrStderr())
	var last *controlpb.WaitReply
	_, err := askRunning(ctx, o, func(ctx context.Context, m *control.Client) (struct{}, error) {
		return struct{}{}, m.Wait(ctx, &controlpb.WaitRequest{Folder: folder}, func(r *controlpb.WaitReply) {
			last = r
			line.show(waitLine(r))
		})
	})
	line.clear()
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	text := fmt.Sprintf("not in sync after %v", timeout)
	for _, w := range last.GetWaiting() {
		text += "\n     " + waitText(w)
	}
	return &failure{errors.New(text), exitNotYet}
}

// waitLine is what is waited for, in a line.
func waitLine(r *controlpb.WaitReply) string {
	var parts []string
	for _, w := range r.Waiting {
		parts = append(parts, waitText(w))
	}
	return strings.Join(parts, "; ")
}

// waitText is what one folder waits for.
func waitText(w *controlpb.Waiting) string {
	text := w.Folder + ": " + w.Reason
	if w.State != "" && w.State != "normal" {
		text += fmt.Sprintf(", %s files", thousands(w.Files))
		if w.In != nil && w.In.Updates > 0 {
			text += fmt.Sprintf(", %s to come", thousands(w.In.Updates))
		}
	}
	if w.EtaSeconds >= 1 {
		text += fmt.Sprintf(", about %s left", seconds(w.EtaSeconds))
	}
	return text
}

// line is one line on a terminal that is written again and again; nothing where
// it is no terminal.
type line struct {
	w     io.Writer
	width int // 0: no terminal
}

func newLine(w io.Writer) *line {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &line{}
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width < 20 {
		width = 80
	}
	return &line{w, width}
}

func (l *line) show(text string) {
	if l.width == 0 {
		return
	}
	if r := []rune(text); len(r) >= l.width {
		text = string(r[:l.width-2]) + "…"
	}
	fmt.Fprintf(l.w, "\r\x1b[K%s", text)
}

func (l *line) clear() {
	if l.width > 0 {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}

// printStatus prints the status for a person.
func printStatus(w io.Writer, s *controlpb.StatusReply, now time.Time) {
	role := "copy from " + s.MasterServer
	if s.Master {
		role = "master"
	}
	fmt.Fprintf(w, "Server %s in domain %s (generation %d, %s), up %s\n", s.Server, s.Domain, s.Generation, role, since(s.Started, now))
	if len(s.Folders) == 0 {
		fmt.Fprintf(w, "\nNo folder is replicated here yet. Say what is to be in the domain file on %s, then: dfs apply -f FILE\n", s.MasterServer)
	} else {
		printFolders(w, s.Folders, now)
		printLinks(w, s.Folders, now)
	}
	if len(s.Orders) > 0 {
		fmt.Fprintln(w)
		printOrders(w, s.Orders)
	}
	printFindings(w, s.Findings, now)
	for _, o := range s.Overflow {
		fmt.Fprintf(w, "  … %s: raised %s times more for other objects\n", o.Code, thousands(int64(o.Refused)))
	}
}

func printFolders(w io.Writer, list []*controlpb.Folder, now time.Time) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nFOLDER\tSTATE\tJOURNAL\tFILES\tSIZE\tIN\tOUT\tRATE\tLAST CHANGE")
	for _, f := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, stateText(f), orDash(f.Journal), thousands(f.Files), size(f.Bytes),
			backlogText(f.In, f.State), backlogText(f.Out, f.State), rateText(f), ago(f.LastChange, now))
	}
	must(t.Flush())
	for _, f := range list {
		for _, note := range folderNotes(f) {
			fmt.Fprintf(w, "  %s: %s\n", f.Name, note)
		}
	}
}

// stateText is a folder's state with a capital, as in Normal.
func stateText(f *controlpb.Folder) string {
	s := f.State
	if s == "" {
		return "?"
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if f.ReadOnly {
		s += " (read-only)"
	}
	return s
}

// folderNotes are what does not fit into a folder's row.
func folderNotes(f *controlpb.Folder) []string {
	var notes []string
	if f.Reason != "" {
		notes = append(notes, f.State+": "+f.Reason)
	}
	if f.State == "initial sync" && !knowsUpstream(f) {
		notes = append(notes, "waits for a partner that is Normal itself")
	}
	if f.Walking {
		notes = append(notes, "the tree is compared with the database")
	}
	if f.Uncaptured > 0 {
		notes = append(notes, fmt.Sprintf("%s names to look at", thousands(f.Uncaptured)))
	}
	if f.Open > 0 {
		notes = append(notes, fmt.Sprintf("%s files are open for writing and captured when they are closed or at rest", thousands(f.Open)))
	}
	if f.InFlight > 0 {
		notes = append(notes, fmt.Sprintf("%s updates being installed", thousands(f.InFlight)))
	}
	if f.EtaSeconds >= 1 {
		notes = append(notes, "about "+seconds(f.EtaSeconds)+" left")
	}
	if f.LastError != "" {
		notes = append(notes, "last error: "+f.LastError)
	}
	return notes
}

// knowsUpstream reports whether a partner has told what it has.
func knowsUpstream(f *controlpb.Folder) bool {
	return slices.ContainsFunc(f.Links, func(l *controlpb.Link) bool { return l.Direction == "in" && l.Known })
}

func printLinks(w io.Writer, list []*controlpb.Folder, now time.Time) {
	n := 0
	for _, f := range list {
		n += len(f.Links)
	}
	if n == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nPARTNER\tFOLDER\tDIRECTION\tCONNECTED\tBACKLOG\tHEARD")
	for _, f := range list {
		for _, l := range f.Links {
			arrow := "from it"
			if l.Direction == "out" {
				arrow = "to it"
			}
			connected := "no"
			if l.Connected {
				connected = "yes"
			}
			if l.Window != "" {
				connected += ", " + windowText(l.Window, l.WindowUntil, now)
			}
			backlog := "not known"
			if l.Known {
				backlog = backlogText(l.Backlog, "")
			}
			if l.Held > 0 {
				backlog += fmt.Sprintf(", %d held", l.Held)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", l.Server, f.Name, arrow, connected, backlog, ago(l.Heard, now))
		}
	}
	must(t.Flush())
}

// windowText is what a schedule or an order allows: "closed until Mon 18:00".
func windowText(window, until string, now time.Time) string {
	t, ok := parseTime(until)
	if !ok {
		return window
	}
	t = t.Local()
	switch {
	case t.YearDay() == now.YearDay() && t.Year() == now.Year():
		return window + " until " + t.Format("15:04:05")
	case t.Sub(now) < 6*24*time.Hour:
		return window + " until " + t.Format("Mon 15:04")
	}
	return window + " until " + t.Format("2006-01-02 15:04")
}

// printOrders lists the standing orders.
func printOrders(w io.Writer, list []*controlpb.StandingOrder) {
	fmt.Fprintln(w, "ORDERS")
	for _, o := range list {
		until := "until `dfs resume " + orAll(o.Object) + "`"
		if o.Until != "" {
			until = "until " + clockTime(o.Until)
		}
		fmt.Fprintf(w, "%-8s  %s, %s\n", o.Verb, orAll(o.Object), until)
	}
}

func printFindings(w io.Writer, list []*controlpb.Finding, now time.Time) {
	if len(list) == 0 {
		fmt.Fprintln(w, "\nNo findings.")
		return
	}
	fmt.Fprintln(w, "\nFINDINGS")
	for _, f := range list {
		object := f.Object
		if object == "" {
			object = "this member"
		}
		fmt.Fprintf(w, "%-7s  %s  %s, for %s\n", f.Severity, f.Code, object, since(f.Since, now))
		text := f.Text
		if f.Detail != "" {
			text += " (" + f.Detail + ")"
		}
		fmt.Fprintf(w, "         %s\n         -> %s\n", text, f.Remedy)
	}
}
