package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"opendfs/internal/finding"
	"opendfs/internal/journal"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/volume"
	"opendfs/internal/wire"
)

// The rhythm of a running folder.
const (
	eventQueue = 64
	heartbeat  = time.Second
	// rootCheck is how often the root is looked at, and the heartbeat of a folder in
	// which nothing happens: hundreds of them must cost nothing.
	rootCheck = 5 * time.Second
	// walkEvery is how often the whole tree is walked even where a journal
	// sees changes: truncate(2) by path and long-lived maps tell no journal.
	walkEvery = 12 * time.Hour
)

// ErrRebuild ends a runner whose records are of the past: the folder's records
// must be dropped and the folder started anew.
var ErrRebuild = errors.New("the records are of the past")

// Runner runs one folder's state machine on goroutines.
type Runner struct {
	Served *Served

	cfg    Config
	env    *Env
	folder *Folder
	jrn    journal.Journal
	log    *slog.Logger
	find   Findings
	events chan Event
	cancel context.CancelFunc
	ended  chan struct{} // closed when every goroutine has ended
	err    error         // set before ended is closed
	beat   atomic.Int64  // of the loop, Unix nanoseconds
	moves  atomic.Uint64 // how often a step has changed what Status says
	last   standing      // the loop's own; after the last step
	over   func()        // the loop's own; of Env.Hurry, nil while nothing hurries
	begun  uint64        // the loop's own; Stats.amended at the last heartbeat

	mu       sync.Mutex
	sessions map[repl.MemberID]Upstream // guarded by mu
	changed  chan struct{}              // guarded by mu; closed when there is news for partners
	drains   []drainWait                // the loop's own
	evicting eviction                   // the loop's own
	running  context.Context            // ends when the folder is to
	guests   sync.WaitGroup             // who works on the conflict store from outside
}

type drainWait struct {
	token uint64
	done  chan struct{}
}

// Start opens a membership and runs it until Close or an error. env.Upstream
// is set by Start.
func Start(ctx context.Context, cfg Config, env *Env, jrn journal.Journal, find Findings, log *slog.Logger, random io.Reader) (*Runner, error) {
	r := &Runner{
		cfg: cfg, env: env, jrn: jrn, log: log, find: find,
		events: make(chan Event, eventQueue), ended: make(chan struct{}),
		sessions: make(map[repl.MemberID]Upstream), changed: make(chan struct{}),
		Served: NewServed(env, cfg.Folder),
	}
	env.Upstream = r.upstream
	var err error
	if r.folder, err = Open(ctx, cfg, env, find, random); err != nil {
		return nil, err
	}
	r.Served.Doubt = func(uid repl.UID, why error) {
		select {
		case r.events <- Doubted{uid, why}:
		default: // the partner asks again, and so the doubt comes again
		}
	}
	run, cancel := context.WithCancel(context.Background())
	r.running, r.cancel = run, cancel
	go r.run(run)
	return r, nil
}

// run is the parent of every goroutine of the folder.
func (r *Runner) run(ctx context.Context) {
	defer r.lastNews() // whoever is woken by it finds that the folder has ended
	defer close(r.ended)
	var work sync.WaitGroup
	work.Go(func() { r.pump(ctx) })
	r.err = r.loop(ctx, &work)
	r.hasten(false)
	r.cancel()
	drained := make(chan struct{})
	go func() { // what is posted by work that ends is no longer wanted
		for {
			select {
			case <-r.events:
			case <-drained:
				return
			}
		}
	}()
	work.Wait()
	r.shut()
	close(drained)
	r.err = errors.Join(r.err, r.folder.Close(), r.Served.Close())
}

// pump brings the journal's batches to the loop.
func (r *Runner) pump(ctx context.Context) {
	for {
		b, err := r.jrn.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				r.post(ctx, journalBroke{err})
			}
			return
		}
		r.post(ctx, Journaled{b})
	}
}

// journalBroke tells that the journal sees nothing any more.
type journalBroke struct{ err error }

func (e journalBroke) apply(f *Folder) { f.fail(finding.JournalDegraded, e.err.Error()) }

func (r *Runner) post(ctx context.Context, ev Event) {
	select {
	case r.events <- ev:
	case <-ctx.Done():
	}
}

