package directory

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const granted = `version: 1
domain: corp
servers:
  hub: {address: "hub:7440"}
  branch: {address: "branch:7440"}
admins:
  alice: {}
grants:
  "admin:alice": admin
  "server:branch": [operator]
  # the help desk
  "group:domain users": [reader]
  "user:CORP\\bob": [reader, group-admin projects]
groups:
  projects:
    folders:
      docs:
        members:
          hub: {path: /srv/docs, primary: true}
          branch: {path: /srv/docs}
  other:
    folders:
      x:
        members:
          hub: {path: /srv/other/x, primary: true}
`

func readGranted(t *testing.T) *Document {
	t.Helper()
	doc, err := Read([]byte(granted), "d")
	if err != nil {
		t.Fatal(err)
	}
	if doc, err = doc.Complete(nil, rand.Reader); err != nil {
		t.Fatal(err)
	}
	return doc
}

// Grants are read, written and changed in their place, and give rights.
func TestGrants(t *testing.T) {
	doc := readGranted(t)
	d := doc.Domain
	again, err := NewDocument(d)
	if err != nil || !again.Domain.Equal(d) {
		t.Fatalf("canonical text: %v\n%s", err, Marshal(d))
	}
	bob, users := Principal{PrincipalUser, `CORP\bob`}, Principal{PrincipalGroup, "domain users"}
	for _, c := range []struct {
		who  []Principal
		want string
	}{
		{[]Principal{bob, users}, "reader, group-admin projects"},
		{[]Principal{{PrincipalAdmin, "alice"}}, "admin"},
		{[]Principal{{PrincipalUser, "alice"}}, "no role"},
		{nil, "no role"},
	} {
		if got := d.RightsOf(c.who...).String(); got != c.want {
			t.Errorf("rights of %v: %s, want %s", c.who, got, c.want)
		}
	}
	r := d.RightsOf(bob)
	if !r.Operates("projects") || r.Operates("other") || r.Operates("") || r.Administers("other") || r.Admin() || !d.RightsOf(Principal{PrincipalServer, "branch"}).Operates("") {
		t.Errorf("rights of bob: %v", r)
	}
	next := d.Clone()
	if next.Grant(bob, Role{Kind: RoleReader}) || !next.Grant(bob, Role{Kind: RoleOperator}) || !next.Grant(Principal{PrincipalUser, "carol"}, Role{Kind: RoleReader}) {
		t.Error("what is new is told wrongly")
	}
	edited, err := doc.With(next)
	if err != nil || !strings.Contains(string(edited.Text()), "# the help desk") {
		t.Fatalf("the comment is lost: %v\n%s", err, edited.Text())
	}
	want := []string{`grant to user:CORP\bob: roles reader, group-admin projects -> reader, operator, group-admin projects`, "grant to user:carol: roles none -> reader"}
	var got []string
	for _, c := range Diff(d, edited.Domain) {
		got = append(got, c.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !next.Ungrant(func(p Principal, _ Role) bool { return p == bob }) || next.RightsOf(bob) != nil || next.Ungrant(func(p Principal, _ Role) bool { return p == bob }) {
		t.Errorf("after the ungrant: %v", next.Grants)
	}
}

// A grant to or of what there is not is an error with its place.
func TestGrantProblems(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{`"admin:alice"`, `"admin:alic"`, `did you mean "alice"`}, {`"server:branch"`, `"server:x"`, "unknown server"},
		{"group-admin projects", "group-admin project", `did you mean "projects"`}, {"[operator]", "[operators]", "no such role"},
		{"[operator]", "[operator, operator]", "twice"}, {"[operator]", "[operator hub]", "whole domain"}, {"[operator]", "[group-admin]", "names no object"},
		{`"server:branch"`, `"branch"`, "KIND:NAME"}, {`"server:branch"`, `"host:branch"`, "unknown kind"}, {`"user:CORP\\bob"`, `"user: "`, "no account"},
		{"alice: {}", "alice: {key: x}", `unknown key "key"`}, {"alice: {}", "two words: {}", "is not a name"},
	} {
		_, err := Read([]byte(strings.Replace(granted, c.from, c.to, 1)), "d")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s -> %s: want %q in\n%v", c.from, c.to, c.want, err)
		}
	}
}

