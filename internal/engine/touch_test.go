package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// listening is a session that counts what came in pages.
type listening struct {
	direct
	mu           sync.Mutex
	short, whole int
}

func (l *listening) Diff(ctx context.Context, req wire.DiffRequest) (wire.DiffPage, error) {
	page, err := l.direct.Diff(ctx, req)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.short += len(page.Touches)
	l.whole += len(page.Updates) - len(page.Touches)
	return page, err
}

func (l *listening) since() (short, whole int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	short, whole = l.short, l.whole
	l.short, l.whole = 0, 0
	return short, whole
}

// An update of nothing but the mtime comes short to whoever has what it replaced, and
// nobody is sent back what it made; where the receiver has made something else of the
// object it comes whole.
func TestTouchesComeShort(t *testing.T) {
	a, b := newMember(t, 1, true, 2), newMember(t, 2, false, 1)
	const files = 50
	name := func(i int) string { return fmt.Sprintf("file-%d", i) }
	for i := range files {
		a.write(name(i), fmt.Sprintf("content %d", i))
	}
	a.start()
	b.start()
	fromA, fromB := &listening{direct: direct{a.Runner}}, &listening{direct: direct{b.Runner}}
	a.SetUpstream(t.Context(), b.cfg.Self, fromB)
	b.SetUpstream(t.Context(), a.cfg.Self, fromA)
	settled(t, a, b)
	touch := func(m *testMember, at time.Time) {
		for i := range files {
			check(t, os.Chtimes(filepath.Join(m.root, name(i)), at, at))
		}
		settled(t, a, b)
		for _, m := range []*testMember{a, b} {
			for i := range files {
				st, err := os.Stat(filepath.Join(m.root, name(i)))
				check(t, err)
				if !st.ModTime().Equal(at) {
					t.Fatalf("%s has the mtime %v for %v", name(i), st.ModTime(), at)
				}
			}
		}
	}
	noon := time.Date(2026, 11, 22, 12, 0, 0, 5, time.UTC)
	for i, m := range []*testMember{a, b} { // the first questions of a session are asked otherwise
		touch(m, noon.Add(-time.Duration(i+1)*time.Hour))
	}
	fromA.since()
	fromB.since()
	touch(a, noon)
	if short, whole := fromA.since(); short < files*9/10 || whole > files/10 {
		t.Errorf("%d updates came short and %d whole", short, whole)
	}
	touch(b, noon.Add(time.Hour))
	if short, whole := fromB.since(); short < files*9/10 || whole > files/10 {
		t.Errorf("back %d updates came short and %d whole", short, whole)
	}
	if short, whole := fromA.since(); short+whole > 2 {
		t.Errorf("%d updates came back", short+whole)
	}
}

// What is remembered of touches is bounded, and nothing else is taken for one.
func TestTouchesAreRemembered(t *testing.T) {
	var known touches
	at := func(o byte, v uint64) version.GVSN {
		return version.GVSN{Originator: version.Originator{o}, Version: v}
	}
	for v := uint64(10); v < 20; v++ {
		known.add(at(1, v))
	}
	known.add(at(1, 30))
	known.add(at(1, 25)) // out of order
	for v, want := range map[uint64]bool{9: false, 10: true, 19: true, 20: false, 25: false, 29: false, 30: true, 31: false} {
		if known.has(at(1, v)) != want || known.has(at(2, v)) {
			t.Errorf("version %d is known: %v", v, !want)
		}
	}
	for v := range uint64(3 * maxTouchSpans) {
		known.add(at(3, 2*v+1))
	}
	if n := len(known.spans[at(3, 0).Originator]); n > maxTouchSpans || !known.has(at(3, 6*maxTouchSpans-1)) || known.has(at(3, 1)) {
		t.Errorf("%d spans are remembered", n)
	}
	for o := range byte(3 * repl.MaxHistory) {
		known.add(at(o+10, 1))
	}
	if n := len(known.spans); n > repl.MaxHistory {
		t.Errorf("of %d originators", n)
	}
}
