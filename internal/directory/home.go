package directory

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// HomeKind says what a domain lives in.
type HomeKind uint8

// The kinds of homes.
const (
	// HomeFile is domain.yaml on one server, the master. The zero value.
	HomeFile HomeKind = iota
	// HomeEtcd is etcd, run by some of the servers or by somebody else.
	HomeEtcd
	// HomeAD is Active Directory.
	HomeAD
)

// String gives the word of the document and of `dfs directory move --to`.
func (k HomeKind) String() string {
	switch k {
	case HomeEtcd:
		return "etcd"
	case HomeAD:
		return "ad"
	}
	return "file"
}

// VoterPort is the port on which voters of an embedded etcd speak to each other
// when their address names none.
const VoterPort = 7442

// Home is where a domain lives, and which servers speak to it. The zero value
// is the backend file.
type Home struct {
	Kind HomeKind
	// Servers are the names of those that read and change it; all others get
	// signed copies from them. In order; empty for HomeFile.
	Servers []string
	// Voters are HOST:PORT of each of Servers if they run etcd themselves; nil if
	// Endpoints say where it is.
	Voters map[string]string
	// Endpoints are the URLs of an etcd that is there already.
	Endpoints []string
	// URL (ldap or ldaps) and Base (a distinguished name) are those of a HomeAD.
	URL, Base string
}

// Has reports whether a server, by name, speaks to the home.
func (h *Home) Has(server string) bool { return slices.Contains(h.Servers, server) }

// Equal says that two homes are the same.
func (h *Home) Equal(o *Home) bool { return h.String() == o.String() }

// clone gives a deep copy.
func (h *Home) clone() Home {
	c := *h
	c.Servers, c.Endpoints = slices.Clone(h.Servers), slices.Clone(h.Endpoints)
	if h.Voters != nil {
		c.Voters = make(map[string]string, len(h.Voters))
		for name, a := range h.Voters {
			c.Voters[name] = a
		}
	}
	return c
}

// Rename gives a server its new name.
func (h *Home) Rename(old, name string) {
	if i := slices.Index(h.Servers, old); i >= 0 {
		h.Servers[i] = name
		slices.Sort(h.Servers)
	}
	if a, ok := h.Voters[old]; ok {
		delete(h.Voters, old)
		h.Voters[name] = a
	}
}

// String shows the home in one line, as the document does.
func (h *Home) String() string {
	if h.Kind == HomeFile {
		return h.Kind.String()
	}
	var b strings.Builder
	emitFlow(&b, canonicalHome(h))
	return b.String()
}

func canonicalHome(h *Home) *node {
	of := flow()
	if h.Voters != nil {
		list := flow()
		for _, name := range h.Servers {
			list.put(name, value(h.Voters[name]))
		}
		of.put("servers", list.n)
	} else {
		of.put("servers", values(h.Servers))
	}
	of.some("endpoints", h.Endpoints)
	if h.URL != "" {
		of.put("url", value(h.URL))
	}
	if h.Base != "" {
		of.put("base", value(h.Base))
	}
	b := flow()
	b.put(h.Kind.String(), of.n)
	return b.n
}

const homeForms = "write {etcd: {servers: {SERVER: \"HOST:PORT\"}}}, {etcd: {servers: [SERVER], endpoints: [URL]}} or {ad: {servers: [SERVER], url: URL, base: DN}}"

// home reads where the domain lives.
func (r *reader) home(n *node, path string, h *Home) {
	switch {
	case n.kind == null || n.kind == scalar && n.text == "file":
	case n.kind == mapping && len(n.pairs) == 1:
		r.fields(n, path, map[string]func(*node, string){
			"etcd": func(n *node, p string) { r.homeOf(n, p, h, HomeEtcd) },
			"ad":   func(n *node, p string) { r.homeOf(n, p, h, HomeAD) },
		})
	default:
		r.bad(n, path, "directory is neither file nor one backend", homeForms)
	}
}

