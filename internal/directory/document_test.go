package directory

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"opendfs/internal/schedule"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// What `dfs apply` writes back: ids and generation filled in, the rest as it
// was written.
func TestIdsAreFilledInAndCommentsStay(t *testing.T) {
	doc := completed(t)
	golden(t, "testdata/full.completed.want", string(doc.Text()))
	doc.Domain.objects(func(name string, id *UUID) {
		if id.IsZero() {
			t.Errorf("%s has no id", name)
		}
	})
	again, err := doc.Complete(doc.Domain, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(doc.Text()), string(again.Text())); d != "" {
		t.Errorf("a complete document changed (-want +got):\n%s", d)
	}
}

func TestCanonicalText(t *testing.T) {
	golden(t, "testdata/full.canonical.want", string(Marshal(completed(t).Domain)))
}

// Applying a file without ids again does not create its objects again.
func TestIdsComeFromTheDomainBeforeByName(t *testing.T) {
	before := completed(t).Domain
	text := string(readFile(t, "testdata/full.yaml"))
	after, err := mustRead(t, text).Complete(before, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	if d := Diff(before, after.Domain); len(d) > 0 {
		t.Errorf("applying the same file changes %v", d)
	}
}

// A server is renamed by writing another name beside its id; its memberships
// stay its own. A new server takes the old name.
func TestRenameKeepsIdsAndAReusedNameIsNew(t *testing.T) {
	before := completed(t).Domain
	hub := before.ServerByName("hub")
	text := strings.NewReplacer(
		"  hub:    {address", "  hub: {address: \"new:7440\"}\n  centre: {id: "+hub.ID.String()+", address",
		"          hub:", "          centre:",
	).Replace(string(readFile(t, "testdata/full.yaml")))
	text = strings.ReplaceAll(text, "hubs: [hub]", "hubs: [centre]")
	after, err := mustRead(t, text).Complete(before, seeded(2))
	if err != nil {
		t.Fatal(err)
	}
	if got := after.Domain.ServerByName("centre").ID; got != hub.ID {
		t.Errorf("renamed server has id %v, want %v", got, hub.ID)
	}
	if got := after.Domain.ServerByName("hub").ID; got == hub.ID || got.IsZero() {
		t.Errorf("the new server under the old name has id %v", got)
	}
	old := before.GroupByName("projects").FolderByName("docs").Member("hub").ID
	if got := after.Domain.GroupByName("projects").FolderByName("docs").Member("centre").ID; got != old {
		t.Errorf("membership of the renamed server has id %v, want %v", got, old)
	}
}

// Commands change one thing; the administrator's text stays around it.
func TestChangesInPlace(t *testing.T) {
	const text = `# head
version: 1   # one
domain: corp
servers:
  # cellar
  hub: {address: "hub:7440"} # near the door
  branch:
    address: "branch:7440"   # DSL
groups:
  g:
    # why a mesh
    topology: full-mesh  # because
    folders:
      docs:
        rest: 60s # explicit default
        members:
          hub: {path: /srv/a, primary: true}   # first
          branch:
            path: /srv/a
# foot
`
	for _, c := range []struct {
		name   string
		change func(d *Domain)
		old    string
		new    string
	}{
		{"a value", func(d *Domain) { d.ServerByName("branch").Addresses = []string{"b2:7440"} },
			`    address: "branch:7440"   # DSL`, `    address: "b2:7440"   # DSL`},
		{"a value becomes a list", func(d *Domain) { d.ServerByName("hub").Addresses = []string{"hub:7440", "h2:7440"} },
			`{address: "hub:7440"} #`, `{address: ["hub:7440", "h2:7440"]} #`},
		{"a new server", func(d *Domain) { d.Servers = append(d.Servers, &Server{Name: "lab", Addresses: []string{"lab:7440"}}) },
			"# near the door\n", "# near the door\n  lab: {address: \"lab:7440\"}\n"},
		{"a new server ahead of all", func(d *Domain) { d.Servers = append(d.Servers, &Server{Name: "alpha"}) },
			"  hub: {address", "  alpha: {}\n  hub: {address"},
		{"an explicit default changes", func(d *Domain) { d.Groups[0].Folders[0].Rest = 2 * time.Minute },
			"rest: 60s #", "rest: 2m #"},
		{"a property of a flow mapping", func(d *Domain) { d.Groups[0].Folders[0].Member("hub").StagingQuota = 8 * GiB },
			"primary: true}   #", "primary: true, staging-quota: 8GiB}   #"},
		{"a property of a block mapping", func(d *Domain) { d.Groups[0].Folders[0].Member("branch").ReadOnly = true },
			"            path: /srv/a\n", "            path: /srv/a\n            read-only: true\n"},
		{"a removed property", func(d *Domain) { d.Groups[0].Folders[0].Member("hub").Primary = false },
			"{path: /srv/a, primary: true}   #", "{path: /srv/a}   #"},
		{"a removed member", func(d *Domain) { d.Groups[0].Folders[0].Members = d.Groups[0].Folders[0].Members[1:] },
			"          branch:\n            path: /srv/a\n", ""},
		{"another topology", func(d *Domain) { d.Groups[0].Topology = Topology{Kind: HubAndSpoke, Hubs: []string{"hub"}} },
			"full-mesh  #", "{hub-and-spoke: {hubs: [hub]}}  #"},
		{"a generation", func(d *Domain) { d.Generation = 7 },
			"domain: corp\n", "domain: corp\ngeneration: 7\n"},
		{"a new group", func(d *Domain) { d.Groups = append(d.Groups, &Group{Name: "z", Folders: []*Folder{NewFolder("new")}}) },
			"            path: /srv/a\n", "            path: /srv/a\n  z:\n    topology: full-mesh\n    folders:\n      new: {}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := mustRead(t, text)
			d := doc.Domain.Clone()
			c.change(d)
			next, err := doc.With(d)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(text, c.old) != 1 {
				t.Fatalf("the test's %q is not once in the text", c.old)
			}
			if diff := cmp.Diff(strings.Replace(text, c.old, c.new, 1), string(next.Text())); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTextWithoutALastLineEnd(t *testing.T) {
	doc := mustRead(t, "version: 1\ndomain: corp")
	d := doc.Domain.Clone()
	d.Generation = 3
	next, err := doc.With(d)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(next.Text()); got != "version: 1\ndomain: corp\ngeneration: 3" {
		t.Errorf("text is %q", got)
	}
}

// What cannot be changed in place is written anew rather than wrongly.
func TestCanonicalTextWhereThereIsNoPlace(t *testing.T) {
	doc := mustRead(t, "version: 1\ndomain: corp # name\nservers: {a: , b: }\ngroups:\n  g:\n    connections: [a->b] # beside topology\n")
	d := doc.Domain.Clone()
	d.Groups[0].Topology = Topology{}
	next, err := doc.With(d)
	if err != nil {
		t.Fatal(err)
	}
	if !next.Domain.Equal(d) || strings.Contains(string(next.Text()), "connections") {
		t.Errorf("text says something else:\n%s", next.Text())
	}
}

func TestAnInvalidChangeIsRefused(t *testing.T) {
	doc := completed(t)
	d := doc.Domain.Clone()
	d.GroupByName("projects").FolderByName("docs").Member("hub").Path = "relative"
	if next, err := doc.With(d); err == nil {
		t.Errorf("an invalid domain became a document:\n%s", next.Text())
	} else if !strings.Contains(err.Error(), `path "relative" is relative`) {
		t.Errorf("error does not name the value: %v", err)
	}
}

func TestCloneShares(t *testing.T) {
	a := completed(t).Domain
	b := a.Clone()
	b.Servers[0].Addresses[0] = "changed:1"
	b.GroupByName("chain").Topology.Links[0].Enabled = false
	b.GroupByName("software").Topology.Hubs[0] = "x"
	f := b.GroupByName("projects").FolderByName("media")
	f.Filters.Files[0], f.Filters.Directories[0], f.Members[0].Path = "x", "x", "/x"
	if d := cmp.Diff(completed(t).Domain, a); d != "" {
		t.Errorf("changing a clone changed the original (-want +got):\n%s", d)
	}
	if a.Equal(b) {
		t.Error("Equal does not see the changes")
	}
}

// genDomain draws a valid domain with ids.
func genSchedule(t *rapid.T) *schedule.Schedule {
	b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0xFF, 0x5F, 0x00}), schedule.BlobSize, schedule.BlobSize).Draw(t, "schedule")
	for i := range b {
		b[i] = b[i/8*8]
	}
	s, err := schedule.FromBlob(b, rapid.Bool().Draw(t, "utc"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func genDomain(t *rapid.T) *Domain {
	name := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,6}`)
	word := rapid.StringMatching(`[a-zA-Z0-9 .~*?äß#:'"{}\[\]&!|>%@\\-]{1,8}`)
	names := rapid.SliceOfNDistinct(rapid.OneOf(name, rapid.SampledFrom([]string{"true", "null", "1", "1e3", "id", "path", "y"})), 0, 4, rapid.ID[string])
	n := byte(0)
	id := func() UUID { n++; return UUID{0: n, 15: 1} }
	d := &Domain{Name: name.Draw(t, "domain"), ID: id(), Term: rapid.Uint64Range(1, 3).Draw(t, "term"), Generation: rapid.Uint64().Draw(t, "generation")}
	servers := names.Draw(t, "servers")
	for i, s := range servers {
		e := &Server{Name: s, ID: id()}
		for j := range rapid.IntRange(0, 2).Draw(t, "addresses") {
			e.Addresses = append(e.Addresses, fmt.Sprintf("h%d-%d:7440", i, j))
		}
		if rapid.Bool().Draw(t, "limited") {
			e.MaxRate = schedule.Rate(rapid.Int64Range(int64(schedule.Least), int64(schedule.Most)).Draw(t, "max-rate"))
		}
		if rapid.Bool().Draw(t, "listens") {
			e.Listen = []string{":7440"}
		}
		d.Servers = append(d.Servers, e)
	}
	for gi, gname := range names.Draw(t, "groups") {
		g := &Group{Name: gname, ID: id()}
		if rapid.Bool().Draw(t, "scheduled") {
			g.Schedule = genSchedule(t)
		}
		if len(servers) > 1 {
			if rapid.Bool().Draw(t, "exception") {
				g.Exceptions = []Exception{{servers[0], servers[1], genSchedule(t)}}
			}
			tr := Transfer{
				rapid.Bool().Draw(t, "rdc"), rapid.Bool().Draw(t, "cross-file"), Size(rapid.SampledFrom([]Size{DefaultMinSize, 1 << 20, LeastMinSize}).Draw(t, "min-size")),
				Compression(rapid.IntRange(0, 2).Draw(t, "compression")),
			}
			if tr != DefaultTransfer() {
				g.Transfers = []TransferException{{servers[0], servers[1], tr}}
			}
			switch g.Topology.Kind = TopologyKind(rapid.IntRange(0, 2).Draw(t, "topology")); g.Topology.Kind {
			case HubAndSpoke:
				g.Topology.Hubs = servers[:1]
			case Custom:
				g.Topology.Links = []Link{{servers[0], servers[1], rapid.Bool().Draw(t, "enabled")}}
			}
		}
		for fi, fname := range names.Draw(t, "folders") {
			f := NewFolder(fname)
			f.ID = id()
			f.Case = Case(rapid.IntRange(0, 1).Draw(t, "case"))
			f.DirectoryConflict = DirectoryConflict(rapid.IntRange(0, 1).Draw(t, "directory conflict"))
			f.CaptureBusy = time.Duration(rapid.IntRange(0, 100).Draw(t, "busy")) * time.Second
			f.Filters.Files = rapid.SliceOfNDistinct(word, 0, 3, rapid.ID[string]).Draw(t, "files")
			if len(f.Filters.Files) == 0 {
				f.Filters.Files = nil
			}
			for mi, s := range servers {
				if !rapid.Bool().Draw(t, "member") {
					continue
				}
				m := NewMembership(s, fmt.Sprintf("/%d-%d/%s", gi, fi, strings.TrimRight(word.Draw(t, "path"), "."))+"x")
				m.ID, m.Primary = id(), mi == 0
				m.ReadOnly = mi > 0 && rapid.Bool().Draw(t, "read-only")
				m.Enabled = rapid.Bool().Draw(t, "enabled")
				m.StagingQuota = Size(rapid.IntRange(10<<20, 1<<40).Draw(t, "quota"))
				f.Members = append(f.Members, m)
			}
			g.Folders = append(g.Folders, f)
		}
		d.Groups = append(d.Groups, g)
	}
	d.sort()
	return d
}

func TestTextAndDomainRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := genDomain(t)
		back, err := Parse(Marshal(d), "domain.yaml")
		if err != nil {
			t.Fatalf("canonical text is not valid:\n%v\n%s", err, Marshal(d))
		}
		if diff := cmp.Diff(d, back); diff != "" {
			t.Fatalf("round trip (-want +got):\n%s", diff)
		}
	})
}

// Any domain can be written over any other's text and says what was meant.
func TestAnyChangeOfTheTextSaysWhatWasMeant(t *testing.T) {
	inPlace := 0
	rapid.Check(t, func(t *rapid.T) {
		a, b := genDomain(t), genDomain(t)
		if rapid.Bool().Draw(t, "related") { // mostly the same objects
			b.Servers, b.Groups = a.Clone().Servers, a.Clone().Groups
			for _, g := range b.Groups {
				g.Folders = slices.DeleteFunc(g.Folders, func(*Folder) bool { return rapid.Bool().Draw(t, "gone") })
			}
		}
		doc, err := NewDocument(a)
		if err != nil {
			t.Fatal(err)
		}
		text, ok := rewrite(doc, b)
		if ok {
			if d, err := Parse(text, "domain.yaml"); err == nil && d.Equal(b) {
				inPlace++
			}
		}
		next, err := doc.With(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b, next.Domain); diff != "" {
			t.Fatalf("domain (-want +got):\n%s", diff)
		}
	})
	t.Logf("%d changes made in place", inPlace)
	if inPlace < 80 {
		t.Errorf("only %d changes could be made in place", inPlace)
	}
}

// The example of docs/formats/domain.md is valid, and every key of the code is
// in its tables with its default.
func TestTheDocumentedFormatIsTheCode(t *testing.T) {
	text := string(readFile(t, "../../docs/formats/domain.md"))
	var example strings.Builder
	for line := range strings.Lines(text[strings.Index(text, "    # A comment stays"):]) {
		if !strings.HasPrefix(line, "    ") {
			break
		}
		example.WriteString(line[4:])
	}
	doc := mustRead(t, example.String())
	if n := len(doc.Domain.Groups); n != 3 {
		t.Errorf("the example has %d groups", n)
	}

	tables := map[string][]string{}
	section := ""
	for line := range strings.Lines(text[strings.Index(text, "### Keys"):]) {
		switch {
		case strings.HasPrefix(line, "### Rules"):
			section = "end"
		case strings.HasPrefix(line, "`groups/NAME/topology`"):
			section = "topology"
		case strings.HasPrefix(line, "`") && strings.Contains(line, "`:"), strings.HasPrefix(line, "At the top"):
			section = strings.Trim(strings.TrimSpace(line), "`:")
		case strings.HasPrefix(line, "| `") && section != "end" && section != "topology":
			tables[section] = append(tables[section], strings.Split(line, "`")[1])
		}
	}
	for section, text := range map[string]string{
		"At the top":   "nonsense: 1",
		"servers/NAME": "servers: {x: {nonsense: 1}}",
		"groups/NAME":  "groups: {x: {nonsense: 1}}",
		"groups/NAME/connection-transfers/\"FROM->TO\"": `groups: {x: {connection-transfers: {"a->b": {nonsense: 1}}}}`,
		"groups/NAME/folders/NAME":                      "groups: {x: {folders: {y: {nonsense: 1}}}}",
		"groups/NAME/folders/NAME/members/SERVER":       "groups: {x: {folders: {y: {members: {z: {nonsense: 1}}}}}}",
	} {
		_, err := Parse([]byte(text), "x")
		_, list, ok := strings.Cut(fmt.Sprint(err), "unknown key \"nonsense\"; remove it, or use one of ")
		list, _, _ = strings.Cut(list, "\n")
		if !ok {
			t.Fatalf("%s: the error does not list the keys: %v", section, err)
		}
		keys := strings.Split(list, ", ")
		keys = slices.DeleteFunc(keys, func(k string) bool { return k == "connections" || k == "hub-and-spoke" }) // forms of topology
		documented := slices.Sorted(slices.Values(tables[section]))
		if d := cmp.Diff(keys, documented); d != "" {
			t.Errorf("%s: keys (-code +document):\n%s", section, d)
		}
	}
}
