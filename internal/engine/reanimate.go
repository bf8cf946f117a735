package engine

import (
	"opendfs/internal/capture"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// reanimate lets new objects of a group of drafts be the deleted ones of their
// name: who deletes a file and makes it again, as many programs save, has changed
// it. So an edit made elsewhere meanwhile is another version of one file, and no
// name is fought for.
func (f *Folder) reanimate(group []capture.Draft, g *gathered) {
	if f.phase != store.PhaseNormal || f.cfg.ReadOnly || f.st.Counts().Tombstones == 0 {
		return
	}
	taken := make(map[repl.UID]bool)
	for i := range group {
		if p := group[i].Prior; p != nil {
			taken[p.UID] = true
		}
	}
	for i := range group {
		d := &group[i]
		if d.Kind != capture.KindCreate || d.Prior != nil || d.Rival != nil {
			continue
		}
		if dead := f.grave(d, func(uid repl.UID) bool { return taken[uid] || g.uids[uid] || f.flight.holds(uid) }); dead != nil {
			taken[dead.UID] = true
			f.stats.Reanimated++
			d.Prior = dead
			d.Update.UID, d.Update.Fence, d.Update.CreateTime = dead.UID, dead.Fence, dead.CreateTime
		}
	}
}

// grave returns the newest tombstone of a draft's place and type, if it is young
// enough to be remembered everywhere; not one that is busy.
func (f *Folder) grave(d *capture.Draft, busy func(repl.UID) bool) *repl.Record {
	dir, err := f.st.Canonical(d.Update.Parent)
	if f.storeFailed(err) {
		return nil
	}
	dead, err := f.st.Graves(dir, d.Update.Name)
	if f.storeFailed(err) {
		return nil
	}
	var newest *repl.Record
	for i := range dead {
		r := &dead[i]
		old := f.cfg.TombstoneLifetime > 0 && r.Clock < f.now()-repl.Time(f.cfg.TombstoneLifetime)
		if r.Type != d.Update.Type || !r.Heir.IsZero() || old || busy(r.UID) {
			continue
		}
		if newest == nil || repl.Compare(&r.Update, &newest.Update) > 0 {
			newest = r
		}
	}
	return newest
}
