package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"opendfs/internal/filter"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// The bounds of look-ups that follow references.
const (
	maxHeirs    = 64   // merged directories one after another
	maxDepth    = 4096 // directories in a path
	maxSame     = 64   // records that ByContent returns
	contentSize = 16 << 10
)

// ErrNoRecord marks a UID that has no record here.
var ErrNoRecord = errors.New("no record")

// Reader is what can be asked of a folder's records, now (Folder) or in one
// consistent view (Snapshot). What it returns belongs to the caller, except
// that nobody changes what a record's Meta, Shown and History hold.
type Reader interface {
	// Get returns the record of a UID, if there is one.
	Get(uid repl.UID) (repl.Record, bool, error)
	// At returns the live record with this name whose parent is dir or any
	// directory that was merged into dir; dir's own child goes first. Where the
	// folder folds names, a name that folds to the same is this name: the record's
	// own may be spelt differently.
	At(dir repl.UID, name string) (repl.Record, bool, error)
	// Named calls fn with what At returns for each of names, which are in order,
	// nil for what is not there, and what fn does not change but may keep. Many names
	// together cost less than one by one. The records may be written while fn runs.
	Named(dir repl.UID, names []string, fn func(i int, rec *repl.Record) error) error
	// Children calls fn for the live records whose parent is dir or was merged
	// into it and whose name sorts after the given one, by the names' bytes,
	// until fn returns false. The record is fn's only during the call, and records may
	// be written meanwhile.
	Children(dir repl.UID, after string, fn func(*repl.Record) (more bool)) error
	// ByHandle returns the live records that are on disk under this handle;
	// several if the file has hard links.
	ByHandle(handle string) ([]repl.Record, error)
	// ByContent returns live files on disk with this content, 64 at most. Only
	// files of at least 16 KiB are found.
	ByContent(hash repl.Hash, size int64) ([]repl.Record, error)
	// Canonical returns the directory that uid was merged into, through every
	// step; uid itself if it was not merged or has no record. A cycle and more
	// than 64 steps are damage.
	Canonical(uid repl.UID) (repl.UID, error)
	// Path returns the object's path from the root, with slashes, by canonical
	// parents and last names; "." for the root. ErrNoRecord if it or a parent
	// has no record; a cycle and more than 4,096 steps are damage.
	Path(uid repl.UID) (string, error)
	// Vector returns a copy of what this member knows.
	Vector() version.Vector
	// Updates returns the current records that are not provisional and whose
	// GVSN lies in want, above after (zero for the first page), in the order of
	// originator and version: at most limit of them, fewer if they are large.
	// next is the after of the next page, more says whether there is one.
	Updates(want version.Vector, after version.GVSN, limit int) (updates []repl.Update, next version.GVSN, more bool, err error)
	// Count returns how many updates Updates would return in all, and how many
	// bytes their live files have: the backlog.
	Count(want version.Vector) (updates int, bytes int64, err error)
}

var (
	_ Reader = (*Folder)(nil)
	_ Reader = (*Snapshot)(nil)
)

// view reads the rows of one folder.
type view struct {
	s      *Store
	kv     View
	keys   keys
	root   repl.UID
	merged *atomic.Int64 // directories merged into others; 0 spares looking
	folds  *atomic.Bool  // names are compared folded
	live   bool          // rows may change between two reads
	recent *recent       // nil in a snapshot
}

// ref returns uid's form in keys; false: no row names it.
func (v *view) ref(uid repl.UID) (ref, bool) {
	return v.s.names.Load().ref(version.GVSN(uid))
}

func (v *view) uid(r ref) (repl.UID, error) {
	g, err := v.s.names.Load().gvsn(r)
	if err != nil {
		return repl.UID{}, corrupt("%v", err)
	}
	return repl.UID(g), nil
}

// Get implements Reader.
func (v *view) Get(uid repl.UID) (repl.Record, bool, error) {
	r, ok := v.ref(uid)
	if !ok {
		return repl.Record{}, false, nil
	}
	var puts uint64
	if v.recent != nil {
		var rec *repl.Record
		if rec, puts = v.recent.get(r); rec != nil {
			return *rec, true, nil
		}
	}
	value, ok, err := v.kv.Get(v.keys.ref(nil, tableRecord, r))
	if err != nil || !ok {
		return repl.Record{}, false, err
	}
	rec, err := v.decode(value, uid)
	if err == nil && v.recent != nil {
		v.recent.put(r, ownCopy(&rec), puts)
	}
	return rec, err == nil, err
}

// decode reads a record value and its metadata.
func (v *view) decode(value []byte, uid repl.UID) (repl.Record, error) {
	rec, hash, err := decodeRecord(value, uid, v.s.names.Load())
	if err != nil {
		return rec, corrupt("%v", err)
	}
	if hash != (metaHash{}) {
		rec.Meta, err = v.blob(hash)
	}
	return rec, err
}

