package main

import (
	"slices"
	"sync"

	"opendfs/internal/control/controlpb"
	"opendfs/internal/engine"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// maxRecent is how many of the last updates are kept for people to see.
const maxRecent = 20

// recent is what a folder got to know last, by comparing its vector with what
// it was. The zero value is ready. Safe for concurrent use.
type recent struct {
	mu    sync.Mutex
	seen  version.Vector          // guarded by mu; nil before the first look
	lines []*controlpb.UpdateLine // guarded by mu; oldest first, at most maxRecent; never written to
}

// note looks for what is new and returns the last updates. Of many at once only
// some are seen.
func (r *recent) note(s *engine.Status, records *store.Folder) []*controlpb.UpdateLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := s.Vector.Minus(r.seen)
	if r.seen == nil || len(fresh) == 0 {
		r.seen = s.Vector
		return slices.Clone(r.lines)
	}
	r.seen = s.Vector
	updates, _, _, err := records.Updates(fresh, version.GVSN{}, maxRecent)
	if err != nil { // the folder itself meets it too, and says so
		return slices.Clone(r.lines)
	}
	for i := range updates {
		line := updateLine(records, &updates[i], nil)
		line.MadeBy = madeBy(updates[i].GVSN.Originator, records)
		r.lines = append(r.lines, line)
	}
	r.lines = slices.Clone(r.lines[max(0, len(r.lines)-maxRecent):])
	return slices.Clone(r.lines)
}
