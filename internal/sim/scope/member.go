package scope

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/filter"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// Member is one server: a tree, the records of it, and what its user did.
type Member struct {
	doer
	law    Law
	name   byte
	own    version.Originator
	last   uint64 // version
	clock  Clock
	acts   int // how many its user has done
	recs   []repl.Record
	vector version.Vector
	tree   tree
	kept   contents // promised: of a conflict
	minted int      // to settle something
	again  int      // deleted objects that came back under their names
	seen   *Seen    // counts, if not nil
	log    *[]string
}

// Law is what the members' folder is told.
type Law struct {
	Fold  bool // names that fold to the same are one
	Morph bool // of two directories of one name both stay
	Again bool // a name that is made again is the deleted object
}

// Seen counts what histories have led to.
type Seen struct {
	Verdicts [repl.Verdicts]int
	Respelt  int // objects that got another spelling of their names from a partner
	Again    int // deleted objects that came back under their names
}

func newMember(n int, clock Clock) *Member {
	m := &Member{name: byte('@' + n), own: originator(n), last: version.FirstVersion - 1, clock: clock, vector: make(version.Vector), tree: newTree()}
	m.doer = newDoer(n, 0)
	root := repl.Record{Presence: repl.OnDisk, Identity: identity(0), Print: m.tree.stat(0).Print}
	root.Update = repl.Update{UID: rootUID, GVSN: version.GVSN(rootUID), Type: repl.Directory, Present: true, Meta: tables.meta[dirMode], Mtime: 1}
	m.recs = []repl.Record{root}
	m.vector.Add(root.GVSN)
	return m
}

// as is a member that has what m has, and a user of its own.
func (m *Member) as(n int, clock Clock) *Member {
	c := m.clone()
	c.name, c.own, c.last, c.clock = byte('@'+n), originator(n), version.FirstVersion-1, clock
	c.doer = newDoer(n, m.written)
	return c
}

func (m *Member) clone() *Member {
	c := *m
	c.recs, c.vector, c.tree = slices.Clone(m.recs), m.vector.Clone(), m.tree.clone()
	return &c
}

func (m *Member) logf(format string, args ...any) {
	if m.log != nil {
		*m.log = append(*m.log, string(m.name)+" "+fmt.Sprintf(format, args...))
	}
}

// — the records, for merge and for capture —

func (m *Member) record(uid repl.UID) *repl.Record {
	for i := range m.recs {
		if m.recs[i].UID == uid {
			return &m.recs[i]
		}
	}
	return nil
}

// Get returns the record of an object.
func (m *Member) Get(uid repl.UID) (repl.Record, bool, error) {
	if r := m.record(uid); r != nil {
		return *r, true, nil
	}
	return repl.Record{}, false, nil
}

var errHeirs = errors.New("heirs without end")

func (m *Member) canonical(uid repl.UID) repl.UID {
	for range len(m.recs) + 1 {
		r := m.record(uid)
		if r == nil || r.Heir.IsZero() {
			return uid
		}
		uid = r.Heir
	}
	panic(errHeirs)
}

// Canonical returns the directory that a merged one became.
func (m *Member) Canonical(uid repl.UID) (repl.UID, error) { return m.canonical(uid), nil }

// in reports whether a live record lies in a canonical directory.
func (m *Member) in(r *repl.Record, dir repl.UID) bool {
	return r.Present && !r.Parent.IsZero() && (r.Parent == dir || m.canonical(r.Parent) == dir)
}

// At returns the live record at a place.
func (m *Member) At(dir repl.UID, name string) (repl.Record, bool, error) {
	for i := range m.recs {
		if r := &m.recs[i]; m.law.same(r.Name, name) && m.in(r, dir) {
			return *r, true, nil
		}
	}
	return repl.Record{}, false, nil
}

// same reports whether names are one.
func (l Law) same(a, b string) bool { return a == b || l.Fold && filter.Fold(a) == filter.Fold(b) }

// graves lists the deleted objects of a place that may come back to life.
func (m *Member) graves(dir repl.UID, name string) ([]repl.Record, error) {
	var out []repl.Record
	dir = m.canonical(dir)
	for i := range m.recs {
		r := &m.recs[i]
		if !r.Present && !r.NameConflict && !r.Parent.IsZero() && m.law.same(r.Name, name) && m.canonical(r.Parent) == dir {
			out = append(out, *r)
		}
	}
	return out, nil
}

