package peer

import (
	"testing"
	"time"
)

// Answers without news end together, whenever they were asked for, and are held for
// half of the time at least.
func TestHeldAnswersEndTogether(t *testing.T) {
	const poll = 30 * time.Second
	start := time.Unix(1_700_000_000, 0)
	ends := make(map[time.Time]bool)
	for i := range 150 {
		now := start.Add(time.Duration(i) * 97 * time.Millisecond)
		d := held(poll, now)
		if d < poll/2 || d > poll {
			t.Errorf("held for %v", d)
		}
		ends[now.Add(d)] = true
	}
	if len(ends) > 2 { // of 15 s
		t.Errorf("answers to questions of %v end at %d times", 150*97*time.Millisecond, len(ends))
	}
	if d := held(1, start); d != 1 {
		t.Errorf("a poll of a nanosecond is held for %v", d)
	}
}
