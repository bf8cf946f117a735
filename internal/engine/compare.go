package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// The rhythm and the bounds of slow syncs.
const (
	comparePause = 20 * time.Millisecond // between two parts at least
	compareShare = 4                     // of the time that a part took, it rests
	compareRetry = 10 * time.Minute      // after a partner could not answer
	compareAgain = 10 * time.Second      // to see whether what differed is mended
	behindAfter  = time.Minute           // between two that a partner asks for
	maxDiffering = 4                     // slow syncs one after another that find something; then it waits
	maxSuspects  = wire.MaxUIDs          // objects that one of them is about
	// compareSlack is by how much younger than its collection a tombstone must be to
	// be compared: what one side has collected the other may still have.
	compareSlack = 24 * time.Hour
)

// comparing is a slow sync under way ([MS-FRS2] 3.3.1.3): this member's records are
// compared with a partner's below equal vectors, which cannot show that one of them
// was lost or altered in a database. It is asked for runs of records as digests, and
// for the records of the runs that differ. What the vectors explain, because it is on
// its way, is left out; of the rest the partner's records are asked for by UID.
type comparing struct {
	of       *link
	after    repl.UID  // compared up to here
	at       repl.Time // when it goes on
	busy     bool      // an action is under way
	suspects []repl.UID
}

// startComparing begins a slow sync when the time of one has come, one at a time, or
// goes on with it.
func (f *Folder) startComparing() {
	if !f.mayCompare() {
		return
	}
	for _, m := range f.cfg.Upstreams {
		if l := f.links[m]; f.compare == nil && l.up && l.compared && f.compareAt(l) <= f.now() {
			f.compare = &comparing{of: l}
		}
	}
	if c := f.compare; c != nil && !c.busy && c.at <= f.now() {
		c.busy = true
		f.do(&Compare{of: c, Member: c.of.member, Request: wire.CompareRequest{Folder: f.cfg.Folder, After: c.after, Since: f.comparedSince()}})
	}
}

// mayCompare reports whether a slow sync may begin or go on now.
func (f *Folder) mayCompare() bool {
	return f.cfg.SlowSync > 0 && f.phase == store.PhaseNormal && !f.awaiting() && !f.walking
}

// compareAt is when a partner's records are compared next. The partners and folders
// that began at one time are not compared at one time.
func (f *Folder) compareAt(l *link) repl.Time {
	if l.compareAt == 0 {
		last, every := f.st.State().Since, repl.Time(f.cfg.SlowSync)
		if l.slowSync > 0 {
			last = l.slowSync
		}
		spread := repl.Time(f.cfg.Folder[15]^l.member[15]) * (every / 8 / 256)
		l.compareAt = min(last, f.now()) + every + spread
	}
	return l.compareAt
}

// comparedSince is how young tombstones are that are compared.
func (f *Folder) comparedSince() repl.Time {
	life := f.cfg.TombstoneLifetime
	if life <= 0 {
		return 0
	}
	return f.now() - repl.Time(life-min(compareSlack, life/4))
}

// Compare is one part of a slow sync.
type Compare struct {
	of      *comparing
	Member  repl.MemberID
	Request wire.CompareRequest
}

// Class says that it waits for a partner.
func (*Compare) Class() Class { return ClassAsk }

// Run posts which objects differ.
func (a *Compare) Run(ctx Context, post func(Event)) {
	ev, began := compared{of: a.of, err: errNoSession}, ctx.Now()
	if up := ctx.Upstream(a.Member); up != nil {
		ev.err = a.part(ctx, up, &ev)
	}
	ev.took = ctx.Now() - began
	post(ev)
}

// part compares some runs of the partner's records with this member's.
func (a *Compare) part(ctx Context, up Upstream, ev *compared) error {
	req := &a.Request
	if _, err := rand.Read(req.Salt[:]); err != nil {
		panic("engine: no random numbers: " + err.Error())
	}
	reply, err := up.Compare(ctx, *req)
	if err != nil {
		return err
	}
	runs := reply.Runs
	switch n := len(runs); {
	case reply.More && n == 0, n > 0 && runs[0].Last.Compare(req.After) <= 0:
		return fmt.Errorf("runs above %v: the partner has %d and does not go on", req.After, n)
	case !reply.More && n == 0:
		runs = []wire.CompareRun{{}} // none, up to the end
	case reply.More:
		ev.next = runs[n-1].Last
	default:
		runs[n-1].Last = repl.UID{} // up to the end
	}
	unlike, err := ctx.unlikeRuns(req, runs)
	for _, i := range unlike {
		if err != nil || len(ev.suspects) >= maxSuspects {
			break
		}
		from := req.After
		if i > 0 {
			from = runs[i-1].Last
		}
		err = a.list(ctx, up, from, runs[i].Last, ev)
	}
	return err
}

// unlikeRuns returns which of a partner's runs differ from the records here.
func (e *Env) unlikeRuns(req *wire.CompareRequest, runs []wire.CompareRun) (unlike []int, err error) {
	snap, err := e.Store.Snapshot()
	if err != nil {
		return nil, err
	}
	var digest wire.Digest
	at := 0
	end := func() {
		if count, sum := digest.Sum(); count != runs[at].Count || count > 0 && sum != runs[at].Digest {
			unlike = append(unlike, at)
		}
		at++
	}
	err = checks(snap, req, func(rec *repl.Record, check uint64) bool {
		for at < len(runs) && !runs[at].Last.IsZero() && rec.UID.Compare(runs[at].Last) > 0 {
			end()
		}
		if at < len(runs) {
			digest.Add(check)
		}
		return at < len(runs)
	})
	for at < len(runs) {
		end()
	}
	return unlike, errors.Join(err, snap.Close())
}

