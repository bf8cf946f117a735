package sim

import (
	"errors"
	"fmt"
	"slices"

	"opendfs/internal/engine"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// How a record rots.
const (
	rotLost    = iota // the record is gone
	rotOld            // it is an older version of the object
	rotContent        // it tells another content of the same version
	rotClock          // it tells another clock of the same version
	rots
)

// rotAtRest lets some records rot while nothing is under way. A wrong hash is found
// before users move the file and carry it on: docs/verification.md, known gaps.
func (c *Cluster) rotAtRest() error {
	defer func() { c.still = false }()
	if err := errors.Join(c.heal(), c.check()); err != nil {
		return fmt.Errorf("before records rot: %w", err)
	}
	c.rotUnread = false
	done := make(map[rotted]bool)
	for range 1 + c.rnd.IntN(3) {
		if err := c.rot(c.members[c.rnd.IntN(len(c.members))], done); err != nil {
			return err
		}
	}
	if c.rotUnread {
		return c.settle()
	}
	return nil
}

// rotted is a record of one member.
type rotted struct {
	member int
	uid    repl.UID
}

// rot lets a record of a member be lost or altered in its database: what no vector
// shows. It is one that all members have; a directory's would be missed at once. None
// rots in two ways before it is found: a version that never was, of a content that
// never was, is one that a read-only member can neither give nor take back. Nor does
// every record of an object where there is such a member.
func (c *Cluster) rot(m *Member, done map[rotted]bool) error {
	how := c.rnd.IntN(rots)
	all := allUpdates(m.env.Store)
	slices.SortFunc(all, func(a, b repl.Update) int { return a.UID.Compare(b.UID) })
	for range 8 {
		u := all[c.rnd.IntN(len(all))]
		if u.Type == repl.Directory || !c.hadByAll(&u) || done[rotted{m.index, u.UID}] || c.lastSound(m, u.UID, done) {
			continue
		}
		rec, ok, err := m.env.Store.Get(u.UID)
		if err != nil || !ok || rec.Present && rec.Presence != repl.OnDisk {
			continue
		}
		to := &rec
		switch how {
		case rotLost:
			to = nil
		case rotOld:
			old, ok := c.older(&u)
			if !ok {
				continue
			}
			rec.Update, rec.Print = old, repl.Print{Size: old.Size, Mtime: old.Mtime}
		case rotContent:
			if u.Type != repl.File || !u.Present {
				continue
			}
			rec.Content[m.index]++ // no two members the same way: that nobody could tell
			c.rotUnread = true
		case rotClock:
			rec.Clock += repl.Time(c.rnd.IntN(2_000_000) - 1_000_000)
		}
		c.Count.Rots[how]++
		c.rotAt = c.now
		c.rotten[u.UID], done[rotted{m.index, u.UID}] = true, true
		c.tracef("m%d has a record that rots: %s, %s", m.index, c.describe(&u), [...]string{"it is lost", "it is old", "another content", "another clock"}[how])
		return m.env.Store.Falsify(u.UID, to)
	}
	return nil
}

// lastSound reports whether a read-only member could find no other record of an object
// that has not rotted if this member's did.
func (c *Cluster) lastSound(m *Member, uid repl.UID, done map[rotted]bool) bool {
	readOnly := false
	for _, o := range c.members {
		if o != m && !done[rotted{o.index, uid}] {
			return false
		}
		readOnly = readOnly || o.cfg.ReadOnly
	}
	return readOnly
}

// hadByAll reports whether every member has this record.
func (c *Cluster) hadByAll(u *repl.Update) bool {
	for _, m := range c.members {
		rec, ok, err := m.env.Store.Get(u.UID)
		if err != nil || !ok || rec.GVSN != u.GVSN || rec.Provisional {
			return false
		}
	}
	return true
}

// older returns a version of an object that the record was before, at the same
// place.
func (c *Cluster) older(u *repl.Update) (repl.Update, bool) {
	var all []version.GVSN
	for g := range c.law.of[u.UID] {
		v := c.law.known[g]
		if v.Present && u.Present && v.Parent == u.Parent && v.Name == u.Name && repl.Compare(&v, u) < 0 {
			all = append(all, g)
		}
	}
	if len(all) == 0 {
		return repl.Update{}, false
	}
	slices.SortFunc(all, version.GVSN.Compare)
	return c.law.known[all[c.rnd.IntN(len(all))]], true
}

// compared reports whether every member has compared its records with every
// partner's since the last one rotted, and the last time found nothing.
func (c *Cluster) compared() bool {
	if c.rotAt == 0 {
		return true
	}
	for _, m := range c.members {
		for _, l := range m.folder.Status().Links {
			if l.SlowSync <= c.rotAt {
				return false
			}
		}
		for _, id := range m.cfg.Upstreams {
			if _, differ := m.found[string(finding.RecordsDiffer)+" sim/folder from "+id.String()]; differ {
				return false
			}
		}
	}
	return true
}

// compareSilently has every member compare its records with every partner's, at rest:
// where nothing has rotted it finds nothing.
func (c *Cluster) compareSilently() error {
	defer func(still bool) { c.still = still }(c.still)
	c.still = true
	was := c.now
	for _, m := range c.members {
		m.cfg.SlowSync = slowSyncEvery
		if err := errors.Join(m.stop(), m.Start()); err != nil {
			return err
		}
	}
	c.rotAt = was
	if err := c.settle(); err != nil {
		return err
	}
	for _, m := range c.members {
		s := m.folder.Stats()
		c.Count.Compared += int(s.Compared)
		if s.Differed > 0 {
			return errors.New("a slow sync at rest finds what differs")
		}
	}
	return c.check()
}

// idles reports whether the next event is none that anything need come of: time has
// passed, or a slow sync goes on.
func (m *Member) idles() bool {
	if len(m.events) == 0 {
		return false
	}
	return m.events[0] == engine.Event(engine.Tick{}) || fmt.Sprintf("%T", m.events[0]) == "engine.compared"
}

// slowSync reports whether an action is of a slow sync, of which there is no end.
func slowSync(a engine.Action) bool {
	_, ok := a.(*engine.Compare)
	return ok
}
