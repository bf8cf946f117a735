package volume

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"

	"opendfs/internal/repl"

	"golang.org/x/sys/unix"
)

// object is one object whose metadata are read or set: an open file, or one
// opened O_PATH, which the calls for extended attributes take only as a path
// in /proc. Such a path leads to the object itself, also if that is a link.
// With a name it is what lies there in the directory fd, to be read only.
type object struct {
	fd     int
	path   string // empty for an open file
	name   string
	leased bool
}

// openObject opens name in d without touching it.
func (d *dir) openObject(name string) (object, error) {
	fd, err := openBeneath(d.fd.get(), name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return object{}, err
	}
	return object{fd: fd, path: procPath(fd)}, nil
}

func (d *dir) Meta(name string) ([]byte, error) {
	const op = "read metadata of"
	if err := d.source(op, name); err != nil {
		return nil, err
	}
	o, err := d.openObject(name)
	if err != nil {
		return nil, fail(op, name, err)
	}
	defer func() { _ = unix.Close(o.fd) }() // O_PATH: nothing is lost
	m, err := d.v.read(o)
	if err != nil {
		return nil, fail(op, name, err)
	}
	b, err := m.Encode()
	return b, fail(op, name, err)
}

func (d *dir) MetaOf(name string, was *Stat) ([]byte, error) {
	if !d.v.features.xattrAt {
		return d.Meta(name)
	}
	const op = "read metadata of"
	if err := d.source(op, name); err != nil {
		return nil, err
	}
	m := Meta{Mode: was.Mode, Owner: was.Owner, Group: was.Group}
	var err error
	if was.Type == repl.Symlink {
		m.Mode = linkMode
	} else {
		m.Xattrs, err = object{fd: d.fd.get(), name: name}.xattrs(d.v.optional)
	}
	if err == nil {
		err = d.v.outward(&m, was.Type)
	}
	if err != nil {
		return nil, fail(op, name, err)
	}
	b, err := m.Encode()
	return b, fail(op, name, err)
}

func (d *dir) SetMeta(name string, expect *Stat, meta []byte, mtime repl.Time) (Stat, []string, error) {
	return d.setMeta(name, expect, nil, meta, mtime)
}

func (d *dir) Amend(name string, expect *Stat, was, meta []byte, mtime repl.Time) (Stat, []string, error) {
	known, err := d.v.amended.decode(was)
	if err != nil {
		return Stat{}, nil, fail("amend metadata of", name, err)
	}
	return d.setMeta(name, expect, &known, meta, mtime)
}

// setMeta is SetMeta; of an object whose attributes are known they are not read.
func (d *dir) setMeta(name string, expect *Stat, known *Meta, meta []byte, mtime repl.Time) (Stat, []string, error) {
	const op = "set metadata of"
	if err := d.source(op, name); err != nil {
		return Stat{}, nil, err
	}
	m, err := d.v.given.decode(meta)
	if err != nil {
		return Stat{}, nil, fail(op, name, err)
	}
	stays := known != nil && expect != nil && expect.Print.Mtime == mtime
	o, now, err := d.openAsExpected(name, expect, !stays)
	if err != nil {
		return Stat{}, nil, fail(op, name, err)
	}
	lacks, err := d.v.apply(o, now, m, mtime, known)
	if err != nil {
		return Stat{}, lacks, errors.Join(fail(op, name, err), unix.Close(o.fd))
	}
	if stays && now.Type == repl.File { // who has written since is seen by the mtime
		return now, lacks, fail(op, name, d.hold(o))
	}
	after, err := d.v.again(o.fd, now.Identity.Handle)
	if err != nil || after.Type == repl.Symlink || after.Type == repl.Other {
		return after, lacks, errors.Join(fail(op, name, err), unix.Close(o.fd))
	}
	return after, lacks, fail(op, name, d.hold(o))
}

