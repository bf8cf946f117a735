package merge

import (
	"opendfs/internal/filter"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// plain is Decide of a batch in which each update gives a live file that is on
// this disk other metadata, or a later clock, and nothing else: no object comes to
// a place, leaves one or changes what hangs on it, so that none has to do with
// another. ok is false of any other batch, of which nothing is decided. What is
// decided is what decide would: a change of all permissions comes as such batches
// alone, and most of the work on them would be to find that out anew for each.
func plain(view View, updates []repl.Update, partner version.Vector, opts Options) (plan repl.Plan, ok bool) {
	d := &decider{
		view: view, partner: partner, opts: opts, root: repl.RootUID(opts.Folder), fold: filter.Folder(opts.Fold),
		entries: make(map[repl.UID]*entry), hid: make(map[repl.UID]hiding),
	}
	var dir *entry
	var met map[repl.UID]struct{}
	var changes []repl.Change
	for i := range updates {
		u := &updates[i]
		if dir == nil || dir.uid != u.Parent {
			if dir = d.load(u.Parent); !d.holdsPlain(dir) {
				return plan, false
			}
		}
		rec, had, err := view.Get(u.UID)
		if err != nil || !had || !onlyMeta(&rec, u) || opts.Filter.TooLong(u.Name) {
			return plan, false
		}
		if changes == nil { // most other batches end at their first update
			met, changes = make(map[repl.UID]struct{}, len(updates)), make([]repl.Change, len(updates))
		}
		met[u.UID] = struct{}{}
		c := &changes[i]
		c.Verdict, c.Update, c.Was, c.Object = repl.VerdictMeta, *u, rec, rec
		c.To = repl.Place{Dir: u.Parent, Name: u.Name}
		c.From = c.To
		c.Meta = !repl.SameMeta(&rec.Update, u)
	}
	if len(updates) == 0 || len(met) < len(updates) || d.err != nil {
		return plan, false
	}
	return repl.Plan{Changes: changes}, true
}

// holdsPlain reports whether an object stays where it is in a directory: that is
// live, no other has become it, and it is on this disk or was.
func (d *decider) holdsPlain(dir *entry) bool {
	return dir.uid == d.root || dir.wasLive() && dir.was.Type == repl.Directory && !dir.was.Provisional && d.hiding(dir) != unheld
}

// onlyMeta reports whether an update that is greater than the record of a live file
// on this disk changes nothing of it but its metadata.
func onlyMeta(rec *repl.Record, u *repl.Update) bool {
	return u.Type == repl.File && u.Present && rec.Type == repl.File && rec.Present && rec.Presence == repl.OnDisk && !rec.Provisional &&
		u.Parent == rec.Parent && u.Name == rec.Name && u.CreateTime == rec.CreateTime && u.Size == rec.Size && repl.SameContent(&rec.Update, u) &&
		u.GVSN != rec.GVSN && repl.Compare(u, &rec.Update) > 0 && u.Check() == nil
}
