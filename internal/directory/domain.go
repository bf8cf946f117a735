package directory

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"time"

	"opendfs/internal/schedule"
)

// Version is the version of the document that this package reads and writes.
const Version = 1

// MaxSize is the largest document, and the largest signed copy, in bytes.
const MaxSize = 16 << 20

// Defaults of the options of folders and memberships.
const (
	DefaultRest              = 60 * time.Second
	DefaultTombstoneLifetime = 60 * day
	DefaultSlowSync          = 7 * day
	DefaultStagingQuota      = 4 * GiB
	DefaultMinSize           = 64 * KiB
	LeastMinSize             = 16 * KiB // of Transfer.MinSize: below, asking costs more than sending
	DefaultConflictQuota     = 4 * GiB
	DefaultConflictRetention = 7 * day
	// DefaultTransfers is how many transfers go on at once, in each direction
	// (MS-FRS2 servers have 16).
	DefaultTransfers = 16
	// DefaultClockSkew is by how much the clock of a server may differ from its
	// partners'.
	DefaultClockSkew = 5 * time.Minute
	MaxTransfers     = 256
)

// DefaultFileFilter gives the file name patterns that a folder leaves out when
// it says nothing else (MS-FRS2 section 2.3.7, note 14). The slice is the
// caller's.
func DefaultFileFilter() []string { return []string{"~*", "*.bak", "*.tmp"} }

// Domain is the whole configuration. Servers, groups, folders and members are
// in the order of their names.
type Domain struct {
	// Name is the domain's name, ID its identity.
	Name string
	ID   UUID
	// Generation counts the changes; 0 is a domain that no store has taken yet.
	Generation uint64
	// Term counts the masters: it rises when a survivor is promoted. A domain
	// is newer than another if (Term, Generation) is greater.
	Term uint64
	// Home is where the domain lives.
	Home    Home
	Servers []*Server
	// Admins are the identities of administrators, Grants who may do what. Root
	// of a server may do on it whatever it likes, without a grant.
	Admins []*Admin
	Grants []Grant
	Groups []*Group
}

// Server is one member machine.
type Server struct {
	Name string
	ID   UUID
	// Addresses, HOST:PORT each, are tried in order; none until it has joined.
	Addresses []string
	// Listen, HOST:PORT each; empty means every interface at the port of the
	// first address.
	Listen []string
	// MaxRate is the most that it sends to all partners together, and the most
	// that it lets all of them send to it; 0 is no limit.
	MaxRate schedule.Rate
	// LogLevel is how much its member logs; LogDefault is what it was started with.
	LogLevel LogLevel
	// TransfersIn and TransfersOut bound the transfers of contents at once.
	TransfersIn, TransfersOut uint64
	// ClockSkew is by how much its clock may differ from a partner's; 0 is the default.
	ClockSkew time.Duration
}

// MaxSkew is by how much its clock may differ from a partner's.
func (s *Server) MaxSkew() time.Duration {
	if s.ClockSkew == 0 {
		return DefaultClockSkew
	}
	return s.ClockSkew
}

// LogLevel says how much a member logs.
type LogLevel uint8

// The levels.
const (
	LogDefault LogLevel = iota // what `dfs serve --log-level` says
	LogDebug
	LogInfo
	LogWarn
	LogError
)

// String gives the word of the document; empty for LogDefault.
func (l LogLevel) String() string {
	return [...]string{"", "debug", "info", "warn", "error"}[l]
}

// ParseLogLevel reads the word of the document; "default" is LogDefault.
func ParseLogLevel(s string) (LogLevel, error) {
	for l := LogDebug; l <= LogError; l++ {
		if l.String() == s {
			return l, nil
		}
	}
	if s == "default" {
		return LogDefault, nil
	}
	return 0, fmt.Errorf("read log level %s: there is no such level; write debug, info, warn, error or default", quote(s))
}

// NewServer makes a server with the defaults.
func NewServer(name string, id UUID) *Server {
	return &Server{Name: name, ID: id, TransfersIn: DefaultTransfers, TransfersOut: DefaultTransfers}
}

// Group is a replication group.
type Group struct {
	Name     string
	ID       UUID
	Topology Topology
	// Schedule says when its connections are open and what they may carry; nil
	// is always open.
	Schedule *schedule.Schedule
	// Exceptions are the connections with a schedule of their own, in the order
	// of from and to.
	Exceptions []Exception
	// Transfers are the connections that do not bring contents as DefaultTransfer
	// says, in the order of from and to.
	Transfers []TransferException
	Folders   []*Folder
}

