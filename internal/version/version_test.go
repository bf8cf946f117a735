package version

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func drawVector(t *rapid.T, label string) Vector {
	v := make(Vector)
	for range rapid.IntRange(0, 12).Draw(t, label) {
		var o Originator
		o[0] = rapid.ByteRange(1, 3).Draw(t, "originator")
		low := rapid.Uint64Range(0, 30).Draw(t, "low")
		v.AddInterval(o, Interval{low, low + rapid.Uint64Range(1, 6).Draw(t, "length")})
	}
	return v
}

func members(v Vector) map[GVSN]bool {
	m := make(map[GVSN]bool)
	for b := byte(1); b <= 3; b++ {
		for n := uint64(1); n <= 40; n++ {
			if g := (GVSN{Originator{b}, n}); v.Contains(g) {
				m[g] = true
			}
		}
	}
	return m
}

func TestVectorIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawVector(t, "a"), drawVector(t, "b")
		sa, sb := members(a), members(b)
		union, minus := members(a.Union(b)), members(a.Minus(b))
		for byteO := byte(1); byteO <= 3; byteO++ {
			for n := uint64(1); n <= 40; n++ {
				g := GVSN{Originator{byteO}, n}
				if union[g] != (sa[g] || sb[g]) {
					t.Fatalf("union of %v and %v at %v is %v", a, b, g, union[g])
				}
				if minus[g] != (sa[g] && !sb[g]) {
					t.Fatalf("%v minus %v at %v is %v", a, b, g, minus[g])
				}
			}
		}
		if got := a.Union(b); !got.Covers(a) || !got.Covers(b) || !got.Equal(b.Union(a)) {
			t.Fatalf("union %v does not cover its parts or depends on order", got)
		}
		if uint64(len(sa)) != a.Len() {
			t.Fatalf("Len of %v is %d, want %d", a, a.Len(), len(sa))
		}
		if a.Covers(b) != (b.Minus(a).Len() == 0) {
			t.Fatalf("Covers and Minus disagree on %v, %v", a, b)
		}
	})
}

// TestVectorAlgebra: union is a join, minus takes away, missing is what a join
// would add, and every result is in the one form that a set of versions has.
func TestVectorAlgebra(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawVector(t, "a"), drawVector(t, "b"), drawVector(t, "c")
		same := func(what string, got, want Vector) {
			if !got.Equal(want) || got.String() != want.String() {
				t.Fatalf("%s: %v and %v of %v, %v, %v", what, got, want, a, b, c)
			}
			for o, s := range got {
				for i, iv := range s {
					if iv.Low >= iv.High || i > 0 && s[i-1].High >= iv.Low {
						t.Fatalf("%s: intervals of %v touch or are empty: %v", what, o, s)
					}
				}
			}
		}
		before := a.String() + b.String() + c.String()
		same("union does not depend on sides", a.Union(b), b.Union(a))
		same("union does not depend on grouping", a.Union(b).Union(c), a.Union(b.Union(c)))
		same("union with itself", a.Union(a), a)
		same("union with nothing", a.Union(nil), a)
		same("minus itself", a.Minus(a), nil)
		same("minus nothing", a.Minus(nil), a)
		same("minus one after the other", a.Minus(b).Minus(c), a.Minus(b.Union(c)))
		same("minus of a union", a.Union(b).Minus(c), a.Minus(c).Union(b.Minus(c)))
		same("what is missing makes it whole", a.Union(a.Missing(b)), a.Union(b))
		same("what is missing is not there", a.Missing(b).Minus(a), a.Missing(b))
		same("nothing is missing after a union", a.Union(b).Missing(b), nil)
		if (a.Missing(b).Len() == 0) != a.Covers(b) || a.Covers(b) && b.Covers(a) != a.Equal(b) {
			t.Fatalf("Covers, Missing and Equal disagree on %v and %v", a, b)
		}
		for o := range a {
			if a.Max(o) != 0 && !a.Contains(GVSN{o, a.Max(o)}) || a.Contains(GVSN{o, a.Max(o) + 1}) {
				t.Fatalf("Max of %v in %v is %d", o, a, a.Max(o))
			}
		}
		if after := a.String() + b.String() + c.String(); after != before {
			t.Fatalf("a method changed its receiver: %s became %s", before, after)
		}
	})
}

func TestVectorBytesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawVector(t, "v")
		got, err := DecodeVector(v.Append(nil))
		if err != nil || !got.Equal(v) {
			t.Fatalf("%v came back as %v, %v", v, got, err)
		}
	})
}

func TestGVSNTextRoundTrip(t *testing.T) {
	g := GVSN{Originator{1, 2, 3, 0xff}, 4711}
	got, err := ParseGVSN(g.String())
	if err != nil || got != g {
		t.Fatalf("%v came back as %v, %v", g, got, err)
	}
	for _, bad := range []string{"", "x-v1", g.Originator.String(), g.Originator.String() + "-v", "0102-v3"} {
		if _, err := ParseGVSN(bad); err == nil {
			t.Errorf("ParseGVSN(%q) is accepted", bad)
		}
	}
}

func TestAddKeepsIntervalsApart(t *testing.T) {
	v := make(Vector)
	o := Originator{1}
	for _, n := range []uint64{9, 10, 12, 11, 20} {
		v.Add(GVSN{o, n})
	}
	if got, want := v.String(), o.String()+" (8,12] (19,20]"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func FuzzDecodeVector(f *testing.F) {
	f.Add(Vector{Originator{1}: {{8, 12}, {19, 20}}}.Append(nil))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := DecodeVector(b)
		if err != nil {
			return
		}
		again, err := DecodeVector(v.Append(nil))
		if err != nil || !again.Equal(v) {
			t.Fatalf("%v came back as %v, %v", v, again, err)
		}
		if g, rest, err := DecodeGVSN(b); err == nil && !bytes.HasSuffix(b, rest) {
			t.Fatalf("DecodeGVSN of %x: %v left %x", b, g, rest)
		}
	})
}
