package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"opendfs/internal/finding"
	"opendfs/internal/merge"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// The bounds on what is asked of one partner.
const (
	pageLimit      = 1024          // updates in a page
	maxOutstanding = 8 * pageLimit // updates of one diff that are on their way; see batch.most
	maxRounds      = 8             // questions by UID for one page
	backoffFirst   = 50 * time.Millisecond
	backoffLast    = 30 * time.Second
	heldLast       = 10 * time.Minute // between questions for what is held alone
)

// link is what this member knows of one upstream partner.
type link struct {
	member    repl.MemberID
	transfer  Transfer
	up        bool
	session   Upstream // the last one that stood
	sessions  uint64   // how many have
	asking    bool     // an Ask or AskRecords is on its way
	ask       *Ask     // the last one
	long      bool     // touches did not come out right: the next ones are asked for whole
	diff      *diff
	idle      bool           // the last diff ended with nothing left to do
	compared  bool           // a diff of this session has ended
	known     version.Vector // the partner's vector as last seen
	notBefore repl.Time      // the partner failed: not asked before
	backoff   time.Duration
	// held is what could not be committed yet. Until retryAt the partner is
	// asked as if it were known here, so that all else goes on; it is never
	// joined.
	held      version.Vector
	heldOut   version.Vector // the diff's, kept for the next one
	retryAt   repl.Time
	retryWait time.Duration
	stale     bool      // it has refused a diff: this member does not cover its floor
	unready   bool      // it was not Normal itself when it was asked last
	stating   bool      // a State is on its way
	stateAt   repl.Time // when it is told next what members cover
	saved     uint64    // bytes of content that did not have to come
	similar   uint64    // of them, those that other files held
	// originator is the partner's own, zero as long as it has not said.
	originator version.Originator
	retired    uint64    // the digest of what it has retired; 0: nothing, or it has not said
	slowSync   repl.Time // when the last slow sync with it ended
	compareAt  repl.Time // when the next one begins; 0: see Folder.compareAt
	behindAt   repl.Time // when it may ask for one again
	differing  int       // how many found something, one after another
}

// diff is one exchange: the partner's snapshot, and what of it is not committed
// here. When it ends, the partner's vector minus failed is joined (rule 1).
type diff struct {
	token       []byte
	vector      version.Vector
	asked       version.Vector // what this member said it knows
	cursor      version.GVSN
	paged       bool      // every page has arrived
	since       repl.Time // when the last one did
	outstanding int       // updates in plans under way
	failed      version.Vector
	leftOut     version.Vector // held when it began, and not asked for
	// heldOut is what the partner knows and has no record of any more, and this
	// member does not know, while updates failed: they may have replaced it (rule 1).
	heldOut version.Vector
	records map[repl.UID]bool // asked for by UID
	onHold  version.Vector    // of failed, what the breaker holds and what rests on it
	barred  map[repl.UID]bool // objects of which the partner has nothing but that
	apart   bool              // it is of a slow sync: nothing is joined
	earlier bool              // it began in an earlier session, of what may have been another database
}

// LinkUp and LinkDown tell that a session with an upstream partner stands or
// is lost.
type (
	LinkUp struct {
		Member  repl.MemberID
		Session Upstream
	}
	LinkDown struct{ Member repl.MemberID }
)

func (e LinkUp) apply(f *Folder) {
	if l := f.links[e.Member]; l != nil {
		l.session, l.sessions = e.Session, l.sessions+1
		l.compared, l.known = false, nil // it may know less than it did: rule 3
		if l.diff != nil {
			l.diff.earlier = true
		}
		l.stateAt, l.stale, l.unready, l.retired = 0, false, false, 0
		f.showAt, f.showWait = 0, 0
		l.up, l.backoff, l.notBefore, l.retryAt, l.retryWait = true, 0, 0, 0, 0
	}
}

func (e LinkDown) apply(f *Folder) {
	if l := f.links[e.Member]; l != nil {
		if l.up, l.idle = false, false; f.compare != nil && f.compare.of == l {
			f.compare = nil
		}
	}
}

