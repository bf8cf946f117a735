package directory

import (
	"fmt"
	"slices"
)

// Bounds of grants.
const (
	maxGrants = 4096 // principals
	maxRoles  = 256  // of one principal
)

func (r *reader) admin(name string, n *node, path string) *Admin {
	a := &Admin{Name: name}
	r.fields(n, path, map[string]func(*node, string){"id": r.id(&a.ID)})
	return a
}

// grants reads who has which roles.
func (r *reader) grants(n *node, path string, d *Domain) {
	list := r.pairs(n, path)
	if len(list) > maxGrants {
		r.bad(n, path, fmt.Sprintf("grants has %d principals", len(list)), fmt.Sprintf("keep at most %d; grant to groups of users", maxGrants))
		return
	}
	for _, p := range list {
		key := p.key
		sub := join(path, key.text)
		to, err := ParsePrincipal(key.text)
		if err != nil {
			r.badErr(&key, sub, err)
			continue
		}
		r.nodes[sub] = &key
		g := Grant{To: to}
		r.list(p.value, sub, maxRoles, func(s string, n *node, sub string) {
			role, err := ParseRole(s)
			switch {
			case err != nil:
				r.badErr(n, sub, err)
			case slices.Contains(g.Roles, role):
				r.bad(n, sub, fmt.Sprintf("role %q stands in the list twice", role), "keep one of the two")
			default:
				g.Roles = append(g.Roles, role)
				r.nodes[path+"/"+to.String()+"/"+role.String()] = n
			}
		})
		slices.SortFunc(g.Roles, compareRoles)
		if len(g.Roles) > 0 {
			d.Grants = append(d.Grants, g)
		}
	}
}

// checkGrants reports grants to and of what there is not.
func (r *reader) checkGrants(d *Domain, servers []string) {
	var admins, groups []string
	for _, a := range d.Admins {
		admins = append(admins, a.Name)
	}
	for _, g := range d.Groups {
		groups = append(groups, g.Name)
	}
	for _, g := range d.Grants {
		path := "grants/" + g.To.String()
		n := r.nodes[path]
		switch {
		case g.To.Kind == PrincipalAdmin && !slices.Contains(admins, g.To.Name):
			r.bad(n, path, fmt.Sprintf("grant to %q, which is no identity of an administrator", g.To), "run `dfs invite --admin "+g.To.Name+"` first, or correct the name"+didYouMean(g.To.Name, admins))
		case g.To.Kind == PrincipalServer && !slices.Contains(servers, g.To.Name):
			r.unknownServer(n, path, "grant", g.To.Name, servers)
		}
		for _, role := range g.Roles {
			if role.Kind == RoleGroupAdmin && !slices.Contains(groups, role.Object) {
				r.bad(r.nodes[path+"/"+role.String()], path, fmt.Sprintf("role %q names an unknown group", role), "add the group or correct the name"+didYouMean(role.Object, groups))
			}
		}
	}
}
