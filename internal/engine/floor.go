package engine

import (
	"fmt"

	"opendfs/internal/finding"
	"opendfs/internal/store"
	"opendfs/internal/wire"
)

// aboveFloors reports whether a page may be taken: its partner covers what was
// collected here, and a member in its initial sync, which is given the floors of
// those that it compares itself with, has nothing of another one that may have
// been collected under this floor. A partner that does not cover the floor starts
// anew, when it asks this member. One in its initial sync serves nobody, so that it
// is itself the one to start anew: whoever gave it the floor may have been put out.
func (f *Folder) aboveFloors(l *link, page *wire.DiffPage) bool {
	floor, object := f.st.Floor(), f.cfg.Name+" from "+l.member.String()
	if !page.Vector.Covers(floor) {
		l.known = nil // what it knows is not asked for
		f.find.Raise(finding.PartnerStale, object, "")
		f.endDiff(l, false)
		if f.phase == store.PhaseInitialSync {
			f.stale(l, "does not know what this member's first sync began with")
			return false
		}
		f.delay(l)
		return false
	}
	f.find.Clear(finding.PartnerStale, object)
	switch {
	case floor.Covers(page.Floor):
	case len(floor) > 0 || f.phase != store.PhaseInitialSync || f.begun():
		f.endDiff(l, false)
		f.stale(l, forgotten)
		return false
	case f.storeFailed(f.st.Put(&store.Batch{Floor: page.Floor, NoSync: true})):
		return false
	}
	l.stale = false
	return true
}

// begun reports whether anything that others made is here or on its way, but for the
// root and for what closes an originator. The partner that sends its floor cannot tell:
// it was told what this member knew when it asked, and makes out of that only what it
// knows itself. Something of another partner may be of what was collected under the floor.
func (f *Folder) begun() bool {
	if len(f.flight.aloft) > 0 {
		return true
	}
	for _, l := range f.links {
		if l.diff != nil {
			return true
		}
	}
	own := f.st.State().Originator
	for o, spans := range f.st.Vector() {
		if o != own && o != f.root().Originator && spans[0].High < closing {
			return true
		}
	}
	return false
}

// forgotten is why records are too old for a diff with a partner.
const forgotten = "has forgotten deletions that were never heard of here"

// stale handles a partner that has collected what this member does not cover: its
// records are too old for a diff. It starts anew, not authoritatively (rule 25).
// In its initial sync it goes on with another partner, if one is ready. What a database
// has collected that was put out is nothing to this one: it is that one that starts anew.
func (f *Folder) stale(l *link, why string) {
	l.stale = true
	f.delay(l)
	if f.phase == store.PhaseNormal && f.outID(l.member) {
		f.find.Raise(finding.PartnerStale, f.cfg.Name+" from "+l.member.String(), "")
		return
	}
	if f.phase != store.PhaseNormal {
		for _, other := range f.links {
			if other.up && !other.stale && !other.unready { // two that wait for each other would for ever
				return
			}
		}
	}
	f.fail(finding.MemberStale, fmt.Sprintf("partner %v %s", l.member, why))
	f.rebuild = true
}
