package install

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// SyncTemps makes the staged contents durable, and does also beside it. With
// bulk it syncs the whole volume at once; without parallel, one after the other.
func (b *Batch) SyncTemps(bulk, parallel bool, also func() error) error {
	flushes := []func() error{also}
	for i := range b.Items {
		if t := b.Items[i].Temp; t != nil {
			flushes = append(flushes, t.Sync)
		}
	}
	if bulk && len(flushes) > 1 {
		flushes = []func() error{also, b.Volume.Sync}
	}
	return volume.Together(parallel, flushes)
}

// Displaced reports whether there is anything for Dispose.
func (b *Batch) Displaced() bool {
	for i := range b.Outcomes {
		if b.Outcomes[i].displaced != "" {
			return true
		}
	}
	return false
}

// SyncDirs gives touched directories their mtime back, fills Touched and makes
// durable what the batch did: its moves, the metadata that it set in place, and
// what it takes over of an initial build. Only then may the records be stored.
// With bulk it syncs the whole volume at once; without parallel, one after the
// other.
func (b *Batch) SyncDirs(bulk, parallel bool) error {
	b.Touched = make(map[repl.UID]volume.Stat, len(b.touched))
	wanted := b.directoryTimes()
	var flushes []func() error
	for _, uid := range slices.SortedFunc(maps.Keys(b.touched), repl.UID.Compare) {
		d, ok := b.dirs[uid]
		if !ok {
			continue // removed by a later item
		}
		if err := b.settle(uid, d, wanted); err != nil {
			return err
		}
		flushes = append(flushes, d.Sync)
	}
	if bulk {
		return b.Volume.Sync()
	}
	if len(flushes) > 0 {
		flushes = append(flushes, b.installing.Sync)
	}
	flushes, err := b.inPlace(flushes)
	if err != nil {
		return err
	}
	err = volume.Together(parallel, flushes)
	if errors.Is(err, fs.ErrPermission) { // what may not be opened can still be flushed
		err = b.Volume.Sync()
	}
	return err
}

// inPlace adds the flushes of objects that changed without being replaced: those
// with other metadata, and the files that a provisional record knew and that now
// are a shared object's, because their capture synced nothing.
func (b *Batch) inPlace(flushes []func() error) ([]func() error, error) {
	links := false
	for i := range b.Items {
		c := b.Items[i].Change
		taken := c.Object.Provisional && c.Update.Type == repl.File
		if b.Outcomes[i].Err != nil || c.Content || c.To.IsZero() || c.From.IsZero() || !c.Meta && !taken {
			continue
		}
		if c.Update.Type == repl.Symlink { // it cannot be opened
			links = true
			continue
		}
		d, err := b.dir(c.To.Dir)
		if err != nil {
			return nil, err
		}
		flushes = append(flushes, func() error { return syncEntry(d, c) })
	}
	if links {
		flushes = append(flushes, b.Volume.Sync)
	}
	return flushes, nil
}

// syncEntry syncs the object that a change left at its place; a user may have
// been quicker.
func syncEntry(dir volume.Dir, c *repl.Change) error {
	o, err := volume.OpenEntry(dir, c.To.Name, c.Update.Type)
	if errors.Is(err, volume.ErrNotExist) || errors.Is(err, volume.ErrNotFile) || errors.Is(err, volume.ErrNotDir) {
		return nil
	}
	if err == nil {
		err = errors.Join(o.Sync(), o.Close())
	}
	if err != nil {
		return fmt.Errorf("sync %q: %w", c.To.Name, err)
	}
	return nil
}

// settle gives a touched directory its mtime: the one the batch brought, else
// the one it had, which is the recorded one or a user's still to be captured.
func (b *Batch) settle(uid repl.UID, d volume.Dir, wanted map[repl.UID]repl.Time) error {
	want, given := wanted[uid]
	if !given {
		want = b.touched[uid].Print.Mtime
	}
	if err := d.SetMtime(want); err != nil {
		return fmt.Errorf("set mtime of directory %v: %w", uid, err)
	}
	st, err := d.Stat()
	b.Touched[uid] = st
	return err
}

// directoryTimes lists the mtimes that the batch itself gave to directories.
func (b *Batch) directoryTimes() map[repl.UID]repl.Time {
	times := make(map[repl.UID]repl.Time)
	for i := range b.Items {
		if c := b.Items[i].Change; c.Update.Type == repl.Directory && c.Update.Present && b.Outcomes[i].Err == nil && (c.From.IsZero() || c.Meta || c.Object.UID != c.Update.UID) {
			times[c.Update.UID] = c.Update.Mtime
		}
	}
	return times
}

// Dispose puts what was displaced into the conflict store or removes it. It is
// called when the records are stored. What changed meanwhile, or can still be
// written to, is kept in any case.
func (b *Batch) Dispose() error {
	var errs []error
	for i := range b.Items {
		o, c := &b.Outcomes[i], b.Items[i].Change
		if o.displaced == "" {
			continue
		}
		obj := c.Object
		obj.Print = o.print
		switch {
		case c.Keep != repl.KeepNothing || o.whole:
			_, err := b.Keep(b.installing, o.displaced, c)
			errs = append(errs, err)
		case b.judge(o.displaced, &obj) != nil:
			errs = append(errs, b.keep(i, o.displaced))
		case obj.Type != repl.Directory:
			errs = append(errs, b.installing.Remove(o.displaced))
		default:
			err := b.installing.Rmdir(o.displaced)
			if errors.Is(err, volume.ErrNotEmpty) {
				err = b.keep(i, o.displaced)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Close releases the batch's directories and temporary files.
func (b *Batch) Close() error {
	var errs []error
	for _, uid := range slices.SortedFunc(maps.Keys(b.dirs), repl.UID.Compare) {
		errs = append(errs, b.dirs[uid].Close())
	}
	if b.installing != nil {
		errs = append(errs, b.installing.Close())
	}
	for i := range b.Items {
		if t := b.Items[i].Temp; t != nil {
			errs = append(errs, t.Close())
		}
	}
	return errors.Join(errs...)
}
