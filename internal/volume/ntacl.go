package volume

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"opendfs/internal/repl"

	"golang.org/x/sys/unix"
)

// Samba's module acl_xattr keeps an NT ACL in security.NTACL, and with it a hash
// of the POSIX side as it was when the ACL was set: if owner, group, mode or ACL
// are others, it takes them for changed by somebody and shows what the POSIX side
// says. Where owners travel as names the numbers on this server can be others.
//
// The attribute is an NDR xattr_NTACL (Samba's librpc/idl/xattr.idl); of its
// version 4 the POSIX side's hash stands after a hash of the descriptor, the
// name of its kind and a time. What is hashed is an NDR smb_acl_wrapper
// (smb_acl.idl). Both as Samba 4.17 writes them.
const (
	ntVersion  = 4
	ntHash     = 14 // offset of the descriptor's hash, of ntHashRoom bytes
	ntHashRoom = 64
	ntSHA256   = 1
	ntPOSIX    = "posix_acl\x00"
	ntTime     = 8
)

// ntACLHash returns the hash of the POSIX side that an NT ACL holds; not ok if
// it holds none of this kind.
func ntACLHash(b []byte) (sum [sha256.Size]byte, ok bool) {
	le := binary.LittleEndian
	const kind = ntHash + ntHashRoom
	if len(b) < kind+len(ntPOSIX) || le.Uint16(b) != ntVersion || le.Uint16(b[2:]) != ntVersion || le.Uint16(b[12:]) != ntSHA256 {
		return sum, false
	}
	if !bytes.HasPrefix(b[kind:], []byte(ntPOSIX)) {
		return sum, false
	}
	at := kind + len(ntPOSIX) + ntTime
	if len(b) < at+ntHashRoom {
		return sum, false
	}
	return [sha256.Size]byte(b[at:]), true
}

// sambaTags are smb_acl.idl's numbers of the kernel's tags.
var sambaTags = map[uint16]uint16{0x01: 2, 0x02: 1, 0x04: 4, 0x08: 3, 0x10: 6, 0x20: 5}

// posixHash is the hash that Samba makes of an object with these metadata, whose
// owners are numbers; not ok if an ACL is none.
func posixHash(kind repl.Type, m *Meta) (sum [sha256.Size]byte, ok bool) {
	le := binary.LittleEndian
	mode := uint32(unix.S_IFREG)
	b := le.AppendUint64(nil, 0x20000) // pointers: the access ACL, no default one
	if kind == repl.Directory {
		mode = unix.S_IFDIR
		le.PutUint32(b[4:], 0x20004)
	}
	b = le.AppendUint64(b, uint64(m.Owner))
	b = le.AppendUint64(b, uint64(m.Group))
	b = le.AppendUint32(b, mode|m.Mode)
	access := aclOfMode(m.Mode)
	if at, has := findXattr(m.Xattrs, aclAccess); has {
		access = m.Xattrs[at].Value
	}
	b, ok = appendSambaACL(b, access)
	if kind == repl.Directory && ok {
		preset := le.AppendUint32(nil, aclVersion)
		if at, has := findXattr(m.Xattrs, aclDefault); has {
			preset = m.Xattrs[at].Value
		}
		b, ok = appendSambaACL(b, preset)
	}
	return sha256.Sum256(b), ok
}

// aclOfMode is the ACL of an object that has none.
func aclOfMode(mode uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, aclVersion)
	for i, tag := range []uint16{0x01, 0x04, 0x20} {
		b = le.AppendUint16(b, tag)
		b = le.AppendUint16(b, uint16(mode>>(6-3*i))&7)
		b = le.AppendUint32(b, aclNoID)
	}
	return b
}

// appendSambaACL appends an NDR smb_acl_t: a size, aligned to 8 bytes a count and
// a position, then the entries, each beginning and ending at 8 bytes.
func appendSambaACL(b, acl []byte) ([]byte, bool) {
	le := binary.LittleEndian
	if len(acl) < 4 || (len(acl)-4)%aclEntrySize != 0 || le.Uint32(acl) != aclVersion {
		return b, false
	}
	align := func() {
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
	}
	acl = acl[4:]
	count := uint32(len(acl) / aclEntrySize)
	b = le.AppendUint32(b, count)
	align()
	b = le.AppendUint32(b, count)
	b = le.AppendUint32(b, 0)
	for ; len(acl) > 0; acl = acl[aclEntrySize:] {
		tag := le.Uint16(acl)
		b = le.AppendUint16(b, sambaTags[tag])
		b = le.AppendUint16(b, sambaTags[tag])
		if tag == aclUser || tag == aclGroup {
			align()
			b = le.AppendUint64(b, uint64(le.Uint32(acl[4:])))
		}
		b = le.AppendUint32(b, uint32(le.Uint16(acl[2:])))
		align()
	}
	return b, true
}

// judgeNTACL counts an object whose NT ACL this server's Samba will not believe,
// because an owner has another number here.
func (v *Disk) judgeNTACL(kind repl.Type, m *Meta) {
	at, has := findXattr(m.Xattrs, ntACL)
	if !has || v.owners == OwnersNumeric {
		return
	}
	want, ok := ntACLHash(m.Xattrs[at].Value)
	if !ok {
		return
	}
	if is, ok := posixHash(kind, m); ok && is != want {
		v.doubted.Add(1)
	}
}

// DoubtedNTACLs returns how many NT ACLs were set since the volume was opened
// that Samba will not believe here.
func (v *Disk) DoubtedNTACLs() int64 { return v.doubted.Load() }
