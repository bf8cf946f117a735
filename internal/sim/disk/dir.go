package disk

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"syscall"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// dir is an open directory.
type dir struct {
	v       *view
	n       *inode
	root    bool
	private bool
	closed  bool
	set     []*inode // whose metadata were set through this directory
}

var _ volume.Dir = (*dir)(nil)

// begin starts an operation on the name, which may be empty for the directory
// itself.
func (d *dir) begin(op, name string) error {
	if d.closed {
		return &volume.OpError{Op: op, Name: name, Err: os.ErrClosed}
	}
	return d.v.begin(op, d.n, name)
}

// find starts an operation on an object that must be there.
func (d *dir) find(op, name string) (*inode, error) {
	if err := d.begin(op, name); err != nil {
		return nil, err
	}
	return d.present(op, name)
}

// present is find without a beginning, for an operation's second name.
func (d *dir) present(op, name string) (*inode, error) {
	if err := bad(name); err != nil {
		return nil, refuse(op, name, err)
	}
	if d.root && name == privateName {
		return nil, refuse(op, name, volume.ErrNotExist)
	}
	if len(name) > nameMax {
		return nil, &volume.OpError{Op: op, Name: name, Err: syscall.ENAMETOOLONG}
	}
	n := d.n.child(name)
	if n == nil {
		return nil, refuse(op, name, volume.ErrNotExist)
	}
	if n.mounted {
		return nil, refuse(op, name, volume.ErrMount)
	}
	return n, nil
}

// vacant checks that a place is free.
func (d *dir) vacant(op, name string) error {
	if err := bad(name); err != nil {
		return refuse(op, name, err)
	}
	if d.root && name == privateName {
		return refuse(op, name, volume.ErrExist)
	}
	if len(name) > nameMax || !d.private && len(name) > d.v.d.longest() {
		return &volume.OpError{Op: op, Name: name, Err: syscall.ENAMETOOLONG}
	}
	if d.n.child(name) != nil {
		return refuse(op, name, volume.ErrExist)
	}
	if d.removed() {
		return refuse(op, name, volume.ErrNotExist)
	}
	return nil
}

// removed reports whether the directory itself was removed.
func (d *dir) removed() bool {
	return len(d.n.links) == 0 && d.n != d.v.d.root
}

func (d *dir) Stat() (volume.Stat, error) {
	if err := d.begin("stat", ""); err != nil {
		return volume.Stat{}, err
	}
	return d.n.stat(), nil
}

func (d *dir) Lookup(name string) (volume.Stat, error) {
	n, err := d.find("lookup", name)
	if err != nil {
		return volume.Stat{}, err
	}
	return n.stat(), nil
}

func (d *dir) Again(name string, _ *volume.Stat) (volume.Stat, error) { return d.Lookup(name) }

func (d *dir) Recognize(name string, _ repl.Identity, _ repl.Time) (volume.Stat, error) {
	return d.Lookup(name)
}

func (d *dir) List(fn func(volume.Entry) error) error {
	if err := d.begin("list", ""); err != nil {
		return err
	}
	if d.removed() {
		return refuse("list", "", volume.ErrNotExist)
	}
	w := d.v.d
	var buf []dirent
	if k := len(w.lists); k > 0 {
		buf, w.lists = w.lists[k-1], w.lists[:k-1]
	}
	buf = append(buf[:0], d.n.entries...)
	defer func() { w.lists = append(w.lists, buf) }()
	for i := range buf {
		if i == (len(buf)+1)/2 && w.Fail != nil {
			if err := w.Fail("list rest", w.path(d.n)); err != nil {
				return &volume.OpError{Op: "list", Err: err}
			}
		}
		if d.root && buf[i].name == privateName {
			continue
		}
		if err := fn(volume.Entry{Name: buf[i].name, Type: buf[i].n.kind}); err != nil {
			return err
		}
	}
	return nil
}

func (d *dir) OpenDir(name string) (volume.Dir, error) {
	n, err := d.find("opendir", name)
	if err != nil {
		return nil, err
	}
	if n.kind != repl.Directory {
		return nil, refuse("opendir", name, volume.ErrNotDir)
	}
	return &dir{v: d.v, n: n, private: d.private}, nil
}

func (d *dir) OpenFile(name string) (volume.File, error) {
	n, err := d.find("openfile", name)
	if err != nil {
		return nil, err
	}
	if n.kind != repl.File {
		return nil, refuse("openfile", name, volume.ErrNotFile)
	}
	return &file{v: d.v, n: n, name: name}, nil
}

func (d *dir) ReadLink(name string) (string, error) {
	n, err := d.find("readlink", name)
	if err != nil {
		return "", err
	}
	if n.kind != repl.Symlink {
		return "", &volume.OpError{Op: "readlink", Name: name, Err: syscall.EINVAL}
	}
	return n.target, nil
}

func (d *dir) Meta(name string) ([]byte, error) {
	n, err := d.find("meta", name)
	if err != nil {
		return nil, err
	}
	return n.meta()
}

