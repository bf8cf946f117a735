package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"opendfs/internal/filter"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// flight is the lock table and, in one, the view that verdicts are made on:
// the stored records with what the plans under way will make of them. A UID or
// a place in the flight is closed to capture and to further verdicts from
// other partners until its plan is done.
type flight struct {
	st      *store.Folder
	fold    func(name string) string  // the form by which names are compared
	aloft   map[repl.UID]*aloft       // what plans change
	still   int                       // of them, those that stay where the store has them
	places  map[repl.Place]repl.UID   // live records of the others by their place, the name folded
	merging bool                      // directories were merged, or not: places must be found anew
	merged  map[repl.UID]bool         // directories whose heirs plans change
	locked  map[repl.Place]int        // places that the others leave or take, the name folded
	unseen  map[repl.UID][]repl.Place // of them, those that are taken on record alone
	touched map[repl.UID]int          // directories whose entries plans change, and with them the mtime
}

// aloft is an object that plans under way change.
type aloft struct {
	rec     repl.Record // as it will be
	changes int         // how many are under way
	dropped bool        // the record goes altogether
	// still: its one change sets metadata where the stored record has its place, so
	// that the store's row of the place is its lock. No directory is merged meanwhile.
	still bool
}

func (v *flight) init(st *store.Folder) {
	v.st, v.fold = st, filter.Folder(st.State().Folds)
	v.aloft = make(map[repl.UID]*aloft)
	v.places = make(map[repl.Place]repl.UID)
	v.locked = make(map[repl.Place]int)
	v.unseen = make(map[repl.UID][]repl.Place)
	v.touched = make(map[repl.UID]int)
	v.merged = make(map[repl.UID]bool)
}

// holds reports whether a plan under way changes the object or the place.
func (v *flight) holds(uid repl.UID) bool { return v.aloft[uid] != nil }

func (v *flight) holdsPlace(p repl.Place) bool {
	if v.locked[v.folded(p)] > 0 {
		return true
	}
	if v.still == 0 {
		return false
	}
	rec, taken, err := v.st.At(p.Dir, p.Name)
	return err != nil || taken && v.isStill(rec.UID) // the store's error comes back with the next look-up
}

func (v *flight) isStill(uid repl.UID) bool {
	a := v.aloft[uid]
	return a != nil && a.still
}

// folded is the key of a place: names that fold to the same are one.
func (v *flight) folded(p repl.Place) repl.Place {
	return repl.Place{Dir: p.Dir, Name: v.fold(p.Name)}
}

// touches reports whether a plan under way changes entries of the directory.
func (v *flight) touches(uid repl.UID) bool { return v.touched[uid] > 0 }

// add enters a change whose update is final.
func (v *flight) add(c *repl.Change) {
	uid := c.Update.UID
	a := v.aloft[uid]
	if a == nil {
		a = new(aloft)
		v.aloft[uid] = a
	} else {
		v.stir(a)
		v.forget(a)
	}
	if merges(c) {
		v.stirAll()
		v.merging = true
		v.merged[uid] = true
	}
	a.changes++
	a.dropped = c.Drop
	a.rec = repl.Record{Update: c.Update, Presence: repl.OnDisk, Identity: c.Object.Identity, Print: c.Object.Print, Provisional: c.Was.Provisional, Shown: c.Object.Shown}
	if a.changes == 1 && v.keeps(c) {
		a.still = true
		v.still++
		v.touched[c.To.Dir]++
		return
	}
	if !c.Drop {
		if c.To.IsZero() && !a.rec.Parent.IsZero() {
			a.rec.Presence = away(&c.Update)
		}
		if a.placed() {
			p := v.key(&a.rec)
			v.places[p] = uid
			if c.To.IsZero() {
				v.locked[p]++
				v.unseen[uid] = append(v.unseen[uid], p)
			}
		}
	}
	for _, p := range ends(c) {
		if !p.IsZero() {
			v.locked[v.folded(p)]++
			v.touched[p.Dir]++
		}
	}
}

