package directory

import (
	"fmt"
	"io"
)

// Complete gives a copy of the domain in which every object has an id. An
// object without one is the object of the same name in prior, if that one's id
// is not given to another object here; else it is new, and an id is drawn from
// rand. The only error is that of rand.
func (d *Domain) Complete(prior *Domain, rand io.Reader) (*Domain, error) {
	if prior == nil {
		prior = &Domain{}
	}
	c := completer{taken: make(map[UUID]bool), rand: rand}
	d = d.Clone()
	d.objects(func(_ string, id *UUID) { c.taken[*id] = true })
	c.fill(&d.ID, prior.ID)
	for _, s := range d.Servers {
		c.fill(&s.ID, idOf(prior.ServerByName(s.Name)))
	}
	for _, a := range d.Admins {
		if old := prior.AdminByName(a.Name); old != nil {
			c.fill(&a.ID, old.ID)
		} else {
			c.fill(&a.ID, UUID{})
		}
	}
	for _, g := range d.Groups {
		og := prior.group(g.ID, g.Name)
		c.fill(&g.ID, og.ID)
		for _, f := range g.Folders {
			of := og.folder(f.ID, f.Name)
			c.fill(&f.ID, of.ID)
			for _, m := range f.Members {
				c.fill(&m.ID, of.membershipOf(prior, d.ServerByName(m.Server)).ID)
			}
		}
	}
	if c.err != nil {
		return nil, fmt.Errorf("complete domain %q: %w", d.Name, c.err)
	}
	return d, nil
}

type completer struct {
	taken map[UUID]bool
	rand  io.Reader
	err   error
}

func (c *completer) fill(id *UUID, old UUID) {
	if !id.IsZero() || c.err != nil {
		return
	}
	*id = old
	for id.IsZero() || c.taken[*id] {
		if *id, c.err = NewUUID(c.rand); c.err != nil {
			return
		}
	}
	c.taken[*id] = true
}
