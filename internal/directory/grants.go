package directory

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Admin is an administrator's identity: a certificate of the domain's CA that
// belongs to no server. What it may do, grants say.
type Admin struct {
	Name string
	ID   UUID
}

// PrincipalKind says of what kind one is that roles are granted to.
type PrincipalKind uint8

// The kinds of principals.
const (
	// PrincipalAdmin is an Admin, by name.
	PrincipalAdmin PrincipalKind = iota + 1
	// PrincipalServer is a Server, by name.
	PrincipalServer
	// PrincipalUser is a user of the server that is asked, by the name that its
	// name service has, or by number.
	PrincipalUser
	// PrincipalGroup is a group of users, likewise.
	PrincipalGroup
)

// String gives the word of the document.
func (k PrincipalKind) String() string {
	switch k {
	case PrincipalAdmin:
		return "admin"
	case PrincipalServer:
		return "server"
	case PrincipalUser:
		return "user"
	case PrincipalGroup:
		return "group"
	}
	return "unknown"
}

// Principal is one that roles are granted to.
type Principal struct {
	Kind PrincipalKind
	Name string
}

// String gives the form of the document: "user:alice".
func (p Principal) String() string { return p.Kind.String() + ":" + p.Name }

const principalForms = "write admin:NAME, server:NAME, user:NAME or group:NAME"

// ParsePrincipal reads the form of the document.
func ParsePrincipal(s string) (Principal, error) {
	kind, name, ok := strings.Cut(s, ":")
	if !ok {
		return Principal{}, fmt.Errorf("read principal %s: it is not of the form KIND:NAME; %s", quote(s), principalForms)
	}
	for _, k := range []PrincipalKind{PrincipalAdmin, PrincipalServer, PrincipalUser, PrincipalGroup} {
		if k.String() != kind {
			continue
		}
		switch {
		case k <= PrincipalServer && !validName(name):
			return Principal{}, fmt.Errorf("read principal %s: its name is none; %s", quote(s), nameRule)
		case !validAccount(name):
			return Principal{}, fmt.Errorf("read principal %s: it names no account; use 1 to 255 bytes without control characters, ':' or ','", quote(s))
		}
		return Principal{k, name}, nil
	}
	return Principal{}, fmt.Errorf("read principal %s: unknown kind %s; %s", quote(s), quote(kind), principalForms)
}

// validAccount is the rule of names that a name service gives.
func validAccount(s string) bool {
	return s != "" && len(s) <= 255 && strings.TrimSpace(s) == s && !strings.ContainsAny(s, ":,") &&
		!strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsGraphic(c) || c == unicode.ReplacementChar })
}

// RoleKind is what a role is about.
type RoleKind uint8

// The roles. Each may look at everything, as a reader may.
const (
	// RoleReader looks: status, backlog, health, records, findings, the domain.
	RoleReader RoleKind = iota + 1
	// RoleOperator pauses, syncs now, restores what was put aside, and releases
	// what is held.
	RoleOperator
	// RoleGroupAdmin changes one replication group, and operates it.
	RoleGroupAdmin
	// RoleNamespaceAdmin is to change one namespace. It is kept and shown; until
	// a domain has namespaces it lets look, as every role does.
	RoleNamespaceAdmin
	// RoleAdmin may do everything.
	RoleAdmin
)

// String gives the word of the document.
func (k RoleKind) String() string {
	switch k {
	case RoleReader:
		return "reader"
	case RoleOperator:
		return "operator"
	case RoleGroupAdmin:
		return "group-admin"
	case RoleNamespaceAdmin:
		return "namespace-admin"
	case RoleAdmin:
		return "admin"
	}
	return "unknown"
}

// named reports whether the role is about one object.
func (k RoleKind) named() bool { return k == RoleGroupAdmin || k == RoleNamespaceAdmin }

