package engine

import (
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
	records map[repl.UID]*repl.Record // as they will be
	dropped map[repl.UID]bool
	changes map[repl.UID]int          // how many changes of the object are under way
	places  map[repl.Place]repl.UID   // live records of the flight by their place, the name folded
	merging bool                      // directories were merged, or not: places must be found anew
	locked  map[repl.Place]int        // places that plans leave or take, the name folded
	unseen  map[repl.UID][]repl.Place // of them, those that are taken on record alone
	touched map[repl.UID]int          // directories whose entries plans change, and with them the mtime
}

func (v *flight) init(st *store.Folder) {
	v.st, v.fold = st, filter.Folder(st.State().Folds)
	v.records = make(map[repl.UID]*repl.Record)
	v.dropped = make(map[repl.UID]bool)
	v.changes = make(map[repl.UID]int)
	v.places = make(map[repl.Place]repl.UID)
	v.locked = make(map[repl.Place]int)
	v.unseen = make(map[repl.UID][]repl.Place)
	v.touched = make(map[repl.UID]int)
}

// holds reports whether a plan under way changes the object or the place.
func (v *flight) holds(uid repl.UID) bool {
	_, ok := v.records[uid]
	return ok || v.dropped[uid]
}

func (v *flight) holdsPlace(p repl.Place) bool { return v.locked[v.folded(p)] > 0 }

// folded is the key of a place: names that fold to the same are one.
func (v *flight) folded(p repl.Place) repl.Place {
	return repl.Place{Dir: p.Dir, Name: v.fold(p.Name)}
}

// touches reports whether a plan under way changes entries of the directory.
func (v *flight) touches(uid repl.UID) bool { return v.touched[uid] > 0 }

// add enters a change whose update is final.
func (v *flight) add(c *repl.Change) {
	uid := c.Update.UID
	v.changes[uid]++
	v.forget(uid)
	v.merging = v.merging || merges(c)
	if c.Drop {
		v.dropped[uid] = true
	} else {
		rec := &repl.Record{Update: c.Update, Presence: repl.OnDisk, Identity: c.Object.Identity, Print: c.Object.Print, Provisional: c.Was.Provisional, Shown: c.Object.Shown}
		if c.To.IsZero() && !rec.Parent.IsZero() {
			rec.Presence = away(&c.Update)
		}
		v.records[uid] = rec
		if rec.Present && !rec.Parent.IsZero() {
			p := v.key(rec)
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
	v.merging = v.merging || merges(c)
	if v.changes[uid]--; v.changes[uid] <= 0 {
		delete(v.changes, uid)
		v.forget(uid)
		for _, p := range v.unseen[uid] {
			v.unlock(p)
		}
		delete(v.unseen, uid)
	}
	for _, p := range ends(c) {
		if p.IsZero() {
			continue
		}
		v.unlock(v.folded(p))
		if v.touched[p.Dir]--; v.touched[p.Dir] <= 0 {
			delete(v.touched, p.Dir)
		}
	}
}

func (v *flight) unlock(p repl.Place) {
	if v.locked[p]--; v.locked[p] <= 0 {
		delete(v.locked, p)
	}
}

// merges reports whether a change moves the children of directories to others.
func merges(c *repl.Change) bool { return !c.Update.Heir.IsZero() || !c.Was.Heir.IsZero() }

// forget takes what shall become of an object out of the view.
func (v *flight) forget(uid repl.UID) {
	delete(v.dropped, uid)
	rec, ok := v.records[uid]
	if !ok {
		return
	}
	delete(v.records, uid)
	if v.merging {
		return
	}
	if p := v.key(rec); v.places[p] == uid {
		delete(v.places, p)
	} else if rec.Present {
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
	for _, uid := range slices.SortedFunc(maps.Keys(v.records), repl.UID.Compare) {
		if rec := v.records[uid]; rec.Present && !rec.Parent.IsZero() {
			v.places[v.key(rec)] = uid
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
	if rec, ok := v.records[uid]; ok {
		return *rec, true, nil
	}
	if v.dropped[uid] {
		return repl.Record{}, false, nil
	}
	return v.st.Get(uid)
}

// At returns the live record that will hold the place.
func (v *flight) At(dir repl.UID, name string) (repl.Record, bool, error) {
	v.settle()
	if uid, ok := v.places[v.folded(repl.Place{Dir: dir, Name: name})]; ok {
		return *v.records[uid], true, nil
	}
	rec, ok, err := v.st.At(dir, name)
	if err != nil || !ok {
		return repl.Record{}, false, err
	}
	if v.holds(rec.UID) { // it leaves the place, or it would have been found
		return repl.Record{}, false, nil
	}
	return rec, true, nil
}

// Children calls fn for the live records that will lie in the directory: those
// of the store that stay, then those of the flight.
func (v *flight) Children(dir repl.UID, after string, fn func(*repl.Record) bool) error {
	more := true
	err := v.st.Children(dir, after, func(rec *repl.Record) bool {
		if v.holds(rec.UID) {
			return true
		}
		more = fn(rec)
		return more
	})
	if err != nil || !more {
		return err
	}
	for _, uid := range v.under(dir, after) {
		if rec := *v.records[uid]; !fn(&rec) {
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
		if p.Dir == dir && v.records[uid].Name > after {
			uids = append(uids, uid)
		}
	}
	slices.SortFunc(uids, func(a, b repl.UID) int {
		return strings.Compare(v.records[a].Name, v.records[b].Name)
	})
	return uids
}

// maxHeirs bounds the chain of merged directories.
const maxHeirs = 64

// Canonical follows the heirs of merged directories.
func (v *flight) Canonical(uid repl.UID) (repl.UID, error) {
	for range maxHeirs {
		rec, ok := v.records[uid]
		if !ok {
			next, err := v.st.Canonical(uid)
			if err != nil || next == uid {
				return next, err
			}
			uid = next
			continue
		}
		if rec.Heir.IsZero() {
			return uid, nil
		}
		uid = rec.Heir
	}
	return uid, fmt.Errorf("directory %v: heirs without end", uid)
}