// loop owns the state machine.
func (r *Runner) loop(ctx context.Context, work *sync.WaitGroup) error {
	tick := time.NewTimer(heartbeat)
	defer tick.Stop()
	wake := time.NewTimer(0)
	defer wake.Stop()
	nextRoot, nextWalk, moved := time.Now().Add(rootCheck), time.Now().Add(walkEvery), r.Moves()
	for {
		var ev Event = Tick{}
		select {
		case <-ctx.Done():
			return nil
		case ev = <-r.events:
			ev = r.gather(ctx, work, ev)
		case <-wake.C:
		case now := <-tick.C:
			if tick.Reset(heartbeat); r.Moves() == moved { // with all others that rest
				tick.Reset(rootCheck - time.Duration(now.UnixNano()%int64(rootCheck)))
			}
			moved = r.Moves()
			r.restHurry()
			if !now.Before(nextRoot) {
				nextRoot = now.Add(rootCheck - heartbeat)
				if err := r.checkRoot(); err != nil {
					return err
				}
			}
			r.evict(ctx, work, now)
			if now.After(nextWalk) {
				nextWalk = now.Add(walkEvery)
				ev = Journaled{journal.Batch{Gap: &journal.Gap{Reason: "periodic walk", Planned: true}, Token: r.folder.token}}
			}
		}
		r.step(ctx, work, ev)
		if r.evicting.asked {
			r.evict(ctx, work, time.Now())
		}
		if r.folder.Rebuild() {
			return ErrRebuild
		}
		if at := r.folder.Wake(); at > 0 {
			wake.Reset(max(time.Duration(at-r.env.Now()), time.Millisecond))
		}
	}
}

// gather adds to a look that is over the others that are waiting; another event
// that it meets is applied after them.
func (r *Runner) gather(ctx context.Context, work *sync.WaitGroup, ev Event) Event {
	all, ok := ev.(looked)
	if !ok {
		return ev
	}
	for len(all) < eventQueue {
		select {
		case next := <-r.events:
			more, ok := next.(looked)
			if !ok {
				r.step(ctx, work, all)
				return next
			}
			all = append(all, more...)
		default:
			return all
		}
	}
	return all
}

func (r *Runner) step(ctx context.Context, work *sync.WaitGroup, ev Event) {
	r.beat.Store(time.Now().UnixNano())
	actions, changed := r.folder.Step(ev)
	r.Served.SetPhase(r.folder.Phase())
	if r.hurries() {
		r.hasten(true)
	}
	r.Served.SetRetired(r.folder.Retired())
	if now := r.folder.standing(); now != r.last {
		r.last = now
		r.moves.Add(1)
	}
	for _, a := range actions {
		work.Go(func() { a.Run(Context{ctx, r.env}, func(e Event) { r.post(ctx, e) }) })
	}
	if changed {
		r.mu.Lock()
		close(r.changed)
		r.changed = make(chan struct{})
		r.mu.Unlock()
	}
	left := r.drains[:0]
	for _, d := range r.drains {
		if r.folder.token >= d.token {
			close(d.done)
		} else {
			left = append(left, d)
		}
	}
	r.drains = left
}

// hurryFrom is how many changes of metadata within a heartbeat make a backlog.
const hurryFrom = 1000

// hurries reports whether an initial sync is under way, or a backlog of changed
// metadata is worked off: nothing else comes so fast, and leaves so much behind.
func (r *Runner) hurries() bool {
	return r.folder.phase == store.PhaseInitialSync || r.folder.stats.amended-r.begun >= hurryFrom
}

// restHurry ends the haste if there was no cause for it since the last heartbeat.
func (r *Runner) restHurry() {
	if !r.hurries() {
		r.hasten(false)
	}
	r.begun = r.folder.stats.amended
}

// hasten tells that there is haste, or none any more.
func (r *Runner) hasten(hurry bool) {
	switch {
	case r.env.Hurry == nil || hurry == (r.over != nil):
	case hurry:
		r.over = r.env.Hurry()
	default:
		r.over()
		r.over = nil
	}
}

func (r *Runner) checkRoot() error {
	d, err := r.env.Volume.Root()
	if err != nil {
		if errors.Is(err, volume.ErrUnmounted) {
			r.find.Raise(finding.RootUnmounted, r.cfg.Name, err.Error())
		} else {
			r.find.Raise(finding.RootMissing, r.cfg.Name, err.Error())
		}
		return fmt.Errorf("root of %s: %w", r.cfg.Name, err)
	}
	return d.Close()
}

func (r *Runner) upstream(m repl.MemberID) Upstream {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[m]
}

// SetUpstream tells that a session with an upstream partner stands, or with
// nil that it is lost.
func (r *Runner) SetUpstream(ctx context.Context, m repl.MemberID, up Upstream) {
	r.mu.Lock()
	if up == nil {
		delete(r.sessions, m)
	} else {
		r.sessions[m] = up
	}
	r.mu.Unlock()
	if up == nil {
		r.post(ctx, LinkDown{m})
	} else {
		r.post(ctx, LinkUp{m, up})
	}
}

// Heard tells what a downstream partner knows, by the question that it asks. One
// that is held back for news is told of each time that it is looked at.
func (r *Runner) Heard(ctx context.Context, m repl.MemberID, req *wire.DiffRequest) {
	if r.Served.Whole(req) == nil { // else it is refused
		r.post(ctx, Heard{m, req.Vector, req.Arrived})
	}
}

// SetMembers tells which members the directory has.
func (r *Runner) SetMembers(ctx context.Context, list []Member) error {
	return r.between(ctx, func(f *Folder) { MembersAre{list}.apply(f) })
}

