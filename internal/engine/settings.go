package engine

import (
	"context"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/filter"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// Settings are of a folder what it takes otherwise as it runs.
type Settings struct {
	Breaker Breaker
	// TombstoneLifetime is how long a deleted object may come back to life under
	// its name; 0: for ever.
	TombstoneLifetime time.Duration
	// SlowSync is how often records are compared with each partner's below equal
	// vectors; 0: never.
	SlowSync time.Duration
	Rest     time.Duration // how long an open file must be at rest before it is captured
	// StagingQuota is what kept signatures may take, a target in bytes.
	StagingQuota int64
	// ConflictQuota, in bytes, and ConflictRetention are the conflict store's
	// (rule 26); without a quota nothing is evicted.
	ConflictQuota     int64
	ConflictRetention time.Duration
}

// configure has another configuration from now on. Actions under way keep the one that
// they began with.
func (f *Folder) configure(change func(*Config)) {
	now := *f.cfg
	change(&now)
	f.cfg = &now
}

// SettingsAre tells that the directory has other settings, or another filter (nil: as
// it was), which only a folder is told that MayRefilter and is not Installing.
type SettingsAre struct {
	Settings Settings
	Filter   *filter.Set
}

func (e SettingsAre) apply(f *Folder) {
	was := f.cfg.Settings
	f.configure(func(c *Config) { c.Settings = e.Settings })
	now := &f.cfg.Settings
	if now.TombstoneLifetime != was.TombstoneLifetime {
		// What others were to have said by now goes by the old one: nobody is away
		// before this member has waited as after a start.
		f.sift, f.collectAt, f.awayAt, f.watched, f.watchedTo = nil, 0, 0, 0, 0
		for _, l := range f.links {
			l.stateAt = 0
		}
	}
	if now.SlowSync != was.SlowSync {
		for _, l := range f.links {
			l.compareAt = 0
		}
	}
	if now.Breaker != was.Breaker {
		clear(f.waves)
	}
	if now.Rest != was.Rest {
		f.hasten()
	}
	if e.Filter != nil {
		f.refilter(e.Filter)
	}
}

// hasten looks now at what was to be looked at later.
func (f *Folder) hasten() {
	for at, l := range f.later {
		l.when = min(l.when, f.now())
		f.later[at] = l
	}
}

// refilterGrace is how long what may be shown now is not looked for: members that are
// told of the filter at about this time go by it too then, and take what a user did to
// a name meanwhile for that, not for something hidden beside which their own is newer.
const refilterGrace = 250 * time.Millisecond

// startRefiltered walks the tree when that is over.
func (f *Folder) startRefiltered() {
	if f.walkAt > 0 && f.walkAt <= f.now() {
		f.walkAt = 0
		f.walk()
	}
}

// MayRefilter reports whether the folder takes another filter as it runs, once no plan is
// under way that was decided by the one before. In the initial build and sync, after an
// unclean stop and while a restore is under way it is to be started anew: what they do
// with the whole tree goes by one filter.
func (f *Folder) MayRefilter() bool {
	return f.phase == store.PhaseNormal && !f.unclean && len(f.late.dirs) == 0 && f.fencing == nil && f.stopped == ""
}

// Installing reports whether plans are under way.
func (f *Folder) Installing() bool { return f.install != nil || len(f.flight.aloft) > 0 }

// refilter goes by another filter from now on: the records say at once what it hides
// and what not any more (rule 23). Names that it keeps out besides stay where they are
// and nothing is looked at; for what may be on this disk and was kept out, the tree is
// walked. What looks under way find by the old one is not taken.
func (f *Folder) refilter(set *filter.Set) {
	was := f.cfg.Filter
	if filterHash(set) == filterHash(was) {
		return
	}
	f.configure(func(c *Config) { c.Filter = set })
	f.calmUntil = 0
	st := f.st.State()
	if f.storeFailed(followFilter(f.cfg, f.st, &st)) {
		return
	}
	if st.Missing {
		f.missing, f.showWait, f.showAt = true, 0, 0
	}
	f.hasten()
	for at := range f.raised { // what is kept out now has no findings any more
		f.again(at.dir, at.name, false, 0)
	}
	if !set.Covers(was) {
		f.walkAt = f.now() + repl.Time(refilterGrace)
	}
	f.notify = true
}

// byOther looks again at what was looked at by another filter than the folder's, and
// reports whether it was.
func (f *Folder) byOther(by *Config, w *capture.Work) bool {
	if by.Filter == f.cfg.Filter {
		return false
	}
	delete(f.looking, w.Dir)
	again := f.dirty.at(w.Dir)
	again.all, again.self = again.all || w.All, again.self || w.Self
	for _, n := range w.Names {
		f.dirty.mark(w.Dir, n.Name, n.Wrote)
	}
	return true
}

// calmWait is for how long partners are asked nothing, so that another filter finds no
// plans under way.
const calmWait = time.Second

// calm asks partners nothing for a while.
func (f *Folder) calm() {
	if f.now() >= f.calmUntil {
		f.calmUntil = f.now() + repl.Time(calmWait)
	}
}

func (e drafted) apply(f *Folder) {
	if e.cfg.Filter == f.cfg.Filter { // else all of the look is made again
		f.commitDrafts(e.drafts, e.lazy)
	}
}

// goneByOther looks again into names that were looked into by another filter than the
// folder's, and reports whether they were.
func (f *Folder) goneByOther(a *LookGone) bool {
	if a.cfg.Filter == f.cfg.Filter {
		return false
	}
	for _, uid := range a.UIDs {
		f.gone = append(f.gone, goneMark{uid: uid, seq: f.dirty.seq})
	}
	return true
}

// SetSettings tells which settings and filter the directory has. It reports whether the
// folder has taken them; if not, it is to be started anew. A filter waits until what
// was decided by the one before is carried out, for calmWait at most.
func (r *Runner) SetSettings(ctx context.Context, s Settings, set *filter.Set) (bool, error) {
	set = set.Within(r.env.Volume.NameMax())
	try := time.NewTicker(calmWait / 50)
	defer try.Stop()
	for began := time.Now(); ; {
		got, err := ask(ctx, r, func(*Folder) reception { return r.offer(SettingsAre{s, set}) })
		if err != nil || got != later || time.Since(began) > calmWait {
			return got == accepted, err
		}
		select {
		case <-try.C:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// reception is how a running folder receives settings.
type reception uint8

const (
	declined reception = iota // only a start takes them
	later                     // it is to be asked again
	accepted
)

// offer gives the folder settings if it can take them now, between two steps.
func (r *Runner) offer(e SettingsAre) reception {
	f := r.folder
	may := f.MayRefilter()
	switch {
	case filterHash(e.Filter) == filterHash(f.cfg.Filter), may && !f.Installing():
		r.take(e)
		return accepted
	case may:
		f.calm()
		return later
	}
	return declined
}

// take gives the folder settings, between two steps.
func (r *Runner) take(e SettingsAre) {
	e.apply(r.folder)
	if r.env.Staging != nil {
		r.env.Staging.SetQuota(e.Settings.StagingQuota)
	}
	r.evicting.asked, r.evicting.next = true, time.Unix(0, 0)
}
