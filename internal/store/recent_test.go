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
	has(2, true, "read while another's ended")
	take(1, c.ended())
	has(1, true, "read after its Put ended")
	put(1)
	has(1, false, "put since")

	since = c.ended()
	put(3)
	for n := range uint64(recentMost) { // so many that it is forgotten which they were
		put(10 + n)
	}
	take(3, since)
	take(4, since)
	has(3, false, "read before its Put ended, long ago")
	has(4, false, "read before what nobody remembers")
	take(4, c.ended())
	has(4, true, "read now")

	since = c.ended()
	c.forget()
	take(4, since)
	has(4, false, "read before all was dropped")
}
