package schedule

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func parse(t testing.TB, text string) *Schedule {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The text form: what is written, and what it is written back as.
func TestText(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"mon-fri 08:00-18:00 512kbps; sat,sun full; else closed", "mon-fri 08:00-18:00 512kbps; sat,sun full; else closed"},
		{"full", "daily full"},
		{"else 8mbps", "daily 8mbps"},
		{"utc; daily closed", "utc; daily closed"},
		{"local; 22:00-06:00 full", "00:00-06:00,22:00-24:00 full; else closed"},
		{"fri 22:00-06:00 full", "fri 22:00-24:00 full; sat 00:00-06:00 full; else closed"},
		{"sat 22:00-06:00 64kbps; else full", "sat 22:00-24:00 64kbps; sun 00:00-06:00 64kbps; else full"},
		{"sat-mon 1mbps; else 2mbps", "mon,sat,sun 1mbps; else 2mbps"},
		{" mon  00:00-24:00   1000kbps ;; else full ; ", "mon 1mbps; else full"},
		{"mon 08:00-09:00 closed; daily 08:00-10:00 96kbps; else full", "mon 08:00-09:00 closed; mon 09:00-10:00 96kbps; tue-sun 08:00-10:00 96kbps; else full"},
		{"12:00-12:00 full", "daily full"},
	} {
		if got := parse(t, c.text).String(); got != c.want {
			t.Errorf("%q is written %q, want %q", c.text, got, c.want)
		}
	}
}

// What is wrong is named with its clause and the remedy.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "names no rate",
		"; ;":                            "names no rate",
		"utc":                            "names no rate",
		"mon-fri 08:00-18:00":            "neither",
		"mon full; utc; local":           "the clock is named twice",
		"else full; else closed":         "a second else",
		"mon-fry full":                   "names no days",
		"Mon full":                       "names no days",
		"mon 08:10-09:00 full":           "no span of quarter hours",
		"mon 24:00-24:00 full":           "no span of quarter hours",
		"mon 8:00-9:00 full":             "no span of quarter hours",
		"mon 08:00-09:00 tue full":       "is too much",
		"mon 512":                        "rate \"512\"",
		"mon 0kbps":                      "it is not from",
		"mon 999999999gbps":              "it is not from",
		"mon +5kbps":                     "rate \"+5kbps\"",
		strings.Repeat("mon full;", 999): "clauses",
	} {
		want = strings.ReplaceAll(want, "neither", "not closed, full")
		if s, err := Parse(text); err == nil {
			t.Errorf("%.40q is read as %v", text, s)
		} else if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "; ") {
			t.Errorf("%.40q: %v; want %q and a remedy", text, err, want)
		}
	}
}

// any draws weeks that look like those of people, and some that do not.
func anyWeek(t *rapid.T) *Schedule {
	s := &Schedule{utc: rapid.Bool().Draw(t, "utc")}
	rates := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(Levels[:]), rapid.Custom(func(t *rapid.T) Rate {
		return Rate(rapid.Int64Range(int64(Least), int64(Most)).Draw(t, "rate"))
	})), 1, 4).Draw(t, "rates")
	for range rapid.IntRange(0, 20).Draw(t, "spans") {
		from := rapid.IntRange(0, slots-1).Draw(t, "from")
		r := rapid.SampledFrom(rates).Draw(t, "which")
		for i := range rapid.IntRange(1, 200).Draw(t, "long") {
			s.week[(from+i)%slots] = r
		}
	}
	return s
}

// Text and week determine each other; the blob keeps every level.
func TestForms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyWeek(t)
		again, err := Parse(s.String())
		if err != nil || *again != *s {
			t.Fatalf("%q reads as %v, %v", s, again, err)
		}
		b, exact := s.Blob()
		back, err := FromBlob(b, s.utc)
		if err != nil {
			t.Fatal(err)
		}
		if exact != (*back == *s) {
			t.Fatalf("%q: exact %v, and comes back as %q", s, exact, back)
		}
		for i, r := range back.week {
			if (r == Closed) != (s.week[i] == Closed) || r > s.week[i] && r != Levels[1] {
				t.Fatalf("quarter %d of %v becomes %v", i, s.week[i], r)
			}
		}
	})
}

// The blob of the documents: Sunday first, the earlier quarter in the high nibble.
func TestBlob(t *testing.T) {
	b, exact := parse(t, "sun 00:00-00:15 16kbps; sun 00:15-00:30 64kbps; mon 00:00-01:00 256mbps; sat 23:45-24:00 full").Blob()
	if !exact || len(b) != BlobSize || b[0] != 0x12 || b[1] != 0 || b[48] != 0xEE || b[49] != 0xEE || b[335] != 0x0F {
		t.Errorf("blob %x, exact %v", b, exact)
	}
	if _, err := FromBlob(b[:335], false); err == nil {
		t.Error("335 bytes are read")
	}
	if full, _ := (*Schedule)(nil).Blob(); !bytes.Equal(full, bytes.Repeat([]byte{0xFF}, BlobSize)) {
		t.Errorf("no schedule is %x", full)
	}
}

// What At says holds until the instant that it names, and not a moment longer:
// minute for minute, over weeks with both nights in which the clocks are set.
func TestAt(t *testing.T) {
	zones := []*time.Location{time.UTC, zone(t, "Europe/Berlin"), zone(t, "Australia/Lord_Howe"), zone(t, "Asia/Kathmandu"), zone(t, "America/New_York")}
	starts := []time.Time{
		time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 4, 3, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 7, 0, 0, 0, 0, time.UTC),
	}
	rapid.Check(t, func(t *rapid.T) {
		s := anyWeek(t)
		l := rapid.SampledFrom(zones).Draw(t, "zone")
		at := rapid.SampledFrom(starts).Draw(t, "start")
		end := at.Add(48 * time.Hour)
		for at.Before(end) {
			r, until := s.At(at, l)
			last := until
			if until.IsZero() || until.After(end) {
				last = end
			}
			for ; at.Before(last); at = at.Add(time.Minute) {
				if got := s.at(at, l); got != r {
					t.Fatalf("%q in %v: %v at %v, said to be %v until %v", s, l, got, at, r, until)
				}
			}
			if got := s.at(at, l); !until.IsZero() && at.Equal(until) && got == r {
				t.Fatalf("%q in %v: still %v at %v", s, l, r, at)
			}
		}
	})
}

