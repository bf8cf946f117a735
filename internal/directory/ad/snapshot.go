package ad

import (
	"fmt"
	"slices"
	"strings"

	"opendfs/internal/directory"

	"github.com/go-ldap/ldap/v3"
)

// The classes of DFSR (MS-FRS2 section 2.3).
const (
	classGlobal       = "msDFSR-GlobalSettings"
	classGroup        = "msDFSR-ReplicationGroup"
	classContent      = "msDFSR-Content"
	classFolder       = "msDFSR-ContentSet"
	classTopology     = "msDFSR-Topology"
	classMember       = "msDFSR-Member"
	classConnection   = "msDFSR-Connection"
	classLocal        = "msDFSR-LocalSettings"
	classSubscriber   = "msDFSR-Subscriber"
	classSubscription = "msDFSR-Subscription"
	classComputer     = "computer"
)

// groupSYSVOL is the type of the group that domain controllers keep for
// themselves: it has no connections of its own and is not ours to touch.
const groupSYSVOL = "1"

// snapshot is what Active Directory says of replication, as objects.
type snapshot struct {
	base    string
	objects map[string]*object // by DN in lower case
	// keys finds objects by what they are (key…).
	keys map[string]*object
}

// The keys of objects: what they are of, by ids of ours.
const (
	keyGlobal    = "global"
	keySystem    = "system"
	keyComputers = "computers"
)

func keyGroup(g directory.UUID) string         { return "group " + g.String() }
func keyContent(g directory.UUID) string       { return "content " + g.String() }
func keyTopology(g directory.UUID) string      { return "topology " + g.String() }
func keyFolder(f directory.UUID) string        { return "folder " + f.String() }
func keyMember(g, s directory.UUID) string     { return "member " + g.String() + " " + s.String() }
func keyComputer(s directory.UUID) string      { return "computer " + s.String() }
func keyLocal(s directory.UUID) string         { return "local " + s.String() }
func keySubscriber(g, s directory.UUID) string { return "subscriber " + g.String() + " " + s.String() }
func keyMembership(m directory.UUID) string    { return "membership " + m.String() }
func keyConnection(g, from, to directory.UUID) string {
	return "connection " + g.String() + " " + from.String() + " " + to.String()
}

func globalDN(base string) string { return "CN=DFSR-GlobalSettings,CN=System," + base }

// take reads everything. names are servers whose computers are wanted too.
func take(c *ldap.Conn, base string, names []string) (*snapshot, error) {
	s := &snapshot{base: base, objects: make(map[string]*object), keys: make(map[string]*object)}
	global, err := search(c, globalDN(base), ldap.ScopeWholeSubtree, "(objectClass=*)")
	if err != nil {
		return nil, err
	}
	local, err := search(c, base, ldap.ScopeWholeSubtree, localFilter)
	if err != nil {
		return nil, err
	}
	s.keys[keySystem] = &object{dn: "CN=System," + base}
	s.keys[keyComputers] = &object{dn: "CN=Computers," + base}
	for _, o := range slices.Concat(global, local) {
		s.add(o)
	}
	wanted := make(map[string]bool)
	for _, o := range s.objects {
		switch {
		case o.isA(classMember):
			wanted[strings.ToLower(o.one("msDFSR-ComputerReference"))] = true
		case o.isA(classLocal):
			wanted[strings.ToLower(parent(o.dn))] = true
		}
	}
	for dn := range wanted {
		if dn == "" {
			continue
		}
		list, err := search(c, dn, ldap.ScopeBaseObject, "(objectClass=*)", computerAttributes...)
		if err != nil {
			return nil, err
		}
		for _, o := range list {
			s.add(o)
		}
	}
	return s, s.addNamed(c, names)
}

const localFilter = "(|(objectClass=msDFSR-LocalSettings)(objectClass=msDFSR-Subscriber)(objectClass=msDFSR-Subscription))"

var computerAttributes = []string{"objectClass", "objectGUID", "cn", "dNSHostName", "sAMAccountName"}

// addNamed adds the computers of servers by their names.
func (s *snapshot) addNamed(c *ldap.Conn, names []string) error {
	for part := range slices.Chunk(names, 50) {
		var any strings.Builder
		for _, name := range part {
			fmt.Fprintf(&any, "(sAMAccountName=%s)", ldap.EscapeFilter(account(name)))
		}
		list, err := search(c, s.base, ldap.ScopeWholeSubtree, "(&(objectClass=computer)(|"+any.String()+"))", computerAttributes...)
		if err != nil {
			return err
		}
		for _, o := range list {
			s.add(o)
		}
	}
	return nil
}

// account is the name of the account of a server's computer.
func account(server string) string {
	host, _, _ := strings.Cut(server, ".")
	if len(host) > 15 {
		host = host[:15]
	}
	return strings.ToUpper(host) + "$"
}

func (s *snapshot) add(o *object) { s.objects[strings.ToLower(o.dn)] = o }

func (s *snapshot) at(dn string) *object { return s.objects[strings.ToLower(dn)] }

// of lists the objects of a class beneath a DN, at any depth, in the order of
// their GUIDs.
func (s *snapshot) of(class, above string) []*object {
	suffix := "," + strings.ToLower(above)
	var list []*object
	for dn, o := range s.objects {
		if o.isA(class) && strings.HasSuffix(dn, suffix) {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b *object) int { return strings.Compare(guidKey(a), guidKey(b)) })
	return list
}

func guidKey(o *object) string {
	u, _ := guidFrom(o.one("objectGUID"))
	return u.String()
}

// groups lists the replication groups, without SYSVOL.
func (s *snapshot) groups() []*object {
	return slices.DeleteFunc(s.of(classGroup, globalDN(s.base)), func(o *object) bool { return o.one("msDFSR-ReplicationGroupType") == groupSYSVOL })
}
