package engine

import (
	"errors"
	"fmt"
	"path"

	"opendfs/internal/install"
	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// lone tells an install what is in the tree for this member alone: what a filter
// keeps out, sockets, pipes and devices, and names beside another spelling that is
// on record. It has no record, and nobody else knows of it.
type lone struct {
	env *Env
	cfg *Config
}

// record returns the record on this disk whose name folds to that of an entry
// and is another one.
func (s lone) record(dir repl.UID, name string) (repl.Record, bool, error) {
	dir, err := s.env.Store.Canonical(dir)
	if err != nil {
		return repl.Record{}, false, err
	}
	rec, ok, err := s.env.Store.At(dir, name)
	return rec, ok && rec.Name != name && (rec.Presence == repl.OnDisk || rec.Presence == repl.Obscured), err
}

// replicates reports whether an entry that no record knows would replicate.
func (s lone) replicates(dir repl.UID, e volume.Entry) bool {
	if s.keptOut(e.Name, e.Type) {
		return false
	}
	_, second, err := s.record(dir, e.Name)
	return err != nil || !second
}

func (s lone) keptOut(name string, t repl.Type) bool {
	return t == repl.Other || s.cfg.Filter.Match(name, t == repl.Directory)
}

// clear keeps what lies where a partner's object is to lie, if it is there for
// this member alone: nobody would ever make room otherwise.
func (s lone) clear(d volume.Dir, dir repl.UID, c *repl.Change, gone func(repl.UID) bool) (bool, error) {
	st, err := d.Lookup(c.To.Name)
	if err != nil {
		return false, ignoreMissing(err)
	}
	if !s.keptOut(c.To.Name, st.Type) {
		if second, err := s.second(d, dir, c, &st, gone); err != nil || !second {
			return false, err
		}
	}
	if holds, err := volume.HoldsRoot(d, c.To.Name); err != nil || holds {
		if holds {
			err = fmt.Errorf("%w: %q", install.ErrNested, c.To.Name)
		}
		return false, err
	}
	at, err := s.env.Store.Path(dir)
	if err != nil {
		return false, err
	}
	_, err = s.env.Keep.Keep(d, c.To.Name, preserve.Entry{
		Why: preserve.Conflict, At: s.env.Now(), Path: path.Join(at, c.To.Name), Winner: c.Update.GVSN,
		Record: repl.Update{Parent: dir, Name: c.To.Name, Type: st.Type},
	})
	return err == nil, err
}

// second reports whether what lies where a change's object is to lie lies there
// beside another spelling of the name that is on record.
func (s lone) second(d volume.Dir, dir repl.UID, c *repl.Change, st *volume.Stat, gone func(repl.UID) bool) (bool, error) {
	rec, is, err := s.record(dir, c.To.Name)
	if rec.UID == c.Object.UID { // of a read-only member its users may have made another of it
		rec.Identity = c.Object.Identity
	}
	if err != nil || !is || gone(rec.UID) { // what was taken may have been a user's, in the place of the one that he respelt
		return is, err
	}
	own, err := d.Lookup(rec.Name)
	// Where the record's object is not there, a user may have respelt it.
	return st.Identity != rec.Identity && err == nil && own.Identity == rec.Identity, nil
}

// lookDecides reports whether what replicates lies at a record's place, or may,
// because nobody can say.
func (s lone) lookDecides(rec *repl.Record) bool {
	d, err := openPlace(s.env, repl.Place{Dir: rec.Parent, Name: rec.Name})
	if err != nil {
		return ignoreMissing(err) != nil
	}
	defer func() { _ = d.Close() }() // it was only read
	st, err := d.Lookup(rec.Name)
	return !errors.Is(err, volume.ErrNotExist) && (err != nil || !s.keptOut(rec.Name, st.Type))
}
