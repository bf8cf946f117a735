// Package install carries out a plan on the tree: it moves staged content and
// moved, changed or deleted objects into place without ever overwriting or
// unlinking what it has not looked at (rules 14, 17, 21).
//
// The work is cut in three so that its caller can make each part durable
// before the next: Run moves things and judges what came out; SyncDirs makes
// the moves durable, after which the records may be stored; Dispose keeps what
// was displaced or throws it away. Between Run and Dispose a
// displaced object waits in `.dfsr/installing`, so a crash loses nothing.
//
// A change whose object on disk is not what the verdict was made on is put
// back as it was and reported as Moved, and with it what stands in one group
// with it: its place must be captured and the verdict made again.
package install

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// ErrMoved says that the disk is not what the verdict was made on: the place
// must be looked at and the update decided again.
var ErrMoved = errors.New("the tree has changed since the verdict")

// ErrBusy says that a file is open for writing and was left alone.
var ErrBusy = errors.New("file is open for writing")

// ErrNested says that the root of another replicated folder is in the way. Whoever
// serves that folder would lose it; it was left alone.
var ErrNested = errors.New("the root of another replicated folder is in the way")

// Directories says where a directory that is on record lies and what it is.
// ok is false if it is not on record or not on disk.
type Directories func(uid repl.UID) (path string, id repl.Identity, ok bool, err error)

// Keeper puts an object that an install displaced into the conflict store, and
// returns under which name. The object is durable there when it returns.
type Keeper func(from volume.Dir, name string, c *repl.Change) (kept string, err error)

// Item is one change with what was made ready for it.
type Item struct {
	Change *repl.Change // nobody else's until the batch is over
	Temp   volume.Temp  // the content, its metadata set; nil where none is needed
	// TempStat describes Temp as it was made.
	TempStat volume.Stat
	// Lacks lists the metadata that Temp could not be given.
	Lacks []string
	// Absent: nobody has the content of a new file. Its place stays free.
	Absent bool
}

// Outcome is what became of one item.
type Outcome struct {
	Err      error // nil, ErrMoved, ErrBusy or what the filesystem says
	Identity repl.Identity
	Print    repl.Print
	Unsure   bool // whether a user changed the metadata meanwhile cannot be told
	Kept     int  // objects put into the conflict store
	// Shown is what the object has on this disk where it could not be given the
	// update's metadata, nil if it has them.
	Shown []byte
	// Dirty are places that must be looked at before the change is tried again.
	Dirty []repl.Place

	displaced string // name in installing/ of what Dispose keeps or removes
	print     repl.Print
	whole     bool // a directory that is kept with what does not replicate
}

// Batch carries out the items of one plan, in order.
type Batch struct {
	Volume      volume.Volume
	Directories Directories
	Keep        Keeper
	Items       []Item
	Outcomes    []Outcome // as many as Items; one with an Err is not carried out
	// Touched holds for each directory of the tree in which entries changed its
	// state after SyncDirs.
	Touched map[repl.UID]volume.Stat
	// Replicates says whether an entry of a directory that no record knows would
	// replicate.
	Replicates func(dir repl.UID, e volume.Entry) bool
	// Workers is how many goroutines set metadata at once; 0: it is done in order.
	Workers int
	// Clear keeps what lies where a change's object is to lie, if that is there
	// for this member alone, and reports whether it did; d is the directory, dir
	// its record. gone says whether this batch took an object from its place.
	Clear func(d volume.Dir, dir repl.UID, c *repl.Change, gone func(repl.UID) bool) (bool, error)

	dirs       map[repl.UID]volume.Dir
	touched    map[repl.UID]volume.Stat // state before the first change
	taken      map[repl.UID]repl.UID    // directories whose object another record took over
	installing volume.Dir
	parked     []bool            // the item's object lies in installing/ between its two moves
	broken     map[int]bool      // groups of which an item was not carried out
	lost       map[repl.UID]bool // directories that were to be, and are not
	log        []undoing         // the steps so far
	ahead      []amended         // by item, what was set before their turns; nil: nothing
}

