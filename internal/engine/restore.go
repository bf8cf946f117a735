package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// fenceChunk is how many records an authoritative restore looks at in one step.
const fenceChunk = 1024

// ErrRestoring says that an authoritative restore is under way already.
var ErrRestoring = errors.New("an authoritative restore of this folder is under way")

// NotNormalError says that a folder is not Normal.
type NotNormalError struct{ Folder, Phase string }

// Error names the folder and its phase.
func (e *NotNormalError) Error() string { return e.Folder + " is not Normal but in " + e.Phase }

// NoRecordError says that a path has no record.
type NoRecordError struct{ Path string }

// Error names the path.
func (e *NoRecordError) Error() string { return fmt.Sprintf("%q has no ID record here", e.Path) }

// Authorize makes what this member has at a path, and below it, win on purpose:
// each record there becomes an update of this member's, with the fence of the
// moment, tombstones too. It waits until what the tree shows is captured. Done, if
// set, is told how many updates were made; it must not block.
type Authorize struct {
	Path string // beneath the root, slash-separated; "." for all
	Done func(updates int, err error)
}

// fencing is an authoritative restore under way.
type fencing struct {
	Authorize
	top    repl.UID
	begun  bool
	fence  repl.Fence
	known  version.Vector // when it began: what was minted since is not looked at
	cursor version.GVSN
	over   bool              // every record has been looked at
	left   []repl.UID        // that plans under way held
	inside map[repl.UID]bool // directories, whether they lie at the path or below
	made   int
}

func (e Authorize) apply(f *Folder) {
	if e.Done == nil {
		e.Done = func(int, error) {}
	}
	switch {
	case f.cfg.ReadOnly:
		e.Done(0, &ReadOnlyError{f.cfg.Name})
	case f.phase != store.PhaseNormal || f.stopped != "":
		e.Done(0, &NotNormalError{f.cfg.Name, f.phase.String()})
	case f.fencing != nil:
		e.Done(0, ErrRestoring)
	default:
		f.fencing = &fencing{Authorize: e, inside: make(map[repl.UID]bool)}
	}
}

// Fencing goes on with an authoritative restore.
type Fencing struct{}

// Class says that it reads no more than records.
func (Fencing) Class() Class { return ClassLook }

// Run lets other events come first.
func (Fencing) Run(_ Context, post func(Event)) { post(Tick{}) }

// startFencing makes the next updates of an authoritative restore.
func (f *Folder) startFencing() {
	r := f.fencing
	if r == nil || f.busyLocally() {
		return
	}
	if !r.begun {
		if err := f.beginFencing(r); err != nil {
			f.fencing = nil
			r.Done(0, err)
			return
		}
	}
	uids := r.left
	r.left = nil
	if !r.over {
		page, cursor, more, err := f.st.Updates(r.known, r.cursor, fenceChunk)
		if f.storeFailed(err) {
			return
		}
		for i := range page {
			uids = append(uids, page[i].UID)
		}
		r.cursor, r.over = cursor, !more
	}
	if !f.fenceAll(r, uids) {
		return
	}
	switch {
	case r.over && len(r.left) == 0:
		f.fencing = nil
		r.Done(r.made, nil)
	case !r.over:
		f.do(Fencing{})
	}
}

// beginFencing finds the object and the moment.
func (f *Folder) beginFencing(r *fencing) error {
	r.top = f.root()
	if r.Path != "." {
		for name := range strings.SplitSeq(r.Path, "/") {
			rec, ok, err := f.st.At(r.top, name)
			if err != nil || !ok {
				return errors.Join(&NoRecordError{r.Path}, err)
			}
			r.top = rec.UID
		}
	}
	r.begun, r.fence, r.known = true, repl.Fence(f.mint()), f.st.Vector()
	return nil
}

// fenceAll makes an update of each object that the restore is about.
func (f *Folder) fenceAll(r *fencing, uids []repl.UID) bool {
	var put store.Batch
	for _, uid := range uids {
		rec, ok, err := f.st.Get(uid)
		if f.storeFailed(err) {
			return false
		}
		if rec.Present && rec.Presence != repl.OnDisk { // it has nothing to win with
			continue
		}
		if !ok || rec.Provisional || rec.NameConflict || !rec.Heir.IsZero() || !f.isInside(r, &rec) {
			continue
		}
		if f.flight.holds(uid) {
			r.left = append(r.left, uid)
			continue
		}
		base := rec.GVSN
		rec.Fence = max(rec.Fence, r.fence)
		rec.Update = repl.Mint(f.next(), f.mint(), &rec.Update, rec.Update)
		put.Writes = append(put.Writes, store.Write{Record: rec, Base: base})
	}
	if len(put.Writes) == 0 {
		return true
	}
	if f.storeFailed(f.st.Put(&put)) {
		return false
	}
	r.made += len(put.Writes)
	f.stats.captured(put.Writes, f.now())
	f.stats.Fenced += uint64(len(put.Writes))
	f.notify = true
	return true
}

// isInside reports whether an object is the one at the path, or lies below it, as
// the records have it.
func (f *Folder) isInside(r *fencing, rec *repl.Record) bool {
	if rec.UID == r.top || r.top == f.root() {
		return true
	}
	var way []repl.UID
	found := false
	for dir := rec.Parent; !dir.IsZero() && len(way) < maxDepth; {
		if in, known := r.inside[dir]; known || dir == r.top {
			found = in || dir == r.top
			break
		}
		way = append(way, dir)
		above, ok, err := f.st.Get(dir)
		if f.storeFailed(err) || !ok {
			break
		}
		if dir = above.Parent; !above.Heir.IsZero() {
			dir = above.Heir
		}
	}
	for _, dir := range way {
		r.inside[dir] = found
	}
	return found
}

// Authorize makes what this member has at a path win on purpose, once all that was
// closed before the call is captured. It returns how many updates were made.
func (r *Runner) Authorize(ctx context.Context, path string) (int, error) {
	if err := r.Drain(ctx); err != nil {
		return 0, err
	}
	type outcome struct {
		n   int
		err error
	}
	done := make(chan outcome, 1)
	r.post(ctx, Authorize{path, func(n int, err error) { done <- outcome{n, err} }})
	select {
	case o := <-done:
		return o.n, o.err
	case <-r.ended:
		return 0, r.stoppedErr()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// startAnew has the folder opened anew, without its records, to be compared with a
// partner.
type startAnew struct{}

func (startAnew) apply(f *Folder) { f.stopped, f.rebuild = "", true }

// StartAnew ends the runner with ErrRebuild: whoever keeps it is to drop the
// records and to start the folder anew, not authoritatively.
func (r *Runner) StartAnew(ctx context.Context) { r.post(ctx, startAnew{}) }
