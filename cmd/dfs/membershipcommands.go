package main

import (
	"path"
	"slices"
	"strings"

	"opendfs/internal/directory"

	"github.com/spf13/cobra"
)

// membershipView is a membership as --json shows it.
type membershipView struct {
	Name              string `json:"name"` // GROUP/FOLDER@SERVER
	ID                string `json:"id"`
	Path              string `json:"path"`
	Primary           bool   `json:"primary"`
	ReadOnly          bool   `json:"readOnly"`
	Enabled           bool   `json:"enabled"`
	StagingQuota      string `json:"stagingQuota"`
	ConflictQuota     string `json:"conflictQuota"`
	ConflictRetention string `json:"conflictRetention"`
}

func viewMembership(g *directory.Group, f *directory.Folder, m *directory.Membership) membershipView {
	return membershipView{
		Name: g.Name + "/" + f.Name + "@" + m.Server, ID: m.ID.String(), Path: m.Path, Primary: m.Primary, ReadOnly: m.ReadOnly, Enabled: m.Enabled,
		StagingQuota: m.StagingQuota.String(), ConflictQuota: m.ConflictQuota.String(), ConflictRetention: directory.FormatDuration(m.ConflictRetention),
	}
}

func (v *membershipView) flags() string {
	var list []string
	for _, f := range []struct {
		is   bool
		word string
	}{{v.Primary, "primary"}, {v.ReadOnly, "read-only"}, {!v.Enabled, "disabled"}} {
		if f.is {
			list = append(list, f.word)
		}
	}
	return orDash(strings.Join(list, ", "))
}

func membershipCommand(o *options) *cobra.Command {
	c := noun(o, "membership", "servers' parts in folders: create, list, show, set, remove, adopt",
		createMembership(),
		viewer{use: "list [GROUP[/FOLDER]]", short: "list the memberships", example: "  dfs membership list projects/docs", args: wants(0, 1, "at most one GROUP/FOLDER"), complete: first(folderNames), show: listMemberships},
		viewer{use: "show GROUP/FOLDER@SERVER", short: "show one membership", example: "  dfs membership show projects/docs@branch", args: one("GROUP/FOLDER@SERVER"), complete: first(membershipNames), show: showMembership},
		setMembership(),
		editor{use: "remove GROUP/FOLDER@SERVER", short: "take a server out of a folder", long: `
Ends the replication of a folder on one server. Its files stay there.`,
			example: "  dfs membership remove projects/docs@branch", args: one("GROUP/FOLDER@SERVER"), complete: first(membershipNames),
			change: func(_ *cobra.Command, d *directory.Domain, args []string) error {
				f, m, err := findMembership(d, args[0])
				if err == nil {
					f.Members = slices.DeleteFunc(f.Members, func(o *directory.Membership) bool { return o == m })
				}
				return err
			}})
	c.AddCommand(adoptCommand(o))
	return c
}

func listMemberships(d *directory.Domain, args []string) (view, error) {
	list := []membershipView{}
	v := view{header: []string{"MEMBERSHIP", "PATH", "FLAGS", "STAGING", "CONFLICTS"}}
	only, found := "", len(args) == 0
	if len(args) == 1 {
		only = args[0]
	}
	for _, g := range d.Groups {
		found = found || g.Name == only
		for _, f := range g.Folders {
			name := g.Name + "/" + f.Name
			if only != "" && only != g.Name && only != name {
				continue
			}
			found = true
			for _, m := range f.Members {
				mv := viewMembership(g, f, m)
				list = append(list, mv)
				v.rows = append(v.rows, []string{mv.Name, mv.Path, mv.flags(), mv.StagingQuota, mv.ConflictQuota})
			}
		}
	}
	if !found {
		return v, unknown("folder", only, folderNames(d))
	}
	v.value = list
	return v, nil
}

func showMembership(d *directory.Domain, args []string) (view, error) {
	f, m, err := findMembership(d, args[0])
	if err != nil {
		return view{}, err
	}
	group, _, _ := strings.Cut(args[0], "/")
	mv := viewMembership(d.GroupByName(group), f, m)
	return view{value: mv, rows: [][]string{
		{"Membership", mv.Name}, {"Id", mv.ID}, {"Path", mv.Path}, {"Flags", mv.flags()},
		{"Staging quota", mv.StagingQuota}, {"Conflict quota", mv.ConflictQuota}, {"Conflict retention", mv.ConflictRetention},
	}}, nil
}

// membershipFlags are a membership's options on a command line.
type membershipFlags struct {
	path                       string
	primary, readOnly, enabled bool
	staging, conflict, retain  string
}

