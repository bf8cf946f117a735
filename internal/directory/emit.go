package directory

import (
	"slices"
	"strconv"
	"strings"
)

// Marshal gives the canonical text of a domain: everything in the order of
// names, defaults left out, no comments. It does not validate; NewDocument
// does.
func Marshal(d *Domain) []byte {
	var b strings.Builder
	emitBlock(&b, canonical(d), 0)
	return []byte(b.String())
}

// NewDocument validates a domain that was made or changed in memory and gives
// it with its canonical text. The error is Problems that refer to that text.
func NewDocument(d *Domain) (*Document, error) { return Read(Marshal(d), "domain") }

// builder makes the canonical tree of a mapping.
type builder struct{ n *node }

func block() builder { return builder{&node{kind: mapping}} }
func flow() builder  { return builder{&node{kind: mapping, flow: true}} }

func (b builder) put(key string, v *node) {
	b.n.pairs = append(b.n.pairs, pair{key: node{kind: scalar, text: key}, value: v})
}

func word(s string) *node  { return &node{kind: scalar, text: s, plain: true} }
func value(s string) *node { return &node{kind: scalar, text: s} }
func number(n uint64) *node {
	return word(strconv.FormatUint(n, 10))
}

func values(list []string) *node {
	n := &node{kind: sequence, flow: true}
	for _, s := range list {
		n.items = append(n.items, value(s))
	}
	return n
}

// id puts the id of an object, if it has one.
func (b builder) id(u UUID) {
	if !u.IsZero() {
		b.put("id", word(u.String()))
	}
}

// some puts one address as a value and several as a list.
func (b builder) some(key string, list []string) {
	switch len(list) {
	case 0:
	case 1:
		b.put(key, value(list[0]))
	default:
		b.put(key, values(list))
	}
}

// canonical gives the tree of a domain's canonical text. The domain itself
// need not be in order.
func canonical(d *Domain) *node {
	d = d.Clone()
	d.sort()
	b := block()
	b.put("version", number(Version))
	b.put("domain", value(d.Name))
	b.id(d.ID)
	if d.Generation > 0 {
		b.put("generation", number(d.Generation))
	}
	if d.Term > 1 {
		b.put("term", number(d.Term))
	}
	if d.Home.Kind != HomeFile {
		b.put("directory", canonicalHome(&d.Home))
	}
	if len(d.Servers) > 0 {
		list := block()
		for _, s := range d.Servers {
			e := flow()
			e.id(s.ID)
			e.some("address", s.Addresses)
			e.some("listen", s.Listen)
			if s.MaxRate != 0 {
				e.put("max-rate", word(s.MaxRate.String()))
			}
			if s.LogLevel != LogDefault {
				e.put("log-level", word(s.LogLevel.String()))
			}
			if s.MaxSkew() != DefaultClockSkew {
				e.put("clock-skew", word(FormatDuration(s.ClockSkew)))
			}
			if s.TransfersIn != DefaultTransfers && s.TransfersIn != 0 {
				e.put("transfers-in", number(s.TransfersIn))
			}
			if s.TransfersOut != DefaultTransfers && s.TransfersOut != 0 {
				e.put("transfers-out", number(s.TransfersOut))
			}
			list.put(s.Name, e.n)
		}
		b.put("servers", list.n)
	}
	canonicalGrants(b, d)
	if len(d.Groups) > 0 {
		list := block()
		for _, g := range d.Groups {
			list.put(g.Name, canonicalGroup(g))
		}
		b.put("groups", list.n)
	}
	return b.n
}

func canonicalGrants(b builder, d *Domain) {
	if len(d.Admins) > 0 {
		list := block()
		for _, a := range d.Admins {
			e := flow()
			e.id(a.ID)
			list.put(a.Name, e.n)
		}
		b.put("admins", list.n)
	}
	if len(d.Grants) == 0 {
		return
	}
	list := block()
	for _, g := range d.Grants {
		var roles []string
		for _, r := range g.Roles {
			roles = append(roles, r.String())
		}
		list.put(g.To.String(), values(roles))
	}
	b.put("grants", list.n)
}

func canonicalGroup(g *Group) *node {
	b := block()
	b.id(g.ID)
	t := flow()
	switch g.Topology.Kind {
	case FullMesh:
		b.put("topology", word("full-mesh"))
	case HubAndSpoke:
		hubs := flow()
		hubs.put("hubs", values(g.Topology.Hubs))
		t.put("hub-and-spoke", hubs.n)
		b.put("topology", t.n)
	case Custom:
		list := &node{kind: sequence, flow: true}
		for _, l := range g.Topology.Links {
			if l.Enabled {
				list.items = append(list.items, value(l.From+"->"+l.To))
				continue
			}
			e := flow()
			e.put("from", value(l.From))
			e.put("to", value(l.To))
			e.put("enabled", word("false"))
			list.items = append(list.items, e.n)
		}
		t.put("connections", list)
		b.put("topology", t.n)
	}
	canonicalSchedules(b, g)
	if len(g.Folders) > 0 {
		list := block()
		for _, f := range g.Folders {
			list.put(f.Name, canonicalFolder(f))
		}
		b.put("folders", list.n)
	}
	return b.n
}

