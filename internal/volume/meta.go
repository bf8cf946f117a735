package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"opendfs/internal/repl"
)

// The limits on metadata, docs/formats/metadata.md.
const (
	MaxXattrName  = 255      // bytes
	MaxXattrValue = 64 << 10 // bytes
)

// modeBits are the permission bits that replicate.
const modeBits = 0o7777

// linkMode is the mode of every symbolic link.
const linkMode = 0o777

const metaVersion = 1

// Tags of the entries, in the order in which they stand.
const (
	tagMode  = 1
	tagOwner = 2
	tagGroup = 3
	tagXattr = 4
	// In place of tagOwner and tagGroup, where owners travel as names.
	tagOwnerName = 5
	tagGroupName = 6
	tagNoOwner   = 7 // in place of both
)

// MaxOwnerName bounds the name of a user or group, in bytes.
const MaxOwnerName = 255

// The extended attributes that replicate besides user.*.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
	ntACL      = "security.NTACL"
)

// The extended attributes that can replicate, see Optional.
const (
	capability = "security.capability"
	selinux    = "security.selinux"
	trusted    = "trusted."
	overlay    = "trusted.overlay."
)

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Meta is the metadata that replicates beside the mtime. Its bytes are
// canonical: equal metadata have equal bytes on every member.
type Meta struct {
	Mode   uint32 // permission bits with setuid, setgid, sticky; 0777 for a link
	Owner  uint32
	Group  uint32
	Xattrs []Xattr // by name, each once
	// OwnerName and GroupName, if not empty, stand for Owner and Group, which are
	// 0 then; NoOwner says that neither replicates.
	OwnerName, GroupName string
	NoOwner              bool
}

var errMeta = errors.New("not canonical metadata")

// Replicates reports whether an extended attribute of that name can be part of
// the metadata.
func Replicates(xattr string) bool {
	switch xattr {
	case aclAccess, aclDefault, ntACL, capability, selinux:
		return true
	}
	if len(xattr) > MaxXattrName || strings.Contains(xattr, "\x00") || strings.HasPrefix(xattr, overlay) {
		return false
	}
	return strings.HasPrefix(xattr, "user.") && len(xattr) > len("user.") || strings.HasPrefix(xattr, trusted) && len(xattr) > len(trusted)
}

// Encode returns the canonical bytes; Xattrs are put in order. ErrMetaTooLong
// if they exceed the limits.
func (m *Meta) Encode() ([]byte, error) {
	if m.Mode&^modeBits != 0 {
		return nil, fmt.Errorf("encode metadata: mode %o", m.Mode)
	}
	size := 1 + 3*8
	for i := range m.Xattrs {
		size += len(m.Xattrs[i].Name) + len(m.Xattrs[i].Value) + 12
	}
	b := make([]byte, 0, size)
	b = append(b, metaVersion, tagMode, 2)
	b = binary.LittleEndian.AppendUint16(b, uint16(m.Mode))
	b, err := m.appendOwners(b)
	if err != nil {
		return nil, err
	}
	if len(m.Xattrs) > 1 {
		slices.SortFunc(m.Xattrs, func(x, y Xattr) int { return strings.Compare(x.Name, y.Name) })
	}
	var name [binary.MaxVarintLen64]byte
	for i := range m.Xattrs {
		x := &m.Xattrs[i]
		if !Replicates(x.Name) || i > 0 && m.Xattrs[i-1].Name == x.Name {
			return nil, fmt.Errorf("encode metadata: attribute %q does not replicate or stands twice", x.Name)
		}
		if len(x.Value) > MaxXattrValue {
			return nil, fmt.Errorf("encode metadata: attribute %q of %d bytes: %w", x.Name, len(x.Value), ErrMetaTooLong)
		}
		n := binary.PutUvarint(name[:], uint64(len(x.Name)))
		b = append(b, tagXattr)
		b = binary.AppendUvarint(b, uint64(n+len(x.Name)+len(x.Value)))
		b = append(b, name[:n]...)
		b = append(b, x.Name...)
		b = append(b, x.Value...)
	}
	if len(b) > repl.MaxMeta {
		return nil, fmt.Errorf("encode metadata: %d bytes: %w", len(b), ErrMetaTooLong)
	}
	return b, nil
}

func (m *Meta) appendOwners(b []byte) ([]byte, error) {
	if m.NoOwner {
		if m.Owner != 0 || m.Group != 0 || m.OwnerName != "" || m.GroupName != "" {
			return nil, errors.New("encode metadata: an owner that does not replicate")
		}
		return append(b, tagNoOwner, 0), nil
	}
	for _, o := range []struct {
		id           uint32
		name         string
		tag, nameTag byte
	}{{m.Owner, m.OwnerName, tagOwner, tagOwnerName}, {m.Group, m.GroupName, tagGroup, tagGroupName}} {
		switch {
		case o.name == "":
			b = append(b, o.tag, 4)
			b = binary.LittleEndian.AppendUint32(b, o.id)
		case o.id != 0 || !validOwner(o.name):
			return nil, fmt.Errorf("encode metadata: owner %q", o.name)
		default:
			b = append(b, o.nameTag)
			b = binary.AppendUvarint(b, uint64(len(o.name)))
			b = append(b, o.name...)
		}
	}
	return b, nil
}

