package ad

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"opendfs/internal/directory"

	"github.com/go-ldap/ldap/v3"
)

// applier makes the objects of Active Directory say what a domain says. It writes
// what differs and nothing else, so it can be repeated, by anybody.
type applier struct {
	c    *ldap.Conn
	base string
	step func(string) error
}

// passes bounds how often names are looked at anew after a rename.
const passes = 4

// apply makes the objects say what is says; what was has and is has not goes.
// Objects of others stay. s is what they say now, nil if that was not read.
func (a *applier) apply(was, is *directory.Domain, s *snapshot) (err error) {
	for range passes {
		if s == nil {
			if s, err = take(a.c, a.base, serverNames(is)); err != nil {
				return err
			}
			s.read(is)
		}
		again, err := a.pass(s, was, is)
		if err != nil || !again {
			return err
		}
		s = nil
	}
	return errors.New("names of groups or folders in Active Directory are changed by somebody else all the time; try again")
}

func serverNames(d *directory.Domain) []string {
	var names []string
	for _, s := range d.Servers {
		names = append(names, s.Name)
	}
	return names
}

// pass is one attempt; again says that DNs have changed under it.
func (a *applier) pass(s *snapshot, was, is *directory.Domain) (again bool, err error) {
	wanted := project(is)
	if err := a.remove(s, project(was), wanted); err != nil {
		return false, err
	}
	for _, w := range wanted {
		renamed, err := a.ensure(s, w)
		if err != nil {
			return false, fmt.Errorf("write %s of %s: %w", w.key, w.cn, err)
		}
		if renamed {
			return true, nil
		}
	}
	return false, nil
}

// treeDelete removes an object with what is beneath it.
const treeDelete = "1.2.840.113556.1.4.805"

// remove deletes what was wanted and is not any more; the innermost first.
func (a *applier) remove(s *snapshot, was, is []want) error {
	keep := make(map[string]bool, len(is))
	for _, w := range is {
		keep[w.key] = true
	}
	for _, w := range slices.Backward(was) {
		o := s.keys[w.key]
		if keep[w.key] || o == nil || w.class == classComputer || w.class == classGlobal || w.class == classLocal {
			continue
		}
		if err := a.before("delete " + w.class); err != nil {
			return err
		}
		err := a.c.Del(ldap.NewDelRequest(o.dn, []ldap.Control{ldap.NewControlString(treeDelete, true, "")}))
		if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
			return fmt.Errorf("delete %s: %w", o.dn, err)
		}
		delete(s.objects, strings.ToLower(o.dn))
		delete(s.keys, w.key)
	}
	return nil
}

func (a *applier) before(step string) error {
	if a.step == nil {
		return nil
	}
	return a.step(step)
}

// ensure makes one object as it is to be. renamed says that its DN has changed.
func (a *applier) ensure(s *snapshot, w want) (renamed bool, err error) {
	values := make(map[string]string, len(w.values)+len(w.needs)+1)
	for k, v := range w.values {
		values[k] = v
	}
	for _, n := range w.needs {
		of := s.keys[n.key]
		if of == nil {
			return false, fmt.Errorf("%s of it is not there", n.key)
		}
		if values[n.attribute] = of.dn; n.guid {
			values[n.attribute] = of.one("objectGUID")
		}
	}
	if o := s.keys[w.key]; o != nil {
		return a.change(s, o, w, values)
	}
	return false, a.create(s, w, values)
}

// create adds an object.
func (a *applier) create(s *snapshot, w want, values map[string]string) error {
	above := s.keys[w.above]
	if above == nil {
		return fmt.Errorf("%s above it is not there", w.above)
	}
	dn := "CN=" + ldap.EscapeDN(w.cn) + "," + above.dn
	if !w.id.IsZero() {
		values["msDFSR-Extension"] = extension + string(w.id[:])
	}
	if w.class == classComputer {
		values["sAMAccountName"] = account(w.cn)
		values["userAccountControl"] = disabledComputer
		values["description"] = "File server of OpenDFS; enable it by joining the machine to the domain"
	}
	r := ldap.NewAddRequest(dn, nil)
	r.Attribute("objectClass", []string{w.class})
	for k, v := range values {
		if v != "" {
			r.Attribute(k, []string{v})
		}
	}
	if err := a.before("add " + w.class); err != nil {
		return err
	}
	err := a.c.Add(r)
	if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultEntryAlreadyExists) {
		return fmt.Errorf("add %s: %w", dn, err)
	}
	there := err != nil
	list, err := search(a.c, dn, ldap.ScopeBaseObject, "(objectClass=*)")
	if err != nil {
		return err
	}
	o := first(list)
	if o == nil || !o.isA(w.class) {
		return fmt.Errorf("%s is there already and is no %s; rename it, or what it is in the way of", dn, w.class)
	}
	s.add(o)
	s.keys[w.key] = o
	if there {
		if (w.class == classGroup || w.class == classFolder) && o.idOf() != w.id {
			return inTheWay(dn)
		}
		_, err = a.change(s, o, w, values)
	}
	return err
}

