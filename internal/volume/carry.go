package volume

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// What a member cannot set is carried: its record keeps what the update says,
// and beside it what the object on this disk has instead (repl.Record.Shown).

// The names by which SetMeta reports what it had to leave; an attribute is
// lackXattr and its name.
const (
	lackOwner = "owner"
	lackGroup = "group"
	lackMode  = "mode"
	lackMtime = "mtime"
	lackXattr = "xattr "
)

// Shown returns the metadata of an object that was to have want, has disk, and
// lacks what SetMeta reported: want with the lacking parts as disk has them.
// What else differs was changed by somebody since and is not in it. nil if the
// object has what it was to have.
func Shown(want, disk []byte, lacks []string) ([]byte, error) {
	if len(lacks) == 0 || bytes.Equal(want, disk) {
		return nil, nil
	}
	w, err := DecodeMeta(want)
	if err != nil {
		return nil, err
	}
	d, err := DecodeMeta(disk)
	if err != nil {
		return nil, err
	}
	for _, lack := range lacks {
		switch lack {
		case lackOwner:
			w.Owner, w.OwnerName = d.Owner, d.OwnerName
		case lackGroup:
			w.Group, w.GroupName = d.Group, d.GroupName
		case lackMode:
			w.Mode = d.Mode
		default:
			if name, ok := strings.CutPrefix(lack, lackXattr); ok {
				w.Xattrs = withXattr(w.Xattrs, d.Xattrs, name)
			}
		}
	}
	shown, err := w.Encode()
	if err != nil || bytes.Equal(shown, want) {
		return nil, err
	}
	return shown, nil
}

// Carry returns the metadata of an object whose record says meta, which showed
// shown on this disk and now has disk: what a user changed since, and the rest
// as the record has it.
func Carry(meta, shown, disk []byte) ([]byte, error) {
	if len(shown) == 0 {
		return disk, nil
	}
	if bytes.Equal(shown, disk) {
		return meta, nil
	}
	m, err1 := DecodeMeta(meta)
	s, err2 := DecodeMeta(shown)
	d, err3 := DecodeMeta(disk)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	if d.Mode != s.Mode {
		m.Mode = d.Mode
	}
	if d.Owner != s.Owner || d.OwnerName != s.OwnerName || d.NoOwner {
		m.Owner, m.OwnerName = d.Owner, d.OwnerName
	}
	if d.Group != s.Group || d.GroupName != s.GroupName || d.NoOwner {
		m.Group, m.GroupName = d.Group, d.GroupName
	}
	m.NoOwner = d.NoOwner
	for _, x := range slices.Concat(s.Xattrs, d.Xattrs) {
		was, had := findXattr(s.Xattrs, x.Name)
		is, has := findXattr(d.Xattrs, x.Name)
		if had != has || had && !bytes.Equal(s.Xattrs[was].Value, d.Xattrs[is].Value) {
			m.Xattrs = withXattr(m.Xattrs, d.Xattrs, x.Name)
		}
	}
	return m.Encode()
}

// withXattr returns list with the attribute of that name as from has it. Both
// are in order.
func withXattr(list, from []Xattr, name string) []Xattr {
	list = slices.Clone(list)
	at, is := findXattr(list, name)
	if is {
		list = slices.Delete(list, at, at+1)
	}
	if there, ok := findXattr(from, name); ok {
		list = slices.Insert(list, at, from[there])
	}
	return list
}

// CanBeLacking reports whether what differs between want and disk are only
// parts that need a right or a feature: an owner, a group, the bits that give
// their rights away, an attribute of the system. Nobody without that right has
// changed them.
func CanBeLacking(want, disk []byte) bool {
	w, err := DecodeMeta(want)
	if err != nil {
		return false
	}
	d, err := DecodeMeta(disk)
	if err != nil {
		return false
	}
	var away uint32 // what humble takes
	if d.Owner != w.Owner || d.OwnerName != w.OwnerName {
		away |= setuid
	}
	if d.Group != w.Group || d.GroupName != w.GroupName {
		away |= setgid
	}
	d.Mode |= w.Mode & away
	d.Owner, d.OwnerName, d.Group, d.GroupName, d.NoOwner = w.Owner, w.OwnerName, w.Group, w.GroupName, w.NoOwner
	ours := func(x Xattr) bool { return !strings.HasPrefix(x.Name, "user.") }
	w.Xattrs, d.Xattrs = slices.DeleteFunc(w.Xattrs, ours), slices.DeleteFunc(d.Xattrs, ours)
	a, err := w.Encode()
	if err != nil {
		return false
	}
	b, err := d.Encode()
	return err == nil && bytes.Equal(a, b)
}