// keeps reports whether a change leaves its object where the store has it, by itself
// and by its directory's.
func (v *flight) keeps(c *repl.Change) bool {
	return metaAlone(c) && !c.Drop && !merges(c) && !c.To.IsZero() && c.Object.UID == c.Update.UID && c.Was.UID == c.Update.UID && c.Update.Present &&
		c.Was.Present && c.Was.Parent == c.Update.Parent && c.Was.Name == c.Update.Name && c.To == (repl.Place{Dir: c.Update.Parent, Name: c.Update.Name})
}

// stir gives an object that stays where it is the locks and the place that all others
// have: something else happens to it, or to directories.
func (v *flight) stir(a *aloft) {
	if !a.still {
		return
	}
	a.still = false
	v.still--
	v.locked[v.folded(repl.Place{Dir: a.rec.Parent, Name: a.rec.Name})]++
	v.places[v.key(&a.rec)] = a.rec.UID
}

func (v *flight) stirAll() {
	if v.still == 0 {
		return
	}
	for _, a := range v.aloft {
		v.stir(a)
	}
}

// placed reports whether the record has a place among the live ones.
func (a *aloft) placed() bool { return !a.dropped && a.rec.Present && !a.rec.Parent.IsZero() }

// ends are the places of a change, each once.
func ends(c *repl.Change) []repl.Place {
	if c.From == c.To {
		return []repl.Place{c.To}
	}
	return []repl.Place{c.From, c.To}
}

// remove takes a change out again, its record stored or its plan given up.
func (v *flight) remove(c *repl.Change) {
	uid := c.Update.UID
	a := v.aloft[uid]
	if a.still {
		v.still--
		delete(v.aloft, uid)
		v.untouch(c.To.Dir)
		return
	}
	if merges(c) {
		v.stirAll()
		v.merging = true
	}
	if a.changes--; a.changes <= 0 {
		delete(v.aloft, uid)
		delete(v.merged, uid)
		v.forget(a)
		for _, p := range v.unseen[uid] {
			v.unlock(p)
		}
		delete(v.unseen, uid)
	}
	for _, p := range ends(c) {
		if !p.IsZero() {
			v.unlock(v.folded(p))
			v.untouch(p.Dir)
		}
	}
}

func (v *flight) untouch(dir repl.UID) {
	if v.touched[dir]--; v.touched[dir] <= 0 {
		delete(v.touched, dir)
	}
}

func (v *flight) unlock(p repl.Place) {
	if v.locked[p]--; v.locked[p] <= 0 {
		delete(v.locked, p)
	}
}

// merges reports whether a change moves the children of directories to others.
func merges(c *repl.Change) bool { return !c.Update.Heir.IsZero() || !c.Was.Heir.IsZero() }

// forget takes the place that an object shall have out of the view.
func (v *flight) forget(a *aloft) {
	if a.dropped || v.merging {
		return
	}
	if p := v.key(&a.rec); v.places[p] == a.rec.UID {
		delete(v.places, p)
	} else if a.rec.Present {
		v.merging = true
	}
}

// settle finds the places of all records anew if directories were merged since.
func (v *flight) settle() {
	if !v.merging {
		return
	}
	v.merging = false
	clear(v.places)
	for _, uid := range slices.SortedFunc(maps.Keys(v.aloft), repl.UID.Compare) {
		if a := v.aloft[uid]; a.placed() && !a.still {
			v.places[v.key(&a.rec)] = uid
		}
	}
}

// key is the key of a record's place, in its directory's heir.
func (v *flight) key(rec *repl.Record) repl.Place {
	dir, err := v.Canonical(rec.Parent)
	if err != nil { // the store's error comes back with the next look-up
		dir = rec.Parent
	}
	return v.folded(repl.Place{Dir: dir, Name: rec.Name})
}

// Get returns the record as it will be.
func (v *flight) Get(uid repl.UID) (repl.Record, bool, error) {
	switch a := v.aloft[uid]; {
	case a == nil:
		return v.st.Get(uid)
	case a.dropped:
		return repl.Record{}, false, nil
	default:
		return a.rec, true, nil
	}
}

