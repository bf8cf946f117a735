package directory

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Bounds of what a document may say, beside MaxSize.
const (
	maxAddresses = 16
	maxPatterns  = 1024
	maxLinks     = 1 << 20
	minQuota     = 10 * MiB // as DFSR has it
	maxLifetime  = 3650 * day
)

func (r *reader) domain(root *node) *Domain {
	d := &Domain{Term: 1}
	var version uint64
	if root.kind == null {
		r.bad(root, "", "the document is empty", "begin with \"version: 1\" and \"domain: NAME\"")
		return d
	}
	r.fields(root, "", map[string]func(*node, string){
		"version":    func(n *node, p string) { r.version(n, p, &version) },
		"domain":     func(n *node, p string) { r.name(n, p, &d.Name) },
		"id":         r.id(&d.ID),
		"generation": r.uint(&d.Generation, 0),
		"term":       r.uint(&d.Term, 1),
		"directory":  func(n *node, p string) { r.home(n, p, &d.Home) },
		"servers": func(n *node, p string) {
			r.names(n, p, "server", func(name string, n *node, p string) { d.Servers = append(d.Servers, r.server(name, n, p)) })
		},
		"admins": func(n *node, p string) {
			r.names(n, p, "admin", func(name string, n *node, p string) { d.Admins = append(d.Admins, r.admin(name, n, p)) })
		},
		"grants": func(n *node, p string) { r.grants(n, p, d) },
		"groups": func(n *node, p string) {
			r.names(n, p, "group", func(name string, n *node, p string) { d.Groups = append(d.Groups, r.group(name, n, p)) })
		},
	})
	if root.kind != mapping {
		return d
	}
	for _, key := range []string{"version", "domain"} {
		if r.nodes[key] == nil {
			remedy := map[string]string{"version": "write \"version: 1\" on the first line", "domain": "write \"domain: NAME\""}
			r.bad(root, key, fmt.Sprintf("key %q is missing", key), remedy[key])
		}
	}
	return d
}

func (r *reader) version(n *node, path string, to *uint64) {
	r.uint(to, 1)(n, path)
	if *to > Version {
		r.bad(n, path, fmt.Sprintf("the document has version %d, this program reads version %d", *to, Version), "install a newer dfs on this server")
	}
}

func (r *reader) name(n *node, path string, to *string) {
	s, ok := r.str(n, path, "corp")
	if ok && !validName(s) {
		r.bad(n, path, fmt.Sprintf("%s is not a name", quote(s)), nameRule)
		return
	}
	*to = s
}

func (r *reader) server(name string, n *node, path string) *Server {
	s := NewServer(name, UUID{})
	r.fields(n, path, map[string]func(*node, string){
		"id":       r.id(&s.ID),
		"address":  r.addresses(&s.Addresses, ParseAddress),
		"listen":   r.addresses(&s.Listen, ParseListen),
		"max-rate": func(n *node, p string) { r.maxRate(n, p, &s.MaxRate) },
		"log-level": func(n *node, p string) {
			if text, ok := r.str(n, p, "info"); ok {
				var err error
				if s.LogLevel, err = ParseLogLevel(text); err != nil {
					r.badErr(n, p, err)
				}
			}
		},
		"clock-skew":    r.duration(&s.ClockSkew, time.Second, day, false),
		"transfers-in":  r.transferLimit(&s.TransfersIn),
		"transfers-out": r.transferLimit(&s.TransfersOut),
	})
	return s
}

func (r *reader) transferLimit(to *uint64) func(*node, string) {
	return func(n *node, path string) {
		r.uint(to, 1)(n, path)
		if *to > MaxTransfers {
			r.bad(n, path, fmt.Sprintf("%s is %d", orDocument(path), *to), fmt.Sprintf("write 1 to %d", MaxTransfers))
		}
	}
}

func (r *reader) addresses(to *[]string, parse func(string) (string, error)) func(*node, string) {
	return func(n *node, path string) {
		r.list(n, path, maxAddresses, func(s string, n *node, sub string) {
			a, err := parse(s)
			if err != nil {
				r.badErr(n, sub, err)
				return
			}
			if slices.Contains(*to, a) {
				r.bad(n, sub, fmt.Sprintf("address %q stands in the list twice", a), "keep one of the two")
				return
			}
			*to = append(*to, a)
			r.nodes[path+"/"+a] = n
		})
	}
}

