package engine

import (
	"context"
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// Who was woken because a folder may have news finds that it has ended.
func TestLastNewsIsThatAFolderHasEnded(t *testing.T) {
	m := newMember(t, 1, true)
	m.start()
	settled(t, m)
	go func() { _ = m.Close() }() // the cleanup closes it too, and looks at the error
	for c := m.Changed(); ; c = m.Changed() {
		if <-c; m.Changed() == c { // nobody makes another one any more
			break
		}
	}
	select {
	case <-m.Ended():
	default:
		t.Error("the last news came before the end")
	}
}

// A start whose partners change goes on under its originator only if all vouch for it
// that may have been given updates before: those that it had, and those that it hears
// of early. Who becomes a partner later has what it has from this start.
func TestPartnersOfAStart(t *testing.T) {
	vouch := func(m *testMember, n byte) {
		m.Heard(m.t.Context(), member(n), &wire.DiffRequest{Folder: m.cfg.Folder, Vector: m.env.Store.Vector()})
	}
	down := func(m *testMember, partners ...byte) {
		p := PartnersAre{}
		for _, n := range partners {
			p.Downstreams = append(p.Downstreams, member(n))
		}
		check(m.t, m.SetPartners(m.t.Context(), p))
	}
	for _, c := range []struct {
		name  string
		wait  time.Duration
		do    func(m *testMember)
		keeps bool
	}{
		{"all vouch", time.Minute, func(m *testMember) { vouch(m, 2) }, true},
		{"one that goes has not vouched", time.Second / 20, func(m *testMember) { down(m) }, false},
		{"one that comes early does not vouch", time.Second / 20, func(m *testMember) { vouch(m, 2); down(m, 2, 3) }, false},
		{"one that comes early vouches", time.Minute, func(m *testMember) { vouch(m, 2); down(m, 2, 3); vouch(m, 3) }, true},
		{"one comes late", time.Nanosecond, func(m *testMember) { vouch(m, 2); down(m, 2, 3) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMember(t, 1, true)
			m.start()
			m.write("first", "x")
			settled(t, m)
			check(t, m.Close())
			check(t, m.jrn.Close())
			m.cfg.Downstreams, m.cfg.VouchWait = []repl.MemberID{member(2)}, c.wait
			m.start()
			before := m.originator()
			c.do(m)
			m.write("second", "x")
			settled(t, m)
			if got := m.originator(); (got == before) != c.keeps {
				t.Errorf("originator %v, before %v", got, before)
			}
		})
	}
}

// A question that its partner has called off is looked at once more, perhaps, beside the newer one: it tells nothing again.
func TestAQuestionIsHeardOnce(t *testing.T) {
	m := newMember(t, 1, true)
	m.start()
	m.write("first", "x")
	settled(t, m)
	old := &wire.DiffRequest{Folder: m.cfg.Folder, Wait: true, Arrived: 1}
	young := &wire.DiffRequest{Folder: m.cfg.Folder, Wait: true, Vector: m.env.Store.Vector(), Arrived: 2}
	for _, q := range []*wire.DiffRequest{old, young, old} {
		m.Heard(t.Context(), member(2), q)
	}
	check(t, m.between(t.Context(), func(f *Folder) {
		if v := f.partner[member(2)]; !v.Covers(young.Vector) {
			t.Errorf("the partner is taken to know %v, and said %v last", v, young.Vector)
		}
	}))
}

func (m *testMember) originator() version.Originator {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	var o version.Originator
	check(m.t, m.between(ctx, func(f *Folder) { o = f.st.State().Originator }))
	return o
}
