package engine

import (
	"errors"
	"io/fs"
	"maps"
	"slices"

	"opendfs/internal/capture"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// What makes captured objects durable before they are said to exist (rule 14).
const syncAllFrom = 32 // drafts from which on the whole volume is synced at once

// size is how many drafts came with the looks.
func (e looked) size() (n int) {
	for i := range e {
		n += len(e[i].drafts)
	}
	return n
}

// makeDurable syncs what drafts are about: the files' data and the directories
// whose entries changed. lost are those whose object or directory was not at
// its place any more: it may live on elsewhere, unsynced, so they are not to be
// stored but looked at again. A group is lost with any of its drafts.
func (e *Env) makeDurable(drafts []capture.Draft) (held, lost []capture.Draft, err error) {
	if len(drafts) >= syncAllFrom {
		return drafts, nil, e.Volume.Sync()
	}
	dirs := make(map[repl.UID]volume.Dir)
	gone := make([]bool, len(drafts))
	var flushes []func() error
	for i := 0; i < len(drafts) && err == nil; i++ {
		gone[i], err = e.gather(&drafts[i], &gone[i], dirs, &flushes)
	}
	opened := slices.SortedFunc(maps.Keys(dirs), repl.UID.Compare)
	for _, uid := range opened {
		if d := dirs[uid]; d != nil {
			flushes = append(flushes, d.Sync)
		}
	}
	if err == nil {
		err = volume.Together(e.Workers > 0, flushes)
	}
	if errors.Is(err, fs.ErrPermission) { // what may not be opened can still be flushed
		err = e.Volume.Sync()
	}
	for _, uid := range opened {
		if d := dirs[uid]; d != nil {
			err = errors.Join(err, d.Close())
		}
	}
	for len(drafts) > 0 {
		n := groupLen(drafts)
		if slices.Contains(gone[:n], true) {
			lost = append(lost, drafts[:n]...)
		} else {
			held = append(held, drafts[:n]...)
		}
		drafts, gone = drafts[n:], gone[n:]
	}
	return held, lost, err
}

// gather adds what must be flushed for one draft; a flush may find the object
// gone. It reports whether the draft's directory is.
func (e *Env) gather(d *capture.Draft, gone *bool, dirs map[repl.UID]volume.Dir, flushes *[]func() error) (bool, error) {
	if d.Update.Parent.IsZero() {
		_, err := e.openOnce(dirs, d.Update.UID)
		return false, err
	}
	if d.Kind == capture.KindAdopt && (d.Identity == d.Prior.Identity || d.Presence == repl.Absent) {
		return false, nil
	}
	dir, err := e.openOnce(dirs, d.Update.Parent)
	if err != nil {
		return false, err
	}
	if d.Prior != nil && d.Prior.Parent != d.Update.Parent {
		if _, err := e.openOnce(dirs, d.Prior.Parent); err != nil {
			return false, err
		}
	}
	if !d.Update.Present || d.Presence == repl.Absent || d.Kind == capture.KindMove && !d.Data && repl.SameMeta(&d.Update, &d.Prior.Update) {
		return false, nil
	}
	if dir == nil {
		return true, nil
	}
	*flushes = append(*flushes, func() (err error) {
		*gone, err = syncObject(dir, d)
		return err
	})
	return false, nil
}

// openOnce opens a directory on record, where a user moved it if that is not
// stored yet; nil if it is no longer there.
func (e *Env) openOnce(dirs map[repl.UID]volume.Dir, uid repl.UID) (volume.Dir, error) {
	if d, ok := dirs[uid]; ok {
		return d, nil
	}
	path, id, ok, err := e.directory(uid)
	if err != nil {
		return nil, err
	}
	var d volume.Dir
	if ok {
		if d, err = e.openKnown(path, id); err == nil && d == nil {
			if path, rerr := e.Volume.Resolve(id); rerr == nil {
				d, err = e.openKnown(path, id)
			}
		}
	}
	dirs[uid] = d
	return d, err
}

// openKnown opens the directory at a path if it is the one with that identity.
func (e *Env) openKnown(path string, id repl.Identity) (volume.Dir, error) {
	d, err := e.Volume.OpenDir(path)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	st, err := d.Stat()
	if err != nil || st.Identity != id {
		return nil, errors.Join(ignoreMissing(err), d.Close())
	}
	return d, nil
}

// syncObject syncs what a draft found at its name. It reports whether that is
// no longer there.
func syncObject(dir volume.Dir, d *capture.Draft) (gone bool, err error) {
	if d.Update.Type == repl.Symlink {
		return false, nil // a link lies in its directory's entries and its inode
	}
	o, err := volume.OpenEntry(dir, d.Update.Name, d.Update.Type)
	if err != nil {
		return !errors.Is(err, fs.ErrPermission), ignoreMissing(err)
	}
	st, err := o.Stat()
	gone = err != nil || st.Identity != d.Identity
	if err = ignoreMissing(err); !gone {
		err = o.Sync()
	}
	return gone, errors.Join(err, o.Close())
}