// startAsking asks every partner that is up for what is missing here.
func (f *Folder) startAsking() {
	if f.phase != store.PhaseNormal && (f.phase != store.PhaseInitialSync || f.evacuating || f.busyLocally()) || f.now() < f.calmUntil {
		return
	}
	for _, m := range f.cfg.Upstreams {
		l := f.links[m]
		if !l.up || l.asking || l.notBefore > f.now() || f.followsOther(m) {
			continue
		}
		ask := &Ask{Member: m, link: l, Request: wire.DiffRequest{Folder: f.cfg.Folder, Limit: pageLimit, Vector: f.st.Vector(), Phase: f.Phase(), Packed: true, Touches: f.phase == store.PhaseNormal && !l.long}}
		if f.phase == store.PhaseInitialSync {
			ask.Request.Floor = f.st.Floor()
		}
		switch d := l.diff; {
		case d == nil && !l.compared && f.carries(l):
			continue // what it brought in an earlier session is to be told with the first question: rule 3
		case d == nil:
			// The first question of a session is answered at once: what the partner
			// knows tells whether the records here are of the past, and a member in
			// initial sync may have all and not know it.
			f.askAround(l, ask)
			ask.Request.Wait = l.compared && (l.idle || len(l.held) > 0)
		case d.paged || f.full(d):
			continue
		default:
			ask.Request.Vector, ask.Request.Except = d.asked, d.leftOut
			ask.Request.Snapshot, ask.Request.After = d.token, d.cursor
		}
		if l.compared { // else what the partner knows of ours tells whether we were rolled back (rule 3)
			ask.Request.Except = f.notOurs(ask)
		}
		ask.own, ask.session, ask.nth = f.st.State().Originator, l.session, l.sessions
		if r := f.retired; r != nil && r.Digest != 0 && r.Digest == l.retired && ask.Request.Vector.Covers(r.Vector) {
			ask.retired = r
		}
		ask.life, ask.again = context.WithCancel(context.Background())
		l.asking, l.ask = true, ask
		f.do(ask)
	}
}

// notOurs is what a question leaves out, and all that this member will make: while it
// waits, the partner gets that from nobody else, and would send it back.
func (f *Folder) notOurs(ask *Ask) version.Vector {
	own := f.st.State().Originator
	future := version.Vector{own: {{Low: ask.Request.Vector.Max(own), High: math.MaxUint64}}}
	return future.Union(ask.Request.Except)
}

// askAgain has a partner asked at once for what was held back: it is here.
func (f *Folder) askAgain(l *link) {
	l.retryAt = f.now()
	if l.asking && l.ask != nil && l.ask.Request.Wait {
		l.ask.again()
	}
}

// followsOther reports whether the initial sync takes over another partner's tree.
func (f *Folder) followsOther(m repl.MemberID) bool {
	if f.phase != store.PhaseInitialSync {
		return false
	}
	to := f.st.State().Partner
	return to != m && f.links[to] != nil
}

// carries reports whether plans of a partner's updates are under way.
func (f *Folder) carries(l *link) bool {
	of := func(b *batch) bool { return b.link.member == l.member }
	return f.install != nil && of(f.install) || slices.ContainsFunc(f.fifo, of) || slices.ContainsFunc(f.big, of)
}

// askAround leaves what is held out of a new question, or puts it in again when
// its time has come.
func (f *Folder) askAround(l *link, ask *Ask) {
	if len(l.held) == 0 {
		return
	}
	now := f.now()
	if l.retryAt <= now {
		l.held, l.heldOut = nil, nil
		return
	}
	ask.Request.Except = l.held.Union(l.heldOut) // what is held out is no partner's news either
	ask.Until = l.retryAt
}

// asked brings a page, or the error of asking.
type asked struct {
	link   *link
	vector version.Vector // that was asked with
	own    version.Originator
	nth    uint64 // the session
	page   wire.DiffPage
	err    error
}

func (e asked) apply(f *Folder) {
	l := e.link
	if f.links[l.member] != l {
		return
	}
	l.asking = false
	l.ask.again() // its context is of no more use
	if errors.Is(e.err, errWaited) {
		return
	}
	if e.nth != l.sessions {
		f.endDiff(l, false) // an earlier session's: what was asked there was not what is to be said first in this one
		return
	}
	if e.err != nil {
		f.endDiff(l, false)
		if errors.Is(e.err, &wire.Error{Code: wire.CodeStale}) {
			f.stale(l, forgotten)
			return
		}
		if l.retired != 0 && errors.Is(e.err, &wire.Error{Code: wire.CodeRetired}) {
			l.retired = 0 // it is asked again, whole
			return
		}
		f.delay(l)
		return
	}
	if e.own != f.st.State().Originator {
		f.endDiff(l, false) // it left out what an image of before had made, as this member's own
		return
	}
	if !f.acceptPage(l, &e.page, e.vector) {
		return
	}
	d := l.diff
	d.cursor, d.paged, d.since = e.page.Cursor, !e.page.More, f.now()
	f.decide(l, d, f.lengthen(l, &e.page), 0)
	f.settleDiff(l)
}

