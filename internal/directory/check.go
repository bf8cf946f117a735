package directory

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// check reports what is wrong or unwise between the objects of a document.
func (r *reader) check(d *Domain) {
	servers := make([]string, 0, len(d.Servers))
	known := make(map[string]bool, len(d.Servers))
	for _, s := range d.Servers {
		servers = append(servers, s.Name)
		known[s.Name] = true
	}
	r.checkAddresses(d)
	r.checkHome(d, known, servers)
	r.checkGrants(d, servers)
	for _, g := range d.Groups {
		r.checkTopology(g, known, servers)
		r.checkExceptions(g, known, servers)
		for _, f := range g.Folders {
			r.checkFolder(g, f, known, servers)
		}
	}
	r.checkPaths(d)
}

// unknownServer reports a name that is no server's.
func (r *reader) unknownServer(n *node, path, who, name string, servers []string) {
	r.bad(n, path, fmt.Sprintf("%s %q names an unknown server", who, name),
		"add it under servers or correct the name"+didYouMean(name, servers))
}

func (r *reader) checkAddresses(d *Domain) {
	owner := make(map[string]string)
	for _, s := range d.Servers {
		path := "servers/" + s.Name
		for _, a := range s.Addresses {
			first, twice := owner[a]
			if !twice {
				owner[a] = s.Name
				continue
			}
			r.bad(r.nodes[path+"/address/"+a], path+"/address", fmt.Sprintf("address %q is that of server %q too", a, first), "give each server its own address or port")
		}
		if len(s.Addresses) == 0 {
			r.warn(r.nodes[path], path, fmt.Sprintf("server %q has no address, so its partners cannot reach it", s.Name),
				"write address: HOST:PORT, or let `dfs join` fill it in")
		}
	}
}

func (r *reader) checkTopology(g *Group, known map[string]bool, servers []string) {
	base := "groups/" + g.Name
	t := g.Topology
	key := t.Kind.String()
	path := base + "/topology/" + key
	if r.nodes[path] == nil {
		path = base + "/" + key
	}
	members := make(map[string]bool)
	for _, name := range g.members() {
		members[name] = true
	}
	for _, h := range t.Hubs {
		n := r.nodes[path+"/hubs/"+h]
		if !known[h] {
			r.unknownServer(n, path+"/hubs", "hub", h, servers)
		} else if len(members) > 0 && !members[h] {
			r.warn(n, path+"/hubs", fmt.Sprintf("hub %q is not a member of any folder of group %q", h, g.Name), "add it to the members, or it connects nothing")
		}
	}
	for _, l := range t.Links {
		name := l.From + "->" + l.To
		n := r.nodes[path+"/"+name]
		for _, end := range []string{l.From, l.To} {
			if !known[end] {
				r.bad(n, path, fmt.Sprintf("connection %q names an unknown server %q", name, end),
					"add it under servers or correct the name"+didYouMean(end, servers))
			}
		}
		if l.Enabled && !t.Linked(l.To, l.From) && known[l.From] && known[l.To] {
			r.warn(n, path, fmt.Sprintf("connection %q has no way back, so changes made on %q do not return", name, l.To),
				fmt.Sprintf("add \"%s->%s\", or make %q read-only", l.To, l.From, l.To))
		}
	}
}

func (r *reader) checkFolder(g *Group, f *Folder, known map[string]bool, servers []string) {
	path := "groups/" + g.Name + "/folders/" + f.Name
	name := g.Name + "/" + f.Name
	var primary *Membership
	writable, enabled := 0, 0
	for _, m := range f.Members {
		at := path + "/members/" + m.Server
		if !known[m.Server] {
			r.unknownServer(r.nodes[at], at, "member", m.Server, servers)
		}
		if m.Enabled {
			enabled++
		}
		if !m.ReadOnly {
			writable++
		}
		if !m.Primary {
			continue
		}
		n := r.nodes[at+"/primary"]
		if primary != nil {
			r.bad(n, at+"/primary", fmt.Sprintf("folder %q has a second primary %q beside %q", name, m.Server, primary.Server),
				"keep primary: true on the member whose content wins the initial sync")
			continue
		}
		primary = m
		if !m.Enabled {
			r.warn(n, at+"/primary", fmt.Sprintf("the primary %q of folder %q is disabled, so its initial sync waits", m.Server, name), "enable it")
		}
	}
	if len(f.Members) == 0 {
		return
	}
	if primary == nil {
		r.warn(r.nodes[path], path, fmt.Sprintf("folder %q has no primary; if it is new its initial sync waits", name), "write primary: true on the member whose content is to win")
	}
	if writable == 0 {
		r.warn(r.nodes[path], path, fmt.Sprintf("every member of folder %q is read-only", name), "remove read-only: true from one")
	}
	if enabled > 1 {
		r.checkConnected(g, f, path)
	}
}

