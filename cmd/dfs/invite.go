package main

import (
	"context"
	"fmt"
	"strings"

	"opendfs/internal/control/controlpb"

	"github.com/spf13/cobra"
)

func inviteCommand(o *options) *cobra.Command {
	var replace, admin bool
	c := &cobra.Command{
		Use:   "invite SERVER | invite --admin NAME",
		Short: "let another server, or an administrator, into the domain; prints its token",
		Long: strings.TrimSpace(`
Adds the server to the domain, if it is not there yet, and prints a token for
` + "`dfs join`" + ` on it: the token alone, so that it can be piped. It is good once and for
one hour, and is a secret until then. A new invitation of the same server ends
the older one.

With --replace a server that has joined before is invited anew, under a new
identity: for a machine that was lost. The old identity is then unknown.

With --admin it is an administrator who is let in, not a server: ` + "`dfs join TOKEN`" + `
on any computer gives an identity with which ` + "`dfs --server HOST`" + ` asks members.
What it may do, ` + "`dfs grant ROLE admin:NAME`" + ` says; without that, nothing.`),
		Example: "  dfs invite branch | ssh branch dfs join - --address branch.example:7440\n  dfs invite --admin alice",
		Args:    one("SERVER, or NAME with --admin"),
		RunE: does(func(c *cobra.Command, args []string) error {
			r, err := askMember(c.Context(), o, func(ctx context.Context, m memberAPI) (*controlpb.InviteReply, error) {
				return m.Invite(ctx, &controlpb.InviteRequest{Server: args[0], Replace: replace, Admin: admin})
			})
			if err != nil {
				return err
			}
			if admin {
				fmt.Fprintf(c.ErrOrStderr(), "Invitation of the administrator %s, good once until %s. On any computer:  dfs join TOKEN\n", r.Server, clockTime(r.Expires))
				fmt.Fprintf(c.ErrOrStderr(), "What it may do:  dfs grant ROLE admin:%s\n", r.Server)
				fmt.Fprintln(c.OutOrStdout(), r.Token)
				return nil
			}
			fmt.Fprintf(c.ErrOrStderr(), "Invitation of %s, good once until %s. On %s:  dfs join TOKEN --address HOST:PORT\n", r.Server, clockTime(r.Expires), r.Server)
			fmt.Fprintln(c.OutOrStdout(), r.Token)
			return nil
		}),
	}
	c.Flags().BoolVar(&admin, "admin", false, "invite an administrator, by name")
	c.Flags().BoolVar(&replace, "replace", false, "invite a server that has joined before, under a new identity")
	return c
}