// disabledComputer is the account of a workstation that nobody can log in with.
const disabledComputer = "4098"

func inTheWay(dn string) error {
	return fmt.Errorf("%s is there already and is another one; rename ours or that one", dn)
}

// once are attributes that are written with an object and are its administrator's
// from then on.
var once = []string{"msDFSR-RdcEnabled", "msDFSR-RdcMinFileSizeInKb", "msDFSR-Version", "msDFSR-ReplicationGroupType"}

// change writes what of an object differs.
func (a *applier) change(s *snapshot, o *object, w want, values map[string]string) (renamed bool, err error) {
	if w.class == classComputer {
		return false, nil
	}
	if (w.class == classGroup || w.class == classFolder) && nameOf(o.one("cn"), map[string]bool{}) != w.cn && !numbered(o.one("cn"), w.cn) {
		return true, a.rename(o, w)
	}
	guid, _ := guidFrom(o.one("objectGUID"))
	if !w.id.IsZero() && w.id != guid {
		values["msDFSR-Extension"] = extension + string(w.id[:])
	}
	root := values["msDFSR-RootPath"]
	r := ldap.NewModifyRequest(o.dn, nil)
	for k, v := range values {
		have := o.one(k)
		private := (k == "msDFSR-StagingPath" || k == "msDFSR-ConflictPath") && o.one("msDFSR-RootPath") == root
		switch {
		case slices.Contains(once, k), private, same(k, have, v):
		case v == "":
			r.Delete(k, nil)
		default:
			r.Replace(k, []string{v})
		}
	}
	if len(r.Changes) == 0 {
		return false, nil
	}
	if err := a.before("modify " + w.class); err != nil {
		return false, err
	}
	if err := a.c.Modify(r); err != nil {
		return false, fmt.Errorf("modify %s: %w", o.dn, err)
	}
	for k, v := range values { // for who refers to it
		o.values[strings.ToLower(k)] = []string{v}
	}
	return false, nil
}

// numbered says that a name of ours is the common name's with a number behind,
// because several were alike.
func numbered(cn, name string) bool {
	rest, ok := strings.CutPrefix(name, nameOf(cn, map[string]bool{})+"-")
	return ok && rest != "" && strings.Trim(rest, "0123456789") == ""
}

// rename gives a group or a folder its name; one for the time being if another
// still has that.
func (a *applier) rename(o *object, w want) error {
	if err := a.before("rename " + w.class); err != nil {
		return err
	}
	err := a.c.ModifyDN(ldap.NewModifyDNRequest(o.dn, "CN="+ldap.EscapeDN(w.cn), true, ""))
	if ldap.IsErrorWithCode(err, ldap.LDAPResultEntryAlreadyExists) {
		err = a.c.ModifyDN(ldap.NewModifyDNRequest(o.dn, "CN="+guidText(w.id), true, ""))
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", o.dn, w.cn, err)
	}
	return nil
}

// same says that an attribute need not be written.
func same(attribute, have, want string) bool {
	switch attribute {
	case "msDFSR-FileFilter", "msDFSR-DirectoryFilter":
		return slices.Equal(filterFromAD(have), filterFromAD(want))
	case "msDFSR-TombstoneExpiryInMin":
		return want == "" || have == want
	case "msDFSR-Options":
		return have == want || have == "" && want == "0"
	case "fromServer", "msDFSR-ComputerReference", "msDFSR-MemberReference":
		return sameDN(have, want)
	}
	return have == want
}

// obstacles says which groups of a domain could not be written because others of
// their names are there.
func (s *snapshot) obstacles(d *directory.Domain) error {
	for _, g := range d.Groups {
		dn := "CN=" + ldap.EscapeDN(g.Name) + "," + globalDN(s.base)
		if o := s.at(dn); o != nil && o.idOf() != g.ID && s.keys[keyGroup(g.ID)] == nil {
			return inTheWay(dn)
		}
	}
	return nil
}