// acceptPage checks what a page claims and begins a diff with the first one.
func (f *Folder) acceptPage(l *link, page *wire.DiffPage, asked version.Vector) bool {
	if l.unready = page.Phase != wire.PhaseNormal || f.passesOver(l.member); l.unready {
		l.known = nil // it was another database's, or of the past
		if f.phase == store.PhaseInitialSync {
			f.find.Raise(finding.InitialSyncWaiting, f.cfg.Name, fmt.Sprintf("partner %v is not ready", l.member))
		}
		f.delay(l)
		return false
	}
	f.find.Clear(finding.InitialSyncWaiting, f.cfg.Name)
	if !f.accounts(l.member, page.Vector) {
		return false
	}
	if !f.aboveFloors(l, page) {
		return false
	}
	if l.diff == nil {
		l.diff = &diff{token: page.Snapshot, vector: page.Vector, asked: asked, failed: l.held.Clone(), leftOut: l.held, heldOut: l.heldOut.Clone(), records: make(map[repl.UID]bool), onHold: make(version.Vector), barred: make(map[repl.UID]bool)}
		l.backoff, l.notBefore = 0, 0
	}
	l.known, l.originator, l.retired = page.Vector, page.Originator, page.Retired
	f.heard(l.member, page.Vector)
	return true
}

// decide makes the verdict on updates of a partner and starts what follows.
func (f *Folder) decide(l *link, d *diff, updates []repl.Update, round int) {
	if f.evacuating { // what is on record of this member alone is about to go: asked for again
		f.missAll(d, updates)
		return
	}
	free := updates[:0]
	for i := range updates {
		if uid := updates[i].UID; f.flight.holds(uid) {
			f.miss(d, &updates[i]) // in flight for another diff; asked for again
			delete(d.records, uid) // an answer that is not heard is none
			continue
		}
		free = append(free, updates[i])
	}
	uids := make([]repl.UID, len(free))
	for i := range free {
		uids[i] = free[i].UID
	}
	if f.storeFailed(f.st.Recall(uids)) {
		return
	}
	if free = f.admit(l, d, free); len(free) == 0 || f.stopped != "" {
		return
	}
	plan, err := merge.Decide(&f.flight, free, d.vector, merge.Options{
		Fold: f.st.State().Folds, Morph: f.cfg.Morph, Filter: f.cfg.Filter, Lacking: f.lacks,
		Folder: f.cfg.Folder, ReadOnly: f.cfg.ReadOnly, Asked: d.records, Vector: f.st.Vector(), Own: f.st.State().Originator,
	})
	if f.storeFailed(err) {
		return
	}
	for _, bad := range plan.Bad {
		f.find.Raise(finding.PartnerBadMessage, f.cfg.Name+" from "+l.member.String(), bad.Error())
		d.failed.Add(bad.GVSN)
	}
	f.stats.verdicts(&plan)
	asks := len(plan.Need) > 0
	need := slices.DeleteFunc(plan.Need, func(uid repl.UID) bool { return f.flight.holds(uid) || d.barred[uid] }) // the answer could not be heard
	switch {
	case len(need) > 0 && round < maxRounds && l.up:
		l.asking = l.asking || !d.apart
		d.outstanding += len(plan.Waiting)
		for _, uid := range need {
			d.records[uid] = true
		}
		f.do(&AskRecords{Member: l.member, link: l, of: d, Folder: f.cfg.Folder, UIDs: need, waiting: plan.Waiting, round: round + 1})
	case asks && len(need) == 0, !asks && len(plan.Parked) == 0 && len(plan.Waiting) > 0: // for what is on its way
		f.missAll(d, plan.Waiting)
	default:
		f.missAll(d, plan.Waiting)
		if !d.apart {
			f.parked(l, &plan)
		}
	}
	f.yield(plan.Changes)
	f.launch(l, d, plan.Changes)
}

func (f *Folder) missAll(d *diff, updates []repl.Update) {
	for i := range updates {
		f.miss(d, &updates[i])
	}
}

// miss keeps an update out of what the diff joins.
func (f *Folder) miss(d *diff, u *repl.Update) {
	d.failed.Add(u.GVSN)
}

