package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/pki"
	"opendfs/internal/repl"

	"github.com/spf13/cobra"
)

func initCommand(o *options) *cobra.Command {
	var domain, server string
	var addresses, listen []string
	c := &cobra.Command{
		Use:   "init --domain NAME --server NAME --address HOST:PORT",
		Short: "make the first server of a new domain",
		Long: strings.TrimSpace(`
Makes the state directory of the first server of a domain: the domain's CA, this
server's identity and domain.yaml, whose master this server then is. No daemon
is needed; start it afterwards with ` + "`dfs serve`" + `.

The address is where the other servers reach this one: a name, an IPv4 address
or an IPv6 address in brackets, with a port (7440 if it is left out). Several,
by repeating the flag, are tried in order.`),
		Example: "  dfs init --domain corp --server hub --address hub.example:7440",
		Args:    none,
		RunE: does(func(c *cobra.Command, _ []string) error {
			state, err := initDomain(o.state, newDomain{domain, server, addresses, listen, time.Now()})
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			fmt.Fprintf(out, "This server is %q, the first of the domain %q. Its state is in %s.\n\n", server, domain, state)
			fmt.Fprintf(out, "Next:  dfs serve%s                 start it (or: systemctl enable --now dfs)\n", stateFlag(o))
			fmt.Fprintf(out, "       dfs invite%s SERVER         let another server in\n", stateFlag(o))
			fmt.Fprintf(out, "       edit %s/domain.yaml, then\n       dfs apply%s -f %s/domain.yaml\n", state, stateFlag(o), state)
			return nil
		}),
	}
	c.Flags().StringVar(&domain, "domain", "", "name of the new domain")
	c.Flags().StringVar(&server, "server", "", "name of this server in it")
	c.Flags().StringArrayVar(&addresses, "address", nil, "where other servers reach this one, HOST:PORT; may be repeated")
	c.Flags().StringArrayVar(&listen, "listen", nil, "where this server listens, if not on the port of its first address everywhere; may be repeated")
	for _, name := range []string{"domain", "server", "address"} {
		must(c.MarkFlagRequired(name))
	}
	return c
}

// must is for what can go wrong by a defect of the program alone.
func must(err error) {
	if err != nil {
		panic("dfs: " + err.Error())
	}
}

// stateFlag is " --state DIR" if the user had to give it.
func stateFlag(o *options) string {
	if o.state == defaultState {
		return ""
	}
	return " --state " + o.state
}

// newDomain is what `dfs init` is told.
type newDomain struct {
	domain, server    string
	addresses, listen []string
	now               time.Time
}

// initDomain makes the state directory of the first server and returns its path.
func initDomain(path string, n newDomain) (_ string, err error) {
	if n.addresses, n.listen, err = parseAddresses(n.addresses, n.listen); err != nil {
		return "", err
	}
	return makeState(path, func(state *stateDir) error { return fillState(state, n) })
}

func fillState(state *stateDir, n newDomain) error {
	doc, err := firstDocument(n)
	if err != nil {
		return err
	}
	d := doc.Domain
	self := d.Servers[0].ID
	now := n.now
	ca, err := pki.CreateAuthority(state.path, repl.GUID(d.ID), d.Name, now)
	if err != nil {
		return err
	}
	id, err := ca.CreateIdentity(state.path, repl.MemberID(self), n.server, now)
	if err != nil {
		return err
	}
	_, err = directory.CreateFile(directory.FileOptions{
		Dir: state.path, Self: self, Key: id.CA().PublicKey, Signer: ca.Signer(), Rand: rand.Reader,
	}, doc)
	return err
}

// domainHead and domainTail stand around the first domain file.
const (
	domainHead = `# The domain: servers, and what replicates between them. This file is the
# master's; edit it and say: dfs apply -f domain.yaml
# Ids are filled in. They are what objects are known by: keep them when renaming.
`
	domainTail = `
# What replicates, by example:
#
# groups:
#   projects:
#     topology: full-mesh            # or hub-and-spoke: {hubs: [hub]}
#     folders:
#       docs:
#         filters: {files: ["~*", "*.bak", "*.tmp"], directories: []}
#         members:
#           hub:    {path: /srv/docs, primary: true}    # the primary wins the initial sync
#           branch: {path: /srv/docs}
`
)

// firstDocument is the domain file of a new domain, complete.
func firstDocument(n newDomain) (*directory.Document, error) {
	d := &directory.Domain{Name: n.domain, Servers: []*directory.Server{{Name: n.server, Addresses: n.addresses, Listen: n.listen}}}
	d, err := d.Complete(nil, rand.Reader)
	if err != nil {
		return nil, err
	}
	d.Generation = 1
	text := domainHead + string(directory.Marshal(d)) + domainTail
	doc, err := directory.Read([]byte(text), "domain.yaml")
	if err != nil {
		return nil, &failure{plainProblems(err), exitUsage}
	}
	return doc, nil
}

// plainProblems makes of the problems of a document that a command has written
// those of the words that it was given.
func plainProblems(err error) error {
	var list directory.Problems
	if !errors.As(err, &list) {
		return err
	}
	var lines []string
	for _, p := range list {
		lines = append(lines, p.What+"; "+p.Remedy)
	}
	return errors.New(strings.Join(lines, "\n"))
}

// parseAddresses brings what a user wrote into the directory's form.
func parseAddresses(addresses, listen []string) (a, l []string, err error) {
	for _, s := range addresses {
		p, err := directory.ParseAddress(s)
		if err != nil {
			return nil, nil, &failure{err, exitUsage}
		}
		a = append(a, p)
	}
	for _, s := range listen {
		p, err := directory.ParseListen(s)
		if err != nil {
			return nil, nil, &failure{err, exitUsage}
		}
		l = append(l, p)
	}
	if len(a) == 0 {
		return nil, nil, usageError("an address is needed, where other servers reach this one: --address HOST:PORT")
	}
	return a, l, nil
}
