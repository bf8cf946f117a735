package engine

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"opendfs/internal/capture"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// foldEvery is how often a folder that was to fold names, and could not, tries
// again.
const foldEvery = mendEvery

// followCase makes the records compare names as the directory says. Where names
// would collide the folder stays as it is, with a finding.
func followCase(cfg *Config, st *store.Folder, find Findings) error {
	err := st.Fold(cfg.Insensitive)
	var collides *store.CollisionError
	switch {
	case errors.As(err, &collides):
		find.Raise(finding.CaseRefused, cfg.Name, Pairs(st, collides))
		return nil
	case err != nil:
		return err
	}
	find.Clear(finding.CaseRefused, cfg.Name)
	return nil
}

// pairsTold is how many pairs of colliding names a text tells.
const pairsTold = 5

// Pairs tells which names collide, by their paths.
func Pairs(st store.Reader, e *store.CollisionError) string {
	text := func(r *repl.Record) string {
		if at, err := st.Path(r.UID); err == nil {
			return fmt.Sprintf("%q", at)
		}
		return fmt.Sprintf("%q", r.Name)
	}
	var told []string
	for i := range e.Pairs[:min(len(e.Pairs), pairsTold)] {
		told = append(told, text(&e.Pairs[i][0])+" and "+text(&e.Pairs[i][1]))
	}
	if more := len(e.Pairs) + e.More - len(told); more > 0 {
		told = append(told, fmt.Sprintf("%d pairs more", more))
	}
	return strings.Join(told, "; ")
}

// retryFold tries again to fold names, when nothing is under way that was
// decided on names told apart.
func (f *Folder) retryFold() {
	if f.cfg.Insensitive == f.st.State().Folds || f.now() < f.foldAt || f.install != nil || len(f.flight.aloft) > 0 {
		return
	}
	if f.foldAt == 0 { // tried when it was opened
		f.foldAt = f.now() + repl.Time(foldEvery)
		return
	}
	f.foldAt = f.now() + repl.Time(foldEvery)
	if f.storeFailed(followCase(f.cfg, f.st, f.find)) {
		return
	}
	f.flight.init(f.st)
}

// noteSecond remembers the names that were left alone because another spelling
// is on record, to be looked at when that one's place is free.
func (f *Folder) noteSecond(at spot, is bool) {
	key := f.flight.folded(repl.Place{Dir: at.dir, Name: at.name})
	if is {
		if f.seconds[key] == nil {
			f.seconds[key] = make(map[string]bool)
		}
		f.seconds[key][at.name] = true
		return
	}
	delete(f.seconds[key], at.name)
	if len(f.seconds[key]) == 0 {
		delete(f.seconds, key)
	}
}

// vacated looks at what was left alone beside an object that has left its place.
func (f *Folder) vacated(dir repl.UID, name string) {
	if len(f.seconds) == 0 {
		return
	}
	dir, err := f.st.Canonical(dir)
	if f.storeFailed(err) {
		return
	}
	for _, second := range slices.Sorted(maps.Keys(f.seconds[f.flight.folded(repl.Place{Dir: dir, Name: name})])) {
		f.dirty.mark(dir, second, true)
	}
}

// placeKey is the key of a live record's place, false if it has none.
func (f *Folder) placeKey(r *repl.Record) (repl.Place, bool) {
	p, ok := f.placeOf(&r.Update)
	return f.flight.folded(p), ok && r.Present && !r.Parent.IsZero()
}

// claim notes the places of what is written. It is false, and notes none, if two
// writes, of a group and of what was gathered before it, are of one place.
func (f *Folder) claim(writes []store.Write, g *gathered) bool {
	var met map[repl.Place]repl.UID
	for i := range writes {
		at, ok := f.placeKey(&writes[i].Record)
		if !ok {
			continue
		}
		_, taken := g.places[at]
		if _, twice := met[at]; taken || twice {
			return false
		}
		if len(writes) == 1 {
			g.places[at] = writes[i].Record.UID
			return true
		}
		met = with(met, at, writes[i].Record.UID)
	}
	maps.Copy(g.places, met)
	return true
}

// rests reports whether a draft by itself leaves a live object at its place, which
// no other comes to as long as the record stands.
func (f *Folder) rests(group []capture.Draft, writes []store.Write) bool {
	if len(group) > 1 || len(writes) > 1 || f.cfg.ReadOnly {
		return false
	}
	p, r := group[0].Prior, &writes[0].Record
	return p != nil && p.Present && r.Present && p.Parent == r.Parent && p.Name == r.Name
}

// retitle follows directories that moved, went or were merged with the findings
// of names in them that are looked at no more.
func (f *Folder) retitle() {
	if !f.moves {
		return
	}
	f.moves = false
	for at, r := range maps.Clone(f.raised) {
		if r.Code != finding.NameCollides {
			continue // their names are looked at again
		}
		is := spot{name: at.name}
		var err error
		if is.dir, err = f.st.Canonical(at.dir); f.storeFailed(err) {
			return
		}
		rec, ok, err := f.st.Get(is.dir)
		if f.storeFailed(err) {
			return
		}
		title := ""
		if ok && rec.Present {
			above, err := f.st.Path(is.dir)
			if f.storeFailed(err) {
				return
			}
			title = path.Join(above, at.name)
		}
		if is == at && title == r.Object {
			continue
		}
		f.unraise(at)
		if title == "" {
			continue
		}
		r.Object = title
		f.raiseAt(is, r)
	}
}
