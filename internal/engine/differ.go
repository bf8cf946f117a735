package engine

import (
	"bytes"
	"fmt"
	"slices"

	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// AskSuspects asks a partner for the records of what a slow sync found to differ.
type AskSuspects struct {
	of     *comparing
	Member repl.MemberID
	Folder repl.FolderID
}

// Class says that it waits for a partner.
func (*AskSuspects) Class() Class { return ClassAsk }

// Run posts the records.
func (a *AskSuspects) Run(ctx Context, post func(Event)) {
	ev := suspectsAsked{of: a.of, err: errNoSession}
	if up := ctx.Upstream(a.Member); up != nil {
		ev.reply, ev.err = up.Records(ctx, a.Folder, a.of.suspects)
	}
	post(ev)
}

// suspectsAsked brings the partner's records of what differs.
type suspectsAsked struct {
	of    *comparing
	reply wire.RecordsReply
	err   error
}

func (e suspectsAsked) apply(f *Folder) {
	c := e.of
	if f.compare != c {
		return
	}
	if e.err != nil {
		f.compare, c.of.compareAt = nil, f.now()+repl.Time(compareRetry)
		return
	}
	found := f.differ(c, &e.reply)
	if f.stopped != "" {
		return
	}
	if found.len() > 0 {
		f.mend(c.of, found, e.reply.Vector)
		f.endComparing(found)
		return
	}
	c.suspects, c.busy = nil, false // it has come, or moved on, meanwhile
	if c.after.IsZero() {
		f.endComparing(nil)
	}
}

// differing is what a slow sync found, by whose record is the greater. The objects
// are those for which the vectors give no reason.
type differing struct {
	behind []repl.Update // the partner's, greater than ours or of what we have none of
	ahead  []pair        // ours is greater, or the partner has none
	twins  []pair        // of one version, with other contents
	alien  []pair        // no versions of one object: another type or creation time
}

// pair is an object's record and the partner's update, if it has one.
type pair struct {
	rec    repl.Record
	theirs *repl.Update
}

func (d *differing) len() int { return len(d.behind) + len(d.ahead) + len(d.twins) + len(d.alien) }

// String says what was found, for people.
func (d *differing) String() string {
	first := ""
	for _, list := range [][]pair{d.alien, d.twins, d.ahead} {
		if len(list) > 0 {
			first = list[0].rec.Name
		}
	}
	if len(d.behind) > 0 {
		first = d.behind[0].Name
	}
	return fmt.Sprintf("%d records were lost or old here, %d there, %d differ in one version, %d cannot be of one object; first %q",
		len(d.behind), len(d.ahead), len(d.twins), len(d.alien), first)
}

// differ looks at the records as they are now.
func (f *Folder) differ(c *comparing, reply *wire.RecordsReply) *differing {
	d, mine, floor := new(differing), f.st.Vector(), f.st.Floor()
	theirs := make(map[repl.UID]*repl.Update, len(reply.Updates))
	for i := range reply.Updates {
		theirs[reply.Updates[i].UID] = &reply.Updates[i]
	}
	for _, uid := range c.suspects {
		rec, ok, err := f.st.Get(uid)
		if f.storeFailed(err) {
			return d
		}
		u := theirs[uid]
		switch {
		case u == nil && !ok, f.flight.holds(uid), ok && rec.Provisional:
		case u != nil && !mine.Contains(u.GVSN), ok && !reply.Vector.Contains(rec.GVSN): // it is on its way
		case u == nil && !rec.Present: // collected there
		case !ok && !u.Present && floor.Contains(u.GVSN): // or here
		case !ok:
			d.behind = append(d.behind, *u)
		case u == nil:
			d.ahead = append(d.ahead, pair{rec, nil})
		case rec.Type != u.Type || rec.CreateTime != u.CreateTime && !rec.Parent.IsZero():
			d.alien = append(d.alien, pair{rec, u})
		case rec.GVSN == u.GVSN:
			ours, err1 := wire.CheckOf([16]byte{}, &rec.Update)
			other, err2 := wire.CheckOf([16]byte{}, u)
			if err1 != nil || err2 != nil || ours != other {
				d.twins = append(d.twins, pair{rec, u})
			}
		case repl.Compare(u, &rec.Update) > 0:
			d.behind = append(d.behind, *u)
		default:
			d.ahead = append(d.ahead, pair{rec, u})
		}
	}
	return d
}

// mend has what differs settled by the law. The partner's greater records go through
// merge like any update. What the partner lacks it is told to compare itself; where
// that does not help, or it does not ask this member for updates, ours is made new,
// over both, as old as it can be: what users did unseen is later. Of two contents of one version the tree is
// the judge first: who has another one on record than on disk makes an update of it.
// Then one of the two members makes its own new, and what the other has is kept where
// it differs (rule 3).
func (f *Folder) mend(l *link, found *differing, partner version.Vector) {
	asks := slices.Contains(f.cfg.Downstreams, l.member)
	var writes []store.Write
	anew := func(p *pair, seen bool) {
		w := store.Write{Record: p.rec, Base: p.rec.GVSN}
		var also []*repl.Update
		if p.theirs != nil {
			also = append(also, p.theirs)
		}
		if w.Record.Update = repl.Mint(f.next(), 0, &p.rec.Update, p.rec.Update, also...); !seen {
			w.Record.History = nil // nobody has seen both
		}
		writes = append(writes, w)
	}
	for i := range found.ahead {
		if p := &found.ahead[i]; (!asks || l.differing > 0) && !f.cfg.ReadOnly && p.rec.Present {
			anew(p, true)
		}
	}
	for i := range found.twins {
		switch p := &found.twins[i]; {
		case f.cfg.ReadOnly:
		case l.differing == 0:
			if p.rec.Presence == repl.OnDisk {
				writes = append(writes, f.forgetPrint(p.rec))
			}
		case f.makesAnew(l, p.rec.GVSN.Originator, asks):
			anew(p, false)
		}
	}
	if len(writes) > 0 {
		if f.storeFailed(f.st.Put(&store.Batch{Writes: writes})) {
			return
		}
		f.stats.captured(writes, f.now())
		f.notify = true
	}
	if asks && len(found.ahead)+len(found.twins) > 0 {
		f.do(&TellBehind{Member: l.member, Folder: f.cfg.Folder})
	}
	if len(found.behind) > 0 {
		d := &diff{apart: true, vector: partner, failed: make(version.Vector), heldOut: make(version.Vector), onHold: make(version.Vector), records: make(map[repl.UID]bool), barred: make(map[repl.UID]bool)}
		for i := range found.behind {
			d.records[found.behind[i].UID] = true
		}
		f.decide(l, d, found.behind, 0)
	}
}

// forgetPrint is the write after which the next look at an object reads it. If it is
// another, whether its disk or its record rotted cannot be told: whoever installs what
// is found keeps what it replaces, as after an unclean stop (rule 19).
func (f *Folder) forgetPrint(rec repl.Record) store.Write {
	rec.Print, f.unsure[rec.UID] = repl.Print{}, true
	if rec.Parent.IsZero() {
		f.dirty.at(rec.UID).self = true
	} else if dir, err := f.st.Canonical(rec.Parent); !f.storeFailed(err) {
		f.dirty.mark(dir, rec.Name, true)
	}
	return store.Write{Record: rec, Base: rec.GVSN}
}

// makesAnew reports whether it is on this member to make a version new of which the
// partner has another content: its maker's word counts, else the lower member's. If
// the other does not, in a while, this one does.
func (f *Folder) makesAnew(l *link, maker version.Originator, asks bool) bool {
	st := f.st.State()
	switch {
	case !asks || l.differing >= maxDiffering-1, maker == st.Originator || slices.Contains(st.Past, maker):
		return true
	case maker == l.originator:
		return false
	}
	return bytes.Compare(f.cfg.Self[:], l.member[:]) < 0
}

// TellBehind tells a partner that it lags below its own vector.
type TellBehind struct {
	Member repl.MemberID
	Folder repl.FolderID
}

// Class says that it waits for a partner.
func (*TellBehind) Class() Class { return ClassAsk }

// Run tells it; a partner that cannot be told compares itself in its own time.
func (a *TellBehind) Run(ctx Context, post func(Event)) {
	up := ctx.Upstream(a.Member)
	if up == nil {
		return
	}
	if _, err := up.Compare(ctx, wire.CompareRequest{Folder: a.Folder, Behind: true}); err != nil {
		post(trouble{"slow sync of " + a.Member.String(), err})
	}
}
