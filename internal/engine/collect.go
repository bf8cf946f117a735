package engine

import (
	"slices"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// The bounds on what a search for old tombstones does at once, and how often.
const (
	siftRows     = 4096
	siftPause    = 20 * time.Millisecond // between two parts, so that a search is never felt
	siftEvery    = 24 * time.Hour
	maxSiftDirs  = 1 << 16 // directories that one search collects
	maxSiftNames = 1 << 20 // directories that tombstones were found to name
)

// sift is a search of all records for tombstones that may go (rule 25): old, and
// covered by every member of the folder.
type sift struct {
	above  repl.UID // where it goes on
	at     repl.Time
	busy   bool
	before repl.Time
	covers version.Vector
	// named are directories that a tombstone names as its parent or its heir:
	// they stay, and what was searched is searched again when it has gone.
	named     map[repl.UID]bool
	dirs      []grave
	collected int
}

// grave is a tombstone that may go.
type grave struct {
	uid  repl.UID
	gvsn version.GVSN
}

// startCollecting begins a search when its time has come, or goes on with it.
func (f *Folder) startCollecting() {
	if f.phase != store.PhaseNormal || f.cfg.TombstoneLifetime <= 0 || len(f.cfg.Members) == 0 {
		return
	}
	now := f.now()
	switch s := f.sift; {
	case s == nil && f.collectAt <= now && f.st.Counts().Tombstones > 0 && !f.surveying:
		f.surveying = true
		f.do(&Survey{cfg: f.cfg})
	case s != nil && !s.busy && s.at <= now:
		s.busy = true
		f.do(&Sift{of: s, above: s.above, before: s.before, covers: s.covers})
	}
}

// collectWait is how long a member lets pass between two searches.
func (f *Folder) collectWait() repl.Time {
	return repl.Time(min(siftEvery, f.cfg.TombstoneLifetime/stateParts))
}

// Survey finds out what this member itself durably covers, before a search.
type Survey struct{ cfg *Config }

// Class says that it waits, for a flush.
func (*Survey) Class() Class { return ClassAsk }

// Run posts it.
func (a *Survey) Run(ctx Context, post func(Event)) {
	own, err := ctx.statement(a.cfg)
	post(surveyed{own, err})
}

type surveyed struct {
	own repl.Statement
	err error
}

func (e surveyed) apply(f *Folder) {
	f.surveying = false
	f.collectAt = f.now() + f.collectWait()
	if f.storeFailed(e.err) {
		return
	}
	f.own = e.own
	if covers := f.covering(); len(covers) > 0 && f.phase == store.PhaseNormal {
		f.sift = &sift{before: f.now() - repl.Time(f.cfg.TombstoneLifetime), covers: covers, named: make(map[repl.UID]bool)}
	}
}

// Sift looks at some records for tombstones that may go.
type Sift struct {
	of     *sift
	above  repl.UID
	before repl.Time
	covers version.Vector
}

// Class says that it reads.
func (*Sift) Class() Class { return ClassLook }

// Run posts what it found.
func (a *Sift) Run(ctx Context, post func(Event)) {
	ev := sifted{of: a.of}
	ev.next, ev.err = ctx.Store.Dead(a.above, siftRows, func(rec *repl.Record) {
		ev.named = append(ev.named, rec.Parent)
		if !rec.Heir.IsZero() {
			ev.named = append(ev.named, rec.Heir)
		}
		if rec.Clock >= a.before || !a.covers.Contains(rec.GVSN) || !mayGo(rec) {
			return
		}
		if g := (grave{rec.UID, rec.GVSN}); rec.Type == repl.Directory {
			ev.dirs = append(ev.dirs, g)
		} else {
			ev.others = append(ev.others, g)
		}
	})
	post(ev)
}

// mayGo reports whether a tombstone is of a kind that is ever collected. The one
// of a merged directory is not: what lies in its heir may name it for ever
// (rule 8).
func mayGo(rec *repl.Record) bool {
	return !rec.Present && !rec.Provisional && rec.Heir.IsZero() && rec.Presence == repl.Absent && !rec.Parent.IsZero()
}

// sifted brings what was found; next is zero at the end of the records.
type sifted struct {
	of     *sift
	next   repl.UID
	others []grave
	dirs   []grave
	named  []repl.UID
	err    error
}

func (e sifted) apply(f *Folder) {
	s := f.sift
	if s != e.of || f.storeFailed(e.err) {
		return
	}
	s.busy, s.above, s.at = false, e.next, f.now()+repl.Time(siftPause)
	for _, uid := range e.named {
		if len(s.named) < maxSiftNames {
			s.named[uid] = true
		}
	}
	if room := maxSiftDirs - len(s.dirs); room > 0 {
		s.dirs = append(s.dirs, e.dirs[:min(room, len(e.dirs))]...)
	}
	if s.collected += f.collect(s, e.others); !e.next.IsZero() {
		return
	}
	f.sift = nil
	if len(s.named) < maxSiftNames {
		dirs := slices.DeleteFunc(s.dirs, func(g grave) bool {
			referred, err := f.st.Referred(g.uid)
			return s.named[g.uid] || referred || f.storeFailed(err)
		})
		s.collected += f.collect(s, dirs)
	}
	if s.collected > 0 { // directories go after what lay in them
		f.collectAt = f.now() + f.collectWait()/10
	}
}

// collect removes tombstones, those that are still what they were and that
// nothing under way is about. What no diff that is open could bring back goes
// alone: its partner's snapshot must cover what the floor will hold.
func (f *Folder) collect(s *sift, graves []grave) int {
	if f.phase != store.PhaseNormal || f.stopped != "" {
		return 0
	}
	var uids []repl.UID
	highest := make(map[version.Originator]uint64)
	for _, g := range graves {
		rec, ok, err := f.st.Get(g.uid)
		if f.storeFailed(err) {
			return 0
		}
		_, refused := f.refused[g.uid]
		if !ok || rec.GVSN != g.gvsn || !mayGo(&rec) || refused || f.flight.holds(g.uid) || f.flight.touches(g.uid) {
			continue
		}
		uids = append(uids, g.uid)
		highest[g.gvsn.Originator] = max(highest[g.gvsn.Originator], g.gvsn.Version)
	}
	if len(uids) == 0 {
		return 0
	}
	floor := make(version.Vector, len(highest))
	for o, top := range highest {
		upTo := version.Vector{o: {{Low: 0, High: top}}}
		floor[o] = upTo.Minus(upTo.Minus(s.covers))[o]
	}
	for _, l := range f.links {
		if l.diff != nil && !l.diff.vector.Covers(floor) {
			return 0 // next time
		}
	}
	for chunk := range slices.Chunk(uids, dropChunk) {
		if f.storeFailed(f.st.Put(&store.Batch{Collect: chunk, Floor: floor})) {
			return 0
		}
	}
	f.stats.Collected += uint64(len(uids))
	return len(uids)
}
