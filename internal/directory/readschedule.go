package directory

import (
	"fmt"
	"strings"

	"opendfs/internal/schedule"
)

// maxRate reads the most that a server sends and receives; "full" is no limit.
func (r *reader) maxRate(n *node, path string, to *schedule.Rate) {
	s, ok := r.str(n, path, "100mbps")
	if !ok {
		return
	}
	v, err := schedule.ParseRate(s)
	switch {
	case err != nil:
		r.badErr(n, path, err)
	case v == schedule.Closed:
		r.bad(n, path, "max-rate is \"closed\"", "write a rate such as 100mbps; to stop a server disable its memberships")
	case v != schedule.Full:
		*to = v
	}
}

// schedule reads the text form of a schedule.
func (r *reader) schedule(n *node, path string, to **schedule.Schedule) {
	s, ok := r.str(n, path, "\"mon-fri 08:00-18:00 512kbps; else full\"")
	if !ok {
		return
	}
	v, err := schedule.Parse(s)
	switch {
	case err != nil:
		r.badErr(n, path, err)
		return
	case len(v.String()) > maxScalar:
		r.bad(n, path, "the schedule changes too often to be written down", "use fewer different rates")
		return
	case v.NeverOpen():
		r.warn(n, path, "the schedule is closed at all times, so nothing is ever replicated by it", "open it, or disable the connection or the memberships instead")
	}
	*to = v
}

// exceptions reads the schedules of single connections.
func (r *reader) exceptions(n *node, path string, g *Group) {
	r.eachLink(n, path, func(n *node, sub, from, to string) {
		e := Exception{From: from, To: to}
		if r.schedule(n, sub, &e.Schedule); e.Schedule != nil {
			g.Exceptions = append(g.Exceptions, e)
		}
	})
}

// transfers reads how single connections bring contents.
func (r *reader) transfers(n *node, path string, g *Group) {
	r.eachLink(n, path, func(n *node, sub, from, to string) {
		e := TransferException{From: from, To: to, Transfer: DefaultTransfer()}
		t := &e.Transfer
		r.fields(n, sub, map[string]func(*node, string){
			"rdc":          r.boolean(&t.RDC),
			"cross-file":   r.boolean(&t.CrossFile),
			"rdc-min-size": r.size(&t.MinSize, LeastMinSize),
			"compression": func(n *node, p string) {
				s, ok := r.str(n, p, "auto")
				if !ok {
					return
				}
				v, err := ParseCompression(s)
				if err != nil {
					r.bad(n, p, fmt.Sprintf("compression is %s", quote(s)), "write auto, on or off"+didYouMean(s, compressions))
				}
				t.Compression = v
			},
		})
		if e.Transfer != DefaultTransfer() {
			g.Transfers = append(g.Transfers, e)
		}
	})
}

// eachLink reads a mapping of connections.
func (r *reader) eachLink(n *node, path string, read func(n *node, sub, from, to string)) {
	for _, p := range r.pairs(n, path) {
		sub := join(path, p.key.text)
		key := p.key
		from, to, ok := splitLink(p.key.text)
		if !ok || from == to {
			r.bad(&key, sub, fmt.Sprintf("connection %s is not of the form FROM->TO", quote(p.key.text)), "write \"SERVER->SERVER\", upstream first")
			continue
		}
		if r.nodes[path+"/"+from+"->"+to] != nil {
			r.bad(&key, sub, fmt.Sprintf("connection %s stands here twice", quote(p.key.text)), "keep one of the two")
			continue
		}
		r.nodes[path+"/"+from+"->"+to] = &key
		read(p.value, sub, from, to)
	}
}

// splitLink takes FROM->TO apart.
func splitLink(s string) (from, to string, ok bool) {
	from, to, ok = strings.Cut(s, "->")
	from, to = strings.TrimSpace(from), strings.TrimSpace(to)
	return from, to, ok && validName(from) && validName(to)
}

// checkExceptions reports settings of connections that are none.
func (r *reader) checkExceptions(g *Group, known map[string]bool, servers []string) {
	var schedules, transfers []Link
	for _, e := range g.Exceptions {
		schedules = append(schedules, Link{From: e.From, To: e.To})
	}
	for _, e := range g.Transfers {
		transfers = append(transfers, Link{From: e.From, To: e.To})
	}
	r.checkLinks(g, "schedule", schedules, known, servers)
	r.checkLinks(g, "transfer", transfers, known, servers)
}

func (r *reader) checkLinks(g *Group, what string, links []Link, known map[string]bool, servers []string) {
	path := "groups/" + g.Name + "/connection-" + what + "s"
	members := make(map[string]bool)
	for _, name := range g.members() {
		members[name] = true
	}
	for _, e := range links {
		name := e.From + "->" + e.To
		n := r.nodes[path+"/"+name]
		unknown := false
		for _, end := range []string{e.From, e.To} {
			if !known[end] {
				unknown = true
				r.bad(n, path, fmt.Sprintf("connection %q names an unknown server %q", name, end), "add it under servers or correct the name"+didYouMean(end, servers))
			}
		}
		if !unknown && (!members[e.From] || !members[e.To] || !g.Topology.Linked(e.From, e.To)) {
			r.warn(n, path, fmt.Sprintf("the %s of %q is of no connection of group %q", what, name, g.Name), "remove it, or add the connection")
		}
	}
}
