package install

import (
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// move moves the item's object, and nothing else that took its place.
func (b *Batch) move(i int, from, to volume.Dir) error {
	c := b.Items[i].Change
	if err := expect(from, c.From.Name, &c.Object, c.Content); err != nil {
		return err
	}
	if err := b.touch(c.From.Dir, from); err != nil {
		return err
	}
	if err := b.touch(c.To.Dir, to); err != nil {
		return err
	}
	if err := b.retried(i, to, func() error { return b.rename(i, from, c.From, to, c.To) }); err != nil {
		return err
	}
	return expect(to, c.To.Name, &c.Object, c.Content)
}

// rename moves whatever lies at a place.
func (b *Batch) rename(i int, from volume.Dir, old repl.Place, to volume.Dir, place repl.Place) error {
	if err := from.Rename(old.Name, to, place.Name); err != nil {
		return err
	}
	st, err := to.Lookup(place.Name)
	if err == nil {
		b.moved(i, st.Identity, old, place)
	}
	return err
}
