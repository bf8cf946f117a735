package directory

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Op is what a Change does to its object.
type Op uint8

// The operations.
const (
	Add Op = iota + 1
	Remove
	Rename
	Set
)

// String gives the word of a change's line.
func (o Op) String() string {
	return [...]string{"", "add", "remove", "rename", "set"}[o]
}

// Change is one difference between two domains, for people.
type Change struct {
	Op Op
	// Object is named as commands name it, with its kind: "server branch",
	// "folder projects/docs", "membership projects/docs@branch".
	Object string
	// Detail is what changes: "path /srv/a -> /srv/b"; what a new object has
	// that is not a default: "path /srv/a; primary yes"; the new name of a
	// Rename. It may be empty.
	Detail string
	// Property, Before and After are the Detail of a Set in parts.
	Property, Before, After string
}

// String gives the line of `dfs apply --dry-run`.
func (c Change) String() string {
	switch c.Op {
	case Set:
		return c.Object + ": " + c.Detail
	case Rename:
		return fmt.Sprintf("rename %s -> %s", c.Object, c.Detail)
	}
	if c.Detail != "" {
		return fmt.Sprintf("%v %s: %s", c.Op, c.Object, c.Detail)
	}
	return fmt.Sprintf("%v %s", c.Op, c.Object)
}

// Diff lists what turns the domain old into new, in the order of new and with
// what is removed behind what stays. Objects are the same if their ids are; an
// object without an id is the one of the same name. A nil old is an empty
// domain. Generation and term are not differences.
func Diff(old, new *Domain) []Change {
	if old == nil {
		old = &Domain{}
	}
	old = underNewNames(old, new)
	d := &differ{}
	d.set("domain "+new.Name, "name", old.Name, new.Name)
	if old.ID != new.ID && !old.ID.IsZero() && !new.ID.IsZero() {
		d.set("domain "+new.Name, "id", old.ID.String(), new.ID.String())
	}
	d.set("domain "+new.Name, "directory", old.Home.String(), new.Home.String())
	old = d.identities(old, new)
	matched(d, "server ", old.Servers, new.Servers,
		func(s *Server) (string, UUID) { return s.Name, s.ID }, d.server)
	matched(d, "admin ", old.Admins, new.Admins,
		func(a *Admin) (string, UUID) { return a.Name, a.ID }, func(string, *Admin, *Admin) {})
	d.grants(old, new)
	matched(d, "group ", old.Groups, new.Groups,
		func(g *Group) (string, UUID) { return g.Name, g.ID },
		func(name string, o, n *Group) {
			d.set("group "+name, "topology", topologyText(o), topologyText(n))
			d.set("group "+name, "schedule", o.Schedule.String(), n.Schedule.String())
			d.exceptions(name, o, n)
			d.transfers(name, o, n)
			d.folders(name, o, n)
		})
	return d.changes
}

// underNewNames gives old with the servers that new renames under their new
// names wherever they are referred to: a reference that follows is no change.
func underNewNames(old, new *Domain) *Domain {
	names := make(map[string]string)
	for _, s := range old.Servers {
		if n := new.Server(s.ID); n != nil && !s.ID.IsZero() && n.Name != s.Name {
			names[s.Name] = n.Name
		}
	}
	if len(names) == 0 {
		return old
	}
	now := func(name *string) {
		if n, ok := names[*name]; ok {
			*name = n
		}
	}
	old = old.Clone()
	for was, is := range names {
		old.Home.Rename(was, is)
	}
	for i := range old.Grants {
		if old.Grants[i].To.Kind == PrincipalServer {
			now(&old.Grants[i].To.Name)
		}
	}
	for _, g := range old.Groups {
		for i := range g.Exceptions {
			now(&g.Exceptions[i].From)
			now(&g.Exceptions[i].To)
		}
		for i := range g.Transfers {
			now(&g.Transfers[i].From)
			now(&g.Transfers[i].To)
		}
		for i := range g.Topology.Hubs {
			now(&g.Topology.Hubs[i])
		}
		for i := range g.Topology.Links {
			now(&g.Topology.Links[i].From)
			now(&g.Topology.Links[i].To)
		}
		for _, f := range g.Folders {
			for _, m := range f.Members {
				now(&m.Server)
			}
		}
	}
	for _, g := range old.Groups {
		slices.Sort(g.Topology.Hubs)
		slices.SortFunc(g.Topology.Links, compareLinks)
	}
	return old
}

type differ struct{ changes []Change }

