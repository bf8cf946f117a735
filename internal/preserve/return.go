package preserve

import (
	"errors"
	"fmt"
	"strings"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// ReturnOptions say how kept objects come back.
type ReturnOptions struct {
	Now repl.Time
	// Overwrite puts an object where another one stands. That one is kept.
	Overwrite bool
	// Known returns what is on record of the place, for the manifest of what is
	// replaced there; the zero Update if nothing is.
	Known func(path string) repl.Update
}

// Return brings kept objects back into the tree, any number at the cost of one
// sync. It holds the store from begin to Close: nothing is evicted meanwhile.
// What it does to the tree is a user's change, which the caller has looked at.
type Return struct {
	s       *Store
	opt     ReturnOptions
	conf    volume.Dir // the conflict area
	moved   []Entry    // whose manifests go when the moves are durable
	touched bool
}

// Return begins to bring objects back.
func (s *Store) Return(opt ReturnOptions) (*Return, error) {
	s.work.Lock()
	conf, err := s.v.Private(volume.Conflicts)
	if err != nil {
		s.work.Unlock()
		return nil, fmt.Errorf("restore kept objects: %w", err)
	}
	return &Return{s: s, opt: opt, conf: conf}, nil
}

// Put moves a kept object to a path beneath the root, with all that it is: data,
// owner, ACLs, attributes, mtime. Directories that are missing on the way are
// made with owner, group and mode of the one above. A kept directory is merged
// into one that stands there.
//
// volume.ErrExist if the place is taken and may not be overwritten, or by a
// directory; volume.ErrInUse if it is taken by a file that somebody has open for writing. Of a directory
// both may be true of something in it: the rest of it is restored then. Nothing
// is durable before Close.
func (r *Return) Put(e Entry, path string) (err error) {
	parent, name := ".", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	d, err := r.directory(parent)
	if err != nil {
		return fmt.Errorf("restore %q: %w", path, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	area, err := r.s.v.Private(e.Area)
	if err != nil {
		return fmt.Errorf("restore %q: %w", path, err)
	}
	defer func() { err = errors.Join(err, area.Close()) }()
	r.touched = true
	err = area.Rename(e.Name, d, name)
	switch {
	case err == nil:
		r.gone(&e)
	case errors.Is(err, volume.ErrExist):
		err = r.meet(&e, area, d, name, path)
	}
	if err != nil {
		return fmt.Errorf("restore %q: %w", path, err)
	}
	return nil
}

// gone notes that an object is in the store no more.
func (r *Return) gone(e *Entry) {
	r.s.gone(e)
	r.moved = append(r.moved, *e)
}

// directory opens a directory of the tree; it makes what is missing of it.
func (r *Return) directory(path string) (volume.Dir, error) {
	d, err := r.s.v.OpenDir(path)
	if !errors.Is(err, volume.ErrNotExist) || path == "." {
		return d, err
	}
	parent, name := ".", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	up, err := r.directory(parent)
	if err != nil {
		return nil, err
	}
	r.touched = true
	err = ignore(up.Mkdir(name), volume.ErrExist) // a user was faster
	if err == nil {
		err = likeParent(up, name)
	}
	if err == nil {
		d, err = up.OpenDir(name)
	}
	return d, errors.Join(err, up.Close())
}

// likeParent gives a new directory owner, group and mode of the one it is in;
// attributes stay as they were inherited.
func likeParent(up volume.Dir, name string) error {
	like, err := up.Stat()
	if err != nil {
		return err
	}
	now, err := up.Lookup(name)
	if err != nil {
		return err
	}
	b, err := up.Meta(name)
	if err != nil {
		return err
	}
	meta, err := volume.DecodeMeta(b)
	if err != nil {
		return err
	}
	meta.Mode, meta.Owner, meta.Group = like.Mode, like.Owner, like.Group
	if b, err = meta.Encode(); err != nil {
		return err
	}
	_, _, err = up.SetMeta(name, nil, b, now.Print.Mtime)
	return err
}

// meet handles a place that is taken.
func (r *Return) meet(e *Entry, area, d volume.Dir, name, path string) error {
	there, err := d.Lookup(name)
	if err != nil {
		return err
	}
	switch {
	case e.Type == repl.Directory && there.Type == repl.Directory:
		return r.merge(e, area, d, name)
	case !r.opt.Overwrite || e.Type == repl.Directory || there.Type == repl.Directory || there.Type == repl.Other:
		return volume.ErrExist
	}
	if err := free(d, name, there); err != nil {
		return err
	}
	return r.exchange(e, area, d, name, path, there)
}

// free refuses a file that somebody writes to.
func free(d volume.Dir, name string, there volume.Stat) (err error) {
	if there.Type != repl.File {
		return nil
	}
	f, err := d.OpenFile(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	writable, err := f.Writable()
	if err = ignore(err, volume.ErrUnknown); err == nil && writable {
		err = volume.ErrInUse
	}
	return err
}

// exchange puts a kept object in the place of another, which is kept under a
// manifest of its own: that is written first, so a crash leaves both versions,
// one of them perhaps under the other's manifest.
func (r *Return) exchange(e *Entry, area, d volume.Dir, name, path string, there volume.Stat) error {
	old := Entry{
		Area: volume.Conflicts, Why: Replaced, At: r.opt.Now, Path: path, Winner: e.Record.GVSN,
		Type: there.Type, Mtime: there.Print.Mtime, Record: r.opt.Known(path),
	}
	if there.Type == repl.File {
		old.Size = there.Print.Size
	}
	old.Meta, _ = d.Meta(name) // unreadable metadata must not keep the object from being kept
	old.Name = r.s.newName(old.At, baseName(path, name))
	if err := r.s.putManifest(r.conf, &old, true); err != nil {
		return err
	}
	if err := area.Exchange(e.Name, d, name); err != nil {
		return errors.Join(err, ignore(r.conf.Remove(old.Name+manifestSuffix), volume.ErrNotExist))
	}
	if err := area.Rename(e.Name, r.conf, old.Name); err != nil {
		return fmt.Errorf("what was replaced is kept as %s: %w", e.Name, err)
	}
	r.gone(e)
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.account(&old, 1)
	return nil
}

// merge moves what is in a kept directory into the one at its place. What is
// replaced there stays in the kept one.
func (r *Return) merge(e *Entry, area, d volume.Dir, name string) (err error) {
	src, err := area.OpenDir(e.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := d.OpenDir(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	err = r.mergeDir(src, dst, maxDepth)
	if rerr := area.Rmdir(e.Name); rerr == nil {
		r.gone(e)
		return err
	}
	r.s.spoiled(e)
	return err
}

// mergeDir merges one level and those below it. Its error is the first of
// those met; it goes on after ErrExist and ErrInUse.
func (r *Return) mergeDir(src, dst volume.Dir, depth int) error {
	if depth == 0 {
		return fmt.Errorf("more than %d directories deep: move the rest by hand", maxDepth)
	}
	var names []string
	if err := src.List(func(e volume.Entry) error {
		names = append(names, e.Name)
		return nil
	}); err != nil {
		return err
	}
	var first error
	for _, name := range names {
		err := src.Rename(name, dst, name)
		if errors.Is(err, volume.ErrExist) {
			err = r.mergeChild(src, dst, name, depth)
		}
		if first == nil {
			first = err
		}
		if err != nil && !errors.Is(err, volume.ErrExist) && !errors.Is(err, volume.ErrInUse) {
			return err
		}
	}
	return first
}

// mergeChild handles a name that both directories have.
func (r *Return) mergeChild(src, dst volume.Dir, name string, depth int) (err error) {
	ours, err := src.Lookup(name)
	if err != nil {
		return err
	}
	there, err := dst.Lookup(name)
	if err != nil {
		return err
	}
	both := ours.Type == repl.Directory && there.Type == repl.Directory
	switch {
	case both:
	case !r.opt.Overwrite || ours.Type == repl.Directory || there.Type == repl.Directory || there.Type == repl.Other:
		return fmt.Errorf("%q: %w", name, volume.ErrExist)
	default:
		if err := free(dst, name, there); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		return src.Exchange(name, dst, name)
	}
	from, err := src.OpenDir(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := dst.OpenDir(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := r.mergeDir(from, to, depth-1); err != nil {
		return err
	}
	return ignore(src.Rmdir(name), volume.ErrNotEmpty) // what was replaced stays in it
}

// Close makes durable what came back, then removes its manifests, and lets the
// store go. An error says that all is in its place, but may not survive a power
// cut.
func (r *Return) Close() (err error) {
	defer r.s.work.Unlock()
	defer func() { err = errors.Join(err, r.conf.Close()) }()
	if r.touched {
		if err := r.s.v.Sync(); err != nil {
			return fmt.Errorf("restore: all is in its place, but may not survive a power cut: %w", err)
		}
	}
	if len(r.moved) == 0 {
		return nil
	}
	pre, err := r.s.v.Private(volume.PreExisting)
	if err != nil {
		return err
	}
	for i := range r.moved {
		area := r.conf
		if r.moved[i].Area == volume.PreExisting {
			area = pre
		}
		err = errors.Join(err, ignore(area.Remove(r.moved[i].Name+manifestSuffix), volume.ErrNotExist))
	}
	return errors.Join(err, pre.Close())
}
