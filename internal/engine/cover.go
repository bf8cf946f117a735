package engine

import (
	"maps"
	"slices"
	"time"

	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// The bounds on what members tell each other of what they cover.
const (
	stateEvery  = time.Hour      // between two tellings, unless tombstones live shortly
	stateParts  = 60             // tellings in a tombstone's life at least
	futureSlack = 24 * time.Hour // a statement's clock may be ahead by this
)

// Member is one of a folder, as the directory has it.
type Member struct {
	ID     repl.MemberID
	Server string // its name, for people
	// Evicted is the database that the directory has put out, zero if none: what
	// it knows is not waited for, and it starts anew (rule 25).
	Evicted version.Originator
}

// MembersAre tells that the directory has other members, or has put one out.
type MembersAre struct{ Members []Member }

func (e MembersAre) apply(f *Folder) {
	f.configure(func(c *Config) { c.Members = e.Members })
	st := f.st.State()
	if f.storeFailed(f.loadCovers()) {
		return
	}
	f.sift, f.awayAt = nil, 0 // what all cover is another thing now
	if selfEvicted(f.cfg, &st) {
		f.fail(finding.MemberStale, evictedText)
		f.rebuild = true
	}
}

// Stated brings what members of the folder said that they cover: this member
// itself, freshly, and what a partner has heard.
type Stated struct {
	Own   repl.Statement
	Heard []repl.Statement
}

func (e Stated) apply(f *Folder) {
	f.own = e.Own
	var news []store.Cover
	for i := range e.Heard {
		if c, ok := f.learn(&e.Heard[i]); ok {
			f.covers[c.Member] = c
			news = append(news, c)
			if c.Covers.Covers(f.st.Floor()) {
				f.find.Clear(finding.PartnerStale, f.cfg.Name+" from "+c.Member.String())
			}
		}
	}
	if len(news) > 0 {
		f.storeFailed(f.st.SetCovers(news))
	}
	f.retire()
}

// learn judges a statement: it must be of a member of the folder and later than
// the one at hand. When it is heard is told by our clock alone.
func (f *Folder) learn(s *repl.Statement) (store.Cover, bool) {
	was, known := f.covers[s.Member]
	switch now := f.now(); {
	case !known || s.Database.IsZero() || s.Stamp > now+repl.Time(futureSlack):
		return store.Cover{}, false
	case !was.Database.IsZero() && s.Stamp <= was.Stamp:
		return store.Cover{}, false
	default:
		return store.Cover{Statement: *s, Heard: now}, true
	}
}

// loadCovers reads what was heard before this start. A member of which nothing
// was ever heard is waited for from now on.
func (f *Folder) loadCovers() error {
	defer f.retire()
	list, err := f.st.Covers()
	if err != nil {
		return err
	}
	known := make(map[repl.MemberID]store.Cover, len(list))
	for _, c := range list {
		known[c.Member] = c
	}
	f.covers = make(map[repl.MemberID]store.Cover, len(f.cfg.Members))
	var fresh []store.Cover
	for i := range f.cfg.Members {
		id := f.cfg.Members[i].ID
		if id == f.cfg.Self {
			continue
		}
		c, heard := known[id]
		if !heard {
			c = store.Cover{Statement: repl.Statement{Member: id}, Heard: f.now()}
			fresh = append(fresh, c)
		}
		f.covers[id] = c
	}
	if len(fresh) == 0 {
		return nil
	}
	return f.st.SetCovers(fresh)
}

// stateWait is how long a member lets pass between two tellings.
func (f *Folder) stateWait() repl.Time {
	return repl.Time(min(stateEvery, f.cfg.TombstoneLifetime/stateParts))
}

// startStating tells partners what is covered, and hears what they know: when a
// session begins, when this database has become Normal, and now and again.
func (f *Folder) startStating() {
	if f.cfg.TombstoneLifetime <= 0 {
		return
	}
	for _, m := range f.cfg.Upstreams {
		if l := f.links[m]; l.up && !l.stating && l.stateAt <= f.now() {
			l.stating = true
			f.do(&State{Member: m, link: l, cfg: f.cfg, others: f.others()})
		}
	}
}

// others lists what is passed on to a partner. Of more than fits a different part
// is told each time.
func (f *Folder) others() []repl.Statement {
	rest := slices.SortedFunc(maps.Values(f.covers), func(a, b store.Cover) int { return slices.Compare(a.Member[:], b.Member[:]) })
	rest = slices.DeleteFunc(rest, func(c store.Cover) bool { return c.Database.IsZero() })
	if n, wait := len(rest), f.stateWait(); n > 0 && wait > 0 {
		at := int(f.now()/wait) % n
		rest = slices.Concat(rest[at:], rest[:at])
	}
	var out []repl.Statement
	room := wire.MaxCover - wire.MaxCovers // this member's own comes first
	for i := range rest {
		s := &rest[i].Statement
		room -= 64 + 40*(len(s.Covers)+s.Covers.Intervals())
		if room < 0 || len(out)+1 >= wire.MaxMembers {
			break
		}
		out = append(out, *s)
	}
	return out
}

// statement is what this member says of itself: what is durable.
func (e *Env) statement(cfg *Config) (repl.Statement, error) {
	snap, err := e.Store.Snapshot()
	if err != nil {
		return repl.Statement{}, err
	}
	s := repl.Statement{Member: cfg.Self, Database: e.Store.State().Database, Stamp: e.Now(), Covers: stated(snap.Vector())}
	return s, snap.Close()
}

// stated is what is told of a vector: of one with very many holes, of each
// originator the lowest intervals. What is left out is collected later.
func stated(v version.Vector) version.Vector {
	most := wire.MaxCovers
	for len(v.Append(nil)) > wire.MaxCovers && most > 0 {
		most /= 2
		cut := make(version.Vector, len(v))
		for o, s := range v {
			if n := min(len(s), most); n > 0 {
				cut[o] = s[:n]
			}
		}
		v = cut
	}
	return v
}

// State tells a partner what members cover, and asks what it has heard.
type State struct {
	Member repl.MemberID
	link   *link
	cfg    *Config
	others []repl.Statement
}

// Class says that it waits for a partner.
func (*State) Class() Class { return ClassAsk }

// Run posts what the partner has heard.
func (a *State) Run(ctx Context, post func(Event)) {
	ev := told{link: a.link, err: errNoSession}
	if up := ctx.Upstream(a.Member); up != nil {
		if ev.own, ev.err = ctx.statement(a.cfg); ev.err == nil {
			ev.heard, ev.err = up.Cover(ctx, a.cfg.Folder, append([]repl.Statement{ev.own}, a.others...))
		}
	}
	post(ev)
}

// told ends a telling.
type told struct {
	link  *link
	own   repl.Statement
	heard []repl.Statement
	err   error
}

func (e told) apply(f *Folder) {
	l := e.link
	l.stating, l.stateAt = false, f.now()+f.stateWait()
	if e.err != nil {
		l.stateAt = f.now() + min(f.stateWait(), repl.Time(backoffLast))
		return
	}
	Stated{e.own, e.heard}.apply(f)
}

// Answer is what a partner that tells what members cover gets to hear. It runs
// between two steps.
func (f *Folder) Answer(own repl.Statement, heard []repl.Statement) []repl.Statement {
	Stated{own, heard}.apply(f)
	return append([]repl.Statement{own}, f.others()...)
}

// Cover answers a partner at once, where one goroutine does everything.
func (f *Folder) Cover(env *Env, heard []repl.Statement) ([]repl.Statement, error) {
	own, err := env.statement(f.cfg)
	if err != nil {
		return nil, err
	}
	return f.Answer(own, heard), nil
}

// covering is what every member of the folder is known to cover, nil if that is
// not known of one of them. A database that was evicted is not asked.
func (f *Folder) covering() version.Vector {
	if f.own.Database != f.st.State().Database {
		return nil // this database has said nothing yet
	}
	all := f.own.Covers
	for i := range f.cfg.Members {
		m := &f.cfg.Members[i]
		if m.ID == f.cfg.Self {
			continue
		}
		c := f.covers[m.ID]
		switch {
		case f.out(m):
			continue
		case c.Database.IsZero():
			return nil
		}
		all = all.Minus(all.Minus(c.Covers))
	}
	return all
}

// out reports whether a member is evicted and nothing was heard of another database
// of it yet.
func (f *Folder) out(m *Member) bool {
	c := f.covers[m.ID]
	return !m.Evicted.IsZero() && (c.Database.IsZero() || c.Database == m.Evicted)
}

// passesOver reports whether a member in its initial sync, this one, is to begin with
// another partner than this: its database was put out, and what was deleted meanwhile
// may live in it; it starts anew itself.
func (f *Folder) passesOver(id repl.MemberID) bool {
	if f.phase != store.PhaseInitialSync || !f.outID(id) {
		return false
	}
	return slices.ContainsFunc(f.cfg.Upstreams, func(other repl.MemberID) bool { return other != id && !f.outID(other) })
}

// outID is out of the member of an id.
func (f *Folder) outID(id repl.MemberID) bool {
	i := slices.IndexFunc(f.cfg.Members, func(m Member) bool { return m.ID == id })
	return i >= 0 && f.out(&f.cfg.Members[i])
}