// Named calls fn with what At returns of each of some names.
func (m *Member) Named(dir repl.UID, names []string, fn func(int, *repl.Record) error) error {
	recs := make([]*repl.Record, len(names)) // all before the first call, which may store some
	for i, name := range names {
		if rec, ok, _ := m.At(dir, name); ok {
			recs[i] = &rec
		}
	}
	for i, rec := range recs {
		if err := fn(i, rec); err != nil {
			return err
		}
	}
	return nil
}

// Children calls fn for the live records of a directory in the order of names.
func (m *Member) Children(dir repl.UID, after string, fn func(*repl.Record) bool) error {
	var out []*repl.Record
	for i := range m.recs {
		if r := &m.recs[i]; r.Name > after && m.in(r, dir) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *repl.Record) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range out {
		copied := *r
		if !fn(&copied) {
			return nil
		}
	}
	return nil
}

// ByHandle returns the records of the objects with that handle.
func (m *Member) ByHandle(handle string) ([]repl.Record, error) {
	var out []repl.Record
	for i := range m.recs {
		if m.recs[i].Identity.Handle == handle {
			out = append(out, m.recs[i])
		}
	}
	return out, nil
}

// Path returns the path of a directory.
func (m *Member) Path(uid repl.UID) (string, error) {
	path := "."
	for n := 0; uid != rootUID; n++ {
		r := m.record(uid)
		if r == nil || n > len(m.recs) {
			return "", fmt.Errorf("path of %v: no record", uid)
		}
		if path = join(r.Name, path); n == 0 {
			path = r.Name
		}
		uid = m.canonical(r.Parent)
	}
	return path, nil
}

// put stores a record.
func (m *Member) put(rec repl.Record) {
	if r := m.record(rec.UID); r != nil {
		*r = rec
		return
	}
	m.recs = append(m.recs, rec)
}

func (m *Member) gvsn() version.GVSN {
	m.last++
	g := version.GVSN{Originator: m.own, Version: m.last}
	m.vector.Add(g)
	return g
}

// — capture —

var noFilter = func() *filter.Set {
	set, err := filter.New(filter.Rules{})
	if err != nil {
		panic(err)
	}
	return set
}()

// Act lets the user do something, which is captured at once.
func (m *Member) Act(a Act) error {
	m.hands(a)
	var works []capture.Work
	for _, p := range [...]string{a.Path, a.To} {
		if p == "" {
			continue
		}
		parent, name := split(p)
		uid := rootUID
		if parent != "." {
			recs, err := m.ByHandle(identity(m.tree.find(parent)).Handle)
			if err != nil || len(recs) == 0 {
				continue // the walk of the directory above sees it
			}
			uid = recs[0].UID
		}
		works = append(works, capture.Work{Dir: uid, Names: []capture.Name{{Name: name, Wrote: a.Deed == Edit}}})
	}
	return m.capture(works...)
}

// hands lets the user do something that nobody notices yet.
func (m *Member) hands(a Act) {
	m.logf("user: %v", a)
	m.acts++
	m.do(&m.tree, a)
}

// Walk looks at the whole tree.
func (m *Member) Walk() error { return m.capture(capture.Work{Dir: rootUID, All: true}) }