// Run carries out every item whose outcome has no error yet and fills
// Outcomes. Of a group all items are carried out or none. The error is for what
// stops the whole batch before anything was done.
func (b *Batch) Run(ctx context.Context) error {
	b.dirs = make(map[repl.UID]volume.Dir)
	b.touched = make(map[repl.UID]volume.Stat)
	b.taken = make(map[repl.UID]repl.UID)
	b.parked = make([]bool, len(b.Items))
	b.broken = make(map[int]bool)
	b.lost = make(map[repl.UID]bool)
	for i := range b.Items {
		b.breakGroup(i)
	}
	var err error
	if b.installing, err = b.Volume.Private(volume.Installing); err != nil {
		return fmt.Errorf("open installing area: %w", err)
	}
	b.openAhead()
	b.amendAhead()
	for i := range b.Items {
		if c := b.Items[i].Change; c.ViaPrivate && b.Outcomes[i].Err == nil && !b.broken[c.Group] {
			b.park(i)
			b.breakGroup(i)
		}
	}
	for i := range b.Items {
		if err := ctx.Err(); err != nil {
			b.Outcomes[i].Err = errors.Join(b.Outcomes[i].Err, err)
		}
		if b.Outcomes[i].Err == nil {
			b.step(i)
		}
		b.lose(i)
		b.endItem(i)
	}
	return nil
}

// openAhead opens the directories that items work in, and those that are to be
// parked, if one is to be: what lies below it is not found by its path then. One that
// cannot be opened is tried again when its item's turn comes.
func (b *Batch) openAhead() {
	if !slices.ContainsFunc(b.Items, func(it Item) bool { return it.Change.ViaPrivate && it.Change.Object.Type == repl.Directory }) {
		return
	}
	for i := range b.Items {
		c := b.Items[i].Change
		for _, p := range []repl.Place{c.From, c.To} {
			if !p.IsZero() && b.Outcomes[i].Err == nil {
				_, _ = b.dir(p.Dir)
			}
		}
		if c.ViaPrivate && c.Object.Type == repl.Directory && b.Outcomes[i].Err == nil {
			_, _ = b.dir(c.Object.UID)
		}
	}
}

// lose notes the directory that an item was to make and has not: nothing can be
// put into it, on disk or on record.
func (b *Batch) lose(i int) {
	if c := b.Items[i].Change; b.Outcomes[i].Err != nil && c.Update.Type == repl.Directory && !c.Was.Present {
		b.lost[c.Update.UID] = true
	}
}

// breakGroup notes that an item was not carried out: what stands or falls with
// it is decided again too.
func (b *Batch) breakGroup(i int) {
	if g := b.Items[i].Change.Group; g != 0 && b.Outcomes[i].Err != nil {
		b.broken[g] = true
	}
}

// link gives the staged content its name and lets go of it: as long as it is
// open here it counts as being written. st describes it as it was linked.
func (it *Item) link(d volume.Dir, name string) (st volume.Stat, err error) {
	if err := d.Link(it.Temp, name); err != nil {
		return st, err
	}
	t := it.Temp
	it.Temp = nil
	st, err = t.Stat()
	return st, errors.Join(err, t.Close())
}

// TempName is the name that the object of an update has in installing/.
func TempName(u *repl.Update) string { return u.UID.String() + "." + u.GVSN.String() }

// step carries out one item by what its change does to the tree.
func (b *Batch) step(i int) {
	c := b.Items[i].Change
	var err error
	switch {
	case b.broken[c.Group]:
		err = errGroup
	case b.lost[c.To.Dir], c.Update.Present && b.lost[c.Update.Parent], b.lost[c.Update.Heir]:
		err = fmt.Errorf("%w: its directory was not made", ErrMoved)
	case c.Update.Parent.IsZero() && c.Meta:
		err = b.root(i)
	case c.From.IsZero() && c.To.IsZero():
		return // a matter of records alone
	case b.Items[i].Absent:
		err = b.vacant(c.To)
	case c.To.IsZero():
		err = b.remove(i)
	case c.From.IsZero():
		err = b.create(i)
	default:
		err = b.alter(i)
	}
	o := &b.Outcomes[i]
	o.Err = err
	if overtaken(err) {
		o.Err = fmt.Errorf("install %s of %v: %w: %w", c.Verdict, c.Update.UID, ErrMoved, err)
		for _, p := range []repl.Place{c.From, c.To} {
			if !p.IsZero() {
				o.Dirty = append(o.Dirty, p)
			}
		}
	}
}

