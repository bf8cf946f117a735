package preserve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/volume"

	"golang.org/x/sys/unix"
)

// CopyOut copies a kept object to a path beneath a directory outside the folder,
// with owner, mode, attributes and mtime; the object stays kept. fs.ErrExist if
// the place is taken. lacks names what could not be set there, for want of a
// right or because that filesystem has no such thing.
func (s *Store) CopyOut(ctx context.Context, e Entry, to *os.Root, as string) (lacks []string, err error) {
	area, err := s.v.Private(e.Area)
	if err != nil {
		return nil, fmt.Errorf("copy %q: %w", e.Path, err)
	}
	defer func() { err = errors.Join(err, area.Close()) }()
	if err := to.MkdirAll(path.Dir(as), 0o755); err != nil {
		return nil, fmt.Errorf("copy %q: %w", e.Path, err)
	}
	c := copier{ctx: ctx, to: to}
	if err := c.object(area, e.Name, as, maxDepth); err != nil {
		return nil, fmt.Errorf("copy %q: %w", e.Path, err)
	}
	return slices.Sorted(maps.Keys(c.lacks)), nil
}

// copier copies one kept object.
type copier struct {
	ctx   context.Context
	to    *os.Root
	lacks map[string]bool
}

func (c *copier) object(from volume.Dir, name, as string, depth int) error {
	st, err := from.Lookup(name)
	if err != nil {
		return err
	}
	if depth == 0 {
		return fmt.Errorf("more than %d directories deep", maxDepth)
	}
	var meta volume.Meta
	b, err := from.Meta(name)
	if err == nil {
		meta, err = volume.DecodeMeta(b)
	}
	if err != nil {
		return err
	}
	switch st.Type {
	case repl.File:
		return c.file(from, name, as, &meta, st.Print.Mtime)
	case repl.Symlink:
		target, err := from.ReadLink(name)
		if err == nil {
			err = c.to.Symlink(target, as)
		}
		if err == nil {
			err = c.lack("owner", c.to.Lchown(as, int(meta.Owner), int(meta.Group)))
		}
		return err
	case repl.Directory:
		return c.directory(from, name, as, &meta, st.Print.Mtime, depth)
	}
	return nil // what does not replicate is left out
}

func (c *copier) file(from volume.Dir, name, as string, meta *volume.Meta, mtime repl.Time) (err error) {
	in, err := from.OpenFile(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := c.to.OpenFile(as, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, while{c.ctx, in}); err != nil {
		return errors.Join(err, c.to.Remove(as))
	}
	if err := c.dress(out, as, meta, mtime); err != nil {
		return err
	}
	return out.Sync()
}

// while reads until the context ends.
type while struct {
	ctx context.Context
	r   io.Reader
}

func (w while) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.r.Read(p)
}

func (c *copier) directory(from volume.Dir, name, as string, meta *volume.Meta, mtime repl.Time, depth int) (err error) {
	d, err := from.OpenDir(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := c.to.Mkdir(as, 0o700); err != nil {
		return err
	}
	var names []string
	err = d.List(func(e volume.Entry) error {
		names = append(names, e.Name)
		return c.ctx.Err()
	})
	for _, child := range names {
		if err != nil {
			return err
		}
		err = c.object(d, child, as+"/"+child, depth-1)
	}
	if err != nil {
		return err
	}
	f, err := c.to.Open(as)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := c.dress(f, as, meta, mtime); err != nil {
		return err
	}
	return f.Sync()
}

// dress gives a copy its metadata. The order matters: chown clears setuid, and
// chmod changes an ACL's mask.
func (c *copier) dress(f *os.File, as string, meta *volume.Meta, mtime repl.Time) error {
	err := c.lack("owner", f.Chown(int(meta.Owner), int(meta.Group)))
	if err == nil {
		err = c.lack("mode", unix.Fchmod(int(f.Fd()), meta.Mode))
	}
	for _, x := range meta.Xattrs {
		if err == nil {
			err = c.lack("attribute "+x.Name, unix.Fsetxattr(int(f.Fd()), x.Name, x.Value, 0))
		}
	}
	if err == nil {
		err = c.to.Chtimes(as, time.Time{}, time.Unix(0, int64(mtime)))
	}
	return err
}

// lack notes what cannot be set; another error is returned.
func (c *copier) lack(what string, err error) error {
	if err == nil {
		return nil
	}
	for _, no := range []error{os.ErrPermission, syscall.EOPNOTSUPP, syscall.EINVAL} {
		if errors.Is(err, no) {
			if c.lacks == nil {
				c.lacks = make(map[string]bool)
			}
			c.lacks[what] = true
			return nil
		}
	}
	return err
}
