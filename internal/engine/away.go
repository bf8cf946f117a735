package engine

import (
	"context"
	"fmt"
	"time"

	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// Directory changes what the domain says of the members of this folder, each by
// one compare-and-swap. A change that has been made already is no error.
type Directory interface {
	// Evict puts a member's database out, if the domain has the member and has
	// put out none of its databases yet, nor one of the member that asks for it: of
	// members that were apart one at least is left, by which the others go.
	Evict(ctx context.Context, member repl.MemberID, database version.Originator) error
	// Readmit takes that back, if it is that database which was put out.
	Readmit(ctx context.Context, member repl.MemberID, database version.Originator) error
}

// awayGrace is for how many of the parts of a tombstone's life a member must have
// run without a break, and without its clock having jumped, before it evicts
// another: what the others have to say has reached it by then.
const awayGrace = 2

// watchAway tells of members that are not heard of, and has those evicted that
// are not for the tombstones' life: their tombstones cannot be waited for. Who was
// put out himself, as any of his databases, evicts nobody: it was he who was away.
func (f *Folder) watchAway() {
	life := repl.Time(f.cfg.TombstoneLifetime)
	if life <= 0 || f.phase != store.PhaseNormal || len(f.cfg.Members) == 0 {
		return
	}
	now, part := f.now(), max(life/stateParts, 1)
	if since := now - f.watchedTo; f.watchedTo == 0 || since > part || since < 0 {
		f.watched = 0
	} else {
		f.watched += since
	}
	f.watchedTo = now
	if now < f.awayAt {
		return
	}
	f.awayAt = now + min(part, repl.Time(stateEvery))
	heard, judged := 1, false
	for i := range f.cfg.Members {
		switch m := &f.cfg.Members[i]; {
		case m.ID == f.cfg.Self:
			judged = !m.Evicted.IsZero() // till the others have taken this one in again
		case now-f.covers[m.ID].Heard <= life/2:
			heard++
		}
	}
	most := 2*heard >= len(f.cfg.Members) && !judged
	for i := range f.cfg.Members {
		m := &f.cfg.Members[i]
		if m.ID == f.cfg.Self {
			continue
		}
		f.judgeAway(m, now-f.covers[m.ID].Heard, most && f.watched >= awayGrace*part)
	}
}

// judgeAway raises or clears what is to say of one member, and evicts it if it may.
func (f *Folder) judgeAway(m *Member, silent repl.Time, may bool) {
	life, object := repl.Time(f.cfg.TombstoneLifetime), f.cfg.Name+"@"+m.Server
	database := f.covers[m.ID].Database
	out := f.out(m)
	days := func(t repl.Time) string { return time.Duration(t).Round(time.Minute).String() }
	if silent > life/2 && !out {
		f.find.Raise(finding.MemberAway, object, fmt.Sprintf("nothing was heard of it for %s; after %s it is evicted", days(silent), days(life)))
	} else {
		f.find.Clear(finding.MemberAway, object)
	}
	if out {
		f.find.Raise(finding.MemberEvicted, object, fmt.Sprintf("nothing was heard of it for %s", days(silent)))
	} else {
		f.find.Clear(finding.MemberEvicted, object)
	}
	switch {
	case !out && !m.Evicted.IsZero(): // it has come back with another database
		f.do(&Evict{Member: m.ID, Database: m.Evicted, Back: true})
	case !out && silent > life && may:
		if database.IsZero() { // it has never run: nothing of it is waited for
			database = version.Originator(m.ID)
		}
		f.do(&Evict{Member: m.ID, Database: database})
	}
}

// Evict asks the directory to put a member's database out, or to take that Back.
type Evict struct {
	Member   repl.MemberID
	Database version.Originator
	Back     bool
}

// Class says that it waits for others.
func (*Evict) Class() Class { return ClassAsk }

// Run asks; where the directory refuses, because it is changed elsewhere, the
// member there does so, or this one later.
func (a *Evict) Run(ctx Context, post func(Event)) {
	if ctx.Directory == nil {
		return
	}
	change := ctx.Directory.Evict
	if a.Back {
		change = ctx.Directory.Readmit
	}
	if err := change(ctx, a.Member, a.Database); err != nil {
		post(trouble{"membership of " + a.Member.String(), err})
	}
}
