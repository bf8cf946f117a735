package schedule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxClauses bounds a text: more than one for every quarter says nothing more.
const maxClauses = slots + 2

var dayNames = [Days]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// weekOrder are the days as text names and draws them: Monday first.
var weekOrder = [Days]int{1, 2, 3, 4, 5, 6, 0}

// Parse reads the text form: clauses with ';' between them,
//
//	[DAYS] [HOURS] RATE        DAYS: mon-fri, sat,sun, daily   HOURS: 08:00-18:00, several with ','
//	else RATE                  for every quarter that no clause names; closed without it
//	utc  or  local             which clock; local without it
//
// A clause without days is for each day, one without hours for the whole day. Hours
// are whole quarters; an end that is not after the beginning is on the next day. Where
// clauses overlap the first one counts.
func Parse(text string) (*Schedule, error) {
	var p parser
	clauses := strings.Split(text, ";")
	if len(clauses) > maxClauses {
		return nil, fmt.Errorf("read schedule: %d clauses; %d are the most", len(clauses), maxClauses)
	}
	said := 0
	for _, c := range clauses {
		words := strings.Fields(c)
		if len(words) == 0 {
			continue
		}
		said++
		if err := p.clause(words); err != nil {
			return nil, err
		}
	}
	if said == 0 || !p.rates {
		return nil, fmt.Errorf("read schedule %q: it names no rate; write for example \"mon-fri 08:00-18:00 512kbps; else full\"", clip(text))
	}
	for i := range p.s.week {
		if !p.set[i] {
			p.s.week[i] = p.rest
		}
	}
	return &p.s, nil
}

