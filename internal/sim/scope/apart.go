package scope

import (
	"fmt"
	"strings"
)

// Way is how members meet.
type Way struct {
	Together bool  // they ask at once, or one after the other
	First    []int // in this order
	Chain    bool  // each only its neighbours in that order
	How      Delivery
}

func (w *Way) String() string {
	s := fmt.Sprintf("in the order %v", w.First)
	if w.Together {
		s = "at once"
	}
	if w.Chain {
		s += " in a chain"
	}
	switch {
	case w.How.Order != nil:
		return s + fmt.Sprintf(", one by one as %v", w.How.Order)
	case w.How.Reverse:
		return s + ", backwards, in pieces of " + fmt.Sprint(w.How.Piece)
	}
	return s + ", in pieces of " + fmt.Sprint(w.How.Piece)
}

// Ways lists every way in which members with diffs of at most most updates
// meet: who asks first or all at once, a diff whole, in pieces of one forward
// and backward, and as long as it has at most three, in every order.
func Ways(members, most int) []Way {
	hows := []Delivery{{}, {Piece: 1}}
	switch {
	case most > 3:
		hows = append(hows, Delivery{Piece: 1, Reverse: true}, Delivery{Piece: 2}, Delivery{Piece: 2, Reverse: true})
	case most == 3:
		for _, order := range orders(3)[1:] {
			hows = append(hows, Delivery{Piece: 1, Order: order})
		}
	case most == 2:
		hows = append(hows, Delivery{Piece: 1, Reverse: true})
	case most < 2:
		hows = hows[:1]
	}
	var out []Way
	for _, how := range hows {
		for _, first := range orders(members) {
			out = append(out, Way{First: first, How: how})
		}
		out = append(out, Way{Together: true, First: orders(members)[0], How: how})
		if members > 2 {
			for _, first := range orders(members) {
				out = append(out, Way{Chain: true, First: first, How: how})
			}
		}
	}
	return out
}

// orders lists the orders of n things, the natural one first.
func orders(n int) [][]int {
	if n == 0 {
		return [][]int{{}}
	}
	var out [][]int
	for _, rest := range orders(n - 1) {
		for at := len(rest); at >= 0; at-- {
			order := append(append(append([]int{}, rest[:at]...), n-1), rest[at:]...)
			out = append(out, order)
		}
	}
	return out
}

// updates is how many a history has made.
func (h *History) updates() int {
	n := 0
	for i := range h.Member.recs {
		if h.Member.recs[i].GVSN.Originator == h.Member.own {
			n++
		}
	}
	return n
}

// Meet lets the members of histories, which are left as they are, meet in a way
// and come to rest. log takes what happens, if it is not nil. Where the
// histories have nothing to do with one another, want is the tree that must
// come of it.
func Meet(hs []*History, way *Way, want string, seen *Seen, log *[]string) error {
	members := make([]*Member, len(hs))
	for i, n := range way.First {
		m := hs[n].Member.clone()
		m.seen, m.log = seen, log
		members[i] = m
	}
	if err := Rest(members, way); err != nil {
		return err
	}
	if want != "" {
		return unconcerned(want, members)
	}
	return nil
}

// Tell plays a case again and tells what happens.
func Tell(hs []*History, way *Way, want string) string {
	var log []string
	err := Meet(hs, way, want, nil, &log)
	text := ""
	for _, h := range hs {
		text += h.String()
		for i := range h.Member.recs {
			text += "\n  " + show(&h.Member.recs[i].Update)
		}
		text += "\n"
	}
	return text + way.String() + "\n" + strings.Join(log, "\n") + fmt.Sprintf("\n%v", err)
}