// parked raises or clears the finding of updates that cannot be decided.
func (f *Folder) parked(l *link, plan *repl.Plan) {
	object := f.cfg.Name + " from " + l.member.String()
	if len(plan.Waiting) == 0 {
		f.find.Clear(finding.ParkedUpdate, object)
		return
	}
	u, why := &plan.Waiting[0], "its partner does not say what it needs"
	if len(plan.Parked) > 0 {
		why = plan.Parked[0].Why
	}
	f.find.Raise(finding.ParkedUpdate, object, fmt.Sprintf("%d updates wait, first %q (%v): %s", len(plan.Waiting), u.Name, u.UID, why))
}

// recordsAsked brings records asked for by UID.
type recordsAsked struct {
	link    *link
	of      *diff
	waiting []repl.Update
	reply   wire.RecordsReply
	round   int
	err     error
}

func (e recordsAsked) apply(f *Folder) {
	l, d := e.link, e.of
	if f.links[l.member] != l || l.diff != d && !d.apart {
		return
	}
	l.asking = l.asking && d.apart
	d.outstanding -= len(e.waiting)
	switch {
	case e.err != nil && d.apart:
		f.missAll(d, e.waiting)
		return
	case e.err != nil:
		f.missAll(d, e.waiting)
		f.endDiff(l, false)
		f.delay(l)
		return
	}
	// The answers are of a later snapshot than the diff's: what they cover
	// counts as known to the partner, but only the diff's own vector is joined.
	f.decide(l, d, append(e.reply.Updates, e.waiting...), e.round)
	if !d.apart {
		f.settleDiff(l)
	}
}

// settleDiff ends a diff when nothing of it is on its way.
func (f *Folder) settleDiff(l *link) {
	if d := l.diff; d != nil && d.paged && d.outstanding == 0 && !l.asking {
		f.endDiff(l, true)
	}
}

// endDiff joins the partner's vector minus what is not committed here, if the
// diff is complete, and decides when to ask again. In a folder that has stopped no
// verdict is made any more on what comes, so that no diff is complete.
func (f *Folder) endDiff(l *link, complete bool) {
	d := l.diff
	l.diff = nil
	if d == nil {
		return
	}
	if !complete || f.stopped != "" {
		l.idle = false
		return
	}
	l.compared = l.compared || !d.earlier
	if len(d.failed.Minus(f.st.Vector())) > 0 {
		// What has no record any more was replaced by something, and what that was
		// cannot be told: by what is not committed here, for all one knows. Should
		// the partner lose that, nobody would ask for the other again (rule 1).
		d.heldOut = d.heldOut.Union(d.vector.Minus(f.st.Vector()).Minus(d.failed))
	}
	f.holdVersions(d)
	join := d.vector.Minus(d.failed).Minus(d.heldOut)
	if !f.st.Vector().Covers(join) {
		if f.storeFailed(f.st.Put(&store.Batch{Join: join, NoSync: true})) {
			return
		}
		f.notify = true
	}
	f.holdsOver()
	l.held, l.heldOut = d.failed.Minus(f.st.Vector()), d.heldOut
	l.idle = len(l.held) == 0
	if !l.idle {
		// What was left out of the question already waits for its time; only a
		// new failure sets one.
		if now := f.now(); l.retryAt <= now && len(d.failed.Minus(d.leftOut)) > 0 {
			last := backoffLast
			if len(d.failed.Minus(d.onHold)) == 0 {
				last = heldLast
			}
			l.retryWait = min(max(2*l.retryWait, backoffFirst), last)
			if f.lags(l) {
				l.retryWait = min(l.retryWait, lagAfter)
			}
			l.retryAt = now + repl.Time(l.retryWait)
		}
		return
	}
	l.retryWait, l.retryAt, l.heldOut, l.long = 0, 0, nil, false
	if f.phase == store.PhaseInitialSync {
		f.initialSyncDone()
	}
}

// delay puts the next question to a partner off, longer each time. It is a first one
// again: the partner may be another since.
func (f *Folder) delay(l *link) {
	l.idle, l.compared = false, false
	l.backoff = min(max(2*l.backoff, backoffFirst), backoffLast)
	l.notBefore = f.now() + repl.Time(l.backoff)
}

// heard notes what a partner is known to know.
func (f *Folder) heard(m repl.MemberID, v version.Vector) {
	f.partner[m] = f.partner[m].Union(v)
}

// The errors of asking that come from this side.
var (
	errNoSession = errors.New("no session with the partner")
	errWaited    = errors.New("waited long enough for news")
)
