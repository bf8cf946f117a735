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
