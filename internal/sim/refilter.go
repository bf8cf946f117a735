package sim

import (
	"errors"

	"opendfs/internal/engine"
	"opendfs/internal/filter"
	"opendfs/internal/wire"
)

// allNormal reports whether all members run by the same filter, and none is in its
// initial sync: docs/verification.md, known gaps.
func (c *Cluster) allNormal() bool {
	for _, m := range c.members {
		if m.folder == nil || m.cfg.Filter != c.filters[0] || m.folder.Phase() != wire.PhaseNormal {
			return false
		}
	}
	return true
}

// refilter gives a member another filter, as the domain says: as it runs, if it takes
// one, else it is started anew.
func (m *Member) refilter(set *filter.Set) error {
	if m.cfg.Filter == set {
		return nil
	}
	m.c.Count.Filters++
	if m.folder != nil && m.folder.MayRefilter() && !m.folder.Installing() {
		m.cfg.Filter = set
		m.c.Count.Live++
		m.c.tracef("m%d takes another filter", m.index)
		m.step(engine.SettingsAre{Settings: m.cfg.Settings, Filter: set})
		return nil
	}
	err := m.stop()
	m.cfg.Filter = set
	return errors.Join(err, m.Start())
}
