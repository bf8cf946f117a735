package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"opendfs/internal/repl"
	"opendfs/internal/version"

	"github.com/zeebo/blake3"
)

// The flags of a record value; see docs/formats/records.md.
const (
	flagType         uint32 = 3
	flagPresent      uint32 = 1 << 2
	flagNameConflict uint32 = 1 << 3
	flagPresence     uint32 = 7 << 4
	flagProvisional  uint32 = 1 << 7
	flagUnclean      uint32 = 1 << 8
	flagSize         uint32 = 1 << 9
	flagGVSN         uint32 = 1 << 10
	flagParent       uint32 = 1 << 11
	flagFence        uint32 = 1 << 12
	flagCreateTime   uint32 = 1 << 13
	flagClock        uint32 = 1 << 14
	flagMtime        uint32 = 1 << 15
	flagContent      uint32 = 1 << 16
	flagTarget       uint32 = 1 << 17
	flagMeta         uint32 = 1 << 18
	flagMetaHash     uint32 = 1 << 19
	flagHistory      uint32 = 1 << 20
	flagHeir         uint32 = 1 << 21
	flagHandle       uint32 = 1 << 22
	flagPrint        uint32 = 1 << 23
	flagOwnPrint     uint32 = 1 << 24
	flagBirth        uint32 = 1 << 25
	flagShown        uint32 = 1 << 26
	flagZero         uint32 = 1 << 27
	flagLayout       uint32 = 15 << 28
	layoutOne        uint32 = 1 << 28

	presenceShift = 4
	inlineMeta    = 32 // bytes of metadata that stay in the record
)

// metaHash names a metadata blob.
type metaHash [16]byte

func hashMeta(meta []byte) metaHash {
	sum := blake3.Sum256(meta)
	return metaHash(sum[:16])
}

// numbering gives originators their numbers while a value is encoded. The
// first error stays.
type numbering struct {
	number func(version.GVSN) (ref, error)
	err    error
	room   []byte // for what is encoded before its length is known; used again
}

func (n *numbering) append(b []byte, g version.GVSN) []byte {
	r, err := n.number(g)
	if err != nil {
		n.err = errors.Join(n.err, err)
	}
	return r.append(b)
}

func recordFlags(r *repl.Record, inline bool) uint32 {
	f := layoutOne | uint32(r.Type)&flagType | uint32(r.Presence)<<presenceShift&flagPresence
	set := func(flag uint32, on bool) {
		if on {
			f |= flag
		}
	}
	set(flagPresent, r.Present)
	set(flagNameConflict, r.NameConflict)
	set(flagProvisional, r.Provisional)
	set(flagUnclean, r.Unclean)
	set(flagSize, r.Size != 0)
	set(flagGVSN, r.GVSN != version.GVSN(r.UID))
	set(flagParent, !r.Parent.IsZero())
	set(flagFence, r.Fence != repl.FenceDefault)
	set(flagCreateTime, r.CreateTime != 0)
	set(flagClock, r.Clock != r.CreateTime)
	set(flagMtime, r.Mtime != 0)
	set(flagContent, !r.Content.IsZero())
	set(flagTarget, r.Target != "")
	hashed := len(r.Meta) > inlineMeta && !inline
	set(flagMeta, len(r.Meta) > 0 && !hashed)
	set(flagMetaHash, hashed)
	set(flagHistory, len(r.History) > 0)
	set(flagHeir, !r.Heir.IsZero())
	set(flagHandle, r.Identity.Handle != "")
	set(flagPrint, r.Print != repl.Print{})
	set(flagOwnPrint, r.Print != repl.Print{} && (r.Print.Size != r.Size || r.Print.Mtime != r.Mtime))
	set(flagBirth, r.Identity.Birth != 0)
	set(flagShown, len(r.Shown) > 0)
	return f
}

// appendRecord appends the value of r's row. hash is the name of r.Meta's blob,
// needed if it is longer than inlineMeta and inline is not set.
func appendRecord(b []byte, r *repl.Record, n *numbering, hash metaHash, inline bool) []byte {
	f := recordFlags(r, inline)
	le := binary.LittleEndian
	b = le.AppendUint32(b, f)
	if f&flagSize != 0 {
		b = binary.AppendUvarint(b, uint64(r.Size))
	}
	if f&flagGVSN != 0 {
		b = n.append(b, r.GVSN)
	}
	if f&flagParent != 0 {
		b = n.append(b, version.GVSN(r.Parent))
		b = appendString(b, r.Name)
	}
	if f&flagFence != 0 {
		b = binary.AppendVarint(b, int64(r.Fence))
	}
	if f&flagCreateTime != 0 {
		b = le.AppendUint64(b, uint64(r.CreateTime))
	}
	if f&flagClock != 0 {
		b = binary.AppendVarint(b, int64(r.Clock-r.CreateTime))
	}
	if f&flagMtime != 0 {
		b = le.AppendUint64(b, uint64(r.Mtime))
	}
	if f&flagContent != 0 {
		b = append(b, r.Content[:]...)
	}
	if f&flagTarget != 0 {
		b = appendString(b, r.Target)
	}
	switch {
	case f&flagMeta != 0:
		b = appendString(b, string(r.Meta))
	case f&flagMetaHash != 0:
		b = append(b, hash[:]...)
	}
	if f&flagHistory != 0 {
		b = binary.AppendUvarint(b, uint64(len(r.History)))
		for _, g := range r.History {
			b = n.append(b, g)
		}
	}
	if f&flagHeir != 0 {
		b = n.append(b, version.GVSN(r.Heir))
	}
	return appendDisk(b, r, f)
}

