package main

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"opendfs/internal/control"
	"opendfs/internal/directory"
	"opendfs/internal/pki"
)

// needs says which role each call of the management API takes; what is not listed
// takes admin. A call that takes less for one group is judged again by what it
// touches.
var needs = map[string]directory.RoleKind{
	"Status": directory.RoleReader, "Wait": directory.RoleReader, "Backlog": directory.RoleReader, "Queue": directory.RoleReader,
	"Record": directory.RoleReader, "Explain": directory.RoleReader, "PreservedList": directory.RoleReader, "Domain": directory.RoleReader,
	"Events": directory.RoleReader, "HeldList": directory.RoleReader,
	"Order": directory.RoleOperator, "PreservedRestore": directory.RoleOperator, "HeldDecide": directory.RoleOperator, "Restore": directory.RoleOperator, "Adopt": directory.RoleOperator,
	"PreservedPurge": directory.RoleGroupAdmin, "Apply": directory.RoleGroupAdmin,
}

// user is one who asks, with what it may do.
type user struct {
	name   string // as the audit log has it: user:NAME, server:NAME, admin:NAME
	from   string // control socket, an address, this server
	rights directory.Rights
}

// may judges a call before its request is read.
func (a *admin) may(_ context.Context, who *control.Caller, call string) error {
	u, err := a.identify(who)
	if err != nil {
		return err
	}
	need, known := needs[call]
	if !known {
		need = directory.RoleAdmin
	}
	if u.rights.Admin() {
		return nil
	}
	ok := false
	switch need {
	case directory.RoleReader:
		ok = len(u.rights) > 0
	case directory.RoleOperator:
		ok = u.rights.Has(directory.RoleOperator) || u.rights.Has(directory.RoleGroupAdmin)
	case directory.RoleGroupAdmin:
		ok = u.rights.Has(directory.RoleGroupAdmin)
	}
	if ok {
		return nil
	}
	return u.lacks(wordsOf(call), directory.Role{Kind: need})
}

