package ad

import (
	"crypto/sha256"
	"slices"
	"strconv"

	"opendfs/internal/directory"
	"opendfs/internal/schedule"
)

// want is one object as it is to be.
type want struct {
	key, above string // its key, and that of the object above
	class, cn  string
	id         directory.UUID // ours, for msDFSR-Extension; zero if it has none
	// values are those of the attributes that we care for; empty: none. References
	// are filled in by needs, for what they name may have to be made first.
	values map[string]string
	needs  []reference
}

// reference is an attribute that holds the DN or the GUID of another object.
type reference struct {
	attribute, key string
	guid           bool
}

// project lists the objects that a domain needs, each behind those it needs.
func project(d *directory.Domain) []want {
	p := &projection{d: d}
	for _, s := range d.Servers {
		if p.takesPart(s) {
			p.put(want{key: keyComputer(s.ID), above: keyComputers, class: classComputer, cn: s.Name})
		}
	}
	p.put(want{key: keyGlobal, above: keySystem, class: classGlobal, cn: "DFSR-GlobalSettings"})
	for _, g := range d.Groups {
		p.group(g)
	}
	for _, s := range d.Servers {
		p.local(s)
	}
	return p.list
}

type projection struct {
	d    *directory.Domain
	list []want
}

func (p *projection) put(w want) { p.list = append(p.list, w) }

// members gives the servers with a membership in a group, in the order of names.
func (p *projection) members(g *directory.Group) []string {
	var names []string
	for _, f := range g.Folders {
		for _, m := range f.Members {
			names = append(names, m.Server)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// derived makes an id of what it is for, so that two who make the same object at
// once make one.
func derived(parts ...string) directory.UUID {
	h := sha256.New()
	for _, s := range parts {
		h.Write([]byte(s + "\x00"))
	}
	u := directory.UUID(h.Sum(nil)[:16])
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80 // version 8
	return u
}

func (p *projection) group(g *directory.Group) {
	of := map[string]string{"msDFSR-ReplicationGroupType": "0", "msDFSR-TombstoneExpiryInMin": tombstones(g)}
	putSchedule(of, g.Schedule)
	p.put(want{key: keyGroup(g.ID), above: keyGlobal, class: classGroup, cn: g.Name, id: g.ID, values: of})
	p.put(want{key: keyContent(g.ID), above: keyGroup(g.ID), class: classContent, cn: "Content"})
	p.put(want{key: keyTopology(g.ID), above: keyGroup(g.ID), class: classTopology, cn: "Topology"})
	for _, f := range g.Folders {
		p.put(want{key: keyFolder(f.ID), above: keyContent(g.ID), class: classFolder, cn: f.Name, id: f.ID, values: map[string]string{
			"msDFSR-FileFilter": filterToAD(f.Filters.Files), "msDFSR-DirectoryFilter": filterToAD(f.Filters.Directories),
		}})
	}
	members := p.members(g)
	for _, name := range members {
		s := p.d.ServerByName(name)
		p.put(want{key: keyMember(g.ID, s.ID), above: keyTopology(g.ID), class: classMember, cn: guidText(derived("member", g.ID.String(), s.ID.String())),
			needs: []reference{{"msDFSR-ComputerReference", keyComputer(s.ID), false}}})
	}
	for _, l := range linksOf(g.Topology, members) {
		p.connection(g, l)
	}
}

func (p *projection) connection(g *directory.Group, l directory.Link) {
	from, to := p.d.ServerByName(l.From), p.d.ServerByName(l.To)
	of := map[string]string{"msDFSR-Enabled": boolTo(l.Enabled), "msDFSR-RdcEnabled": "TRUE", "msDFSR-RdcMinFileSizeInKb": "64", "msDFSR-Schedule": "", "msDFSR-Options": "0"}
	for _, e := range g.Exceptions {
		if e.From == l.From && e.To == l.To {
			putSchedule(of, e.Schedule)
			if e.Schedule.AlwaysOpen() { // unlike the group's
				b, _ := schedule.Uniform(schedule.Full).Blob()
				of["msDFSR-Schedule"] = string(b)
			}
		}
	}
	p.put(want{key: keyConnection(g.ID, from.ID, to.ID), above: keyMember(g.ID, to.ID), class: classConnection,
		cn:     guidText(derived("connection", g.ID.String(), from.ID.String(), to.ID.String())),
		values: of, needs: []reference{{"fromServer", keyMember(g.ID, from.ID), false}}})
}

// putSchedule writes a schedule and whose clock it goes by.
func putSchedule(of map[string]string, s *schedule.Schedule) {
	of["msDFSR-Schedule"], of["msDFSR-Options"] = "", "0"
	if s.AlwaysOpen() {
		return
	}
	b, _ := s.Blob()
	of["msDFSR-Schedule"] = string(b)
	if !s.UTC() {
		of["msDFSR-Options"] = number(optionLocalTime)
	}
}

func (p *projection) takesPart(s *directory.Server) bool {
	return slices.ContainsFunc(p.d.Groups, func(g *directory.Group) bool { return slices.Contains(p.members(g), s.Name) })
}

// local makes what a server's computer says of its memberships.
func (p *projection) local(s *directory.Server) {
	if !p.takesPart(s) {
		return
	}
	p.put(want{key: keyLocal(s.ID), above: keyComputer(s.ID), class: classLocal, cn: "DFSR-LocalSettings", id: s.ID, values: map[string]string{"msDFSR-Version": "1.0.0.0"}})
	for _, g := range p.d.Groups {
		if !slices.Contains(p.members(g), s.Name) {
			continue
		}
		p.put(want{key: keySubscriber(g.ID, s.ID), above: keyLocal(s.ID), class: classSubscriber, cn: guidText(derived("subscriber", g.ID.String())),
			needs: []reference{{"msDFSR-ReplicationGroupGuid", keyGroup(g.ID), true}, {"msDFSR-MemberReference", keyMember(g.ID, s.ID), false}}})
		for _, f := range g.Folders {
			if m := f.Member(s.Name); m != nil {
				p.membership(g, f, s, m)
			}
		}
	}
}

func (p *projection) membership(g *directory.Group, f *directory.Folder, s *directory.Server, m *directory.Membership) {
	root := pathToAD(m.Path)
	options := 0
	if m.Primary {
		options = optionPrimary
	}
	p.put(want{key: keyMembership(m.ID), above: keySubscriber(g.ID, s.ID), class: classSubscription, cn: guidText(derived("subscription", m.ID.String())), id: m.ID,
		values: map[string]string{
			"msDFSR-RootPath": root, "msDFSR-StagingPath": under(root, "Staging", "staging"), "msDFSR-ConflictPath": under(root, "ConflictAndDeleted", "conflicts"),
			"msDFSR-StagingSizeInMb": mib(m.StagingQuota), "msDFSR-ConflictSizeInMb": mib(m.ConflictQuota),
			"msDFSR-Enabled": boolTo(m.Enabled), "msDFSR-ReadOnly": boolTo(m.ReadOnly), "msDFSR-Options": strconv.Itoa(options),
		},
		needs: []reference{{"msDFSR-ReplicationGroupGuid", keyGroup(g.ID), true}, {"msDFSR-ContentSetGuid", keyFolder(f.ID), true}}})
}