// identities lists the servers that have another identity under their old name, and
// gives old with those: what is left is what else has become of them.
func (d *differ) identities(old, new *Domain) *Domain {
	out := old
	for i, s := range old.Servers {
		n := new.ServerByName(s.Name)
		if n == nil || n.ID == s.ID || n.ID.IsZero() || s.ID.IsZero() || new.Server(s.ID) != nil || old.Server(n.ID) != nil {
			continue
		}
		if out == old {
			out = old.Clone()
		}
		out.Servers[i].ID = n.ID
		d.changes = append(d.changes, Change{
			Op: Set, Object: "server " + s.Name, Property: "id", Before: s.ID.String(), After: n.ID.String(),
			Detail: fmt.Sprintf("identity %v is revoked: whoever has it is shut out; memberships stay for the machine that is invited by that name", s.ID),
		})
	}
	return out
}

func (d *differ) add(op Op, object, detail string) {
	d.changes = append(d.changes, Change{Op: op, Object: object, Detail: detail})
}

// set adds a change of one property if it is one; an empty text is shown as
// "none".
func (d *differ) set(object, property, old, new string) {
	if old != new {
		d.changes = append(d.changes, Change{
			Op: Set, Object: object, Detail: fmt.Sprintf("%s %s -> %s", property, orNone(old), orNone(new)),
			Property: property, Before: orNone(old), After: orNone(new),
		})
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// matched pairs the objects of two lists. An object of new without a
// counterpart is added, and then compared with an empty one by same, which
// lists what is inside it.
func matched[T any](d *differ, kind string, old, new []*T, key func(*T) (string, UUID), same func(name string, o, n *T)) {
	gone := slices.Clone(old)
	for _, n := range new {
		name, id := key(n)
		i := slices.IndexFunc(gone, func(o *T) bool {
			on, oid := key(o)
			return oid == id && !id.IsZero() || on == name && (oid.IsZero() || id.IsZero())
		})
		if i < 0 {
			at := len(d.changes)
			d.add(Add, kind+name, "")
			same(name, new0[T](), n)
			d.fold(at)
			continue
		}
		o := gone[i]
		gone = slices.Delete(gone, i, i+1)
		if on, _ := key(o); on != name {
			d.add(Rename, kind+on, name)
		}
		same(name, o, n)
	}
	for _, o := range gone {
		name, _ := key(o)
		d.add(Remove, kind+name, "")
	}
}

func new0[T any]() *T { return new(T) }

// fold takes what is set on the object that the change at adds into that
// change, and leaves the changes of what is inside it.
func (d *differ) fold(at int) {
	added := &d.changes[at]
	var has []string
	for _, c := range d.changes[at+1:] {
		if c.Op == Set && c.Object == added.Object {
			has = append(has, c.Property+" "+c.After)
		}
	}
	added.Detail = strings.Join(has, "; ")
	object := added.Object
	d.changes = slices.DeleteFunc(d.changes, func(c Change) bool { return c.Op == Set && c.Object == object })
}

func (d *differ) server(name string, o, n *Server) {
	d.set("server "+name, "address", strings.Join(o.Addresses, ", "), strings.Join(n.Addresses, ", "))
	d.set("server "+name, "listen", strings.Join(o.Listen, ", "), strings.Join(n.Listen, ", "))
	d.set("server "+name, "max-rate", maxRateText(o), maxRateText(n))
	d.set("server "+name, "log-level", o.LogLevel.String(), n.LogLevel.String())
	d.set("server "+name, "clock-skew", FormatDuration(o.MaxSkew()), FormatDuration(n.MaxSkew()))
	d.set("server "+name, "transfers-in", transfersText(o.TransfersIn), transfersText(n.TransfersIn))
	d.set("server "+name, "transfers-out", transfersText(o.TransfersOut), transfersText(n.TransfersOut))
}

// grants lists whose roles change.
func (d *differ) grants(old, new *Domain) {
	var all []Grant
	for _, g := range slices.Concat(old.Grants, new.Grants) {
		all = append(all, Grant{To: g.To})
	}
	slices.SortFunc(all, compareGrants)
	all = slices.CompactFunc(all, func(a, b Grant) bool { return a.To == b.To })
	text := func(d *Domain, to Principal) string {
		if r := d.RightsOf(to); len(r) > 0 {
			return r.String()
		}
		return ""
	}
	for _, g := range all {
		d.set("grant to "+g.To.String(), "roles", text(old, g.To), text(new, g.To))
	}
}

// transfersText is empty for the default, which a server that is made has too.
func transfersText(n uint64) string {
	if n == 0 || n == DefaultTransfers {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

func maxRateText(s *Server) string {
	if s.MaxRate == 0 {
		return ""
	}
	return s.MaxRate.String()
}

// exceptions lists the connections of a group whose own schedule changes.
func (d *differ) exceptions(group string, o, n *Group) {
	var links []Link
	for _, e := range slices.Concat(o.Exceptions, n.Exceptions) {
		links = append(links, Link{From: e.From, To: e.To})
	}
	slices.SortFunc(links, compareLinks)
	text := func(g *Group, l Link) string {
		if s := g.exception(l.From, l.To); s != nil {
			return s.String()
		}
		return "the group's"
	}
	for _, l := range slices.Compact(links) {
		d.set("connection "+group+" "+l.From+"->"+l.To, "schedule", text(o, l), text(n, l))
	}
}

// transfers lists the connections of a group that bring contents in another way.
func (d *differ) transfers(group string, o, n *Group) {
	var links []Link
	for _, e := range slices.Concat(o.Transfers, n.Transfers) {
		links = append(links, Link{From: e.From, To: e.To})
	}
	slices.SortFunc(links, compareLinks)
	for _, l := range slices.Compact(links) {
		d.set("connection "+group+" "+l.From+"->"+l.To, "transfer", o.TransferOf(l.From, l.To).String(), n.TransferOf(l.From, l.To).String())
	}
}

func (d *differ) folders(group string, o, n *Group) {
	prefix := "folder " + group + "/"
	matched(d, prefix, o.Folders, n.Folders,
		func(f *Folder) (string, UUID) { return f.Name, f.ID },
		func(name string, o, n *Folder) {
			object := prefix + name
			if o.Name == "" { // new: only what is not a default is worth a line
				o = &Folder{Filters: Filters{Files: DefaultFileFilter()}, Rest: DefaultRest, TombstoneLifetime: DefaultTombstoneLifetime, SlowSync: DefaultSlowSync}
			}
			d.set(object, "file filter", strings.Join(o.Filters.Files, ", "), strings.Join(n.Filters.Files, ", "))
			d.set(object, "directory filter", strings.Join(o.Filters.Directories, ", "), strings.Join(n.Filters.Directories, ", "))
			d.set(object, "case", o.Case.String(), n.Case.String())
			d.set(object, "directory-conflict", o.DirectoryConflict.String(), n.DirectoryConflict.String())
			d.set(object, "breaker", o.Breaker.String(), n.Breaker.String())
			d.set(object, "owners", o.Owners.String(), n.Owners.String())
			d.set(object, "attributes", strings.Join(o.Attributes, ", "), strings.Join(n.Attributes, ", "))
			d.set(object, "rest", FormatDuration(o.Rest), FormatDuration(n.Rest))
			d.set(object, "capture-busy", FormatDuration(o.CaptureBusy), FormatDuration(n.CaptureBusy))
			d.set(object, "tombstone-lifetime", FormatDuration(o.TombstoneLifetime), FormatDuration(n.TombstoneLifetime))
			d.set(object, "slow-sync", FormatDuration(o.SlowSync), FormatDuration(n.SlowSync))
			d.members(group+"/"+name, o, n)
		})
}

func (d *differ) members(folder string, o, n *Folder) {
	prefix := "membership " + folder + "@"
	matched(d, prefix, o.Members, n.Members,
		func(m *Membership) (string, UUID) { return m.Server, m.ID },
		func(name string, o, n *Membership) {
			object := prefix + name
			if o.Server == "" {
				o = NewMembership(name, "")
			}
			d.set(object, "path", o.Path, n.Path)
			d.set(object, "primary", yes(o.Primary), yes(n.Primary))
			d.set(object, "read-only", yes(o.ReadOnly), yes(n.ReadOnly))
			d.set(object, "enabled", yes(o.Enabled), yes(n.Enabled))
			d.set(object, "staging-quota", o.StagingQuota.String(), n.StagingQuota.String())
			d.set(object, "conflict-quota", o.ConflictQuota.String(), n.ConflictQuota.String())
			d.set(object, "conflict-retention", FormatDuration(o.ConflictRetention), FormatDuration(n.ConflictRetention))
			d.set(object, "evicted", evicted(o), evicted(n))
		})
}

func evicted(m *Membership) string {
	if m.Evicted.IsZero() {
		return "no"
	}
	return m.Evicted.String()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func topologyText(g *Group) string {
	if g.Name == "" {
		return ""
	}
	t := g.Topology
	switch t.Kind {
	case HubAndSpoke:
		return "hub-and-spoke of " + strings.Join(t.Hubs, ", ")
	case Custom:
		list := make([]string, len(t.Links))
		for i, l := range t.Links {
			list[i] = l.From + "->" + l.To
			if !l.Enabled {
				list[i] += " (disabled)"
			}
		}
		return "connections " + strings.Join(list, ", ")
	}
	return t.Kind.String()
}
