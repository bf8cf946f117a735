package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/engine"
	"opendfs/internal/filter"
	"opendfs/internal/finding"
	"opendfs/internal/health"
	"opendfs/internal/journal"
	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/staging"
	"opendfs/internal/store"
	"opendfs/internal/volume"
	"opendfs/internal/wire"

	"golang.org/x/sys/unix"
)

// The rhythm of a folder that is kept running.
const (
	folderRetry  = 10 * time.Second // after it could not be opened, or has stopped
	overlapRetry = time.Second      // after another folder had its root: that one hears of a new filter at once
	folderWatch  = time.Second      // between two looks at one in which something happens
	// folderCalm is how long a folder in which nothing happens is looked at all the
	// same: until its rates have come down. After it, it is looked at once in
	// folderIdle.
	folderCalm = 12 * time.Second
	folderIdle = time.Minute
)

// keeper keeps one membership running: it opens the folder, watches it, and
// opens it again after it has stopped. What is wrong is a finding.
type keeper struct {
	membership
	f      *folders
	store  *store.Store
	cancel context.CancelFunc
	done   chan struct{}
	served atomic.Uint64 // bytes of content sent to partners since start
	normal atomic.Bool   // it was Normal when it was last looked at
	rates  health.Rates
	news   recent
	// members are those of the folder. They change without its being started again.
	members atomic.Pointer[[]engine.Member]
	// around are the partners, which change as the members do. Stored with f.linking held.
	around atomic.Pointer[circle]
	// terms change as it runs too. Stored by follow alone.
	terms atomic.Pointer[terms]
	// telling serialises telling a runner of them, so that it ends with the newest.
	telling sync.Mutex
	// unknown is how many owners were not known at the last look.
	unknown atomic.Int64
	// due asks for a look.
	due   chan struct{}
	pulse pulse
	// retry has a folder that could not be opened tried again at once.
	retry chan struct{}

	mu      sync.Mutex
	follow  repl.MemberID   // guarded by mu; whose tree a folder without records takes over
	runner  *engine.Runner  // guarded by mu; nil while it does not run
	records *store.Folder   // guarded by mu; as runner
	journal journal.Journal // guarded by mu; as runner
	links   context.Context // guarded by mu; ends with runner
	reason  string          // guarded by mu; why it does not run
	why     error           // guarded by mu; the same, nil as long as it is not known
	// adopting says that what lies at the path is the folder's tree, whatever its
	// marker says. Guarded by mu; until it runs.
	adopting bool
}

// openFindings are about whether the folder can be opened: they end when it is.
var openFindings = []finding.Code{
	finding.FolderMarkerMissing, finding.FolderMarkerForeign, finding.RootMissing, finding.RootUnmounted, finding.RootLinked, finding.FolderOverlaps,
	finding.ReadOnlyFilesystem, finding.StateInTree, finding.StoreError, finding.ListingError, finding.FileUnreadable, finding.DiskFull, finding.QuotaExceeded,
}

// openError is why a folder cannot be opened, as a finding.
type openError struct {
	code finding.Code
	err  error
}

func (e *openError) Error() string { return e.err.Error() }
func (e *openError) Unwrap() error { return e.err }

// start begins keeping a membership.
func (f *folders) start(ctx context.Context, st *store.Store, m wanted, list []engine.Member) *keeper {
	ctx, cancel := context.WithCancel(ctx)
	k := &keeper{membership: m.membership, f: f, store: st, cancel: cancel, done: make(chan struct{}), due: make(chan struct{}, 1), retry: make(chan struct{}, 1), reason: starting}
	k.members.Store(&list)
	k.around.Store(&m.circle)
	k.terms.Store(&m.terms)
	go func() {
		defer close(k.done)
		k.run(ctx)
	}()
	return k
}

func (k *keeper) stop() {
	k.cancel()
	<-k.done
}

