package engine

import (
	"errors"
	"maps"
	"slices"

	"opendfs/internal/capture"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// What makes captured objects durable before they are said to exist (rule 14).
const syncAllFrom = 256 // drafts from which on the whole volume is synced at once

// makeDurable syncs what drafts are about: the files' data and the directories
// whose entries changed. A file that is gone meanwhile needs no sync: its own
// deletion is on its way.
func (e *Env) makeDurable(drafts []capture.Draft) error {
	if len(drafts) >= syncAllFrom {
		return e.Volume.Sync()
	}
	var flushes []func() error
	dirs := make(map[repl.UID]volume.Dir)
	var err error
	for i := range drafts {
		d := &drafts[i]
		if d.Kind == capture.KindAdopt || d.Update.Parent.IsZero() {
			continue
		}
		var dir volume.Dir
		if dir, err = e.openOnce(dirs, d.Update.Parent); err != nil {
			break
		}
		if d.Prior != nil && d.Prior.Parent != d.Update.Parent {
			if _, err = e.openOnce(dirs, d.Prior.Parent); err != nil {
				break
			}
		}
		if dir != nil && d.Update.Present && d.Kind != capture.KindMove {
			name, kind := d.Update.Name, d.Update.Type
			flushes = append(flushes, func() error { return syncObject(dir, name, kind) })
		}
	}
	opened := slices.SortedFunc(maps.Keys(dirs), repl.UID.Compare)
	for _, uid := range opened {
		if d := dirs[uid]; d != nil {
			flushes = append(flushes, d.Sync)
		}
	}
	err = errors.Join(err, volume.Together(e.Workers > 0, flushes))
	for _, uid := range opened {
		if d := dirs[uid]; d != nil {
			err = errors.Join(err, d.Close())
		}
	}
	return err
}

// openOnce opens a directory on record; nil if it is no longer there.
func (e *Env) openOnce(dirs map[repl.UID]volume.Dir, uid repl.UID) (volume.Dir, error) {
	if d, ok := dirs[uid]; ok {
		return d, nil
	}
	path, _, ok, err := e.directory(uid)
	if err != nil {
		return nil, err
	}
	var d volume.Dir
	if ok {
		if d, err = e.Volume.OpenDir(path); err != nil {
			d, err = nil, ignoreMissing(err)
		}
	}
	dirs[uid] = d
	return d, err
}

func syncObject(dir volume.Dir, name string, kind repl.Type) error {
	switch kind {
	case repl.File:
		f, err := dir.OpenFile(name)
		if err != nil {
			return ignoreMissing(err)
		}
		return errors.Join(f.Sync(), f.Close())
	case repl.Directory:
		d, err := dir.OpenDir(name)
		if err != nil {
			return ignoreMissing(err)
		}
		return errors.Join(d.Sync(), d.Close())
	}
	return nil // a link lies in its directory's entries and its inode
}