func (r *reader) homeOf(n *node, path string, h *Home, kind HomeKind) {
	h.Kind = kind
	bad := len(r.problems)
	keys := map[string]func(*node, string){"servers": func(n *node, p string) { r.homeServers(n, p, h) }}
	if kind == HomeEtcd {
		keys["endpoints"] = r.urls(&h.Endpoints, "http", "https")
	} else {
		var list []string
		keys["url"] = func(n *node, p string) {
			if r.urls(&list, "ldap", "ldaps")(n, p); len(list) == 1 {
				h.URL = list[0]
			}
		}
		keys["base"] = func(n *node, p string) { h.Base, _ = r.str(n, p, "DC=corp,DC=example") }
	}
	r.fields(n, path, keys)
	if len(r.problems) > bad {
		return
	}
	n = r.nodes[path]
	switch {
	case len(h.Servers) == 0:
		r.bad(n, path, "directory names no servers that speak to it", homeForms)
	case kind == HomeAD && (h.URL == "" || h.Base == ""):
		r.bad(n, path, "ad has no url or no base", homeForms)
	case kind == HomeEtcd && len(h.Endpoints) == 0 && h.Voters == nil:
		r.bad(n, path, "etcd has neither addresses of servers nor endpoints", homeForms)
	case kind == HomeEtcd && len(h.Endpoints) > 0 && h.Voters != nil, kind == HomeAD && h.Voters != nil:
		r.bad(n, path, "servers have addresses and do not run the directory", "write the servers as a list")
	case len(h.Voters) == 2:
		r.bad(n, path, "etcd runs on two servers: then the loss of either stops changes, and two are worse than one", "name 1 server, or 3 or more")
	case len(h.Voters) > maxVoters:
		r.bad(n, path, fmt.Sprintf("etcd runs on %d servers, and each change waits for most of them", len(h.Voters)), fmt.Sprintf("name 3 or 5, at most %d; all others get signed copies", maxVoters))
	}
}

const maxVoters = 9

// homeServers reads a list of names, or names with addresses.
func (r *reader) homeServers(n *node, path string, h *Home) {
	if n.kind != mapping {
		r.list(n, path, maxLinks, func(s string, n *node, sub string) { r.homeServer(n, path, sub, s, h) })
		slices.Sort(h.Servers)
		return
	}
	h.Voters = make(map[string]string)
	for _, p := range r.pairs(n, path) {
		key := p.key
		sub := join(path, key.text)
		r.homeServer(&key, path, sub, key.text, h)
		if s, ok := r.str(p.value, sub, "\"10.77.0.1:7442\""); ok {
			a, err := ParseVoter(s)
			if err != nil {
				r.badErr(p.value, sub, err)
				continue
			}
			h.Voters[key.text] = a
		}
	}
	slices.Sort(h.Servers)
}

func (r *reader) homeServer(n *node, path, sub, name string, h *Home) {
	if slices.Contains(h.Servers, name) {
		r.bad(n, sub, fmt.Sprintf("server %s stands in the list twice", quote(name)), "keep one of the two")
		return
	}
	h.Servers = append(h.Servers, name)
	r.nodes[path+"/"+name] = n
}

// ParseVoter reads the address of a voter; without a port it has VoterPort.
func ParseVoter(s string) (string, error) {
	a, err := ParseAddress(s)
	if err != nil {
		return "", err
	}
	if host, _, err := net.SplitHostPort(s); err != nil || host == "" {
		host, _, _ = net.SplitHostPort(a)
		a = net.JoinHostPort(host, fmt.Sprint(VoterPort))
	}
	return a, nil
}

// urls reads URLs of a host, with one of the schemes.
func (r *reader) urls(to *[]string, schemes ...string) func(*node, string) {
	return func(n *node, path string) {
		*to = nil
		r.list(n, path, maxAddresses, func(s string, n *node, sub string) {
			u, err := url.Parse(s)
			if err != nil || !slices.Contains(schemes, u.Scheme) || u.Host == "" || strings.TrimSuffix(s, "/") != u.Scheme+"://"+u.Host {
				r.bad(n, sub, fmt.Sprintf("%s is not an address of a directory", quote(s)), "write "+schemes[len(schemes)-1]+"://HOST:PORT")
				return
			}
			*to = append(*to, strings.TrimSuffix(s, "/"))
		})
	}
}

// checkHome reports servers of the directory that are none.
func (r *reader) checkHome(d *Domain, known map[string]bool, servers []string) {
	for _, kind := range []HomeKind{HomeEtcd, HomeAD} {
		path := "directory/" + kind.String() + "/servers"
		for _, name := range d.Home.Servers {
			if n := r.nodes[path+"/"+name]; n != nil && !known[name] {
				r.unknownServer(n, path, "directory", name, servers)
			}
		}
	}
	if at := d.Home.sharedVoter(); at != "" {
		r.bad(r.nodes["directory"], "directory", fmt.Sprintf("two servers run etcd at %q", at), "give each its own address or port")
	}
}

func (h *Home) sharedVoter() string {
	seen := make(map[string]bool)
	for _, name := range h.Servers {
		a := h.Voters[name]
		if a != "" && seen[a] {
			return a
		}
		seen[a] = true
	}
	return ""
}
