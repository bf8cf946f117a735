package scope

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"opendfs/internal/repl"
)

// sound checks one member by itself: rules 7, 8, 11, one object a place, no
// ring, and the disk.
func (m *Member) sound() error {
	live := 0
	for i := range m.recs {
		r := &m.recs[i]
		if r.UID == rootUID {
			continue
		}
		if !r.Heir.IsZero() {
			if h := m.record(r.Heir); h == nil || repl.ComparePlace(&r.Update, &h.Update) >= 0 {
				return fmt.Errorf("%s has no newer heir (rule 8)", show(&r.Update))
			}
		}
		if !r.Present {
			continue
		}
		live++
		if err := m.hangs(r); err != nil {
			return err
		}
		dir := m.canonical(r.Parent)
		for j := range m.recs[:i] {
			if o := &m.recs[j]; m.law.same(o.Name, r.Name) && m.in(o, dir) {
				return fmt.Errorf("%s and %s at one place", show(&o.Update), show(&r.Update))
			}
		}
		if err := m.tells(r, dir); err != nil {
			return err
		}
	}
	for i := 1; i < len(m.tree.objects); i++ {
		switch o := &m.tree.objects[i]; o.parent {
		case gone:
		case private:
			return fmt.Errorf("%s lies in the private area", o.name)
		default:
			live--
		}
	}
	if live != 0 {
		return fmt.Errorf("%d more live records than objects on disk:\n%s", live, m.tree.listing())
	}
	return nil
}

// hangs reports whether a live record hangs on the root by live directories.
func (m *Member) hangs(r *repl.Record) error {
	up := m.canonical(r.Parent)
	for n := 0; up != rootUID; n++ {
		p := m.record(up)
		if p == nil || !p.Present || p.Type != repl.Directory {
			return fmt.Errorf("%s hangs on %s, which is no live directory (rule 11)", show(&r.Update), short(up))
		}
		if n > len(m.recs) {
			return fmt.Errorf("%s is in a ring", show(&r.Update))
		}
		up = m.canonical(p.Parent)
	}
	return nil
}

// tells reports whether a record tells the disk.
func (m *Member) tells(r *repl.Record, dir repl.UID) error {
	n := number(r.Identity)
	if r.Presence != repl.OnDisk || n < 0 {
		return fmt.Errorf("%s is %v", show(&r.Update), r.Presence)
	}
	on := int16(0)
	if dir != rootUID {
		on = number(m.record(dir).Identity)
	}
	o := &m.tree.objects[n]
	if o.parent != on || o.name != r.Name || o.kind != r.Type || o.mode != r.Meta[0] || o.kind != repl.Directory && tables.hash[o.content] != r.Content {
		return fmt.Errorf("the disk differs from %s", show(&r.Update))
	}
	return nil
}

// vectorsSound is rule 1, and rule 3: one GVSN is one update.
func vectorsSound(members []*Member) error {
	for _, m := range members {
		for _, o := range members {
			if o == m {
				continue
			}
			for i := range o.recs {
				r := &o.recs[i]
				mine := m.record(r.UID)
				if mine != nil && mine.GVSN == r.GVSN && !sameUpdate(&mine.Update, &r.Update) {
					return fmt.Errorf("%c has %s, %c %s (rule 3)", m.name, show(&mine.Update), o.name, show(&r.Update))
				}
				if m.vector.Contains(r.GVSN) && (mine == nil || repl.Compare(&mine.Update, &r.Update) < 0) {
					return fmt.Errorf("%c claims to know %s of %c (rule 1)", m.name, show(&r.Update), o.name)
				}
			}
		}
	}
	return nil
}

func sameUpdate(a, b *repl.Update) bool {
	return a.UID == b.UID && a.GVSN == b.GVSN && a.Parent == b.Parent && a.Name == b.Name && a.Type == b.Type &&
		a.Present == b.Present && a.NameConflict == b.NameConflict && a.Heir == b.Heir && a.Fence == b.Fence &&
		a.CreateTime == b.CreateTime && a.Clock == b.Clock && a.Size == b.Size && a.Mtime == b.Mtime &&
		a.Content == b.Content && a.Target == b.Target && bytes.Equal(a.Meta, b.Meta) && slices.Equal(a.History, b.History)
}

// Rest lets members ask each other until nothing is new, and checks what they
// have then. settled and written are what the users of all have done.
func Rest(members []*Member, way *Way) error {
	for round := 0; ; round++ {
		if round > 10 {
			return fmt.Errorf("no rest after %d rounds", round)
		}
		news, err := exchange(members, way)
		if err != nil {
			return err
		}
		if !news {
			return atRest(members)
		}
	}
}

