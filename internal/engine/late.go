package engine

import (
	"maps"
	"slices"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// late are directories that the walk after an unclean stop could not list to the
// end. It ends without them, so that one of them holds nothing up. When they can
// be read at last, what is found in them, and below, is marked as the walk would
// have marked it (rule 19); what was in doubt when it ended has lost its
// fingerprint on record, since the next start may doubt nothing.
type late struct{ dirs map[repl.UID]bool }

// failed notes that a directory could not be listed to the end.
func (l *late) failed(f *Folder, dir repl.UID) {
	if !f.unclean && f.doubt.Since == 0 {
		return
	}
	if l.dirs == nil {
		l.dirs = make(map[repl.UID]bool)
	}
	l.dirs[dir] = true
}

// listed notes that a directory was listed to the end; those in it follow.
func (l *late) listed(dir repl.UID, below []repl.UID) {
	if !l.dirs[dir] {
		return
	}
	delete(l.dirs, dir)
	for _, uid := range below {
		l.dirs[uid] = true
	}
}

// walked ends the doubt of the walk.
func (f *Folder) walked() {
	if f.doubt.Since != 0 {
		for _, dir := range slices.SortedFunc(maps.Keys(f.late.dirs), repl.UID.Compare) {
			f.distrust(dir)
		}
	}
	f.walking, f.unclean, f.doubt = false, false, capture.Doubt{}
}

// evacuateRetry is when a member at the end of its initial sync tries again to
// move what only it has out of the tree: a user was there.
const evacuateRetry = time.Second

// startEvacuating tries it again if it is time to.
func (f *Folder) startEvacuating() {
	if f.phase != store.PhaseInitialSync || f.evacuateAt == 0 || f.evacuateAt > f.now() {
		return
	}
	if f.busyLocally() {
		f.evacuateAt = f.now() + repl.Time(evacuateRetry)
		return
	}
	f.evacuateAt = 0
	f.initialSyncDone()
}

// with is m, made if there is none, with a value more.
func with[K comparable, V any](m map[K]V, k K, v V) map[K]V {
	if m == nil {
		m = make(map[K]V)
	}
	m[k] = v
	return m
}
