package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"opendfs/internal/finding"
	"opendfs/internal/journal"
	"opendfs/internal/preserve"
)

// evictEvery is how often the conflict store is looked at though nothing came
// into it: promises end, and others fill the disk.
const evictEvery = time.Minute

// eviction is how the conflict store's evictions stand; the loop owns it.
type eviction struct {
	running bool
	asked   bool // for at once, not with the next heartbeat
	next    time.Time
}

// evict starts an eviction if one is due and none is under way.
func (r *Runner) evict(ctx context.Context, work *sync.WaitGroup, now time.Time) {
	cfg := r.folder.cfg
	p := preserve.Policy{Quota: cfg.ConflictQuota, Retention: cfg.ConflictRetention, Reserve: cfg.Reserve}
	e := &r.evicting
	e.asked = false
	if e.next.IsZero() { // what a starting folder does matters more
		e.next = now.Add(evictEvery)
	}
	if e.running || p.Quota == 0 || now.Before(e.next) && !r.env.Keep.Due(p) {
		return
	}
	e.running, e.next = true, now.Add(evictEvery)
	work.Go(func() {
		out, err := r.env.Keep.Evict(ctx, r.env.Now(), p)
		r.post(ctx, evicted{r, out, err})
	})
}

// evicted tells that the conflict store has been brought to its quota, or why
// not.
type evicted struct {
	r   *Runner
	out preserve.Eviction
	err error
}

func (e evicted) apply(f *Folder) {
	e.r.evicting.running = false
	e.r.judgeStaging(f)
	if e.out.Objects > 0 {
		e.r.log.Info("kept objects evicted", "objects", e.out.Objects, "bytes", e.out.Bytes, "left", e.out.After.Bytes)
	}
	if e.err != nil {
		trouble{f.cfg.Name, e.err}.apply(f)
		e.r.log.Warn("conflict store", "err", e.err)
		return
	}
	if !e.out.OverQuota {
		f.find.Clear(finding.ConflictStoreOverQuota, f.cfg.Name)
		return
	}
	f.find.Raise(finding.ConflictStoreOverQuota, f.cfg.Name,
		fmt.Sprintf("%d objects of %d bytes are kept, the quota is %d bytes", e.out.After.Objects, e.out.After.Bytes, f.cfg.ConflictQuota))
}

// judgeStaging says whether the signatures that are needed have room.
func (r *Runner) judgeStaging(f *Folder) {
	if r.env.Staging == nil {
		return
	}
	u := r.env.Staging.Usage()
	if !u.Small {
		f.find.Clear(finding.StagingSmall, f.cfg.Name)
		return
	}
	f.find.Raise(finding.StagingSmall, f.cfg.Name, fmt.Sprintf("%d signatures take %d bytes; %d were removed, and some of them were needed again", u.Entries, u.Used, u.Evicted))
}

// changedHere are places that this process itself has changed, which the
// journal leaves out.
type changedHere []journal.Dirty

func (e changedHere) apply(f *Folder) {
	for i := range e {
		f.journalled(&e[i])
	}
}

// Look tells of places that this process itself has changed in a user's name:
// they are looked at as if the journal had reported them.
func (r *Runner) Look(ctx context.Context, places []journal.Dirty) { r.post(ctx, changedHere(places)) }

// Kept runs a function on the folder's conflict store. The folder does not close
// before it has returned; its context ends when the folder is to.
func (r *Runner) Kept(ctx context.Context, do func(context.Context, *preserve.Store) error) error {
	if !r.enter() {
		return fmt.Errorf("folder %s is not running", r.cfg.Name)
	}
	defer r.guests.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.running, cancel)()
	err := do(ctx, r.env.Keep)
	r.post(r.running, keptVisited{r})
	return err
}

// enter makes the folder wait for one more guest, unless it ends.
func (r *Runner) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running.Err() != nil {
		return false
	}
	r.guests.Add(1)
	return true
}

// shut lets no more guests in and waits for those that are.
func (r *Runner) shut() {
	r.mu.Lock()
	r.cancel()
	r.mu.Unlock()
	r.guests.Wait()
}

// keptVisited tells that somebody may have made room in the conflict store.
type keptVisited struct{ r *Runner }

func (e keptVisited) apply(*Folder) { e.r.evicting.next = time.Unix(0, 0) }
