package main

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"opendfs/internal/directory"
	"opendfs/internal/schedule"
)

// migration makes groups of a domain from what Windows' tools printed. notes say
// what was taken for what, for the one who reads the result.
type migration struct {
	d     *directory.Domain
	group string      // of rows that name none
	maps  [][2]string // of paths: a Windows path's beginning, and what stands for it
	notes []string
	made  []string          // groups, by the names here
	names map[string]string // kind and original name to the name here
	links map[string]map[directory.Link]bool
}

func newMigration(d *directory.Domain, group string, maps [][2]string) *migration {
	return &migration{d: d, group: group, maps: maps, names: make(map[string]string), links: make(map[string]map[directory.Link]bool)}
}

func (m *migration) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(m.notes, text) {
		m.notes = append(m.notes, text)
	}
}

// The names of fields in Get-Dfsr… and dfsradmin.
var (
	groupFields    = []string{"groupname", "rgname"}
	folderFields   = []string{"foldername", "rfname"}
	memberFields   = []string{"computername", "memname", "membername"}
	pathFields     = []string{"contentpath", "localpath", "rootpath"}
	sourceFields   = []string{"sourcecomputername", "sendmem", "sendingmember", "sendmember"}
	destFields     = []string{"destinationcomputername", "recvmem", "receivingmember", "recvmember"}
	enabledFields  = []string{"enabled", "isenabled", "membershipenabled", "connenabled"}
	fileFilters    = []string{"filenametoexclude", "filefilter", "rffilefilter"}
	folderFilters  = []string{"directorynametoexclude", "directoryfilter", "dirfilter", "subdirfilter"}
	stagingFields  = []string{"stagingpathquotainmb", "stagingsize", "stagingquota"}
	conflictFields = []string{"conflictanddeletedquotainmb", "conflictsize", "conflictquota"}
)

// add takes one object.
func (m *migration) add(r migrateRow) error {
	group := cmp.Or(r.first(groupFields...), m.group)
	if group == "" {
		return fmt.Errorf("an object names no group (%s); name it with --group", strings.Join(slices.Sorted(maps.Keys(r)), ", "))
	}
	if group == "Domain System Volume" {
		m.note("Domain System Volume is left out: SYSVOL belongs to its domain controllers")
		return nil
	}
	g, err := m.groupOf(group)
	if err != nil {
		return err
	}
	switch {
	case r.first(sourceFields...) != "":
		return m.connection(g, r)
	case r.first("bandwidthdetail") != "":
		s, err := readBandwidth(r)
		g.Schedule = s
		return err
	case r.first(memberFields...) != "" && r.first(folderFields...) != "":
		return m.membership(g, r)
	case r.first(folderFields...) != "":
		m.folder(g, r)
	case r.first(memberFields...) != "":
		m.server(r)
	}
	return nil
}

// name gives an object a name of ours: what no name may hold becomes a dash.
func (m *migration) name(kind, original string, taken func(string) bool) string {
	if n := m.names[kind+original]; n != "" {
		return n
	}
	text := strings.Map(func(c rune) rune {
		if c < 128 && (c == '.' || c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return c
		}
		return '-'
	}, original)
	text = strings.TrimLeft(text, "-._")
	text = text[:min(len(text), 60)]
	if text == "" {
		text = kind
	}
	n := text
	for i := 2; taken(n); i++ {
		n = text + "-" + strconv.Itoa(i)
	}
	m.names[kind+original] = n
	if n != original {
		m.note("%s %s is called %s here", kind, original, n)
	}
	return n
}

func (m *migration) groupOf(original string) (*directory.Group, error) {
	known := m.names["group"+original] != ""
	n := m.name("group", original, func(n string) bool { return slices.Contains(m.made, n) })
	g := m.d.GroupByName(n)
	switch {
	case g != nil && known:
		return g, nil
	case g != nil:
		return nil, fmt.Errorf("group %q is in the domain already; rename one of the two, or start from an empty domain with --domain", n)
	}
	g = &directory.Group{Name: n}
	m.d.Groups, m.made = append(m.d.Groups, g), append(m.made, n)
	return g, nil
}

