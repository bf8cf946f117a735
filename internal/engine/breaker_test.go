package engine

import (
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// rush counts edits of so many files, so long from one another, the clocks
// of the last one counted first.
func rush(files uint64, apart time.Duration) (trips bool) {
	b, w := UsualBreaker(), wave{}
	for i := files; i > 0; i-- {
		u := &repl.Update{UID: repl.UID(version.GVSN{Originator: version.Originator{1}, Version: i}), Type: repl.File, Present: i%2 == 0, Clock: repl.Time(i) * repl.Time(apart)}
		trips = b.trips(w.add(u, b.Within, 1500)) || trips
	}
	return trips
}

// The breaker counts files by the clocks of their records, whenever they arrive:
// 30 % of the folder in ten minutes trips it, the same in a month does not, nor do
// the same few files again and again, nor a folder of a thousand files.
func TestBreaker(t *testing.T) {
	for _, c := range []struct {
		files uint64
		apart time.Duration
		want  bool
	}{
		{450, time.Second, false}, {451, time.Second, true}, {1500, 0, true},
		{1500, 2 * time.Second, false}, {1500, 30 * time.Minute, false}, {1500, time.Second, true},
	} {
		if got := rush(c.files, c.apart); got != c.want {
			t.Errorf("%d files, %v apart: trips %v", c.files, c.apart, got)
		}
	}
	b, w := UsualBreaker(), wave{}
	uid := repl.UID(version.GVSN{Originator: version.Originator{1}, Version: 9})
	for i := range repl.Time(2000) {
		if b.trips(w.add(&repl.Update{UID: uid, Type: repl.File, Present: true, Clock: i * repl.Time(time.Second)}, b.Within, 1500)) {
			t.Fatalf("one file that is edited %d times trips it", i+1)
		}
	}
	if n := len(w.steps); n > maxSteps {
		t.Errorf("%d steps are remembered", n)
	}
	if b.trips(toll{replaced: 900, live: 1000}) || !b.trips(toll{replaced: 301, live: 1001}) {
		t.Error("the size of the folder from which on it counts is not 1,000")
	}
	if (&Breaker{}).trips(toll{replaced: 900, live: 1001}) {
		t.Error("a breaker that is off trips")
	}
	// A clock that runs far ahead does not hide what others say.
	w = wave{}
	tripped := false
	for i := range uint64(600) {
		u := repl.Update{UID: repl.UID(version.GVSN{Originator: version.Originator{1}, Version: 9 + i}), Type: repl.File, Clock: repl.Time(i) * repl.Time(time.Millisecond)}
		if i%100 == 0 {
			u.Clock += repl.Time(i) * repl.Time(365*24*time.Hour)
		}
		tripped = b.trips(w.add(&u, b.Within, 1500)) || tripped
	}
	if !tripped {
		t.Error("a few clocks that run ahead hide the others")
	}
}
