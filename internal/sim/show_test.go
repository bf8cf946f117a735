package sim

import (
	"errors"
	"testing"
	"time"

	"opendfs/internal/filter"
)

// What a filter no longer hides comes back even while another directory cannot be
// looked into, and what lies there when it can be.
func TestWhatCannotBeLookedAtHoldsUpNothing(t *testing.T) {
	c, m0, m1, must := pair(t, 11)
	refilter := func(rules filter.Rules) {
		t.Helper()
		set, err := filter.New(rules)
		must(err)
		must(errors.Join(m0.refilter(set), m1.refilter(set), c.settle()))
	}
	must(m0.Start())
	must(m1.Start())
	must(c.Rest())
	must(errors.Join(m1.disk.User().Mkdir("d"), c.userWrite(m1, "d/a.iso"), c.userWrite(m1, "b.iso")))
	must(c.Rest())
	refilter(filter.Rules{Files: []string{"*.iso"}})
	u := m0.disk.User()
	must(errors.Join(u.Remove("d/a.iso"), u.Remove("b.iso"), u.Mount("d")))
	must(c.settle())
	refilter(filter.Rules{})
	c.pass(time.Hour)
	must(c.settle())
	if _, err := u.Read("b.iso"); err != nil {
		t.Errorf("a file beside a directory that cannot be looked into does not come back: %v", err)
	}
	must(u.Unmount("d"))
	c.pass(2 * time.Hour)
	must(c.Rest())
	if _, err := u.Read("d/a.iso"); err != nil {
		t.Errorf("the file in it does not come back: %v", err)
	}
}