// run keeps the folder until ctx ends.
func (k *keeper) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := k.once(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errTerms):
			continue
		case errors.Is(err, engine.ErrRebuild):
			k.f.log.Warn("folder starts anew, not authoritatively", "folder", k.Name)
			k.f.find.clearHolds(k.Name)
			if err = k.store.DropFolder(k.Folder); err == nil {
				continue
			}
		}
		k.report(err)
		again := folderRetry
		if open, ok := errors.AsType[*openError](err); ok && open.code == finding.FolderOverlaps {
			again = overlapRetry
		}
		t := time.NewTimer(again)
		select {
		case <-t.C:
		case <-k.retry:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// report makes a finding of why the folder does not run.
func (k *keeper) report(err error) {
	if errors.Is(err, store.ErrCorrupt) {
		k.f.damaged(err)
	}
	var open *openError
	var marker *engine.MarkerError
	code := finding.StoreError
	switch {
	case errors.As(err, &open):
		code = open.code
	case errors.As(err, &marker):
		code = marker.Code
	case errors.Is(err, errStopped): // the engine has raised its own
		code = ""
	case errors.Is(err, volume.ErrUnmounted):
		code = finding.RootUnmounted
	}
	text := "ended"
	if err != nil {
		text = err.Error()
	}
	k.mu.Lock()
	k.reason, k.why, k.adopting = text, err, false
	k.mu.Unlock()
	if code == "" {
		return
	}
	for _, other := range openFindings {
		if other != code {
			k.f.find.Clear(other, k.Name)
		}
	}
	k.f.find.Raise(code, k.Name, text)
}

// starting is the reason of a folder that has not been opened yet.
const starting = "starting"

// errStopped says that the engine has stopped a folder and said why.
var errStopped = errors.New("folder has stopped")

// once opens the folder and runs it until it ends.
func (k *keeper) once(ctx context.Context) (err error) {
	if err := k.checkState(); err != nil {
		return err
	}
	records, err := k.store.Folder(k.Folder)
	if err != nil {
		return err
	}
	if s := records.State(); s.Phase != store.PhaseNew && s.Membership != k.Membership {
		// Records of another membership: a database that came from elsewhere, or
		// a membership that was made anew. They say nothing about this tree.
		k.f.find.Raise(finding.StateRebuilt, k.Name, fmt.Sprintf("the records were of membership %v", s.Membership))
		return engine.ErrRebuild
	}
	if drop, err := k.drops(records); drop || err != nil {
		return errors.Join(err, engine.ErrRebuild)
	}
	around, err := k.checkOthers(records)
	if err != nil {
		return err
	}
	v, err := k.openVolume(records)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if err := k.moved(v, records); err != nil {
		return err
	}
	j, err := journal.Open(ctx, k.Path, journal.Options{Hub: k.f.hub, Others: true, Known: func(dir []byte) bool {
		known, err := records.ByHandle(string(dir))
		return err != nil || len(known) > 0
	}})
	if err != nil {
		return &openError{finding.StoreError, err}
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	cfg, env, err := k.environment(v, records)
	if err != nil {
		return err
	}
	k.mu.Lock()
	cfg.Follow, cfg.Adopt = k.follow, k.adopting
	k.mu.Unlock()
	_, cfg.Moved = k.f.roots.changed(k.Membership, k.Path)
	r, err := engine.Start(ctx, cfg, env, j, namedFindings{k.f.find, k.f}, k.f.log.With("folder", k.Name), rand.Reader)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.follow, k.adopting = repl.MemberID{}, false // the folder's state has it, and its tree
	k.mu.Unlock()
	if err := k.f.roots.runs(k.Membership, k.Path); err != nil {
		return errors.Join(err, r.Close())
	}
	return k.watch(ctx, v, r, records, j, around)
}

// checkState refuses a folder that the state directory lies in.
func (k *keeper) checkState() error {
	in, err := k.f.state.overlaps(k.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &openError{finding.RootMissing, fmt.Errorf("%s does not exist", k.Path)}
	case errors.Is(err, volume.ErrLinked):
		return &openError{finding.RootLinked, err}
	case err != nil:
		return &openError{finding.RootMissing, err}
	case in:
		return &openError{finding.StateInTree, fmt.Errorf("the state directory %s lies in %s", k.f.state.path, k.Path)}
	}
	return nil
}

// openVolume opens the tree; it makes the private area only for a membership
// that has never run.
func (k *keeper) openVolume(records *store.Folder) (*volume.Disk, error) {
	fresh := records.State().Phase == store.PhaseNew
	v, err := volume.Open(k.Path, volume.Options{Create: fresh, Owners: k.Owners, Optional: k.Optional})
	switch {
	case errors.Is(err, volume.ErrNotExist), errors.Is(err, volume.ErrNotDir):
		return nil, &openError{finding.RootMissing, err}
	case errors.Is(err, volume.ErrLinked):
		return nil, &openError{finding.RootLinked, err}
	case errors.Is(err, syscall.EROFS):
		return nil, &openError{finding.ReadOnlyFilesystem, err}
	case errors.Is(err, syscall.ENOSPC):
		return nil, &openError{finding.DiskFull, err}
	case errors.Is(err, syscall.EDQUOT):
		return nil, &openError{finding.QuotaExceeded, err}
	case err != nil:
		return nil, &openError{finding.ListingError, err}
	}
	if _, moved := k.f.roots.changed(k.Membership, k.Path); fresh || moved {
		return v, nil
	}
	if _, err := v.ReadPrivate("marker"); errors.Is(err, volume.ErrNotExist) {
		return nil, errors.Join(&openError{finding.FolderMarkerMissing, fmt.Errorf("%s has no .dfsr/marker", k.Path)}, v.Close())
	}
	return v, nil
}

// environment is what the engine gets to work with.
func (k *keeper) environment(v *volume.Disk, records *store.Folder) (engine.Config, *engine.Env, error) {
	cfg := k.Config
	cfg.Members = *k.members.Load()
	around := k.partners()
	cfg.Upstreams, cfg.Downstreams, cfg.Transfers = around.Upstreams, around.Downstreams, around.Transfers
	t := k.terms.Load()
	rules, err := filter.New(t.Rules)
	if err != nil {
		return cfg, nil, err
	}
	cfg.Settings, cfg.Filter = t.Settings, rules
	if _, total, err := v.Free(); err == nil {
		cfg.Reserve = min(maxReserve, total/reservePart)
	}
	return cfg, &engine.Env{
		Volume: v, Store: records, Keep: preserve.Open(v), Staging: staging.Open(v, t.StagingQuota, runtime.GOMAXPROCS(0)),
		Directory: k.f.evictor(k.Folder), Now: now, Clock: k.f.clocks.mint, Racy: racy(), Workers: 2 * runtime.GOMAXPROCS(0), Hurry: hurry,
	}, nil
}

// The reserve is what a disk must have free before content is brought to it.
const (
	maxReserve  = 1 << 30
	reservePart = 100 // of the volume's size
)

func now() repl.Time { return repl.Time(time.Now().UnixNano()) }

// racy is how young a ctime may be and not tell every change: a timer tick on
// kernels before 6.13, which brought timestamps that do.
func racy() time.Duration {
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) == nil {
		if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); n == 2 && (major > 6 || major == 6 && minor >= 13) {
			return 0
		}
	}
	return 20 * time.Millisecond
}