func canonicalSchedules(b builder, g *Group) {
	if !g.Schedule.AlwaysOpen() {
		b.put("schedule", value(g.Schedule.String()))
	}
	if len(g.Exceptions) > 0 {
		list := block()
		for _, e := range g.Exceptions {
			list.put(e.From+"->"+e.To, value(e.Schedule.String()))
		}
		b.put("connection-schedules", list.n)
	}
	if len(g.Transfers) > 0 {
		list := block()
		for _, e := range g.Transfers {
			list.put(e.From+"->"+e.To, canonicalTransfer(e.Transfer))
		}
		b.put("connection-transfers", list.n)
	}
}

func canonicalTransfer(t Transfer) *node {
	b := flow()
	if !t.RDC {
		b.put("rdc", word("false"))
	}
	if !t.CrossFile {
		b.put("cross-file", word("false"))
	}
	if t.MinSize != DefaultMinSize {
		b.put("rdc-min-size", word(t.MinSize.String()))
	}
	if t.Compression != CompressionAuto {
		b.put("compression", value(t.Compression.String()))
	}
	return b.n
}

func canonicalFolder(f *Folder) *node {
	b := block()
	b.id(f.ID)
	filters := flow()
	if !slices.Equal(f.Filters.Files, DefaultFileFilter()) {
		filters.put("files", values(f.Filters.Files))
	}
	if len(f.Filters.Directories) > 0 {
		filters.put("directories", values(f.Filters.Directories))
	}
	if len(filters.n.pairs) > 0 {
		b.put("filters", filters.n)
	}
	if f.Case != CaseSensitive {
		b.put("case", word(f.Case.String()))
	}
	if f.DirectoryConflict != DirectoryMerge {
		b.put("directory-conflict", word(f.DirectoryConflict.String()))
	}
	if f.Breaker != BreakerOn {
		b.put("breaker", word(f.Breaker.String()))
	}
	if f.Owners != OwnersNumeric {
		b.put("owners", word(f.Owners.String()))
	}
	if len(f.Attributes) > 0 {
		b.put("attributes", values(f.Attributes))
	}
	if f.Rest != DefaultRest {
		b.put("rest", word(FormatDuration(f.Rest)))
	}
	if f.CaptureBusy != 0 {
		b.put("capture-busy", word(FormatDuration(f.CaptureBusy)))
	}
	if f.TombstoneLifetime != DefaultTombstoneLifetime {
		b.put("tombstone-lifetime", word(FormatDuration(f.TombstoneLifetime)))
	}
	if f.SlowSync != DefaultSlowSync {
		b.put("slow-sync", word(FormatDuration(f.SlowSync)))
	}
	if len(f.Members) > 0 {
		list := block()
		for _, m := range f.Members {
			list.put(m.Server, canonicalMembership(m))
		}
		b.put("members", list.n)
	}
	return b.n
}

func canonicalMembership(m *Membership) *node {
	b := flow()
	b.id(m.ID)
	b.put("path", value(m.Path))
	if m.Primary {
		b.put("primary", word("true"))
	}
	if m.ReadOnly {
		b.put("read-only", word("true"))
	}
	if !m.Enabled {
		b.put("enabled", word("false"))
	}
	if m.StagingQuota != DefaultStagingQuota {
		b.put("staging-quota", word(m.StagingQuota.String()))
	}
	if m.ConflictQuota != DefaultConflictQuota {
		b.put("conflict-quota", word(m.ConflictQuota.String()))
	}
	if m.ConflictRetention != DefaultConflictRetention {
		b.put("conflict-retention", word(FormatDuration(m.ConflictRetention)))
	}
	if !m.Evicted.IsZero() {
		b.put("evicted", word(m.Evicted.String()))
	}
	return b.n
}

// emitBlock writes the pairs of a block mapping, each on a line of its own.
func emitBlock(b *strings.Builder, n *node, indent int) {
	for _, p := range n.pairs {
		emitPair(b, p, indent)
	}
}

// emitPair writes one pair of a block mapping with its line end.
func emitPair(b *strings.Builder, p pair, indent int) {
	b.WriteString(strings.Repeat(" ", indent))
	emitScalar(b, &p.key)
	b.WriteByte(':')
	if v := p.value; v.kind == mapping && !v.flow && len(v.pairs) > 0 {
		b.WriteByte('\n')
		emitBlock(b, v, indent+2)
		return
	}
	b.WriteByte(' ')
	emitFlow(b, p.value)
	b.WriteByte('\n')
}

// emitFlow writes a value on the line where it stands.
func emitFlow(b *strings.Builder, n *node) {
	switch n.kind {
	case mapping:
		b.WriteByte('{')
		for i, p := range n.pairs {
			if i > 0 {
				b.WriteString(", ")
			}
			emitFlowPair(b, p)
		}
		b.WriteByte('}')
	case sequence:
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteString(", ")
			}
			emitFlow(b, item)
		}
		b.WriteByte(']')
	case scalar:
		emitScalar(b, n)
	}
}

func emitFlowPair(b *strings.Builder, p pair) {
	emitScalar(b, &p.key)
	b.WriteString(": ")
	emitFlow(b, p.value)
}

func emitScalar(b *strings.Builder, n *node) {
	if n.plain || plainSafe(n.text) {
		b.WriteString(n.text)
		return
	}
	b.WriteByte('"')
	for _, c := range n.text {
		if c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	b.WriteByte('"')
}

// plainSafe says that every YAML reader takes the text without quotes for the
// same string.
func plainSafe(s string) bool {
	if s == "" || !isAlnum(s[0]) && s[0] != '/' || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		return false
	}
	for _, c := range []byte(s) {
		if !isAlnum(c) && !strings.ContainsRune("/_.+-", rune(c)) {
			return false
		}
	}
	return true
}