func (r *reader) group(name string, n *node, path string) *Group {
	g := &Group{Name: name}
	said := ""
	once := func(read func(*node, string, *Topology)) func(*node, string) {
		return func(n *node, p string) {
			if said != "" {
				r.bad(n, p, fmt.Sprintf("group %q says its topology twice, in %s and in %s", name, said, orDocument(p)), "keep one of the two")
				return
			}
			said = orDocument(p)
			read(n, p, &g.Topology)
		}
	}
	r.fields(n, path, map[string]func(*node, string){
		"id":                   r.id(&g.ID),
		"topology":             once(r.topology),
		"hub-and-spoke":        once(r.hubAndSpoke),
		"connections":          once(r.connections),
		"schedule":             func(n *node, p string) { r.schedule(n, p, &g.Schedule) },
		"connection-schedules": func(n *node, p string) { r.exceptions(n, p, g) },
		"connection-transfers": func(n *node, p string) { r.transfers(n, p, g) },
		"folders": func(n *node, p string) {
			r.names(n, p, "folder", func(name string, n *node, p string) { g.Folders = append(g.Folders, r.folder(name, n, p)) })
		},
	})
	return g
}

const topologyForms = "write full-mesh, {hub-and-spoke: {hubs: [SERVER]}} or {connections: [\"FROM->TO\"]}"

func (r *reader) topology(n *node, path string, t *Topology) {
	switch {
	case n.kind == null:
	case n.kind == mapping && len(n.pairs) == 1:
		r.fields(n, path, map[string]func(*node, string){
			"hub-and-spoke": func(n *node, p string) { r.hubAndSpoke(n, p, t) },
			"connections":   func(n *node, p string) { r.connections(n, p, t) },
		})
	case n.kind == scalar && n.text == "full-mesh":
	case n.kind == scalar && n.text == "hub-and-spoke":
		r.bad(n, path, "topology hub-and-spoke has no hubs", "write topology: {hub-and-spoke: {hubs: [SERVER]}}")
	case n.kind == scalar:
		r.bad(n, path, fmt.Sprintf("unknown topology %s", quote(n.text)),
			topologyForms+didYouMean(n.text, []string{"full-mesh", "hub-and-spoke"}))
	default:
		r.bad(n, path, "the topology is not one word or one key", topologyForms)
	}
}

func (r *reader) hubAndSpoke(n *node, path string, t *Topology) {
	t.Kind = HubAndSpoke
	bad := len(r.problems)
	r.fields(n, path, map[string]func(*node, string){
		"hubs": func(n *node, p string) {
			r.list(n, p, maxLinks, func(s string, n *node, sub string) {
				if slices.Contains(t.Hubs, s) {
					r.bad(n, sub, fmt.Sprintf("hub %s stands in the list twice", quote(s)), "keep one of the two")
					return
				}
				t.Hubs = append(t.Hubs, s)
				r.nodes[path+"/hubs/"+s] = n
			})
		},
	})
	if len(t.Hubs) == 0 && len(r.problems) == bad {
		r.bad(n, path, "topology hub-and-spoke has no hubs", "write hub-and-spoke: {hubs: [SERVER]}")
	}
}

func (r *reader) connections(n *node, path string, t *Topology) {
	t.Kind = Custom
	if n.kind != sequence && n.kind != null {
		r.bad(n, path, "connections is "+n.kind.String(), "write a list: [\"FROM->TO\", \"TO->FROM\"]")
		return
	}
	for i, item := range n.items {
		sub := fmt.Sprintf("%s[%d]", path, i)
		l, ok := r.link(item, sub)
		if !ok {
			continue
		}
		key := path + "/" + l.From + "->" + l.To
		if first := r.nodes[key]; first != nil {
			r.bad(item, sub, fmt.Sprintf("connection \"%s->%s\" stands in the list twice, first on line %d", l.From, l.To, first.start.line), "keep one of the two")
			continue
		}
		if l.From == l.To {
			r.bad(item, sub, fmt.Sprintf("connection \"%s->%s\" leads from a server to itself", l.From, l.To), "name two servers")
			continue
		}
		r.nodes[key] = item
		t.Links = append(t.Links, l)
	}
}