// minutes counts how long each rate holds in a span of time.
func minutes(s *Schedule, l *time.Location, from, to time.Time) map[Rate]int {
	m := make(map[Rate]int)
	for at := from; at.Before(to); at = at.Add(time.Minute) {
		m[s.at(at, l)]++
	}
	return m
}

// A day of 24 hours, and the nights in which clocks are set: what lies in the
// hour that is skipped never comes, what lies in the one that is repeated comes
// twice, and UTC knows neither.
func TestNightsOfClockChange(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	s := parse(t, "02:00-03:00 64kbps; 03:00-04:00 1mbps; else closed")
	day := func(d time.Time) (time.Time, time.Time) {
		return time.Date(d.Year(), d.Month(), d.Day(), 0, 0, 0, 0, berlin), time.Date(d.Year(), d.Month(), d.Day()+1, 0, 0, 0, 0, berlin)
	}
	for _, c := range []struct {
		name             string
		day              time.Time
		slow, fast, shut int // minutes
	}{
		{"an ordinary day", time.Date(2026, 6, 14, 0, 0, 0, 0, berlin), 60, 60, 22 * 60},
		{"clocks forward", time.Date(2026, 3, 29, 0, 0, 0, 0, berlin), 0, 60, 22 * 60},
		{"clocks back", time.Date(2026, 10, 25, 0, 0, 0, 0, berlin), 120, 60, 22 * 60},
	} {
		from, to := day(c.day)
		got := minutes(s, berlin, from, to)
		if got[64*kbps] != c.slow || got[mbps] != c.fast || got[Closed] != c.shut {
			t.Errorf("%s: %d minutes slow, %d fast, %d closed; want %d, %d, %d", c.name, got[64*kbps], got[mbps], got[Closed], c.slow, c.fast, c.shut)
		}
		utc := minutes(s.InUTC(true), berlin, from.UTC().Truncate(24*time.Hour), from.UTC().Truncate(24*time.Hour).Add(24*time.Hour))
		if utc[64*kbps] != 60 || utc[mbps] != 60 {
			t.Errorf("%s: in UTC %d and %d minutes", c.name, utc[64*kbps], utc[mbps])
		}
	}
	// The night of the skip, change by change.
	at, want := time.Date(2026, 3, 29, 0, 0, 0, 0, berlin), []string{"2026-03-29 03:00 +0200 1mbps", "2026-03-29 04:00 +0200 closed", "2026-03-30 02:00 +0200 64kbps"}
	for _, w := range want {
		_, at = s.At(at, berlin)
		r, _ := s.At(at, berlin)
		if got := at.In(berlin).Format("2006-01-02 15:04 -0700 ") + r.String(); got != w {
			t.Errorf("next change %s, want %s", got, w)
		}
	}
	// What differs only within the skipped hour still comes, a week later.
	rare := parse(t, "sun 02:30-02:45 full; else closed")
	if _, next := rare.At(time.Date(2026, 3, 28, 12, 0, 0, 0, berlin), berlin); !next.Equal(time.Date(2026, 4, 5, 2, 30, 0, 0, berlin)) {
		t.Errorf("the skipped quarter comes next at %v", next)
	}
}

// A schedule that never changes says so, and none is always open.
func TestUniform(t *testing.T) {
	for _, c := range []struct {
		s    *Schedule
		want Rate
	}{{nil, Full}, {Uniform(Closed), Closed}, {parse(t, "utc; 8mbps"), 8 * mbps}} {
		if r, next := c.s.At(time.Unix(1e9, 0), time.UTC); r != c.want || !next.IsZero() {
			t.Errorf("%v: %v until %v", c.s, r, next)
		}
	}
	if !(*Schedule)(nil).AlwaysOpen() || !Uniform(Closed).NeverOpen() || Uniform(mbps).AlwaysOpen() {
		t.Error("what is always open or never is not told")
	}
	if !Uniform(Full).Equal(nil) || !Uniform(mbps).Equal(Uniform(mbps).InUTC(true)) || parse(t, "mon full").Equal(parse(t, "utc; mon full")) {
		t.Error("equality")
	}
}

// Whatever is read is written so that it reads the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"mon-fri 08:00-18:00 512kbps; sat,sun full; else closed", "utc; 22:00-06:00 full", "sat-mon 1mbps", "else 8mbps", "a;b;c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(s.String())
		if err != nil || *again != *s {
			t.Errorf("%q is written %q and reads as %v, %v", text, s, again, err)
		}
	})
}

// Every blob reads, and is written as it was.
func FuzzBlob(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	seed := make([]byte, BlobSize)
	for i := range seed {
		seed[i] = byte(r.Uint32())
	}
	f.Add(seed, true)
	f.Add([]byte{1}, false)
	f.Fuzz(func(t *testing.T, b []byte, utc bool) {
		s, err := FromBlob(b, utc)
		if (err == nil) != (len(b) == BlobSize) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		if err != nil {
			return
		}
		if again, exact := s.Blob(); !exact || !bytes.Equal(again, b) {
			t.Errorf("%x comes back as %x", b, again)
		}
	})
}
