package store

import (
	"errors"

	"opendfs/internal/repl"
)

// Dead looks at up to rows records after a UID (zero: from the first one) and
// calls fn with those that are tombstones. next is where to go on, zero at the
// end. Records may be written while fn runs.
func (f *Folder) Dead(above repl.UID, rows int, fn func(rec *repl.Record)) (next repl.UID, err error) {
	prefix := f.keys.table(nil, tableRecord)
	c := f.kv.Scan(prefix, after(prefix))
	defer func() { err = errors.Join(err, c.Close()) }()
	more := false
	if r, ok := f.ref(above); ok && !above.IsZero() {
		r.version++
		more = c.Seek(f.keys.ref(nil, tableRecord, r))
	} else {
		more = c.Next()
	}
	for ; more; more = c.Next() {
		if rows--; rows < 0 {
			return next, nil
		}
		r, err := decodeWholeRef(c.Key()[len(prefix):])
		if err != nil {
			return next, corrupt("record key: %v", err)
		}
		if next, err = f.uid(r); err != nil {
			return next, err
		}
		flags, _, err := peekRecord(c.Value())
		if err != nil {
			return next, corrupt("record %v: %v", next, err)
		}
		if flags&flagPresent != 0 {
			continue
		}
		rec, err := f.decode(c.Value(), next)
		if err != nil {
			return next, err
		}
		fn(&rec)
	}
	return repl.UID{}, nil
}

// Referred reports whether an index still names a directory: something lives in
// it, tombstones of its names are found again, or another one was merged into it.
func (f *Folder) Referred(dir repl.UID) (bool, error) {
	r, ok := f.ref(dir)
	if !ok {
		return false, nil
	}
	for _, table := range []byte{tableName, tableGrave, tableAlias} {
		prefix := f.keys.ref(nil, table, r)
		c := f.kv.Scan(prefix, after(prefix))
		found := c.Next()
		if err := c.Close(); err != nil || found {
			return found, err
		}
	}
	return false, nil
}
