package scope

import (
	"errors"
	"io"
	"strings"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// disk is the side of volume.Volume that capture reads: the rest is not there
// and panics. What it answers is what package disk answers of the same tree
// (TestTreeIsADisk).
type disk struct {
	volume.Volume
	t *tree
}

func refuse(op, name string, kind error) error {
	return &volume.OpError{Op: op, Name: name, Kind: kind}
}

func (d disk) Root() (volume.Dir, error) { return dir{t: d.t}, nil }

func (d disk) OpenDir(path string) (volume.Dir, error) {
	at := int16(0)
	for path != "." && path != "" {
		name, rest, _ := strings.Cut(path, "/")
		next, err := dir{t: d.t, n: at}.OpenDir(name)
		if err != nil {
			if errors.Is(err, volume.ErrNotDir) && d.t.objects[d.t.child(at, name)].kind == repl.Symlink {
				return nil, refuse("opendir", path, volume.ErrEscapes)
			}
			return nil, err
		}
		at, path = next.(dir).n, rest
	}
	return dir{t: d.t, n: at}, nil
}

func (d disk) Resolve(id repl.Identity) (string, error) {
	n := number(id)
	if n < 0 || int(n) >= len(d.t.objects) {
		return "", refuse("resolve", "", volume.ErrStale)
	}
	path := d.t.path(n)
	if path == "" {
		return "", refuse("resolve", "", volume.ErrStale)
	}
	return path, nil
}

// identity is that of the object with a number.
func identity(n int16) repl.Identity { return repl.Identity{Handle: tables.handle[n], Birth: 1} }

// number is that of the object with an identity, gone if it is none.
func number(id repl.Identity) int16 {
	digits, ok := strings.CutPrefix(id.Handle, "object-")
	if !ok {
		return gone
	}
	n := int16(0)
	for _, c := range digits {
		n = n*10 + int16(c-'0')
	}
	return n
}

func (t *tree) stat(n int16) volume.Stat {
	o := &t.objects[n]
	st := volume.Stat{Type: o.kind, Identity: identity(n), Links: 1, Mode: uint32(o.mode)}
	st.Print = repl.Print{Mtime: o.mtime, Ctime: o.ctime}
	if o.kind != repl.Directory {
		st.Print.Size = int64(len(tables.text[o.content]))
	}
	return st
}

// dir is an open directory.
type dir struct {
	volume.Dir
	t *tree
	n int16
}

func (d dir) Close() error { return nil }

func (d dir) Stat() (volume.Stat, error) { return d.t.stat(d.n), nil }

func (d dir) at(op, name string) (int16, error) {
	n := d.t.child(d.n, name)
	if n == gone {
		return n, refuse(op, name, volume.ErrNotExist)
	}
	return n, nil
}

func (d dir) Lookup(name string) (volume.Stat, error) {
	n, err := d.at("lookup", name)
	if err != nil {
		return volume.Stat{}, err
	}
	return d.t.stat(n), nil
}

func (d dir) Again(name string, _ *volume.Stat) (volume.Stat, error) { return d.Lookup(name) }

func (d dir) Recognize(name string, _ repl.Identity, _ repl.Time) (volume.Stat, error) {
	return d.Lookup(name)
}

func (d dir) List(fn func(volume.Entry) error) (err error) {
	d.t.entries(d.n, func(_ int16, o *object) {
		if err == nil {
			err = fn(volume.Entry{Name: o.name, Type: o.kind})
		}
	})
	return err
}

func (d dir) OpenDir(name string) (volume.Dir, error) {
	n, err := d.at("opendir", name)
	if err != nil {
		return nil, err
	}
	if d.t.objects[n].kind != repl.Directory {
		return nil, refuse("opendir", name, volume.ErrNotDir)
	}
	return dir{t: d.t, n: n}, nil
}

func (d dir) OpenFile(name string) (volume.File, error) {
	n, err := d.at("openfile", name)
	if err != nil {
		return nil, err
	}
	return &file{t: d.t, n: n, Reader: strings.NewReader(tables.text[d.t.objects[n].content])}, nil
}

func (d dir) ReadLink(name string) (string, error) {
	n, err := d.at("readlink", name)
	if err != nil {
		return "", err
	}
	return tables.text[d.t.objects[n].content], nil
}

func (d dir) Meta(name string) ([]byte, error) {
	n, err := d.at("meta", name)
	if err != nil {
		return nil, err
	}
	return tables.meta[d.t.objects[n].mode], nil
}

func (d dir) MetaOf(name string, _ *volume.Stat) ([]byte, error) { return d.Meta(name) }

func (d dir) OwnMeta() ([]byte, error) { return tables.meta[d.t.objects[d.n].mode], nil }

// file is an open file.
type file struct {
	*strings.Reader
	t *tree
	n int16
}

var _ io.ReaderAt = (*file)(nil)

func (f *file) Stat() (volume.Stat, error) { return f.t.stat(f.n), nil }
func (f *file) Writable() (bool, error)    { return false, nil }
func (f *file) Meta() ([]byte, error)      { return tables.meta[f.t.objects[f.n].mode], nil }
func (f *file) Sync() error                { return nil }
func (f *file) Close() error               { return nil }
