package disk

import (
	"slices"
	"strings"
	"syscall"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// view is the disk as one process of the member sees it.
type view struct {
	d    *Disk
	proc int
}

var _ volume.Volume = (*view)(nil)

// Open gives a member's process its view of the disk, until Kill, Restore or
// Crash.
func (d *Disk) Open() volume.Volume { return &view{d: d, proc: d.proc} }

// begin checks that the process lives, and starts an operation.
func (v *view) begin(op string, n *inode, name string) error {
	if v.proc != v.d.proc {
		return dead(op, name)
	}
	if err := v.d.begin(op, n, name); err != nil {
		return err
	}
	if v.proc != v.d.proc { // killed without a panic
		return dead(op, name)
	}
	return nil
}

func (v *view) Root() (volume.Dir, error) {
	if err := v.begin("root", v.d.root, ""); err != nil {
		return nil, err
	}
	if v.d.gone {
		return nil, refuse("root", "", volume.ErrUnmounted)
	}
	return &dir{v: v, n: v.d.root, root: true}, nil
}

func (v *view) OpenDir(path string) (volume.Dir, error) {
	const op = "opendir"
	if path == "." {
		return v.Root()
	}
	if err := v.begin(op, v.d.root, path); err != nil {
		return nil, err
	}
	n := v.d.root
	for name := range strings.SplitSeq(path, "/") {
		if bad(name) != nil {
			return nil, refuse(op, path, volume.ErrEscapes)
		}
	}
	if first, _, _ := strings.Cut(path, "/"); first == privateName {
		return nil, refuse(op, path, volume.ErrNotExist)
	}
	for name := range strings.SplitSeq(path, "/") {
		next, err := walk(n, name)
		if err != nil {
			return nil, &volume.OpError{Op: op, Name: path, Kind: err}
		}
		n = next
	}
	return &dir{v: v, n: n}, nil
}

// walk goes one directory down.
func walk(n *inode, name string) (*inode, error) {
	if len(name) > nameMax {
		return nil, syscall.ENAMETOOLONG
	}
	next := n.child(name)
	switch {
	case next == nil:
		return nil, volume.ErrNotExist
	case next.kind == repl.Symlink:
		return nil, volume.ErrEscapes
	case next.kind != repl.Directory:
		return nil, volume.ErrNotDir
	case next.mounted:
		return nil, volume.ErrMount
	}
	return next, nil
}

const nameMax = 255

func (v *view) NameMax() int { return v.d.longest() }

func (d *Disk) longest() int {
	if d.NameMax > 0 {
		return d.NameMax
	}
	return nameMax
}

// bad reports why name is not one component.
func bad(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return volume.ErrEscapes
	}
	return nil
}

func (v *view) Private(p volume.Private) (volume.Dir, error) {
	const op = "private"
	if err := v.begin(op, v.d.root, string(p)); err != nil {
		return nil, err
	}
	if bad(string(p)) != nil {
		return nil, refuse(op, string(p), volume.ErrEscapes)
	}
	area, err := walk(v.d.root, privateName)
	if err == nil {
		area, err = walk(area, string(p))
	}
	if err != nil {
		return nil, refuse(op, string(p), err)
	}
	return &dir{v: v, n: area, private: true}, nil
}

func (v *view) Resolve(id repl.Identity) (string, error) {
	const op = "resolve"
	if err := v.begin(op, v.d.root, ""); err != nil {
		return "", err
	}
	if v.d.NoResolve || id.Handle == "" {
		return "", refuse(op, "", volume.ErrUnknown)
	}
	n := v.d.byHandle[id.Handle]
	if n == nil || id.Birth != 0 && id.Birth != n.id.Birth {
		return "", refuse(op, "", volume.ErrStale)
	}
	path := v.d.path(n)
	switch first, _, _ := strings.Cut(path, "/"); first {
	case "":
		return "", refuse(op, "", volume.ErrStale)
	case "..", privateName:
		return "", refuse(op, path, volume.ErrOutside)
	}
	return path, nil
}

func (v *view) NewTemp(size int64, _ []byte) (volume.Temp, error) {
	if err := v.begin("newtemp", v.d.root, ""); err != nil {
		return nil, err
	}
	n := v.d.newInode(repl.File)
	delete(v.d.byHandle, n.id.Handle) // until it has a name
	n.temp = v.d.proc + 1
	return &temp{v: v, n: n}, nil
}

func (v *view) Sync() error {
	if err := v.begin("sync", v.d.root, ""); err != nil {
		return err
	}
	v.d.SyncAll()
	return nil
}

func (v *view) Free() (free, total uint64, err error) {
	if err := v.begin("free", v.d.root, ""); err != nil {
		return 0, 0, err
	}
	if v.d.Space != nil {
		free, total = v.d.Space()
		return free, total, nil
	}
	return defaultFree, defaultTotal, nil
}

// small finds a file of the private area.
func (v *view) small(op, name string) (area, file *inode, err error) {
	if err := v.begin(op, v.d.root, privateName+"/"+name); err != nil {
		return nil, nil, err
	}
	if bad(name) != nil {
		return nil, nil, refuse(op, name, volume.ErrEscapes)
	}
	area, err = walk(v.d.root, privateName)
	if err != nil {
		return nil, nil, refuse(op, name, err)
	}
	return area, area.child(name), nil
}

func (v *view) ReadPrivate(name string) ([]byte, error) {
	_, file, err := v.small("readprivate", name)
	if err != nil {
		return nil, err
	}
	if file == nil {
		return nil, refuse("readprivate", name, volume.ErrNotExist)
	}
	return slices.Clone(file.data), nil
}

// WritePrivate is cut where the real one can be interrupted: before anything
// happened, with the new file renamed but not durable, and after.
func (v *view) WritePrivate(name string, data []byte) error {
	area, old, err := v.small("writeprivate", name)
	if err != nil {
		return err
	}
	n := v.d.newInode(repl.File)
	n.write(data, 0)
	n.flush()
	v.d.enter(op{n: 1, eff: [2]effect{{dir: area, name: name, before: old, after: n}}})
	if err := v.begin("writeprivate sync", area, name); err != nil {
		return err
	}
	v.d.syncDir(area)
	return nil
}

func (v *view) Close() error {
	if v.proc != v.d.proc {
		return dead("close", "")
	}
	return nil
}