func (d *dir) MetaOf(name string, _ *volume.Stat) ([]byte, error) { return d.Meta(name) }

// meta is the canonical form of the metadata.
func (n *inode) meta() ([]byte, error) {
	if n.enc == nil {
		m := volume.Meta{Mode: n.cur.mode, Owner: n.cur.owner, Group: n.cur.group, Xattrs: n.cur.xattrs}
		var err error
		if n.enc, err = m.Encode(); err != nil {
			return nil, err
		}
	}
	return n.enc, nil
}

func (d *dir) SetMeta(name string, expect *volume.Stat, b []byte, mtime repl.Time) (volume.Stat, []string, error) {
	return d.setMetaOver(name, expect, nil, b, mtime)
}

// Amend leaves every attribute as it is that was and b have alike.
func (d *dir) Amend(name string, expect *volume.Stat, was, b []byte, mtime repl.Time) (volume.Stat, []string, error) {
	known, err := volume.DecodeMeta(was)
	if err != nil {
		return volume.Stat{}, nil, &volume.OpError{Op: "amend", Name: name, Err: err}
	}
	return d.setMetaOver(name, expect, &known, b, mtime)
}

func (d *dir) setMetaOver(name string, expect *volume.Stat, known *volume.Meta, b []byte, mtime repl.Time) (volume.Stat, []string, error) {
	const op = "setmeta"
	n, err := d.find(op, name)
	if err != nil {
		return volume.Stat{}, nil, err
	}
	m, err := volume.DecodeMeta(b)
	if err != nil {
		return volume.Stat{}, nil, &volume.OpError{Op: op, Name: name, Err: err}
	}
	moves := n.cur.mtime != mtime
	alone := known == nil || moves // no writer may come meanwhile
	if expect != nil {
		now := n.stat()
		if now.Type != expect.Type || now.Identity != expect.Identity ||
			now.Type == repl.File && !now.Print.SameData(expect.Print) {
			return volume.Stat{}, nil, refuse(op, name, volume.ErrChanged)
		}
		if now.Type == repl.File && alone && d.v.d.open(n) {
			return volume.Stat{}, nil, refuse(op, name, volume.ErrInUse)
		}
	}
	before := n.stat()
	if known != nil {
		m.Xattrs = amended(n.cur.xattrs, known.Xattrs, m.Xattrs)
	}
	d.v.d.setMeta(n, &m, n.cur.mtime)
	d.set = append(d.set, n)
	// The real one sets owner, mode, attributes and times one after the other, and
	// the times only if they are to change. Its lease keeps writers waiting then.
	n.leased = expect != nil && n.kind == repl.File && alone
	defer func() { n.leased = false }()
	if err := d.v.begin("setmeta times", d.n, name); err != nil {
		return volume.Stat{}, nil, err
	}
	if moves {
		n.cur.mtime, n.cur.ctime = mtime, d.v.d.stamp()
		d.v.d.touch(n)
		d.v.d.emitAll(n, false)
	}
	if !alone && expect != nil && n.kind == repl.File { // who wrote meanwhile has moved the mtime
		return before, nil, nil
	}
	return n.stat(), nil, nil
}

