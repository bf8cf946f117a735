package repl

import (
	"cmp"
	"slices"

	"opendfs/internal/version"
)

// Compare is the total order of updates: nameConflict, fence, is-directory,
// createTime, clock, GVSN; the greater wins (rule 5). It extends [MS-FRS2]
// 3.3.4.6.2 by the two ends: a name conflict's loser beats every live update
// of its UID, so that it stays dead, and the UID step falls to the GVSN, which
// is unique. Being total, its maximum is associative, commutative, idempotent.
func Compare(a, b *Update) int {
	return cmp.Or(
		compareBool(a.NameConflict, b.NameConflict),
		cmp.Compare(a.Fence, b.Fence),
		compareBool(a.Type == Directory, b.Type == Directory),
		cmp.Compare(a.CreateTime, b.CreateTime),
		cmp.Compare(a.Clock, b.Clock),
		a.GVSN.Compare(b.GVSN),
	)
}

// ComparePlace orders two live objects that claim one place: the greater keeps
// it. nameConflict cannot occur, and for directories the heir is chosen by
// createTime and UID alone (rule 8), so that heirs cannot form a cycle.
func ComparePlace(a, b *Update) int {
	if a.Type == Directory && b.Type == Directory {
		return cmp.Or(cmp.Compare(a.CreateTime, b.CreateTime), a.UID.Compare(b.UID))
	}
	return cmp.Or(Compare(a, b), a.UID.Compare(b.UID))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// History says for each originator the highest version of one UID that the
// author of an update had seen (rule 10). At most MaxHistory entries, ordered
// by originator; a dropped entry costs at worst a needless copy in the
// conflict store.
type History []version.GVSN

// Covers reports whether the author had seen g, a version of the same UID.
func (h History) Covers(g version.GVSN) bool {
	for _, e := range h {
		if e.Originator == g.Originator {
			return g.Version <= e.Version
		}
	}
	return false
}

// With returns h and every entry of more, the higher version of each
// originator; beyond MaxHistory the entries with the lowest versions go.
func (h History) With(more ...version.GVSN) History {
	out := slices.Clone(h)
next:
	for _, g := range more {
		if g.IsZero() {
			continue
		}
		for i := range out {
			if out[i].Originator == g.Originator {
				out[i].Version = max(out[i].Version, g.Version)
				continue next
			}
		}
		out = append(out, g)
	}
	for len(out) > MaxHistory {
		low := 0
		for i := range out {
			if out[i].Version < out[low].Version {
				low = i
			}
		}
		out = slices.Delete(out, low, low+1)
	}
	slices.SortFunc(out, version.GVSN.Compare)
	return out
}

// Saw reports whether the author of u had seen g of the same UID, g being an
// earlier version or u itself.
func (u *Update) Saw(g version.GVSN) bool { return u.GVSN == g || u.History.Covers(g) }
