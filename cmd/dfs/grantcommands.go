package main

import (
	"fmt"
	"slices"
	"strings"

	"opendfs/internal/control"
	"opendfs/internal/directory"

	"github.com/spf13/cobra"
)

// grantView is what one principal has, as --json shows it.
type grantView struct {
	To    string   `json:"to"`
	Roles []string `json:"roles"`
}

func grantCommand(o *options) *cobra.Command {
	return editor{
		use: "grant ROLE [GROUP] WHO", short: "let somebody do something with the domain", long: `
Grants a role: reader (status, backlog, health: everything that can be asked),
operator (that, and pause, resume, sync-now, restore), group-admin GROUP (changes
one replication group, and operates it), namespace-admin ROOT, admin (everything).

WHO is user:NAME or group:NAME, an account of the server that is asked, as its name
service knows it (local, sssd, winbind) or by number; server:NAME, the identity of
a server; admin:NAME, an administrator's identity (dfs invite --admin NAME). Roles
add up. It takes effect at once, everywhere.

Users ask on the control socket ` + runSocket + `, which is open to all;
identities ask any member by its port: dfs --server HOST status. Root of a server
needs no grant there.`,
		example: "  dfs grant reader user:bob\n  dfs grant group-admin projects 'group:project leads'\n  dfs grant admin admin:alice",
		args:    wants(2, 3, "ROLE, the GROUP of a group-admin, and WHO"), complete: completeGrant,
		change: func(_ *cobra.Command, d *directory.Domain, args []string) error {
			role, who, err := parseGrant(d, args)
			if err != nil {
				return err
			}
			d.Grant(who, role)
			return nil
		},
	}.command(o)
}

func ungrantCommand(o *options) *cobra.Command {
	return editor{
		use: "ungrant ROLE [GROUP] WHO | ungrant WHO", short: "take a role back, or all that somebody has",
		long:    "\nTakes a role back that `dfs grant` gave, at once. With WHO alone all of its roles.",
		example: "  dfs ungrant reader user:bob\n  dfs ungrant admin:alice",
		args:    wants(1, 3, "ROLE, the GROUP of a group-admin, and WHO; or WHO alone"), complete: completeGrant,
		change: func(_ *cobra.Command, d *directory.Domain, args []string) error {
			role, who, err := directory.Role{}, directory.Principal{}, error(nil)
			if len(args) == 1 {
				if who, err = directory.ParsePrincipal(args[0]); err != nil {
					return &failure{err, exitUsage}
				}
			} else if role, who, err = parseGrant(nil, args); err != nil {
				return err
			}
			if d.Ungrant(func(p directory.Principal, r directory.Role) bool { return p == who && (len(args) == 1 || r == role) }) {
				return nil
			}
			what := "any role"
			if len(args) > 1 {
				what = role.String()
			}
			return control.Hint(fmt.Errorf("ungrant: %s has not got %s", who, what), "`dfs grants` lists who has what")
		},
	}.command(o)
}

func grantsCommand(o *options) *cobra.Command {
	return viewer{
		use: "grants [WHO]", short: "list who may do what", example: "  dfs grants\n  dfs grants user:bob", args: wants(0, 1, "WHO or nothing"),
		complete: func(d *directory.Domain, args []string) []string {
			if len(args) > 0 {
				return nil
			}
			return principals(d)
		},
		show: func(d *directory.Domain, args []string) (view, error) {
			list := []grantView{}
			v := view{header: []string{"WHO", "ROLES"}}
			for _, g := range d.Grants {
				if len(args) == 1 && g.To.String() != args[0] {
					continue
				}
				gv := grantView{To: g.To.String()}
				for _, r := range g.Roles {
					gv.Roles = append(gv.Roles, r.String())
				}
				list = append(list, gv)
				v.rows = append(v.rows, []string{gv.To, strings.Join(gv.Roles, ", ")})
			}
			v.value = list
			return v, nil
		},
	}.command(o)
}

