package sim

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A member whose names collide stays case-sensitive when the domain says
// otherwise, goes on replicating, and folds names when they no longer do, without
// a restart; so does one that was restarted with names of its own.
func TestCollisionsPutFoldingOff(t *testing.T) {
	c, m0, m1, must := pair(t, 7)
	c.names = spellings
	for _, name := range []string{"a", "A", "b"} {
		must(c.userWrite(m0, name))
	}
	m0.disk.SyncAll()
	must(m0.Start())
	must(m1.Start())
	must(c.Rest())
	for _, m := range c.members {
		must(m.stop())
		m.cfg.Insensitive = true
		must(m.Start())
	}
	must(c.settle())
	for _, m := range c.members {
		if m.env.Store.State().Folds || !strings.Contains(m.found["case-refused sim/folder"], `"A" and "a"`) {
			t.Fatalf("m%d folds names: %v, %v", m.index, m.env.Store.State().Folds, m.found)
		}
	}
	must(c.userWrite(m1, "B"))
	must(c.settle())
	if text, err := m0.disk.User().Read("B"); err != nil || len(text) == 0 {
		t.Errorf("what is new on a member that was refused does not replicate: %v", err)
	}
	must(errors.Join(c.userRemove(m1, "A"), c.userRemove(m0, "b")))
	must(c.settle())
	c.pass(2 * time.Hour)
	must(c.Rest())
	for _, m := range c.members {
		if !m.env.Store.State().Folds || m.found["case-refused sim/folder"] != "" {
			t.Errorf("m%d does not fold names: %v", m.index, m.found)
		}
	}
	must(c.userWrite(m0, "A")) // beside a
	must(c.Rest())
	if c.Count.Seconds == 0 {
		t.Error("a second spelling is not left alone")
	}
}

// One member folds names before the other can: what collides there is a name
// conflict, by the law, and both come to rest.
func TestOneMemberFoldsFirst(t *testing.T) {
	c, m0, m1, must := pair(t, 8)
	must(m0.Start())
	must(m1.Start())
	must(c.Rest())
	c.toggle(0, 1)
	for _, name := range []string{"a", "A"} {
		must(c.userWrite(m1, name))
	}
	must(c.settle())
	for _, m := range c.members {
		must(m.stop())
		m.cfg.Insensitive = true
		must(m.Start())
	}
	must(c.settle())
	if !m0.env.Store.State().Folds || m1.env.Store.State().Folds {
		t.Fatal("m0 was to fold names, m1 to be refused")
	}
	c.toggle(0, 1)
	must(c.settle())
	c.pass(2 * time.Hour)
	must(c.Rest())
	if !m1.env.Store.State().Folds {
		t.Errorf("m1 does not fold names: %v", m1.found)
	}
	if live := lines(m0.replicated()); strings.Count(live, "\n") != 1 {
		t.Errorf("left are\n%s", live)
	}
}
