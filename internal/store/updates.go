package store

import (
	"bytes"
	"errors"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// pageBytes bounds the metadata, names and targets of one page of updates.
const pageBytes = 4 << 20

// Updates implements Reader.
func (v *view) Updates(want version.Vector, after version.GVSN, limit int) (updates []repl.Update, next version.GVSN, more bool, err error) {
	next = after
	limit = max(limit, 1)
	size := 0
	rows := recordRow{view: v}
	defer func() { err = errors.Join(err, rows.close()) }()
	err = v.eachVersion(want, after, func(h *hit) (bool, error) {
		if len(updates) >= limit || size >= pageBytes {
			more = true
			return false, nil
		}
		value := h.value
		if value == nil {
			var ok bool
			var err error
			value, ok, err = rows.get(h.uid)
			if err != nil {
				return false, err
			}
			if !ok && !v.live {
				return false, corrupt("version row %v names no record", h.gvsn)
			}
			if !ok {
				return true, nil
			}
		}
		uid, err := v.uid(h.uid)
		if err != nil {
			return false, err
		}
		rec, err := v.decode(value, uid)
		if err != nil {
			return false, err
		}
		if rec.GVSN != h.gvsn || rec.Provisional {
			if v.live {
				return true, nil // superseded since the row was read
			}
			return false, corrupt("version row %v names %v", h.gvsn, rec.GVSN)
		}
		updates = append(updates, rec.Update)
		next = rec.GVSN
		size += len(rec.Meta) + len(rec.Name) + len(rec.Target)
		return true, nil
	})
	return updates, next, more, err
}

// recordRow reads record rows one after another, of a snapshot by a cursor: versions
// that follow each other are mostly of neighbours. Of a live folder each is read as it
// is now.
type recordRow struct {
	*view
	c   Cursor
	key []byte
}

// get returns the value of a record's row. It holds until the next call.
func (r *recordRow) get(uid ref) (value []byte, ok bool, err error) {
	r.key = r.keys.ref(r.key[:0], tableRecord, uid)
	if r.live {
		return r.kv.Get(r.key)
	}
	if r.c == nil {
		all := r.keys.table(nil, tableRecord)
		r.c = r.kv.Scan(all, after(all))
	}
	if !r.c.Seek(r.key) || !bytes.Equal(r.c.Key(), r.key) {
		err := r.close() // no row, or the cursor's error
		r.c = nil
		return nil, false, err
	}
	return r.c.Value(), true, nil
}

func (r *recordRow) close() error {
	if r.c == nil {
		return nil
	}
	return r.c.Close()
}

// Count implements Reader.
func (v *view) Count(want version.Vector) (updates int, bytes int64, err error) {
	err = v.eachVersion(want, version.GVSN{}, func(h *hit) (bool, error) {
		updates++
		bytes += h.size
		return true, nil
	})
	return updates, bytes, err
}

// hit is a current version: its object, the bytes of a live file, and the
// record's value where the row that was found is the record itself.
type hit struct {
	gvsn  version.GVSN
	uid   ref
	size  int64
	value []byte
}

// eachVersion calls fn for every version in want above after that a record
// which is not provisional has now, in order, until fn returns false.
func (v *view) eachVersion(want version.Vector, above version.GVSN, fn func(*hit) (bool, error)) error {
	for _, o := range want.Originators() {
		first, known := v.s.names.Load().ref(version.GVSN{Originator: o})
		low := uint64(0)
		switch c := o.Compare(above.Originator); {
		case !known || c < 0:
			continue
		case c == 0:
			low = above.Version
		}
		more, err := v.eachOf(o, first.originator, want[o], low, fn)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// eachOf does so for one originator, which has number n.
func (v *view) eachOf(o version.Originator, n uint64, intervals []version.Interval, low uint64, fn func(*hit) (bool, error)) (more bool, err error) {
	m := versionMerge{v: v, o: o, n: n}
	m.records = v.scanOriginator(tableRecord, n)
	m.versions = v.scanOriginator(tableVersion, n)
	defer func() { err = errors.Join(err, m.records.Close(), m.versions.Close()) }()
	for _, iv := range intervals {
		iv.Low = max(iv.Low, low)
		if iv.Low >= iv.High {
			continue
		}
		if err := m.seek(iv); err != nil {
			return false, err
		}
		for {
			h, err := m.next()
			if err != nil {
				return false, err
			}
			if h == nil {
				break
			}
			if more, err := fn(h); err != nil || !more {
				return false, err
			}
		}
	}
	return true, nil
}

func (v *view) scanOriginator(table byte, n uint64) Cursor {
	prefix := appendOrdered(v.keys.table(nil, table), n)
	return v.kv.Scan(prefix, after(prefix))
}

// versionMerge merges the records whose GVSN is their UID with the version
// rows of the others.
type versionMerge struct {
	v        *view
	o        version.Originator
	n        uint64
	high     uint64
	records  Cursor
	versions Cursor
	record   *hit // the next of each, nil at the end of the interval
	version  *hit
	took     *hit // the one that next returned
	store    [2]hit
}

func (m *versionMerge) seek(iv version.Interval) error {
	m.high, m.took = iv.High, nil
	low := ref{m.n, iv.Low + 1}
	if err := m.readRecord(m.records.Seek(m.v.keys.ref(nil, tableRecord, low))); err != nil {
		return err
	}
	return m.readVersion(m.versions.Seek(m.v.keys.ref(nil, tableVersion, low)))
}

// next returns the lowest hit, nil at the end. It holds until the next call.
func (m *versionMerge) next() (*hit, error) {
	var err error
	switch {
	case m.took == nil:
	case m.took == m.record:
		err = m.readRecord(m.records.Next())
	default:
		err = m.readVersion(m.versions.Next())
	}
	m.took = m.record
	if m.record == nil || m.version != nil && m.version.gvsn.Version < m.record.gvsn.Version {
		m.took = m.version
	}
	return m.took, err
}

// at returns the version in a cursor's key, false beyond the interval.
func (m *versionMerge) at(c Cursor, table byte) (uint64, bool, error) {
	key := c.Key()
	r, err := decodeWholeRef(key[len(m.v.keys.prefix)+1:])
	if err != nil {
		return 0, false, err
	}
	return r.version, r.version <= m.high, nil
}

// readRecord finds the next record whose GVSN is its UID, ok being whether the
// cursor stands on a row.
func (m *versionMerge) readRecord(ok bool) error {
	m.record = nil
	for ; ok; ok = m.records.Next() {
		n, inside, err := m.at(m.records, tableRecord)
		if err != nil || !inside {
			return err
		}
		flags, size, err := peekRecord(m.records.Value())
		if err != nil {
			return corrupt("record of %v-v%d: %v", m.o, n, err)
		}
		if flags&(flagGVSN|flagProvisional) != 0 {
			continue
		}
		if flags&flagPresent == 0 || flags&flagType != uint32(repl.File) {
			size = 0
		}
		m.store[0] = hit{version.GVSN{Originator: m.o, Version: n}, ref{m.n, n}, size, m.records.Value()}
		m.record = &m.store[0]
		return nil
	}
	return nil
}

func (m *versionMerge) readVersion(ok bool) error {
	m.version = nil
	if !ok {
		return nil
	}
	n, inside, err := m.at(m.versions, tableVersion)
	if err != nil || !inside {
		return err
	}
	d := decoder{b: m.versions.Value()}
	h := hit{gvsn: version.GVSN{Originator: m.o, Version: n}, uid: d.ref(), size: int64(d.uvarint())}
	if err := d.end(); err != nil {
		return corrupt("version row of %v: %v", h.gvsn, err)
	}
	m.store[1] = h
	m.version = &m.store[1]
	return nil
}
