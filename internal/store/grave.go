package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"opendfs/internal/filter"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// maxGraves is how many tombstones of one place are found again; of more the
// ones that came first are forgotten.
const maxGraves = 16

// buried reports whether a record is one that Graves finds: a deletion that
// nothing forbids to be undone.
func buried(r *repl.Record) bool {
	return r != nil && !r.Present && !r.NameConflict && !r.Provisional && !r.Parent.IsZero()
}

// Graves returns the tombstones of a place whose objects may come back to life
// there: deleted ones of that name (folded, where the folder folds names) in dir
// or a directory that was merged into it. An object that lost its name to
// another is not among them (rule 7). Of many only the last ones are told.
func (v *view) Graves(dir repl.UID, name string) ([]repl.Record, error) {
	d, ok := v.ref(dir)
	if !ok {
		return nil, nil
	}
	dirs := []ref{d}
	if v.merged.Load() != 0 {
		aliases, err := v.aliases(d)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, aliases...)
	}
	same := filter.Folder(v.folds.Load())
	var out []repl.Record
	for _, d := range dirs {
		value, ok, err := v.kv.Get(v.keys.grave(nil, d, name))
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		refs, err := decodeGraves(value)
		if err != nil {
			return nil, err
		}
		for _, r := range refs {
			rec, ok, err := v.byRef(r)
			if err != nil {
				return nil, err
			}
			if ok && buried(&rec) && same(rec.Name) == same(name) {
				out = append(out, rec)
			}
		}
	}
	return out, nil
}

// decodeGraves reads the value of a row of tombstones: their UIDs, in the order
// in which they came.
func decodeGraves(value []byte) (refs []ref, err error) {
	for len(value) > 0 {
		var r ref
		if r, value, err = decodeRef(value); err != nil {
			return nil, corrupt("row of tombstones: %v", err)
		}
		refs = append(refs, r)
	}
	if len(refs) == 0 {
		return nil, corrupt("row of tombstones: %v", errors.New("it is empty"))
	}
	return refs, nil
}

// stageGraves writes the rows of tombstones that come, go or change their place.
func (p *put) stageGraves() error {
	for i := range p.items {
		it := &p.items[i]
		was, is := buried(it.old), buried(it.now)
		if was && is && it.old.Parent == it.now.Parent && it.old.Name == it.now.Name {
			continue
		}
		if was {
			if err := p.grave(it.old, func(refs []ref) []ref {
				return slices.DeleteFunc(refs, func(r ref) bool { return r == it.uid })
			}); err != nil {
				return err
			}
		}
		if is {
			if err := p.grave(it.now, func(refs []ref) []ref {
				return append(refs, it.uid)[max(0, len(refs)+1-maxGraves):]
			}); err != nil {
				return err
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.graves)) {
		refs := p.graves[key]
		if len(refs) == 0 {
			p.ops.Delete([]byte(key))
			continue
		}
		p.value = p.value[:0]
		for _, r := range refs {
			p.value = r.append(p.value)
		}
		p.ops.Set([]byte(key), p.value)
	}
	return nil
}

// grave changes the tombstones of a record's place.
func (p *put) grave(r *repl.Record, change func([]ref) []ref) error {
	parent, err := p.f.s.number(version.GVSN(r.Parent))
	if err != nil {
		return err
	}
	key := string(p.f.keys.grave(nil, parent, r.Name))
	refs, known := p.graves[key]
	if !known {
		value, ok, err := p.f.kv.Get([]byte(key))
		if err != nil {
			return err
		}
		if ok {
			if refs, err = decodeGraves(value); err != nil {
				return fmt.Errorf("tombstones of %q: %w", r.Name, err)
			}
		}
	}
	p.graves[key] = change(refs)
	return nil
}
