package directory

import (
	"slices"

	"opendfs/internal/schedule"
)

// Server finds a server by its id, nil if there is none.
func (d *Domain) Server(id UUID) *Server {
	return found(d.Servers, func(s *Server) bool { return s.ID == id })
}

// ServerByName finds a server by its name, nil if there is none.
func (d *Domain) ServerByName(name string) *Server {
	return found(d.Servers, func(s *Server) bool { return s.Name == name })
}

// found is the first of a list that fits, nil if none does.
func found[T any](list []*T, fits func(*T) bool) *T {
	if i := slices.IndexFunc(list, fits); i >= 0 {
		return list[i]
	}
	return nil
}

// GroupByName finds a group by its name, nil if there is none.
func (d *Domain) GroupByName(name string) *Group {
	return found(d.Groups, func(g *Group) bool { return g.Name == name })
}

// Folder finds a replicated folder and its group by the folder's id, nil if
// there is none.
func (d *Domain) Folder(id UUID) (*Group, *Folder) {
	for _, g := range d.Groups {
		for _, f := range g.Folders {
			if f.ID == id {
				return g, f
			}
		}
	}
	return nil, nil
}

// FolderByName finds a folder of the group by its name, nil if there is none.
func (g *Group) FolderByName(name string) *Folder {
	return found(g.Folders, func(f *Folder) bool { return f.Name == name })
}

// ScheduleOf gives the schedule of a connection between two servers, by name:
// its own, or the group's; nil is always open.
func (g *Group) ScheduleOf(from, to string) *schedule.Schedule {
	if s := g.exception(from, to); s != nil {
		return s
	}
	return g.Schedule
}

// TransferOf says how a connection between two servers, by name, brings contents.
func (g *Group) TransferOf(from, to string) Transfer {
	for _, e := range g.Transfers {
		if e.From == from && e.To == to {
			return e.Transfer
		}
	}
	return DefaultTransfer()
}

// TransferOf says how the downstream brings a folder's contents from the upstream.
// All three are ids.
func (d *Domain) TransferOf(folder, upstream, downstream UUID) Transfer {
	up, down := d.Server(upstream), d.Server(downstream)
	g, f := d.Folder(folder)
	if up == nil || down == nil || f == nil {
		return DefaultTransfer()
	}
	return g.TransferOf(up.Name, down.Name)
}

func (g *Group) exception(from, to string) *schedule.Schedule {
	for _, e := range g.Exceptions {
		if e.From == from && e.To == to {
			return e.Schedule
		}
	}
	return nil
}

// Member finds the membership of a server, by its name; nil if there is none.
func (f *Folder) Member(server string) *Membership {
	return found(f.Members, func(m *Membership) bool { return m.Server == server })
}

// group finds a group by its id, or by name if the id is zero; an empty group
// if there is none. So do folder and membershipOf.
func (d *Domain) group(id UUID, name string) *Group {
	for _, g := range d.Groups {
		if g.ID == id || id.IsZero() && g.Name == name {
			return g
		}
	}
	return &Group{}
}

func (g *Group) folder(id UUID, name string) *Folder {
	for _, f := range g.Folders {
		if f.ID == id || id.IsZero() && f.Name == name {
			return f
		}
	}
	return &Folder{}
}

// membershipOf finds the membership of the server that s is in d, under
// whatever name.
func (f *Folder) membershipOf(d *Domain, s *Server) *Membership {
	for _, m := range f.Members {
		if o := d.ServerByName(m.Server); s != nil && o != nil && o.ID == s.ID {
			return m
		}
	}
	return &Membership{}
}

func idOf(s *Server) UUID {
	if s == nil {
		return UUID{}
	}
	return s.ID
}

// objects visits the id of every object with the name that commands use.
func (d *Domain) objects(visit func(name string, id *UUID)) {
	visit("domain "+d.Name, &d.ID)
	for _, s := range d.Servers {
		visit("server "+s.Name, &s.ID)
	}
	for _, a := range d.Admins {
		visit("admin "+a.Name, &a.ID)
	}
	for _, g := range d.Groups {
		visit("group "+g.Name, &g.ID)
		for _, f := range g.Folders {
			name := g.Name + "/" + f.Name
			visit("folder "+name, &f.ID)
			for _, m := range f.Members {
				visit("membership "+name+"@"+m.Server, &m.ID)
			}
		}
	}
}

