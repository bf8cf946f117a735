// Package repl holds the nouns of replication: identifiers, the ID record, the
// update that travels between members, the order of updates, the one way to
// mint one, and the plan that a verdict produces. It decides nothing, reads no
// clock and touches no file.
//
// A file is its UID; its name and parent are attributes. Each member keeps for
// every UID exactly one record: the greatest update of that UID that it knows,
// with what it knows about its own disk beside it.
package repl

import (
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"opendfs/internal/version"
)

// GUID identifies an object of the directory: 16 bytes, printed as 8-4-4-4-12
// hexadecimal digits. The zero value names nothing.
type GUID [16]byte

// String prints g as 8-4-4-4-12 hexadecimal digits.
func (g GUID) String() string { return version.Originator(g).String() }

// IsZero reports whether g names nothing.
func (g GUID) IsZero() bool { return g == GUID{} }

// ParseGUID reads the form that String prints.
func ParseGUID(s string) (GUID, error) {
	o, err := version.ParseOriginator(s)
	return GUID(o), err
}

// FolderID identifies a replicated folder ("content set" in [MS-FRS2]).
type FolderID GUID

// String prints the GUID.
func (f FolderID) String() string { return GUID(f).String() }

// MemberID identifies a server of the domain, by the id in its certificate.
type MemberID GUID

// String prints the GUID.
func (m MemberID) String() string { return GUID(m).String() }

// UID identifies a file, directory or link for ever: the GVSN it had when it
// first became known ([MS-FRS2] 1.1). The zero value is no object.
type UID version.GVSN

// IsZero reports whether u names no object.
func (u UID) IsZero() bool { return u == UID{} }

// Compare orders UIDs as [MS-FRS2] 3.3.4.6.1 orders GVSNs.
func (u UID) Compare(v UID) int { return version.GVSN(u).Compare(version.GVSN(v)) }

// String prints the UID as DFSR's logs do: GUID-vNUMBER.
func (u UID) String() string { return version.GVSN(u).String() }

// RootUID is the UID of a folder's root directory ([MS-FRS2] 3.3.4.6.2).
func RootUID(f FolderID) UID { return UID{Originator: version.Originator(f), Version: 1} }

// Type is what an object is. A UID never changes its type.
type Type uint8

// The types that replicate. Other is everything that does not: sockets, pipes,
// devices.
const (
	Other Type = iota
	File
	Directory
	Symlink
)

// String returns the type's English name.
func (t Type) String() string {
	switch t {
	case File:
		return "file"
	case Directory:
		return "directory"
	case Symlink:
		return "link"
	}
	return "other"
}

// Time is nanoseconds since 1970 UTC. As a clock it is logical: it exceeds
// what it replaces (rule 6). The zero value is no time.
type Time int64

// Fence raises a record above others whatever their clocks; the named low
// values are DFSR's, any higher value is the Time of an authoritative restore.
type Fence int64

// The named fences.
const (
	Unfenced          Fence = 0 // loses to all
	FenceInitialSync  Fence = 1 // what a non-primary member found on its disk
	FenceInitialBuild Fence = 2 // what the primary member found on its disk
	FenceDefault      Fence = 3
)

// PrivateName is the name of the private area in the root of a replicated folder
// (docs/formats/private-area.md).
const PrivateName = ".dfsr"

// The limits on what an update may hold.
const (
	MaxHistory       = 16      // entries in a History
	MaxName          = 1024    // bytes in a name that travels
	MaxTarget        = 4095    // bytes in a link's target
	MaxMeta          = 1 << 20 // bytes of canonical metadata
	MaxContent int64 = 1 << 60 // bytes in a file
)

// Hash is a BLAKE3-256 digest. The zero value means that it is not known.
type Hash [32]byte

// IsZero reports whether the digest is unknown.
func (h Hash) IsZero() bool { return h == Hash{} }

// Equal compares two digests; unknown equals nothing.
func (h Hash) Equal(o Hash) bool {
	return !h.IsZero() && subtle.ConstantTimeCompare(h[:], o[:]) == 1
}

// String prints the digest in hexadecimal.
func (h Hash) String() string {
	if h.IsZero() {
		return "unknown"
	}
	return hex.EncodeToString(h[:])
}

// Update is one version of one object as it travels between members. Once
// minted no field of it ever changes ([MS-FRS2] 3.3.4.6.2).
type Update struct {
	UID     UID
	GVSN    version.GVSN
	Parent  UID    // the containing directory; may be a merged one (rule 8)
	Name    string // the last known name, of a tombstone too
	Type    Type
	Present bool // false: a tombstone
	// NameConflict marks a tombstone that lost its name to another object. No
	// live update may ever supersede it.
	NameConflict bool
	Heir         UID // the directory that a merged directory became, else zero
	Fence        Fence
	CreateTime   Time // when the object first appeared in the folder
	Clock        Time // when this version was captured, logical
	Size         int64
	Mtime        Time
	Content      Hash    // of the data; of the target for a link; zero for a directory
	Target       string  // of a link
	Meta         []byte  // canonical metadata, docs/formats/metadata.md; its owner never changes it
	History      History // what the author had seen of this UID
}

