package install

import (
	"errors"
	"fmt"
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

// SyncDirs gives touched directories their mtime back, makes every move of the
// batch durable, and what it takes over of an initial build, and fills Touched. Only then may the records be stored. With
// bulk it syncs the whole volume at once.
func (b *Batch) SyncDirs(bulk bool) error {
	b.Touched = make(map[repl.UID]volume.Stat, len(b.touched))
	wanted := b.directoryTimes()
	for _, uid := range slices.SortedFunc(maps.Keys(b.touched), repl.UID.Compare) {
		if err := b.settle(uid, b.touched[uid], wanted, bulk); err != nil {
			return err
		}
	}
	if bulk {
		return b.Volume.Sync()
	}
	if err := b.syncTaken(); err != nil {
		return err
	}
	if len(b.touched) == 0 {
		return nil
	}
	return b.installing.Sync()
}

// syncTaken makes the files durable that a provisional record knew, and that
// now are a shared object's: their capture synced nothing.
func (b *Batch) syncTaken() error {
	for i := range b.Items {
		c := &b.Items[i].Change
		if b.Outcomes[i].Err != nil || !c.Object.Provisional || c.Content || c.To.IsZero() || c.Update.Type != repl.File {
			continue
		}
		d, err := b.dir(c.To.Dir)
		if err != nil {
			return err
		}
		f, err := d.OpenFile(c.To.Name)
		if errors.Is(err, volume.ErrNotExist) || errors.Is(err, volume.ErrNotFile) {
			continue // a user was quicker
		}
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			return fmt.Errorf("sync %q: %w", c.To.Name, err)
		}
	}
	return nil
}

func (b *Batch) settle(uid repl.UID, before volume.Stat, wanted map[repl.UID]repl.Time, bulk bool) error {
	d, ok := b.dirs[uid]
	if !ok {
		return nil // removed by a later item
	}
	want, given := wanted[uid]
	if !given { // the recorded one, or a user's that is still to be captured
		want = before.Print.Mtime
	}
	if err := d.SetMtime(want); err != nil {
		return fmt.Errorf("set mtime of directory %v: %w", uid, err)
	}
	st, err := d.Stat()
	if err != nil {
		return err
	}
	b.Touched[uid] = st
	if bulk {
		return nil
	}
	return d.Sync()
}

// directoryTimes lists the mtimes that the batch itself gave to directories.
func (b *Batch) directoryTimes() map[repl.UID]repl.Time {
	times := make(map[repl.UID]repl.Time)
	for i := range b.Items {
		if c := &b.Items[i].Change; c.Update.Type == repl.Directory && c.Update.Present && b.Outcomes[i].Err == nil && (c.From.IsZero() || c.Meta || c.Object.UID != c.Update.UID) {
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
		o, c := &b.Outcomes[i], &b.Items[i].Change
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
