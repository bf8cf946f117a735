package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/directory"
	"opendfs/internal/peer"
	"opendfs/internal/pki"
	"opendfs/internal/repl"

	"github.com/spf13/cobra"
)

// rescuer fetches the domain for a server that has no good copy of it any more.
type rescuer struct {
	options directory.FileOptions
	id      *pki.Identity
	domain  directory.UUID
	log     *slog.Logger
}

// The rhythm of a rescue.
const (
	rescueRetry = 2 * time.Second
	rescueAsk   = 10 * time.Second // what one place may take to answer
)

func newRescuer(state *stateDir, log *slog.Logger) (*rescuer, error) {
	id, err := pki.Load(state.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noDomain(state.path)
	}
	if err != nil {
		return nil, err
	}
	ca, err := pki.LoadAuthority(state.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &rescuer{fileOptions(state.path, id, ca), id, directory.UUID(id.Domain()), log}, nil
}

// rescue fetches the domain from where it lives, if this server speaks to that, or
// from any server that is known, until one has it or ctx ends. lost is why.
func rescue(ctx context.Context, state *stateDir, log *slog.Logger, lost error) error {
	r, err := newRescuer(state, log)
	if err != nil {
		return err
	}
	if _, err := directory.ReadCopy(r.options); err == nil {
		return errors.New("the copy of the domain is a good one; what is missing is something else")
	}
	known, err := directory.KnownServers(state.path)
	if err == nil && known.ID != r.domain {
		err = directory.ErrForeign
	}
	if err != nil {
		return control.Hint(fmt.Errorf("no server is known that could be asked for the domain: %w", err), "name one: dfs directory recover --from HOST:PORT")
	}
	log.Error("the copy of the domain is damaged; it is fetched anew before anything runs", "err", lost)
	for {
		from, err := r.fetch(ctx, known)
		if err == nil {
			log.Warn("the domain was fetched anew; what was damaged is beside it as *.damaged", "from", from)
			return nil
		}
		log.Warn("the domain cannot be had yet", "err", err, "remedy", "start another server of the domain, or `dfs directory recover --from HOST:PORT`")
		if !pause(ctx, rescueRetry) {
			return context.Cause(ctx)
		}
	}
}

// fetch asks the directory, then every server, and takes the newest copy.
func (r *rescuer) fetch(ctx context.Context, known *directory.Domain) (from string, err error) {
	var errs []error
	if self := known.Server(r.options.Self); self != nil && known.Home.Has(self.Name) {
		copied, err := r.askHome(ctx, known)
		if err == nil {
			return known.Home.Kind.String(), directory.Restore(r.options, r.domain, copied)
		}
		errs = append(errs, err)
	}
	var best []byte
	var newest *directory.Domain
	for _, s := range known.Servers {
		if s.ID == r.options.Self || len(s.Addresses) == 0 {
			continue
		}
		copied, d, err := r.ask(ctx, repl.MemberID(s.ID), s.Addresses)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", s.Name, err))
		case newest == nil || d.Newer(newest):
			best, newest, from = copied, d, s.Name
		}
	}
	if best == nil {
		return "", errors.Join(append(errs, errors.New("no other server has it"))...)
	}
	return from, directory.Restore(r.options, r.domain, best)
}

// ask asks one server for its copy.
func (r *rescuer) ask(ctx context.Context, id repl.MemberID, addresses []string) ([]byte, *directory.Domain, error) {
	ctx, cancel := context.WithTimeout(ctx, rescueAsk)
	defer cancel()
	s, err := peer.Dial(ctx, peer.Config{Identity: r.id, Product: programVersion(), Log: r.log}, id, addresses)
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	c, err := s.Directory(ctx, 0, 0, false)
	if err != nil {
		return nil, nil, err
	}
	signed, err := directory.DecodeSigned(c.Signed)
	if err != nil {
		return nil, nil, err
	}
	doc, err := signed.Open(r.options.Key)
	if err != nil {
		return nil, nil, err
	}
	return c.Signed, doc.Domain, nil
}

// askAny asks whichever servers answer at the addresses, one after the other.
func (r *rescuer) askAny(ctx context.Context, addresses []string) ([]byte, *directory.Domain, error) {
	var errs []error
	for _, address := range addresses {
		id, err := r.who(ctx, address)
		if err == nil {
			var copied []byte
			var d *directory.Domain
			if copied, d, err = r.ask(ctx, id, []string{address}); err == nil {
				return copied, d, nil
			}
		}
		errs = append(errs, fmt.Errorf("at %s: %w", address, err))
	}
	return nil, nil, errors.Join(errs...)
}

// who is the server at an address, by its certificate.
func (r *rescuer) who(ctx context.Context, address string) (repl.MemberID, error) {
	ctx, cancel := context.WithTimeout(ctx, rescueAsk)
	defer cancel()
	policy := pki.Policy{Now: time.Now}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return repl.MemberID{}, err
	}
	c := tls.Client(raw, r.id.CallTLS(policy, pki.ALPNControl, repl.MemberID{}))
	err = c.HandshakeContext(ctx)
	var who pki.Subject
	if err == nil {
		who, err = r.id.SubjectOf(c.ConnectionState(), policy)
	}
	return repl.MemberID(who.ID), errors.Join(pki.Explain(err), raw.Close())
}

// askHome reads the domain where it lives, and signs it.
func (r *rescuer) askHome(ctx context.Context, known *directory.Domain) (_ []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, rescueAsk)
	defer cancel()
	w := &way{r.options.Dir, r.id, r.log, func(error) {}}
	var client *etcdClient
	if known.Home.Kind == directory.HomeEtcd {
		if client, err = w.openEtcd(known); err != nil {
			return nil, err
		}
		defer client.close()
	}
	store, err := w.open(ctx, client, known, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	doc, err := store.Load(ctx)
	if err != nil {
		return nil, err
	}
	return directory.Seal(r.options, doc)
}

func recoverCommand(o *options) *cobra.Command {
	var from []string
	c := &cobra.Command{
		Use:   "recover --from HOST:PORT",
		Short: "fetch the domain for a server whose copies are damaged",
		Long: strings.TrimSpace(`
Fetches the signed copy of the domain from another server, for one whose own copies
are damaged, and which cannot find that server by itself: ` + "`dfs serve`" + ` does the same
with the servers that it knew. The member must not run. What is damaged is kept
beside as *.damaged.`),
		Example: "  dfs directory recover --from hub.example:7440",
		Args:    none,
		RunE: does(func(c *cobra.Command, _ []string) (err error) {
			state, err := holdState(o.state, false)
			if err != nil {
				return servedAlready(err)
			}
			defer func() { err = errors.Join(err, state.Close()) }()
			r, err := newRescuer(state, quiet)
			if err != nil {
				return err
			}
			if _, err := directory.ReadCopy(r.options); err == nil {
				return control.Hint(errors.New("recover the domain: the copy here is a good one"), "nothing need be done; partners bring a newer one by themselves")
			}
			addresses, _, err := parseAddresses(from, nil)
			if err != nil {
				return err
			}
			copied, d, err := r.askAny(c.Context(), addresses)
			if err != nil {
				return control.Hint(err, "name another server that runs")
			}
			if err := directory.Restore(r.options, r.domain, copied); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "The domain %q is here again, at generation %d.\n", d.Name, d.Generation)
			return nil
		}),
	}
	c.Flags().StringArrayVar(&from, "from", nil, "a server of the domain that runs, HOST:PORT; may be repeated")
	must(c.MarkFlagRequired("from"))
	return c
}
