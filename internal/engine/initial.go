package engine

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"opendfs/internal/filter"
	"opendfs/internal/finding"
	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/volume"
	"opendfs/internal/wire"
)

// busyLocally reports whether this member's own tree is still being looked at.
func (f *Folder) busyLocally() bool {
	return f.walking || f.walkAt > 0 || len(f.looking) > 0 || len(f.dirty.queue) > 0 || f.goneRun || len(f.gone) > 0
}

// advancePhase notes the end of a walk, and with the first one the end of the
// initial build.
func (f *Folder) advancePhase() {
	if !f.walking || len(f.looking) > 0 || len(f.dirty.queue) > 0 || f.goneRun || len(f.gone) > 0 {
		return
	}
	for _, l := range f.later {
		if l.walked {
			return
		}
	}
	f.walked()
	f.find.Clear(finding.JournalGap, f.cfg.Name)
	if f.phase == store.PhaseInitialBuild && !f.syncing {
		f.syncing = true
		f.do(&SyncTree{})
	}
}

// SyncTree makes the tree that an initial build has captured durable, all at
// once, before any of it is served.
type SyncTree struct{}

// Class says that it changes the tree.
func (*SyncTree) Class() Class { return ClassInstall }

// Run syncs the volume.
func (*SyncTree) Run(ctx Context, post func(Event)) { post(treeSynced{ctx.Volume.Sync()}) }

type treeSynced struct{ err error }

func (e treeSynced) apply(f *Folder) {
	f.syncing = false
	if e.err != nil {
		f.find.Raise(finding.StoreError, f.cfg.Name, e.err.Error())
		f.walk()
		return
	}
	f.enter(store.PhaseNormal)
}

func (f *Folder) enter(p store.Phase) {
	st := f.st.State()
	st.Phase, st.Since, st.Partner = p, f.now(), repl.MemberID{}
	if f.storeFailed(f.st.Put(&store.Batch{State: &st})) {
		return
	}
	f.phase, f.notify = p, true
	if p == store.PhaseNormal {
		f.find.Clear(finding.MemberStale, f.cfg.Name)
		for _, l := range f.links { // another database covers what it does
			l.stateAt = 0
		}
	}
}

// initialSyncDone follows a complete diff with a partner in Normal: what this
// member alone has goes to PreExisting, when no plan has any of it in its hands.
func (f *Folder) initialSyncDone() {
	if f.evacuating {
		return
	}
	if len(f.flight.aloft) > 0 { // what users of a read-only member did is being undone
		f.evacuateAt = f.now() + repl.Time(evacuateRetry)
		return
	}
	f.evacuating = true
	f.do(&Evacuate{cfg: f.cfg})
}

// Evacuate moves every object that has only a provisional record out of the
// tree.
type Evacuate struct{ cfg *Config }

// Class says that it changes the tree.
func (*Evacuate) Class() Class { return ClassInstall }

// Run walks the records from the root, if any is provisional; the topmost such
// object goes with all that it holds, in one rename, but for directories in which
// another replicated folder lies. At its end all that was captured
// lazily is durable, and may be served.
func (a *Evacuate) Run(ctx Context, post func(Event)) {
	ev := evacuated{}
	if ctx.Store.Counts().Provisional > 0 {
		ev.err = a.directory(ctx, repl.RootUID(a.cfg.Folder), &ev)
	}
	if ev.err == nil {
		ev.err = ctx.Volume.Sync()
	}
	post(ev)
}