// Role is what may be granted.
type Role struct {
	Kind RoleKind
	// Object is the name of the group of a RoleGroupAdmin, of the namespace root
	// of a RoleNamespaceAdmin, empty else.
	Object string
}

// String gives the form of the document: "group-admin projects".
func (r Role) String() string {
	if r.Kind.named() {
		return r.Kind.String() + " " + r.Object
	}
	return r.Kind.String()
}

// RoleForms lists the roles for messages.
const RoleForms = "admin, group-admin GROUP, namespace-admin ROOT, operator or reader"

// ParseRole reads the form of the document.
func ParseRole(s string) (Role, error) {
	word, object, _ := strings.Cut(strings.TrimSpace(s), " ")
	object = strings.TrimSpace(object)
	for k := RoleReader; k <= RoleAdmin; k++ {
		if k.String() != word {
			continue
		}
		switch {
		case k.named() && object == "":
			return Role{}, fmt.Errorf("read role %s: it names no object; write %s NAME", quote(s), word)
		case !k.named() && object != "":
			return Role{}, fmt.Errorf("read role %s: %s is for the whole domain; write %s alone", quote(s), word, word)
		case k.named() && !validAccount(object):
			return Role{}, fmt.Errorf("read role %s: the name is none; write 1 to 255 bytes without control characters, ':' or ','", quote(s))
		}
		return Role{k, object}, nil
	}
	return Role{}, fmt.Errorf("read role %s: there is no such role; write %s", quote(s), RoleForms)
}

// Grant gives roles to one principal.
type Grant struct {
	To    Principal
	Roles []Role // each once, in order
}

func compareRoles(a, b Role) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Object, b.Object))
}

func compareGrants(a, b Grant) int {
	return cmp.Or(cmp.Compare(a.To.Kind, b.To.Kind), cmp.Compare(a.To.Name, b.To.Name))
}

// AdminByName finds an administrator's identity by its name, nil if there is
// none.
func (d *Domain) AdminByName(name string) *Admin {
	return found(d.Admins, func(a *Admin) bool { return a.Name == name })
}

// Admin finds an administrator's identity by its id, nil if there is none.
func (d *Domain) Admin(id UUID) *Admin {
	return found(d.Admins, func(a *Admin) bool { return a.ID == id })
}

// Grant gives a role, and reports whether that is new.
func (d *Domain) Grant(to Principal, r Role) bool {
	for i := range d.Grants {
		g := &d.Grants[i]
		if g.To != to {
			continue
		}
		if slices.Contains(g.Roles, r) {
			return false
		}
		g.Roles = append(slices.Clone(g.Roles), r)
		slices.SortFunc(g.Roles, compareRoles)
		return true
	}
	d.Grants = append(d.Grants, Grant{to, []Role{r}})
	slices.SortFunc(d.Grants, compareGrants)
	return true
}

// Ungrant takes roles back by a rule, and reports whether there were any.
func (d *Domain) Ungrant(of func(Principal, Role) bool) bool {
	found := false
	var left []Grant
	for _, g := range d.Grants {
		roles := slices.DeleteFunc(slices.Clone(g.Roles), func(r Role) bool { return of(g.To, r) })
		found = found || len(roles) < len(g.Roles)
		if len(roles) > 0 {
			left = append(left, Grant{g.To, roles})
		}
	}
	d.Grants = left
	return found
}

// Rights are the roles of one who asks.
type Rights []Role

// AllRights are those of who may do everything.
func AllRights() Rights { return Rights{{Kind: RoleAdmin}} }

// RightsOf gives the roles of one who is all of these principals at once: a user
// and the groups that it is in.
func (d *Domain) RightsOf(who ...Principal) Rights {
	var list Rights
	for _, g := range d.Grants {
		if slices.Contains(who, g.To) {
			list = append(list, g.Roles...)
		}
	}
	slices.SortFunc(list, compareRoles)
	return slices.Compact(list)
}