// Exception is a connection whose schedule is not the group's. From and To are
// names of servers.
type Exception struct {
	From, To string
	Schedule *schedule.Schedule
}

// TopologyKind says how the connections of a group are made.
type TopologyKind uint8

// The kinds of topology.
const (
	// FullMesh connects every member with every other. The zero value.
	FullMesh TopologyKind = iota
	// HubAndSpoke connects each hub with every other member, both ways.
	HubAndSpoke
	// Custom has the connections that are listed and no others.
	Custom
)

// String gives the word of the document; Custom's is the key of its list.
func (k TopologyKind) String() string {
	switch k {
	case HubAndSpoke:
		return "hub-and-spoke"
	case Custom:
		return "connections"
	}
	return "full-mesh"
}

// Topology is the description of a group's connections. Names are those of
// servers.
type Topology struct {
	Kind  TopologyKind
	Hubs  []string // HubAndSpoke only, in the order of their names
	Links []Link   // Custom only, in the order of from and to
}

// Link is one listed connection: To, the downstream, pulls from From, the
// upstream.
type Link struct {
	From, To string
	Enabled  bool
}

// Case says how a folder tells names apart.
type Case uint8

// The ways to tell names apart.
const (
	CaseSensitive Case = iota
	CaseInsensitive
)

// String gives the word of the document.
func (c Case) String() string {
	if c == CaseInsensitive {
		return "insensitive"
	}
	return "sensitive"
}

// DirectoryConflict says what becomes of two directories that were given one name
// apart from one another.
type DirectoryConflict uint8

// What becomes of them.
const (
	DirectoryMerge DirectoryConflict = iota // they become one, as in DFSR
	DirectoryMorph                          // both stay, one renamed, as in FRS
)

// String gives the word of the document.
func (c DirectoryConflict) String() string {
	if c == DirectoryMorph {
		return "morph"
	}
	return "merge"
}

// Breaker says whether members hold a server that replaces or deletes much at once.
type Breaker uint8

// Whether they do.
const (
	BreakerOn Breaker = iota
	BreakerOff
)

// String gives the word of the document.
func (b Breaker) String() string {
	if b == BreakerOff {
		return "off"
	}
	return "on"
}

// Owners says in which form owners and groups replicate.
type Owners uint8

// The forms of owners.
const (
	OwnersNumeric Owners = iota // by number; the zero value
	OwnersByName                // by name, mapped by each server's name service
	OwnersNone                  // not at all
)

// String gives the word of the document.
func (o Owners) String() string {
	switch o {
	case OwnersByName:
		return "name"
	case OwnersNone:
		return "none"
	}
	return "numeric"
}

// The words of Folder.Attributes: capability is security.capability, selinux
// security.selinux, trusted everything that begins with "trusted.".
const (
	AttributeCapability = "capability"
	AttributeSELinux    = "selinux"
	AttributeTrusted    = "trusted"
)

// Attributes are the words that Folder.Attributes may hold, in order.
func Attributes() []string { return []string{AttributeCapability, AttributeSELinux, AttributeTrusted} }

// Filters are the names that a folder leaves out: patterns with * and ?.
type Filters struct {
	Files, Directories []string
}

// Folder is a replicated folder. Make one with NewFolder to have the defaults.
type Folder struct {
	Name    string
	ID      UUID
	Filters Filters
	Case    Case
	// DirectoryConflict is what becomes of directories that meet under one name.
	DirectoryConflict DirectoryConflict
	Breaker           Breaker
	Owners            Owners
	// Attributes are the kinds of extended attributes that replicate besides those
	// that always do, in order.
	Attributes []string
	// Rest is how long a file that is open for writing must be unchanged
	// before it is captured.
	Rest time.Duration
	// CaptureBusy is how often a file that never rests is captured; 0 is never.
	CaptureBusy time.Duration
	// TombstoneLifetime is how long a deletion is remembered at least.
	TombstoneLifetime time.Duration
	// SlowSync is how often members compare their records below equal vectors; 0 is
	// never.
	SlowSync time.Duration
	Members  []*Membership
}

