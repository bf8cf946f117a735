package directory

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mesh gives servers a to d that are all members of folder g/f, with a topology.
func mesh(t *testing.T, topology string) *Domain {
	t.Helper()
	var b strings.Builder
	b.WriteString("version: 1\ndomain: corp\nservers:\n")
	for _, s := range "abcd" {
		fmt.Fprintf(&b, "  %c: {address: \"%c:7440\"}\n", s, s)
	}
	b.WriteString("groups:\n  g:\n    topology: " + topology + "\n    folders:\n      f:\n        members:\n")
	for _, s := range "abcd" {
		fmt.Fprintf(&b, "          %c: {path: /srv/f, primary: %v}\n", s, s == 'a')
	}
	doc, err := mustRead(t, b.String()).Complete(nil, seeded(5))
	if err != nil {
		t.Fatal(err)
	}
	return doc.Domain
}

func connectionNames(d *Domain, list []Connection) string {
	var names []string
	for _, c := range list {
		names = append(names, d.Server(c.From).Name+"->"+d.Server(c.To).Name)
	}
	return strings.Join(names, " ")
}

func serverNames(list []*Server) string {
	var names []string
	for _, s := range list {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

func TestTopologies(t *testing.T) {
	for _, c := range []struct{ topology, connections, upstreamsOfB, downstreamsOfB string }{
		{"full-mesh", "a->b a->c a->d b->a b->c b->d c->a c->b c->d d->a d->b d->c", "a c d", "a c d"},
		{"{hub-and-spoke: {hubs: [a]}}", "a->b a->c a->d b->a c->a d->a", "a", "a"},
		{"{hub-and-spoke: {hubs: [a, b]}}", "a->b a->c a->d b->a b->c b->d c->a c->b d->a d->b", "a c d", "a c d"},
		{"{connections: [a->b, b->c, {from: c, to: b, enabled: false}]}", "a->b b->c", "a", "c"},
		{"{connections: []}", "", "", ""},
	} {
		d := mesh(t, c.topology)
		g := d.GroupByName("g")
		b, f := d.ServerByName("b").ID, g.FolderByName("f").ID
		if got := connectionNames(d, d.Connections(g)); got != c.connections {
			t.Errorf("%s: connections %s, want %s", c.topology, got, c.connections)
		}
		if got := serverNames(d.Upstreams(f, b)); got != c.upstreamsOfB {
			t.Errorf("%s: upstreams of b: %s, want %s", c.topology, got, c.upstreamsOfB)
		}
		if got := serverNames(d.Downstreams(f, b)); got != c.downstreamsOfB {
			t.Errorf("%s: downstreams of b: %s, want %s", c.topology, got, c.downstreamsOfB)
		}
		// MayServe, the expanded list and the partner lists are one rule.
		for _, up := range d.Servers {
			for _, down := range d.Servers {
				listed := strings.Contains(" "+c.connections+" ", " "+up.Name+"->"+down.Name+" ")
				if got := d.MayServe(f, up.ID, down.ID); got != listed {
					t.Errorf("%s: %s may serve %s: %v, listed: %v", c.topology, up.Name, down.Name, got, listed)
				}
			}
		}
	}
}

// A partner is served only what it is an enabled member of.
func TestOnlyEnabledMembersServeAndAreServed(t *testing.T) {
	d := completed(t).Domain
	hub, branch, lab := d.ServerByName("hub").ID, d.ServerByName("branch").ID, d.ServerByName("lab").ID
	p := d.GroupByName("projects")
	docs, media := p.FolderByName("docs").ID, p.FolderByName("media").ID
	for _, c := range []struct {
		what             string
		folder, up, down UUID
		want             bool
	}{
		{"members of docs", docs, hub, branch, true},
		{"and back", docs, branch, hub, true},
		{"no member of docs", docs, hub, lab, false},
		{"disabled member of media", media, hub, lab, false},
		{"from a disabled member", media, lab, hub, false},
		{"no member of media", media, hub, branch, false},
		{"to itself", docs, hub, hub, false},
		{"unknown folder", UUID{1}, hub, branch, false},
		{"unknown server", docs, hub, UUID{1}, false},
		{"no server", docs, hub, UUID{}, false},
	} {
		if got := d.MayServe(c.folder, c.up, c.down); got != c.want {
			t.Errorf("%s: may serve is %v, want %v", c.what, got, c.want)
		}
	}
	if got := d.Upstreams(docs, UUID{1}); got != nil {
		t.Errorf("an unknown server has upstreams %v", serverNames(got))
	}
	if got := connectionNames(d, d.Connections(p)); got != "branch->hub branch->lab hub->branch hub->lab lab->branch lab->hub" {
		t.Errorf("connections of the group: %s", got)
	}
}

func TestMemberships(t *testing.T) {
	d := completed(t).Domain
	var got []string
	for _, m := range d.Memberships(d.ServerByName("hub").ID) {
		got = append(got, fmt.Sprintf("%s %s primary=%v rest=%v", m.Name(), m.Path, m.Primary, m.Folder.Rest))
	}
	want := []string{
		"projects/docs /srv/docs primary=true rest=1m0s",
		"projects/media /srv/media files/ä primary=true rest=5m0s",
		"software/dist /srv/dist primary=true rest=1m0s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("memberships of hub (-want +got):\n%s", diff)
	}
	if got := d.Memberships(UUID{1}); got != nil {
		t.Errorf("an unknown server is a member of %v", got)
	}
	g, f := d.Folder(d.GroupByName("software").FolderByName("dist").ID)
	if g == nil || g.Name != "software" || f.Name != "dist" {
		t.Errorf("folder by id gives %v, %v", g, f)
	}
}

func diffLines(old, new *Domain) string {
	var b strings.Builder
	for _, c := range Diff(old, new) {
		b.WriteString(c.String() + "\n")
	}
	return b.String()
}

func TestDiff(t *testing.T) {
	old := completed(t).Domain
	next := old.Clone()
	next.Generation += 5
	if got := diffLines(old, next); got != "" {
		t.Errorf("equal domains differ:\n%s", got)
	}
	next.ServerByName("hub").Name = "centre"
	for _, g := range next.Groups {
		for _, f := range g.Folders {
			if m := f.Member("hub"); m != nil {
				m.Server = "centre"
			}
		}
	}
	next.GroupByName("software").Topology.Hubs = []string{"centre"}
	next.ServerByName("lab").Addresses = []string{"lab:7440"}
	next.Servers = append(next.Servers, &Server{Name: "new", ID: UUID{9}, Addresses: []string{"new:7440"}})
	p := next.GroupByName("projects")
	p.Topology = Topology{Kind: Custom, Links: []Link{{"centre", "branch", true}, {"branch", "centre", false}}}
	docs := p.FolderByName("docs")
	docs.Member("branch").Path = "/data/docs"
	docs.Filters.Files = nil
	docs.Case = CaseInsensitive
	media := p.FolderByName("media")
	media.Members = media.Members[:1] // lab leaves
	added := NewMembership("branch", "/srv/media")
	added.ID = UUID{10}
	media.Members = append(media.Members, added)
	next.Groups = next.Groups[1:] // chain goes
	// software/dist is created again under the same name: it is another.
	next.GroupByName("software").FolderByName("dist").ID = UUID{11}
	next.sort()
	golden(t, "testdata/diff.want", diffLines(old, next))
}

func TestDiffFromNothing(t *testing.T) {
	golden(t, "testdata/diff.new.want", diffLines(nil, mustRead(t, string(readFile(t, "testdata/full.yaml"))).Domain))
}