// validOwner reports whether a name can be a user's or a group's: one that no
// file of names takes for two.
func validOwner(name string) bool {
	return name != "" && len(name) <= MaxOwnerName && !strings.ContainsAny(name, ":,\n\x00") && !strings.ContainsAny(name[:1], "0123456789-+")
}

// DecodeMeta reads canonical bytes and refuses all others. Values share b.
func DecodeMeta(b []byte) (Meta, error) {
	var m Meta
	if len(b) > repl.MaxMeta {
		return m, fmt.Errorf("decode metadata: %d bytes: %w", len(b), ErrMetaTooLong)
	}
	if len(b) == 0 {
		return m, fmt.Errorf("decode metadata: no bytes: %w", errMeta)
	}
	if b[0] != metaVersion {
		return m, fmt.Errorf("decode metadata: version %d, this program knows %d: update it", b[0], metaVersion)
	}
	rest, err := m.decodeHead(b[1:])
	for err == nil && len(rest) > 0 {
		var x Xattr
		if x, rest, err = decodeXattr(rest); err != nil {
			break
		}
		if n := len(m.Xattrs); n > 0 && m.Xattrs[n-1].Name >= x.Name {
			err = fmt.Errorf("attribute %q out of order: %w", x.Name, errMeta)
		}
		m.Xattrs = append(m.Xattrs, x)
	}
	if err != nil {
		return Meta{}, fmt.Errorf("decode metadata: %w", err)
	}
	return m, nil
}

// modeOf is the mode of canonical bytes; 0 of others.
func modeOf(b []byte) uint32 {
	var m Meta
	if len(b) == 0 || b[0] != metaVersion {
		return 0
	}
	if _, err := m.decodeHead(b[1:]); err != nil {
		return 0
	}
	return m.Mode
}

// decodeHead reads mode, owner and group. Owner and group are both there or
// neither is.
func (m *Meta) decodeHead(b []byte) ([]byte, error) {
	if len(b) < 4 || b[0] != tagMode || b[1] != 2 {
		return nil, fmt.Errorf("mode: %w", errMeta)
	}
	m.Mode = uint32(binary.LittleEndian.Uint16(b[2:]))
	if m.Mode&^modeBits != 0 {
		return nil, fmt.Errorf("mode %o: %w", m.Mode, errMeta)
	}
	b = b[4:]
	if len(b) > 1 && b[0] == tagNoOwner && b[1] == 0 {
		m.NoOwner = true
		return b[2:], nil
	}
	var err error
	if m.Owner, m.OwnerName, b, err = cutOwner(b, tagOwner, tagOwnerName); err == nil {
		m.Group, m.GroupName, b, err = cutOwner(b, tagGroup, tagGroupName)
	}
	return b, err
}

func cutOwner(b []byte, tag, nameTag byte) (id uint32, name string, rest []byte, err error) {
	if len(b) > 1 && (b[0] == tag || b[0] == nameTag) {
		if value, rest, ok := cutCounted(b[1:]); ok {
			if b[0] == tag && len(value) == 4 {
				return binary.LittleEndian.Uint32(value), "", rest, nil
			}
			if b[0] == nameTag && validOwner(string(value)) {
				return 0, string(value), rest, nil
			}
		}
	}
	return 0, "", nil, fmt.Errorf("owner or group: %w", errMeta)
}

func decodeXattr(b []byte) (x Xattr, rest []byte, err error) {
	if b[0] != tagXattr {
		return x, nil, fmt.Errorf("tag %d: %w", b[0], errMeta)
	}
	body, rest, ok := cutCounted(b[1:])
	if !ok {
		return x, nil, fmt.Errorf("attribute's length: %w", errMeta)
	}
	name, value, ok := cutCounted(body)
	if !ok || len(value) > MaxXattrValue || !Replicates(string(name)) {
		return x, nil, fmt.Errorf("attribute %.64q of %d bytes: %w", name, len(value), errMeta)
	}
	return Xattr{Name: string(name), Value: value}, rest, nil
}

// cutCounted takes what a shortest-form uvarint counts off b.
func cutCounted(b []byte) (counted, rest []byte, ok bool) {
	n, width := binary.Uvarint(b)
	if width <= 0 || width > 1 && b[width-1] == 0 || n > uint64(len(b)-width) {
		return nil, nil, false
	}
	end := width + int(n)
	return b[width:end:end], b[end:], true
}