// serverOf finds or makes the server for a computer, by its first label.
func (m *migration) serverOf(computer string) *directory.Server {
	host, _, _ := strings.Cut(strings.TrimSuffix(computer, "$"), ".")
	n := m.name("server", strings.ToLower(host), func(string) bool { return false })
	if s := m.d.ServerByName(n); s != nil {
		return s
	}
	s := &directory.Server{Name: n}
	m.d.Servers = append(m.d.Servers, s)
	return s
}

func (m *migration) server(r migrateRow) { m.serverOf(r.first(memberFields...)) }

func (m *migration) folder(g *directory.Group, r migrateRow) *directory.Folder {
	n := m.name("folder", r.first(folderFields...), func(string) bool { return false })
	f := g.FolderByName(n)
	if f == nil {
		f = directory.NewFolder(n)
		g.Folders = append(g.Folders, f)
	}
	if v := r.all(fileFilters...); v != nil {
		f.Filters.Files = splitPatterns(v)
	}
	if v := r.all(folderFilters...); v != nil {
		f.Filters.Directories = splitPatterns(v)
	}
	return f
}

func (m *migration) membership(g *directory.Group, r migrateRow) error {
	f, s := m.folder(g, r), m.serverOf(r.first(memberFields...))
	where := g.Name + "/" + f.Name + "@" + s.Name
	original := r.first(pathFields...)
	if original == "" {
		m.note("%s is left out: it has no path there (a membership that was never set up)", where)
		return nil
	}
	at, err := m.path(original)
	if err != nil {
		return fmt.Errorf("membership %s: %w", where, err)
	}
	ms := f.Member(s.Name)
	if ms == nil {
		ms = directory.NewMembership(s.Name, at)
		f.Members = append(f.Members, ms)
	}
	m.note("%s: %s is %s here", where, original, at)
	ms.Path, ms.Enabled, ms.ReadOnly = at, r.is(true, enabledFields...), r.is(false, "readonly", "isreadonly")
	if r.is(false, "disablemembership", "disabled") {
		ms.Enabled = false
	}
	if r.is(false, "primarymember", "isprimary", "primary") {
		if slices.ContainsFunc(f.Members, func(o *directory.Membership) bool { return o.Primary && o != ms }) {
			m.note("%s is not made primary: another member is", where)
		} else {
			ms.Primary = !ms.ReadOnly
		}
	}
	if ms.StagingQuota, err = quota(r, ms.StagingQuota, stagingFields); err != nil {
		return fmt.Errorf("membership %s: %w", where, err)
	}
	if ms.ConflictQuota, err = quota(r, ms.ConflictQuota, conflictFields); err != nil {
		return fmt.Errorf("membership %s: %w", where, err)
	}
	return nil
}

// quota reads a number of megabytes, as Windows means them: 1,048,576 bytes.
func quota(r migrateRow, byDefault directory.Size, fields []string) (directory.Size, error) {
	text := strings.TrimSpace(strings.TrimSuffix(strings.ToUpper(r.first(fields...)), "MB"))
	if text == "" {
		return byDefault, nil
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(text, ",", ""), 10, 32)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("quota %q is no number of megabytes", text)
	}
	return max(directory.Size(n), 10) * directory.MiB, nil
}

