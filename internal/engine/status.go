package engine

import (
	"maps"

	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// Stats counts what a folder has done since it was opened.
type Stats struct {
	Captured     uint64 // updates of ours
	Installed    uint64 // updates of others
	Bytes        uint64 // content installed
	Saved        uint64 // of it, what did not have to come because old versions held it
	Similar      uint64 // of that, what files like it held
	LocalRefused uint64 // changes on a read-only member
	Reanimated   uint64 // deleted objects that came back under their names here
	Redecided    uint64 // installs that met a changed tree
	Collected    uint64 // tombstones that were old and known to all
	Kept         uint64 // objects put into the conflict store
	Fenced       uint64 // updates of authoritative restores
	Held         uint64 // times that an originator was held (rule 27)
	Rejected     uint64 // updates answered by ours, because they were rejected
	Compared     uint64 // slow syncs
	Differed     uint64 // records that they found to differ
	Verdicts     [repl.Verdicts]uint64
	LastChange   repl.Time
	conflicts    uint64 // versions kept that lost one
	amended      uint64 // updates of metadata alone, captured or installed
	lastError    string
}

func (s *Stats) captured(writes []store.Write, now repl.Time) {
	for i := range writes {
		if writes[i].Record.GVSN != writes[i].Base { // else only what is known of the disk changed
			s.Captured++
		}
	}
	s.LastChange = now
}

func (s *Stats) installed(put *store.Batch, now repl.Time) {
	s.Installed += uint64(len(put.Writes))
	s.LastChange = now
}

func (s *Stats) verdicts(plan *repl.Plan) {
	s.Verdicts[repl.VerdictKnown] += uint64(len(plan.Known))
	for i := range plan.Changes {
		s.Verdicts[plan.Changes[i].Verdict]++
	}
}

// LinkStatus is how one upstream partner stands.
type LinkStatus struct {
	Up      bool
	Idle    bool           // all that the partner had is here, but for Held
	Known   version.Vector // the partner's vector as last seen
	Held    version.Vector // what could not be committed yet
	Delayed bool           // it was not ready, or failed, and is asked again in a while
	Pending int            // updates on their way
	Saved   uint64         // bytes of content from it that did not have to come
	Similar uint64         // of them, those that other files held
	// Originator is the partner's own; zero where it has not said.
	Originator version.Originator
	SlowSync   repl.Time // when the last slow sync with it ended; 0: there was none
}

// Status is a picture of the folder after a step.
type Status struct {
	Phase     wire.Phase
	Stopped   string // the finding that stopped it
	Walking   bool
	Dirty     int // directories with names to look at
	Looking   int
	Later     int // names that could not be captured yet
	Open      int // files that users have open for writing, and that are not at rest
	InFlight  int // changes that plans under way hold
	Vector    version.Vector
	Retired   int            // of Vector, originators that were given up and that all cover
	Floor     version.Vector // up to where tombstones were collected
	Evicted   []string       // servers that are not waited for
	Links     map[repl.MemberID]LinkStatus
	Partners  map[repl.MemberID]version.Vector // what downstream partners know
	Counts    store.Counts
	Stats     Stats
	Holds     []Hold
	LastError string
	Rebuild   bool
}

// Stats returns what the folder has done since it was opened.
func (f *Folder) Stats() Stats { return f.stats }

// standing is what tells a folder in which something happens from one that rests.
type standing struct {
	stats                            Stats
	phase                            wire.Phase
	rebuild, walking, install, links bool
	dirty, looking, later, flight    int
	gone                             int
}

func (f *Folder) standing() standing {
	s := standing{
		stats: f.stats, phase: f.Phase(), rebuild: f.rebuild, walking: f.walking || f.walkAt > 0 || f.goneRun, install: f.install != nil,
		dirty: len(f.dirty.queue), looking: len(f.looking), later: len(f.later), flight: len(f.flight.aloft), gone: len(f.gone),
	}
	for _, l := range f.links {
		s.links = s.links || l.diff != nil
	}
	return s
}

// Status describes the folder.
func (f *Folder) Status() Status {
	s := Status{
		Phase: f.Phase(), Stopped: string(f.stopped), Walking: f.walking || f.walkAt > 0,
		Dirty: len(f.dirty.queue), Looking: len(f.looking), InFlight: len(f.flight.aloft),
		Vector: f.st.Vector(), Floor: f.st.Floor(), Partners: maps.Clone(f.partner), Counts: f.st.Counts(),
		Stats: f.stats, LastError: f.stats.lastError, Rebuild: f.rebuild,
		Links: make(map[repl.MemberID]LinkStatus, len(f.links)),
	}
	if f.retired != nil {
		s.Retired = len(f.retired.Vector)
	}
	for i := range f.cfg.Members {
		if m := &f.cfg.Members[i]; f.out(m) {
			s.Evicted = append(s.Evicted, m.Server)
		}
	}
	for i := range f.holds {
		s.Holds = append(s.Holds, Hold{f.holds[i], f.heldUpdates(&f.holds[i])})
	}
	for _, l := range f.later {
		if l.open {
			s.Open++
		} else {
			s.Later++
		}
	}
	if f.goneRun || len(f.gone) > 0 {
		s.Dirty += len(f.gone) + 1
	}
	for m, l := range f.links {
		ls := LinkStatus{Up: l.up, Idle: l.idle, Known: l.known, Held: l.held, Delayed: l.up && l.notBefore > f.now(), Saved: l.saved, Similar: l.similar, Originator: l.originator, SlowSync: l.slowSync}
		if l.diff != nil {
			ls.Pending = l.diff.outstanding
		}
		s.Links[m] = ls
	}
	return s
}

// Settled reports whether the member itself has nothing left to do.
func (s *Status) Settled() bool {
	if s.Phase != wire.PhaseNormal || s.Walking || s.Dirty+s.Looking+s.Later+s.InFlight > 0 {
		return false
	}
	for _, l := range s.Links {
		if l.Pending > 0 || len(l.Held) > 0 || !s.Vector.Covers(l.Known) {
			return false
		}
	}
	return true
}
