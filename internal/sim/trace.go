package sim

import (
	"fmt"
	"strings"

	"opendfs/internal/engine"
	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// traceLimit bounds what is remembered of a run.
const traceLimit = 20000

func (c *Cluster) tracef(format string, args ...any) {
	if c.silent {
		return
	}
	if len(c.trace) > traceLimit {
		c.trace = c.trace[traceLimit/2:]
	}
	c.trace = append(c.trace, fmt.Sprintf(format, args...))
}

// Trace is what happened lately.
func (c *Cluster) Trace() string { return strings.Join(c.trace, "\n") }

// news notes what a member came to know since before. What is on record of one
// in Normal is promised; until then nothing is, all at once it is then.
func (m *Member) news(before version.Vector) {
	now, seen := m.env.Store.Vector(), before
	if !m.promises && m.folder.Phase() == wire.PhaseNormal {
		m.promises, before = true, nil
	}
	updates, _, _, err := m.env.Store.Updates(now.Minus(before), version.GVSN{}, 1<<20)
	if err != nil {
		panic(err)
	}
	if m.promises {
		m.c.shadow.promise(updates)
	}
	m.committed(updates, seen, now)
	if m.c.silent {
		return
	}
	for i := range updates {
		m.c.tracef("m%d   has %s", m.index, m.c.describe(&updates[i]))
	}
}

func (m *Member) traceAction(a engine.Action) {
	if m.c.silent {
		return
	}
	if s, ok := a.(fmt.Stringer); ok {
		m.c.tracef("m%d %s", m.index, s)
		return
	}
	m.c.tracef("m%d %s", m.index, strings.TrimPrefix(fmt.Sprintf("%T", a), "*engine."))
}

func shortGVSN(g version.GVSN) string { return fmt.Sprintf("%x-v%d", g.Originator[:2], g.Version) }

// describe is an update for people.
func (c *Cluster) describe(u *repl.Update) string {
	text := fmt.Sprintf("%s of %s %q in %s", shortGVSN(u.GVSN), shortGVSN(version.GVSN(u.UID)), u.Name, shortGVSN(version.GVSN(u.Parent)))
	switch {
	case !u.Heir.IsZero():
		text += " merged into " + shortGVSN(version.GVSN(u.Heir))
	case u.NameConflict:
		text += " lost its name"
	case !u.Present:
		text += " deleted"
	case u.Type == repl.File:
		text += " " + c.contentOf(u.Content)
	default:
		text += " " + u.Type.String()
	}
	text += fmt.Sprintf(" mtime %d meta %.4s saw", u.Mtime%1e12, hashOf(string(u.Meta)))
	for _, g := range u.History {
		text += " " + shortGVSN(g)
	}
	return text
}

func (c *Cluster) contentOf(h repl.Hash) string {
	for content := range c.shadow.written {
		if hashOf(content) == h {
			return strings.TrimSuffix(content, c.tail)
		}
	}
	return "hash " + h.String()[:8]
}

// Picture is every member's tree and records.
func (c *Cluster) Picture() string {
	var b strings.Builder
	for _, m := range c.members {
		fmt.Fprintf(&b, "m%d\n", m.index)
		for _, n := range m.disk.Tree(true) {
			if !strings.HasSuffix(n.Path, ".json") && !strings.Contains(n.Path, "/staging/") {
				n.Content = strings.TrimSuffix(n.Content, c.tail)
				fmt.Fprintf(&b, "  %s\n", line(&n))
			}
		}
		if m.folder == nil {
			continue
		}
		for _, u := range allUpdates(m.env.Store) {
			rec, _, err := m.env.Store.Get(u.UID)
			fmt.Fprintf(&b, "  record %s %v %v\n", c.describe(&u), rec.Presence, err)
		}
	}
	return b.String()
}