// At returns the live record that will hold the place.
func (v *flight) At(dir repl.UID, name string) (repl.Record, bool, error) {
	v.settle()
	if uid, ok := v.places[v.folded(repl.Place{Dir: dir, Name: name})]; ok {
		return v.aloft[uid].rec, true, nil
	}
	sources, err := v.sources(dir)
	for _, source := range sources {
		rec, ok, err := v.st.At(source, name)
		if err != nil {
			return rec, false, err
		}
		if !ok {
			continue
		}
		is, err := v.stays(&rec, dir)
		if err != nil {
			return rec, false, err
		}
		if is != nil {
			return *is, true, nil
		}
	}
	return repl.Record{}, false, err
}

// sources lists the directories of the store in which records of a directory may lie:
// itself, and those that plans merge into it.
func (v *flight) sources(dir repl.UID) ([]repl.UID, error) {
	out := append(make([]repl.UID, 0, 1), dir)
	for _, uid := range slices.SortedFunc(maps.Keys(v.merged), repl.UID.Compare) {
		at, err := v.Canonical(uid)
		if err != nil {
			return nil, err
		}
		if at == dir && uid != dir {
			out = append(out, uid)
		}
	}
	return out, nil
}

// stays returns what a record of the store will be that will lie in a directory where
// the store has it; nil if it will not. Of those the flight has the place.
func (v *flight) stays(rec *repl.Record, dir repl.UID) (*repl.Record, error) {
	switch a := v.aloft[rec.UID]; {
	case a != nil && a.still:
		own := a.rec
		return &own, nil
	case a != nil:
		return nil, nil
	case len(v.merged) == 0:
		return rec, nil
	}
	if at, err := v.Canonical(rec.Parent); err != nil || at != dir {
		return nil, err
	}
	return rec, nil
}

// Children calls fn for the live records that will lie in the directory: those
// of the store that stay, then those of the flight.
func (v *flight) Children(dir repl.UID, after string, fn func(*repl.Record) bool) error {
	sources, err := v.sources(dir)
	if err != nil {
		return err
	}
	more := true
	met := make(map[repl.UID]bool) // filled if there is more than one source
	for _, source := range sources {
		var failed error
		err := v.st.Children(source, after, func(rec *repl.Record) bool {
			var is *repl.Record
			if is, failed = v.stays(rec, dir); failed != nil || is == nil || met[is.UID] {
				return failed == nil
			}
			if len(sources) > 1 {
				met[is.UID] = true
			}
			more = fn(is)
			return more
		})
		if err = errors.Join(err, failed); err != nil || !more {
			return err
		}
	}
	for _, uid := range v.under(dir, after) {
		if rec := v.aloft[uid].rec; !fn(&rec) {
			return nil
		}
	}
	return nil
}

// under lists the flight's live objects of a directory in order of their name.
func (v *flight) under(dir repl.UID, after string) []repl.UID {
	v.settle()
	var uids []repl.UID
	for p, uid := range v.places {
		if p.Dir == dir && v.aloft[uid].rec.Name > after {
			uids = append(uids, uid)
		}
	}
	slices.SortFunc(uids, func(a, b repl.UID) int {
		return strings.Compare(v.aloft[a].rec.Name, v.aloft[b].rec.Name)
	})
	return uids
}

// maxHeirs bounds the chain of merged directories.
const maxHeirs = 64

// Canonical follows the heirs of merged directories.
func (v *flight) Canonical(uid repl.UID) (repl.UID, error) {
	for range maxHeirs {
		a := v.aloft[uid]
		if a == nil || a.dropped {
			next, err := v.st.Canonical(uid)
			if err != nil || next == uid {
				return next, err
			}
			uid = next
			continue
		}
		if a.rec.Heir.IsZero() {
			return uid, nil
		}
		uid = a.rec.Heir
	}
	return uid, fmt.Errorf("directory %v: heirs without end", uid)
}