// ListenAddresses gives where the server listens: what it says, or every
// interface at the port of its first address, or at DefaultPort.
func (s *Server) ListenAddresses() []string {
	if len(s.Listen) > 0 {
		return slices.Clone(s.Listen)
	}
	if len(s.Addresses) > 0 {
		first := s.Addresses[0]
		return []string{first[lastColon(first):]}
	}
	return []string{":7440"}
}

func lastColon(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == ':' {
			return i
		}
	}
	return len(s)
}

// members gives the names of the servers that have a membership in any folder
// of the group, in order.
func (g *Group) members() []string {
	var names []string
	for _, f := range g.Folders {
		for _, m := range f.Members {
			names = append(names, m.Server)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Linked says that the topology has an enabled connection over which the
// server named to pulls from the server named from. Whether they are members
// is not asked.
func (t *Topology) Linked(from, to string) bool {
	if from == to {
		return false
	}
	switch t.Kind {
	case HubAndSpoke:
		return slices.Contains(t.Hubs, from) || slices.Contains(t.Hubs, to)
	case Custom:
		return slices.Contains(t.Links, Link{From: from, To: to, Enabled: true})
	}
	return true
}

// Connection is one way between two servers: To, the downstream, pulls from
// From, the upstream. Both are ids of servers.
type Connection struct {
	From, To UUID
}

// Connections expands the topology of a group over all servers that have a
// membership in one of its folders, enabled or not: in a full mesh every pair
// both ways, with hubs every pair that has a hub both ways, else the enabled
// ones of the list. The order is that of the servers' names.
func (d *Domain) Connections(g *Group) []Connection {
	var list []Connection
	members := g.members()
	for _, from := range members {
		for _, to := range members {
			a, b := d.ServerByName(from), d.ServerByName(to)
			if a != nil && b != nil && g.Topology.Linked(from, to) {
				list = append(list, Connection{a.ID, b.ID})
			}
		}
	}
	return list
}

// MayServe says whether the upstream server may serve the folder to the
// downstream server: the directory names a connection between them in the
// folder's group, and both have enabled memberships in the folder. All three
// are ids.
func (d *Domain) MayServe(folder, upstream, downstream UUID) bool {
	up, down := d.Server(upstream), d.Server(downstream)
	g, f := d.Folder(folder)
	return up != nil && down != nil && f != nil && mayServe(g, f, up.Name, down.Name)
}

func mayServe(g *Group, f *Folder, up, down string) bool {
	u, d := f.Member(up), f.Member(down)
	return u != nil && u.Enabled && d != nil && d.Enabled && g.Topology.Linked(up, down)
}

// Upstreams gives the servers from which a server pulls a folder, both by id,
// in the order of names.
func (d *Domain) Upstreams(folder, server UUID) []*Server {
	return d.partners(folder, server, func(g *Group, f *Folder, me, other string) bool { return mayServe(g, f, other, me) })
}

// Downstreams gives the servers that pull a folder from a server, both by id,
// in the order of names.
func (d *Domain) Downstreams(folder, server UUID) []*Server {
	return d.partners(folder, server, mayServe)
}

func (d *Domain) partners(folder, server UUID, is func(g *Group, f *Folder, me, other string) bool) []*Server {
	me := d.Server(server)
	g, f := d.Folder(folder)
	if me == nil || f == nil {
		return nil
	}
	var list []*Server
	for _, s := range d.Servers {
		if is(g, f, me.Name, s.Name) {
			list = append(list, s)
		}
	}
	return list
}

// MembershipView is a membership with where it stands in the domain.
type MembershipView struct {
	Group  *Group
	Folder *Folder
	*Membership
}

// Name is the folder as commands name it: GROUP/FOLDER.
func (v MembershipView) Name() string { return v.Group.Name + "/" + v.Folder.Name }

// Memberships gives what a server, by id, is a member of, enabled or not, in
// the order of the names of groups and folders. The views share the domain.
func (d *Domain) Memberships(server UUID) []MembershipView {
	s := d.Server(server)
	if s == nil {
		return nil
	}
	var list []MembershipView
	for _, g := range d.Groups {
		for _, f := range g.Folders {
			if m := f.Member(s.Name); m != nil {
				list = append(list, MembershipView{g, f, m})
			}
		}
	}
	return list
}
