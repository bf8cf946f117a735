package volume

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"opendfs/internal/repl"
)

// Owners says in which form owners and groups replicate: those of objects and
// those that POSIX ACLs name.
type Owners uint8

// The forms.
const (
	OwnersNumeric Owners = iota // as numbers
	OwnersByName                // as names, where this server knows one
	OwnersNone                  // not at all; each server keeps its own
)

// Names is the name service of this server: users and groups by number and by
// name. ok is false for what it does not know; an error says that it could not
// be asked.
type Names interface {
	User(id uint32) (name string, ok bool, err error)
	Group(id uint32) (name string, ok bool, err error)
	UserID(name string) (id uint32, ok bool, err error)
	GroupID(name string) (id uint32, ok bool, err error)
	// SIDUser and SIDGroup are for a SID in text, where users and groups have SIDs.
	SIDUser(sid string) (id uint32, ok bool, err error)
	SIDGroup(sid string) (id uint32, ok bool, err error)
}

// Optional are the attributes that replicate only if the folder says so: they
// mean something to one machine's kernel or programs.
type Optional struct {
	Capability bool // security.capability
	SELinux    bool // security.selinux
	Trusted    bool // trusted.*, but for overlayfs's own
}

// has reports whether an attribute that can replicate does so here.
func (o Optional) has(xattr string) bool {
	switch {
	case xattr == capability:
		return o.Capability
	case xattr == selinux:
		return o.SELinux
	case strings.HasPrefix(xattr, trusted):
		return o.Trusted
	}
	return true
}

// setuid and setgid give a file's owner's rights to whoever runs it.
const (
	setuid = 0o4000
	setgid = 0o2000
)

// outward turns what the disk has into what replicates.
func (v *Disk) outward(m *Meta, kind repl.Type) error {
	switch v.owners {
	case OwnersNone:
		m.Owner, m.Group, m.NoOwner = 0, 0, true
		if kind != repl.Directory { // another server's file would give away another's rights
			m.Mode &^= setuid | setgid
		}
		return nil
	case OwnersByName:
		if err := named(m.Owner, v.names.User, &m.Owner, &m.OwnerName); err != nil {
			return err
		}
		if err := named(m.Group, v.names.Group, &m.Group, &m.GroupName); err != nil {
			return err
		}
		for i := range m.Xattrs {
			x := &m.Xattrs[i]
			if x.Name != aclAccess && x.Name != aclDefault {
				continue
			}
			value, err := aclByName(x.Value, v.names)
			if err != nil {
				return err
			}
			x.Value = value
		}
	}
	return nil
}

func named(id uint32, ask func(uint32) (string, bool, error), toID *uint32, toName *string) error {
	name, ok, err := ask(id)
	if err == nil && ok && validOwner(name) {
		*toID, *toName = 0, name
	}
	return err
}

// inward turns what replicates into what the disk shall have. What this server
// does not know is listed in lacks and left out.
func (v *Disk) inward(m Meta, s *Stat) (Meta, []string, error) {
	var lacks []string
	m.Xattrs = slices.Clone(m.Xattrs)
	if m.NoOwner || v.owners == OwnersNone {
		m.Owner, m.Group, m.OwnerName, m.GroupName = s.Owner, s.Group, "", ""
	}
	if m.OwnerName != "" {
		id, known, err := v.idOf(m.OwnerName, v.names.UserID, s.Owner)
		if err != nil {
			return m, nil, err
		}
		if m.Owner = id; !known {
			lacks = append(lacks, lackOwner)
		}
	}
	if m.GroupName != "" {
		id, known, err := v.idOf(m.GroupName, v.names.GroupID, s.Group)
		if err != nil {
			return m, nil, err
		}
		if m.Group = id; !known {
			lacks = append(lacks, lackGroup)
		}
	}
	for i := 0; i < len(m.Xattrs); i++ {
		x := &m.Xattrs[i]
		ok := v.optional.has(x.Name)
		if ok && (x.Name == aclAccess || x.Name == aclDefault) && isNamedACL(x.Value) {
			var err error
			if x.Value, ok, err = v.aclByNumber(x.Value); err != nil {
				return m, nil, err
			}
		}
		if !ok {
			lacks = append(lacks, lackXattr+x.Name)
			m.Xattrs = slices.Delete(m.Xattrs, i, i+1)
			i--
		}
	}
	return m, lacks, nil
}