// Membership is one server's part in a folder. Make one with NewMembership to
// have the defaults.
type Membership struct {
	// Server is the name of the server.
	Server string
	ID     UUID
	// Path is the root on that server: absolute and clean, never "/".
	Path     string
	Primary  bool
	ReadOnly bool
	Enabled  bool
	// StagingQuota and ConflictQuota are targets, not limits.
	StagingQuota, ConflictQuota Size
	// ConflictRetention is how long a loser is kept at least.
	ConflictRetention time.Duration
	// Evicted is the database of this member that the others wait for no longer,
	// because it was away for too long; zero if none. It starts anew when it sees
	// that. Members set it and take it back, not people.
	Evicted UUID
}

// NewFolder makes a folder with the defaults and no members.
func NewFolder(name string) *Folder {
	return &Folder{
		Name:              name,
		Filters:           Filters{Files: DefaultFileFilter()},
		Rest:              DefaultRest,
		TombstoneLifetime: DefaultTombstoneLifetime,
		SlowSync:          DefaultSlowSync,
	}
}

// NewMembership makes an enabled membership with the defaults.
func NewMembership(server, path string) *Membership {
	return &Membership{
		Server:            server,
		Path:              path,
		Enabled:           true,
		StagingQuota:      DefaultStagingQuota,
		ConflictQuota:     DefaultConflictQuota,
		ConflictRetention: DefaultConflictRetention,
	}
}

// Clone gives a deep copy, to change.
func (d *Domain) Clone() *Domain {
	c := *d
	c.Home = d.Home.clone()
	c.Servers = cloneAll(d.Servers, func(s *Server) {
		s.Addresses = slices.Clone(s.Addresses)
		s.Listen = slices.Clone(s.Listen)
	})
	c.Admins = cloneAll(d.Admins, func(*Admin) {})
	c.Grants = slices.Clone(d.Grants)
	for i := range c.Grants {
		c.Grants[i].Roles = slices.Clone(c.Grants[i].Roles)
	}
	c.Groups = cloneAll(d.Groups, func(g *Group) {
		g.Topology.Hubs = slices.Clone(g.Topology.Hubs)
		g.Topology.Links = slices.Clone(g.Topology.Links)
		g.Exceptions = slices.Clone(g.Exceptions)
		g.Transfers = slices.Clone(g.Transfers)
		g.Folders = cloneAll(g.Folders, func(f *Folder) {
			f.Filters.Files = slices.Clone(f.Filters.Files)
			f.Filters.Directories = slices.Clone(f.Filters.Directories)
			f.Attributes = slices.Clone(f.Attributes)
			f.Members = cloneAll(f.Members, func(*Membership) {})
		})
	})
	return &c
}

func cloneAll[T any](list []*T, deepen func(*T)) []*T {
	c := make([]*T, len(list))
	for i, p := range list {
		v := *p
		deepen(&v)
		c[i] = &v
	}
	return c
}

// Equal says that two domains have the same canonical text.
func (d *Domain) Equal(e *Domain) bool {
	return reflect.DeepEqual(canonical(d), canonical(e))
}

// Newer says that d replaces e: its term is higher, or its generation within
// the same term.
func (d *Domain) Newer(e *Domain) bool {
	return cmp.Or(cmp.Compare(d.Term, e.Term), cmp.Compare(d.Generation, e.Generation)) > 0
}

func compareExceptions(a, b Exception) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
}

func compareTransfers(a, b TransferException) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
}

func compareLinks(a, b Link) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
}

// sort puts everything that has no order of its own in the order of names.
func (d *Domain) sort() {
	slices.Sort(d.Home.Servers)
	slices.SortFunc(d.Servers, func(a, b *Server) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(d.Admins, func(a, b *Admin) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(d.Grants, compareGrants)
	for _, g := range d.Grants {
		slices.SortFunc(g.Roles, compareRoles)
	}
	slices.SortFunc(d.Groups, func(a, b *Group) int { return cmp.Compare(a.Name, b.Name) })
	for _, g := range d.Groups {
		slices.Sort(g.Topology.Hubs)
		slices.SortFunc(g.Topology.Links, compareLinks)
		slices.SortFunc(g.Exceptions, compareExceptions)
		slices.SortFunc(g.Transfers, compareTransfers)
		slices.SortFunc(g.Folders, func(a, b *Folder) int { return cmp.Compare(a.Name, b.Name) })
		for _, f := range g.Folders {
			slices.SortFunc(f.Members, func(a, b *Membership) int { return cmp.Compare(a.Server, b.Server) })
		}
	}
}
