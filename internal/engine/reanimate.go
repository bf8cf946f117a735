package engine

import (
	"math"
	"slices"

	"opendfs/internal/capture"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// reanimate lets new objects of a group of drafts be the deleted ones of their
// name, as far as those are remembered everywhere and nothing under way is about
// them.
func (f *Folder) reanimate(group []capture.Draft, g *gathered) {
	made := func(d capture.Draft) bool { return d.Kind == capture.KindCreate }
	if f.phase != store.PhaseNormal || f.cfg.ReadOnly || !slices.ContainsFunc(group, made) || f.st.Counts().Tombstones == 0 {
		return
	}
	since := repl.Time(math.MinInt64)
	if f.cfg.TombstoneLifetime > 0 {
		since = f.now() - repl.Time(f.cfg.TombstoneLifetime)
	}
	n, err := capture.Reanimate(group, since, func(dir repl.UID, name string) ([]repl.Record, error) {
		dir, err := f.st.Canonical(dir)
		if err != nil {
			return nil, err
		}
		dead, err := f.st.Graves(dir, name)
		return slices.DeleteFunc(dead, func(r repl.Record) bool { return g.uids[r.UID] || f.flight.holds(r.UID) }), err
	})
	f.stats.Reanimated += uint64(n)
	f.storeFailed(err)
}
