package install

import (
	"errors"
	"fmt"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// dir returns the open directory of a UID, verified against its record.
func (b *Batch) dir(uid repl.UID) (volume.Dir, error) {
	if by, ok := b.taken[uid]; ok {
		uid = by
	}
	if d, ok := b.dirs[uid]; ok {
		return d, nil
	}
	path, id, ok, err := b.Directories(uid)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: directory %v is not here", ErrMoved, uid)
	}
	d, err := b.open(path, id)
	if err != nil { // something above it was moved, by this batch or a user
		at, rerr := b.Volume.Resolve(id)
		if rerr != nil {
			return nil, err
		}
		if d, err = b.open(at, id); err != nil {
			return nil, err
		}
	}
	b.dirs[uid] = d
	return d, nil
}

// open opens the directory at a path if it has that identity.
func (b *Batch) open(path string, id repl.Identity) (volume.Dir, error) {
	d, err := b.Volume.OpenDir(path)
	if err != nil {
		return nil, err
	}
	st, err := d.Stat()
	if err == nil && st.Identity != id {
		err = fmt.Errorf("%w: %q is another directory", ErrMoved, path)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// touch remembers a directory's state before its entries change.
func (b *Batch) touch(uid repl.UID, d volume.Dir) error {
	if by, ok := b.taken[uid]; ok {
		uid = by
	}
	if _, ok := b.touched[uid]; ok {
		return nil
	}
	st, err := d.Stat()
	if err != nil {
		return err
	}
	b.touched[uid] = st
	return nil
}