type parser struct {
	s     Schedule
	set   [slots]bool
	rest  Rate
	zone  bool // utc or local was said
	other bool // else was said
	rates bool // some rate was said
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

func bad(words []string, what, remedy string) error {
	return fmt.Errorf("read schedule clause %q: %s; %s", clip(strings.Join(words, " ")), what, remedy)
}

func (p *parser) clause(words []string) error {
	if len(words) == 1 && (words[0] == "utc" || words[0] == "local") {
		if p.zone {
			return bad(words, "the clock is named twice", "keep one of the two")
		}
		p.zone, p.s.utc = true, words[0] == "utc"
		return nil
	}
	rate, err := ParseRate(words[len(words)-1])
	if err != nil {
		return bad(words, strings.TrimPrefix(strings.SplitN(err.Error(), "; ", 2)[0], "read "), "end it with closed, full or a rate such as 512kbps")
	}
	p.rates = true
	words, all := words[:len(words)-1], words
	if len(words) == 1 && words[0] == "else" {
		if p.other {
			return bad(all, "a second else", "keep one of the two")
		}
		p.other, p.rest = true, rate
		return nil
	}
	days, hours := allDays, [][2]int{{0, Quarters}}
	if len(words) > 0 && !strings.Contains(words[0], ":") {
		if days, err = parseDays(words[0]); err != nil {
			return bad(all, err.Error(), "write days as mon-fri or sat,sun or daily")
		}
		words = words[1:]
	}
	if len(words) > 0 {
		if hours, err = parseHours(words[0]); err != nil {
			return bad(all, err.Error(), "write hours as 08:00-18:00, in quarter hours")
		}
		words = words[1:]
	}
	if len(words) > 0 {
		return bad(all, fmt.Sprintf("%q is too much", clip(words[0])), "write DAYS HOURS RATE, lists with ',' and without spaces")
	}
	p.fill(days, hours, rate)
	return nil
}

func (p *parser) fill(days [Days]bool, hours [][2]int, rate Rate) {
	for d := range Days {
		if !days[d] {
			continue
		}
		for _, h := range hours {
			for q := h[0]; q < h[1]; q++ {
				if i := (d*Quarters + q) % slots; !p.set[i] {
					p.set[i], p.s.week[i] = true, rate
				}
			}
		}
	}
}

var allDays = [Days]bool{true, true, true, true, true, true, true}

func parseDays(s string) ([Days]bool, error) {
	var days [Days]bool
	if s == "daily" {
		return allDays, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, span := strings.Cut(part, "-")
		if !span {
			to = from
		}
		a, b := slices.Index(dayNames[:], from), slices.Index(dayNames[:], to)
		if a < 0 || b < 0 {
			return days, fmt.Errorf("%q names no days", clip(part))
		}
		for d := a; ; d = (d + 1) % Days {
			days[d] = true
			if d == b {
				break
			}
		}
	}
	return days, nil
}

// parseHours gives quarters from and behind, counted from the day's beginning.
func parseHours(s string) ([][2]int, error) {
	var out [][2]int
	for part := range strings.SplitSeq(s, ",") {
		from, to, _ := strings.Cut(part, "-")
		a, ok1 := parseTime(from)
		b, ok2 := parseTime(to)
		if !ok1 || !ok2 || a == Quarters {
			return nil, fmt.Errorf("%q is no span of quarter hours", clip(part))
		}
		if b <= a {
			b += Quarters
		}
		out = append(out, [2]int{a, b})
	}
	return out, nil
}

func parseTime(s string) (int, bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	h, err1 := strconv.ParseUint(s[:2], 10, 8)
	m, err2 := strconv.ParseUint(s[3:], 10, 8)
	q := int(h)*4 + int(m)/15
	return q, err1 == nil && err2 == nil && m < 60 && m%15 == 0 && q <= Quarters
}

// String gives the text form: the shortest that this package writes. Days that are
// alike share their clauses, and the rate of the most quarters is the else.
func (s *Schedule) String() string {
	s = s.orOpen()
	var clauses []string
	if s.utc {
		clauses = append(clauses, "utc")
	}
	if r, ok := s.uniform(); ok {
		return strings.Join(append(clauses, "daily "+r.String()), "; ")
	}
	rest := s.commonest()
	done := [Days]bool{}
	for _, d := range weekOrder {
		if done[d] {
			continue
		}
		alike := [Days]bool{}
		for e := range Days {
			alike[e] = s.day(e) == s.day(d)
			done[e] = done[e] || alike[e]
		}
		clauses = append(clauses, s.dayText(d, alike, rest)...)
	}
	return strings.Join(append(clauses, "else "+rest.String()), "; ")
}

func (s *Schedule) day(d int) [Quarters]Rate { return [Quarters]Rate(s.week[d*Quarters:]) }

// commonest is the rate of the most quarters, the lowest of several.
func (s *Schedule) commonest() Rate {
	count := make(map[Rate]int)
	best := s.week[0]
	for _, r := range s.week {
		count[r]++
	}
	for r, n := range count {
		if n > count[best] || n == count[best] && r < best {
			best = r
		}
	}
	return best
}

// dayText gives the clauses of days that are alike, one for each rate but rest.
func (s *Schedule) dayText(d int, alike [Days]bool, rest Rate) []string {
	day := s.day(d)
	var order []Rate
	spans := make(map[Rate][]string)
	for q := 0; q < Quarters; {
		from := q
		for q < Quarters && day[q] == day[from] {
			q++
		}
		r := day[from]
		if r == rest {
			continue
		}
		if spans[r] == nil {
			order = append(order, r)
		}
		spans[r] = append(spans[r], clock(from)+"-"+clock(q))
	}
	prefix := ""
	if alike != allDays {
		prefix = daysText(alike) + " "
	}
	var out []string
	for _, r := range order {
		hours := strings.Join(spans[r], ",") + " "
		if hours == "00:00-24:00 " {
			hours = ""
		}
		out = append(out, prefix+hours+r.String())
	}
	return out
}

func clock(q int) string { return fmt.Sprintf("%02d:%02d", q/4, q%4*15) }

// daysText names days from Monday on; three and more in a row are a span.
func daysText(days [Days]bool) string {
	var parts []string
	for i := 0; i < Days; i++ {
		from := i
		for i < Days && days[weekOrder[i]] {
			i++
		}
		switch n := i - from; {
		case n == 0:
		case n <= 2:
			for _, d := range weekOrder[from:i] {
				parts = append(parts, dayNames[d])
			}
		default:
			parts = append(parts, dayNames[weekOrder[from]]+"-"+dayNames[weekOrder[i-1]])
		}
	}
	return strings.Join(parts, ",")
}
