package engine

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// vectors is a session that counts the bytes of the vectors that travel, of a question
// and its answer.
type vectors struct {
	direct
	mu   sync.Mutex
	last int
}

func (v *vectors) Diff(ctx context.Context, req wire.DiffRequest) (wire.DiffPage, error) {
	asked := len(req.Vector.Append(nil))
	page, err := v.direct.Diff(ctx, req)
	if err == nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.last = asked + len(page.Vector.Append(nil))
	}
	return page, err
}

func (v *vectors) bytes() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

// TestRetiredOriginatorsAreLeftOut: a thousand databases were given up that both
// members cover alike. When they have told each other so, their vectors travel without.
func TestRetiredOriginatorsAreLeftOut(t *testing.T) {
	a, b := newMember(t, 1, true, 2), newMember(t, 2, false, 1)
	for _, m := range []*testMember{a, b} {
		m.cfg.TombstoneLifetime = 24 * time.Hour
		m.cfg.Members = []Member{{ID: a.cfg.Self, Server: "a"}, {ID: b.cfg.Self, Server: "b"}}
	}
	a.write("file", "content")
	a.start()
	b.start()
	connect(a, b)
	settled(t, a, b)
	var past []version.Originator
	for i := range 1000 {
		past = append(past, version.Originator{9, byte(i), byte(i >> 8)})
	}
	for _, m := range []*testMember{a, b} {
		check(t, m.env.Store.Put(&store.Batch{Join: closed(past...)}))
	}
	fromA := &vectors{direct: direct{a.Runner}}
	for _, up := range []Upstream{nil, fromA} {
		b.SetUpstream(t.Context(), a.cfg.Self, up)
	}
	a.SetUpstream(t.Context(), b.cfg.Self, nil)
	a.SetUpstream(t.Context(), b.cfg.Self, direct{b.Runner})
	last := 0
	for i := range 50 { // statements are exchanged beside it; each file is an answer
		a.write("file", fmt.Sprintf("content %d", i))
		settled(t, a, b)
		if last = fromA.bytes(); last > 0 && last < 500 {
			break
		}
	}
	s, err := b.Status(t.Context())
	check(t, err)
	whole := 2 * len(s.Vector.Append(nil))
	if whole < 2*1000*16 || last == 0 || last > 500 {
		t.Errorf("question and answer carry %d bytes of vectors, which are %d", last, whole)
	}
	if s.Retired != len(past) || !s.Vector.Covers(closed(past...)) {
		t.Errorf("%d are retired of %d", s.Retired, len(past))
	}
	t.Logf("vectors of a question and its answer: %d bytes whole, %d without what is retired", whole, last)
}