func (a *Evacuate) directory(ctx Context, dir repl.UID, ev *evacuated) error {
	var extra, below []repl.Record
	err := ctx.Store.Children(dir, "", func(rec *repl.Record) bool {
		switch {
		case rec.Provisional:
			extra = append(extra, *rec)
		case rec.Type == repl.Directory:
			below = append(below, *rec)
		}
		return true
	})
	if err != nil {
		return err
	}
	for i := range extra {
		switch moved, err := a.move(ctx, dir, &extra[i]); {
		case err != nil:
			return fmt.Errorf("move %q to pre-existing: %w", extra[i].Name, err)
		case moved:
			ev.moved++
		default:
			below = append(below, extra[i])
		}
	}
	if len(extra) > 0 && ctx.Store.State().Folds {
		if err := a.spellings(ctx, dir, extra, ev); err != nil {
			return fmt.Errorf("move other spellings to pre-existing: %w", err)
		}
	}
	for i := range below {
		if err := a.directory(ctx, below[i].UID, ev); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// move moves an object out of the tree with all that it holds. A directory that holds
// the root of another replicated folder is left: not moved.
func (a *Evacuate) move(ctx Context, dir repl.UID, rec *repl.Record) (moved bool, err error) {
	d, err := openPlace(ctx.Env, repl.Place{Dir: dir, Name: rec.Name})
	if err != nil {
		return true, ignoreMissing(err)
	}
	if st, lerr := d.Lookup(rec.Name); lerr != nil || st.Identity != rec.Identity {
		return true, errors.Join(ignoreMissing(lerr), d.Close()) // a user has it now; the walk that follows sees it
	}
	if rec.Type == repl.Directory {
		if holds, err := volume.HoldsRoot(d, rec.Name); err != nil || holds {
			return false, errors.Join(err, d.Close())
		}
	}
	path, err := ctx.Store.Path(rec.UID)
	before, serr := d.Stat()
	if err = errors.Join(err, serr); err == nil {
		_, err = ctx.Keep.Keep(d, rec.Name, preserve.Entry{Why: preserve.PreExisting, At: ctx.Now(), Path: path, Record: rec.Update})
	}
	if err == nil { // what the member itself does to a directory is no change
		err = d.SetMtime(before.Print.Mtime)
	}
	return true, errors.Join(err, d.Sync(), d.Close())
}

// spellings moves out what was left alone beside what went because its name folded
// to the same: it would be found as new now.
func (a *Evacuate) spellings(ctx Context, dir repl.UID, extra []repl.Record, ev *evacuated) error {
	went := make(map[string]string, len(extra))
	for i := range extra {
		went[filter.Fold(extra[i].Name)] = extra[i].Name
	}
	d, err := openPlace(ctx.Env, repl.Place{Dir: dir})
	if err != nil {
		return ignoreMissing(err)
	}
	before, err := d.Stat()
	var names []string
	if err == nil {
		err = d.List(func(e volume.Entry) error {
			name, is := went[filter.Fold(e.Name)]
			if !is || name == e.Name || a.cfg.Filter.Match(e.Name, e.Type == repl.Directory) || e.Type == repl.Other {
				return nil
			}
			holds, err := volume.HoldsRoot(d, e.Name)
			if err == nil && !holds {
				names = append(names, e.Name)
			}
			return err
		})
	}
	slices.Sort(names)
	in, perr := ctx.Store.Path(dir)
	for _, name := range names {
		if err = errors.Join(err, perr); err != nil {
			break
		}
		ev.moved++
		_, err = ctx.Keep.Keep(d, name, preserve.Entry{Why: preserve.PreExisting, At: ctx.Now(), Path: path.Join(in, name)})
	}
	if err == nil && len(names) > 0 {
		err = d.SetMtime(before.Print.Mtime)
	}
	return errors.Join(err, d.Sync(), d.Close())
}

// evacuated tells that nothing provisional is left on disk.
type evacuated struct {
	moved int
	err   error
}

func (e evacuated) apply(f *Folder) {
	f.evacuating = false
	if e.err != nil {
		f.find.Raise(finding.InitialSyncWaiting, f.cfg.Name, e.err.Error())
		f.evacuateAt = f.now() + repl.Time(evacuateRetry)
		return
	}
	f.stats.Kept += uint64(e.moved)
	if e.moved > 0 {
		f.find.Raise(finding.PreexistingKept, f.cfg.Name, fmt.Sprintf("%d objects that only this member had are in .dfsr/preexisting", e.moved))
	}
	alone := e.moved > 0 || f.st.Counts().Provisional > 0 || f.unsettled
	if f.storeFailed(f.dropProvisional()) {
		return
	}
	f.find.Clear(finding.InitialSyncWaiting, f.cfg.Name)
	f.enter(store.PhaseNormal)
	if !alone { // all that this member has came from the partner
		f.dirty.at(f.root()).self = true
		return
	}
	// Names that were met meanwhile may hang on what has been dropped; the walk
	// meets them again.
	f.unsettled = false
	f.dirty.init()
	f.gone = nil
	clear(f.later)
	for at := range f.raised { // so is what was found of names in directories that went
		f.unraise(at)
	}
	f.walk()
}

// The provisional records gathered by one scan, and dropped in one batch.
const (
	dropAtOnce = 1 << 20
	dropChunk  = 4096
)

func (f *Folder) dropProvisional() error {
	for {
		uids, err := f.st.Provisional(dropAtOnce)
		if err != nil || len(uids) == 0 {
			return err
		}
		for chunk := range slices.Chunk(uids, dropChunk) {
			if err := f.st.Put(&store.Batch{Drop: chunk, NoSync: true}); err != nil {
				return err
			}
		}
	}
}

// Phase is where the folder stands, as partners are told.
func (f *Folder) Phase() wire.Phase {
	if f.stopped != "" {
		return wire.PhaseStopped
	}
	switch f.phase {
	case store.PhaseInitialBuild:
		return wire.PhaseInitialBuild
	case store.PhaseInitialSync:
		return wire.PhaseInitialSync
	case store.PhaseNormal:
		return wire.PhaseNormal
	case store.PhaseRecovery:
		return wire.PhaseRecovery
	}
	return wire.PhaseUnknown
}
