package engine

import (
	"slices"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// lagAfter is for how long a diff holds up the next one. A content that takes
// longer to come must not keep everything else from coming.
const lagAfter = time.Second

// startLagging ends diffs of which only plans under way are left, and those for
// long. What they still are to commit is held like what failed: it is neither
// joined nor asked for, but now and then, until it is here.
func (f *Folder) startLagging() {
	if f.phase != store.PhaseNormal {
		return
	}
	for _, m := range f.cfg.Upstreams {
		l := f.links[m]
		d := l.diff
		if d == nil || !d.paged || l.asking || d.outstanding == 0 || f.now() < d.since+repl.Time(lagAfter) {
			continue
		}
		for _, b := range f.batches() {
			if b.diff != d {
				continue
			}
			for i := range b.changes {
				f.holdBack(b, i)
			}
		}
		f.endDiff(l, true)
	}
}

// holdBack keeps out of what a batch's diff joins what one of its changes would
// have settled.
func (f *Folder) holdBack(b *batch, i int) {
	for _, g := range b.settles[i] {
		b.diff.failed.Add(g)
	}
}

// batches lists the batches under way.
func (f *Folder) batches() []*batch {
	all := slices.Concat(f.fifo, f.big)
	if f.install != nil {
		all = append(all, f.install)
	}
	return all
}

// lags reports whether plans are under way of a diff with the partner that has
// ended.
func (f *Folder) lags(l *link) bool {
	return slices.ContainsFunc(f.batches(), func(b *batch) bool { return b.link == l && b.diff != l.diff })
}