// SameContent reports whether a and b carry the same data, so that no content
// must travel or be kept to turn one into the other.
func SameContent(a, b *Update) bool {
	if a.Type != b.Type {
		return false
	}
	return a.Type == Directory || a.Content.Equal(b.Content)
}

// SameMeta reports whether a and b carry the same metadata, mtime included.
func SameMeta(a, b *Update) bool {
	return a.Mtime == b.Mtime && string(a.Meta) == string(b.Meta)
}

// Presence says how a record stands to this member's disk (rule 23).
type Presence uint8

// The presences. Only what is OnDisk can be found edited or deleted.
const (
	OnDisk   Presence = iota
	Hidden            // by a filter or a local name collision
	Carried           // for others; this disk cannot hold it
	Obscured          // its state on disk is unknown
	Absent            // a tombstone, or a live record whose content has not arrived
)

// String returns the presence's name as `dfs record` prints it.
func (p Presence) String() string {
	return [...]string{"on-disk", "hidden", "carried", "obscured", "absent"}[min(p, Absent)]
}

// Identity is what the kernel says an object is, so that it is known again
// under another name (rule 22). Handle holds the handle type as four bytes,
// little-endian, and then the handle's bytes; empty where there is none.
type Identity struct {
	Handle string
	Birth  Time // zero where the filesystem has none
}

// IsZero reports whether nothing is known.
func (i Identity) IsZero() bool { return i == Identity{} }

// Print is the fingerprint of an object on disk: equal prints of one identity
// mean unchanged content and metadata.
type Print struct {
	Size  int64
	Mtime Time
	Ctime Time
}

// SameData compares what an exchange into another place does not move: ctime
// is left out (fs-facts: an exchange itself moves it).
func (p Print) SameData(q Print) bool { return p.Size == q.Size && p.Mtime == q.Mtime }

// Record is an ID record: the greatest update of a UID that this member knows,
// and what it knows of its own disk. Only the Update ever leaves the member.
type Record struct {
	Update
	Presence    Presence
	Provisional bool // found by an initial build that has not met the partner's tree (rule 13)
	Unclean     bool // found changed after an unclean start (rule 19)
	Identity    Identity
	Print       Print
	// Shown is the canonical metadata that the object has on this disk where it
	// could not be given Meta: for want of a right, of a feature of the
	// filesystem, of a user. nil: it has Meta. What is not shown is carried.
	Shown []byte
}

// Check reports why an update that came from outside cannot be true.
func (u *Update) Check() error {
	switch {
	case u.UID.IsZero() || u.GVSN.IsZero():
		return fmt.Errorf("update %v of %v: no identity", u.GVSN, u.UID)
	case u.Type != File && u.Type != Directory && u.Type != Symlink:
		return fmt.Errorf("update %v: unknown type %d", u.GVSN, u.Type)
	case u.Present && u.NameConflict:
		return fmt.Errorf("update %v: live and a name conflict's loser at once", u.GVSN)
	case u.Present && !u.Heir.IsZero():
		return fmt.Errorf("update %v: live and merged at once", u.GVSN)
	case !u.Heir.IsZero() && (u.Type != Directory || u.Heir == u.UID):
		return fmt.Errorf("update %v: bad heir %v", u.GVSN, u.Heir)
	case u.Size < 0 || u.Size > MaxContent:
		return fmt.Errorf("update %v: size %d", u.GVSN, u.Size)
	case len(u.Meta) > MaxMeta || len(u.Target) > MaxTarget || len(u.History) > MaxHistory:
		return fmt.Errorf("update %v: metadata of %d bytes, target of %d, history of %d", u.GVSN, len(u.Meta), len(u.Target), len(u.History))
	case u.Present && u.Type == File && u.Content.IsZero():
		return fmt.Errorf("update %v: no content hash", u.GVSN)
	case u.Parent == u.UID:
		return fmt.Errorf("update %v: is its own parent", u.GVSN)
	}
	return CheckName(u.Name, u.Parent.IsZero())
}

// CheckName reports why a name cannot be a directory entry. Only a root has
// none.
func CheckName(name string, root bool) error {
	if root {
		if name != "" {
			return fmt.Errorf("name %q: a root has none", name)
		}
		return nil
	}
	if name == "" || name == "." || name == ".." || len(name) > MaxName {
		return fmt.Errorf("name %q: not a directory entry", name)
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return fmt.Errorf("name %q: holds a slash or a NUL", name)
		}
	}
	return nil
}
