package sim

import (
	"errors"

	"opendfs/internal/engine"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// restore lets an operator make what a member has at some place win, or give the
// tree up for a partner's.
func (c *Cluster) restore(m *Member) error {
	if m.folder.Phase() != wire.PhaseNormal || m.cfg.ReadOnly || c.alone && m.index > 0 {
		return nil
	}
	if c.rnd.IntN(2) > 0 || c.alone || m.index == 0 {
		path := c.someDirectory(m)
		if path == "" {
			path = "."
		}
		c.tracef("m%d makes %s win", m.index, path)
		m.events = append(m.events, engine.Authorize{Path: path})
		return nil
	}
	from := c.members[c.rnd.IntN(m.index)] // so that nobody follows in a ring
	if from.folder == nil || !from.complete() {
		return nil
	}
	return m.takeOver(from)
}

// complete reports whether a member has the content of all that it has on record,
// as an operator would look before taking its tree.
func (m *Member) complete() bool {
	if _, missing := m.found[string(finding.ShownMissing)+" sim/folder"]; missing || m.folder.Phase() != wire.PhaseNormal {
		return false
	}
	for _, u := range allUpdates(m.env.Store) {
		if rec, _, err := m.env.Store.Get(u.UID); err != nil || rec.Present && rec.Presence != repl.OnDisk && rec.Presence != repl.Hidden {
			return false
		}
	}
	return true
}

// takeOver drops a member's records and starts it anew, after another one's tree.
func (m *Member) takeOver(from *Member) error {
	m.c.Count.Replaced++
	m.c.tracef("m%d takes over the tree of m%d", m.index, from.index)
	err := m.stop()
	m.disk.SyncAll()
	m.cfg.Follow, m.promises = from.id, false
	return errors.Join(err, m.store.DropFolder(folderID), m.Start())
}
