package store

import (
	"bytes"
	"fmt"
	"slices"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// Write replaces one record. Base is the GVSN of the record that it replaces,
// zero if there must be none. A record whose GVSN equals Base changes what this
// member knows of its disk (presence, provisional, unclean, identity, print)
// and nothing else.
type Write struct {
	Record repl.Record
	Base   version.GVSN
}

// Batch is one step: all of it happens or nothing.
type Batch struct {
	Writes []Write
	// Drop removes provisional records altogether; unknown ones are ignored.
	Drop []repl.UID
	// Collect removes tombstones that are old and known to all (rule 25); the
	// GVSNs of those that Floor does not hold join the GC floor. Unknown ones are
	// ignored.
	Collect []repl.UID
	// Join is added to the vector. The GVSN of every record written that is not
	// provisional is added by itself.
	Join version.Vector
	// Floor is added to the GC floor: what is collected with it, or a partner's
	// at the end of an initial sync.
	Floor        version.Vector
	AddIntents   []Intent
	ClearIntents []repl.UID // before AddIntents
	// NoIntents clears all there are, before AddIntents: one row of the database in
	// place of one for each.
	NoIntents bool
	State     *State
	// NoSync lets Put return before the batch is durable. A later synced batch,
	// or a Snapshot, makes it so.
	NoSync bool
}

// MovedError refuses a batch because records are no longer what its writer saw:
// the verdict must be made again (rule 16).
type MovedError struct{ UIDs []repl.UID }

// Error names the records.
func (e *MovedError) Error() string {
	return fmt.Sprintf("put records: %v moved on meanwhile", e.UIDs)
}

// InvariantError refuses a batch that would break what always holds. It is a
// defect of the program; the folder must stop with it as evidence.
type InvariantError struct{ Text string }

// Error says what would have been broken.
func (e *InvariantError) Error() string { return "put records: broken invariant: " + e.Text }

func broken(format string, args ...any) error {
	return &InvariantError{fmt.Sprintf(format, args...)}
}

// Put carries out b and returns when it is durable. A *MovedError and an
// *InvariantError change nothing; any other error means that the database is
// at its end and nothing is known of the batch.
func (f *Folder) Put(b *Batch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dropped {
		return fmt.Errorf("put records of folder %v: they were dropped", f.id)
	}
	p := f.begin()
	if err := p.stage(b); err != nil {
		return err
	}
	if p.ops.Len() == 0 && b.NoSync {
		return nil
	}
	if err := f.s.apply(&p.ops, !b.NoSync, func() { f.commit(p) }); err != nil {
		return fmt.Errorf("put records of folder %v: %w", f.id, err)
	}
	return nil
}

// put is a batch being staged. Its maps and buffers are used again.
type put struct {
	f       *Folder
	ops     Ops
	items   []item
	at      map[repl.UID]int          // items by UID
	gvsns   map[version.GVSN]repl.UID // new ones, to find doubles
	freed   map[string]struct{}       // name rows that go
	claimed map[string]struct{}       // name rows that come
	graves  map[string][]ref          // rows of tombstones that change
	rows    []byte                    // arena of keys
	key     []byte
	value   []byte
	lastRaw []byte // the metadata hashed last, and its name
	last    metaHash
	blobs   []metaHash // those that get a row

	tops   map[version.Originator]uint64 // those that rose
	vector version.Vector                // all of every originator that changed
	counts Counts
	floor  version.Vector // nil if it did not change
	state  *State
	moved  []repl.UID
}

// item is one record that changes: now nil is one that goes, old nil one that
// comes.
type item struct {
	uid      ref
	now, old *repl.Record
	oldHash  metaHash // of the old one's metadata, where they were not read
	oldRows  recordRows
	nowRows  recordRows
}

func (f *Folder) begin() *put {
	p := &f.scratch
	p.f = f
	if p.at == nil {
		p.at = make(map[repl.UID]int)
		p.gvsns = make(map[version.GVSN]repl.UID)
		p.freed = make(map[string]struct{})
		p.claimed = make(map[string]struct{})
		p.graves = make(map[string][]ref)
		p.tops = make(map[version.Originator]uint64)
		p.vector = make(version.Vector)
	}
	clear(p.at)
	clear(p.gvsns)
	clear(p.freed)
	clear(p.claimed)
	clear(p.graves)
	clear(p.tops)
	clear(p.vector)
	clear(p.items)
	p.ops.Reset()
	p.items, p.rows, p.blobs, p.moved = p.items[:0], p.rows[:0], p.blobs[:0], nil
	p.lastRaw, p.state, p.floor = nil, nil, nil
	p.counts = f.counts
	return p
}

// stage checks b against what is stored and fills ops and what becomes of the
// folder's memory.
func (p *put) stage(b *Batch) error {
	for i := range b.Writes {
		if err := p.addWrite(&b.Writes[i]); err != nil {
			return err
		}
	}
	if err := p.addRemovals(b); err != nil {
		return err
	}
	if len(p.moved) > 0 {
		return &MovedError{p.moved}
	}
	p.makeRows()
	for i := range p.items {
		p.clearRows(&p.items[i])
	}
	for i := range p.items {
		if err := p.admit(&p.items[i]); err != nil {
			return err
		}
	}
	if err := p.setRows(); err != nil {
		return err
	}
	if err := p.stageGraves(); err != nil {
		return err
	}
	if err := p.checkOrphans(); err != nil {
		return err
	}
	if err := p.stageIntents(b); err != nil {
		return err
	}
	return p.stageFolder(b)
}

// addWrite takes up one record and judges it against its predecessor.
func (p *put) addWrite(w *Write) error {
	r := &w.Record
	if err := checkRecord(r, p.f.root); err != nil {
		return broken("%v", err)
	}
	if _, twice := p.at[r.UID]; twice {
		return broken("record %v twice in one batch", r.UID)
	}
	it, err := p.load(r.UID)
	if err != nil {
		return err
	}
	it.now = r
	current := version.GVSN{}
	if it.old != nil {
		current = it.old.GVSN
	}
	if current != w.Base {
		p.moved = append(p.moved, r.UID)
		return nil
	}
	if err := p.judge(&it); err != nil {
		return err
	}
	p.at[r.UID] = len(p.items)
	p.items = append(p.items, it)
	return nil
}

// checkRecord reports what no record may be, wherever it comes from.
func checkRecord(r *repl.Record, root repl.UID) error {
	u := r.Update
	if r.Provisional && u.Content.IsZero() {
		u.Content = repl.Hash{1} // a provisional record may not be hashed yet
	}
	if err := u.Check(); err != nil {
		return err
	}
	switch {
	case (r.UID == root) != r.Parent.IsZero():
		return fmt.Errorf("record %v: only the root %v has no parent", r.UID, root)
	case len(r.Identity.Handle) > maxHandle:
		return fmt.Errorf("record %v: handle of %d bytes", r.UID, len(r.Identity.Handle))
	case r.Presence > repl.Absent:
		return fmt.Errorf("record %v: presence %d", r.UID, r.Presence)
	case !r.Present && r.Presence == repl.OnDisk:
		return fmt.Errorf("record %v: a tombstone that is on disk", r.UID)
	}
	return nil
}

// load reads what is stored under uid. A UID above every one of its originator
// has no record: no read is needed for new files.
func (p *put) load(uid repl.UID) (item, error) {
	r, err := p.f.s.numberUID(uid)
	if err != nil {
		return item{}, err
	}
	it := item{uid: r}
	if uid.Version > p.f.tops[uid.Originator] {
		return it, nil
	}
	if it.old, _ = p.f.recent.get(r); it.old != nil {
		return it, nil
	}
	p.key = p.f.keys.ref(p.key[:0], tableRecord, r)
	value, ok, err := p.f.kv.Get(p.key)
	if err != nil || !ok {
		return it, err
	}
	old, hash, err := decodeRecord(value, uid, p.f.s.names.Load())
	if err != nil {
		return it, corrupt("%v", err)
	}
	it.old, it.oldHash = &old, hash
	return it, nil
}

// judge asserts what holds between a record and its predecessor (rules 1, 3, 5
// and 7).
func (p *put) judge(it *item) error {
	now, old := it.now, it.old
	if old == nil || old.GVSN != now.GVSN {
		if err := p.checkGVSN(now); err != nil {
			return err
		}
	}
	switch {
	case old == nil:
		return nil
	case old.GVSN == now.GVSN:
		if !p.sameUpdate(it) {
			return broken("update %v of %v would change: %+v, was %+v", now.GVSN, now.UID, now.Update, old.Update)
		}
		if now.Provisional && !old.Provisional {
			return broken("record %v would become provisional", now.UID)
		}
		return nil
	case old.Type != now.Type:
		return broken("record %v is a %v and would become a %v", now.UID, old.Type, now.Type)
	case old.Provisional:
		return nil
	case now.Provisional:
		return broken("provisional record %v over version %v", now.UID, old.GVSN)
	case repl.Compare(&now.Update, &old.Update) <= 0:
		return broken("record %v would sink from %v to %v", now.UID, old.GVSN, now.GVSN)
	}
	return nil
}

// checkGVSN asserts that no other object has or had this version. One above
// every version of its originator is new.
func (p *put) checkGVSN(r *repl.Record) error {
	if other, ok := p.gvsns[r.GVSN]; ok {
		return broken("version %v is given to %v and %v", r.GVSN, other, r.UID)
	}
	p.gvsns[r.GVSN] = r.UID
	if r.GVSN.Version > p.f.tops[r.GVSN.Originator] {
		return nil
	}
	g, err := p.f.s.number(r.GVSN)
	if err != nil {
		return err
	}
	if r.GVSN != version.GVSN(r.UID) {
		p.key = p.f.keys.ref(p.key[:0], tableRecord, g)
		if _, ok, err := p.f.kv.Get(p.key); err != nil {
			return err
		} else if ok {
			return broken("version %v of %v is an object of its own", r.GVSN, r.UID)
		}
	}
	p.key = p.f.keys.ref(p.key[:0], tableVersion, g)
	if _, ok, err := p.f.kv.Get(p.key); err != nil {
		return err
	} else if ok {
		return broken("version %v of %v belongs to another object", r.GVSN, r.UID)
	}
	return nil
}

// sameUpdate reports whether a rewrite leaves the update as it is.
func (p *put) sameUpdate(it *item) bool {
	a, b := it.now.Update, it.old.Update
	sameMeta := bytes.Equal(a.Meta, b.Meta)
	if it.oldHash != (metaHash{}) {
		sameMeta = p.hash(a.Meta) == it.oldHash
	}
	return sameMeta && slices.Equal(a.History, b.History) &&
		a.Parent == b.Parent && a.Name == b.Name && a.Type == b.Type && a.Present == b.Present &&
		a.NameConflict == b.NameConflict && a.Heir == b.Heir && a.Fence == b.Fence &&
		a.CreateTime == b.CreateTime && a.Clock == b.Clock && a.Size == b.Size && a.Mtime == b.Mtime &&
		a.Content == b.Content && a.Target == b.Target
}

// hash names a blob; neighbours mostly have the same metadata.
func (p *put) hash(meta []byte) metaHash {
	if p.lastRaw == nil || !bytes.Equal(p.lastRaw, meta) {
		p.lastRaw, p.last = meta, hashMeta(meta)
	}
	return p.last
}

// addRemovals takes up the records that go.
func (p *put) addRemovals(b *Batch) error {
	for i, uid := range slices.Concat(b.Drop, b.Collect) {
		if _, twice := p.at[uid]; twice {
			return broken("record %v is written and removed in one batch", uid)
		}
		it, err := p.load(uid)
		if err != nil {
			return err
		}
		collect := i >= len(b.Drop)
		switch {
		case it.old == nil:
			continue
		case collect && (it.old.Present || it.old.Provisional):
			return broken("record %v would be collected and is no tombstone", uid)
		case !collect && !it.old.Provisional:
			return broken("record %v would be dropped and is not provisional", uid)
		}
		if collect {
			if !b.Floor.Contains(it.old.GVSN) && !p.f.floor.Contains(it.old.GVSN) {
				if p.floor == nil {
					p.floor = p.f.floor.Clone()
				}
				p.floor.Add(it.old.GVSN)
			}
		}
		p.at[uid] = len(p.items)
		p.items = append(p.items, it)
	}
	return nil
}

// stageIntents writes the rows of intents.
func (p *put) stageIntents(b *Batch) error {
	if b.NoIntents {
		all := p.f.keys.table(nil, tableIntent)
		p.ops.DeleteRange(all, after(all))
	}
	for _, uid := range b.ClearIntents {
		r, ok := p.f.ref(uid)
		if ok {
			p.key = p.f.keys.ref(p.key[:0], tableIntent, r)
			p.ops.Delete(p.key)
		}
	}
	n := numbering{number: p.f.s.number}
	for i := range b.AddIntents {
		in := &b.AddIntents[i]
		if err := in.check(); err != nil {
			return broken("%v", err)
		}
		r, err := p.f.s.numberUID(in.UID)
		if err != nil {
			return err
		}
		p.key = p.f.keys.ref(p.key[:0], tableIntent, r)
		p.value = appendIntent(p.value[:0], in, &n)
		p.ops.Set(p.key, p.value)
		if in.GVSN.Originator == p.f.state.Originator {
			p.rise(in.GVSN) // no other object is to be given it; of others' versions there is no row yet
		}
	}
	return n.err
}
