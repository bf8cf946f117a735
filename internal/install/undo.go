package install

import (
	"errors"
	"fmt"
	"slices"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// undoing takes one step of an item back. What a user did to the object since
// then stands; what cannot go back to its place is kept.
type undoing struct {
	item int
	step func() error
}

// undone notes how the step that an item has just made is taken back.
func (b *Batch) undone(i int, step func() error) { b.log = append(b.log, undoing{i, step}) }

// takeBack takes the steps of items back, the last one first.
func (b *Batch) takeBack(of func(i int) bool) {
	for k := len(b.log) - 1; k >= 0; k-- {
		u := b.log[k]
		if !of(u.item) {
			continue
		}
		b.log = slices.Delete(b.log, k, k+1)
		o := &b.Outcomes[u.item]
		o.displaced, o.whole = "", false
		if err := u.step(); err != nil {
			c := b.Items[u.item].Change
			o.Err = errors.Join(o.Err, fmt.Errorf("take back %s of %v: %w", c.Verdict, c.Update.UID, err))
		}
	}
}

// endItem takes back what was done of an item that failed, and of its group when
// that ends: its changes are decided again together.
func (b *Batch) endItem(i int) {
	g := b.Items[i].Change.Group
	b.breakGroup(i)
	switch {
	case g == 0 && b.Outcomes[i].Err != nil:
		b.takeBack(func(k int) bool { return k == i })
	case g == 0 || !b.broken[g] || i+1 < len(b.Items) && b.Items[i+1].Change.Group == g:
	default:
		for k := i; k >= 0 && b.Items[k].Change.Group == g; k-- {
			if o := &b.Outcomes[k]; o.Err == nil {
				o.Err = errGroup
				b.lose(k)
			}
		}
		b.takeBack(func(k int) bool { return b.Items[k].Change.Group == g })
	}
}

var errGroup = fmt.Errorf("%w: another change of its group failed", ErrMoved)

// at opens the directory of a place; the zero directory is installing/.
func (b *Batch) at(p repl.Place) (volume.Dir, error) {
	if p.Dir.IsZero() {
		return b.installing, nil
	}
	return b.dir(p.Dir)
}

// moved notes that an object was moved.
func (b *Batch) moved(i int, id repl.Identity, from, to repl.Place) {
	b.undone(i, func() error {
		src, err := b.at(to)
		if err != nil {
			return err
		}
		if st, err := src.Lookup(to.Name); err != nil || st.Identity != id {
			return missing(err) // a user moved or replaced it: capture follows
		}
		dst, err := b.at(from)
		if err == nil {
			err = src.Rename(to.Name, dst, from.Name)
		}
		if err != nil && to.Dir.IsZero() {
			return b.keep(i, to.Name) // nothing of a user's stays in installing/
		}
		if errors.Is(err, volume.ErrExist) {
			return nil // a user took its old place
		}
		return err
	})
}

// made notes that an object came to be at a place.
func (b *Batch) made(i int, at repl.Place, st volume.Stat) {
	b.undone(i, func() error {
		d, err := b.at(at)
		if err != nil {
			return err
		}
		want := repl.Record{Identity: st.Identity, Print: st.Print}
		want.Type = st.Type
		if expect(d, at.Name, &want, true) != nil {
			return nil // a user has it now
		}
		if st.Type == repl.Directory {
			err = d.Rmdir(at.Name)
			if old, ok := b.dirs[b.Items[i].Change.Update.UID]; ok && err == nil {
				delete(b.dirs, b.Items[i].Change.Update.UID)
				delete(b.touched, b.Items[i].Change.Update.UID)
				return old.Close()
			}
			if errors.Is(err, volume.ErrNotEmpty) {
				return nil // a user has put something into it
			}
			return missing(err)
		}
		name := TempName(&b.Items[i].Change.Update)
		if err := d.Rename(at.Name, b.installing, name); err != nil {
			return missing(err)
		}
		if b.judge(name, &want) != nil {
			if err := b.installing.Rename(name, d, at.Name); err != nil {
				return b.keep(i, name) // a user took its place, or the directory
			}
			return nil
		}
		return b.installing.Remove(name)
	})
}

// unmade notes that an empty directory was removed.
func (b *Batch) unmade(i int) {
	b.undone(i, func() error {
		c := b.Items[i].Change
		d, err := b.at(c.From)
		if err != nil {
			return err
		}
		if err := d.Mkdir(c.From.Name); err != nil {
			if errors.Is(err, volume.ErrExist) {
				return nil // a user made one
			}
			return err
		}
		if _, _, err := d.SetMeta(c.From.Name, nil, c.Object.Meta, c.Object.Mtime); err != nil {
			return err
		}
		again, err := d.OpenDir(c.From.Name)
		if err == nil {
			b.dirs[c.Object.UID] = again
		}
		return err
	})
}

// given notes that an object was given other metadata.
func (b *Batch) given(i int, after volume.Stat) {
	b.undone(i, func() error {
		c := b.Items[i].Change
		d, err := b.at(c.To)
		if err != nil {
			return err
		}
		if st, ok := b.touched[c.Object.UID]; ok { // what came into a directory came after its mtime
			st.Print.Mtime = c.Object.Mtime
			b.touched[c.Object.UID] = st
		}
		_, _, err = d.SetMeta(c.To.Name, &after, c.Object.Meta, c.Object.Mtime)
		if errors.Is(err, volume.ErrChanged) || errors.Is(err, volume.ErrInUse) {
			return nil // a user is at it: the metadata are captured as they are
		}
		return missing(err)
	})
}

// missing takes the error of what is not there any more for none.
func missing(err error) error {
	if errors.Is(err, volume.ErrNotExist) {
		return nil
	}
	return err
}