func (v *view) blob(hash metaHash) ([]byte, error) {
	if b := v.s.metas.get(hash); b != nil {
		return b, nil
	}
	b, ok, err := v.kv.Get(v.keys.meta(nil, hash))
	if err != nil {
		return nil, err
	}
	if !ok || hashMeta(b) != hash {
		return nil, corrupt("metadata blob %x is not there or another", hash)
	}
	v.s.metas.put(hash, b)
	return b, nil
}

// byRef returns the record that an index row names. On a live folder it may
// have gone meanwhile.
func (v *view) byRef(r ref) (repl.Record, bool, error) {
	uid, err := v.uid(r)
	if err != nil {
		return repl.Record{}, false, err
	}
	rec, ok, err := v.Get(uid)
	if err == nil && !ok && !v.live {
		err = corrupt("an index names %v, which has no record", uid)
	}
	return rec, ok, err
}

// At implements Reader.
func (v *view) At(dir repl.UID, name string) (repl.Record, bool, error) {
	d, ok := v.ref(dir)
	if !ok {
		return repl.Record{}, false, nil
	}
	rec, ok, err := v.atOne(d, name)
	if ok || err != nil || v.merged.Load() == 0 {
		return rec, ok, err
	}
	aliases, err := v.aliases(d)
	for _, a := range aliases {
		if err != nil || ok {
			break
		}
		rec, ok, err = v.atOne(a, name)
	}
	return rec, ok, err
}

// placeRows returns the prefix of the rows of the places in a directory, and the
// form of a name that follows it.
func (v *view) placeRows(dir ref) (prefix []byte, form func(name string) string) {
	folds, table := v.folds.Load(), tableName
	if folds {
		table = tableFolded
	}
	return v.keys.ref(nil, table, dir), filter.Folder(folds)
}

func (v *view) atOne(dir ref, name string) (repl.Record, bool, error) {
	key, form := v.placeRows(dir)
	key = append(key, form(name)...)
	for {
		value, ok, err := v.kv.Get(key)
		if err != nil || !ok {
			return repl.Record{}, false, err
		}
		r, err := decodeWholeRef(value)
		if err != nil {
			return repl.Record{}, false, err
		}
		rec, ok, err := v.byRef(r)
		if err != nil {
			return rec, false, err
		}
		if parent, known := v.ref(rec.Parent); ok && rec.Present && form(rec.Name) == form(name) && known && parent == dir {
			return rec, true, nil
		}
		if !v.live {
			return rec, false, corrupt("name row %x names %v, which lies elsewhere", key, rec.UID)
		}
		// A Put came between the two reads: what is there now counts.
	}
}

func decodeWholeRef(value []byte) (ref, error) {
	r, rest, err := decodeRef(value)
	if err == nil && len(rest) > 0 {
		err = errLong
	}
	if err != nil {
		return r, corrupt("index value %x: %v", value, err)
	}
	return r, nil
}