// link reads "FROM->TO" or {from: FROM, to: TO, enabled: BOOL}.
func (r *reader) link(n *node, path string) (Link, bool) {
	l := Link{Enabled: true}
	bad := len(r.problems)
	if n.kind == mapping {
		r.fields(n, path, map[string]func(*node, string){
			"from":    func(n *node, p string) { r.name(n, p, &l.From) },
			"to":      func(n *node, p string) { r.name(n, p, &l.To) },
			"enabled": r.boolean(&l.Enabled),
		})
		if len(r.problems) == bad && (l.From == "" || l.To == "") {
			r.bad(n, path, "the connection does not say both from and to", "write {from: SERVER, to: SERVER}")
		}
		return l, len(r.problems) == bad
	}
	s, ok := r.str(n, path, "\"FROM->TO\"")
	if !ok {
		return l, false
	}
	if l.From, l.To, ok = splitLink(s); !ok {
		r.bad(n, path, fmt.Sprintf("connection %s is not of the form FROM->TO", quote(s)), "write \"SERVER->SERVER\", upstream first")
		return l, false
	}
	return l, true
}

func (r *reader) folder(name string, n *node, p string) *Folder {
	f := NewFolder(name)
	r.fields(n, p, map[string]func(*node, string){
		"id": r.id(&f.ID),
		"filters": func(n *node, p string) {
			r.fields(n, p, map[string]func(*node, string){
				"files":       r.patterns(&f.Filters.Files),
				"directories": r.patterns(&f.Filters.Directories),
			})
		},
		"case":               func(n *node, p string) { r.caseRule(n, p, &f.Case) },
		"directory-conflict": func(n *node, p string) { r.directoryConflict(n, p, &f.DirectoryConflict) },
		"breaker":            func(n *node, p string) { r.breaker(n, p, &f.Breaker) },
		"owners":             func(n *node, p string) { r.owners(n, p, &f.Owners) },
		"attributes":         func(n *node, p string) { r.attributes(n, p, &f.Attributes) },
		"rest":               r.duration(&f.Rest, time.Millisecond, day, false),
		"capture-busy":       r.duration(&f.CaptureBusy, time.Second, 30*day, true),
		"tombstone-lifetime": r.duration(&f.TombstoneLifetime, time.Hour, maxLifetime, false),
		"slow-sync":          r.duration(&f.SlowSync, time.Hour, 365*day, true),
		"members": func(n *node, p string) {
			r.names(n, p, "member", func(name string, n *node, p string) { f.Members = append(f.Members, r.membership(name, n, p)) })
		},
	})
	return f
}

func (r *reader) caseRule(n *node, path string, to *Case) {
	switch s, ok := r.str(n, path, "sensitive"); {
	case !ok:
	case s == "sensitive":
		*to = CaseSensitive
	case s == "insensitive":
		*to = CaseInsensitive
	default:
		r.bad(n, path, fmt.Sprintf("case is %s", quote(s)), "write sensitive or insensitive"+didYouMean(s, []string{"sensitive", "insensitive"}))
	}
}

func (r *reader) directoryConflict(n *node, path string, to *DirectoryConflict) {
	switch s, ok := r.str(n, path, "merge"); {
	case !ok:
	case s == "merge":
		*to = DirectoryMerge
	case s == "morph":
		*to = DirectoryMorph
	default:
		r.bad(n, path, fmt.Sprintf("directory-conflict is %s", quote(s)), "write merge or morph"+didYouMean(s, []string{"merge", "morph"}))
	}
}

func (r *reader) breaker(n *node, path string, to *Breaker) {
	switch s, ok := r.str(n, path, "on"); {
	case !ok:
	case s == "on":
		*to = BreakerOn
	case s == "off":
		*to = BreakerOff
	default:
		r.bad(n, path, fmt.Sprintf("breaker is %s", quote(s)), "write on or off"+didYouMean(s, []string{"on", "off"}))
	}
}

