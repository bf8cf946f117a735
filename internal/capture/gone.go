package capture

import (
	"context"
	"errors"
	"path"

	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// Gone judges records that were missing at their places, when everything that
// was seen of the tree so far has been stored, and hands the deletions to emit:
// of a directory, those of everything on record below it first. It returns
// errors like Look.
func Gone(ctx context.Context, deps *Deps, uids []repl.UID, emit func(Draft) error) (Result, error) {
	l := newLook(ctx, deps, emit)
	defer l.forget()
	l.asked = make(map[repl.UID]bool, len(uids))
	for _, uid := range uids {
		l.asked[uid] = false
	}
	for _, uid := range uids {
		if l.asked[uid] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return l.result, err
		}
		if err := l.gone(uid); err != nil {
			return l.result, err
		}
	}
	return l.result, nil
}

// gone judges one record.
func (l *look) gone(uid repl.UID) error {
	rec, ok, err := l.deps.Records.Get(uid)
	if err != nil || !ok || !rec.Present || rec.Presence != repl.OnDisk || uid == l.deps.Root {
		return err
	}
	s, err := l.parent(&rec)
	if err != nil || s == nil {
		return err // of what lies in a missing or hidden directory nothing is concluded
	}
	st, err := s.dir.Lookup(rec.Name)
	switch {
	case errors.Is(err, volume.ErrNotExist):
	case err != nil:
		l.raise(finding.FileUnreadable, s.pathOf(rec.Name), err.Error())
		l.result.Unsure = append(l.result.Unsure, uid)
		return nil
	case same(&rec, &st):
		return nil // it is back
	default:
		gives, err := l.givesWay(&rec, &st)
		if err != nil {
			return err
		}
		l.dirty(Dirty{Dir: s.uid, Name: rec.Name, Wrote: st.Type != repl.File})
		if !gives {
			return nil
		}
	}
	return l.decide(&rec)
}

// givesWay reports whether a record that lies no more at its place may be
// judged although something else lies there now. If not, a look at the place
// decides, where the record may live on.
func (l *look) givesWay(rec *repl.Record, st *volume.Stat) (bool, error) {
	if l.keptOut(rec.Name, st) {
		return true, nil
	}
	if rec.Type != repl.Directory {
		return false, nil
	}
	if st.Type != repl.Directory {
		return true, nil
	}
	recs, err := l.known(rec.UID, st)
	return len(recs) > 0, err
}

// decide deletes a record whose object is not at its place, unless it is
// elsewhere.
func (l *look) decide(rec *repl.Record) error {
	fate, at, err := l.fate(rec)
	if err != nil {
		return err
	}
	switch fate {
	case obscured:
		l.result.Unsure = append(l.result.Unsure, rec.UID)
		return nil
	case elsewhere:
		l.result.Gone = append(l.result.Gone, rec.UID)
		return l.sawAt(at)
	}
	if rec.Type == repl.Directory {
		rest, err := l.bury(rec, repl.UID{}, 0)
		if err != nil {
			return err
		}
		if rest.moved && !l.undoes(rec) {
			l.result.Gone = append(l.result.Gone, rec.UID)
			return nil
		}
		if rest.held {
			l.result.Wanted = append(l.result.Wanted, rec.UID)
			return nil
		}
	}
	return l.kill(rec)
}

// isOf reports whether a file or link on record is the object of another record, by
// another name.
func (l *look) isOf(uid repl.UID, rec *repl.Record) (bool, error) {
	if uid.IsZero() || rec.Type == repl.Directory || rec.Identity.Handle == "" {
		return false, nil
	}
	other, ok, err := l.deps.Records.Get(uid)
	return ok && other.Identity == rec.Identity, err
}

// undoes reports whether a deletion is not stored but undone. What left a directory
// is put back into it then: it must be there again first.
func (l *look) undoes(rec *repl.Record) bool { return l.deps.Undoes && !rec.Provisional }

// kill drafts a deletion, once.
func (l *look) kill(rec *repl.Record) error {
	if done, asked := l.asked[rec.UID]; asked {
		if done {
			return nil
		}
		l.asked[rec.UID] = true
	}
	return l.emit(Tombstone(rec))
}

// sawAt has a path looked at where an object was seen.
func (l *look) sawAt(at string) error {
	s, held, err := l.recorded(at)
	l.blocked = l.blocked || held
	if err != nil || s == nil {
		return err
	}
	l.dirty(Dirty{Dir: s.uid, Name: path.Base(at)})
	l.leave(s)
	return nil
}

// rest says what keeps a directory from being deleted.
type rest struct {
	moved bool // something of it is elsewhere in the folder and must be captured first
	held  bool // something of it is alive without being on this disk
	taker bool // an object that leaves it in the same batch is in it
	// with holds the moves of those that leave it, and the deletions of the
	// directories between, which belong into that batch.
	with []Draft
}

func (r *rest) add(o rest) {
	r.moved = r.moved || o.moved
	r.held = r.held || o.held
	r.taker = r.taker || o.taker
	r.with = append(r.with, o.with...)
}

// bury deletes what is on record below a directory that is gone, children
// before parents. What is seen elsewhere stays, and so do those above it; of
// taker it is known that it leaves, and others move with it if they can: their
// new places may be in it.
func (l *look) bury(dir *repl.Record, taker repl.UID, depth int) (rest, error) {
	var all rest
	var page []repl.Record
	var err error
	for after := ""; ; after = page[len(page)-1].Name {
		if err := l.ctx.Err(); err != nil {
			return all, err
		}
		if page, err = l.page(dir.UID, after, page); err != nil {
			return all, err
		}
		for i := range page {
			r, err := l.buryOne(&page[i], taker, depth)
			if err != nil {
				return all, err
			}
			all.add(r)
		}
		if len(page) < pageSize {
			return all, nil
		}
	}
}

// buryOne deletes one object of a directory that is gone.
func (l *look) buryOne(rec *repl.Record, taker repl.UID, depth int) (rest, error) {
	if rec.UID == taker {
		return rest{taker: true}, nil
	}
	switch rec.Presence {
	case repl.OnDisk:
	case repl.Hidden, repl.Absent: // a filter hides it, or hid it: it goes with its directory
		if rec.Type == repl.Directory {
			if r, err := l.bury(rec, taker, depth); err != nil || r.moved || r.held {
				return r, err
			}
		}
		return rest{}, l.kill(rec)
	default:
		return rest{held: true}, nil
	}
	fate, at, err := l.fate(rec)
	if err != nil {
		return rest{}, err
	}
	switch fate {
	case obscured:
		return rest{held: true}, nil
	case elsewhere:
		if is, err := l.isOf(taker, rec); err != nil || is {
			return rest{}, errors.Join(err, l.kill(rec)) // another name of it has come there
		}
		if _, left := l.moved[rec.UID]; !left && l.here != nil && depth < maxChain {
			if with, ok, err := l.follow(copied(rec), at, taker, depth); err != nil || ok {
				return rest{taker: true, with: with}, err
			}
		}
		return rest{moved: true}, l.sawAt(at)
	}
	if rec.Type == repl.Directory {
		r, err := l.bury(rec, taker, depth)
		if r.held && !r.moved { // it is not there either
			l.result.Wanted = append(l.result.Wanted, rec.UID)
		}
		if err != nil || r.moved || r.held {
			return r, err
		}
		if r.taker {
			r.with = append(r.with, Tombstone(rec))
			return r, nil
		}
	}
	return rest{}, l.kill(rec)
}
