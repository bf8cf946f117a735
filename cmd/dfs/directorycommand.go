package main

import (
	"context"
	"fmt"
	"strings"

	"opendfs/internal/control/controlpb"

	"github.com/spf13/cobra"
)

func directoryCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use: "directory", Short: "where the domain lives: export, import, move, promote, recover", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(exportDirectoryCommand(o), importDirectoryCommand(o), moveCommand(o), promoteCommand(o), recoverCommand(o))
	return c
}

func promoteCommand(o *options) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "promote",
		Short: "make this server the master of the domain, when the old one is gone",
		Long: strings.TrimSpace(`
Makes this server the one where the domain is changed, from the newest copy that it
has. It needs the CA's key, from a file that ` + "`dfs ca export`" + ` made earlier:
` + "`dfs ca import FILE`" + ` first. The other servers follow within a moment.

An old master that returns becomes a copy as soon as it meets another server; what
was changed on it and nobody else has seen is kept there in domain.yaml.superseded,
with a finding. While the master can be reached it is refused; --force hands over.

Where the domain lives in etcd or Active Directory it comes back into the file of
this server: for the day on which that place is gone for good.`),
		Example: "  dfs ca import ca.export && dfs directory promote",
		Args:    none,
		RunE: does(func(c *cobra.Command, _ []string) error {
			r, err := askMember(c.Context(), o, func(ctx context.Context, m memberAPI) (*controlpb.PromoteReply, error) {
				return m.Promote(ctx, &controlpb.PromoteRequest{Force: force})
			})
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), r)
			}
			fmt.Fprintf(c.OutOrStdout(), "This server is the master of the domain, in the place of %s (term %d, generation %d).\n", r.Before, r.Term, r.Generation)
			return nil
		}),
	}
	c.Flags().BoolVar(&force, "force", false, "though the master can be reached")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
	return c
}