// openAsExpected opens name in d to set its metadata, and describes it;
// ErrChanged if it is not what it is expected to be. Without alone a file may be one
// that somebody writes to.
func (d *dir) openAsExpected(name string, expect *Stat, alone bool) (object, Stat, error) {
	if expect != nil && expect.Type == repl.File && d.v.features.Privileged && expect.Identity.Handle != "" {
		o, now, err := d.openByHandle(name, expect, alone)
		if !errors.Is(err, errHandle) {
			return o, now, err
		}
	}
	o, err := d.openExpected(name, expect, alone)
	if err != nil {
		return o, Stat{}, err
	}
	now, err := d.v.describe(o.fd, "")
	if err == nil && expect != nil && !unchanged(&now, expect) {
		err = ErrChanged
	}
	if err != nil {
		return o, now, errors.Join(err, unix.Close(o.fd))
	}
	return o, now, nil
}

var errHandle = errors.New("the handle does not do")

// openByHandle is openAsExpected of a file by its handle, which cannot lead to
// another object; what lies at the name is looked at when no writer can come any
// more, if it is to be alone. It costs half of what opening by name does. errHandle if
// it cannot be told this way.
func (d *dir) openByHandle(name string, expect *Stat, alone bool) (object, Stat, error) {
	fd, err := openHandle(d.v.fd, expect.Identity.Handle, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return object{}, Stat{}, errHandle
	}
	o := object{fd: fd}
	if alone {
		if o, err = d.leased(fd); err != nil {
			return o, Stat{}, err
		}
	}
	var c cname
	var st unix.Statx_t
	if err = c.set(name); err == nil {
		err = statAt(d.fd.get(), &c, &st)
	}
	now := statOf(&st, expect.Identity.Handle)
	switch {
	case err != nil:
	case d.v.foreign(&st):
		err = unix.EXDEV
	case !handleHolds(expect.Identity.Handle, st.Ino): // another object's, or the handle hides it
		err = errHandle
	case !unchanged(&now, expect):
		err = ErrChanged
	}
	if err != nil {
		return o, now, errors.Join(err, unix.Close(fd))
	}
	return o, now, nil
}

