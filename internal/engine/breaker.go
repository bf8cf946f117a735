package engine

import (
	"maps"
	"slices"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// Breaker says how much of a folder one originator may replace or delete before
// this member holds it (rule 27). The zero Breaker never trips.
type Breaker struct {
	Files   int64         // folders with no more live files are left alone
	Percent int64         // of the live files may change and no more; 0: all
	Within  time.Duration // in which the record clocks of the changes lie
}

// UsualBreaker is the breaker of a folder that has none of its own.
func UsualBreaker() Breaker { return Breaker{Files: 1000, Percent: 30, Within: 10 * time.Minute} }

const (
	waveSteps = 10 // steps of the clock that Breaker.Within is counted in
	maxSteps  = 64 // remembered of one originator
)

// wave counts the live files that one originator replaced or deleted, each in the
// step of the clock in which it did so last. Clocks are those of records: what
// arrives late is counted where it happened.
type wave struct {
	steps map[int64]*waveStep
	turn  uint64
}

type waveStep struct {
	deleted map[repl.UID]bool // the files, and whether they are gone; the content of others was replaced
	live    int64             // live files of the folder when the first of them was counted
	turn    uint64            // of the wave, when it was counted in last
}

// toll is what a wave comes to within the breaker's time, from its first step on.
// Until it is split, the deleted files are among the replaced ones.
type toll struct{ replaced, deleted, live, first int64 }

// add counts a file and tells the heaviest toll of all spans that it is part of.
func (w *wave) add(u *repl.Update, span time.Duration, live int64) toll {
	at := int64(u.Clock) / max(int64(span)/waveSteps, 1)
	for n := at - waveSteps + 1; n < at+waveSteps; n++ {
		if s := w.steps[n]; s != nil && n != at {
			delete(s.deleted, u.UID)
		}
	}
	if w.steps == nil {
		w.steps = make(map[int64]*waveStep)
	}
	s := w.steps[at]
	if s == nil {
		s = &waveStep{deleted: make(map[repl.UID]bool), live: live}
		w.steps[at] = s
	}
	w.turn++
	s.turn, s.deleted[u.UID] = w.turn, !u.Present
	for len(w.steps) > maxSteps {
		w.drop()
	}
	return w.heaviest(at, live)
}

// drop forgets the step that was counted in least lately.
func (w *wave) drop() {
	least, at := uint64(0), int64(0)
	for n, s := range w.steps {
		if least == 0 || s.turn < least {
			least, at = s.turn, n
		}
	}
	delete(w.steps, at)
}

func (w *wave) heaviest(at, live int64) (most toll) {
	for first := at - waveSteps + 1; first <= at; first++ {
		t := toll{live: live, first: first}
		for n := first; n < first+waveSteps; n++ {
			if s := w.steps[n]; s != nil {
				t.live = max(t.live, s.live)
				t.replaced += int64(len(s.deleted))
			}
		}
		if t.replaced > most.replaced {
			most = t
		}
	}
	return most
}

// split tells the replaced files of a toll from the deleted ones.
func (w *wave) split(t toll) toll {
	for n := t.first; n < t.first+waveSteps; n++ {
		s := w.steps[n]
		if s == nil {
			continue
		}
		for _, gone := range s.deleted {
			if gone {
				t.replaced--
				t.deleted++
			}
		}
	}
	return t
}

// trips reports whether a toll is more than the breaker lets pass.
func (b *Breaker) trips(t toll) bool {
	return b.Percent > 0 && t.live > b.Files && t.replaced*100 > t.live*b.Percent
}

// weigh counts what updates of partners do to live files, and holds the
// originators that do too much, from the first of these updates on that was
// counted.
func (f *Folder) weigh(l *link, updates []repl.Update) {
	if f.cfg.Breaker.Percent == 0 || f.phase != store.PhaseNormal {
		return
	}
	seen := make(map[version.Originator]burst)
	for i := range updates {
		u := &updates[i]
		if !f.harms(u) || f.ruled(u) {
			continue
		}
		o := u.GVSN.Originator
		w := f.waves[o]
		if w == nil {
			w = &wave{}
			f.waves[o] = w
		}
		b, again := seen[o]
		if t := w.add(u, f.cfg.Breaker.Within, f.st.Counts().Files); !again || t.replaced > b.replaced {
			b.toll = t
		}
		if !again || u.GVSN.Version < b.from {
			b.from = u.GVSN.Version
		}
		seen[o] = b
	}
	for _, o := range slices.SortedFunc(maps.Keys(seen), version.Originator.Compare) {
		if b := seen[o]; f.cfg.Breaker.trips(b.toll) {
			f.trip(l, o, b.from, f.waves[o].split(b.toll))
		}
	}
}

// burst is what updates that came together add to a wave, from the first one on.
type burst struct {
	toll
	from uint64
}

// harms reports whether an update replaces the content of a live file or deletes
// it. What an operator makes win on purpose, by a fence, is no harm; nor is a name
// that was lost to another object, which no user did; nor the end of what the same
// server made in the same time: programs make and remove files by the thousand.
func (f *Folder) harms(u *repl.Update) bool {
	if u.Type != repl.File || u.NameConflict || u.Present && len(u.History) == 0 {
		return false
	}
	rec, ok, err := f.flight.Get(u.UID)
	if f.storeFailed(err) || !ok || !rec.Present || rec.Type != repl.File || rec.Provisional {
		return false
	}
	if !u.Present && u.UID.Originator == u.GVSN.Originator && u.Clock < u.CreateTime+repl.Time(f.cfg.Breaker.Within) {
		return false
	}
	if u.Fence > repl.FenceDefault && u.Fence > rec.Fence || repl.Compare(u, &rec.Update) <= 0 {
		return false
	}
	return !u.Present || !repl.SameContent(u, &rec.Update)
}
