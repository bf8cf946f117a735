// Package schedule says how much a connection may carry at each quarter hour of
// a week: 7 days of 96 quarters, a Rate each, in UTC or in the local time of the
// server that receives.
//
// A Schedule has two forms. The text form is what people write and the domain
// file keeps ("mon-fri 08:00-18:00 512kbps; sat,sun full; else closed"); Parse
// and String are each other's inverse. The blob form is Active Directory's
// msDFSR-Schedule: 336 bytes, one of 16 levels to a nibble; it holds the levels
// alone, not every rate, and not whether the time is UTC.
//
// The quarter of an instant is that of the wall clock, so a night in which clocks
// are set back has quarters that come twice, and one in which they are set forward
// has quarters that never come. At tells what is allowed and when that ends.
//
// The package sees no clock and loads no time zone: both are arguments. A
// Schedule does not change once it is made; a nil one is always open.
package schedule

import (
	"time"
)

// The shape of a week, which begins on Sunday as Windows' does.
const (
	Days     = 7
	Quarters = 96 // of a day
	slots    = Days * Quarters
	quarter  = 15 * time.Minute
)

// Schedule is what a connection may carry, quarter hour by quarter hour. Make one
// with Parse, FromBlob or Uniform.
type Schedule struct {
	utc  bool
	week [slots]Rate // from Sunday 00:00 on; each from Closed to Full
}

// Uniform is the schedule that allows the same at all times.
func Uniform(r Rate) *Schedule {
	s := new(Schedule)
	for i := range s.week {
		s.week[i] = r
	}
	return s
}

// UTC reports whether quarters are those of UTC, not of local time.
func (s *Schedule) UTC() bool { return s != nil && s.utc }

// InUTC gives the same week in UTC, or in local time.
func (s *Schedule) InUTC(utc bool) *Schedule {
	c := *s.orOpen()
	c.utc = utc
	return &c
}

// Slot gives the rate of a quarter, 0 to 95, of a day.
func (s *Schedule) Slot(d time.Weekday, q int) Rate { return s.orOpen().week[int(d)*Quarters+q] }

// Equal reports whether two schedules always allow the same. Whether the time is
// UTC is not told apart where every quarter is the same.
func (s *Schedule) Equal(t *Schedule) bool {
	a, b := s.orOpen(), t.orOpen()
	_, uniform := a.uniform()
	return a.week == b.week && (a.utc == b.utc || uniform)
}

// AlwaysOpen reports whether the schedule never limits anything.
func (s *Schedule) AlwaysOpen() bool {
	r, ok := s.orOpen().uniform()
	return ok && r == Full
}

// NeverOpen reports whether the schedule allows nothing at any time.
func (s *Schedule) NeverOpen() bool {
	r, ok := s.orOpen().uniform()
	return ok && r == Closed
}

func (s *Schedule) orOpen() *Schedule {
	if s == nil {
		return Uniform(Full)
	}
	return s
}

// uniform gives the one rate of all quarters, if there is only one.
func (s *Schedule) uniform() (Rate, bool) {
	for _, r := range s.week {
		if r != s.week[0] {
			return 0, false
		}
	}
	return s.week[0], true
}

// farthest is how far ahead a change is looked for: two weeks, for the one quarter
// that differs may be one that the clocks skip this week.
const farthest = 15 * 24 * time.Hour

// At gives what is allowed at an instant in the server's local zone, and the next
// instant at which something else is: the zero time if none comes.
func (s *Schedule) At(t time.Time, local *time.Location) (Rate, time.Time) {
	if s == nil {
		return Full, time.Time{}
	}
	now := s.at(t, local)
	if _, ok := s.uniform(); ok {
		return now, time.Time{}
	}
	for next := s.edge(t, local); next.Sub(t) < farthest; next = s.edge(next, local) {
		if s.at(next, local) != now {
			return now, next
		}
	}
	return now, time.Time{}
}

func (s *Schedule) zone(local *time.Location) *time.Location {
	if s.utc {
		return time.UTC
	}
	return local
}

func (s *Schedule) at(t time.Time, local *time.Location) Rate {
	t = t.In(s.zone(local))
	return s.week[int(t.Weekday())*Quarters+t.Hour()*4+t.Minute()/15]
}

// edge is the next instant at which another quarter begins: the end of this one,
// or the clocks are set before it.
func (s *Schedule) edge(t time.Time, local *time.Location) time.Time {
	t = t.In(s.zone(local))
	into := time.Duration(t.Minute()%15)*time.Minute + time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond())
	next := t.Add(quarter - into)
	if _, set := t.ZoneBounds(); !set.IsZero() && set.After(t) && set.Before(next) {
		return set
	}
	return next
}