// appendDisk appends what the record knows of this member's disk.
func appendDisk(b []byte, r *repl.Record, f uint32) []byte {
	if f&flagHandle != 0 {
		b = appendString(b, r.Identity.Handle)
	}
	if f&flagPrint != 0 {
		b = binary.AppendVarint(b, int64(r.Print.Ctime-r.Mtime))
	}
	if f&flagOwnPrint != 0 {
		b = binary.AppendVarint(b, r.Print.Size)
		b = binary.LittleEndian.AppendUint64(b, uint64(r.Print.Mtime))
	}
	if f&flagBirth != 0 {
		b = binary.AppendVarint(b, int64(r.Identity.Birth-r.Print.Ctime))
	}
	if f&flagShown != 0 {
		b = appendString(b, string(r.Shown))
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// peekRecord reads the flags of a record value and its size.
func peekRecord(value []byte) (flags uint32, size int64, err error) {
	d := decoder{b: value}
	flags = d.uint32()
	if flags&flagSize != 0 {
		size = int64(d.uvarint())
	}
	if d.err == nil && (flags&flagLayout != layoutOne || flags&flagZero != 0) {
		d.err = fmt.Errorf("unknown layout %08x", flags)
	}
	return flags, size, d.err
}

// decodeRecord reads the value of uid's row. A record with flagMetaHash comes
// back without its metadata and with the blob's name.
func decodeRecord(value []byte, uid repl.UID, n *names) (r repl.Record, hash metaHash, err error) {
	f, _, err := peekRecord(value)
	if err != nil {
		return r, hash, fmt.Errorf("decode record %v: %w", uid, err)
	}
	d := decoder{b: value, names: n}
	d.uint32()
	r.UID, r.GVSN = uid, version.GVSN(uid)
	r.Type = repl.Type(f & flagType)
	r.Present = f&flagPresent != 0
	r.NameConflict = f&flagNameConflict != 0
	r.Presence = repl.Presence(f & flagPresence >> presenceShift)
	r.Provisional = f&flagProvisional != 0
	r.Unclean = f&flagUnclean != 0
	if f&flagSize != 0 {
		r.Size = int64(d.uvarint())
	}
	if f&flagGVSN != 0 {
		r.GVSN = d.gvsn()
	}
	if f&flagParent != 0 {
		r.Parent = repl.UID(d.gvsn())
		r.Name = d.string(repl.MaxName)
	}
	d.times(&r, f)
	if f&flagContent != 0 {
		r.Content = repl.Hash(d.take(len(r.Content)))
	}
	if f&flagTarget != 0 {
		r.Target = d.string(repl.MaxTarget)
	}
	switch {
	case f&flagMeta != 0 && f&flagMetaHash != 0:
		d.fail(errors.New("metadata twice"))
	case f&flagMeta != 0:
		r.Meta = []byte(d.string(repl.MaxMeta))
	case f&flagMetaHash != 0:
		hash = metaHash(d.take(len(hash)))
	}
	if f&flagHistory != 0 {
		r.History = d.history()
	}
	if f&flagHeir != 0 {
		r.Heir = repl.UID(d.gvsn())
	}
	d.disk(&r, f)
	if r.Presence > repl.Absent {
		d.fail(fmt.Errorf("presence %d", r.Presence))
	}
	if err := d.end(); err != nil {
		return r, hash, fmt.Errorf("decode record %v: %w", uid, err)
	}
	return r, hash, nil
}

func (d *decoder) times(r *repl.Record, f uint32) {
	r.Fence = repl.FenceDefault
	if f&flagFence != 0 {
		r.Fence = repl.Fence(d.varint())
	}
	if f&flagCreateTime != 0 {
		r.CreateTime = repl.Time(d.uint64())
	}
	r.Clock = r.CreateTime
	if f&flagClock != 0 {
		r.Clock += repl.Time(d.varint())
	}
	if f&flagMtime != 0 {
		r.Mtime = repl.Time(d.uint64())
	}
}

func (d *decoder) disk(r *repl.Record, f uint32) {
	if f&flagHandle != 0 {
		r.Identity.Handle = d.string(maxHandle)
	}
	if f&flagPrint != 0 {
		r.Print = repl.Print{Size: r.Size, Mtime: r.Mtime, Ctime: r.Mtime + repl.Time(d.varint())}
	}
	if f&flagOwnPrint != 0 {
		if f&flagPrint == 0 {
			d.fail(errors.New("half a print"))
		}
		r.Print.Size = d.varint()
		r.Print.Mtime = repl.Time(d.uint64())
	}
	if f&flagBirth != 0 {
		r.Identity.Birth = r.Print.Ctime + repl.Time(d.varint())
	}
	if f&flagShown != 0 {
		if r.Shown = []byte(d.string(repl.MaxMeta)); len(r.Shown) == 0 {
			d.fail(errors.New("nothing shown"))
		}
	}
}

func (d *decoder) history() repl.History {
	count := d.uvarint()
	if count == 0 || count > repl.MaxHistory {
		d.fail(fmt.Errorf("history of %d", count))
		return nil
	}
	h := make(repl.History, 0, count)
	for range count {
		h = append(h, d.gvsn())
	}
	return h
}

// maxHandle is above what any kernel has for a handle (128 bytes and a type).
const maxHandle = 1024