// SetPartners tells which partners the directory has, and how contents come from them.
// The sessions of those that are none any more are let go; the new ones' are given
// by SetUpstream afterwards.
func (r *Runner) SetPartners(ctx context.Context, p PartnersAre) error {
	return r.between(ctx, func(f *Folder) {
		r.mu.Lock()
		defer r.mu.Unlock()
		maps.DeleteFunc(r.sessions, func(m repl.MemberID, _ Upstream) bool { return !slices.Contains(p.Upstreams, m) })
		p.apply(f)
	})
}

// Cover takes what a partner has heard that members cover, and returns what this
// member has to say.
func (r *Runner) Cover(ctx context.Context, heard []repl.Statement) ([]repl.Statement, error) {
	own, err := r.env.statement(&r.cfg)
	if err != nil {
		return nil, err
	}
	return ask(ctx, r, func(f *Folder) []repl.Statement { return f.Answer(own, heard) })
}

// Compare answers a partner's slow sync, or takes its word that this member lags
// below its own vector.
func (r *Runner) Compare(ctx context.Context, m repl.MemberID, req *wire.CompareRequest) (*wire.CompareReply, error) {
	if req.Behind {
		r.post(ctx, Behind{m})
		return &wire.CompareReply{}, nil
	}
	return r.Served.Compare(ctx, req)
}

// lastNews wakes whoever waits for news of a folder that has ended: the one that
// follows may have some, and nobody else would say so.
func (r *Runner) lastNews() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
}

// Changed returns a channel that is closed when there is news for partners, or
// when the folder has ended.
func (r *Runner) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Config is what the folder was started with.
func (r *Runner) Config() Config { return r.cfg }

// inspect runs a function on the folder between two steps.
type inspect func(*Folder)

func (e inspect) apply(f *Folder) { e(f) }

// Status describes the folder now.
func (r *Runner) Status(ctx context.Context) (Status, error) {
	return ask(ctx, r, (*Folder).Status)
}

// between runs a function on the folder between two steps, and waits for it. If it
// returns an error the function may still run.
func (r *Runner) between(ctx context.Context, fn func(*Folder)) error {
	_, err := ask(ctx, r, func(f *Folder) struct{} {
		fn(f)
		return struct{}{}
	})
	return err
}

// ask runs a function on the folder between two steps, and returns its answer. If it
// returns an error the function may still run: what it writes to is its own, then.
func ask[T any](ctx context.Context, r *Runner, fn func(*Folder) T) (answer T, err error) {
	answers := make(chan T, 1)
	select {
	case r.events <- inspect(func(f *Folder) { answers <- fn(f) }):
	case <-r.ended:
		return answer, r.stoppedErr()
	case <-ctx.Done():
		return answer, ctx.Err()
	}
	select {
	case answer = <-answers:
		return answer, nil
	case <-r.ended:
		return answer, r.stoppedErr()
	case <-ctx.Done():
		return answer, ctx.Err()
	}
}

// DecideHold releases or rejects what is held of an originator.
func (r *Runner) DecideHold(ctx context.Context, o version.Originator, reject bool) error {
	decided, err := ask(ctx, r, func(f *Folder) error { return f.decideHold(o, reject) })
	return errors.Join(err, decided)
}

func (r *Runner) stoppedErr() error {
	return errors.Join(fmt.Errorf("folder %s is not running", r.cfg.Name), r.err)
}

// Drain returns when every change that was closed before the call is in the
// folder's hands: captured, or counted by Status as still to be.
func (r *Runner) Drain(ctx context.Context) error {
	token, err := r.jrn.Drain(ctx)
	if err != nil {
		return fmt.Errorf("drain journal of %s: %w", r.cfg.Name, err)
	}
	done := make(chan struct{})
	r.post(ctx, waitToken{r, drainWait{token, done}})
	select {
	case <-done:
		return nil
	case <-r.ended:
		return r.stoppedErr()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Mend has metadata that could not be set tried again now.
func (r *Runner) Mend(ctx context.Context) { r.post(ctx, mendNow{}) }

// waitToken registers a wait for a journal batch.
type waitToken struct {
	r *Runner
	w drainWait
}

func (e waitToken) apply(*Folder) { e.r.drains = append(e.r.drains, e.w) }

// Moves counts the steps that changed what Status says: while it stays, the folder
// does nothing and need not be looked at.
func (r *Runner) Moves() uint64 { return r.moves.Load() }

// Beat is when the folder's loop last did something, at most rootCheck ago while it
// lives: a watchdog's food.
func (r *Runner) Beat() time.Time { return time.Unix(0, r.beat.Load()) }

// Ended is closed when the folder has stopped by itself or by Close; Err says
// why.
func (r *Runner) Ended() <-chan struct{} { return r.ended }

// Err is why the folder stopped; valid once Ended is closed.
func (r *Runner) Err() error { return r.err }

// Close stops the folder and waits for all its work.
func (r *Runner) Close() error {
	r.cancel()
	<-r.ended
	if errors.Is(r.err, ErrRebuild) {
		return nil
	}
	return r.err
}
