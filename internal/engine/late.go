package engine

import (
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// late are directories that the walk after an unclean stop could not list to the
// end. It ends without them, so that one of them holds nothing up; when they can
// be read at last, what is found in them, and below, is doubted as the walk would
// have (rule 19).
type late struct {
	dirs  map[repl.UID]bool
	doubt capture.Doubt
}

// failed notes that a directory could not be listed to the end.
func (l *late) failed(f *Folder, dir repl.UID) {
	if !f.unclean && f.doubt.Since == 0 {
		return
	}
	if l.dirs == nil {
		l.dirs = make(map[repl.UID]bool)
	}
	l.dirs[dir], l.doubt = true, f.doubt
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

// doubtIn is the doubt about what lies in a directory.
func (f *Folder) doubtIn(dir repl.UID) capture.Doubt {
	if f.late.dirs[dir] {
		return f.late.doubt
	}
	return f.doubt
}

// evacuateRetry is when a member at the end of its initial sync tries again to
// move what only it has out of the tree: a user was there.
const evacuateRetry = time.Second

// startEvacuating tries it again if it is time to.
func (f *Folder) startEvacuating() {
	if f.phase != store.PhaseInitialSync || f.evacuateAt == 0 || f.evacuateAt > f.now() || f.busyLocally() || len(f.flight.changes) > 0 {
		return
	}
	f.evacuateAt = 0
	f.initialSyncDone()
}

// with is m, made if there is none, with a value more.
func with[V any](m map[repl.UID]V, uid repl.UID, v V) map[repl.UID]V {
	if m == nil {
		m = make(map[repl.UID]V)
	}
	m[uid] = v
	return m
}