// list compares the records of a run one by one.
func (a *Compare) list(ctx Context, up Upstream, from, through repl.UID, ev *compared) error {
	req := a.Request
	req.List, req.After, req.Through = true, from, through
	for more := true; more; {
		reply, err := up.Compare(ctx, req)
		if err != nil {
			return err
		}
		n := len(reply.Entries)
		if reply.More && n == 0 || n > 0 && (reply.Entries[0].UID.Compare(req.After) <= 0 || !through.IsZero() && reply.Entries[n-1].UID.Compare(through) > 0) {
			return fmt.Errorf("records above %v: the partner's %d are others", req.After, n)
		}
		if more = reply.More; more {
			req.Through = reply.Entries[n-1].UID
		}
		if err := ctx.unlikeRecords(&req, &reply, ev); err != nil {
			return err
		}
		req.After, req.Through = req.Through, through
	}
	return nil
}

// unlikeRecords adds the objects of which the partner has another record, or one of
// the two has none, and no vector says why.
func (e *Env) unlikeRecords(req *wire.CompareRequest, reply *wire.CompareReply, ev *compared) error {
	snap, err := e.Store.Snapshot()
	if err != nil {
		return err
	}
	mine, theirs := snap.Vector(), reply.Entries
	var lone []wire.CompareEntry
	judge := func(uid repl.UID, ours, partners version.GVSN) {
		moved := !partners.IsZero() && !mine.Contains(partners) || !ours.IsZero() && !reply.Vector.Contains(ours)
		if !moved && len(ev.suspects) < maxSuspects {
			ev.suspects = append(ev.suspects, uid)
		}
	}
	err = checks(snap, req, func(rec *repl.Record, check uint64) bool {
		for len(theirs) > 0 && theirs[0].UID.Compare(rec.UID) < 0 {
			lone, theirs = append(lone, theirs[0]), theirs[1:]
		}
		if len(theirs) == 0 || theirs[0].UID != rec.UID {
			judge(rec.UID, rec.GVSN, version.GVSN{})
			return true
		}
		if theirs[0].GVSN != rec.GVSN || theirs[0].Check != check {
			judge(rec.UID, rec.GVSN, theirs[0].GVSN)
		}
		theirs = theirs[1:]
		return true
	})
	for _, entry := range append(lone, theirs...) {
		rec, ok, gerr := snap.Get(entry.UID) // an old tombstone is not told
		if err = errors.Join(err, gerr); !ok {
			rec.GVSN = version.GVSN{}
		}
		judge(entry.UID, rec.GVSN, entry.GVSN)
	}
	return errors.Join(err, snap.Close())
}

// compared brings what a part of a slow sync found; next is where to go on, zero at
// the end.
type compared struct {
	of       *comparing
	next     repl.UID
	suspects []repl.UID
	took     repl.Time
	err      error
}

func (e compared) apply(f *Folder) {
	c := e.of
	if f.compare != c {
		return
	}
	if c.busy = false; e.err != nil {
		f.compare, c.of.compareAt = nil, f.now()+repl.Time(compareRetry)
		return
	}
	c.after, c.at = e.next, f.now()+max(repl.Time(comparePause), compareShare*e.took)
	c.suspects = append(c.suspects, e.suspects...)
	switch {
	case len(c.suspects) > 0 && (c.after.IsZero() || len(c.suspects) >= maxSuspects):
		c.suspects, c.busy = c.suspects[:min(len(c.suspects), maxSuspects)], true
		f.do(&AskSuspects{of: c, Member: c.of.member, Folder: f.cfg.Folder})
	case c.after.IsZero():
		f.endComparing(nil)
	}
}

// endComparing ends a slow sync with what it found, nil if that is nothing, and
// notes when that was.
func (f *Folder) endComparing(found *differing) {
	l, now := f.compare.of, f.now()
	f.compare = nil
	if l.differing == 0 && found == nil {
		clear(f.unsure)
	}
	object := f.cfg.Name + " from " + l.member.String()
	f.stats.Compared++
	l.slowSync, l.compareAt = now, 0
	if found == nil {
		l.differing = 0
		f.find.Clear(finding.RecordsDiffer, object)
	} else {
		f.stats.Differed += uint64(found.len())
		f.find.Raise(finding.RecordsDiffer, object, found.String())
		if l.differing++; l.differing < maxDiffering {
			l.compareAt = now + repl.Time(compareAgain)
		} else {
			l.differing = 0
		}
	}
	st := f.st.State()
	st.Compared = slices.DeleteFunc(st.Compared, func(c store.Compared) bool { return c.Partner == l.member || f.links[c.Partner] == nil })
	st.Compared = append(st.Compared, store.Compared{Partner: l.member, At: now})
	f.storeFailed(f.st.Put(&store.Batch{State: &st, NoSync: true}))
}

// Behind tells that a partner has records which this member has not, or older,
// although its vector covers them.
type Behind struct{ Member repl.MemberID }

func (e Behind) apply(f *Folder) {
	if l := f.links[e.Member]; l != nil && f.cfg.SlowSync > 0 && l.behindAt <= f.now() {
		l.compareAt, l.behindAt = f.now(), f.now()+repl.Time(behindAfter)
	}
}
