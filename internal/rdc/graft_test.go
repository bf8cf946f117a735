package rdc

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// TestGraftSendsWhatChanged is the story of small files: who lacks the new version
// lists the grains of the old one, and what comes back follows the change.
func TestGraftSendsWhatChanged(t *testing.T) {
	old := random(20_000)
	word := []byte("changed")
	for name, c := range map[string]struct {
		next []byte
		most int // bytes that go back
	}{
		"the same":              {old, 8},
		"a word replaced":       {slices.Concat(old[:7000], word, old[7000+len(word):]), 2100},
		"a word inserted":       {slices.Concat(old[:7000], word, old[7000:]), 2100},
		"a part moved":          {slices.Concat(old[9000:], old[:9000]), 4200},
		"a part removed":        {slices.Concat(old[:5000], old[9000:]), 2100},
		"a part twice":          {slices.Concat(old, old[3000:12_000]), 2100},
		"another content":       {bytes.Repeat([]byte("x"), 5000), 5020},
		"nothing left":          {nil, 1},
		"zeros, as long as may": {make([]byte, MaxGraft), MaxGraft + 20},
	} {
		list := Grains(nil, old)
		if err := CheckGrains(list); err != nil || len(list) > len(old)/30 {
			t.Fatalf("a list of %d bytes: %v", len(list), err)
		}
		runs, fresh := Graft(list, c.next)
		if n := len(runs) + len(fresh); n > c.most {
			t.Errorf("%s: %d bytes go back", name, n)
		}
		got, err := Ungraft(old, runs, fresh, int64(len(c.next)))
		if err != nil || !bytes.Equal(got, c.next) {
			t.Errorf("%s: %d bytes for %d: %v", name, len(got), len(c.next), err)
		}
	}
}

// TestGraftOfPeriods is of contents of which all grains are alike.
func TestGraftOfPeriods(t *testing.T) {
	for _, period := range []int{1, 2, 63, 64, 65, 1000} {
		old := bytes.Repeat(random(period), 100_000/period)
		next := append(old[:50_000:50_000], old[40_000:]...)
		runs, fresh := Graft(Grains(nil, old), next)
		got, err := Ungraft(old, runs, fresh, int64(len(next)))
		if err != nil || !bytes.Equal(got, next) || len(runs)+len(fresh) > len(next)+100 {
			t.Errorf("period %d: %d and %d bytes: %v", period, len(runs), len(fresh), err)
		}
	}
}

// TestUngraftRefuses is of what a partner cannot mean.
func TestUngraftRefuses(t *testing.T) {
	old := random(1000)
	for name, c := range map[string]struct {
		runs  []byte
		fresh []byte
		size  int64
	}{
		"no version":         {nil, nil, 0},
		"another version":    {[]byte{2}, nil, 0},
		"an empty run":       {[]byte{1, 0}, nil, 0},
		"an empty copy":      {[]byte{1, 1, 0}, nil, 0},
		"bytes that lack":    {[]byte{1, 10}, []byte("four"), 5},
		"bytes left over":    {[]byte{1, 8}, []byte("fives"), 4},
		"before the first":   {[]byte{1, 3, 1}, nil, 64},
		"behind the last":    {[]byte{1, 0xff, 0x7f, 0}, nil, 1000},
		"longer than it is":  {[]byte{1, 8}, []byte("four"), 3},
		"shorter than it is": {[]byte{1, 8}, []byte("four"), 5},
		"too large":          {[]byte{1}, nil, MaxGraft + 1},
	} {
		if _, err := Ungraft(old, c.runs, c.fresh, c.size); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range []int{1, grainHash + 1, MaxGrains + grainHash} {
		if err := CheckGrains(make([]byte, n)); !errors.Is(err, ErrFormat) {
			t.Errorf("a list of %d bytes: %v", n, err)
		}
	}
}

// FuzzUngraft lets the other side answer with anything: what comes out is as long
// as it is to be, or an error.
func FuzzUngraft(f *testing.F) {
	old := random(5000)
	runs, fresh := Graft(Grains(nil, old), slices.Concat(old[:700], []byte("new"), old[900:]))
	f.Add(runs, fresh, int64(4803))
	f.Add([]byte{1, 3, 0, 3, 1, 3, 1}, []byte(nil), int64(128))
	f.Fuzz(func(t *testing.T, runs, fresh []byte, size int64) {
		if got, err := Ungraft(old, runs, fresh, size); err == nil && int64(len(got)) != size {
			t.Fatalf("%d bytes for %d", len(got), size)
		}
	})
}

// FuzzGraft lets the asking side list anything as its grains.
func FuzzGraft(f *testing.F) {
	next := random(5000)
	f.Add(Grains(nil, next))
	f.Add(bytes.Repeat([]byte{1}, 50))
	f.Fuzz(func(t *testing.T, list []byte) {
		if CheckGrains(list) != nil {
			return
		}
		runs, fresh := Graft(list, next)
		if len(fresh) > len(next) || len(runs) > len(next) {
			t.Fatalf("%d and %d bytes for %d", len(runs), len(fresh), len(next))
		}
	})
}
