// Command dfs is OpenDFS: one binary that is a member of a DFS domain
// (`dfs serve`) and the commands that set one up and ask it. Every command but
// init, join, serve and demo asks the running member over its control socket;
// `--state DIR` names the member, /var/lib/dfs if it is not given.
//
// What a command has to say goes to standard output, errors and logs to
// standard error. Exit status: 0 done, 1 failed, 2 wrong usage, 3 not in sync
// yet. An error is one line, and a second one that begins with "hint:" where
// there is something to do about it.
//
// One file holds one command. newMember in serve.go constructs the member in reading order;
// member.go and the files that it names are its parts.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	_ "time/tzdata" // schedules in local time, wherever the system has no zones

	"opendfs/internal/control"

	"github.com/spf13/cobra"
)

// The exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitNotYet = 3
)

// failure is an error of a command that ran; any other error of cobra's is a
// wrong usage.
type failure struct {
	err  error
	exit int
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usageError says that the command was given wrong words.
func usageError(format string, args ...any) error {
	return &failure{fmt.Errorf(format, args...), exitUsage}
}

func main() {
	cobra.EnableCommandSorting = false // help lists them in the order in which they are used
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit status.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	c, err := root.ExecuteContextC(ctx)
	return report(errs, c.CommandPath(), err)
}

// report prints an error and its hint, and returns the exit status.
func report(errs io.Writer, command string, err error) int {
	if err == nil {
		return exitDone
	}
	code := exitUsage
	var f *failure
	if errors.As(err, &f) {
		code = f.exit
	}
	hint := hintOf(err)
	var p *control.Problem
	if errors.As(err, &p) {
		if p.Usage && code == exitFailed {
			code = exitUsage
		}
	}
	if f == nil && hint == "" {
		hint = fmt.Sprintf("`%s --help` tells what it takes", command)
	}
	text := err.Error()
	if n, ok := errors.AsType[*strconv.NumError](err); ok { // of a flag, in Go's words
		want := "write a whole number"
		if n.Func == "ParseBool" {
			want = "write true or false"
		}
		text = strings.Replace(text, n.Error(), want, 1)
	}
	fmt.Fprintf(errs, "dfs: %s\n", text)
	if hint != "" {
		fmt.Fprintf(errs, "hint: %s\n", hint)
	}
	return code
}

// hintOf finds what to do about an error.
func hintOf(err error) string {
	var p *control.Problem
	switch {
	case errors.As(err, &p):
		return p.Hint
	case errors.Is(err, control.ErrNotRunning):
		return "start it with `dfs serve` (or `systemctl start dfs`), or name another member's state directory with --state"
	}
	return ""
}

// options are what every command may be given.
type options struct {
	state  string
	socket string // control socket to ask, or to serve beside the state directory's
	server string // member to ask by its port: a server's name or HOST[:PORT]
	json   bool
}

const defaultState = "/var/lib/dfs"

func rootCommand() *cobra.Command {
	o := &options{}
	c := &cobra.Command{
		Use:   "dfs",
		Short: "DFS Replication for Linux file servers",
		Long: strings.TrimSpace(`
OpenDFS keeps folders on several file servers the same (DFS Replication).

First server:   dfs init --domain corp --server hub --address hub.example:7440
                dfs serve                        (or: systemctl enable --now dfs)
Another one:    dfs invite branch                on the first server; prints a token
                dfs join TOKEN --address branch.example:7440
                dfs serve
What replicates is in STATE/domain.yaml of the first server: edit it, then
                dfs apply -f /var/lib/dfs/domain.yaml
See it:         dfs status

To look at it without setting anything up: dfs demo`),
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.CompletionOptions.HiddenDefaultCmd = true
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		// What the first word is decides which flags there are.
		if c.HasSubCommands() && c.Flags().NArg() > 0 {
			return fmt.Errorf("unknown command %q for %q", c.Flags().Arg(0), c.CommandPath())
		}
		return err
	})
	c.SetVersionTemplate("dfs {{.Version}}\n")
	c.PersistentFlags().StringVar(&o.state, "state", defaultState, "state directory of the member")
	c.PersistentFlags().StringVar(&o.socket, "socket", "", "control socket for every user (default "+runSocket+")")
	c.PersistentFlags().StringVar(&o.server, "server", "", "ask this member by its port: a server's name, or HOST[:PORT]")
	c.AddGroup(&cobra.Group{ID: "setup", Title: "Set up:"}, &cobra.Group{ID: "look", Title: "Look:"})
	for _, add := range []*cobra.Command{initCommand(o), serveCommand(o), inviteCommand(o), joinCommand(o), applyCommand(o), migrateCommand(o), demoCommand(o)} {
		add.GroupID = "setup"
		c.AddCommand(add)
	}
	for _, add := range []*cobra.Command{statusCommand(o), backlogCommand(o), queueCommand(o), recordCommand(o), explainCommand(o), hashCommand(o)} {
		add.GroupID = "look"
		add.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
		c.AddCommand(add)
	}
	events := eventsCommand(o)
	events.GroupID = "look"
	events.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
	c.AddCommand(events)
	c.AddGroup(&cobra.Group{ID: "domain", Title: "The domain:"})
	for _, add := range domainCommands(o) {
		add.GroupID = "domain"
		c.AddCommand(add)
	}
	c.AddGroup(&cobra.Group{ID: "steer", Title: "Steer:"})
	for _, add := range []*cobra.Command{pauseCommand(o), resumeCommand(o), syncNowCommand(o)} {
		add.GroupID = "steer"
		add.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
		c.AddCommand(add)
	}
	c.AddGroup(&cobra.Group{ID: "mend", Title: "Mend:"})
	for _, mend := range []*cobra.Command{preservedCommand(o), heldCommand(o)} {
		mend.GroupID = "mend"
		c.AddCommand(mend)
	}
	return c
}

// does makes a command's function, whose errors are failures and not wrong
// usage.
func does(f func(c *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		err := f(c, args)
		var known *failure
		if err == nil || errors.As(err, &known) {
			return err
		}
		return &failure{err, exitFailed}
	}
}

// one asks for one argument, by what it is.
func one(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return usageError("%s wants %s and nothing else, not %d arguments; usage: %s%s", c.CommandPath(), what, len(args), c.UseLine(), switched(c, args))
	}
}

// none asks for no argument, of a command that has no commands of its own.
func none(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError("%s takes no argument, and was given %q; usage: %s", c.CommandPath(), args[0], c.UseLine())
}

// programVersion is the module's version with the commit that it was built from.
func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := strings.Trim(info.Main.Version, "()")
	if v == "" {
		v = "devel"
	}
	return v
}
