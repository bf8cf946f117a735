package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"opendfs/internal/directory"

	"github.com/spf13/cobra"
)

// groupView is a replication group as --json shows it.
type groupView struct {
	Name     string   `json:"name"`
	ID       string   `json:"id"`
	Topology string   `json:"topology"` // full-mesh, hub-and-spoke, connections
	Hubs     []string `json:"hubs"`
	Members  []string `json:"members"`
	Folders  []string `json:"folders"`
	Schedule string   `json:"schedule"`
}

func viewGroup(g *directory.Group) groupView {
	v := groupView{
		Name: g.Name, ID: g.ID.String(), Topology: g.Topology.Kind.String(), Hubs: orEmpty(g.Topology.Hubs),
		Members: orEmpty(groupMembers(g)), Folders: []string{}, Schedule: g.Schedule.String(),
	}
	for _, f := range g.Folders {
		v.Folders = append(v.Folders, f.Name)
	}
	return v
}

// groupMembers are the servers with a membership in any folder of the group.
func groupMembers(g *directory.Group) []string {
	var list []string
	for _, f := range g.Folders {
		for _, m := range f.Members {
			list = append(list, m.Server)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (v *groupView) topology() string {
	if len(v.Hubs) > 0 {
		return v.Topology + " of " + strings.Join(v.Hubs, ", ")
	}
	return v.Topology
}

func groupCommand(o *options) *cobra.Command {
	return noun(o, "group", "replication groups: create, list, show, set, remove",
		createGroup(), viewer{use: "list", short: "list the groups", example: "  dfs group list", args: none, show: listGroups},
		viewer{use: "show GROUP", short: "show one group", example: "  dfs group show projects", args: one("GROUP"), complete: first(groupNames), show: showGroup},
		setGroup(),
		editor{use: "remove GROUP", short: "take a group with its folders out of the domain", long: `
Ends the replication of a group's folders. The files stay on every server.`,
			example: "  dfs group remove projects", args: one("GROUP"), complete: first(groupNames), change: func(_ *cobra.Command, d *directory.Domain, args []string) error {
				g, err := findGroup(d, args[0])
				d.Ungrant(func(_ directory.Principal, r directory.Role) bool {
					return r == directory.Role{Kind: directory.RoleGroupAdmin, Object: args[0]}
				})
				d.Groups = slices.DeleteFunc(d.Groups, func(o *directory.Group) bool { return o == g })
				return err
			}})
}

func listGroups(d *directory.Domain, _ []string) (view, error) {
	list := []groupView{}
	v := view{header: []string{"GROUP", "TOPOLOGY", "MEMBERS", "FOLDERS", "SCHEDULE"}}
	for _, g := range d.Groups {
		gv := viewGroup(g)
		list = append(list, gv)
		v.rows = append(v.rows, []string{g.Name, gv.topology(), orDash(strings.Join(gv.Members, ", ")), orDash(strings.Join(gv.Folders, ", ")), gv.Schedule})
	}
	v.value = list
	return v, nil
}

func showGroup(d *directory.Domain, args []string) (view, error) {
	g, err := findGroup(d, args[0])
	if err != nil {
		return view{}, err
	}
	gv := viewGroup(g)
	return view{value: gv, rows: [][]string{
		{"Group", gv.Name}, {"Id", gv.ID}, {"Topology", gv.topology()}, {"Members", orDash(strings.Join(gv.Members, ", "))},
		{"Folders", orDash(strings.Join(gv.Folders, ", "))}, {"Schedule", gv.Schedule}, {"Connections", orDash(strings.Join(connectionNames(d, g), ", "))},
	}}, nil
}

// topologyFlags are how a topology is named on a command line.
type topologyFlags struct {
	topology string
	hubs     []string
}

func (f *topologyFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.topology, "topology", "", "full-mesh, hub-and-spoke, or connections, as dfs connection lists them")
	c.Flags().StringSliceVar(&f.hubs, "hub", nil, "a hub; makes the topology hub-and-spoke")
}

// set changes a group's topology as the flags say. Connections begin as those that
// the group has.
func (f *topologyFlags) set(d *directory.Domain, g *directory.Group) error {
	kind := f.topology
	if kind == "" && len(f.hubs) > 0 {
		kind = directory.HubAndSpoke.String()
	}
	t := directory.Topology{}
	switch kind {
	case "":
		return nil
	case directory.FullMesh.String():
	case directory.HubAndSpoke.String():
		t.Kind, t.Hubs = directory.HubAndSpoke, f.hubs
		if len(f.hubs) == 0 {
			return usageError("--topology hub-and-spoke: name its hubs with --hub SERVER")
		}
	case directory.Custom.String():
		t.Kind = directory.Custom
		for _, name := range connectionNames(d, g) {
			from, to, _ := strings.Cut(name, "->")
			t.Links = append(t.Links, directory.Link{From: from, To: to, Enabled: true})
		}
		if g.Topology.Kind == directory.Custom {
			t.Links = g.Topology.Links
		}
	default:
		return usageError("--topology %q: it is full-mesh, hub-and-spoke or connections", kind)
	}
	if len(f.hubs) > 0 && t.Kind != directory.HubAndSpoke {
		return usageError("--hub belongs to the topology hub-and-spoke, not %s", kind)
	}
	for _, h := range f.hubs {
		if _, err := findServer(d, h); err != nil {
			return err
		}
	}
	g.Topology = t
	return nil
}

func createGroup() editor {
	f := &topologyFlags{}
	return editor{
		use: "create GROUP", short: "make a group", example: "  dfs group create projects\n  dfs group create software --hub hub", args: one("GROUP"), flags: f.add,
		change: func(_ *cobra.Command, d *directory.Domain, args []string) error {
			if d.GroupByName(args[0]) != nil {
				return exists("group", args[0])
			}
			g := &directory.Group{Name: args[0]}
			d.Groups = append(d.Groups, g)
			return f.set(d, g)
		},
	}
}

func setGroup() editor {
	f := &topologyFlags{}
	name, life, slow := "", "", ""
	return editor{
		use: "set GROUP", short: "change a group's topology, name or the memory of its folders", example: "  dfs group set projects --topology hub-and-spoke --hub hub", args: one("GROUP"), complete: first(groupNames),
		flags: func(c *cobra.Command) {
			f.add(c)
			c.Flags().StringVar(&name, "name", "", "another name; it keeps its identity")
			c.Flags().StringVar(&life, "tombstone-lifetime", "", "how long deletions are remembered in all folders of the group: 60d")
			c.Flags().StringVar(&slow, "slow-sync", "", "how often members compare their records, in all folders of the group: 7d, 0s for never")
		},
		change: func(c *cobra.Command, d *directory.Domain, args []string) error {
			g, err := findGroup(d, args[0])
			if err != nil {
				return err
			}
			if err := named(c); err != nil {
				return err
			}
			if name != "" && name != g.Name {
				if d.GroupByName(name) != nil {
					return exists("group", name)
				}
				for i := range d.Grants {
					for j, r := range d.Grants[i].Roles {
						if r == (directory.Role{Kind: directory.RoleGroupAdmin, Object: g.Name}) {
							d.Grants[i].Roles[j].Object = name
						}
					}
				}
				g.Name = name
			}
			for _, of := range []struct {
				flag, text string
				to         func(*directory.Folder) *time.Duration
			}{
				{"tombstone-lifetime", life, func(f *directory.Folder) *time.Duration { return &f.TombstoneLifetime }},
				{"slow-sync", slow, func(f *directory.Folder) *time.Duration { return &f.SlowSync }},
			} {
				if !c.Flags().Changed(of.flag) {
					continue
				}
				v, err := directory.ParseDuration(of.text)
				if err != nil {
					return badSetting(of.flag, err)
				}
				for _, folder := range g.Folders {
					*of.to(folder) = v
				}
			}
			return f.set(d, g)
		},
	}
}

// connectionView is a connection as --json shows it.
type connectionView struct {
	Group    string `json:"group"`
	From     string `json:"from"`
	To       string `json:"to"`
	Enabled  bool   `json:"enabled"`
	Schedule string `json:"schedule"`
	Own      bool   `json:"ownSchedule"` // the schedule is not the group's
	// How TO brings contents.
	RDC         bool   `json:"rdc"`
	CrossFile   bool   `json:"crossFile"`
	MinSize     string `json:"rdcMinSize"`
	Compression string `json:"compression"` // auto, on, off
}

func connectionCommand(o *options) *cobra.Command {
	pair := func(d *directory.Domain, args []string) []string {
		if len(args) == 0 {
			return groupNames(d)
		}
		if g := d.GroupByName(args[0]); g != nil && len(args) == 1 {
			return connectionNames(d, g)
		}
		return nil
	}
	return noun(o, "connection", "who pulls from whom: add, list, show, set, remove",
		editor{use: "add GROUP FROM->TO", short: "add a one-way connection", long: `
Adds a connection: TO pulls from FROM. The group's topology has to be connections:
dfs group set GROUP --topology connections turns any other into a list.`,
			example: "  dfs connection add projects 'hub->branch'", args: wants(2, 2, "GROUP and FROM->TO"), complete: first(groupNames), change: addConnection},
		viewer{use: "list [GROUP]", short: "list the connections", example: "  dfs connection list projects", args: wants(0, 1, "at most one GROUP"), complete: first(groupNames), show: listConnections},
		viewer{use: "show GROUP FROM->TO", short: "show one connection", example: "  dfs connection show projects 'hub->branch'", args: wants(2, 2, "GROUP and FROM->TO"), complete: pair, show: listConnections},
		setConnection(pair),
		editor{use: "remove GROUP FROM->TO", short: "remove a connection", example: "  dfs connection remove projects 'hub->branch'", args: wants(2, 2, "GROUP and FROM->TO"), complete: pair,
			change: func(_ *cobra.Command, d *directory.Domain, args []string) error {
				return withLink(d, args, func(g *directory.Group, i int) error {
					l := g.Topology.Links[i]
					g.Topology.Links = slices.Delete(g.Topology.Links, i, i+1)
					g.Exceptions = slices.DeleteFunc(g.Exceptions, func(e directory.Exception) bool { return e.From == l.From && e.To == l.To })
					g.Transfers = slices.DeleteFunc(g.Transfers, func(e directory.TransferException) bool { return e.From == l.From && e.To == l.To })
					return nil
				})
			}})
}

// customGroup finds a group whose connections are listed.
func customGroup(d *directory.Domain, name string) (*directory.Group, error) {
	g, err := findGroup(d, name)
	if err == nil && g.Topology.Kind != directory.Custom {
		err = usageError("group %s has the topology %s, whose connections follow from it; dfs group set %s --topology connections makes a list of them", g.Name, g.Topology.Kind, g.Name)
	}
	return g, err
}

func addConnection(_ *cobra.Command, d *directory.Domain, args []string) error {
	g, err := customGroup(d, args[0])
	if err != nil {
		return err
	}
	from, to, err := splitConnection(d, args[1])
	if err != nil {
		return err
	}
	if slices.ContainsFunc(g.Topology.Links, func(l directory.Link) bool { return l.From == from && l.To == to }) {
		return exists("connection", args[1])
	}
	g.Topology.Links = append(g.Topology.Links, directory.Link{From: from, To: to, Enabled: true})
	return nil
}

// withLink calls change with the index of a listed connection.
func withLink(d *directory.Domain, args []string, change func(g *directory.Group, i int) error) error {
	g, err := customGroup(d, args[0])
	if err != nil {
		return err
	}
	i := slices.IndexFunc(g.Topology.Links, func(l directory.Link) bool { return l.From+"->"+l.To == args[1] })
	if i < 0 {
		return unknown("connection", args[1], connectionNames(d, g))
	}
	return change(g, i)
}

// connectionsOf lists a group's connections, those that are disabled too.
func connectionsOf(d *directory.Domain, g *directory.Group) []connectionView {
	var list []connectionView
	add := func(from, to string, enabled bool) {
		own := slices.ContainsFunc(g.Exceptions, func(e directory.Exception) bool { return e.From == from && e.To == to })
		t := g.TransferOf(from, to)
		list = append(list, connectionView{
			g.Name, from, to, enabled, g.ScheduleOf(from, to).String(), own, t.RDC, t.CrossFile, t.MinSize.String(), t.Compression.String(),
		})
	}
	if g.Topology.Kind == directory.Custom {
		for _, l := range g.Topology.Links {
			add(l.From, l.To, l.Enabled)
		}
		return list
	}
	for _, name := range connectionNames(d, g) {
		from, to, _ := strings.Cut(name, "->")
		add(from, to, true)
	}
	return list
}

// listConnections lists those of all groups, of one, or one of them.
func listConnections(d *directory.Domain, args []string) (view, error) {
	groups := d.Groups
	if len(args) > 0 {
		g, err := findGroup(d, args[0])
		if err != nil {
			return view{}, err
		}
		groups = []*directory.Group{g}
	}
	list := []connectionView{}
	v := view{header: []string{"GROUP", "CONNECTION", "ENABLED", "SCHEDULE", "TRANSFER"}}
	for _, g := range groups {
		for _, c := range connectionsOf(d, g) {
			if len(args) == 2 && c.From+"->"+c.To != args[1] {
				continue
			}
			list = append(list, c)
			text := c.Schedule
			if !c.Own {
				text += " (the group's)"
			}
			v.rows = append(v.rows, []string{g.Name, c.From + "->" + c.To, yesNo(c.Enabled), text, g.TransferOf(c.From, c.To).String()})
		}
	}
	if len(args) == 2 && len(list) == 0 {
		return v, unknown("connection", args[1], connectionNames(d, groups[0]))
	}
	v.value = list
	return v, nil
}

func badSetting(flag string, err error) error {
	return usageError("%v", fmt.Errorf("--%s: %w", flag, err))
}
