package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/directory"
	"opendfs/internal/directory/ad"
	"opendfs/internal/directory/etcd"
	"opendfs/internal/pki"

	"github.com/spf13/cobra"
)

// move is what `dfs directory move` is told.
type move struct {
	to        string
	servers   []string // NAME or NAME=HOST:PORT
	endpoints []string
	url, base string
	// what is written beneath the state directory
	user, passwordFile, ca, cert, key string
	dryRun                            bool
}

// moveTime is how long a moved domain may take to be reached where it lives.
const moveTime = 30 * time.Second

func moveCommand(o *options) *cobra.Command {
	v := &move{}
	c := &cobra.Command{
		Use:   "move --to file|etcd|ad",
		Short: "have the domain live elsewhere",
		Long: strings.TrimSpace(`
Moves the domain, as it is, to another place. It is run on the server that holds the
CA's key, which is one of --servers; members go on replicating meanwhile.

--to etcd --servers hub,branch,lab   these servers run etcd among each other, in
    their dfs serve: 1, or 3 and more, of which one may be lost. They reach each
    other on port 7442 of their addresses, or where NAME=HOST:PORT says.
--to etcd --endpoints URL,… --servers hub   in an etcd that is there already.
--to ad --url ldaps://dc1.corp.example --base DC=corp,DC=example --servers hub
    in Active Directory, as a service account that --user and --password-file
    name. Replication groups that are there become part of the domain.
--to file    in domain.yaml of this server, the master.

All other servers get signed copies from those named. Passwords and certificates
(--user, --password-file, --ca, --cert, --key) are kept in the state directory of
this server; the others named need theirs there too (docs/operations.md).`),
		Example: "  dfs directory move --to etcd --servers hub,branch,lab\n  dfs directory move --to file",
		Args:    none,
		RunE:    does(func(c *cobra.Command, _ []string) error { return v.run(c, o) }),
	}
	f := c.Flags()
	f.StringVar(&v.to, "to", "", "file, etcd or ad")
	f.StringSliceVar(&v.servers, "servers", nil, "servers that speak to it: NAME, or NAME=HOST:PORT for a voter elsewhere than on port 7442")
	f.StringSliceVar(&v.endpoints, "endpoints", nil, "URLs of an etcd that is there already")
	f.StringVar(&v.url, "url", "", "ldaps:// address of a domain controller")
	f.StringVar(&v.base, "base", "", "naming context of Active Directory: DC=corp,DC=example")
	f.StringVar(&v.user, "user", "", "account for Active Directory or etcd")
	f.StringVar(&v.passwordFile, "password-file", "", "file with its password")
	f.StringVar(&v.ca, "ca", "", "file with the certificate of whose servers are believed")
	f.StringVar(&v.cert, "cert", "", "file with the certificate to show to etcd, if not the member's own")
	f.StringVar(&v.key, "key", "", "file with its key")
	f.BoolVar(&v.dryRun, "dry-run", false, "show what would change, change nothing")
	f.BoolVar(&o.json, "json", false, "print JSON (docs/operations.md)")
	must(c.MarkFlagRequired("to"))
	must(c.RegisterFlagCompletionFunc("to", cobra.FixedCompletions([]string{"file", "etcd", "ad"}, cobra.ShellCompDirectiveNoFileComp)))
	must(c.RegisterFlagCompletionFunc("servers", completing(o, func(d *directory.Domain, _ []string) []string { return serverNames(d) })))
	return c
}

func (v *move) run(c *cobra.Command, o *options) error {
	doc, _, err := present(c.Context(), o)
	if err != nil {
		return err
	}
	home, err := v.home(doc.Domain)
	if err != nil {
		return err
	}
	if !v.dryRun {
		if err := v.prepare(c.Context(), o, doc.Domain, home); err != nil {
			return err
		}
	}
	err = edit(c, o, v.dryRun, func(d *directory.Domain) error {
		if d.Home.Equal(home) {
			return &control.Problem{Err: fmt.Errorf("move the domain: it lives there already (%v)", home), Usage: true}
		}
		d.Home = *home
		return nil
	})
	if err != nil || v.dryRun {
		return err
	}
	return v.await(c, o, home)
}

// home is the place that is named.
func (v *move) home(d *directory.Domain) (*directory.Home, error) {
	h := &directory.Home{}
	elsewhere := len(v.servers)+len(v.endpoints) > 0 || v.url != "" || v.base != ""
	switch v.to {
	case "file":
		if elsewhere {
			return nil, usageError("--to file takes no servers: this server becomes the master")
		}
		return h, nil
	case "etcd":
		h.Kind, h.Endpoints = directory.HomeEtcd, v.endpoints
		if v.url != "" || v.base != "" {
			return nil, usageError("--url and --base are for --to ad")
		}
	case "ad":
		h.Kind, h.URL, h.Base = directory.HomeAD, v.url, v.base
		if v.url == "" || v.base == "" || len(v.endpoints) > 0 {
			return nil, usageError("--to ad takes --url and --base, and no --endpoints")
		}
	default:
		return nil, usageError("--to %q: use file, etcd or ad", v.to)
	}
	if len(v.servers) == 0 {
		return nil, usageError("--to %s: name the servers that speak to it: --servers hub,branch,lab", v.to)
	}
	for _, s := range v.servers {
		name, at, given := strings.Cut(s, "=")
		h.Servers = append(h.Servers, name)
		if h.Kind == directory.HomeAD || len(h.Endpoints) > 0 {
			if given {
				return nil, usageError("--servers %s: only a server that runs etcd has an address there", s)
			}
			continue
		}
		a, err := voterAddress(d, name, at)
		if err != nil {
			return nil, err
		}
		if h.Voters == nil {
			h.Voters = make(map[string]string)
		}
		h.Voters[name] = a
	}
	slices.Sort(h.Servers)
	return h, nil
}

