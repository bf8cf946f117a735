package store

import (
	"bytes"
	"encoding/binary"
	"slices"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// recordRows are the keys of the index rows that a record has; nil where it
// has none.
type recordRows struct {
	name    []byte
	folded  []byte // where the folder folds names
	handle  []byte
	content []byte
	alias   []byte
	version []byte
	size    int64 // in the version row
}

func indexedByHandle(r *repl.Record) bool {
	return r.Present && r.Presence == repl.OnDisk && r.Identity.Handle != ""
}

func indexedByContent(r *repl.Record) bool {
	return r.Present && r.Presence == repl.OnDisk && r.Type == repl.File &&
		r.Size >= contentSize && !r.Content.IsZero()
}

const (
	knownDirs  = 1 << 14 // bound of Folder.dirs
	knownBlobs = 1 << 14 // bound of Folder.blobs
)

// arena returns fresh key bytes made by add.
func (p *put) arena(add func(dst []byte) []byte) []byte {
	start := len(p.rows)
	p.rows = add(p.rows)
	return p.rows[start:len(p.rows):len(p.rows)]
}

// makeRows computes the index rows of every item, before and after.
func (p *put) makeRows() {
	for i := range p.items {
		it := &p.items[i]
		if it.old != nil && it.now != nil && sameRows(it.old, it.now) {
			it.oldRows, it.nowRows = p.versionRow(it.old), p.versionRow(it.now)
			continue
		}
		if it.old != nil {
			it.oldRows = p.rowsOf(it.old, it.uid)
		}
		if it.now != nil {
			it.nowRows = p.rowsOf(it.now, it.uid)
		}
	}
}

// sameRows reports whether two records of an object have the same index rows, but for
// those of their versions.
func sameRows(a, b *repl.Record) bool {
	return a.Parent == b.Parent && a.Name == b.Name && a.Present == b.Present && a.Type == b.Type && a.Presence == b.Presence &&
		a.Identity.Handle == b.Identity.Handle && a.Content == b.Content && a.Size == b.Size && a.Heir == b.Heir
}

// number is g's form in keys. An error comes back when the record is encoded.
func (p *put) number(g version.GVSN) ref {
	n, _ := p.f.s.number(g)
	return n
}

// versionRow is the row of a record's version alone.
func (p *put) versionRow(r *repl.Record) (rows recordRows) {
	if !r.Provisional && r.GVSN != version.GVSN(r.UID) {
		rows.version = p.arena(func(b []byte) []byte { return p.f.keys.ref(b, tableVersion, p.number(r.GVSN)) })
		if r.Present && r.Type == repl.File {
			rows.size = r.Size
		}
	}
	return rows
}

func (p *put) rowsOf(r *repl.Record, uid ref) recordRows {
	k, rows, number := p.f.keys, p.versionRow(r), p.number
	if r.Present && !r.Parent.IsZero() {
		rows.name = p.arena(func(b []byte) []byte { return k.name(b, number(version.GVSN(r.Parent)), r.Name) })
		if p.f.folds.Load() {
			rows.folded = p.arena(func(b []byte) []byte { return k.folded(b, number(version.GVSN(r.Parent)), r.Name) })
		}
	}
	if indexedByHandle(r) {
		rows.handle = p.arena(func(b []byte) []byte { return uid.append(k.handle(b, r.Identity.Handle)) })
	}
	if indexedByContent(r) {
		rows.content = p.arena(func(b []byte) []byte { return uid.append(k.content(b, r.Content)) })
	}
	if !r.Heir.IsZero() {
		rows.alias = p.arena(func(b []byte) []byte {
			return uid.append(k.ref(b, tableAlias, number(version.GVSN(r.Heir))))
		})
	}
	return rows
}

// clearRows deletes the rows that an item had and will not have.
func (p *put) clearRows(it *item) {
	drop := func(was, is []byte) {
		if was != nil && !bytes.Equal(was, is) {
			p.ops.Delete(was)
		}
	}
	old, now := &it.oldRows, &it.nowRows
	drop(old.name, now.name)
	drop(old.folded, now.folded)
	drop(old.handle, now.handle)
	drop(old.content, now.content)
	drop(old.alias, now.alias)
	drop(old.version, now.version)
	free := func(was, is []byte) {
		if was != nil && !bytes.Equal(was, is) {
			p.freed[string(was)] = struct{}{}
		}
	}
	free(old.name, now.name)
	free(old.folded, now.folded)
	if it.old != nil {
		p.counts.add(it.old, -1)
	}
	if it.now == nil {
		p.key = p.f.keys.ref(p.key[:0], tableRecord, it.uid)
		p.ops.Delete(p.key)
		delete(p.f.dirs, it.uid)
	}
}

// admit asserts what holds of an item beside the others, and counts it in.
func (p *put) admit(it *item) error {
	if it.now == nil {
		return nil
	}
	r := it.now
	if r.Present && !r.Parent.IsZero() {
		if err := p.checkParent(r); err != nil {
			return err
		}
	}
	if err := p.claim(it, it.oldRows.name, it.nowRows.name); err != nil {
		return err
	}
	if err := p.claim(it, it.oldRows.folded, it.nowRows.folded); err != nil {
		return err
	}
	p.counts.add(r, 1)
	p.rise(version.GVSN(r.UID))
	p.rise(r.GVSN)
	if !r.Provisional && (it.old == nil || it.old.Provisional || it.old.GVSN != r.GVSN) {
		p.own(r.GVSN.Originator)
		p.vector.Add(r.GVSN)
	}
	return nil
}

// setRows writes the items' records and the rows that they did not have, table
// by table: neighbours in a table are mostly neighbours in the batch, and the
// database finds the place of a key quickly from its neighbour's.
func (p *put) setRows() error {
	for i := range p.items {
		if err := p.setRecord(&p.items[i]); err != nil {
			return err
		}
	}
	place := func(key func(*recordRows) []byte) {
		for i := range p.items {
			it := &p.items[i]
			if is := key(&it.nowRows); is != nil && !bytes.Equal(key(&it.oldRows), is) {
				p.value = it.uid.append(p.value[:0])
				p.ops.Set(is, p.value)
			}
		}
	}
	place(func(r *recordRows) []byte { return r.name })
	place(func(r *recordRows) []byte { return r.folded })
	add := func(key func(*recordRows) []byte) {
		for i := range p.items {
			it := &p.items[i]
			if is := key(&it.nowRows); is != nil && !bytes.Equal(key(&it.oldRows), is) {
				p.ops.Set(is, nil)
			}
		}
	}
	add(func(r *recordRows) []byte { return r.handle })
	add(func(r *recordRows) []byte { return r.content })
	add(func(r *recordRows) []byte { return r.alias })
	for i := range p.items {
		it := &p.items[i]
		old, now := &it.oldRows, &it.nowRows
		if now.version != nil && (old.size != now.size || !bytes.Equal(old.version, now.version)) {
			p.value = binary.AppendUvarint(it.uid.append(p.value[:0]), uint64(now.size))
			p.ops.Set(now.version, p.value)
		}
	}
	return nil
}

func (p *put) setRecord(it *item) error {
	if it.now == nil {
		return nil
	}
	var hash metaHash
	if len(it.now.Meta) > inlineMeta {
		hash = p.hash(it.now.Meta)
		if _, known := p.f.blobs[hash]; !known {
			p.blobs = append(p.blobs, hash)
			p.key = p.f.keys.meta(p.key[:0], hash)
			p.ops.Set(p.key, it.now.Meta)
		}
	}
	n := numbering{number: p.f.s.number}
	p.key = p.f.keys.ref(p.key[:0], tableRecord, it.uid)
	p.value = appendRecord(p.value[:0], it.now, &n, hash, false)
	p.ops.Set(p.key, p.value)
	return n.err
}

// checkParent asserts that a live record's parent is a directory with a record.
func (p *put) checkParent(r *repl.Record) error {
	if i, ok := p.at[r.Parent]; ok {
		if parent := p.items[i].now; parent == nil || parent.Type != repl.Directory {
			return broken("record %v lies in %v, which is removed or no directory", r.UID, r.Parent)
		}
		return nil
	}
	parent, err := p.f.s.numberUID(r.Parent)
	if err != nil {
		return err
	}
	if _, known := p.f.dirs[parent]; known {
		return nil
	}
	p.key = p.f.keys.ref(p.key[:0], tableRecord, parent)
	value, ok, err := p.f.kv.Get(p.key)
	if err != nil {
		return err
	}
	flags := uint32(0)
	if ok {
		if flags, _, err = peekRecord(value); err != nil {
			return corrupt("record %v: %v", r.Parent, err)
		}
	}
	if flags&flagType != uint32(repl.Directory) {
		return broken("record %v lies in %v, which has no record or is no directory", r.UID, r.Parent)
	}
	if len(p.f.dirs) >= knownDirs {
		clear(p.f.dirs)
	}
	p.f.dirs[parent] = struct{}{}
	return nil
}

// claim asserts that a place is free for an item that comes to it: one live
// object has it, in the batch and in the database. A parent that is new has no
// children yet.
func (p *put) claim(it *item, was, key []byte) error {
	if key == nil || bytes.Equal(was, key) {
		return nil
	}
	if _, taken := p.claimed[string(key)]; taken {
		return broken("two objects at %v/%q in one batch, %v is one", it.now.Parent, it.now.Name, it.now.UID)
	}
	p.claimed[string(key)] = struct{}{}
	if _, freed := p.freed[string(key)]; freed || it.now.Parent.Version > p.f.tops[it.now.Parent.Originator] {
		return nil
	}
	value, ok, err := p.f.kv.Get(key)
	if err != nil || !ok {
		return err
	}
	holder, err := decodeWholeRef(value)
	if err != nil {
		return err
	}
	uid, err := p.f.uid(holder)
	if err != nil {
		return err
	}
	return broken("%v/%q is the place of %v and would be taken by %v", it.now.Parent, it.now.Name, uid, it.now.UID)
}

// checkOrphans asserts that a directory that goes leaves no child behind.
func (p *put) checkOrphans() error {
	for i := range p.items {
		it := &p.items[i]
		if it.now != nil || it.old.Type != repl.Directory {
			continue
		}
		prefix := p.f.keys.ref(nil, tableName, it.uid)
		c := p.f.kv.Scan(prefix, after(prefix))
		var bad error
		for bad == nil && c.Next() {
			if _, freed := p.freed[string(c.Key())]; !freed {
				bad = broken("directory %v is removed before its child %q", it.old.UID, c.Key()[len(prefix):])
			}
		}
		if err := c.Close(); err != nil {
			return err
		}
		if bad != nil {
			return bad
		}
	}
	return nil
}

// rise notes that g is used.
func (p *put) rise(g version.GVSN) {
	if g.Version > p.f.tops[g.Originator] && g.Version > p.tops[g.Originator] {
		p.tops[g.Originator] = g.Version
	}
}

// own makes an originator's intervals the batch's, to be changed.
func (p *put) own(o version.Originator) {
	if _, ok := p.vector[o]; !ok {
		p.vector[o] = slices.Clone(p.f.vector[o])
	}
}

// stageFolder writes the rows of the folder as a whole.
func (p *put) stageFolder(b *Batch) error {
	for o, s := range b.Join {
		if len(s) == 0 {
			continue
		}
		p.own(o)
		p.vector[o] = version.Vector{o: p.vector[o]}.Union(version.Vector{o: s})[o]
	}
	if len(b.Floor) > 0 {
		if p.floor == nil {
			p.floor = p.f.floor
		}
		p.floor = p.floor.Union(b.Floor)
	}
	k := p.f.keys
	if p.floor != nil {
		p.ops.Set(k.table(nil, tableFloor), p.floor.Append(nil))
	}
	if p.counts != p.f.counts {
		p.value = appendCounts(p.value[:0], p.counts)
		p.ops.Set(k.table(nil, tableCounts), p.value)
	}
	if b.State != nil {
		if b.State.Originator.IsZero() || b.State.Phase >= phases {
			return broken("state %+v has no originator or an unknown phase", *b.State)
		}
		s := *b.State
		s.Past, s.Folds = slices.Clone(s.Past), p.f.state.Folds // only Fold changes that
		p.state = &s
		p.ops.Set(k.table(nil, tableState), appendState(nil, &s))
	}
	return p.stageKnown()
}

// stageKnown writes the vector rows of the originators that changed, in their
// order: the same batch makes the same bytes.
func (p *put) stageKnown() error {
	changed := p.vector.Originators()
	for o := range p.tops {
		if _, ok := p.vector[o]; !ok {
			changed = append(changed, o)
		}
	}
	slices.SortFunc(changed, version.Originator.Compare)
	for _, o := range changed {
		intervals, ok := p.vector[o]
		top := max(p.tops[o], p.f.tops[o])
		if !ok {
			intervals = p.f.vector[o]
		} else if p.tops[o] == 0 && slices.Equal(intervals, p.f.vector[o]) {
			delete(p.vector, o)
			continue
		}
		n, err := p.f.s.number(version.GVSN{Originator: o})
		if err != nil {
			return err
		}
		p.key = p.f.keys.known(p.key[:0], n.originator)
		p.value = appendKnown(p.value[:0], known{top, intervals})
		p.ops.Set(p.key, p.value)
	}
	return nil
}
