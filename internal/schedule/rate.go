package schedule

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Rate is a speed in bits per second, counted in powers of 1,000. The zero value
// is Closed.
type Rate int64

// The ends of the scale: nothing may pass, and nothing is held back.
const (
	Closed Rate = 0
	Full   Rate = math.MaxInt64
)

// The least and the most that a Rate between them may be.
const (
	Least Rate = 1_000
	Most  Rate = 1_000_000_000_000
)

const (
	kbps = 1_000
	mbps = 1_000_000
	gbps = 1_000_000_000
)

// Levels are the 16 rates that DFSR knows, by their nibble (MS-FRS2 section
// 2.3.11).
var Levels = [16]Rate{
	Closed, 16 * kbps, 64 * kbps, 128 * kbps, 256 * kbps, 512 * kbps, 1 * mbps, 2 * mbps,
	4 * mbps, 8 * mbps, 16 * mbps, 32 * mbps, 64 * mbps, 128 * mbps, 256 * mbps, Full,
}

// Level gives the nibble of the highest level that is not above r.
func (r Rate) Level() byte {
	n := byte(0)
	for i, l := range Levels {
		if l <= r {
			n = byte(i)
		}
	}
	return n
}

var rateUnits = []struct {
	name string
	bits Rate
}{{"gbps", gbps}, {"mbps", mbps}, {"kbps", kbps}, {"bps", 1}}

// ParseRate reads "closed", "full", or a whole number of bits per second with a
// unit: bps, kbps, mbps, gbps, by powers of 1,000; from Least to Most.
func ParseRate(s string) (Rate, error) {
	switch s {
	case "closed":
		return Closed, nil
	case "full":
		return Full, nil
	}
	for _, u := range rateUnits {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || digits[0] == '+' {
			break
		}
		if n > uint64(Most/u.bits) || Rate(n)*u.bits < Least {
			return 0, fmt.Errorf("read rate %q: it is not from %v to %v; write closed for nothing and full for no limit", s, Least, Most)
		}
		return Rate(n) * u.bits, nil
	}
	return 0, fmt.Errorf("read rate %q: not closed, full, or a whole number with bps, kbps, mbps or gbps; write for example 512kbps", s)
}

// String is the inverse of ParseRate in its shortest exact form.
func (r Rate) String() string {
	switch r {
	case Closed:
		return "closed"
	case Full:
		return "full"
	}
	for _, u := range rateUnits {
		if r%u.bits == 0 {
			return strconv.FormatInt(int64(r/u.bits), 10) + u.name
		}
	}
	return "closed"
}
