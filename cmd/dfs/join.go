package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/directory"
	"opendfs/internal/pki"
	"opendfs/internal/wire"

	"github.com/spf13/cobra"
)

// maxTokenInput bounds what is read as a token from standard input.
const maxTokenInput = 64 << 10

func joinCommand(o *options) *cobra.Command {
	var addresses []string
	c := &cobra.Command{
		Use:   "join TOKEN [--address HOST:PORT]",
		Short: "make this server a member of a domain, or its user an administrator, by an invitation",
		Long: strings.TrimSpace(`
Makes the state directory of a server that was invited (` + "`dfs invite SERVER`" + ` on the
first server, which must be running): identity, address and the domain come from
there. With "-" the token is read from standard input, where no other user of
this machine can see it. Start the member afterwards with ` + "`dfs serve`" + `.

An administrator's token (` + "`dfs invite --admin NAME`" + `) takes no address and makes no
member: it gives an identity, kept in ~/.config/dfs or in --state, with which
` + "`dfs --server HOST`" + ` asks members.`),
		Example: "  dfs join TOKEN --address branch.example:7440\n  dfs join TOKEN && dfs --server hub status",
		Args:    one("TOKEN"),
		RunE: does(func(c *cobra.Command, args []string) error {
			text := args[0]
			if text == "-" {
				b, err := io.ReadAll(io.LimitReader(c.InOrStdin(), maxTokenInput))
				if err != nil {
					return fmt.Errorf("read token: %w", err)
				}
				text = string(b)
			}
			t, state, err := joinDomain(c.Context(), o, text, addresses)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			if name, ok := t.Admin(); ok {
				fmt.Fprintf(out, "You are the administrator %q in the domain %q. Your identity is in %s.\n", name, t.DomainName, state)
				fmt.Fprintf(out, "Next:  dfs%s --server %s status\n", stateFlag(o), t.Addresses[0])
				return nil
			}
			fmt.Fprintf(out, "This server is %q in the domain %q. Its state is in %s.\n", t.Server, t.DomainName, state)
			fmt.Fprintf(out, "Next:  dfs serve%s       (or: systemctl enable --now dfs)\n", stateFlag(o))
			return nil
		}),
	}
	c.Flags().StringArrayVar(&addresses, "address", nil, "where other servers reach this one, HOST:PORT; may be repeated")
	return c
}

// joinDomain makes the state directory of an invited server or administrator.
func joinDomain(ctx context.Context, o *options, token string, addresses []string) (_ pki.Token, _ string, err error) {
	t, err := pki.ParseToken(token)
	if err != nil {
		return t, "", &failure{err, exitUsage}
	}
	path := o.state
	if _, admin := t.Admin(); admin {
		if len(addresses) > 0 {
			return t, "", usageError("--address: the token is an administrator's, who is not reached by others")
		}
		if path, err = identityDir(o); err != nil {
			return t, "", err
		}
	} else if addresses, _, err = parseAddresses(addresses, nil); err != nil {
		return t, "", err
	}
	at, err := makeState(path, func(state *stateDir) error {
		joined, err := pki.Join(ctx, t, pki.Joining{Addresses: addresses, Product: programVersion(), Now: time.Now})
		if err != nil {
			return joinProblem(err, t)
		}
		return saveJoined(state, joined)
	})
	return t, at, err
}

func saveJoined(state *stateDir, joined *pki.Joined) error {
	id, err := joined.Save(state.path)
	if err != nil {
		return err
	}
	_, err = directory.CreateCopy(directory.FileOptions{
		Dir: state.path, Self: directory.UUID(id.Member()), Key: id.CA().PublicKey, Rand: rand.Reader,
	}, joined.Domain)
	return err
}

// joinProblem adds what to do about a join that was not possible.
func joinProblem(err error, t pki.Token) error {
	for _, reason := range []error{pki.ErrTokenWrong, pki.ErrTokenExpired, pki.ErrTokenUsed, pki.ErrUnknownServer} {
		if errors.Is(err, reason) {
			return err // says what to do itself
		}
	}
	if e, ok := errors.AsType[*wire.Error](err); ok && (e.Code == wire.CodeProtocol || e.Code == wire.CodeClock) {
		return control.Hint(err, "nothing was changed, and the invitation is still good")
	}
	return control.Hint(err, fmt.Sprintf("`dfs serve` must run on the server that invited, and %s must be reachable from here (port, firewall, name resolution)", strings.Join(t.Addresses, " or ")))
}
