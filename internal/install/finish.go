package install

import (
	"errors"
	"fmt"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// SyncDirs gives touched directories their mtime back, makes every move of the
// batch durable and fills Touched. Only then may the records be stored. With
// bulk it syncs the whole volume at once.
func (b *Batch) SyncDirs(bulk bool) error {
	b.Touched = make(map[repl.UID]volume.Stat, len(b.touched))
	for uid, before := range b.touched {
		if err := b.settle(uid, before, bulk); err != nil {
			return err
		}
	}
	if bulk {
		return b.Volume.Sync()
	}
	if len(b.touched) == 0 {
		return nil
	}
	return b.installing.Sync()
}

func (b *Batch) settle(uid repl.UID, before volume.Stat, bulk bool) error {
	d, ok := b.dirs[uid]
	if !ok {
		return nil // removed by a later item
	}
	want, ok := b.Mtime(uid)
	// A directory whose mtime was not the recorded one has a user's change to
	// be captured; it keeps its own.
	if ok && (before.Print.Mtime == want || b.changes(uid)) {
		if err := d.SetMtime(want); err != nil {
			return fmt.Errorf("set mtime of directory %v: %w", uid, err)
		}
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

// changes reports whether an item of the batch itself set uid's metadata.
func (b *Batch) changes(uid repl.UID) bool {
	for i := range b.Items {
		if c := &b.Items[i].Change; c.Update.UID == uid && b.Outcomes[i].Err == nil {
			return c.From.IsZero() || c.Meta
		}
	}
	return false
}

// Dispose removes what was displaced and need not be kept. It is called when
// the records are stored. What changed meanwhile, or can still be written to,
// is kept instead.
func (b *Batch) Dispose() error {
	var errs []error
	for i := range b.Items {
		name := b.Outcomes[i].displaced
		if name == "" {
			continue
		}
		obj := b.Items[i].Change.Object
		obj.Print = b.Outcomes[i].print
		if err := b.judge(name, &obj); err != nil {
			errs = append(errs, b.keep(i, name))
			continue
		}
		errs = append(errs, b.installing.Remove(name))
	}
	return errors.Join(errs...)
}

// Close releases the batch's directories and temporary files.
func (b *Batch) Close() error {
	var errs []error
	for _, d := range b.dirs {
		errs = append(errs, d.Close())
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