// voterAddress is where a voter is reached: as given, or on the voters' port of the
// server's first address.
func voterAddress(d *directory.Domain, name, given string) (string, error) {
	if given == "" {
		s, err := findServer(d, name)
		if err != nil {
			return "", err
		}
		if len(s.Addresses) == 0 {
			return "", usageError("--servers %s: it has no address yet; write %s=HOST:PORT, or let it join first", name, name)
		}
		if given, _, err = net.SplitHostPort(s.Addresses[0]); err != nil {
			return "", err
		}
		if strings.Contains(given, ":") {
			given = "[" + given + "]"
		}
	}
	a, err := directory.ParseVoter(given)
	if err != nil {
		return "", usageError("--servers %s: %v", name, err)
	}
	return a, nil
}

// prepare writes what this server needs to speak to the place, and tries it.
func (v *move) prepare(ctx context.Context, o *options, d *directory.Domain, h *directory.Home) error {
	if o.server != "" && (h.Kind == directory.HomeAD || len(h.Endpoints) > 0) {
		return usageError("--server %s: what it takes to speak to the place is kept in the server's own state directory; run it on %s", o.server, o.server)
	}
	state, err := filepath.Abs(o.state)
	if err != nil {
		return err
	}
	switch {
	case h.Kind == directory.HomeAD:
		if err := v.keep(state, adDir); err != nil {
			return err
		}
		options, err := adOptions(state, h)
		if err != nil {
			return control.Hint(err, "give them here: --user CORP\\\\dfs --password-file FILE")
		}
		there, err := ad.Existing(ctx, options)
		if err != nil {
			return control.Hint(err, "nothing was changed")
		}
		for _, g := range there.Domain.Groups {
			if ours := d.GroupByName(g.Name); ours != nil && ours.ID != g.ID {
				return control.Hint(fmt.Errorf("move the domain: Active Directory has a group %s already, which is another one", g.Name), "rename one of the two: dfs group set "+g.Name+" --name OTHER")
			}
		}
	case len(h.Endpoints) > 0:
		if err := v.keep(state, clientDir); err != nil {
			return err
		}
		id, err := pki.Load(state)
		if err != nil {
			return err
		}
		own := etcd.DialOptions{}
		if own.Cert, own.Key, own.CA, err = id.PEM(); err != nil {
			return err
		}
		options, err := etcdOptions(state, h, own)
		if err == nil {
			err = etcd.Check(ctx, options)
		}
		if err != nil {
			return control.Hint(err, "nothing was changed; --ca, --cert and --key, or --user and --password-file, say how it is spoken to")
		}
	}
	return nil
}

// keep copies the files that were named into the state directory.
func (v *move) keep(state, dir string) error {
	var errs []error
	put := func(name string, data []byte, err error) {
		if err == nil {
			if err = os.MkdirAll(filepath.Join(state, dir), 0o700); err == nil {
				err = os.WriteFile(filepath.Join(state, dir, name), data, 0o600)
			}
		}
		errs = append(errs, err)
	}
	if v.user != "" {
		put("user", []byte(v.user+"\n"), nil)
	}
	for name, from := range map[string]string{"password": v.passwordFile, "ca.crt": v.ca, "client.crt": v.cert, "client.key": v.key} {
		if from != "" {
			data, err := os.ReadFile(from)
			put(name, data, err)
		}
	}
	return errors.Join(errs...)
}

// await waits until the domain is reached where it lives now.
func (v *move) await(c *cobra.Command, o *options, h *directory.Home) error {
	ctx, cancel := context.WithTimeout(c.Context(), moveTime)
	defer cancel()
	for {
		doc, here, err := present(ctx, o)
		if err == nil && here && doc.Domain.Home.Kind == h.Kind {
			break
		}
		if !pause(ctx, waitPoll) {
			return control.Hint(fmt.Errorf("the domain has moved, and this server has not reached it there within %v", moveTime), "`dfs status` names what is the matter; changes are refused until then, replication goes on")
		}
	}
	if o.json {
		return nil
	}
	out := c.OutOrStdout()
	if h.Kind == directory.HomeFile {
		fmt.Fprintln(out, "The domain lives in domain.yaml of this server.")
		return nil
	}
	fmt.Fprintf(out, "The domain lives in %v, read and changed there by %s.\n", h.Kind, strings.Join(h.Servers, ", "))
	return nil
}
