package finding

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
)

// DefaultLimit is how many findings of one code a Set holds when nothing else
// is said. A million unreadable files are one problem, not a million lines.
const DefaultLimit = 256

// maxText bounds, in bytes, the object and the detail of one finding: both may
// hold names that a peer or the tree chose.
const maxText = 8192

type key struct {
	code   Code
	object string
}

// Set holds the conditions that hold now. It is safe for concurrent use. The
// zero value is not usable; make one with NewSet.
type Set struct {
	limit int

	mu sync.Mutex
	// live has at most limit entries of one code.
	live map[key]Finding
	// count[c] is the number of entries of c in live; absent when none.
	count map[Code]int
	// refused[c] > 0 only while count[c] > 0.
	refused map[Code]uint64
}

// NewSet makes an empty set that holds at most perCode findings of one code;
// DefaultLimit when perCode is not positive.
func NewSet(perCode int) *Set {
	if perCode <= 0 {
		perCode = DefaultLimit
	}
	return &Set{
		limit:   perCode,
		live:    make(map[key]Finding),
		count:   make(map[Code]int),
		refused: make(map[Code]uint64),
	}
}

// Raise says that a condition holds. It is new, and deserves a log line, only
// when it was not raised already and there was room. When it was raised
// already the detail is replaced and the time stays. When the code has reached
// its limit nothing is stored and the overflow counter of the code moves.
//
// A code that kinds.go does not declare is a defect of the caller and panics.
func (s *Set) Raise(code Code, object, detail string, now time.Time) (f Finding, isNew bool) {
	k, ok := Lookup(code)
	if !ok {
		panic("finding: raise of undeclared code " + string(code))
	}
	object, detail = bound(object), bound(detail)

	s.mu.Lock()
	defer s.mu.Unlock()
	id := key{code, object}
	if f, ok := s.live[id]; ok {
		f.Detail = detail
		s.live[id] = f
		return f, false
	}
	f = Finding{
		Code: code, Severity: k.Severity, Object: object, Detail: detail,
		Since: now, Text: k.Text, Remedy: k.Remedy,
	}
	if s.count[code] >= s.limit {
		s.refused[code]++
		return f, false
	}
	s.live[id] = f
	s.count[code]++
	return f, true
}

// Clear says that a condition has ended. It returns the finding as it was and
// true when it was raised: that is the one time to log it.
func (s *Set) Clear(code Code, object string) (Finding, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removeLocked(key{code, bound(object)})
}

// within reports whether a condition is about an object, something in it
// ("projects/docs:a/b"), or it and somebody ("projects/docs from branch").
func (k key) within(object string) bool {
	rest, ok := strings.CutPrefix(k.object, object)
	return ok && (rest == "" || rest[0] == ':' || rest[0] == ' ')
}

// ClearObject ends every condition of the object and of whatever lies inside
// it ("projects/docs" takes "projects/docs:a/b" along), for an object that is
// gone or starts afresh. It returns what was cleared in the order of List.
func (s *Set) ClearObject(object string) []Finding {
	object = bound(object)
	return s.clearIf(func(k key) bool {
		return object == "" && k.object == "" || object != "" && k.within(object)
	})
}

// ClearCode ends every condition of the code on the object and inside it; an
// empty object means everywhere. It returns what was cleared in the order of
// List.
func (s *Set) ClearCode(code Code, object string) []Finding {
	object = bound(object)
	return s.clearIf(func(k key) bool {
		return k.code == code &&
			(object == "" || k.within(object))
	})
}

func (s *Set) clearIf(match func(key) bool) []Finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []Finding
	for k := range s.live {
		if !match(k) {
			continue
		}
		f, _ := s.removeLocked(k)
		gone = append(gone, f)
	}
	slices.SortFunc(gone, compare)
	return gone
}

func (s *Set) removeLocked(id key) (Finding, bool) {
	f, ok := s.live[id]
	if !ok {
		return Finding{}, false
	}
	delete(s.live, id)
	s.count[id.code]--
	if s.count[id.code] == 0 {
		delete(s.count, id.code)
		delete(s.refused, id.code)
	}
	return f, true
}

// List gives the findings that hold now, the worst first, then by code and
// object. The slice is the caller's.
func (s *Set) List() []Finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Finding, 0, len(s.live))
	for _, f := range s.live {
		list = append(list, f)
	}
	slices.SortFunc(list, compare)
	return list
}

// Overflow gives, for each code that reached its limit, how many raises were
// refused since the code was last without a finding. A condition that is
// raised again and again is counted each time: it is a sign, not a census. The
// map is the caller's.
func (s *Set) Overflow() map[Code]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := make(map[Code]uint64, len(s.refused))
	for c, n := range s.refused {
		m[c] = n
	}
	return m
}

// Worst is the highest severity that holds now, 0 when there is no finding.
func (s *Set) Worst() Severity {
	s.mu.Lock()
	defer s.mu.Unlock()
	var worst Severity
	for _, f := range s.live {
		worst = max(worst, f.Severity)
	}
	return worst
}

func compare(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(b.Severity, a.Severity),
		cmp.Compare(a.Code, b.Code),
		cmp.Compare(a.Object, b.Object),
	)
}

// bound cuts a text that is too long at a whole rune, and marks the cut.
func bound(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText-len("…")], "") + "…"
}