// openExpected opens name in d to set its metadata, for reading if possible, so
// that they can be synced. A file that must be as expected and alone is leased, which
// keeps writers waiting; ErrInUse if there is one. Links, what does not
// replicate and what may not be read are opened O_PATH.
func (d *dir) openExpected(name string, expect *Stat, alone bool) (object, error) {
	now, err := d.v.kind(d.fd.get(), name)
	if err != nil {
		return object{}, err
	}
	if now != repl.File && now != repl.Directory {
		return d.openObject(name)
	}
	fd, err := openBeneath(d.fd.get(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err == unix.EACCES || err == unix.EPERM {
		return d.openObject(name)
	}
	if err == unix.ELOOP || err == unix.ENXIO {
		err = ErrChanged
	}
	if err != nil || expect == nil || now != repl.File || !alone {
		return object{fd: fd}, err
	}
	return d.leased(fd)
}

// leased takes a lease on an open file, where there are any; ErrInUse, and the
// file is closed, if somebody writes to it.
func (d *dir) leased(fd int) (object, error) {
	if !d.v.features.Leases {
		return object{fd: fd}, nil
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if err == unix.EAGAIN {
		return object{}, errors.Join(ErrInUse, unix.Close(fd))
	}
	return object{fd: fd, leased: err == nil}, nil // no lease on another user's file
}

// unchanged reports whether an object is what it is expected to be.
func unchanged(now, expect *Stat) bool {
	return now.Type == expect.Type && now.Identity == expect.Identity &&
		(expect.Type != repl.File || now.Print.SameData(expect.Print))
}

func (d *dir) OwnMeta() ([]byte, error) {
	const op = "read metadata of"
	m, err := d.v.read(object{fd: d.fd.get()})
	if err != nil {
		return nil, fail(op, d.name, err)
	}
	b, err := m.Encode()
	return b, fail(op, d.name, err)
}

func (d *dir) SetOwnMeta(meta []byte, mtime repl.Time) ([]string, error) {
	const op = "set metadata of"
	m, err := DecodeMeta(meta)
	if err != nil {
		return nil, fail(op, d.name, err)
	}
	o := object{fd: d.fd.get()}
	now, err := d.v.describe(o.fd, "")
	if err != nil {
		return nil, fail(op, d.name, err)
	}
	lacks, err := d.v.apply(o, now, m, mtime, nil)
	return lacks, fail(op, d.name, err)
}

// SetMtime sets the directory's own mtime.
func (d *dir) SetMtime(mtime repl.Time) error {
	return fail("set mtime of", d.name, object{fd: d.fd.get()}.setMtime(mtime))
}

func (o object) setMtime(mtime repl.Time) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, timespecOf(mtime)}
	return unix.UtimesNanoAt(o.fd, "", times, unix.AT_EMPTY_PATH)
}

// read returns the metadata of o.
func (v *Disk) read(o object) (Meta, error) {
	var self cname
	var st unix.Statx_t
	if err := statAt(o.fd, &self, &st); err != nil {
		return Meta{}, err
	}
	if v.foreign(&st) {
		return Meta{}, unix.EXDEV
	}
	m := Meta{Mode: uint32(st.Mode) & modeBits, Owner: st.Uid, Group: st.Gid}
	kind := typeOf(uint32(st.Mode))
	if kind == repl.Symlink {
		m.Mode = linkMode
		return m, v.outward(&m, kind)
	}
	var err error
	if m.Xattrs, err = o.xattrs(v.optional); err != nil {
		return m, err
	}
	return m, v.outward(&m, kind)
}

// apply gives o, which s describes, metadata and mtime. The order matters: chown
// clears setuid, and chmod changes an ACL's mask. What is refused for want of a
// right, or because the filesystem has no such thing, is named in lacks. The
// attributes that o has are read unless they are known.
func (v *Disk) apply(o object, s Stat, m Meta, mtime repl.Time, known *Meta) (lacks []string, err error) {
	m, lacks, err = v.inward(m, &s)
	if err != nil {
		return nil, err
	}
	more, err := o.own(s, m)
	lacks = append(lacks, more...)
	if err != nil {
		return lacks, err
	}
	lacks = m.humble(s.Type, lacks)
	if s.Type != repl.Symlink {
		more, err := v.applyMode(o, s, m, known)
		lacks = append(lacks, more...)
		if err != nil {
			return lacks, err
		}
	}
	v.judgeNTACL(s.Type, &m)
	if s.Print.Mtime == mtime { // nothing of this moves it
		return lacks, nil
	}
	err = o.setMtime(mtime)
	if lack(err) {
		return append(lacks, lackMtime), nil
	}
	return lacks, err
}

// humble takes from m the bits that would give away the rights of another owner
// than the one that m is about, if that could not be set.
func (m *Meta) humble(kind repl.Type, lacks []string) []string {
	var away uint32
	if slices.Contains(lacks, lackOwner) {
		away |= setuid
	}
	if slices.Contains(lacks, lackGroup) && kind != repl.Directory {
		away |= setgid
	}
	if m.Mode&away == 0 || kind == repl.Symlink {
		return lacks
	}
	m.Mode &^= away
	return append(lacks, lackMode)
}

// own sets owner and group, each by itself, because a process may have the
// right to one of them only.
func (o object) own(s Stat, m Meta) (lacks []string, err error) {
	if s.Owner == m.Owner && s.Group == m.Group {
		return nil, nil
	}
	const none = -1
	if s.Owner != m.Owner {
		if err := o.chown(int(m.Owner), none); lack(err) {
			lacks = append(lacks, lackOwner)
		} else if err != nil {
			return lacks, err
		}
	}
	if s.Group != m.Group {
		if err := o.chown(none, int(m.Group)); lack(err) {
			lacks = append(lacks, lackGroup)
		} else if err != nil {
			return lacks, err
		}
	}
	return lacks, nil
}

func (o object) chown(owner, group int) error {
	return unix.Fchownat(o.fd, "", owner, group, unix.AT_EMPTY_PATH)
}

// applyMode sets mode and attributes. An ACL sets the permissions itself: where
// nothing else of the mode differs, chmod would only write another ACL first.
func (v *Disk) applyMode(o object, s Stat, m Meta, known *Meta) (lacks []string, err error) {
	const permissions = 0o777
	owned := s.Owner == m.Owner && s.Group == m.Group
	if !owned { // chown takes attributes away
		known = nil
	}
	have, err := v.attributes(o, s, known)
	if err != nil {
		return nil, err
	}
	byACL := owned && s.Mode&^permissions == m.Mode&^permissions && needs(have, m.Xattrs, aclAccess)
	if !byACL && !(owned && s.Mode == m.Mode) {
		if lacks, err = o.giveMode(m.Mode, lacks); err != nil {
			return lacks, err
		}
	}
	more, err := v.applyXattrs(o, s, have, m.Xattrs)
	if lacks = append(lacks, more...); err == nil && byACL && s.Mode != m.Mode && slices.Contains(more, lackXattr+aclAccess) {
		lacks, err = o.giveMode(m.Mode, lacks)
	}
	return lacks, err
}

// attributes are those that o has, of its ACL the name alone: chmod changes that
// one. Those that are known are not read.
func (v *Disk) attributes(o object, s Stat, known *Meta) ([]Xattr, error) {
	if known == nil {
		return o.xattrs(v.optional, aclAccess)
	}
	shown, _, err := v.inward(*known, &s)
	if i, has := findXattr(shown.Xattrs, aclAccess); has {
		shown.Xattrs[i].Value = nil
	}
	return shown.Xattrs, err
}

func (o object) giveMode(mode uint32, lacks []string) ([]string, error) {
	err := o.chmod(mode)
	if lack(err) {
		return append(lacks, lackMode), nil
	}
	return lacks, err
}

// needs reports whether an attribute is to be set to what it is not, as far as
// that was read.
func needs(have, want []Xattr, name string) bool {
	w, is := findXattr(want, name)
	if !is {
		return false
	}
	h, has := findXattr(have, name)
	return !has || !bytes.Equal(have[h].Value, want[w].Value)
}

func (o object) chmod(mode uint32) error {
	if o.path == "" {
		return unix.Fchmod(o.fd, mode)
	}
	return unix.Chmod(o.path, mode)
}

// applyXattrs sets what differs and removes what is too much.
func (v *Disk) applyXattrs(o object, s Stat, have, want []Xattr) (lacks []string, err error) {
	for _, x := range have {
		if _, keep := findXattr(want, x.Name); keep {
			continue
		}
		if err := o.remove(x.Name); lack(err) {
			lacks = append(lacks, lackXattr+x.Name)
		} else if err != nil && err != unix.ENODATA {
			return lacks, err
		}
	}
	for _, x := range want {
		if !needs(have, want, x.Name) {
			continue
		}
		if x.Name == aclDefault && s.Type != repl.Directory {
			lacks = append(lacks, lackXattr+x.Name)
			continue
		}
		if err := o.set(x); lack(err) || v.noRoom(err) {
			if is, err := o.xattr(x.Name); err != nil || !bytes.Equal(is, x.Value) {
				lacks = append(lacks, lackXattr+x.Name)
			}
		} else if err != nil {
			return lacks, err
		}
	}
	return lacks, nil
}

func findXattr(in []Xattr, name string) (int, bool) {
	return slices.BinarySearchFunc(in, name, func(x Xattr, name string) int { return strings.Compare(x.Name, name) })
}

func (o object) set(x Xattr) error {
	if o.path == "" {
		return unix.Fsetxattr(o.fd, x.Name, x.Value, 0)
	}
	return unix.Setxattr(o.path, x.Name, x.Value, 0)
}

func (o object) remove(name string) error {
	if o.path == "" {
		return unix.Fremovexattr(o.fd, name)
	}
	return unix.Removexattr(o.path, name)
}

// lack reports whether err means that this process or this filesystem cannot
// do it, and will not be able to a moment later.
func lack(err error) bool {
	return errors.Is(err, os.ErrPermission) || err == unix.EOPNOTSUPP || err == unix.EINVAL || err == unix.E2BIG || err == unix.ERANGE
}

// roomLeft is how many free bytes prove that ENOSPC was said of an inode's
// room for attributes (ext4 has one block for them), not of the disk.
const roomLeft = 1 << 20

func (v *Disk) noRoom(err error) bool {
	if err != unix.ENOSPC {
		return false
	}
	free, _, ferr := v.Free()
	return ferr == nil && free > roomLeft
}
