package store

import (
	"fmt"

	"opendfs/internal/filter"
	"opendfs/internal/repl"
)

// CollisionError refuses to fold names while objects of one directory would
// have one name.
type CollisionError struct {
	Pairs [][2]repl.Record // the first ones, at most maxPairs
	More  int              // how many there are besides
}

// Error names the first pair.
func (e *CollisionError) Error() string {
	return fmt.Sprintf("fold names: %d pairs are one name then, the first %q and %q", len(e.Pairs)+e.More, e.Pairs[0][0].Name, e.Pairs[0][1].Name)
}

// maxPairs bounds the collisions that are told one by one.
const maxPairs = 20

// Collisions returns a *CollisionError if live objects of one directory, merged
// ones taken together, have names that fold to the same; else nil or what went
// wrong. It reads every live record.
func (v *view) Collisions() error {
	var found CollisionError
	err := v.directories(func(dir repl.UID) error {
		met := make(map[string]repl.Record)
		return v.Children(dir, "", func(rec *repl.Record) bool {
			form := filter.Fold(rec.Name)
			first, taken := met[form]
			switch {
			case !taken:
				met[form] = repl.Record{Update: repl.Update{UID: rec.UID, Name: rec.Name, Parent: rec.Parent, Type: rec.Type}}
			case len(found.Pairs) < maxPairs:
				found.Pairs = append(found.Pairs, [2]repl.Record{first, *rec})
			default:
				found.More++
			}
			return true
		})
	})
	if err == nil && len(found.Pairs) > 0 {
		return &found
	}
	return err
}

// directories calls fn for every live directory.
func (v *view) directories(fn func(repl.UID) error) error {
	all := v.keys.table(nil, tableRecord)
	c := v.kv.Scan(all, after(all))
	var bad error
	for bad == nil && c.Next() {
		flags, _, err := peekRecord(c.Value())
		if err != nil {
			bad = corrupt("record %x: %v", c.Key(), err)
			break
		}
		if flags&flagType != uint32(repl.Directory) || flags&flagPresent == 0 {
			continue
		}
		r, err := decodeWholeRef(c.Key()[len(all):])
		var uid repl.UID
		if err == nil {
			uid, err = v.uid(r)
		}
		if bad = err; bad == nil {
			bad = fn(uid)
		}
	}
	if err := c.Close(); bad == nil {
		bad = err
	}
	return bad
}

// foldChunk is how many rows are written at once.
const foldChunk = 4096

// Fold makes the folder compare names folded (filter.Fold), or byte by byte
// again. It is refused with a *CollisionError while names collide. Nobody may
// put records meanwhile; a crash leaves it undone.
func (f *Folder) Fold(on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.dropped:
		return fmt.Errorf("fold names of folder %v: its records were dropped", f.id)
	case f.state.Folds == on:
		return nil
	}
	rows := f.keys.table(nil, tableFolded)
	var ops Ops
	ops.DeleteRange(rows, after(rows))
	if on {
		if err := f.Collisions(); err != nil {
			return err
		}
		if err := f.s.apply(&ops, false); err != nil {
			return err
		}
		ops.Reset()
		if err := f.foldAll(&ops); err != nil {
			return fmt.Errorf("fold names of folder %v: %w", f.id, err)
		}
	}
	state := f.state
	state.Folds = on
	ops.Set(f.keys.table(nil, tableState), appendState(nil, &state))
	return f.s.apply(&ops, true, func() {
		f.see.Lock()
		defer f.see.Unlock()
		f.state.Folds = on
		f.folds.Store(on)
	})
}

// foldAll writes the row of every place, unsynced but for the last ones, which
// are left in ops.
func (f *Folder) foldAll(ops *Ops) error {
	prefix := f.keys.table(nil, tableName)
	c := f.kv.Scan(prefix, after(prefix))
	var bad error
	var key []byte
	for n := 1; bad == nil && c.Next(); n++ {
		parent, name, err := decodeRef(c.Key()[len(prefix):])
		if err != nil {
			bad = corrupt("name row %x: %v", c.Key(), err)
			break
		}
		key = f.keys.folded(key[:0], parent, string(name))
		ops.Set(key, c.Value())
		if n%foldChunk == 0 {
			bad = f.s.apply(ops, false)
			ops.Reset()
		}
	}
	if err := c.Close(); bad == nil {
		bad = err
	}
	return bad
}