// aliases returns the directories that were merged into dir, through every
// step, in the order in which they are found.
func (v *view) aliases(dir ref) ([]ref, error) {
	var out []ref
	todo := []ref{dir}
	for i := 0; i < len(todo); i++ {
		prefix := v.keys.ref(nil, tableAlias, todo[i])
		c := v.kv.Scan(prefix, after(prefix))
		var bad error
		for bad == nil && c.Next() {
			var r ref
			if r, bad = decodeWholeRef(c.Key()[len(prefix):]); bad == nil && !slices.Contains(todo, r) {
				out = append(out, r)
				todo = append(todo, r)
			}
		}
		if err := errors.Join(bad, c.Close()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Children implements Reader.
func (v *view) Children(dir repl.UID, afterName string, fn func(*repl.Record) (more bool)) error {
	d, ok := v.ref(dir)
	if !ok {
		return nil
	}
	dirs := []ref{d}
	if v.merged.Load() != 0 {
		aliases, err := v.aliases(d)
		if err != nil {
			return err
		}
		dirs = append(dirs, aliases...)
	}
	list := childList{view: v}
	for _, dir := range dirs {
		list.add(dir, afterName)
	}
	err := list.walk(fn)
	return errors.Join(err, list.close())
}

// childList merges the names of several directories.
type childList struct {
	*view
	sources []childSource
	records Cursor
	since   uint64 // Puts that had ended when records was opened; set by together
}

type childSource struct {
	dir    ref
	prefix int // bytes of key before the name
	c      Cursor
	ok     bool
}

func (l *childList) add(dir ref, afterName string) {
	prefix := l.keys.ref(nil, tableName, dir)
	low := prefix
	if afterName != "" {
		low = append(append(bytes.Clone(prefix), afterName...), 0) // no name holds a NUL
	}
	c := l.kv.Scan(low, after(prefix))
	l.sources = append(l.sources, childSource{dir, len(prefix), c, c.Next()})
}

func (l *childList) walk(fn func(*repl.Record) bool) error {
	all := l.keys.table(nil, tableRecord)
	l.records = l.kv.Scan(all, after(all))
	var key []byte
	for {
		s := l.lowest()
		if s == nil {
			return nil
		}
		r, err := decodeWholeRef(s.c.Value())
		if err != nil {
			return err
		}
		key = l.keys.ref(key[:0], tableRecord, r)
		rec, ok, err := l.record(key, r)
		if err != nil {
			return err
		}
		name := s.c.Key()[s.prefix:]
		if parent, known := l.ref(rec.Parent); ok && rec.Present && rec.Name == string(name) && known && parent == s.dir {
			if !fn(&rec) {
				return nil
			}
		} else if !l.live {
			return corrupt("name row %x names no such record", s.c.Key())
		}
		s.ok = s.c.Next()
	}
}

// record reads a record by the cursor: the children of a directory often lie
// beside each other.
func (l *childList) record(key []byte, r ref) (rec repl.Record, ok bool, err error) {
	if !l.records.Seek(key) || !bytes.Equal(l.records.Key(), key) {
		return rec, false, nil
	}
	uid, err := l.uid(r)
	if err != nil {
		return rec, false, err
	}
	rec, err = l.decode(l.records.Value(), uid)
	return rec, err == nil, err
}

// lowest returns the source with the lowest name, the first of equals.
func (l *childList) lowest() *childSource {
	var low *childSource
	for i := range l.sources {
		s := &l.sources[i]
		if s.ok && (low == nil || bytes.Compare(s.c.Key()[s.prefix:], low.c.Key()[low.prefix:]) < 0) {
			low = s
		}
	}
	return low
}

func (l *childList) close() error {
	var err error
	for _, s := range l.sources {
		err = errors.Join(err, s.c.Close())
	}
	if l.records != nil {
		err = errors.Join(err, l.records.Close())
	}
	return err
}

// ByHandle implements Reader.
func (v *view) ByHandle(handle string) ([]repl.Record, error) {
	if handle == "" {
		return nil, nil
	}
	var out []repl.Record
	err := v.byPrefix(v.keys.handle(nil, handle), func(r *repl.Record) bool {
		if r.Identity.Handle == handle && indexedByHandle(r) {
			out = append(out, *r)
		}
		return true
	})
	return out, err
}

// ByContent implements Reader.
func (v *view) ByContent(hash repl.Hash, size int64) ([]repl.Record, error) {
	if hash.IsZero() || size < contentSize {
		return nil, nil
	}
	var out []repl.Record
	err := v.byPrefix(v.keys.content(nil, hash), func(r *repl.Record) bool {
		if r.Content == hash && r.Size == size && indexedByContent(r) {
			out = append(out, *r)
		}
		return len(out) < maxSame
	})
	return out, err
}

// byPrefix calls fn for the records whose UIDs follow prefix in keys.
func (v *view) byPrefix(prefix []byte, fn func(*repl.Record) bool) error {
	c := v.kv.Scan(prefix, after(prefix))
	more := true
	var bad error
	for more && bad == nil && c.Next() {
		var r ref
		if r, bad = decodeWholeRef(c.Key()[len(prefix):]); bad != nil {
			break
		}
		var rec repl.Record
		var ok bool
		if rec, ok, bad = v.byRef(r); ok && bad == nil {
			more = fn(&rec)
		}
	}
	return errors.Join(bad, c.Close())
}

// Canonical implements Reader.
func (v *view) Canonical(uid repl.UID) (repl.UID, error) {
	at := uid
	for range maxHeirs {
		rec, ok, err := v.Get(at)
		if err != nil || !ok || rec.Heir.IsZero() {
			return at, err
		}
		if at = rec.Heir; at == uid {
			break
		}
	}
	return uid, corrupt("the heirs of %v form a cycle or are more than %d", uid, maxHeirs)
}

// Path implements Reader.
func (v *view) Path(uid repl.UID) (string, error) {
	if uid == v.root {
		return ".", nil
	}
	var parts []string
	for at := uid; at != v.root; {
		rec, ok, err := v.Get(at)
		if err != nil {
			return "", err
		}
		if !ok {
			return "", fmt.Errorf("path of %v: %v: %w", uid, at, ErrNoRecord)
		}
		if len(parts) == maxDepth {
			return "", corrupt("%v lies in a cycle or deeper than %d directories", uid, maxDepth)
		}
		parts = append(parts, rec.Name)
		if at, err = v.Canonical(rec.Parent); err != nil {
			return "", err
		}
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/"), nil
}

// metaCache keeps the few blobs that a folder's records share.
type metaCache struct {
	mu    sync.RWMutex
	blobs map[metaHash][]byte
	bytes int
}

const (
	metaCacheBytes = 4 << 20
	metaCacheBlob  = 4 << 10 // longer ones are not kept
)

func (c *metaCache) get(h metaHash) []byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.blobs[h]
}

func (c *metaCache) put(h metaHash, b []byte) {
	if len(b) > metaCacheBlob {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blobs == nil || c.bytes+len(b) > metaCacheBytes {
		c.blobs, c.bytes = make(map[metaHash][]byte), 0
	}
	if _, ok := c.blobs[h]; !ok {
		c.blobs[h] = b
		c.bytes += len(b) + 64
	}
}
