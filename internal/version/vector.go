package version

import (
	"fmt"
	"slices"
	"strings"
)

// Interval is the half-open range of versions (Low, High]; Low < High.
type Interval struct{ Low, High uint64 }

// Vector says which GVSNs a member knows: for each originator an ascending
// list of disjoint intervals that do not touch. The nil Vector knows nothing
// and may be read; methods that return a vector never change their receiver.
type Vector map[Originator][]Interval

// Clone returns a copy that shares nothing with v.
func (v Vector) Clone() Vector {
	c := make(Vector, len(v))
	for o, s := range v {
		c[o] = slices.Clone(s)
	}
	return c
}

// Contains reports whether v knows g.
func (v Vector) Contains(g GVSN) bool {
	s := v[g.Originator]
	i, _ := slices.BinarySearchFunc(s, g.Version, func(iv Interval, n uint64) int {
		if iv.High < n {
			return -1
		}
		return 1
	})
	return i < len(s) && s[i].Low < g.Version
}

// Covers reports whether v knows everything that w knows.
func (v Vector) Covers(w Vector) bool {
	for o, s := range w {
		for _, iv := range s {
			if !coversInterval(v[o], iv) {
				return false
			}
		}
	}
	return true
}

func coversInterval(s []Interval, iv Interval) bool {
	for _, have := range s {
		if have.Low <= iv.Low && iv.High <= have.High {
			return true
		}
	}
	return false
}

// Equal reports whether v and w know the same.
func (v Vector) Equal(w Vector) bool { return v.Covers(w) && w.Covers(v) }

// Add puts g into v itself.
func (v Vector) Add(g GVSN) { v.AddInterval(g.Originator, Interval{g.Version - 1, g.Version}) }

// AddInterval puts every version of iv by o into v itself.
func (v Vector) AddInterval(o Originator, iv Interval) {
	if iv.Low >= iv.High {
		return
	}
	s := v[o]
	if n := len(s); n > 0 && s[n-1].High == iv.Low { // the common case: the next version
		s[n-1].High = iv.High
		return
	}
	v[o] = unionIntervals(s, []Interval{iv})
}

// Union returns what v or w knows.
func (v Vector) Union(w Vector) Vector {
	u := v.Clone()
	for o, s := range w {
		u[o] = unionIntervals(u[o], s)
	}
	return u
}

// Minus returns what v knows and w does not.
func (v Vector) Minus(w Vector) Vector {
	d := make(Vector)
	for o, s := range v {
		if left := minusIntervals(s, w[o]); len(left) > 0 {
			d[o] = left
		}
	}
	return d
}

// Missing returns what known has and v lacks: the range of updates to ask for.
func (v Vector) Missing(known Vector) Vector { return known.Minus(v) }

// Max returns the highest version of o that v knows, 0 if it knows none.
func (v Vector) Max(o Originator) uint64 {
	s := v[o]
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].High
}

// Len returns how many versions v knows.
func (v Vector) Len() uint64 {
	var n uint64
	for _, s := range v {
		for _, iv := range s {
			n += iv.High - iv.Low
		}
	}
	return n
}

// Intervals returns how many intervals v needs: its size on the wire.
func (v Vector) Intervals() int {
	n := 0
	for _, s := range v {
		n += len(s)
	}
	return n
}

// Originators returns the originators of v in their order.
func (v Vector) Originators() []Originator {
	os := make([]Originator, 0, len(v))
	for o := range v {
		os = append(os, o)
	}
	slices.SortFunc(os, Originator.Compare)
	return os
}

// String prints "GUID (low,high] (low,high]; GUID …" in the originators' order.
func (v Vector) String() string {
	var b strings.Builder
	for i, o := range v.Originators() {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(o.String())
		for _, iv := range v[o] {
			fmt.Fprintf(&b, " (%d,%d]", iv.Low, iv.High)
		}
	}
	return b.String()
}

func unionIntervals(a, b []Interval) []Interval {
	all := make([]Interval, 0, len(a)+len(b))
	all = append(append(all, a...), b...)
	slices.SortFunc(all, func(x, y Interval) int {
		switch {
		case x.Low < y.Low:
			return -1
		case x.Low > y.Low:
			return 1
		}
		return 0
	})
	out := all[:0]
	for _, iv := range all {
		if n := len(out); n > 0 && iv.Low <= out[n-1].High {
			out[n-1].High = max(out[n-1].High, iv.High)
			continue
		}
		out = append(out, iv)
	}
	return out
}

func minusIntervals(a, b []Interval) []Interval {
	var out []Interval
	for _, iv := range a {
		low := iv.Low
		for _, cut := range b {
			if cut.High <= low || cut.Low >= iv.High {
				continue
			}
			if cut.Low > low {
				out = append(out, Interval{low, cut.Low})
			}
			low = max(low, cut.High)
		}
		if low < iv.High {
			out = append(out, Interval{low, iv.High})
		}
	}
	return out
}
