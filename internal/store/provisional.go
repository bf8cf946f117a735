package store

import (
	"errors"

	"opendfs/internal/repl"
)

// Provisional returns up to limit records that are provisional, dead ones too,
// in no order: what the end of an initial sync drops (rule 13).
func (f *Folder) Provisional(limit int) ([]repl.UID, error) {
	if f.Counts().Provisional == 0 {
		return nil, nil // spares reading every record to find none
	}
	return f.flagged(flagProvisional, limit)
}

// Carried returns up to limit records whose metadata this disk shows only in
// part, in no order.
func (f *Folder) Carried(limit int) ([]repl.UID, error) {
	if f.Counts().Carried == 0 {
		return nil, nil
	}
	return f.flagged(flagShown, limit)
}

// flagged returns up to limit records whose value has a flag.
func (f *Folder) flagged(flag uint32, limit int) (uids []repl.UID, err error) {
	prefix := f.keys.table(nil, tableRecord)
	c := f.kv.Scan(prefix, after(prefix))
	defer func() { err = errors.Join(err, c.Close()) }()
	for len(uids) < limit && c.Next() {
		flags, _, err := peekRecord(c.Value())
		if err != nil {
			return nil, corrupt("record row: %v", err)
		}
		if flags&flag == 0 {
			continue
		}
		r, err := decodeWholeRef(c.Key()[len(prefix):])
		if err != nil {
			return nil, corrupt("record key: %v", err)
		}
		uid, err := f.uid(r)
		if err != nil {
			return nil, err
		}
		uids = append(uids, uid)
	}
	return uids, nil
}
