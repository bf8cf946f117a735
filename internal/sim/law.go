package sim

import (
	"fmt"

	"opendfs/internal/engine"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// law is what must hold at every commit. It knows every update that any member
// ever had on record.
type law struct {
	known map[version.GVSN]repl.Update
	by    map[version.Originator][]version.GVSN // known, as they came
	of    map[repl.UID]map[version.GVSN]bool
	types map[repl.UID]repl.Type
	// last are the greatest versions that went with the database that made them,
	// before anybody else had them: what they replaced may be covered without them.
	last map[repl.UID]repl.Update
	// broken is the first thing that was against the law.
	broken error
}

func newLaw() law {
	return law{
		known: make(map[version.GVSN]repl.Update), by: make(map[version.Originator][]version.GVSN), of: make(map[repl.UID]map[version.GVSN]bool), types: make(map[repl.UID]repl.Type), last: make(map[repl.UID]repl.Update),
	}
}

func (c *Cluster) unlawful(m *Member, u *repl.Update, format string, args ...any) {
	if c.law.broken == nil {
		c.law.broken = fmt.Errorf("m%d has %s: %s", m.index, c.describe(u), fmt.Sprintf(format, args...))
		c.tracef("m%d BREAKS THE LAW: %v", m.index, c.law.broken)
	}
}

// remember makes what a member has on record, when it starts, what its next
// records are compared with: a power cut has taken what was not synced.
func (m *Member) remember() {
	m.had = make(map[repl.UID]repl.Update)
	for _, u := range allUpdates(m.env.Store) {
		m.had[u.UID] = u
	}
}

// committed checks what a member has on record since its vector was before.
func (m *Member) committed(updates []repl.Update, before, now version.Vector) {
	c := m.c
	for i := range updates {
		u := &updates[i]
		m.oneContent(u)
		m.follows(u)
		m.had[u.UID] = *u
	}
	for i := range updates {
		m.ascends(&updates[i])
	}
	for o, spans := range now.Minus(before) {
		for _, g := range c.law.by[o] {
			for _, iv := range spans {
				if iv.Low < g.Version && g.Version <= iv.High {
					m.notSmaller(g, now)
				}
			}
		}
	}
}

// oneContent: one GVSN, one content, for ever (rule 3); a UID keeps its type
// (rule 7). What a member makes before it is in Normal nobody gets to see, and a
// power cut may take.
func (m *Member) oneContent(u *repl.Update) {
	c := m.c
	if !m.promises && u.GVSN.Originator == m.env.Store.State().Originator {
		return
	}
	was, ok := c.law.known[u.GVSN]
	switch {
	case ok && c.rotten[u.UID]:
	case !ok:
		c.law.known[u.GVSN] = *u
		c.law.by[u.GVSN.Originator] = append(c.law.by[u.GVSN.Originator], u.GVSN)
		if m.revived != nil {
			m.revived = append(m.revived, u.GVSN)
		}
		if c.law.of[u.UID] == nil {
			c.law.of[u.UID] = make(map[version.GVSN]bool)
		}
		c.law.of[u.UID][u.GVSN] = true
	case !sameUpdate(&was, u):
		c.unlawful(m, u, "that version is %s elsewhere (rule 3)", c.describe(&was))
	default:
		c.Count.Rules[3]++
	}
	if kind, ok := c.law.types[u.UID]; ok && kind != u.Type {
		c.unlawful(m, u, "its object was a %v (rule 7)", kind)
	}
	c.law.types[u.UID] = u.Type
}

// follows: a record is greater than what it replaces (rules 5 and 6), of the
// same object (7), and members that only read make none (13).
func (m *Member) follows(u *repl.Update) {
	c := m.c
	own := u.GVSN.Originator == m.env.Store.State().Originator
	if own && m.cfg.ReadOnly && !u.Parent.IsZero() {
		c.unlawful(m, u, "a read-only member mints (rule 13)")
	}
	was, ok := m.had[u.UID]
	if !ok || was.GVSN == u.GVSN {
		return
	}
	if !u.Present && c.collectedBy(m, &was) { // who was away deleted it as well
		return
	}
	if repl.Compare(u, &was) <= 0 && !c.rotten[u.UID] {
		c.unlawful(m, u, "it is not greater than %s (rule 5)", c.describe(&was))
	}
	if u.CreateTime != was.CreateTime && !u.Parent.IsZero() || was.NameConflict && !u.NameConflict {
		c.unlawful(m, u, "it was %s (rules 6 and 7)", c.describe(&was))
	}
	switch {
	case own && u.Clock > max(was.Clock+1, c.now+repl.Time(maxSkew)):
		c.unlawful(m, u, "its clock runs ahead of everybody's (rule 6)")
	case own && u.Fence < was.Fence:
		c.unlawful(m, u, "its fence sinks (rule 6)")
	case own:
		c.Count.Rules[6]++
	case !u.Saw(was.GVSN):
		c.Count.Rules[5]++
		if was.Present && was.Type == repl.File && (!u.Present || u.Content != was.Content) {
			c.Count.Rules[10]++
		}
	}
	if was.NameConflict {
		c.Count.Rules[7]++
	}
}

// ascends: a merged directory's heir is newer than it (rule 8).
func (m *Member) ascends(u *repl.Update) {
	if u.Heir.IsZero() {
		return
	}
	m.c.Count.Rules[8]++
	if heir, ok := m.had[u.Heir]; ok && repl.ComparePlace(u, &heir) >= 0 {
		m.c.unlawful(m, u, "its heir is %s (rule 8)", m.c.describe(&heir))
	}
}

// notSmaller: the record of what a vector covers is not smaller, or a greater
// version of it is known to be missing (rule 1).
func (m *Member) notSmaller(g version.GVSN, now version.Vector) {
	u, ok := m.c.law.known[g]
	if !ok || m.c.rotten[u.UID] {
		return // withdrawn
	}
	m.c.Count.Rules[1]++
	rec, ok, err := m.env.Store.Get(u.UID)
	if err == nil && ok && repl.Compare(&rec.Update, &u) >= 0 {
		return
	}
	if gone, ok := m.c.law.last[u.UID]; ok && repl.Compare(&gone, &u) > 0 {
		return
	}
	if dead, buried := m.c.buried[u.UID]; buried && !rec.Present && m.env.Store.Floor().Contains(dead.GVSN) && repl.Compare(&dead, &u) >= 0 {
		return
	}
	for h := range m.c.law.of[u.UID] {
		if v := m.c.law.known[h]; !now.Contains(h) && repl.Compare(&v, &u) > 0 {
			return
		}
	}
	m.c.unlawful(m, &u, "its vector covers that and its record is %s, %v (rule 1)", m.c.describe(&rec.Update), err)
}

// intended: nothing of the tree is changed by an install before its intent is
// stored (rule 15).
func (m *Member) intended(op string) {
	if _, ok := m.running.(*engine.Install); !ok || op != "exchange" && op != "rename" && op != "link" {
		return
	}
	intents, err := m.env.Store.Intents()
	if (err != nil || len(intents) == 0) && m.c.law.broken == nil {
		m.c.law.broken = fmt.Errorf("m%d: %s in an install without an intent (rule 15): %v", m.index, op, err)
	}
	m.c.Count.Rules[15]++
}