func (f *membershipFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.path, "path", "", "the absolute path on that server")
	c.Flags().BoolVar(&f.primary, "primary", false, "its content wins the initial sync")
	c.Flags().BoolVar(&f.readOnly, "read-only", false, "changes made there are undone")
	c.Flags().BoolVar(&f.enabled, "enabled", true, "whether it replicates")
	c.Flags().StringVar(&f.staging, "staging-quota", "", "a target for staging: 4GiB")
	c.Flags().StringVar(&f.conflict, "conflict-quota", "", "a target for the conflict store: 4GiB")
	c.Flags().StringVar(&f.retain, "conflict-retention", "", "how long a loser is kept at least: 7d")
}

// set changes m as the flags say. Another member that is primary is it no more.
func (f *membershipFlags) set(c *cobra.Command, folder *directory.Folder, m *directory.Membership) error {
	given := c.Flags().Changed
	if given("path") {
		m.Path = f.path
	}
	if given("primary") {
		for _, other := range folder.Members {
			other.Primary = other.Primary && !f.primary
		}
		m.Primary = f.primary
	}
	if given("read-only") {
		m.ReadOnly = f.readOnly
	}
	if given("enabled") {
		m.Enabled = f.enabled
	}
	for _, q := range []struct {
		flag, text string
		to         *directory.Size
	}{{"staging-quota", f.staging, &m.StagingQuota}, {"conflict-quota", f.conflict, &m.ConflictQuota}} {
		if !given(q.flag) {
			continue
		}
		v, err := directory.ParseSize(q.text)
		if err != nil {
			return badSetting(q.flag, err)
		}
		*q.to = v
	}
	if given("conflict-retention") {
		v, err := directory.ParseDuration(f.retain)
		if err != nil {
			return badSetting("conflict-retention", err)
		}
		m.ConflictRetention = v
	}
	return nil
}

func createMembership() editor {
	f := &membershipFlags{}
	return editor{
		use: "create GROUP/FOLDER@SERVER --path PATH", short: "make a server a member of a folder", args: one("GROUP/FOLDER@SERVER"),
		example: "  dfs membership create projects/docs@hub --path /srv/docs --primary\n  dfs membership create projects/docs@branch --path /srv/docs",
		flags:   f.add,
		complete: func(d *directory.Domain, args []string) []string {
			var list []string
			for _, folder := range folderNames(d) {
				for _, s := range serverNames(d) {
					list = append(list, folder+"@"+s)
				}
			}
			have := membershipNames(d)
			return slices.DeleteFunc(list, func(name string) bool { return len(args) > 0 || slices.Contains(have, name) })
		},
		change: func(c *cobra.Command, d *directory.Domain, args []string) error {
			name, server, err := splitMembership(args[0])
			if err != nil {
				return err
			}
			_, folder, err := findFolder(d, name)
			if err != nil {
				return err
			}
			if _, err := findServer(d, server); err != nil {
				return err
			}
			if folder.Member(server) != nil {
				return exists("membership", args[0])
			}
			if f.path == "" {
				return usageError("%s: --path says where the folder lies on %s", c.CommandPath(), server)
			}
			m := directory.NewMembership(server, f.path)
			if err := f.set(c, folder, m); err != nil {
				return err
			}
			folder.Members = append(folder.Members, m)
			return nil
		},
	}
}

func setMembership() editor {
	f := &membershipFlags{}
	return editor{
		use: "set GROUP/FOLDER@SERVER", short: "change a membership's path, flags or quotas", args: one("GROUP/FOLDER@SERVER"), complete: first(membershipNames), flags: f.add,
		example: "  dfs membership set projects/docs@branch --read-only\n  dfs membership set projects/docs@branch --enabled=false",
		change: func(c *cobra.Command, d *directory.Domain, args []string) error {
			folder, m, err := findMembership(d, args[0])
			if err != nil {
				return err
			}
			if err := named(c); err != nil {
				return err
			}
			return f.set(c, folder, m)
		},
	}
}

// memberView is a server in a group as --json shows it.
type memberView struct {
	Group   string   `json:"group"`
	Server  string   `json:"server"`
	Hub     bool     `json:"hub"`
	Folders []string `json:"folders"`
}

