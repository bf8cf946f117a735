package engine

import (
	"errors"
	"fmt"

	"opendfs/internal/install"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/volume"
)

// takeBack puts back what an unfinished install had done: the object that it
// took out of the tree or moved, and away what it brought.
func (s *settler) takeBack(u *unsettled) error {
	if u.Update.Parent.IsZero() || u.From.IsZero() && u.Place.IsZero() {
		return nil
	}
	if u.From.IsZero() {
		return s.unmake(u)
	}
	if st, err := s.area.Lookup(u.Temp); err == nil && st.Identity == u.Displaced {
		at := u.Place
		if at.IsZero() {
			at = u.From
		}
		if err := s.putBack(u, u.Temp, at); err != nil {
			return err
		}
	}
	if u.Place.IsZero() && u.old.Type == repl.Directory {
		return s.remake(u)
	}
	if u.Place.IsZero() || u.Place == u.From {
		return nil
	}
	return s.moveBack(u)
}

// unpark puts an object that waits in installing/ between two places back to
// its old one, which those that took it have left by now.
func (s *settler) unpark(u *unsettled) error {
	name := u.Temp + install.ParkedSuffix
	if st, err := s.area.Lookup(name); err != nil || st.Identity != u.Displaced || u.From.IsZero() {
		return ignoreMissing(err)
	}
	return s.putBack(u, name, u.From)
}

// putBack moves an object from installing/ to its place, and what was brought
// in its stead away.
func (s *settler) putBack(u *unsettled, name string, at repl.Place) error {
	d, err := s.open(at)
	if err != nil {
		return ignoreMissing(err)
	}
	st, err := d.Lookup(at.Name)
	switch {
	case errors.Is(err, volume.ErrNotExist):
		if err = s.area.Rename(name, d, at.Name); errors.Is(err, volume.ErrExist) {
			err = nil
		}
	case err == nil && s.brought(u, &st, d, at.Name):
		if err = ignoreMissing(s.area.Exchange(name, d, at.Name)); err == nil {
			err = s.discard(u, name)
		}
	}
	return errors.Join(err, d.Close()) // if a user's object is there, the left-over is kept
}

// discard removes what an install brought from installing/. Anything else, a
// user's, is a left-over and kept.
func (s *settler) discard(u *unsettled, name string) error {
	st, err := s.area.Lookup(name)
	if err != nil || !s.brought(u, &st, s.area, name) {
		return ignoreMissing(err)
	}
	return s.area.Remove(name)
}

// brought reports whether what lies at a place is what the install brought, as
// it brought it.
func (s *settler) brought(u *unsettled, st *volume.Stat, d volume.Dir, name string) bool {
	switch {
	case st.Type != u.Update.Type:
		return false
	case !u.Identity.IsZero():
		return st.Identity == u.Identity && st.Print.SameData(u.Print)
	case st.Type == repl.Symlink && st.Identity != u.Displaced:
		target, err := d.ReadLink(name)
		known, kerr := s.env.Store.ByHandle(st.Identity.Handle)
		return err == nil && kerr == nil && len(known) == 0 && target == u.Update.Target
	}
	return false
}

// unmake takes a new object away again, if it is as it was brought.
func (s *settler) unmake(u *unsettled) error {
	d, err := s.open(u.Place)
	if err != nil {
		return ignoreMissing(err)
	}
	st, err := d.Lookup(u.Place.Name)
	switch {
	case err != nil:
		err = ignoreMissing(err)
	case st.Type == repl.Directory && u.Update.Type == repl.Directory:
		ours, nerr := s.nobodys(u.UID, st.Identity)
		if err = nerr; err == nil && ours {
			if err = ignoreMissing(d.Rmdir(u.Place.Name)); errors.Is(err, volume.ErrNotEmpty) {
				err = nil // a user has put something into it
			}
		}
	case s.brought(u, &st, d, u.Place.Name):
		err = ignoreMissing(d.Rename(u.Place.Name, s.area, u.Temp))
		if err == nil || errors.Is(err, volume.ErrExist) { // ours has not left installing/: a user made the same link there
			err = s.discard(u, u.Temp)
		}
	}
	return errors.Join(err, d.Close())
}

// moveBack moves an object from its new place to its old one.
func (s *settler) moveBack(u *unsettled) error {
	st, err := s.lookup(u.Place)
	if err != nil || st.Identity != u.Displaced {
		return ignoreMissing(err)
	}
	to, err := s.open(u.From)
	if err != nil {
		return ignoreMissing(err)
	}
	from, err := s.open(u.Place)
	if err == nil {
		if err = from.Rename(u.Place.Name, to, u.From.Name); errors.Is(err, volume.ErrExist) || errors.Is(err, volume.ErrIntoItself) {
			err = nil // a user took its old place, or moved that below it
		}
		err = errors.Join(ignoreMissing(err), from.Close()) // or has just taken it away
	}
	return errors.Join(ignoreMissing(err), to.Close())
}

// remake makes a directory again that was removed.
func (s *settler) remake(u *unsettled) error {
	d, err := s.open(u.From)
	if err != nil {
		return ignoreMissing(err)
	}
	err = d.Mkdir(u.From.Name)
	switch {
	case errors.Is(err, volume.ErrExist): // it was put back, or a user made one
		err = nil
	case err == nil:
		var st volume.Stat
		if st, _, err = d.SetMeta(u.From.Name, nil, u.old.Meta, u.old.Mtime); err == nil {
			rec := u.old
			rec.Identity, rec.Print = st.Identity, st.Print
			s.placed[u.UID] = st.Identity
			s.put.Writes = append(s.put.Writes, store.Write{Record: rec, Base: rec.GVSN})
		}
	}
	return errors.Join(ignoreMissing(err), d.Close()) // a user may remove it at once
}

func (s *settler) lookup(p repl.Place) (volume.Stat, error) {
	d, err := s.open(p)
	if err != nil {
		return volume.Stat{}, err
	}
	st, err := d.Lookup(p.Name)
	return st, errors.Join(err, d.Close())
}

// open opens a directory of the tree by its record, or where its handle leads
// if the batch had made or moved it.
func (s *settler) open(p repl.Place) (volume.Dir, error) {
	d, err := openPlace(s.env, p)
	if err == nil || ignoreMissing(err) != nil {
		return d, err
	}
	id, placed := s.placed[p.Dir]
	if !placed {
		_, known, ok, derr := s.env.directory(p.Dir)
		if derr != nil || !ok {
			return nil, errors.Join(err, derr)
		}
		id = known
	}
	path, rerr := s.env.Volume.Resolve(id)
	if rerr != nil {
		return nil, err
	}
	return s.env.Volume.OpenDir(path)
}

// openPlace opens the directory of a place by its record.
func openPlace(env *Env, p repl.Place) (volume.Dir, error) {
	path, id, ok, err := env.directory(p.Dir)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("directory %v: %w", p.Dir, volume.ErrNotExist)
	}
	d, err := env.Volume.OpenDir(path)
	if err != nil {
		return nil, err
	}
	if st, err := d.Stat(); err != nil || st.Identity != id {
		return nil, errors.Join(fmt.Errorf("directory %q: %w", path, volume.ErrNotExist), err, d.Close())
	}
	return d, nil
}

// ignoreMissing takes errors for none that say that an object is not, or no
// longer, at its place: nothing lies there, or something of another type.
func ignoreMissing(err error) error {
	for _, missing := range []error{volume.ErrNotExist, volume.ErrNotDir, volume.ErrNotFile, volume.ErrEscapes, volume.ErrStale} {
		if errors.Is(err, missing) {
			return nil
		}
	}
	return err
}
