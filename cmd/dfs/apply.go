package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"

	"github.com/spf13/cobra"
)

func applyCommand(o *options) *cobra.Command {
	var file string
	var dryRun bool
	c := &cobra.Command{
		Use:   "apply -f FILE [--dry-run]",
		Short: "make a domain file the domain",
		Long: strings.TrimSpace(`
Checks a domain file as a whole, shows what it changes, and makes it the domain:
every server follows at once. All errors are shown together, with line, column
and remedy; nothing is changed then. Ids are filled in and written back to FILE,
as is the generation. With --dry-run it only shows.

On a server that is not the master it is refused, and says which one is.
"-" reads standard input.`),
		Example: "  dfs apply -f /var/lib/dfs/domain.yaml --dry-run",
		Args:    none,
		RunE: does(func(c *cobra.Command, _ []string) error {
			return apply(c, o, file, dryRun)
		}),
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the domain file; - is standard input")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, change nothing")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
	must(c.MarkFlagRequired("file"))
	return c
}

func apply(c *cobra.Command, o *options, file string, dryRun bool) error {
	text, path, err := readDocument(c.InOrStdin(), file)
	if err != nil {
		return err
	}
	r, err := askMember(c.Context(), o, func(ctx context.Context, m memberAPI) (*controlpb.ApplyReply, error) {
		return m.Apply(ctx, &controlpb.ApplyRequest{Document: text, Filename: []byte(file), Path: []byte(path), DryRun: dryRun})
	})
	if err != nil {
		return err
	}
	if o.json {
		err = printJSON(c.OutOrStdout(), r)
	} else {
		printApplied(c, r, dryRun)
	}
	if err != nil || dryRun || path == "" || bytes.Equal(text, r.Document) {
		return err
	}
	if err := writeBack(path, text, r.Document); err != nil {
		fmt.Fprintf(c.ErrOrStderr(), "warning: ids and generation were not written back to %s: %v\n", file, err)
	}
	return nil
}

func printApplied(c *cobra.Command, r *controlpb.ApplyReply, dryRun bool) {
	out := c.OutOrStdout()
	for _, w := range r.Warnings {
		fmt.Fprintf(c.ErrOrStderr(), "warning: %s\n", w)
	}
	for _, change := range r.Changes {
		fmt.Fprintln(out, change)
	}
	switch {
	case len(r.Changes) == 0:
		fmt.Fprintf(out, "Nothing changes; the domain is at generation %d.\n", r.Generation)
	case dryRun:
		fmt.Fprintf(out, "Nothing was changed (--dry-run); the domain is at generation %d.\n", r.Generation)
	default:
		fmt.Fprintf(out, "Applied; the domain is at generation %d.\n", r.Generation)
	}
}

// readDocument reads the file to apply; path is empty for standard input.
func readDocument(in io.Reader, file string) (text []byte, path string, err error) {
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(in, directory.MaxSize+1))
	} else {
		if path, err = filepath.Abs(file); err == nil {
			text, err = os.ReadFile(path)
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the domain file: %w", err)
	}
	if len(text) > directory.MaxSize {
		return nil, "", fmt.Errorf("read the domain file %s: more than %d bytes", file, directory.MaxSize)
	}
	return text, path, nil
}

// writeBack replaces a file that still says what was applied. The state
// directory's own file is written by the member: then there is nothing to do.
func writeBack(path string, was, now []byte) (err error) {
	present, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if bytes.Equal(present, now) {
		return nil
	}
	if !bytes.Equal(present, was) {
		return errors.New("it was changed meanwhile")
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(now)
	if err = errors.Join(err, f.Chmod(st.Mode().Perm()), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
