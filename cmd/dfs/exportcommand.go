package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"
	"opendfs/internal/directory/ad"

	"github.com/spf13/cobra"
)

func exportDirectoryCommand(o *options) *cobra.Command {
	var from, url, base, user, password, ca string
	var canonical bool
	c := &cobra.Command{
		Use:   "export",
		Short: "print the domain as a domain file",
		Long: strings.TrimSpace(`
Prints the domain as this server knows it, ids, generation and comments included;
` + "`dfs directory import`" + ` makes it the domain again, wherever that lives then.

With --from ad it prints what an Active Directory says of DFS Replication, as Windows'
tools have made it, and changes nothing there.`),
		Example: "  dfs directory export > corp.yaml\n  dfs directory export --from ad --url ldaps://dc1.corp.example --base DC=corp,DC=example --user 'CORP\\reader' --password-file pw",
		Args:    none,
		RunE: does(func(c *cobra.Command, _ []string) error {
			var doc *directory.Document
			var err error
			switch from {
			case "":
				doc, _, err = present(c.Context(), o)
			case "ad":
				doc, err = existingGroups(c.Context(), o, &move{url: url, base: base, user: user, passwordFile: password, ca: ca})
			default:
				err = usageError("--from %q: ad is all that it can be", from)
			}
			if err != nil {
				return err
			}
			text := doc.Text()
			if canonical {
				text = directory.Marshal(doc.Domain)
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		}),
	}
	f := c.Flags()
	f.BoolVar(&canonical, "canonical", false, "in the canonical form: in order, defaults left out, without comments")
	f.StringVar(&from, "from", "", "ad: what Active Directory says")
	f.StringVar(&url, "url", "", "ldaps:// address of a domain controller")
	f.StringVar(&base, "base", "", "naming context: DC=corp,DC=example")
	f.StringVar(&user, "user", "", "account")
	f.StringVar(&password, "password-file", "", "file with its password")
	f.StringVar(&ca, "ca", "", "file with the certificate of whose servers are believed")
	return c
}

// existingGroups reads the groups of an Active Directory.
func existingGroups(ctx context.Context, o *options, v *move) (*directory.Document, error) {
	if v.url == "" || v.base == "" {
		return nil, usageError("--from ad takes --url and --base")
	}
	state, err := filepath.Abs(o.state)
	if err != nil {
		return nil, err
	}
	options, err := adOptions(state, &directory.Home{URL: v.url, Base: v.base})
	if v.user != "" {
		password, readErr := readGiven(v.passwordFile)
		if readErr != nil {
			return nil, readErr
		}
		options = ad.Options{URL: v.url, Base: v.base, User: v.user, Password: oneLine(password)}
		if options.CA, err = readGiven(v.ca); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, control.Hint(err, "or give them here: --user 'CORP\\reader' --password-file FILE")
	}
	return ad.Existing(ctx, options)
}

func importDirectoryCommand(o *options) *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "make an exported domain the domain",
		Long: strings.TrimSpace(`
Makes what ` + "`dfs directory export`" + ` printed the domain, as a whole, wherever the domain
lives now. Unlike ` + "`dfs apply`" + ` it does not ask from which generation the file is: what
was changed since then goes. Ids stay what they are, so what is the same object goes on
replicating as it was. "-" reads standard input.`),
		Example: "  dfs directory import corp.yaml --dry-run",
		Args:    one("FILE"),
		RunE: does(func(c *cobra.Command, args []string) error {
			text, _, err := readDocument(c.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			given, err := directory.Read(text, args[0])
			if err != nil {
				return control.Hint(err, "nothing was changed")
			}
			return importDomain(c, o, given, dryRun)
		}),
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, change nothing")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
	return c
}

// importDomain makes a document the domain, in the generation and the place that
// the domain has.
func importDomain(c *cobra.Command, o *options, given *directory.Document, dryRun bool) error {
	for try := 1; ; try++ {
		doc, _, err := present(c.Context(), o)
		if err != nil {
			return err
		}
		d, now := given.Domain.Clone(), doc.Domain
		if d.ID.IsZero() {
			d.ID = now.ID
		}
		d.Generation, d.Term, d.Home = now.Generation, now.Term, now.Home
		next, err := given.With(d)
		if err != nil {
			return &control.Problem{Err: plainProblems(err), Hint: "nothing was changed", Usage: true}
		}
		r, err := askMember(c.Context(), o, func(ctx context.Context, m memberAPI) (*controlpb.ApplyReply, error) {
			return m.Apply(ctx, &controlpb.ApplyRequest{Document: next.Text(), Filename: []byte("domain"), DryRun: dryRun})
		})
		if try < editTries && isOvertaken(err) {
			continue
		}
		if err != nil {
			return err
		}
		return printEdit(c, o, dryRun, r)
	}
}

// readGiven reads a file that a flag names; nil if it names none.
func readGiven(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read what a flag names: %w", err)
	}
	return data, nil
}