func memberCommand(o *options) *cobra.Command {
	inGroup := func(d *directory.Domain, args []string) []string {
		if len(args) == 0 {
			return groupNames(d)
		}
		if g := d.GroupByName(args[0]); g != nil && len(args) == 1 {
			return groupMembers(g)
		}
		return nil
	}
	base := ""
	return noun(o, "member", "servers of groups: add, list, show, set, remove",
		editor{
			use: "add GROUP SERVER --path DIR", short: "make a server a member of every folder of a group", args: wants(2, 2, "GROUP and SERVER"),
			example: "  dfs member add projects branch --path /srv      (docs in /srv/docs, media in /srv/media)",
			complete: func(d *directory.Domain, args []string) []string {
				if len(args) == 1 {
					return serverNames(d)
				}
				return first(groupNames)(d, args)
			},
			flags: func(c *cobra.Command) {
				c.Flags().StringVar(&base, "path", "", "the directory that each folder has its own in")
				must(c.MarkFlagRequired("path"))
			},
			change: func(_ *cobra.Command, d *directory.Domain, args []string) error {
				return addMember(d, args[0], args[1], base)
			},
		},
		viewer{use: "list [GROUP]", short: "list the members of groups", example: "  dfs member list projects", args: wants(0, 1, "at most one GROUP"), complete: first(groupNames), show: listMembers},
		viewer{use: "show GROUP SERVER", short: "show one member", example: "  dfs member show projects branch", args: wants(2, 2, "GROUP and SERVER"), complete: inGroup, show: listMembers},
		setMember(inGroup),
		editor{
			use: "remove GROUP SERVER", short: "take a server out of every folder of a group", args: wants(2, 2, "GROUP and SERVER"), complete: inGroup, example: "  dfs member remove projects branch",
			long: "\nEnds the replication of a group's folders on one server. Its files stay there.",
			change: func(_ *cobra.Command, d *directory.Domain, args []string) error {
				g, err := findMember(d, args)
				if err != nil {
					return err
				}
				for _, f := range g.Folders {
					f.Members = slices.DeleteFunc(f.Members, func(m *directory.Membership) bool { return m.Server == args[1] })
				}
				return leaveGroup(g, args[1])
			},
		})
}

// findMember finds the group of GROUP SERVER.
func findMember(d *directory.Domain, args []string) (*directory.Group, error) {
	g, err := findGroup(d, args[0])
	if err == nil && !slices.Contains(groupMembers(g), args[1]) {
		err = unknown("member", args[0]+" "+args[1], groupMembers(g))
	}
	return g, err
}

func addMember(d *directory.Domain, group, server, base string) error {
	g, err := findGroup(d, group)
	if err != nil {
		return err
	}
	if _, err := findServer(d, server); err != nil {
		return err
	}
	if len(g.Folders) == 0 {
		return usageError("group %s has no folder yet; dfs folder create %s/FOLDER", group, group)
	}
	added := false
	for _, f := range g.Folders {
		if f.Member(server) == nil {
			f.Members = append(f.Members, directory.NewMembership(server, path.Join(base, f.Name)))
			added = true
		}
	}
	if !added {
		return exists("member", group+" "+server)
	}
	return nil
}

// setMember enables or disables a server in a whole group.
func setMember(inGroup func(*directory.Domain, []string) []string) editor {
	enabled := true
	return editor{
		use: "set GROUP SERVER", short: "enable or disable a server in every folder of a group", args: wants(2, 2, "GROUP and SERVER"), complete: inGroup,
		example: "  dfs member set projects branch --enabled=false",
		flags:   func(c *cobra.Command) { c.Flags().BoolVar(&enabled, "enabled", true, "whether it replicates") },
		change: func(c *cobra.Command, d *directory.Domain, args []string) error {
			g, err := findMember(d, args)
			if err != nil {
				return err
			}
			if err := named(c); err != nil {
				return err
			}
			for _, f := range g.Folders {
				if m := f.Member(args[1]); m != nil {
					m.Enabled = enabled
				}
			}
			return nil
		},
	}
}

func listMembers(d *directory.Domain, args []string) (view, error) {
	list := []memberView{}
	v := view{header: []string{"GROUP", "SERVER", "HUB", "FOLDERS"}}
	if len(args) > 0 {
		if _, err := findGroup(d, args[0]); err != nil {
			return v, err
		}
	}
	if len(args) == 2 {
		if _, err := findMember(d, args); err != nil {
			return v, err
		}
	}
	for _, g := range d.Groups {
		for _, s := range groupMembers(g) {
			if len(args) > 0 && g.Name != args[0] || len(args) == 2 && s != args[1] {
				continue
			}
			mv := memberView{Group: g.Name, Server: s, Hub: slices.Contains(g.Topology.Hubs, s), Folders: []string{}}
			for _, f := range g.Folders {
				if f.Member(s) != nil {
					mv.Folders = append(mv.Folders, f.Name)
				}
			}
			list = append(list, mv)
			v.rows = append(v.rows, []string{g.Name, s, yesNo(mv.Hub), strings.Join(mv.Folders, ", ")})
		}
	}
	v.value = list
	return v, nil
}
