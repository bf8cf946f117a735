package engine

import (
	"path"

	"opendfs/internal/capture"
	"opendfs/internal/finding"
)

// raise raises what a look found wrong.
func (f *Folder) raise(raised []capture.Raised) {
	for _, r := range raised {
		f.find.Raise(r.Code, f.cfg.Name+":"+r.Object, r.Detail)
	}
}

// reraise raises what a look found wrong and clears what an earlier look at the
// same names had found and this one has not.
func (f *Folder) reraise(w *capture.Work, raised []capture.Raised) {
	f.raise(raised)
	dir, err := f.st.Canonical(w.Dir)
	if f.storeFailed(err) {
		return
	}
	now := make(map[spot]capture.Raised, len(raised))
	for _, r := range raised {
		now[spot{dir, path.Base(r.Object)}] = r
	}
	over := func(at spot) {
		old, was := f.raised[at]
		if r, is := now[at]; was && (!is || r.Code != old.Code) {
			f.find.Clear(old.Code, f.cfg.Name+":"+old.Object)
			delete(f.raised, at)
			f.noteSecond(at, false)
		}
	}
	if w.All {
		for at := range f.raised {
			if at.dir == dir {
				over(at)
			}
		}
	}
	for _, n := range w.Names {
		over(spot{dir, n.Name})
	}
	for at, r := range now {
		if old, was := f.raised[at]; was && old.Object != r.Object {
			f.find.Clear(old.Code, f.cfg.Name+":"+old.Object)
		}
		if len(f.raised) < maxRaised {
			f.raised[at] = r
			f.noteSecond(at, r.Code == finding.NameCollides)
		}
	}
}
