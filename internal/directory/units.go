package directory

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size uint64

// Binary units of Size.
const (
	KiB Size = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
	PiB
)

var sizeUnits = []struct {
	name string
	size Size
}{
	// The largest first: String takes the first that divides exactly.
	{"PiB", PiB}, {"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB},
	{"PB", 1e15}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"kB", 1e3},
}

// ParseSize reads a whole number of bytes with an optional unit: KiB, MiB,
// GiB, TiB, PiB (powers of 1024), kB, KB, MB, GB, TB, PB (powers of 1000) or B.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimRight(s, "KkMGTPiB")
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read size %q: not a whole number with a unit; write for example 4GiB or 500MB", s)
	}
	unit := s[len(digits):]
	if unit == "" || unit == "B" {
		return Size(n), nil
	}
	for _, u := range sizeUnits {
		if u.name != unit {
			continue
		}
		if n > math.MaxUint64/uint64(u.size) {
			return 0, fmt.Errorf("read size %q: more than 16 EiB; write a smaller size", s)
		}
		return Size(n) * u.size, nil
	}
	return 0, fmt.Errorf("read size %q: unknown unit %q; use KiB, MiB, GiB, TiB, PiB or kB, MB, GB, TB, PB", s, unit)
}

// String gives the shortest exact binary form: 4GiB, 1536MiB, 1000B.
func (s Size) String() string {
	for _, u := range sizeUnits[:5] {
		if s >= u.size && s%u.size == 0 {
			return strconv.FormatUint(uint64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatUint(uint64(s), 10) + "B"
}

const day = 24 * time.Hour

// ParseDuration reads what time.ParseDuration reads, not negative, and whole
// days before it: 60s, 1h30m, 60d, 1d12h. A number without a unit is refused.
func ParseDuration(s string) (time.Duration, error) {
	days, rest, hasDays := strings.Cut(s, "d")
	var d time.Duration
	if hasDays {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, badDuration(s)
		}
		d = time.Duration(n) * day
	} else {
		rest = s
	}
	if rest == "" && hasDays {
		return d, nil
	}
	r, err := time.ParseDuration(rest)
	if err != nil || r < 0 || strings.ContainsAny(rest, "+-") || rest == "0" || r > math.MaxInt64-d {
		return 0, badDuration(s)
	}
	return d + r, nil
}

func badDuration(s string) error {
	return fmt.Errorf("read duration %q: not a number with a unit; write for example 60s, 5m, 12h or 60d", s)
}

// FormatDuration is the inverse of ParseDuration in its shortest form: 60s is
// 1m, 36h is 1d12h, zero is 0s.
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	for _, u := range []struct {
		name string
		unit time.Duration
	}{{"d", day}, {"h", time.Hour}, {"m", time.Minute}} {
		if n := d / u.unit; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d %= u.unit
		}
	}
	if d > 0 {
		b.WriteString(d.String())
	}
	return b.String()
}
