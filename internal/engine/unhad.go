package engine

import (
	"slices"

	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// unhadAfter is for how long a content that is to replace one of this member's is
// asked for while no partner has it: they may be about to get it.
const unhadAfter = showLast

// without reports whether a partner says that it has a record and not its content.
func without(s wire.Status) bool { return s == wire.StatusAbsent || s == wire.StatusHidden }

// unhad is what partners say who know a version and have not its content.
type unhad struct {
	by    map[repl.MemberID]wire.Status // absent or hidden
	since repl.Time                     // when one last said something else than before
}

// denied notes that a partner has not the content of a version, which is remembered
// until that is stored: of several that are stored together each may be with another
// partner, or with none.
func (f *Folder) denied(b *batch, i int) {
	c, status := b.changes[i], b.staged[i].Status
	if !without(status) || c.Update.GVSN == c.Was.GVSN || c.Verdict == repl.VerdictUndone {
		return
	}
	if len(f.unhad) >= mostLacking {
		clear(f.unhad)
	}
	u := f.unhad[c.Update.GVSN]
	if u == nil {
		u = &unhad{by: make(map[repl.MemberID]wire.Status)}
		f.unhad[c.Update.GVSN] = u
	}
	if u.by[b.link.member] != status {
		u.by[b.link.member], u.since = status, f.now()
	}
}

// unhad reports whether a new file cannot be brought because the partner has its
// record and not its content, as of what a filter hides there.
func (b *batch) unhad(i int) bool {
	c := b.changes[i]
	had := c.Was.Present && c.Was.Presence != repl.Absent
	return without(b.staged[i].Status) && c.From.IsZero() && c.Update.Present && !had && c.Was.GVSN != c.Update.GVSN
}

// nobodyHas reports whether no partner that can be asked, and knows a version, has
// its content. Of a new file the record is kept then, like there; the content is asked
// for from time to time. Else it is left to the others.
func (f *Folder) nobodyHas(g version.GVSN) bool {
	u := f.unhad[g]
	if u == nil {
		return false
	}
	for _, m := range f.cfg.Upstreams {
		if other := f.links[m]; other.up && other.known.Contains(g) && !without(u.by[m]) {
			return false
		}
	}
	return true
}

// nowhere reports whether every other member of the folder has said that it has not
// the content of a version, or does not know the version. A member that does not see the
// object is no proof, for a filter, its disk or a mount: it may have it, and does not ask
// others; nor is one that is away, is no partner of this one, or compares itself with
// another for the first time.
func (f *Folder) nowhere(g version.GVSN) bool {
	lacks := func(m repl.MemberID) bool {
		l, status := f.links[m], f.unhad[g].by[m]
		return l != nil && l.up && !l.unready && (status == wire.StatusAbsent || !without(status) && !l.known.Contains(g))
	}
	for i := range f.cfg.Members {
		m := &f.cfg.Members[i]
		if m.ID != f.cfg.Self && !f.out(m) && !slices.Contains(f.cfg.Upstreams, m.ID) {
			return false
		}
	}
	return !slices.ContainsFunc(f.cfg.Upstreams, func(m repl.MemberID) bool { return !f.outID(m) && !lacks(m) })
}

// outlives answers an update whose content nobody has had for long by one of ours,
// which is greater and says what this member has: its file is the last one. The history
// does not cover the lost content, so that it is kept where it turns up.
func (f *Folder) outlives(u *repl.Update) (w store.Write, ok bool) {
	had := f.unhad[u.GVSN]
	if had == nil || f.phase != store.PhaseNormal || f.cfg.ReadOnly || f.now() < had.since+repl.Time(unhadAfter) || !f.nowhere(u.GVSN) || f.flight.holds(u.UID) {
		return w, false
	}
	rec, known, err := f.st.Get(u.UID)
	if f.storeFailed(err) || !known || !rec.Present || rec.Provisional || rec.Type != repl.File || rec.Presence != repl.OnDisk {
		return w, false
	}
	if u.Type != rec.Type || !u.Present || repl.Compare(u, &rec.Update) <= 0 || repl.SameContent(u, &rec.Update) {
		return w, false
	}
	delete(f.unhad, u.GVSN)
	return f.above(rec, u, u.Fence), true
}

// above makes what this member has on record of an object greater than an update that
// it has not, and does not own up to.
func (f *Folder) above(rec repl.Record, u *repl.Update, fence repl.Fence) store.Write {
	base, now := rec.GVSN, f.mint()
	rec.Fence = max(rec.Fence, fence)
	rec.Update = repl.Mint(f.next(), max(now, u.Clock+1), &rec.Update, rec.Update)
	return store.Write{Record: rec, Base: base}
}