// watch runs beside a runner until it has ended or is to.
func (k *keeper) watch(ctx context.Context, v *volume.Disk, r *engine.Runner, records *store.Folder, j journal.Journal, around []outer) error {
	links, unlink := context.WithCancel(ctx)
	defer unlink()
	k.mu.Lock()
	k.runner, k.records, k.journal, k.links, k.reason, k.why = r, records, j, links, "", nil
	k.mu.Unlock()
	for _, code := range openFindings {
		k.f.find.Clear(code, k.Name)
	}
	k.f.log.Info("folder runs", "folder", k.Name, "path", k.Path, "journal", j.Kind().String())
	k.judgeFeatures(v)
	err := errTerms
	if k.tellTerms(ctx, r) { // of those, as of members, that came while it was opened
		if err := r.SetMembers(ctx, *k.members.Load()); err != nil {
			k.f.log.Info("members are heard of by the next start", "folder", k.Name, "err", err)
		}
		k.linkAll(ctx, r)
		err = k.look(ctx, v, r, records, j, around)
	}
	k.mu.Lock()
	k.runner, k.records, k.journal, k.links = nil, nil, nil, nil
	k.mu.Unlock()
	unlink()
	return errors.Join(err, r.Close())
}

// look watches a runner: it says why it must end, nil when ctx has.
func (k *keeper) look(ctx context.Context, v *volume.Disk, r *engine.Runner, records *store.Folder, j journal.Journal, around []outer) error {
	k.rates.Reset()
	k.normal.Store(false)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.Ended():
			return r.Err()
		case <-k.due:
		}
		if err := k.checkOuters(around); err != nil {
			return err
		}
		s, err := r.Status(ctx)
		if err != nil {
			continue // it has ended
		}
		k.rates.Add(time.Now(), health.Totals{
			Captured: s.Stats.Captured, Installed: s.Stats.Installed, InBytes: s.Stats.Bytes, OutBytes: k.served.Load(),
		})
		k.news.note(&s, records)
		k.judgeJournal(j)
		k.judgeOwners(ctx, v, r)
		normal := s.Phase == wire.PhaseNormal
		if was := k.normal.Swap(normal); normal && !was {
			k.f.find.Clear(finding.StateRebuilt, k.Name)
			k.f.find.Clear(finding.StateRolledBack, k.Name)
		}
		k.judgePrimary(s.Phase)
		if s.Stopped != "" && !s.Rebuild {
			return k.whyStopped(&s, records)
		}
	}
}

