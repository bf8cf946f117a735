package install

import (
	"errors"
	"fmt"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// create brings a new object into the tree, at a place that must be free.
func (b *Batch) create(i int) error {
	it := &b.Items[i]
	c := it.Change
	to, err := b.dir(c.To.Dir)
	if err != nil {
		return err
	}
	if err := b.touch(c.To.Dir, to); err != nil {
		return err
	}
	return b.retried(i, to, func() error { return b.make(i, to) })
}

// make makes the item's object at its place.
func (b *Batch) make(i int, to volume.Dir) error {
	it := &b.Items[i]
	c := it.Change
	switch c.Update.Type {
	case repl.File:
		st, err := it.link(to, c.To.Name)
		if err != nil {
			return err
		}
		b.made(i, c.To, it.TempStat)
		return b.asStaged(i, to, st)
	case repl.Symlink:
		if err := b.makeLink(i); err != nil {
			return err
		}
		if err := b.installing.Rename(TempName(&c.Update), to, c.To.Name); err != nil {
			return errors.Join(err, b.installing.Remove(TempName(&c.Update)))
		}
		b.made(i, c.To, it.TempStat)
	case repl.Directory:
		return b.makeDirectory(i, to)
	}
	return b.describe(i, to)
}

// makeDirectory makes a directory in installing/, where nobody can take it for
// another, and moves it to its place.
func (b *Batch) makeDirectory(i int, to volume.Dir) error {
	it := &b.Items[i]
	c := it.Change
	name := TempName(&c.Update)
	if err := b.installing.Mkdir(name); err != nil {
		return err
	}
	d, err := b.installing.OpenDir(name)
	if err == nil {
		b.dirs[c.Update.UID] = d
		it.TempStat, it.Lacks, err = b.installing.SetMeta(name, nil, c.Update.Meta, c.Update.Mtime)
	}
	if err == nil {
		err = b.installing.Rename(name, to, c.To.Name)
	}
	if err != nil {
		delete(b.dirs, c.Update.UID)
		if d != nil {
			err = errors.Join(err, d.Close())
		}
		return errors.Join(err, b.installing.Rmdir(name))
	}
	b.made(i, c.To, it.TempStat)
	if err := b.touch(c.Update.UID, d); err != nil { // its own entries must be durable too
		return err
	}
	return b.describe(i, to)
}

// makeLink makes the item's symbolic link in installing/.
func (b *Batch) makeLink(i int) error {
	u := &b.Items[i].Change.Update
	name := TempName(u)
	if err := b.installing.Symlink(u.Target, name); err != nil {
		return err
	}
	st, lacks, err := b.installing.SetMeta(name, nil, u.Meta, u.Mtime)
	b.Items[i].Lacks, b.Items[i].TempStat = lacks, st
	if err != nil {
		return errors.Join(err, b.installing.Remove(name))
	}
	return nil
}

// replace exchanges the staged content with what lies at the place, and judges
// what came out.
func (b *Batch) replace(i int, to volume.Dir) error {
	it := &b.Items[i]
	c := it.Change
	name := TempName(&c.Update)
	if err := writable(to, c.To.Name, c.Object.Type); err != nil {
		return err
	}
	if err := b.touch(c.To.Dir, to); err != nil {
		return err
	}
	if c.Update.Type == repl.Symlink {
		if err := b.makeLink(i); err != nil {
			return err
		}
	} else if _, err := it.link(b.installing, name); err != nil {
		return err
	}
	if err := b.installing.Exchange(name, to, c.To.Name); err != nil {
		return errors.Join(err, b.installing.Remove(name))
	}
	b.undone(i, func() error { return b.putBack(i, to) })
	if err := b.judge(name, &c.Object); err != nil {
		return err
	}
	b.displace(i, name)
	return nil
}

// putBack undoes an exchange. If meanwhile a user replaced what we installed,
// the user's version takes the place again and the older one, which the user
// replaced, is kept.
func (b *Batch) putBack(i int, to volume.Dir) error {
	it := &b.Items[i]
	c := it.Change
	name := TempName(&c.Update)
	if err := b.installing.Exchange(name, to, c.To.Name); err != nil {
		if errors.Is(err, volume.ErrNotExist) { // a user deleted ours: what came out goes back
			err = b.installing.Rename(name, to, c.To.Name)
		}
		if err != nil {
			return b.keep(i, name) // nothing of a user's stays in installing/
		}
		return nil
	}
	st, err := b.installing.Lookup(name)
	if err != nil {
		return err
	}
	if st.Identity == it.TempStat.Identity && st.Print.SameData(it.TempStat.Print) {
		return b.installing.Remove(name)
	}
	_ = b.installing.Exchange(name, to, c.To.Name) // if a user took even that away, it is his that is kept
	return b.keep(i, name)
}

// remove takes an object out of the tree.
func (b *Batch) remove(i int) error {
	c := b.Items[i].Change
	if b.parked[i] {
		if err := b.left(i); err != nil {
			return err
		}
		b.parked[i] = false
		name := TempName(&c.Update) + ParkedSuffix
		if err := b.judge(name, &c.Object); err != nil {
			return err
		}
		b.displace(i, name)
		return nil
	}
	from, err := b.dir(c.From.Dir)
	if err != nil {
		return err
	}
	if err := expect(from, c.From.Name, &c.Object, true); err != nil {
		return err
	}
	if err := b.touch(c.From.Dir, from); err != nil {
		return err
	}
	if c.Object.Type == repl.Directory {
		if c.Keep != repl.KeepNothing {
			return b.keepDirectory(i, from)
		}
		return b.removeDirectory(i, from)
	}
	if err := writable(from, c.From.Name, c.Object.Type); err != nil {
		return err
	}
	name := TempName(&c.Update)
	if err := b.rename(i, from, c.From, b.installing, repl.Place{Name: name}); err != nil {
		return err
	}
	if err := b.judge(name, &c.Object); err != nil {
		return err
	}
	b.displace(i, name)
	return nil
}

// removeDirectory removes a directory that the records say is empty. What is
// left in it and would replicate is reported, so that it is captured and
// revives the directory; what does not replicate goes with the directory to
// the conflict store (rule 21).
func (b *Batch) removeDirectory(i int, from volume.Dir) error {
	c := b.Items[i].Change
	if err := b.left(i); err != nil {
		return err
	}
	err := from.Rmdir(c.From.Name)
	if err == nil {
		b.unmade(i)
	}
	if d, ok := b.dirs[c.Object.UID]; ok && err == nil {
		delete(b.dirs, c.Object.UID)
		delete(b.touched, c.Object.UID)
		return d.Close()
	}
	if !errors.Is(err, volume.ErrNotEmpty) {
		return err
	}
	d, err := from.OpenDir(c.From.Name)
	if err != nil {
		return err
	}
	replicable := 0
	err = d.List(func(e volume.Entry) error {
		if e.Type == repl.Directory {
			if is, err := volume.IsRoot(d, e.Name); err != nil || is {
				return errors.Join(err, nested(is, e.Name))
			}
		}
		if b.Replicates(c.Object.UID, e) {
			replicable++
			if len(b.Outcomes[i].Dirty) < maxLeftOvers {
				b.Outcomes[i].Dirty = append(b.Outcomes[i].Dirty, repl.Place{Dir: c.Object.UID, Name: e.Name})
			}
		}
		return nil
	})
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	if replicable > 0 {
		return fmt.Errorf("%w: %d entries are left in the directory", ErrMoved, replicable)
	}
	return b.keepDirectory(i, from)
}

// left reports as an error what has not left the item's directory though it was to:
// its record still lies in it, wherever a user has put the object meanwhile.
func (b *Batch) left(i int) error {
	for k := range i {
		if from := b.Items[k].Change.From; b.Outcomes[k].Err != nil && from.Dir == b.Items[i].Change.Object.UID {
			return fmt.Errorf("%w: %q did not leave the directory", ErrMoved, from.Name)
		}
	}
	return nil
}

// keepDirectory moves a directory with all that is in it to the conflict store, but
// not another replicated folder.
func (b *Batch) keepDirectory(i int, from volume.Dir) error {
	c := b.Items[i].Change
	if holds, err := volume.HoldsRoot(from, c.From.Name); err != nil || holds {
		return errors.Join(err, nested(holds, c.From.Name))
	}
	name := TempName(&c.Update)
	if err := b.rename(i, from, c.From, b.installing, repl.Place{Name: name}); err != nil {
		return err
	}
	if err := expect(b.installing, name, &c.Object, false); err != nil {
		return err
	}
	b.displace(i, name)
	b.Outcomes[i].whole = true
	return nil
}

// nested is ErrNested with the name, nil if it is not so.
func nested(is bool, name string) error {
	if !is {
		return nil
	}
	return fmt.Errorf("%w: %q", ErrNested, name)
}

// maxLeftOvers bounds the places reported for one directory; the rest is found
// when it is looked at whole.
const maxLeftOvers = 1024

// park takes an object whose place and target depend on each other out of the
// tree for a moment.
func (b *Batch) park(i int) {
	c := b.Items[i].Change
	from, err := b.dir(c.From.Dir)
	if err == nil {
		err = expect(from, c.From.Name, &c.Object, c.Content)
	}
	if err == nil {
		err = b.touch(c.From.Dir, from)
	}
	if err == nil && c.Object.Type == repl.Directory { // its children still leave it by this handle
		_, err = b.dir(c.Object.UID)
	}
	if err == nil {
		parked := repl.Place{Name: TempName(&c.Update) + ParkedSuffix}
		if err = b.rename(i, from, c.From, b.installing, parked); err == nil {
			err = expect(b.installing, parked.Name, &c.Object, c.Content)
		}
	}
	if err != nil {
		b.Outcomes[i].Err = fmt.Errorf("vacate %q: %w: %w", c.From.Name, ErrMoved, err)
		b.Outcomes[i].Dirty = append(b.Outcomes[i].Dirty, c.From)
		return
	}
	b.parked[i] = true
}

// ParkedSuffix marks an object that waits in installing/ between two places.
const ParkedSuffix = ".parked"

// fromPark moves a parked object to its new place.
func (b *Batch) fromPark(i int, to volume.Dir) error {
	c := b.Items[i].Change
	if err := b.touch(c.To.Dir, to); err != nil {
		return err
	}
	parked := repl.Place{Name: TempName(&c.Update) + ParkedSuffix}
	if err := b.retried(i, to, func() error { return b.rename(i, b.installing, parked, to, c.To) }); err != nil {
		return err
	}
	b.parked[i] = false
	return nil
}

// judge looks at what came out of the tree: the object the verdict was made
// on, unchanged, and nobody can write to it any more.
func (b *Batch) judge(name string, obj *repl.Record) error {
	if err := expect(b.installing, name, obj, true); err != nil {
		return err
	}
	if err := writable(b.installing, name, obj.Type); err != nil {
		return err
	}
	return expect(b.installing, name, obj, true) // a writer may have closed between the two looks
}

// displace leaves the displaced object for Dispose, to be kept or removed: until
// the records are stored it may have to go back.
func (b *Batch) displace(i int, name string) {
	o, c := &b.Outcomes[i], b.Items[i].Change
	o.displaced, o.print = name, c.Object.Print
	if c.Keep != repl.KeepNothing {
		o.Kept++
	}
}

// keep puts an object into the conflict store whose place was taken.
func (b *Batch) keep(i int, name string) error {
	_, err := b.Keep(b.installing, name, b.Items[i].Change)
	if err != nil {
		return fmt.Errorf("keep %q: %w", name, err)
	}
	b.Outcomes[i].Kept++
	return nil
}

// writable returns ErrBusy if somebody could still write to the file.
func writable(d volume.Dir, name string, t repl.Type) error {
	if t != repl.File {
		return nil
	}
	f, err := d.OpenFile(name)
	if errors.Is(err, volume.ErrInUse) { // a write lease, whose holder is told now
		return ErrBusy
	}
	if err != nil {
		return err
	}
	open, err := f.Writable()
	if errors.Is(err, volume.ErrUnknown) {
		open, err = false, nil // the print is compared again after the exchange
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if open {
		return ErrBusy
	}
	return nil
}

// retried puts the item's object at its place, and once more if what was there
// is there for this member alone: that is kept.
func (b *Batch) retried(i int, to volume.Dir, put func() error) error {
	err := put()
	if !errors.Is(err, volume.ErrExist) || b.Clear == nil {
		return err
	}
	c := b.Items[i].Change
	dir := c.To.Dir
	for old, by := range b.taken { // its record is the old one's, until the batch is stored
		if by == dir {
			dir = old
		}
	}
	cleared, cerr := b.Clear(to, dir, c, func(uid repl.UID) bool {
		for k := range b.Items {
			if o := &b.Items[k].Change.Object; o.UID == uid && (b.parked[k] || k < i && b.Outcomes[k].Err == nil) {
				return true
			}
		}
		return false
	})
	if cerr != nil || !cleared {
		is, rerr := volume.IsRoot(to, c.To.Name)
		return errors.Join(err, cerr, rerr, nested(is, c.To.Name))
	}
	b.Outcomes[i].Kept++
	return put()
}