// amended are the attributes of an object that had those of was on record, has
// now's, and is given those of want.
func amended(now, was, want []volume.Xattr) []volume.Xattr {
	find := func(in []volume.Xattr, name string) *volume.Xattr {
		for i := range in {
			if in[i].Name == name {
				return &in[i]
			}
		}
		return nil
	}
	var out []volume.Xattr
	for _, x := range want {
		before, has := find(was, x.Name), find(now, x.Name)
		switch {
		case before == nil || !bytes.Equal(before.Value, x.Value):
			out = append(out, x)
		case has != nil:
			out = append(out, *has)
		}
	}
	for _, x := range now {
		if find(want, x.Name) == nil && find(was, x.Name) == nil {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(x, y volume.Xattr) int { return strings.Compare(x.Name, y.Name) })
	return out
}

// setMeta gives an object metadata.
func (d *Disk) setMeta(n *inode, m *volume.Meta, mtime repl.Time) {
	n.cur.owner, n.cur.group = m.Owner, m.Group
	if n.kind != repl.Symlink {
		n.cur.mode = m.Mode
		n.cur.xattrs = slices.Clone(m.Xattrs)
		for i := range n.cur.xattrs {
			n.cur.xattrs[i].Value = slices.Clone(n.cur.xattrs[i].Value)
		}
	}
	n.cur.mtime, n.cur.ctime = mtime, d.stamp()
	d.touch(n)
	d.emitAll(n, false)
}

func (d *dir) OwnMeta() ([]byte, error) {
	if err := d.begin("ownmeta", ""); err != nil {
		return nil, err
	}
	return d.n.meta()
}

func (d *dir) SetOwnMeta(b []byte, mtime repl.Time) ([]string, error) {
	const op = "setownmeta"
	if err := d.begin(op, ""); err != nil {
		return nil, err
	}
	m, err := volume.DecodeMeta(b)
	if err != nil {
		return nil, &volume.OpError{Op: op, Err: err}
	}
	d.v.d.setMeta(d.n, &m, mtime)
	return nil, nil
}

func (d *dir) SetMtime(mtime repl.Time) error {
	if err := d.begin("setmtime", ""); err != nil {
		return err
	}
	d.n.cur.mtime, d.n.cur.ctime = mtime, d.v.d.stamp()
	d.v.d.touch(d.n)
	d.v.d.emitAll(d.n, false)
	return nil
}

// put makes a new object at a vacant place.
func (d *dir) put(op_, name string, make func() *inode) error {
	if err := d.begin(op_, name); err != nil {
		return err
	}
	if err := d.vacant(op_, name); err != nil {
		return err
	}
	d.v.d.enter(op{n: 1, eff: [2]effect{{dir: d.n, name: name, after: make()}}})
	return nil
}

func (d *dir) Mkdir(name string) error {
	return d.put("mkdir", name, func() *inode {
		n := d.v.d.newInode(repl.Directory)
		n.cur.mode = 0o700
		n.dur = n.cur
		return n
	})
}

func (d *dir) Symlink(target, name string) error {
	if target == "" {
		return &volume.OpError{Op: "symlink", Name: name, Err: syscall.ENOENT}
	}
	return d.put("symlink", name, func() *inode {
		n := d.v.d.newInode(repl.Symlink)
		n.target = target
		return n
	})
}

func (d *dir) Link(t volume.Temp, name string) error {
	own, ok := t.(*temp)
	if !ok || own.v.d != d.v.d {
		return refuse("link", name, volume.ErrMount)
	}
	if err := d.begin("link", name); err != nil {
		return err
	}
	if err := d.vacant("link", name); err != nil {
		return err
	}
	if own.closed || own.linked {
		return &volume.OpError{Op: "link", Name: name, Err: os.ErrClosed}
	}
	own.linked = true
	d.v.d.byHandle[own.n.id.Handle] = own.n
	d.v.d.enter(op{n: 1, eff: [2]effect{{dir: d.n, name: name, after: own.n}}})
	return nil
}

func (d *dir) Rename(name string, to volume.Dir, newName string) error {
	const what = "rename"
	dst, ok := to.(*dir)
	if !ok || dst.v.d != d.v.d {
		return refuse(what, name, volume.ErrMount)
	}
	n, err := d.find(what, name)
	if err != nil {
		return err
	}
	if err := dst.vacant(what, newName); err != nil {
		return err
	}
	if n.kind == repl.Directory && dst.n.within(n) {
		return refuse(what, name, volume.ErrIntoItself)
	}
	d.v.d.enter(op{n: 2, eff: [2]effect{{dir: d.n, name: name, before: n}, {dir: dst.n, name: newName, after: n}}})
	return nil
}

func (d *dir) Exchange(name string, with volume.Dir, otherName string) error {
	const what = "exchange"
	dst, ok := with.(*dir)
	if !ok || dst.v.d != d.v.d {
		return refuse(what, name, volume.ErrMount)
	}
	n, err := d.find(what, name)
	if err != nil {
		return err
	}
	other, err := dst.present(what, otherName)
	if err != nil {
		return err
	}
	if n == other {
		return nil
	}
	if n.kind == repl.Directory && dst.n.within(n) || other.kind == repl.Directory && d.n.within(other) {
		return refuse(what, name, volume.ErrIntoItself)
	}
	d.v.d.enter(op{n: 2, eff: [2]effect{
		{dir: d.n, name: name, before: n, after: other},
		{dir: dst.n, name: otherName, before: other, after: n},
	}})
	return nil
}

func (d *dir) Remove(name string) error {
	n, err := d.find("remove", name)
	if err != nil {
		return err
	}
	if !d.private {
		return refuse("remove", name, volume.ErrNotPrivate)
	}
	if n.kind == repl.Directory {
		return &volume.OpError{Op: "remove", Name: name, Err: syscall.EISDIR}
	}
	d.v.d.enter(op{n: 1, eff: [2]effect{{dir: d.n, name: name, before: n}}})
	return nil
}

func (d *dir) Rmdir(name string) error {
	n, err := d.find("rmdir", name)
	if err != nil {
		return err
	}
	if n.kind != repl.Directory {
		return refuse("rmdir", name, volume.ErrNotDir)
	}
	if len(n.entries) > 0 {
		return refuse("rmdir", name, volume.ErrNotEmpty)
	}
	d.v.d.enter(op{n: 1, eff: [2]effect{{dir: d.n, name: name, before: n}}})
	return nil
}

func (d *dir) Sync() error {
	if err := d.begin("syncdir", ""); err != nil {
		return err
	}
	for _, n := range d.set {
		n.flush()
	}
	clear(d.set)
	d.set = d.set[:0]
	d.v.d.syncDir(d.n)
	return nil
}

func (d *dir) Close() error {
	if d.closed {
		return &volume.OpError{Op: "close", Err: os.ErrClosed}
	}
	d.closed = true
	return nil
}