// path turns a path on Windows into one here: by --path, or D:\Data\docs into
// /srv/d/Data/docs.
func (m *migration) path(windows string) (string, error) {
	for _, p := range m.maps {
		if len(windows) >= len(p[0]) && strings.EqualFold(windows[:len(p[0])], p[0]) {
			rest := strings.ReplaceAll(windows[len(p[0]):], `\`, "/")
			return path.Clean(p[1] + "/" + rest), nil
		}
	}
	if strings.HasPrefix(windows, "/") { // it is one of ours
		return path.Clean(windows), nil
	}
	if len(windows) < 3 || windows[1] != ':' || windows[2] != '\\' {
		return "", fmt.Errorf("path %q does not begin with a drive; say what stands for it: --path '%s=/srv/docs'", windows, windows)
	}
	rest := strings.ReplaceAll(windows[3:], `\`, "/")
	if rest == "" {
		return "", fmt.Errorf("path %q is a whole drive; say what stands for it: --path '%s=/srv/docs'", windows, windows)
	}
	return path.Clean("/srv/" + strings.ToLower(windows[:1]) + "/" + rest), nil
}

func (m *migration) connection(g *directory.Group, r migrateRow) error {
	if r.first(destFields...) == "" {
		return fmt.Errorf("a connection of group %s from %s names nobody that receives", g.Name, r.first(sourceFields...))
	}
	from, to := m.serverOf(r.first(sourceFields...)), m.serverOf(r.first(destFields...))
	if r.first("bandwidthdetail") != "" {
		s, err := readBandwidth(r)
		if err != nil {
			return err
		}
		g.Exceptions = slices.DeleteFunc(g.Exceptions, func(e directory.Exception) bool { return e.From == from.Name && e.To == to.Name })
		g.Exceptions = append(g.Exceptions, directory.Exception{From: from.Name, To: to.Name, Schedule: s})
		return nil
	}
	if m.links[g.Name] == nil {
		m.links[g.Name] = make(map[directory.Link]bool)
	}
	m.links[g.Name][directory.Link{From: from.Name, To: to.Name}] = r.is(true, enabledFields...) && !r.is(false, "disableconnection")
	return nil
}

// readBandwidth reads a week of hexadecimal digits, a quarter hour each, from
// Sunday on.
func readBandwidth(r migrateRow) (*schedule.Schedule, error) {
	digits := strings.Join(strings.Fields(strings.Join(r.all("bandwidthdetail"), "")), "")
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil, fmt.Errorf("bandwidth detail: %w", err)
	}
	s, err := schedule.FromBlob(b, r.is(false, "useutc"))
	if err != nil {
		return nil, fmt.Errorf("bandwidth detail: %w", err)
	}
	return s, nil
}

// finish gives each group the topology that its connections have.
func (m *migration) finish() {
	for _, g := range m.d.Groups {
		if links := m.links[g.Name]; links != nil {
			g.Topology = topologyOf(links)
		}
	}
}

// topologyOf says a list of connections in the shortest way.
func topologyOf(links map[directory.Link]bool) directory.Topology {
	var servers []string
	full, list := make(map[directory.Link]bool), []directory.Link(nil)
	for l, enabled := range links {
		servers = append(servers, l.From, l.To)
		l.Enabled = enabled
		list = append(list, l)
		if enabled {
			full[directory.Link{From: l.From, To: l.To}] = true
		}
	}
	slices.Sort(servers)
	servers = slices.Compact(servers)
	var hubs []string
	for _, s := range servers {
		if !slices.ContainsFunc(servers, func(o string) bool {
			return o != s && (!full[directory.Link{From: s, To: o}] || !full[directory.Link{From: o, To: s}])
		}) {
			hubs = append(hubs, s)
		}
	}
	spokes := len(servers) - len(hubs)
	switch {
	case len(full) < len(links): // some are disabled
	case spokes == 0:
		return directory.Topology{}
	case len(hubs) > 0 && len(full) == len(hubs)*(len(hubs)-1)+2*len(hubs)*spokes:
		return directory.Topology{Kind: directory.HubAndSpoke, Hubs: hubs}
	}
	slices.SortFunc(list, func(a, b directory.Link) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return directory.Topology{Kind: directory.Custom, Links: list}
}
