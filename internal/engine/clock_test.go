package engine

import (
	"testing"
	"time"

	"opendfs/internal/repl"
)

// A clock is believed unless it runs ahead of every partner's by more than the limit.
func TestClamp(t *testing.T) {
	const now, limit = repl.Time(time.Hour), 5 * time.Minute
	for _, c := range []struct {
		ahead []time.Duration
		want  repl.Time
	}{
		{nil, now},
		{[]time.Duration{5 * time.Minute}, now},
		{[]time.Duration{-time.Hour}, now},
		{[]time.Duration{30 * time.Minute, 20 * time.Minute}, now - repl.Time(20*time.Minute)},
		{[]time.Duration{30 * time.Minute, 0}, now},
		{[]time.Duration{30 * time.Minute, -time.Hour}, now},
	} {
		if got := Clamp(now, c.ahead, limit); got != c.want {
			t.Errorf("ahead by %v: %v, want %v", c.ahead, got, c.want)
		}
	}
}
