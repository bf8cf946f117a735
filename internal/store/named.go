package store

import (
	"bytes"
	"errors"
	"slices"

	"opendfs/internal/repl"
)

const (
	namedFew  = 8   // names below which cursors do not pay
	namedPage = 256 // names that are read before fn is called for them
)

// Named implements Reader.
func (v *view) Named(dir repl.UID, names []string, fn func(i int, rec *repl.Record) error) error {
	d, known := v.ref(dir)
	recs := make([]*repl.Record, min(len(names), namedPage))
	for first := 0; first < len(names); first += namedPage {
		page := names[first:min(first+namedPage, len(names))]
		var err error
		if !known || len(page) < namedFew || v.merged.Load() != 0 {
			err = v.oneByOne(dir, page, recs)
		} else {
			err = v.together(d, page, recs)
		}
		for i := 0; i < len(page) && err == nil; i++ {
			err = fn(first+i, recs[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *view) oneByOne(dir repl.UID, names []string, recs []*repl.Record) error {
	for i, name := range names {
		rec, ok, err := v.At(dir, name)
		if err != nil {
			return err
		}
		if recs[i] = nil; ok {
			recs[i] = &rec
		}
	}
	return nil
}

// together reads names with one cursor and their records with another: a seek
// to what lies near costs a part of a look-up.
func (v *view) together(dir ref, names []string, recs []*repl.Record) (err error) {
	prefix, form := v.placeRows(dir)
	all := v.keys.table(nil, tableRecord)
	list := childList{view: v}
	if v.recent != nil {
		list.since = v.recent.ended()
	}
	rows := v.kv.Scan(prefix, after(prefix))
	list.records = v.kv.Scan(all, after(all))
	defer func() { err = errors.Join(err, rows.Close(), list.close()) }()
	var key []byte
	for i, name := range names {
		recs[i] = nil
		key = append(append(key[:0], prefix...), form(name)...)
		if !rows.Seek(key) || !bytes.Equal(rows.Key(), key) {
			continue
		}
		r, err := decodeWholeRef(rows.Value())
		if err != nil {
			return err
		}
		rec, err := list.lately(r)
		if err != nil {
			return err
		}
		if rec != nil && rec.Present && form(rec.Name) == form(name) {
			if parent, known := v.ref(rec.Parent); known && parent == dir {
				recs[i] = rec
				continue
			}
		}
		if !v.live {
			return corrupt("name row %x names no such record", key)
		}
		uid, err := v.uid(dir)
		if err != nil {
			return err
		}
		now, ok, err := v.At(uid, name) // a Put came between
		if err != nil {
			return err
		}
		if ok {
			recs[i] = &now
		}
	}
	return nil
}

// lately returns a record that was used lately, else by the cursor; nil if there
// is none. Nobody changes it: others have the same.
func (l *childList) lately(r ref) (*repl.Record, error) {
	if l.recent != nil {
		if rec, _ := l.recent.get(r); rec != nil {
			return rec, nil
		}
	}
	rec, ok, err := l.record(l.keys.ref(nil, tableRecord, r), r)
	if err != nil || !ok {
		return nil, err
	}
	rec.History = slices.Clip(rec.History)
	if l.recent != nil {
		l.recent.put(r, &rec, l.since)
	}
	return &rec, nil
}