// Has reports whether one of the roles is of a kind.
func (r Rights) Has(k RoleKind) bool {
	return slices.ContainsFunc(r, func(o Role) bool { return o.Kind == k })
}

// Admin reports whether they may do everything.
func (r Rights) Admin() bool { return r.Has(RoleAdmin) }

// Administers reports whether they may change a group, by name.
func (r Rights) Administers(group string) bool {
	return r.Admin() || slices.Contains(r, Role{RoleGroupAdmin, group})
}

// Operates reports whether they may pause a group, by name, and the like; an
// empty name is everything.
func (r Rights) Operates(group string) bool {
	return r.Has(RoleOperator) || r.Administers(group)
}

// String lists the roles, for messages.
func (r Rights) String() string {
	if len(r) == 0 {
		return "no role"
	}
	words := make([]string, len(r))
	for i, o := range r {
		words[i] = o.String()
	}
	return strings.Join(words, ", ")
}

// ErrBeyond says that a change reaches farther than the roles of who made it.
var ErrBeyond = errors.New("the change reaches beyond the roles of who made it")

// MayChange says whether these rights suffice to make the domain now into next,
// both complete. One who administers groups may change what is in them but not
// their names; a folder comes to a server only beside or beneath a root that the
// group has there already, for its path is read and written with all rights.
// The error is ErrBeyond with what is missing.
func (r Rights) MayChange(now, next *Domain) error {
	if r.Admin() {
		return nil
	}
	rest := next.Clone()
	for i, g := range rest.Groups {
		was := now.group(g.ID, g.Name)
		if was.ID != g.ID || was.Name != g.Name || !r.Administers(g.Name) {
			continue
		}
		if err := near(was, g, now); err != nil {
			return err
		}
		rest.Groups[i] = was
	}
	rest.Generation, rest.Term = now.Generation, now.Term
	if rest.Equal(now) {
		return nil
	}
	for _, c := range Diff(now, rest) {
		return fmt.Errorf("%v: %w", c, ErrBeyond)
	}
	return fmt.Errorf("change domain %q: %w", now.Name, ErrBeyond)
}

// near refuses memberships of a group whose path is neither one that it has nor
// beside or beneath one, on the same server; nor may it be beside where it lies in a
// folder of another group, or around one: what is in that is not this group's.
func near(was, now *Group, d *Domain) error {
	beside := make(map[string][]string) // by server
	for _, f := range was.Folders {
		for _, m := range f.Members {
			beside[m.Server] = append(beside[m.Server], m.Path)
		}
	}
	others := make(map[string][]string) // by server
	for _, g := range d.Groups {
		for _, f := range g.Folders {
			for _, m := range f.Members {
				if g != was {
					others[m.Server] = append(others[m.Server], m.Path)
				}
			}
		}
	}
	for _, f := range now.Folders {
		for _, m := range f.Members {
			at := m.Path + "/"
			if slices.ContainsFunc(beside[m.Server], func(root string) bool { return strings.HasPrefix(at, root+"/") }) {
				continue
			}
			if !slices.ContainsFunc(beside[m.Server], func(root string) bool { return isNear(m.Path, root) }) {
				return fmt.Errorf("membership %s/%s@%s: path %s is not near a root that the group has on that server: %w", now.Name, f.Name, m.Server, m.Path, ErrBeyond)
			}
			for _, root := range others[m.Server] {
				if strings.HasPrefix(at, root+"/") || strings.HasPrefix(root+"/", at) {
					return fmt.Errorf("membership %s/%s@%s: path %s overlaps %s, the root of another group's folder: %w", now.Name, f.Name, m.Server, m.Path, root, ErrBeyond)
				}
			}
		}
	}
	return nil
}

func isNear(path, root string) bool {
	if path == root || strings.HasPrefix(path, root+"/") {
		return true
	}
	above := root[:strings.LastIndexByte(root, '/')]
	return above != "" && strings.HasPrefix(path, above+"/")
}
