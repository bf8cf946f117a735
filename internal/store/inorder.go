package store

import (
	"errors"
	"slices"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// InOrder calls fn with the records of the view above a UID (zero: from the first
// one), in the order of UIDs, which is the same on every member, until fn returns
// false. Provisional ones, which nobody else knows, are left out. The record is fn's
// only during the call.
func (s *Snapshot) InOrder(above repl.UID, fn func(rec *repl.Record) (more bool)) error {
	names := s.s.names.Load()
	of := slices.DeleteFunc(slices.Clone(names.originators), version.Originator.IsZero)
	slices.SortFunc(of, version.Originator.Compare)
	for _, o := range of {
		from := version.GVSN{Originator: o}
		switch c := o.Compare(above.Originator); {
		case c < 0:
			continue
		case c == 0:
			from.Version = above.Version
		}
		if more, err := s.inOrderOf(names, from, fn); err != nil || !more {
			return err
		}
	}
	return nil
}

// inOrderOf does so for the objects of one originator.
func (s *Snapshot) inOrderOf(names *names, from version.GVSN, fn func(rec *repl.Record) bool) (more bool, err error) {
	r, _ := names.ref(from)
	c := s.scanOriginator(tableRecord, r.originator)
	defer func() { err = errors.Join(err, c.Close()) }()
	r.version++
	for ok := c.Seek(s.keys.ref(nil, tableRecord, r)); ok; ok = c.Next() {
		at, err := decodeWholeRef(c.Key()[len(s.keys.prefix)+1:])
		if err != nil {
			return false, corrupt("record key: %v", err)
		}
		flags, _, err := peekRecord(c.Value())
		if err != nil {
			return false, corrupt("record %v-v%d: %v", from.Originator, at.version, err)
		}
		if flags&flagProvisional != 0 {
			continue
		}
		rec, err := s.decode(c.Value(), repl.UID{Originator: from.Originator, Version: at.version})
		if err != nil {
			return false, err
		}
		if !fn(&rec) {
			return false, nil
		}
	}
	return true, nil
}