// checkConnected warns of enabled members of a folder that no chain of
// connections, taken both ways, links with the first.
func (r *reader) checkConnected(g *Group, f *Folder, path string) {
	near := map[string][]string{}
	switch g.Topology.Kind {
	case FullMesh:
		return
	case HubAndSpoke:
		if slices.ContainsFunc(f.Members, func(m *Membership) bool { return m.Enabled && slices.Contains(g.Topology.Hubs, m.Server) }) {
			return
		}
	case Custom:
		for _, l := range g.Topology.Links {
			if l.Enabled {
				near[l.From] = append(near[l.From], l.To)
				near[l.To] = append(near[l.To], l.From)
			}
		}
	}
	waiting := make(map[string]bool)
	var queue []string
	for _, m := range f.Members {
		if m.Enabled {
			waiting[m.Server] = true
			queue = append(queue, m.Server)
		}
	}
	queue = queue[:1]
	delete(waiting, queue[0])
	for len(queue) > 0 {
		for _, s := range near[queue[0]] {
			if waiting[s] {
				delete(waiting, s)
				queue = append(queue, s)
			}
		}
		queue = queue[1:]
	}
	for _, m := range f.Members {
		if waiting[m.Server] {
			at := path + "/members/" + m.Server
			r.warn(r.nodes[at], at, fmt.Sprintf("no connection of group %q links member %q with the first member of folder %q", g.Name, m.Server, f.Name),
				"add a connection, or a hub that is a member")
		}
	}
}

// checkPaths refuses folders that have one root on one server (DFSR events 6402 to
// 6412), and warns of those that lie in each other.
func (r *reader) checkPaths(d *Domain) {
	type root struct{ path, name, at string }
	roots := make(map[string][]root)
	for _, g := range d.Groups {
		for _, f := range g.Folders {
			for _, m := range f.Members {
				if m.Path != "" {
					at := "groups/" + g.Name + "/folders/" + f.Name + "/members/" + m.Server + "/path"
					roots[m.Server] = append(roots[m.Server], root{m.Path, g.Name + "/" + f.Name, at})
				}
			}
		}
	}
	for server, list := range roots {
		slices.SortStableFunc(list, func(a, b root) int { return cmp.Compare(a.path+"/", b.path+"/") })
		var around []root // those that the one before lies in, and itself
		for _, in := range list {
			for len(around) > 0 && !strings.HasPrefix(in.path+"/", around[len(around)-1].path+"/") {
				around = around[:len(around)-1]
			}
			around = append(around, in)
			if len(around) == 1 {
				continue
			}
			outer := around[len(around)-2]
			if in.path == outer.path {
				r.bad(r.nodes[in.at], in.at, fmt.Sprintf("path %q of folder %q is that of folder %q too on server %q", in.path, in.name, outer.name, server),
					"two folders would each take what the other one brings for a change of a user; name another directory, or one in it")
				continue
			}
			r.warn(r.nodes[in.at], in.at, fmt.Sprintf("path %q of folder %q lies in %q of folder %q on server %q", in.path, in.name, outer.path, outer.name, server),
				fmt.Sprintf("%q leaves it out; if it replicates that directory already, add %q to its directory filter (`dfs folder set %s --exclude-directories`), or %q does not start there",
					outer.name, path.Base(in.path), outer.name, in.name))
		}
	}
}
