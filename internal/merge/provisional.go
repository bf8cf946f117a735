package merge

import "opendfs/internal/repl"

// giveWay settles that p, which only this member's initial build knows, lies
// where the partner has w. Nothing is minted: p's record goes. A directory's
// stays to the end of the initial sync as a tombstone that names w, so that
// what lies in it is found there. It reports whether directories were merged.
func (d *decider) giveWay(p, w *entry) bool {
	p.rival = w
	switch {
	case p.now.Type != repl.Directory:
		p.keep = repl.KeepConflict
		d.drop(p)
	case w.now.Type != repl.Directory:
		d.dropTree(p, repl.KeepConflict)
	default:
		u := tombstone(p.now)
		u.NameConflict, u.Heir = true, w.uid
		cause := d.culprit(w)
		d.draft(p, u, repl.VerdictDropProvisional, cause)
		p.mint = false
		d.merge(p, w)
		return true
	}
	return false
}

// drop takes a provisional record away.
func (d *decider) drop(p *entry) {
	d.set(p, nil)
	p.verdict = repl.VerdictDropProvisional
	d.drafts++
}

// dropTree takes a provisional object away with all that lies in it, which
// goes where it goes.
func (d *decider) dropTree(p *entry, keep repl.Keep) {
	p.keep = keep
	for todo := []*entry{p}; len(todo) > 0 && d.err == nil; {
		e := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if e.now.Type == repl.Directory {
			var below []repl.Record
			err := d.view.Children(e.uid, "", func(rec *repl.Record) bool {
				if rec.Provisional {
					below = append(below, *rec)
				}
				return true
			})
			if err != nil {
				d.fail(err)
			}
			for i := range below {
				if c := d.loadRecord(&below[i]); c.provisional() && !c.touched() {
					c.inside = true
					todo = append(todo, c)
				}
			}
		}
		d.drop(e)
	}
}
