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

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func caCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use: "ca", Short: "the domain's certificate authority: export, import", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(caExportCommand(o), caImportCommand(o))
	return c
}

// maxSecret bounds what is read as a passphrase, and as an exported CA.
const maxSecret = 64 << 10

func caExportCommand(o *options) *cobra.Command {
	var passFile string
	c := &cobra.Command{
		Use:   "export FILE",
		Short: "write the CA's key to a file, under a passphrase",
		Long: strings.TrimSpace(`
Writes the key of the domain's CA, encrypted with a passphrase, to a file that must
not be there yet. Keep the two apart, and away from this server: with them another
server takes over when this one is lost (dfs ca import, dfs directory promote), and
whoever has both can make identities of the domain. The passphrase is asked for, or
is the first line of --passphrase-file.`),
		Example: "  dfs ca export ca.export", Args: one("FILE"),
		RunE: does(func(c *cobra.Command, args []string) error {
			if _, err := os.Lstat(args[0]); err == nil {
				return fmt.Errorf("%s exists; name another file", args[0])
			}
			pass, err := readPassphrase(c, passFile, true)
			if err != nil {
				return err
			}
			r, err := askMember(c.Context(), o, func(ctx context.Context, m memberAPI) (*controlpb.CaExportReply, error) {
				return m.CaExport(ctx, &controlpb.CaExportRequest{Passphrase: pass})
			})
			if err != nil {
				return err
			}
			if err := writeSecret(args[0], r.Text); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "The domain's CA is in %s. Keep it, and the passphrase, where they outlive this server.\n", args[0])
			return nil
		}),
	}
	c.Flags().StringVar(&passFile, "passphrase-file", "", "read the passphrase from a file; - is standard input")
	return c
}

func caImportCommand(o *options) *cobra.Command {
	var passFile string
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "bring the CA's key to this server",
		Long: strings.TrimSpace(`
Brings the key of the domain's CA to this server, from a file that ` + "`dfs ca export`" + `
made. It can then be promoted to master, and invites and renews.`),
		Example: "  dfs ca import ca.export", Args: one("FILE"),
		RunE: does(func(c *cobra.Command, args []string) error {
			text, err := readBounded(args[0])
			if err != nil {
				return fmt.Errorf("read what `dfs ca export` made: %w", err)
			}
			pass, err := readPassphrase(c, passFile, false)
			if err != nil {
				return err
			}
			r, err := askMember(c.Context(), o, func(ctx context.Context, m memberAPI) (*controlpb.CaImportReply, error) {
				return m.CaImport(ctx, &controlpb.CaImportRequest{Text: text, Passphrase: pass})
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "This server holds the CA of the domain %q.\n", r.Domain)
			return nil
		}),
	}
	c.Flags().StringVar(&passFile, "passphrase-file", "", "read the passphrase from a file; - is standard input")
	return c
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSecret))
}

// writeSecret makes a file that only its owner reads; a partial one is removed.
func writeSecret(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return syncDirectoryOf(filepath.Clean(path))
}

// readPassphrase reads the first line of a file, or asks on the terminal; twice
// for a new one.
func readPassphrase(c *cobra.Command, file string, fresh bool) ([]byte, error) {
	if file != "" {
		var b []byte
		var err error
		if file == "-" {
			b, err = io.ReadAll(io.LimitReader(c.InOrStdin(), maxSecret))
		} else {
			b, err = readBounded(file)
		}
		if err != nil {
			return nil, fmt.Errorf("read the passphrase: %w", err)
		}
		line, _, _ := bytes.Cut(b, []byte("\n"))
		return bytes.TrimSuffix(line, []byte("\r")), nil
	}
	in, ok := c.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, usageError("a passphrase is needed: --passphrase-file FILE, where there is no terminal to ask on")
	}
	ask := func(what string) ([]byte, error) {
		fmt.Fprint(c.ErrOrStderr(), what)
		b, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(c.ErrOrStderr())
		return b, err
	}
	pass, err := ask("Passphrase: ")
	if err != nil || !fresh {
		return pass, err
	}
	again, err := ask("Again: ")
	if err == nil && !bytes.Equal(pass, again) {
		err = errors.New("the two passphrases differ; nothing was written")
	}
	return pass, err
}