// parseGrant reads ROLE [GROUP] WHO. With a domain, what it names must be there.
func parseGrant(d *directory.Domain, args []string) (directory.Role, directory.Principal, error) {
	bad := func(err error) (directory.Role, directory.Principal, error) {
		return directory.Role{}, directory.Principal{}, &failure{err, exitUsage}
	}
	role, err := directory.ParseRole(strings.Join(args[:len(args)-1], " "))
	if err != nil {
		return bad(err)
	}
	who, err := directory.ParsePrincipal(args[len(args)-1])
	if err != nil {
		return bad(err)
	}
	if d == nil {
		return role, who, nil
	}
	switch {
	case role.Kind == directory.RoleGroupAdmin:
		_, err = findGroup(d, role.Object)
	case who.Kind == directory.PrincipalServer:
		_, err = findServer(d, who.Name)
	case who.Kind == directory.PrincipalAdmin && d.AdminByName(who.Name) == nil:
		err = &control.Problem{Err: fmt.Errorf("administrator %q is not in the domain", who.Name), Hint: "let it in first: dfs invite --admin " + who.Name, Usage: true}
	}
	return role, who, err
}

// principals are those that roles may be granted to and that the domain knows.
func principals(d *directory.Domain) []string {
	var list []string
	for _, a := range d.Admins {
		list = append(list, "admin:"+a.Name)
	}
	for _, s := range d.Servers {
		list = append(list, "server:"+s.Name)
	}
	for _, g := range d.Grants {
		if s := g.To.String(); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

func completeGrant(d *directory.Domain, args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"reader", "operator", "group-admin", "namespace-admin", "admin"}
	case len(args) == 1 && args[0] == "group-admin":
		return groupNames(d)
	case len(args) == 1, len(args) == 2 && strings.HasSuffix(args[0], "-admin"):
		return append(principals(d), "user:", "group:")
	}
	return nil
}

func adminNames(d *directory.Domain) []string {
	var list []string
	for _, a := range d.Admins {
		list = append(list, a.Name)
	}
	return list
}

// adminView is an administrator's identity as --json shows it.
type adminView struct {
	Name  string   `json:"name"`
	ID    string   `json:"id"`
	Roles []string `json:"roles"`
}

func adminCommand(o *options) *cobra.Command {
	return noun(o, "admin", "the identities of administrators: list, remove (dfs invite --admin makes them)",
		viewer{use: "list", short: "list the administrators' identities", example: "  dfs admin list", args: none, show: listAdmins},
		editor{use: "remove NAME", short: "withdraw an administrator's identity, and its grants", long: `
Withdraws an identity: no server answers to it any more, from the moment on that it
hears of the change. Its grants go with it.`,
			example: "  dfs admin remove alice", args: one("NAME"), complete: first(adminNames), change: removeAdmin})
}

func listAdmins(d *directory.Domain, _ []string) (view, error) {
	list := []adminView{}
	v := view{header: []string{"NAME", "ROLES"}}
	for _, a := range d.Admins {
		rights := d.RightsOf(directory.Principal{Kind: directory.PrincipalAdmin, Name: a.Name})
		av := adminView{Name: a.Name, ID: a.ID.String(), Roles: []string{}}
		for _, r := range rights {
			av.Roles = append(av.Roles, r.String())
		}
		list = append(list, av)
		v.rows = append(v.rows, []string{a.Name, orDash(strings.Join(av.Roles, ", "))})
	}
	v.value = list
	return v, nil
}

func removeAdmin(_ *cobra.Command, d *directory.Domain, args []string) error {
	if d.AdminByName(args[0]) == nil {
		return unknown("admin", args[0], adminNames(d))
	}
	d.Admins = slices.DeleteFunc(d.Admins, func(a *directory.Admin) bool { return a.Name == args[0] })
	forget(d, directory.Principal{Kind: directory.PrincipalAdmin, Name: args[0]})
	return nil
}

// forget takes every role from one who goes.
func forget(d *directory.Domain, who directory.Principal) {
	d.Ungrant(func(p directory.Principal, _ directory.Role) bool { return p == who })
}
