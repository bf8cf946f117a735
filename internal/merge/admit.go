package merge

import (
	"bytes"
	"errors"
	"slices"

	"opendfs/internal/repl"
)

// Why an update is refused: it is for errors.Is on Plan.Bad.
var (
	ErrRewritten  = errors.New("the version is on record with other content: its member was rolled back or copied (rule 3)")
	ErrType       = errors.New("its object has another type on record (rule 7)")
	ErrCreateTime = errors.New("its object has another creation time on record (rule 6)")
	ErrRoot       = errors.New("a folder's root is a live directory without a parent, and the only one")
	ErrHeir       = errors.New("a directory that lost its name has an heir that is newer than it, and nothing else has one (rule 8)")
	ErrParent     = errors.New("its parent is not a directory")
	ErrOwn        = errors.New("its object has a provisional record here, which no partner can know")
)

// admit takes the updates in: of each UID the greatest of the batch, if it is
// greater than the record, becomes active.
func (d *decider) admit(updates []repl.Update) {
	for i := range updates {
		u := &updates[i]
		e := d.load(u.UID)
		if err := d.judge(e, u); err != nil {
			d.bad = append(d.bad, repl.BadUpdate{GVSN: u.GVSN, Err: err})
			if e.in == nil {
				e.state = refused
			}
			continue
		}
		switch {
		case e.in == nil:
			e.in = u
		case e.in.GVSN == u.GVSN:
			continue
		case repl.Compare(e.in, u) < 0:
			e.in, e.lesser = u, append(e.lesser, e.in)
		default:
			e.lesser = append(e.lesser, u)
		}
		e.state = known
		if !e.had || repl.Compare(e.in, &e.was.Update) > 0 {
			e.state = active
		}
	}
}

// judge reports why an update cannot be true, given the record and what else
// the batch brought of the UID.
func (d *decider) judge(e *entry, u *repl.Update) error {
	if err := u.Check(); err != nil {
		return err
	}
	isRoot := u.UID == d.root
	if isRoot != u.Parent.IsZero() || isRoot && (!u.Present || u.Type != repl.Directory) {
		return ErrRoot
	}
	if (u.Type == repl.Directory && u.NameConflict) == u.Heir.IsZero() {
		return ErrHeir
	}
	if e.had {
		if e.was.Provisional && !isRoot {
			return ErrOwn
		}
		if err := sameObject(&e.was.Update, u, isRoot); err != nil {
			return err
		}
	}
	if e.in != nil {
		return sameObject(e.in, u, isRoot)
	}
	return nil
}

// sameObject reports why two updates cannot be versions of one object.
func sameObject(a, b *repl.Update, isRoot bool) error {
	switch {
	case a.Type != b.Type:
		return ErrType
	case a.CreateTime != b.CreateTime && !isRoot: // each member makes its own first record of the root
		return ErrCreateTime
	case a.GVSN == b.GVSN && !sameUpdate(a, b):
		return ErrRewritten
	}
	return nil
}

// sameUpdate compares two updates field by field.
func sameUpdate(a, b *repl.Update) bool {
	x, y := *a, *b
	same := bytes.Equal(x.Meta, y.Meta) && slices.Equal(x.History, y.History)
	return same && x.UID == y.UID && x.GVSN == y.GVSN && x.Parent == y.Parent && x.Name == y.Name &&
		x.Type == y.Type && x.Present == y.Present && x.NameConflict == y.NameConflict && x.Heir == y.Heir &&
		x.Fence == y.Fence && x.CreateTime == y.CreateTime && x.Clock == y.Clock &&
		x.Size == y.Size && x.Mtime == y.Mtime && x.Content == y.Content && x.Target == y.Target
}
