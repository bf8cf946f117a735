package scope

import (
	"fmt"
	"slices"
	"strings"
)

// Hearing is what a member hears before somebody acts again.
type Hearing struct {
	Who, Of int
	Begun   bool // only the first update, then the connection is lost
}

// Story is a history in which members hear of each other between acts.
type Story struct {
	Members []*Member
	Told    []string
	// apart: somebody has acted without knowing all that others had done.
	apart bool
	log   []string
}

func (s *Story) clone() *Story {
	c := &Story{Told: slices.Clone(s.Told), apart: s.apart, log: slices.Clone(s.log)}
	for _, m := range s.Members {
		n := m.clone()
		if m.log != nil {
			n.log = &c.log
		}
		c.Members = append(c.Members, n)
	}
	return c
}

// hear lets members hear of each other; what is no news is no story.
func (s *Story) hear(hs []Hearing) (news bool, err error) {
	for _, h := range hs {
		m, o := s.Members[h.Who], s.Members[h.Of]
		shot := o.Snapshot()
		diff := m.missing(&shot)
		if len(diff) == 0 || h.Begun && len(diff) < 2 {
			return false, nil
		}
		how := Delivery{}
		if h.Begun {
			how = Delivery{Piece: 1, Cut: 1}
		}
		text := fmt.Sprintf("%c hears %c", m.name, o.name)
		if h.Begun {
			text += " begin"
		}
		s.Told = append(s.Told, text)
		if err := m.Pull(&shot, how); err != nil {
			return true, err
		}
	}
	return true, vectorsSound(s.Members)
}

// hearings lists what two members may hear between two acts.
var hearings = [][]Hearing{
	nil,
	{{0, 1, false}},
	{{1, 0, false}},
	{{0, 1, true}},
	{{1, 0, true}},
	{{0, 1, false}, {1, 0, false}},
	{{1, 0, false}, {0, 1, false}},
}

// Between calls visit with every story of depth acts of two members, of which
// the first acts first. What goes wrong on the way is returned. keep says of the
// stories of each depth whether they are gone on with.
func Between(s *Story, names []string, depth int, keep func(depth int) bool, visit func(*Story) error) error {
	if depth == 0 {
		return visit(s)
	}
	for n, hs := range hearings {
		if len(s.Told) == 0 && n > 0 {
			break
		}
		for who := range s.Members {
			if len(s.Told) == 0 && who > 0 {
				break
			}
			heard := s.clone()
			news, err := heard.hear(hs)
			if err != nil {
				return heard.wrong(err)
			}
			if n > 0 && !news {
				break
			}
			for _, a := range heard.Members[who].tree.acts(names) {
				if !keep(depth) {
					continue
				}
				next := heard.clone()
				m := next.Members[who]
				for _, o := range next.Members {
					next.apart = next.apart || !m.vector.Covers(o.vector)
				}
				next.Told = append(next.Told, fmt.Sprintf("%c %v", m.name, a))
				if err := m.Act(a); err != nil {
					return next.wrong(err)
				}
				if err := m.sound(); err != nil {
					return next.wrong(err)
				}
				if err := Between(next, names, depth-1, keep, visit); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// End lets the members of a story meet. If nobody acted without knowing what
// others had done, the last one's tree must be everybody's.
func (s *Story) End(way *Way) error {
	want := ""
	if !s.apart {
		for _, m := range s.Members {
			all := true
			for _, o := range s.Members {
				all = all && m.vector.Covers(o.vector)
			}
			if all {
				want = m.tree.listing()
			}
		}
	}
	members := make([]*Member, len(s.Members))
	for i, n := range way.First {
		members[i] = s.Members[n]
	}
	for _, m := range members {
		if m.seen != nil {
			m.seen.Again += m.again
		}
	}
	err := Rest(members, way)
	if err == nil && want != "" {
		err = unconcerned(want, members)
	}
	if err == nil {
		err = members[0].nothingNew()
	}
	if err != nil {
		return s.wrong(fmt.Errorf("%v: %w", way, err))
	}
	return nil
}

func (s *Story) wrong(err error) error {
	return fmt.Errorf("%s\n%s\n%w", strings.Join(s.Told, "; "), strings.Join(s.log, "\n"), err)
}