func (r *reader) owners(n *node, path string, to *Owners) {
	s, ok := r.str(n, path, OwnersNumeric.String())
	if !ok {
		return
	}
	var words []string
	for _, o := range []Owners{OwnersNumeric, OwnersByName, OwnersNone} {
		if s == o.String() {
			*to = o
			return
		}
		words = append(words, o.String())
	}
	r.bad(n, path, fmt.Sprintf("owners is %s", quote(s)), "write numeric, name or none"+didYouMean(s, words))
}

func (r *reader) attributes(n *node, path string, to *[]string) {
	words := Attributes()
	r.list(n, path, maxAddresses, func(s string, n *node, sub string) {
		switch {
		case !slices.Contains(words, s):
			r.bad(n, sub, fmt.Sprintf("attribute %s cannot be chosen", quote(s)), "write capability, selinux or trusted; user.*, ACLs and NT ACLs always replicate"+didYouMean(s, words))
		case slices.Contains(*to, s):
			r.bad(n, sub, fmt.Sprintf("attribute %q stands in the list twice", s), "keep one of the two")
		default:
			*to = append(*to, s)
			slices.Sort(*to)
		}
	})
}

func (r *reader) patterns(to *[]string) func(*node, string) {
	return func(n *node, path string) {
		*to = nil
		r.list(n, path, maxPatterns, func(s string, n *node, sub string) {
			switch {
			case s == "" || len(s) > 255:
				r.bad(n, sub, fmt.Sprintf("pattern %s has %d bytes", quote(s), len(s)), "write 1 to 255")
			case strings.ContainsAny(s, "/,"):
				r.bad(n, sub, fmt.Sprintf("pattern %s holds '/' or ','", quote(s)), "a pattern is for one name; write several as a list")
			case slices.Contains(*to, s):
				r.bad(n, sub, fmt.Sprintf("pattern %s stands in the list twice", quote(s)), "keep one of the two")
			default:
				*to = append(*to, s)
			}
		})
	}
}

func (r *reader) membership(server string, n *node, p string) *Membership {
	m := NewMembership(server, "")
	r.fields(n, p, map[string]func(*node, string){
		"id":                 r.id(&m.ID),
		"path":               func(n *node, p string) { r.rootPath(n, p, &m.Path) },
		"primary":            r.boolean(&m.Primary),
		"read-only":          r.boolean(&m.ReadOnly),
		"enabled":            r.boolean(&m.Enabled),
		"staging-quota":      r.size(&m.StagingQuota, minQuota),
		"conflict-quota":     r.size(&m.ConflictQuota, minQuota),
		"conflict-retention": r.duration(&m.ConflictRetention, 0, maxLifetime, true),
		"evicted":            r.database(&m.Evicted),
	})
	if r.nodes[p+"/path"] == nil && (n.kind == mapping || n.kind == null) {
		r.bad(r.nodes[p], p, fmt.Sprintf("member %q has no path", server), "write path: and the absolute path of the folder on that server")
	}
	if m.Primary && m.ReadOnly {
		r.bad(r.nodes[p+"/read-only"], p+"/read-only", fmt.Sprintf("member %q is primary and read-only", server), "a read-only member sends nothing of its own; remove one of the two")
	}
	return m
}

// database reads the id of a member's database, which is no object's.
func (r *reader) database(to *UUID) func(*node, string) {
	return func(n *node, path string) {
		s, ok := r.str(n, path, "a UUID")
		if !ok {
			return
		}
		u, err := ParseUUID(s)
		if err != nil {
			r.badErr(n, path, err)
		}
		*to = u
	}
}

func (r *reader) rootPath(n *node, at string, to *string) {
	s, ok := r.str(n, at, "/srv/docs")
	bad := func(what, remedy string) { r.bad(n, at, fmt.Sprintf("path %s %s", quote(s), what), remedy) }
	switch {
	case !ok:
	case !strings.HasPrefix(s, "/"):
		bad("is relative", "write an absolute path")
	case path.Clean(s) != s:
		bad("is not clean", "write "+quote(path.Clean(s)))
	case s == "/":
		bad("is the whole system", "name a directory for the folder")
	case slices.Contains(strings.Split(s, "/"), ".dfsr"):
		bad("lies in the private area of a folder", "name a directory outside .dfsr")
	case len(s) >= 4096:
		bad("is longer than 4095 bytes", "name a shorter path")
	default:
		*to = s
	}
}
