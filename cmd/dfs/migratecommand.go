package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"opendfs/internal/control"
	"opendfs/internal/directory"

	"github.com/spf13/cobra"
)

func migrateCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use: "migrate", Short: "bring groups over from Windows' DFS Replication", Args: cobra.NoArgs,
		Example: "  dfs migrate dfsradmin memberships.json connections.json -o new.yaml",
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(migrateDfsradmin(o))
	return c
}

func migrateDfsradmin(o *options) *cobra.Command {
	var domain, group, out string
	var paths []string
	c := &cobra.Command{
		Use:   "dfsradmin FILE…",
		Short: "make a domain file of what dfsradmin or Get-Dfsr… printed",
		Long: strings.TrimSpace(`
Reads what Windows' tools printed about replication groups and prints a domain file
to look at and to apply: groups, folders with their filters, memberships with path,
primary, read-only, quotas, connections as a topology, schedules. Each FILE is the
output, as it is, of one or several of

  Get-DfsrMembership | ConvertTo-Json               Get-DfsReplicatedFolder
  Get-DfsrConnection | ConvertTo-Json               Get-DfsrGroupSchedule
  dfsradmin membership list /rgname:X /attr:all     dfsradmin rf|mem|conn list …

as JSON, CSV (/csv, Export-Csv), list or table, in UTF-8 or UTF-16. "-" is standard
input. Tables of dfsradmin that do not name their group want --group.

The groups are added to the present domain, whose servers of the same name they
then use; with --domain to an empty one. D:\Data\docs becomes /srv/d/Data/docs,
or what --path says. Comments at the top tell what was taken for what.`),
		Example: "  dfs migrate dfsradmin memberships.json connections.json -o new.yaml\n  dfs migrate dfsradmin conn.txt --group projects --path 'D:\\Data=/srv/data' --domain corp",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError("%s wants at least one FILE", c.CommandPath())
			}
			return nil
		},
		RunE: does(func(c *cobra.Command, args []string) error {
			mapping, err := parsePathMaps(paths)
			if err != nil {
				return err
			}
			doc, err := migrationBase(c, o, domain)
			if err != nil {
				return err
			}
			m := newMigration(doc.Domain.Clone(), group, mapping)
			if err := m.read(c.InOrStdin(), args); err != nil {
				return err
			}
			m.finish()
			next, err := doc.With(m.d)
			if err != nil {
				return control.Hint(plainProblems(err), "nothing was written; correct the input, or say by --path where the folders shall lie")
			}
			for _, w := range next.Warnings {
				fmt.Fprintf(c.ErrOrStderr(), "warning: %s; %s\n", w.What, w.Remedy)
			}
			return writeMigration(c.OutOrStdout(), out, m.notes, next)
		}),
	}
	c.Flags().StringVar(&domain, "domain", "", "begin with an empty domain of this name")
	c.Flags().StringVar(&group, "group", "", "the group of objects that name none")
	c.Flags().StringArrayVar(&paths, "path", nil, `what stands for a path: 'D:\Data=/srv/data'; may be repeated`)
	c.Flags().StringVarP(&out, "output", "o", "", "write to a file that is not there yet")
	return c
}

// migrationBase is the domain that the groups are added to.
func migrationBase(c *cobra.Command, o *options, domain string) (*directory.Document, error) {
	if domain == "" {
		doc, _, err := present(c.Context(), o)
		if err != nil {
			return nil, control.Hint(err, "name a domain to begin with by --domain, where there is none yet")
		}
		return doc, nil
	}
	doc, err := directory.NewDocument(&directory.Domain{Name: domain, Term: 1})
	if err != nil {
		return nil, &failure{plainProblems(err), exitUsage}
	}
	return doc, nil
}

func parsePathMaps(list []string) ([][2]string, error) {
	var out [][2]string
	for _, s := range list {
		from, to, ok := strings.Cut(s, "=")
		if !ok || from == "" || !strings.HasPrefix(to, "/") {
			return nil, usageError(`--path %q: write 'D:\Data=/srv/data'`, s)
		}
		out = append(out, [2]string{strings.TrimSuffix(from, `\`), to})
	}
	return out, nil
}

// read takes the objects of all files: memberships before connections does not
// matter.
func (m *migration) read(in io.Reader, files []string) error {
	for _, file := range files {
		b, err := readMigrationFile(in, file)
		if err != nil {
			return err
		}
		rows, err := readMigration(b)
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		for i, r := range rows {
			if err := m.add(r); err != nil {
				return fmt.Errorf("read %s: object %d: %w", file, i+1, err)
			}
		}
	}
	return nil
}

func readMigrationFile(in io.Reader, file string) ([]byte, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, directory.MaxSize+1))
	if err == nil && len(b) > directory.MaxSize {
		err = fmt.Errorf("read %s: more than %d bytes", file, directory.MaxSize)
	}
	return b, err
}

func writeMigration(w io.Writer, out string, notes []string, doc *directory.Document) error {
	var b strings.Builder
	b.WriteString("# Made by `dfs migrate dfsradmin`. Look through it, then: dfs apply -f FILE --dry-run\n")
	for _, n := range notes {
		b.WriteString("# " + strings.Map(func(c rune) rune {
			if !unicode.IsGraphic(c) { // a comment is one line
				return '?'
			}
			return c
		}, n) + "\n")
	}
	b.Write(doc.Text())
	if out == "" {
		_, err := io.WriteString(w, b.String())
		return err
	}
	if err := writeSecret(out, []byte(b.String())); err != nil {
		return err
	}
	fmt.Fprintf(w, "Written to %s. Look through it, then: dfs apply -f %s --dry-run\n", out, out)
	return nil
}
