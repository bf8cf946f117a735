package scope

import (
	"fmt"
	"slices"
	"strings"
)

// Scope is a tree that members begin with, and the names they use.
type Scope struct {
	Names []string
	Law   Law
	// Files and Dirs are what the tree begins with, directories first.
	Dirs, Files []string
	// Alike lists renamings of names under which the tree is the same: of
	// histories that are each other's images one is tried.
	Alike []map[string]string
}

// Start makes a member that has the scope's tree on record.
func (s *Scope) Start() (*Member, error) {
	m := newMember(0, Clock{Base: 1})
	m.law = s.Law
	for _, d := range s.Dirs {
		m.hands(Act{Mkdir, d, ""})
	}
	for _, f := range s.Files {
		m.hands(Act{Create, f, ""})
	}
	return m, m.Walk()
}

// History is what the user of one member did apart from the others, and the
// member as it is then.
type History struct {
	Acts   []Act
	Member *Member
}

func (h *History) String() string {
	var b strings.Builder
	for _, a := range h.Acts {
		fmt.Fprintf(&b, "%c %v; ", h.Member.name, a)
	}
	return b.String()
}

// Noticed says when a member captures what its user does.
type Noticed uint8

// Each act at once, or all of them by one walk.
const (
	AtOnce Noticed = iota
	AtEnd
)

// Histories lists every history of at most depth acts of a member's user, the
// empty one first. Of two neighbouring acts that have nothing to do with each
// other only one order is there.
func Histories(m *Member, names []string, depth int, when Noticed) ([]History, error) {
	out := []History{{Member: m}}
	last := out
	for range depth {
		var next []History
		for _, h := range last {
			for _, a := range h.Member.tree.acts(names) {
				if n := len(h.Acts); n > 0 && !h.Acts[n-1].meets(a) && a.less(h.Acts[n-1]) {
					continue
				}
				c := h.Member.clone()
				acts := append(slices.Clone(h.Acts), a)
				if when == AtOnce {
					if err := c.Act(a); err != nil {
						return nil, fmt.Errorf("%v: %w", acts, err)
					}
				} else {
					c.hands(a)
				}
				next = append(next, History{acts, c})
			}
		}
		out = append(out, next...)
		last = next
	}
	for _, h := range out {
		if err := h.Member.Walk(); err != nil {
			return nil, fmt.Errorf("%v: %w", h.Acts, err)
		}
		if err := h.Member.sound(); err != nil {
			return nil, fmt.Errorf("%v: %w", h.Acts, err)
		}
	}
	return out, nil
}

func (a Act) less(b Act) bool {
	if a.Deed != b.Deed {
		return a.Deed < b.Deed
	}
	if a.Path != b.Path {
		return a.Path < b.Path
	}
	return a.To < b.To
}

// least reports whether histories are the least of all that differ from them by
// names only.
func (s *Scope) least(hs ...*History) bool {
	for _, image := range s.Alike {
		if order(image, hs) < 0 {
			return false
		}
	}
	return true
}

// order compares histories with their image: -1 if the image is less.
func order(image map[string]string, hs []*History) int {
	for _, h := range hs {
		for _, a := range h.Acts {
			switch b := a.renamed(image); {
			case b.less(a):
				return -1
			case a.less(b):
				return 1
			}
		}
	}
	return 0
}

// together is the tree that one user would have made of what several did.
func together(start *Member, hs ...*History) string {
	t := start.tree.clone()
	for _, h := range hs {
		d := newDoer(int(h.Member.name-'@'), 0)
		for _, a := range h.Acts {
			d.do(&t, a)
		}
	}
	return t.listing()
}

// unconcerned checks what comes of histories that have nothing to do with one
// another: the tree that one user would have made, nothing minted, nothing kept.
func unconcerned(want string, members []*Member) error {
	for _, m := range members {
		if got := m.tree.listing(); got != want {
			return fmt.Errorf("%c has\n%s\none user would have made\n%s", m.name, got, want)
		}
		if m.minted > 0 || m.kept != 0 {
			return fmt.Errorf("%c mints %d updates and keeps %x where nothing meets", m.name, m.minted, m.kept)
		}
	}
	return nil
}
