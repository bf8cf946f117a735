package volume

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

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

// ntOwners returns the SIDs of owner and group in an NT ACL that has a hash, in
// text; empty where it names none. After the hash stands a self-relative
// descriptor ([MS-DTYP] 2.4.6), whose offsets count from the attribute's begin.
func ntOwners(b []byte) (owner, group string) {
	const at = ntHash + ntHashRoom + len(ntPOSIX) + ntTime + ntHashRoom
	const toOwner, toGroup, head = at + 4, at + 8, at + 12
	if len(b) < head {
		return "", ""
	}
	sid := func(offset int) string {
		place := int(binary.LittleEndian.Uint32(b[offset:]))
		if place < head || place >= len(b) {
			return ""
		}
		return sidText(b[place:])
	}
	return sid(toOwner), sid(toGroup)
}

// sidText is the text of the SID that b begins with, empty if that is none
// ([MS-DTYP] 2.4.2).
func sidText(b []byte) string {
	const fixed, most = 8, 15
	if len(b) < fixed || b[0] != 1 || b[1] > most || len(b) < fixed+4*int(b[1]) {
		return ""
	}
	text := "S-1-" + strconv.FormatUint(binary.BigEndian.Uint64(b)&(1<<48-1), 10)
	for i := range int(b[1]) {
		text += "-" + strconv.FormatUint(uint64(binary.LittleEndian.Uint32(b[fixed+4*i:])), 10)
	}
	return text
}

// meant is a user or group as an NT ACL names it, and the number that came with
// it: the number that it has on the server where the NT ACL was set.
type meant struct {
	sid    string
	group  bool
	number uint32
}

// meantOwners are the first of those that came since a volume was opened.
type meantOwners struct {
	mu  sync.Mutex
	all map[meant]struct{} // guarded by mu, at most meantMost
}

const meantMost = 256

// note takes one of a domain, or one of the groups that each server numbers
// for itself (S-1-5-32); others mean the same everywhere or nothing elsewhere.
func (o *meantOwners) note(m meant) {
	if !strings.HasPrefix(m.sid, "S-1-5-21-") && !strings.HasPrefix(m.sid, "S-1-5-32-") {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = make(map[meant]struct{})
	}
	if len(o.all) < meantMost {
		o.all[m] = struct{}{}
	}
}

// OtherNumbers says which users and groups, by SID, own files here under the
// number that they have on another server, and have another one here.
func (v *Disk) OtherNumbers() []string {
	v.meant.mu.Lock()
	all := slices.Collect(maps.Keys(v.meant.all))
	v.meant.mu.Unlock()
	var out []string
	for _, m := range all {
		ask := v.names.SIDUser
		if m.group {
			ask = v.names.SIDGroup
		}
		if id, ok, err := ask(m.sid); err == nil && ok && id != m.number {
			out = append(out, fmt.Sprintf("%s is %d here and owns files as %d", m.sid, id, m.number))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// judgeNTACL counts an object whose NT ACL this server's Samba will not believe,
// because an owner has another number here; or, where numbers replicate, notes
// whom they mean.
func (v *Disk) judgeNTACL(kind repl.Type, m *Meta) {
	at, has := findXattr(m.Xattrs, ntACL)
	if !has || v.owners == OwnersNone {
		return
	}
	value := m.Xattrs[at].Value
	want, ok := ntACLHash(value)
	if !ok {
		return
	}
	is, ok := posixHash(kind, m)
	switch {
	case !ok:
	case is == want && v.owners == OwnersNumeric: // these numbers are those that its Samba had for these SIDs
		owner, group := ntOwners(value)
		v.meant.note(meant{owner, false, m.Owner})
		v.meant.note(meant{group, true, m.Group})
	case is != want && v.owners == OwnersByName:
		var d doubt
		d.owner, d.group = ntOwners(value)
		d.uid, d.gid = m.Owner, m.Group
		v.doubts.note(d)
	}
}

// doubt is whom an NT ACL names as owner and group, and who they are here.
type doubt struct {
	owner, group string
	uid, gid     uint32
}

// doubts count the NT ACLs whose hash of the POSIX side is another here.
type doubts struct {
	mu    sync.Mutex
	all   map[doubt]int64 // guarded by mu, at most meantMost
	other int64           // of those that all has no room for; guarded by mu
}

func (s *doubts) note(d doubt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[doubt]int64)
	}
	if _, has := s.all[d]; has || len(s.all) < meantMost {
		s.all[d]++
	} else {
		s.other++
	}
}

// DoubtedNTACLs returns how many NT ACLs were set since the volume was opened
// that Samba will not believe here. Where the hash is another it makes an NT ACL
// of the POSIX side and compares the hash of that: where its winbindd gives owner
// and group the numbers that they have here, the SIDs in it are the same.
func (v *Disk) DoubtedNTACLs() int64 {
	v.doubts.mu.Lock()
	all, n := maps.Clone(v.doubts.all), v.doubts.other
	v.doubts.mu.Unlock()
	for d, count := range all {
		uid, ok, err := v.names.SIDUser(d.owner)
		same := err == nil && ok && uid == d.uid
		gid, ok, err := v.names.SIDGroup(d.group)
		if !same || err != nil || !ok || gid != d.gid {
			n += count
		}
	}
	return n
}