// whyStopped tells a damaged database from what another attempt may mend.
func (k *keeper) whyStopped(s *engine.Status, records *store.Folder) error {
	err := fmt.Errorf("%w: %s", errStopped, s.Stopped)
	if finding.Code(s.Stopped) == finding.StoreError {
		if _, rerr := k.store.Folder(k.Folder); errors.Is(rerr, store.ErrCorrupt) {
			return rerr
		}
		if rerr := probe(records); errors.Is(rerr, store.ErrCorrupt) {
			return rerr
		}
	}
	return err
}

// probe asks the database whether it still works.
func probe(records *store.Folder) error {
	if _, err := records.Root(); err != nil {
		return err
	}
	s, err := records.Snapshot()
	if err != nil {
		return err
	}
	return s.Close()
}

// judgePrimary raises that nobody has said whose content wins, while that
// matters.
func (k *keeper) judgePrimary(p wire.Phase) {
	if p == wire.PhaseInitialSync && !k.f.hasPrimary(k.Folder) {
		k.f.find.Raise(finding.NoPrimary, k.Name, "")
		return
	}
	k.f.find.Clear(finding.NoPrimary, k.Name)
}

// judgeJournal raises or clears that changes are noticed late.
func (k *keeper) judgeJournal(j journal.Journal) {
	if j.Kind() == journal.Fanotify {
		k.f.find.Clear(finding.JournalDegraded, k.Name)
		return
	}
	k.f.find.Raise(finding.JournalDegraded, k.Name, j.Kind().String()+": "+j.Reason())
}

// current is the runner, nil while the folder does not run.
func (k *keeper) current() *engine.Runner {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.runner
}

// open is what runs: all of it or none.
func (k *keeper) open() (*engine.Runner, *store.Folder, journal.Journal, string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.runner, k.records, k.journal, k.reason
}

// running is open, as an error where it does not run.
func (k *keeper) running() (*engine.Runner, *store.Folder, error) {
	r, records, _, reason := k.open()
	if r == nil {
		return nil, nil, control.Hint(fmt.Errorf("folder %s does not run: %s", k.Name, reason), "`dfs status` shows its findings and what to do")
	}
	return r, records, nil
}