// idOf is the number of a name; that of now if it is not known.
func (v *Disk) idOf(name string, ask func(string) (uint32, bool, error), now uint32) (id uint32, known bool, err error) {
	if id, known, err = ask(name); err == nil && !known {
		v.unknown.note(name)
		id = now
	}
	return id, known, err
}

// The kernel's form of an ACL: its version, then entries of tag, permissions and
// number. The form with names has another version, and in place of each number
// that means something the name, counted, or 0 and the number.
const (
	aclVersion      = 2
	aclNamedVersion = 0x80000002
	aclUser         = 0x02
	aclGroup        = 0x08
	aclNoID         = ^uint32(0)
	aclEntrySize    = 8
)

// aclEntry is one entry of an ACL.
type aclEntry struct {
	tag, perm uint16
	id        uint32
	name      string // in place of id
}

func isNamedACL(b []byte) bool {
	return len(b) >= 4 && binary.LittleEndian.Uint32(b) == aclNamedVersion
}

// aclByName is an ACL in the form with names. What is no ACL stays as it is.
func aclByName(b []byte, names Names) ([]byte, error) {
	if len(b) < 4 || (len(b)-4)%aclEntrySize != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return b, nil
	}
	var entries []aclEntry
	some := false
	for e := range slices.Chunk(b[4:], aclEntrySize) {
		a := aclEntry{binary.LittleEndian.Uint16(e), binary.LittleEndian.Uint16(e[2:]), binary.LittleEndian.Uint32(e[4:]), ""}
		var err error
		switch a.tag {
		case aclUser:
			err = named(a.id, names.User, &a.id, &a.name)
		case aclGroup:
			err = named(a.id, names.Group, &a.id, &a.name)
		}
		if err != nil {
			return nil, err
		}
		some = some || a.name != ""
		entries = append(entries, a)
	}
	if !some {
		return b, nil
	}
	slices.SortFunc(entries, func(a, b aclEntry) int {
		return cmp.Or(cmp.Compare(a.tag, b.tag), strings.Compare(a.name, b.name), cmp.Compare(a.id, b.id))
	})
	out := binary.LittleEndian.AppendUint32(nil, aclNamedVersion)
	for _, a := range entries {
		out = binary.LittleEndian.AppendUint16(out, a.tag)
		out = binary.LittleEndian.AppendUint16(out, a.perm)
		out = binary.AppendUvarint(out, uint64(len(a.name)))
		out = append(out, a.name...)
		if a.name == "" {
			out = binary.LittleEndian.AppendUint32(out, a.id)
		}
	}
	return out, nil
}

// aclByNumber is the kernel's form of an ACL with names; not ok if a name is
// not known here or the bytes are none.
func (v *Disk) aclByNumber(b []byte) (out []byte, ok bool, err error) {
	var entries []aclEntry
	for b = b[4:]; len(b) > 0; {
		if len(b) < 5 {
			return nil, false, nil
		}
		a := aclEntry{tag: binary.LittleEndian.Uint16(b), perm: binary.LittleEndian.Uint16(b[2:]), id: aclNoID}
		name, rest, counted := cutCounted(b[4:])
		if !counted {
			return nil, false, nil
		}
		if len(name) == 0 {
			if len(rest) < 4 {
				return nil, false, nil
			}
			a.id, rest = binary.LittleEndian.Uint32(rest), rest[4:]
		} else if a.id, ok, err = v.aclID(a.tag, string(name)); err != nil || !ok {
			return nil, false, err
		}
		entries, b = append(entries, a), rest
	}
	slices.SortFunc(entries, func(a, b aclEntry) int { return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.id, b.id)) })
	out = binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, a := range entries {
		out = binary.LittleEndian.AppendUint16(out, a.tag)
		out = binary.LittleEndian.AppendUint16(out, a.perm)
		out = binary.LittleEndian.AppendUint32(out, a.id)
	}
	return out, true, nil
}

func (v *Disk) aclID(tag uint16, name string) (id uint32, ok bool, err error) {
	switch tag {
	case aclUser:
		id, ok, err = v.names.UserID(name)
	case aclGroup:
		id, ok, err = v.names.GroupID(name)
	}
	if err == nil && !ok {
		v.unknown.note(name)
	}
	return id, ok, err
}
