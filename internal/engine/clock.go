package engine

import (
	"slices"
	"time"

	"opendfs/internal/repl"
)

// Clamp is the clock of what a member mints (rule 6): now, unless it runs ahead of
// every partner that has told its own clock by more than limit. Then it is the
// time of the one that is furthest on, so that a fast clock wins no conflict that
// it should lose. ahead lists by how much the member runs ahead of each partner;
// without partners there is nothing to compare with.
func Clamp(now repl.Time, ahead []time.Duration, limit time.Duration) repl.Time {
	if len(ahead) == 0 {
		return now
	}
	if least := slices.Min(ahead); limit > 0 && least > limit {
		return now - repl.Time(least)
	}
	return now
}
