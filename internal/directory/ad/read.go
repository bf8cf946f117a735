package ad

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/schedule"
)

// reading makes a domain of a snapshot. Where Active Directory says what base
// would say there, base stands: it knows more exactly (rates between the levels,
// sizes in bytes, a topology by its name). What only we know is base's.
type reading struct {
	s    *snapshot
	base *directory.Domain
	d    *directory.Domain
	// servers are found by the DN of their computer, members by theirs; in lower case.
	servers, members map[string]*directory.Server
	names            map[string]bool
}

// read gives the domain that a snapshot shows, and fills the snapshot's keys.
// base is what was known before, nil if nothing was.
func (s *snapshot) read(base *directory.Domain) *directory.Domain {
	if base == nil {
		name, _, _ := strings.Cut(strings.TrimPrefix(s.base, "DC="), ",")
		base = &directory.Domain{Name: nameOf(strings.ToLower(name), map[string]bool{}), Term: 1}
	}
	r := &reading{
		s: s, base: base, d: base.Clone(), names: make(map[string]bool),
		servers: make(map[string]*directory.Server), members: make(map[string]*directory.Server),
	}
	for _, o := range base.Servers {
		r.names[o.Name] = true
	}
	s.keys[keyGlobal] = s.at(globalDN(s.base))
	r.knownServers()
	r.d.Groups = nil
	taken := make(map[string]bool)
	for _, o := range s.groups() {
		r.d.Groups = append(r.d.Groups, r.group(o, taken))
	}
	slices.SortFunc(r.d.Servers, func(a, b *directory.Server) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(r.d.Groups, func(a, b *directory.Group) int { return cmp.Compare(a.Name, b.Name) })
	for _, g := range r.d.Groups {
		slices.SortFunc(g.Folders, func(a, b *directory.Folder) int { return cmp.Compare(a.Name, b.Name) })
	}
	return r.d
}

// knownServers finds the computers of the servers of base.
func (r *reading) knownServers() {
	for _, o := range r.s.objects {
		if !o.isA(classComputer) {
			continue
		}
		if srv := r.known(o); srv != nil {
			r.found(o, srv)
		}
	}
}

// known gives the server of base whose computer this is.
func (r *reading) known(computer *object) *directory.Server {
	if local := r.s.at(localDN(computer.dn)); local != nil {
		if srv := r.d.Server(local.idOf()); srv != nil {
			return srv
		}
	}
	for _, srv := range r.d.Servers {
		if strings.EqualFold(account(srv.Name), computer.one("sAMAccountName")) {
			return srv
		}
	}
	return nil
}

func (r *reading) found(computer *object, srv *directory.Server) {
	r.servers[strings.ToLower(computer.dn)] = srv
	r.s.keys[keyComputer(srv.ID)] = computer
	if local := r.s.at(localDN(computer.dn)); local != nil {
		r.s.keys[keyLocal(srv.ID)] = local
	}
}

func localDN(computer string) string { return "CN=DFSR-LocalSettings," + computer }

// server gives the server of a computer, a new one if base has none; nil if there
// is no such computer.
func (r *reading) server(dn string) *directory.Server {
	if srv := r.servers[strings.ToLower(dn)]; srv != nil {
		return srv
	}
	computer := r.s.at(dn)
	if computer == nil || !computer.isA(classComputer) {
		return nil
	}
	id, _ := guidFrom(computer.one("objectGUID"))
	srv := &directory.Server{Name: nameOf(strings.ToLower(computer.one("cn")), r.names), ID: id}
	if host := computer.one("dNSHostName"); host != "" {
		if a, err := directory.ParseAddress(net.JoinHostPort(host, strconv.Itoa(directory.DefaultPort))); err == nil {
			srv.Addresses = []string{a}
		}
	}
	r.d.Servers = append(r.d.Servers, srv)
	r.found(computer, srv)
	return srv
}

// group reads a replication group.
func (r *reading) group(o *object, taken map[string]bool) *directory.Group {
	id := o.idOf()
	was := groupOf(r.base, id)
	g := &directory.Group{ID: id, Name: nameOf(o.one("cn"), taken), Topology: was.Topology}
	r.s.keys[keyGroup(id)] = o
	g.Schedule = scheduleFrom(o, was.Schedule)
	if content := first(r.s.of(classContent, o.dn)); content != nil {
		r.s.keys[keyContent(id)] = content
	}
	if topology := first(r.s.of(classTopology, o.dn)); topology != nil {
		r.s.keys[keyTopology(id)] = topology
	}
	var members []string
	for _, m := range r.s.of(classMember, o.dn) {
		srv := r.server(m.one("msDFSR-ComputerReference"))
		if srv == nil || r.s.keys[keyMember(id, srv.ID)] != nil {
			continue
		}
		r.members[strings.ToLower(m.dn)] = srv
		r.s.keys[keyMember(id, srv.ID)] = m
		members = append(members, srv.Name)
	}
	names := make(map[string]bool)
	lifetime := o.one("msDFSR-TombstoneExpiryInMin")
	for _, f := range r.s.of(classFolder, o.dn) {
		folder := r.folder(o, f, was, names)
		if n, err := strconv.Atoi(lifetime); err == nil && lifetime != tombstones(was) {
			folder.TombstoneLifetime = min(max(time.Duration(n)*time.Minute, time.Hour), maxLifetime)
		}
		g.Folders = append(g.Folders, folder)
	}
	r.connections(o, g, was, members)
	return g
}

const maxLifetime = 3650 * 24 * time.Hour

// tombstones gives the lifetime of a group's tombstones in minutes, empty if its
// folders do not agree.
func tombstones(g *directory.Group) string {
	if len(g.Folders) == 0 {
		return ""
	}
	l := g.Folders[0].TombstoneLifetime
	for _, f := range g.Folders {
		if f.TombstoneLifetime != l {
			return ""
		}
	}
	return strconv.FormatInt(int64((l+time.Minute-1)/time.Minute), 10)
}

func first(list []*object) *object {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

func groupOf(d *directory.Domain, id directory.UUID) *directory.Group {
	for _, g := range d.Groups {
		if g.ID == id {
			return g
		}
	}
	return &directory.Group{}
}

// scheduleFrom reads the schedule of a group or a connection.
func scheduleFrom(o *object, was *schedule.Schedule) *schedule.Schedule {
	blob := o.one("msDFSR-Schedule")
	if blob == "" {
		return nil
	}
	options, _ := strconv.Atoi(o.one("msDFSR-Options"))
	utc := options&optionLocalTime == 0
	if !was.AlwaysOpen() {
		if b, _ := was.Blob(); string(b) == blob && was.UTC() == utc {
			return was
		}
	}
	s, err := schedule.FromBlob([]byte(blob), utc)
	if err != nil || s.AlwaysOpen() {
		return nil
	}
	return s
}

// folder reads a content set.
func (r *reading) folder(group, o *object, of *directory.Group, names map[string]bool) *directory.Folder {
	id := o.idOf()
	f := directory.NewFolder("")
	for _, was := range of.Folders {
		if was.ID == id {
			c := *was
			f = &c
		}
	}
	was := *f
	f.ID, f.Name, f.Members = id, nameOf(o.one("cn"), names), nil
	if text := o.one("msDFSR-FileFilter"); text != filterToAD(f.Filters.Files) && text != "" {
		f.Filters.Files = filterFromAD(text)
	}
	if text := o.one("msDFSR-DirectoryFilter"); text != filterToAD(f.Filters.Directories) {
		f.Filters.Directories = filterFromAD(text)
	}
	r.s.keys[keyFolder(id)] = o
	guid := o.one("objectGUID")
	for _, sub := range r.s.of(classSubscription, r.s.base) {
		if sub.one("msDFSR-ContentSetGuid") == guid && sub.one("msDFSR-ReplicationGroupGuid") == group.one("objectGUID") {
			r.membership(group, sub, f, &was)
		}
	}
	slices.SortFunc(f.Members, func(a, b *directory.Membership) int { return cmp.Compare(a.Server, b.Server) })
	primary := false
	for _, m := range f.Members { // only one can be, and not one that is read-only
		m.Primary = m.Primary && !primary && !m.ReadOnly
		primary = primary || m.Primary
	}
	return f
}

// membership reads a subscription.
func (r *reading) membership(group, o *object, f, was *directory.Folder) {
	subscriber := r.s.at(parent(o.dn))
	srv := r.server(parent(parent(parent(o.dn))))
	root := o.one("msDFSR-RootPath")
	if subscriber == nil || srv == nil || root == "" || f.Member(srv.Name) != nil {
		return
	}
	groupID := group.idOf()
	r.s.keys[keySubscriber(groupID, srv.ID)] = subscriber
	m := directory.NewMembership(srv.Name, pathFromAD(root))
	m.ID = o.idOf()
	for _, old := range was.Members {
		if old.ID == m.ID {
			c := *old
			c.Server = srv.Name
			if pathToAD(c.Path) != root {
				c.Path = m.Path
			}
			m = &c
		}
	}
	options, _ := strconv.Atoi(o.one("msDFSR-Options"))
	m.Primary = options&optionPrimary != 0
	m.ReadOnly = boolFrom(o.one("msDFSR-ReadOnly"), false)
	m.Enabled = boolFrom(o.one("msDFSR-Enabled"), true)
	m.StagingQuota = sizeFrom(o.one("msDFSR-StagingSizeInMb"), m.StagingQuota)
	m.ConflictQuota = sizeFrom(o.one("msDFSR-ConflictSizeInMb"), m.ConflictQuota)
	f.Members = append(f.Members, m)
	r.s.keys[keyMembership(m.ID)] = o
}

// The bits of msDFSR-Options (MS-FRS2 sections 2.3.5, 2.3.11 and 2.3.13).
const (
	optionLocalTime = 1 // of a group, a connection
	optionPrimary   = 1 // of a subscription
)

// connections reads who is connected with whom, and with which schedule.
func (r *reading) connections(group *object, g, was *directory.Group, members []string) {
	var links []directory.Link
	for _, o := range r.s.of(classConnection, group.dn) {
		to, from := r.members[strings.ToLower(parent(o.dn))], r.members[strings.ToLower(o.one("fromServer"))]
		if to == nil || from == nil || to == from || r.s.keys[keyConnection(g.ID, from.ID, to.ID)] != nil {
			continue // of two the first by GUID counts
		}
		r.s.keys[keyConnection(g.ID, from.ID, to.ID)] = o
		links = append(links, directory.Link{From: from.Name, To: to.Name, Enabled: boolFrom(o.one("msDFSR-Enabled"), true)})
		r.exception(o, g, was, from, to)
	}
	slices.SortFunc(links, func(a, b directory.Link) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	for _, e := range was.Exceptions { // of connections that there are not
		if !slices.ContainsFunc(links, func(l directory.Link) bool { return l.From == e.From && l.To == e.To }) && !linked(was, e.From, e.To) {
			g.Exceptions = append(g.Exceptions, e)
		}
	}
	slices.SortFunc(g.Exceptions, func(a, b directory.Exception) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	g.Topology = topology(was.Topology, links, members, !was.ID.IsZero())
}

// exception keeps the schedule of a connection if it is not the group's.
func (r *reading) exception(o *object, g, was *directory.Group, from, to *directory.Server) {
	if !o.has("msDFSR-Schedule") {
		return
	}
	var own *schedule.Schedule
	for _, e := range was.Exceptions {
		if e.From == from.Name && e.To == to.Name {
			own = e.Schedule
		}
	}
	s := scheduleFrom(o, own)
	if s == nil {
		s = schedule.Uniform(schedule.Full)
	}
	if own == nil && s.Equal(g.Schedule) {
		return
	}
	g.Exceptions = append(g.Exceptions, directory.Exception{From: from.Name, To: to.Name, Schedule: s})
}

func linked(g *directory.Group, from, to string) bool {
	return slices.ContainsFunc(g.Topology.Links, func(l directory.Link) bool { return l.From == from && l.To == to }) || g.Topology.Linked(from, to)
}

// topology names what connections make of members: what it was if they are those
// it makes, else a full mesh, hubs, or the list.
func topology(was directory.Topology, links []directory.Link, members []string, known bool) directory.Topology {
	if known && slices.Equal(links, linksOf(was, members)) {
		return was
	}
	if len(members) < 2 && len(links) == 0 {
		return was
	}
	if mesh := (directory.Topology{}); slices.Equal(links, linksOf(mesh, members)) {
		return mesh
	}
	var hubs []string
	for _, m := range members {
		n := 0
		for _, l := range links {
			if l.From == m && l.Enabled {
				n++
			}
		}
		if n == len(members)-1 {
			hubs = append(hubs, m)
		}
	}
	slices.Sort(hubs)
	if spokes := (directory.Topology{Kind: directory.HubAndSpoke, Hubs: hubs}); len(hubs) > 0 && slices.Equal(links, linksOf(spokes, members)) {
		return spokes
	}
	return directory.Topology{Kind: directory.Custom, Links: links}
}

// linksOf lists the connections of a topology over members, in order.
func linksOf(t directory.Topology, members []string) []directory.Link {
	if t.Kind == directory.Custom {
		var list []directory.Link
		for _, l := range t.Links {
			if slices.Contains(members, l.From) && slices.Contains(members, l.To) {
				list = append(list, l)
			}
		}
		return list
	}
	members = slices.Sorted(slices.Values(members))
	var list []directory.Link
	for _, from := range members {
		for _, to := range members {
			if t.Linked(from, to) {
				list = append(list, directory.Link{From: from, To: to, Enabled: true})
			}
		}
	}
	return list
}