// capture looks at names and at all that comes of it, as the engine does.
func (m *Member) capture(works ...capture.Work) error {
	deps := capture.Deps{Volume: disk{t: &m.tree}, Records: m, Filter: noFilter, Fold: m.law.Fold, Root: rootUID, Now: func() repl.Time { return m.clock.now(m.acts) }}
	var missing []repl.UID
	var later []capture.Work
	for round := 0; len(works) > 0 || len(missing) > 0 || len(later) > 0; round++ {
		if round > 200 {
			return fmt.Errorf("%c: capture finds no end: works %v, gone %v, later %v", m.name, works, missing, later)
		}
		var res capture.Result
		var err error
		switch {
		case len(works) > 0:
			work := works[0]
			works = works[1:]
			if res, err = m.look(func(emit func(capture.Draft) error) (capture.Result, error) {
				return capture.Look(context.Background(), &deps, &work, emit)
			}); err != nil {
				return err
			}
			if res.Missing && work.Dir != rootUID {
				if r := m.record(m.canonical(work.Dir)); r != nil {
					works = append(works, capture.Work{Dir: m.canonical(r.Parent), Names: []capture.Name{{Name: r.Name}}})
					if r.Present {
						later = append(later, work)
					}
				}
			}
			for _, name := range res.Descend {
				if r, ok, _ := m.At(m.canonical(work.Dir), name); ok && r.Type == repl.Directory {
					works = append(works, capture.Work{Dir: r.UID, All: true})
				}
			}
			for _, a := range res.Again {
				if a.After < time.Minute {
					later = append(later, capture.Work{Dir: work.Dir, Names: []capture.Name{{Name: a.Name, Wrote: a.Wrote}}})
				}
			}
		case len(missing) > 0:
			uids := missing
			missing = nil
			if res, err = m.look(func(emit func(capture.Draft) error) (capture.Result, error) {
				return capture.Gone(context.Background(), &deps, uids, emit)
			}); err != nil {
				return err
			}
		default:
			works, later = later, nil
			continue
		}
		if len(res.Findings) > 0 {
			return fmt.Errorf("%c: capture finds %v", m.name, res.Findings)
		}
		missing = append(missing, res.Gone...)
		for _, d := range res.Dirty {
			works = append(works, capture.Work{Dir: d.Dir, Names: []capture.Name{{Name: d.Name, Wrote: d.Wrote}}})
		}
	}
	return nil
}

// look makes one call of capture and stores its drafts, group by group.
func (m *Member) look(call func(emit func(capture.Draft) error) (capture.Result, error)) (capture.Result, error) {
	var group []capture.Draft
	flush := func() {
		if len(group) == 0 {
			return
		}
		if why := m.overtaken(group); why != "" {
			m.logf("overtaken: %s", why)
		} else {
			m.store(group)
		}
		group = nil
	}
	res, err := call(func(d capture.Draft) error {
		if len(group) > 0 && (d.Group == 0 || d.Group != group[0].Group) {
			flush()
		}
		group = append(group, d)
		return nil
	})
	flush()
	return res, err
}

// overtaken says why a group of drafts does not hold any more.
func (m *Member) overtaken(group []capture.Draft) string {
	leaves := make(map[repl.UID]bool, len(group))
	for i := range group {
		if d := &group[i]; d.Kind == capture.KindDelete || d.Kind == capture.KindMove {
			leaves[d.Prior.UID] = true
		}
	}
	for i := range group {
		d := &group[i]
		if d.Prior != nil && m.record(d.Prior.UID).GVSN != d.Prior.GVSN {
			return "the record of " + d.Update.Name + " has moved on"
		}
		if d.Kind == capture.KindDelete {
			for j := range m.recs {
				if r := &m.recs[j]; m.in(r, d.Prior.UID) && !leaves[r.UID] {
					return r.Name + " lives in " + d.Prior.Name
				}
			}
			continue
		}
		if d.Update.Parent.IsZero() {
			continue
		}
		dir := m.canonical(d.Update.Parent)
		if p := m.record(dir); p == nil || !p.Present {
			return "the directory of " + d.Update.Name + " is dead"
		}
		there, taken, _ := m.At(dir, d.Update.Name)
		if taken && !leaves[there.UID] && (d.Prior == nil || d.Prior.UID != there.UID) {
			return "the place of " + d.Update.Name + " is taken"
		}
	}
	return ""
}

// store mints the updates of a group of drafts.
func (m *Member) store(group []capture.Draft) {
	if m.law.Again {
		n, err := capture.Reanimate(group, 0, m.graves)
		if err != nil {
			panic(err) // graves returns none
		}
		m.again += n
	}
	for i := range group {
		d := &group[i]
		u := d.Update
		if d.Kind != capture.KindAdopt {
			var prior *repl.Update
			if d.Prior != nil {
				prior = &d.Prior.Update
			}
			u = repl.Mint(m.gvsn(), m.clock.now(m.acts), prior, d.Update)
			if m.log != nil {
				m.logf("  %s", show(&u))
			}
		}
		m.put(repl.Record{Update: u, Presence: d.Presence, Identity: d.Identity, Print: d.Print})
	}
}
