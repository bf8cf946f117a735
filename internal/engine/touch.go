package engine

import (
	"crypto/rand"
	"slices"
	"sync"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// maxTouchSpans bounds what is remembered of touches.
const maxTouchSpans = 1 << 15

// touches remembers which versions changed nothing but the mtime, so that partners
// that have what they replaced are sent them short. It is a guess: what it has
// forgotten, or has wrong, travels whole, if only then.
type touches struct {
	mu    sync.Mutex
	spans map[version.Originator][]version.Interval // ascending; guarded by mu
}

// add notes a version; only those that come in order are remembered.
func (t *touches) add(g version.GVSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.spans == nil {
		t.spans = make(map[version.Originator][]version.Interval)
	}
	s := t.spans[g.Originator]
	switch n := len(s); {
	case n > 0 && s[n-1].High >= g.Version:
		return
	case n > 0 && s[n-1].High == g.Version-1:
		s[n-1].High = g.Version
		return
	case n == maxTouchSpans:
		s = slices.Clone(s[n/2:])
	case n == 0 && len(t.spans) == repl.MaxHistory:
		clear(t.spans)
	}
	t.spans[g.Originator] = append(s, version.Interval{Low: g.Version - 1, High: g.Version})
}

func (t *touches) has(g version.GVSN) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.spans[g.Originator]
	i, found := slices.BinarySearchFunc(s, g.Version, func(iv version.Interval, v uint64) int {
		switch {
		case iv.High < v:
			return -1
		case iv.Low >= v:
			return 1
		}
		return 0
	})
	return found && s[i].High >= g.Version
}

// shorten makes touches short whose receiver has what they replaced.
func (s *Served) shorten(page *wire.DiffPage, req *wire.DiffRequest) {
	if !req.Touches {
		return
	}
	for i := range page.Updates {
		u := &page.Updates[i]
		if !u.Present || len(u.History) == 0 || !s.env.touches.has(u.GVSN) ||
			slices.ContainsFunc(u.History, func(g version.GVSN) bool { return !req.Vector.Contains(g) }) {
			continue
		}
		if len(page.Touches) == 0 {
			if _, err := rand.Read(page.Salt[:]); err != nil {
				panic("engine: no random numbers: " + err.Error())
			}
		}
		check, err := wire.CheckOf(page.Salt, u)
		if err != nil || check == 0 {
			continue
		}
		page.Touches = append(page.Touches, wire.Touch{At: i, Check: check})
		*u = wire.Short(u)
	}
}

// lengthen makes the updates of a page of what came short and the records here. One
// that does not come out right is kept out of what the diff joins, and asked for
// whole with the next: all that it replaced is in this member's vector.
func (f *Folder) lengthen(l *link, page *wire.DiffPage) []repl.Update {
	out, left := page.Updates[:0], page.Touches
	for i := range page.Updates {
		u := page.Updates[i]
		if len(left) > 0 && left[0].At == i {
			whole, ok := f.whole(&u, page.Salt, left[0].Check)
			left = left[1:]
			if !ok {
				l.diff.failed.Add(u.GVSN)
				l.long = true
				continue
			}
			u = whole
			f.touches.add(u.GVSN)
		}
		out = append(out, u)
	}
	return out
}

// whole is the update that came short, made of the record of its object as it is, or as
// plans under way make it.
func (f *Folder) whole(u *repl.Update, salt [16]byte, check uint64) (repl.Update, bool) {
	rec, ok, err := f.flight.Get(u.UID)
	if f.storeFailed(err) || !ok || !rec.Present || rec.NameConflict || rec.Provisional {
		return repl.Update{}, false
	}
	whole := rec.Update
	if rec.GVSN != u.GVSN {
		whole = repl.Touch(u.GVSN, &rec.Update, u.Mtime)
	}
	sum, err := wire.CheckOf(salt, &whole)
	return whole, err == nil && sum == check
}
