package main

import (
	"context"
	"fmt"
	"strings"

	"opendfs/internal/control/controlpb"

	"github.com/spf13/cobra"
)

func inviteCommand(o *options) *cobra.Command {
	var replace bool
	c := &cobra.Command{
		Use:   "invite SERVER",
		Short: "let another server into the domain; prints its token",
		Long: strings.TrimSpace(`
Adds the server to the domain, if it is not there yet, and prints a token for
` + "`dfs join`" + ` on it: the token alone, so that it can be piped. It is good once and for
one hour, and is a secret until then. A new invitation of the same server ends
the older one.

With --replace a server that has joined before is invited anew, under a new
identity: for a machine that was lost. The old identity is then unknown.`),
		Example: "  dfs invite branch | ssh branch dfs join - --address branch.example:7440",
		Args:    one("SERVER"),
		RunE: does(func(c *cobra.Command, args []string) error {
			r, err := askMember(c.Context(), o, func(ctx context.Context, m memberAPI) (*controlpb.InviteReply, error) {
				return m.Invite(ctx, &controlpb.InviteRequest{Server: args[0], Replace: replace})
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(c.ErrOrStderr(), "Invitation of %s, good once until %s. On %s:  dfs join TOKEN --address HOST:PORT\n", r.Server, clockTime(r.Expires), r.Server)
			fmt.Fprintln(c.OutOrStdout(), r.Token)
			return nil
		}),
	}
	c.Flags().BoolVar(&replace, "replace", false, "invite a server that has joined before, under a new identity")
	return c
}
