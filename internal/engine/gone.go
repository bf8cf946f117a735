package engine

import (
	"errors"

	"opendfs/internal/capture"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// goneMark is a record whose name was not there. It may be deleted only when
// every name marked before has been looked at: it may have moved there.
type goneMark struct {
	uid   repl.UID
	seq   uint64
	after repl.Time // not before
}

// startGone looks into names that were not there, as soon as all names marked
// before them have been looked at.
func (f *Folder) startGone() {
	if f.goneRun || len(f.gone) == 0 {
		return
	}
	settled := f.dirty.oldest()
	for _, seq := range f.looking {
		settled = min(settled, seq)
	}
	var uids []repl.UID
	met := make(map[repl.UID]bool)
	left := f.gone[:0]
	for _, g := range f.gone {
		switch {
		case g.seq >= settled || g.after > f.now() || len(uids) >= goneChunk:
			left = append(left, g)
		case !met[g.uid]:
			met[g.uid] = true
			uids = append(uids, g.uid)
		}
	}
	f.gone = left
	if len(uids) > 0 {
		f.goneRun = true
		f.do(&LookGone{UIDs: uids, cfg: f.cfg})
	}
}

// goneLooked tells that missing names have been looked into.
type goneLooked struct {
	of     *LookGone
	drafts []capture.Draft
	result capture.Result
	err    error
}

func (e goneLooked) apply(f *Folder) {
	f.goneRun = false
	if f.goneByOther(e.of) {
		return
	}
	f.commitDrafts(e.drafts, false)
	f.raise(e.result.Findings)
	if e.err != nil {
		if errors.Is(e.err, store.ErrCorrupt) {
			f.storeFailed(e.err)
			return
		}
		f.find.Raise(finding.ListingError, f.cfg.Name, e.err.Error())
	}
	f.markPlaces(e.result.Dirty)
	f.remake(e.result.Wanted)
	for _, uid := range e.result.Gone { // moved: look there first, then here again
		if _, waits := f.refused[uid]; !waits {
			f.gone = append(f.gone, goneMark{uid, f.dirty.seq, f.now() + repl.Time(goneRetry)})
		}
	}
	for _, uid := range e.result.Unsure {
		f.gone = append(f.gone, goneMark{uid, f.dirty.seq, f.now() + repl.Time(unsureRetry)})
	}
}

// remake brings back directories that a user removed while records that this disk
// does not show still live in them (rule 11): nobody saw those go. They are
// missed like what a filter hid.
func (f *Folder) remake(uids []repl.UID) {
	for _, uid := range uids {
		rec, ok, err := f.st.Get(uid)
		if f.storeFailed(err) {
			return
		}
		if !ok || !rec.Present || rec.Presence != repl.OnDisk {
			continue
		}
		shown := false // what went with it is to be found gone first: of what lies in a missing directory nothing is
		err = f.st.Children(uid, "", func(child *repl.Record) bool {
			shown = child.Presence == repl.OnDisk
			return !shown
		})
		if f.storeFailed(err) {
			return
		}
		if shown || f.flight.holds(uid) {
			f.gone = append(f.gone, goneMark{uid, f.dirty.seq, f.now() + repl.Time(goneRetry)})
			continue
		}
		if !f.misses(&rec) {
			return
		}
	}
}

// misses says of a live object that it is to be on this disk and is not.
func (f *Folder) misses(rec *repl.Record) bool {
	now := *rec
	now.Presence, now.Identity, now.Print = repl.Obscured, repl.Identity{}, repl.Print{}
	if f.storeFailed(f.st.Put(&store.Batch{Writes: []store.Write{{Record: now, Base: now.GVSN}}})) {
		return false
	}
	f.missSome()
	f.showWait, f.showAt = 0, 0
	return true
}