// wordsOf are those of a call's name: "preserved restore" of PreservedRestore.
func wordsOf(call string) string {
	var b strings.Builder
	for i, c := range call {
		if i > 0 && unicode.IsUpper(c) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// lacks says which role is missing, and who can grant it.
func (u *user) lacks(what string, role directory.Role) error {
	words := role.String()
	if role.Kind == directory.RoleGroupAdmin && role.Object == "" {
		words = "group-admin GROUP"
	}
	return control.Denied("who has the role admin can grant it: dfs grant "+words+" '"+u.name+"'",
		"%s: %s has %v; it takes the role %s", what, u.name, u.rights, strings.TrimSpace(role.String()))
}

// identify says who a caller is in the domain as it is now.
func (a *admin) identify(who *control.Caller) (*user, error) {
	d := a.domain().Domain
	if who.Local() {
		return a.localUser(d, who)
	}
	u := &user{from: who.Address}
	id := directory.UUID(who.Subject.ID)
	switch s, admin := d.Server(id), d.Admin(id); {
	case s != nil:
		u.name = directory.Principal{Kind: directory.PrincipalServer, Name: s.Name}.String()
		u.rights = d.RightsOf(directory.Principal{Kind: directory.PrincipalServer, Name: s.Name})
	case admin != nil:
		u.name = directory.Principal{Kind: directory.PrincipalAdmin, Name: admin.Name}.String()
		u.rights = d.RightsOf(directory.Principal{Kind: directory.PrincipalAdmin, Name: admin.Name})
	default:
		return nil, control.Denied("ask for a new invitation, `dfs invite`, if it is to return", "the identity of %v is not of this domain any more: it was revoked", who)
	}
	return u, nil
}

// localUser is a user of this machine: root and the one who runs the member may
// do everything, anybody else what is granted to it and to its groups.
func (a *admin) localUser(d *directory.Domain, who *control.Caller) (*user, error) {
	u := &user{name: "user:" + strconv.FormatUint(uint64(who.UID), 10), from: "control socket"}
	if who.UID == 0 {
		u.name, u.rights = "user:root", directory.AllRights()
		return u, nil
	}
	name, known, err := a.names.User(who.UID)
	if err != nil {
		a.log.Warn("the name service did not answer", "uid", who.UID, "err", err)
	}
	if known {
		u.name = "user:" + name
	}
	if who.UID == uint32(os.Geteuid()) {
		u.rights = directory.AllRights()
		return u, nil
	}
	list := []directory.Principal{{Kind: directory.PrincipalUser, Name: strconv.FormatUint(uint64(who.UID), 10)}}
	if known {
		list = append(list, directory.Principal{Kind: directory.PrincipalUser, Name: name})
	}
	u.rights = d.RightsOf(append(list, a.groupsOf(d, who)...)...)
	return u, nil
}

// groupsOf are the granted groups that a caller is in, asked by name: a user may
// be in thousands of groups, and few have grants.
func (a *admin) groupsOf(d *directory.Domain, who *control.Caller) []directory.Principal {
	var list []directory.Principal
	for _, g := range d.Grants {
		if g.To.Kind != directory.PrincipalGroup {
			continue
		}
		id, err := strconv.ParseUint(g.To.Name, 10, 32)
		gid, ok := uint32(id), err == nil
		if !ok {
			if gid, ok, err = a.names.GroupID(g.To.Name); err != nil {
				a.log.Warn("the name service did not answer", "group", g.To.Name, "err", err)
			}
		}
		if ok && slices.Contains(who.Groups, gid) {
			list = append(list, g.To)
		}
	}
	return list
}

// asker is who asks in this context. Where nobody called by a connection it is a
// command that holds the state directory: who can do that may do everything.
func (a *admin) asker(ctx context.Context) (*user, error) {
	who := control.CallerOf(ctx)
	if who == nil {
		u, err := a.localUser(a.domain().Domain, &control.Caller{UID: uint32(os.Geteuid())})
		if err == nil {
			u.from = "this server, without a daemon"
		}
		return u, err
	}
	return a.identify(who)
}

// mayOperate refuses who may not operate a group; an empty name is all of them.
func (a *admin) mayOperate(ctx context.Context, what, group string) error {
	u, err := a.asker(ctx)
	if err != nil || u.rights.Operates(group) {
		return err
	}
	if group != "" {
		return u.lacks(what, directory.Role{Kind: directory.RoleGroupAdmin, Object: group})
	}
	return u.lacks(what, directory.Role{Kind: directory.RoleOperator})
}

// mayAdminister refuses who may not change a group; an empty name is the domain.
func (a *admin) mayAdminister(ctx context.Context, what, group string) error {
	u, err := a.asker(ctx)
	switch {
	case err != nil || u.rights.Admin() || group != "" && u.rights.Administers(group):
		return err
	case group != "":
		return u.lacks(what, directory.Role{Kind: directory.RoleGroupAdmin, Object: group})
	}
	return u.lacks(what, directory.Role{Kind: directory.RoleAdmin})
}

// mayMake refuses a change of the domain that its author has no right to.
func (a *admin) mayMake(ctx context.Context, now, next *directory.Domain) error {
	u, err := a.asker(ctx)
	if err != nil {
		return err
	}
	if err := u.rights.MayChange(now, next); err != nil {
		return control.Denied("who has the role admin can make the change, or grant it: dfs grant admin '"+u.name+"'", "%s has %v: %v", u.name, u.rights, err)
	}
	return nil
}

// known is the present name of one who wants a new certificate.
func (a *admin) known(who pki.Subject) (string, bool) {
	d, id := a.domain().Domain, directory.UUID(who.ID)
	if who.Kind == pki.KindAdmin {
		if o := d.Admin(id); o != nil {
			return o.Name, true
		}
	} else if s := d.Server(id); s != nil {
		return s.Name, true
	}
	return "", false
}

// groupOf is the group that an object's name begins with: GROUP, GROUP/FOLDER. A
// connection may be of several; its group is empty.
func groupOf(object string) string {
	if strings.Contains(object, "->") {
		return ""
	}
	group, _, _ := strings.Cut(object, "/")
	group, _, _ = strings.Cut(group, "@")
	return group
}