// exchange lets each member ask each other one once.
func exchange(members []*Member, way *Way) (news bool, err error) {
	var shots []Snapshot
	if way.Together {
		for _, m := range members {
			shots = append(shots, m.Snapshot())
		}
	}
	for i, m := range members {
		for j, o := range members {
			if o == m || m.vector.Covers(o.vector) && !way.Together || way.Chain && i-j != 1 && j-i != 1 {
				continue
			}
			var s Snapshot
			if way.Together {
				s = shots[j]
			} else {
				s = o.Snapshot()
			}
			before := m.vector
			if err := m.Pull(&s, way.How); err != nil {
				return news, err
			}
			if err := vectorsSound(members); err != nil {
				return news, err
			}
			news = news || !before.Covers(m.vector)
		}
	}
	return news, nil
}

// atRest checks that members are equal and nothing was lost.
func atRest(members []*Member) error {
	first := members[0]
	var written, settled, kept contents
	for _, m := range members {
		written, settled, kept = written|m.written, settled|m.settled, kept|m.kept
		if !m.vector.Equal(first.vector) {
			return fmt.Errorf("vectors of %c and %c differ: %v, %v", first.name, m.name, first.vector, m.vector)
		}
		if len(m.recs) != len(first.recs) {
			return fmt.Errorf("%c has %d records, %c %d", first.name, len(first.recs), m.name, len(m.recs))
		}
		for i := range m.recs {
			r := &m.recs[i]
			if o := first.record(r.UID); o == nil || !sameUpdate(&o.Update, &r.Update) {
				return fmt.Errorf("%c has %s, %c has %s", first.name, first.showOf(r.UID), m.name, show(&r.Update))
			}
		}
		if err := m.sound(); err != nil {
			return err
		}
	}
	var live contents
	for i := range first.recs {
		if r := &first.recs[i]; r.Present && r.Type != repl.Directory {
			live.add(tables.number[r.Content])
		}
	}
	if lost := written &^ (live | settled | kept); lost != 0 {
		var names []string
		for n := range uint8(maxContents) {
			if lost.has(n) {
				names = append(names, tables.text[n])
			}
		}
		return fmt.Errorf("lost: %s (rule 10)", strings.Join(names, ", "))
	}
	return nil
}

// nothingNew checks that a walk of a tree at rest finds nothing.
func (m *Member) nothingNew() error {
	before := m.last
	if err := m.Walk(); err != nil {
		return err
	}
	if m.last != before {
		return fmt.Errorf("%c: a walk at rest mints %d updates", m.name, m.last-before)
	}
	return nil
}

// — showing —

func short(u repl.UID) string {
	if u == rootUID {
		return "root"
	}
	return fmt.Sprintf("%c%d", u.Originator[0], u.Version)
}

func (m *Member) showOf(uid repl.UID) string {
	if r := m.record(uid); r != nil {
		return show(&r.Update)
	}
	return "nothing"
}

func show(u *repl.Update) string {
	s := fmt.Sprintf("%s@%s %s/%s %v", short(u.UID), short(repl.UID(u.GVSN)), short(u.Parent), u.Name, u.Type)
	switch {
	case !u.Heir.IsZero():
		s += " merged into " + short(u.Heir)
	case u.NameConflict:
		s += " lost its name"
	case !u.Present:
		s += " dead"
	case u.Type != repl.Directory:
		s += " " + tables.text[tables.number[u.Content]]
	}
	s += fmt.Sprintf(" created %d clock %d saw", u.CreateTime, u.Clock)
	for _, g := range u.History {
		s += " " + short(repl.UID(g))
	}
	return s
}

func showChange(c *repl.Change) string {
	s := fmt.Sprintf("%v: %s", c.Verdict, show(&c.Update))
	if c.Mint {
		s += ", minted"
	}
	if !c.From.IsZero() {
		s += fmt.Sprintf(", from %s/%s", short(c.From.Dir), c.From.Name)
	}
	if !c.To.IsZero() {
		s += fmt.Sprintf(", to %s/%s", short(c.To.Dir), c.To.Name)
	}
	if c.Object.UID != c.Update.UID && !c.Object.UID.IsZero() {
		s += ", taking " + short(c.Object.UID)
	}
	return fmt.Sprintf("%s, content %v, meta %v, keep %v, private %v, group %d", s, c.Content, c.Meta, c.Keep, c.ViaPrivate, c.Group)
}