// One who administers a group changes what is in it, near where it is, and
// nothing else.
func TestMayChange(t *testing.T) {
	doc := readGranted(t)
	r := Rights{{RoleGroupAdmin, "projects"}}
	group := func(d *Domain, name string) *Group { return d.GroupByName(name) }
	for _, c := range []struct {
		what   string
		change func(d *Domain)
		want   string // empty: allowed
	}{
		{"nothing", func(*Domain) {}, ""},
		{"a filter", func(d *Domain) { group(d, "projects").Folders[0].Filters.Files = nil }, ""},
		{"a topology", func(d *Domain) { group(d, "projects").Topology = Topology{Kind: HubAndSpoke, Hubs: []string{"hub"}} }, ""},
		{"a folder beside", func(d *Domain) {
			f := NewFolder("media")
			f.Members = []*Membership{NewMembership("hub", "/srv/media")}
			group(d, "projects").Folders = append(group(d, "projects").Folders, f)
		}, ""},
		{"a path elsewhere", func(d *Domain) { group(d, "projects").Folders[0].Members[0].Path = "/etc" }, "not near"},
		{"a path that only looks near", func(d *Domain) { group(d, "projects").Folders[0].Members[0].Path = "/srvetc" }, "not near"},
		{"a path in another group's folder", func(d *Domain) { group(d, "projects").Folders[0].Members[1].Path = "/srv/other/x/in" }, "overlaps /srv/other/x"},
		{"a path around one", func(d *Domain) { group(d, "projects").Folders[0].Members[1].Path = "/srv/other" }, "overlaps /srv/other/x"},
		{"its name", func(d *Domain) { group(d, "projects").Name = "mine" }, "rename"},
		{"another group", func(d *Domain) { group(d, "other").Folders = nil }, "remove folder other/x"},
		{"its removal", func(d *Domain) { d.Groups = d.Groups[:1] }, "remove group"},
		{"a server", func(d *Domain) { d.Servers[0].Addresses = []string{"evil:1"} }, "address"},
		{"a grant", func(d *Domain) { d.Grant(Principal{PrincipalUser, "bob"}, Role{Kind: RoleAdmin}) }, "grant to user:bob"},
		{"another group in its place", func(d *Domain) { group(d, "projects").ID = UUID{9} }, "group projects"},
	} {
		next := doc.Domain.Clone()
		c.change(next)
		err := r.MayChange(doc.Domain, next)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.want != "" && (!errors.Is(err, ErrBeyond) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: want %q in %v", c.what, c.want, err)
		}
		if err := AllRights().MayChange(doc.Domain, next); err != nil {
			t.Errorf("%s by an admin: %v", c.what, err)
		}
	}
}

// The record of a change names all that is removed, with what it had.
func TestEdits(t *testing.T) {
	doc := readGranted(t)
	next := doc.Domain.Clone()
	next.Groups = next.Groups[1:] // "other" goes
	next.Groups[0].Folders[0].Rest = 0
	next.Groups[0].Folders[0].Rest = 5e9
	want := []Edit{
		{"set", "folder projects/docs", "rest", "1m", "5s"},
		{Op: "remove", Object: "group other", Before: "topology full-mesh"},
		{Op: "remove", Object: "folder other/x", Before: "none"},
		{Op: "remove", Object: "membership other/x@hub", Before: "path /srv/other/x; primary yes"},
	}
	if diff := cmp.Diff(want, Edits(doc.Domain, next)); diff != "" {
		t.Error(diff)
	}
}
