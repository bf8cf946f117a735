package store

import (
	"testing"

	"opendfs/internal/repl"
)

// What was read before a Put of it ended is not taken in, however many others have
// ended meanwhile; what was read of other records is.
func TestRecentTakesInNothingOld(t *testing.T) {
	var c recent
	rec := func(n uint64) (ref, *repl.Record) {
		return ref{1, n}, &repl.Record{Update: repl.Update{Size: int64(n)}}
	}
	put := func(ns ...uint64) {
		items := make([]item, 0, len(ns))
		for _, n := range ns {
			r, now := rec(n)
			items = append(items, item{uid: r, now: now})
		}
		c.commit(items)
	}
	has := func(n uint64, want bool, when string) {
		t.Helper()
		r, _ := rec(n)
		if got, _ := c.get(r); (got != nil) != want {
			t.Errorf("%s: record %d is known: %v, should be %v", when, n, got != nil, want)
		}
	}
	take := func(n, since uint64) {
		r, read := rec(n)
		c.put(r, read, since)
	}
	since := c.ended()
	put(1)
	take(1, since)
	take(2, since)
	has(1, false, "read before its Put ended")
	has(2, false, "read before a Put of one beside it ended, where none was held")
	take(2, c.ended())
	since = c.ended()
	put(1)
	take(1, since)
	take(3, since)
	has(1, false, "read before its Put ended")
	has(2, true, "not put since")
	has(3, true, "read while another's ended")
	take(1, c.ended())
	has(1, true, "read after its Put ended")
	put(1)
	has(1, false, "put since")

	since = c.ended()
	put(3)
	for n := range uint64(recentMost) { // so many that each belongs where another does
		put(10 + n)
	}
	take(3, since)
	take(4, since)
	has(3, false, "read before its Put ended, long ago")
	has(4, false, "read before its neighbour's Put ended")
	take(4, c.ended())
	has(4, true, "read now")

	since = c.ended()
	c.forget()
	take(4, since)
	has(4, false, "read before all was dropped")
}

// Of the records that belong to one set the two that were taken in last are held, and
// never two states of one.
func TestRecentHoldsTheLastTwo(t *testing.T) {
	var c recent
	one, two, three := ref{1, 5}, ref{1, 5 + recentMost}, ref{1, 5 + 2*recentMost}
	sizes := func(want ...int64) {
		t.Helper()
		for i, r := range []ref{one, two, three} {
			var got int64 = -1
			if rec, _ := c.get(r); rec != nil {
				got = rec.Size
			}
			if got != want[i] {
				t.Errorf("record %d has size %d, want %d", i+1, got, want[i])
			}
		}
	}
	take := func(r ref, size int64) {
		c.put(r, &repl.Record{Update: repl.Update{Size: size}}, c.ended())
	}
	take(one, 1)
	take(two, 2)
	sizes(1, 2, -1)
	take(one, 11)
	sizes(11, 2, -1)
	take(three, 3)
	sizes(11, -1, 3)
	c.commit([]item{{uid: one, now: &repl.Record{}}})
	sizes(-1, -1, 3)
	take(one, 12)
	c.commit([]item{{uid: one, now: &repl.Record{Update: repl.Update{Type: repl.Directory, Size: 13}}}})
	sizes(13, -1, 3)
	c.commit([]item{{uid: three}})
	sizes(13, -1, -1)
}
