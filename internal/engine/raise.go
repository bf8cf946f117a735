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
	dir, err := f.st.Canonical(w.Dir)
	if f.storeFailed(err) {
		return
	}
	now := make(map[spot]capture.Raised, len(raised))
	for _, r := range raised {
		at := spot{dir, path.Base(r.Object)}
		if other, two := now[at]; !two || severity(r.Code) > severity(other.Code) {
			now[at] = r // of one name the worst is told
		}
	}
	over := func(at spot) {
		old, was := f.raised[at]
		if r, is := now[at]; was && (!is || r.Code != old.Code || r.Object != old.Object) {
			f.unraise(at)
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
	for _, r := range raised {
		at := spot{dir, path.Base(r.Object)}
		if now[at] != r {
			continue
		}
		over(at)
		f.raiseAt(at, r)
	}
}

func severity(c finding.Code) finding.Severity {
	kind, _ := finding.Lookup(c)
	return kind.Severity
}

// raiseAt raises what is wrong with a name, if there is room to remember it: what
// is raised can be cleared.
func (f *Folder) raiseAt(at spot, r capture.Raised) {
	if _, known := f.raised[at]; !known {
		if f.raisedOf[r.Code] >= maxRaised {
			return
		}
		f.raisedOf[r.Code]++
	}
	f.raised[at] = r
	f.noteSecond(at, r.Code == finding.NameCollides)
	f.raise([]capture.Raised{r})
}

// unraise clears what was raised of a name.
func (f *Folder) unraise(at spot) {
	r, was := f.raised[at]
	if !was {
		return
	}
	f.find.Clear(r.Code, f.cfg.Name+":"+r.Object)
	f.raisedOf[r.Code]--
	delete(f.raised, at)
	f.noteSecond(at, false)
}