// vacant reports as an error what lies at a place and would replicate.
func (b *Batch) vacant(p repl.Place) error {
	d, err := b.dir(p.Dir)
	if err != nil {
		return err
	}
	st, err := d.Lookup(p.Name)
	if err == nil && b.Replicates(p.Dir, volume.Entry{Name: p.Name, Type: st.Type}) {
		return fmt.Errorf("%w: %q is taken", ErrMoved, p.Name)
	}
	if errors.Is(err, volume.ErrNotExist) {
		return nil
	}
	return err
}

// overtaken reports whether an error says that the tree is not what the verdict
// was made on.
func overtaken(err error) bool {
	for _, e := range []error{ErrMoved, volume.ErrExist, volume.ErrNotExist, volume.ErrNotDir, volume.ErrNotFile, volume.ErrEscapes} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// root gives the folder's root its metadata; its mtime when the directories are
// settled.
func (b *Batch) root(i int) error {
	u := &b.Items[i].Change.Update
	d, err := b.dir(u.UID)
	if err != nil {
		return err
	}
	if err := b.touch(u.UID, d); err != nil || len(u.Meta) == 0 {
		return err
	}
	lacks, err := d.SetOwnMeta(u.Meta, u.Mtime)
	if err != nil || len(lacks) == 0 {
		return err
	}
	disk, err := d.OwnMeta()
	if err == nil {
		b.Outcomes[i].Shown, err = volume.Shown(u.Meta, disk, lacks)
	}
	return err
}

// alter moves an object, gives it new content, new metadata, or all of it.
func (b *Batch) alter(i int) error {
	it := &b.Items[i]
	c := it.Change
	from, err := b.dir(c.From.Dir)
	if err != nil {
		return err
	}
	to, err := b.dir(c.To.Dir)
	if err != nil {
		return err
	}
	switch {
	case b.parked[i]:
		if err := b.fromPark(i, to); err != nil {
			return err
		}
	case c.From != c.To:
		if err := b.move(i, from, to); err != nil {
			return err
		}
	case c.Meta && !c.Content: // setting them looks, and nothing else is done
		if err := b.setMeta(i, to); err != nil {
			return err
		}
		return b.reach(i, to)
	default:
		if err := expect(to, c.To.Name, &c.Object, true); err != nil {
			return err
		}
	}
	switch {
	case c.Content:
		err = b.replace(i, to)
	case c.Meta:
		err = b.setMeta(i, to)
	}
	if err != nil {
		return err
	}
	if err := b.describe(i, to); err != nil {
		return err
	}
	return b.reach(i, to)
}

// reach opens a directory that is on record at this place only when the batch
// is stored, so that later items find it: by its own UID and by that of the
// record whose object it takes over.
func (b *Batch) reach(i int, to volume.Dir) error {
	c := b.Items[i].Change
	if c.Update.Type != repl.Directory || c.Object.UID == c.Update.UID && c.From == c.To {
		return nil
	}
	d, err := to.OpenDir(c.To.Name)
	if err != nil {
		return err
	}
	if old, ok := b.dirs[c.Update.UID]; ok {
		err = old.Close()
	}
	b.dirs[c.Update.UID] = d
	if c.Object.UID == c.Update.UID {
		return err
	}
	b.taken[c.Object.UID] = c.Update.UID
	b.undone(i, func() error { // it is the old record's again
		delete(b.taken, c.Object.UID)
		d := b.dirs[c.Update.UID]
		delete(b.dirs, c.Update.UID)
		if st, ok := b.touched[c.Update.UID]; ok {
			delete(b.touched, c.Update.UID)
			b.touched[c.Object.UID] = st
		}
		var err error
		if old, ok := b.dirs[c.Object.UID]; ok {
			err = old.Close()
		}
		b.dirs[c.Object.UID] = d
		return err
	})
	return err
}

func (b *Batch) setMeta(i int, to volume.Dir) error {
	c, o := b.Items[i].Change, &b.Outcomes[i]
	got := b.amend(i, to)
	st, lacks, err := got.after, got.lacks, got.err
	switch {
	case errors.Is(err, volume.ErrChanged):
		if why := expect(to, c.To.Name, &c.Object, true); why != nil {
			return why
		}
		return fmt.Errorf("%w: %w", ErrMoved, err)
	case errors.Is(err, volume.ErrInUse):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case err != nil:
		return err
	}
	o.Identity, o.Print = st.Identity, st.Print
	o.Unsure = true // a user's change since cannot be told from this one
	b.Items[i].Lacks = lacks
	b.given(i, st)
	o.Shown, err = b.shown(i, to)
	return err
}

// describe records what now lies at the item's place, as far as this batch
// knows it: what a user did to it meanwhile must differ from the print.
func (b *Batch) describe(i int, to volume.Dir) error {
	st, err := to.Lookup(b.Items[i].Change.To.Name)
	if err != nil {
		return err
	}
	o, c, staged := &b.Outcomes[i], b.Items[i].Change, &b.Items[i].TempStat
	if o.Shown, err = b.shown(i, to); err != nil {
		return err
	}
	switch {
	case c.Meta && !c.Content && !c.From.IsZero(): // setMeta described it
	case !staged.Identity.IsZero():
		if st.Identity != staged.Identity {
			return fmt.Errorf("%w: another object took the place", ErrMoved)
		}
		o.asStaged(&st, staged)
	default:
		o.Identity, o.Print = c.Object.Identity, c.Object.Print
		o.Unsure = c.From != c.To // moving it moved its ctime
	}
	return nil
}

// asStaged is describe of a file that has just been linked, which st describes. Who
// took its place meanwhile put another object there than the record will tell of.
func (b *Batch) asStaged(i int, to volume.Dir, st volume.Stat) (err error) {
	o := &b.Outcomes[i]
	o.Shown, err = b.shown(i, to)
	o.asStaged(&st, &b.Items[i].TempStat)
	return err
}

// asStaged records a staged object that has its name by now; st is what it is like.
func (o *Outcome) asStaged(st, staged *volume.Stat) {
	o.Identity, o.Print = st.Identity, staged.Print
	if st.Print.SameData(o.Print) {
		o.Print = st.Print // linking it moved its ctime
	}
	o.Unsure = st.Mode != staged.Mode || st.Owner != staged.Owner || st.Group != staged.Group
}

// shown is what the item's object has on this disk in place of metadata that it
// could not be given; what it has already if it is given none.
func (b *Batch) shown(i int, to volume.Dir) ([]byte, error) {
	it := &b.Items[i]
	c := it.Change
	if !c.Meta && !c.Content && !c.From.IsZero() {
		return c.Object.Shown, nil
	}
	if len(it.Lacks) == 0 {
		return nil, nil
	}
	disk, err := to.Meta(c.To.Name)
	if err != nil {
		return nil, err
	}
	return volume.Shown(c.Update.Meta, disk, it.Lacks)
}

// expect compares what lies at a place with the object that a verdict was made
// on. Directories and objects that only move are known by identity alone.
func expect(d volume.Dir, name string, obj *repl.Record, data bool) error {
	st, err := d.Lookup(name)
	if err != nil {
		return err
	}
	if st.Identity != obj.Identity || st.Type != obj.Type {
		return fmt.Errorf("%w: %q is another object", ErrMoved, name)
	}
	if data && obj.Type == repl.File && !st.Print.SameData(obj.Print) {
		if errors.Is(writable(d, name, obj.Type), ErrBusy) { // somebody is at it: it is not captured soon
			return fmt.Errorf("%w: %q is being edited: %w", ErrMoved, name, ErrBusy)
		}
		return fmt.Errorf("%w: %q was edited", ErrMoved, name)
	}
	return nil
}
