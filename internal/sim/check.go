package sim

import (
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"

	"opendfs/internal/engine"
	"opendfs/internal/finding"
	"opendfs/internal/journal"
	"opendfs/internal/repl"
	"opendfs/internal/sim/disk"
)

func gap(token uint64) engine.Event {
	return engine.Journaled{Batch: journal.Batch{Token: token, Gap: &journal.Gap{Reason: "asked by the checker", Planned: true}}}
}

// check applies every checker to a cluster at rest.
func (c *Cluster) check() error {
	for _, checker := range []func() error{c.vectorsEqual, c.recordsEqual, c.treesEqual, c.recordsTellTheDisk, c.nothingLost, c.nothingHalfDone, c.onlyUsersMint, c.secondsTold, c.deadStayDead} {
		if err := checker(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) vectorsEqual() error {
	want := c.members[0].env.Store.Vector()
	for _, m := range c.members[1:] {
		if got := m.env.Store.Vector(); !got.Equal(want) {
			return fmt.Errorf("vectors differ: m0 %v, m%d %v", want, m.index, got)
		}
	}
	return nil
}

func (c *Cluster) recordsEqual() error {
	want := byUID(allUpdates(c.members[0].env.Store))
	for _, m := range c.members[1:] {
		got := byUID(allUpdates(m.env.Store))
		for uid, u := range want {
			if v, ok := got[uid]; !ok && !c.collectedBy(m, &u) || ok && !sameUpdate(&u, &v) {
				return fmt.Errorf("record %v: m0 has %+v, m%d %+v", uid, u, m.index, v)
			}
		}
		for uid, u := range got {
			if _, ok := want[uid]; !ok && !c.collectedBy(c.members[0], &u) {
				return fmt.Errorf("record %v: m%d has %+v, m0 none", uid, m.index, u)
			}
		}
	}
	return nil
}

func sameUpdate(a, b *repl.Update) bool {
	x, y := *a, *b
	if len(x.Meta) == 0 {
		x.Meta = nil
	}
	if len(y.Meta) == 0 {
		y.Meta = nil
	}
	return reflect.DeepEqual(x, y)
}

func byUID(us []repl.Update) map[repl.UID]repl.Update {
	out := make(map[repl.UID]repl.Update, len(us))
	for _, u := range us {
		out[u.UID] = u
	}
	return out
}

// replicated is the part of a tree that members share.
func (m *Member) replicated() []disk.Node {
	tree := m.disk.Tree(false)
	var inner []string // roots of other folders
	for _, n := range tree {
		if root, is := strings.CutSuffix(n.Path, "/"+repl.PrivateName); is {
			inner = append(inner, root)
		}
	}
	return slices.DeleteFunc(m.kept(tree), func(n disk.Node) bool {
		return n.Type == repl.Other || m.secondAt(n.Path) != "" ||
			slices.ContainsFunc(inner, func(root string) bool { return strings.HasPrefix(n.Path+"/", root+"/") })
	})
}

// kept is what of a tree the member's filter lets be.
func (m *Member) kept(tree []disk.Node) []disk.Node {
	return slices.DeleteFunc(tree, func(n disk.Node) bool { return m.cfg.Filter.MatchPath(n.Path, n.Type == repl.Directory) })
}

// secondAt returns the path, or what of it leads to the topmost object, that lies
// beside another spelling of its name which is on record; "" if there is none.
func (m *Member) secondAt(path string) string {
	if !m.cfg.Insensitive {
		return ""
	}
	dir, at := repl.RootUID(folderID), ""
	for name := range strings.SplitSeq(path, "/") {
		at = strings.TrimPrefix(at+"/"+name, "/")
		rec, ok, err := m.env.Store.At(dir, name)
		if err != nil || !ok {
			return ""
		}
		if rec.Name != name {
			return at
		}
		dir = rec.UID
	}
	return ""
}

// secondsTold compares what lies on disks beside another spelling of its name
// with the findings.
func (c *Cluster) secondsTold() error {
	for _, m := range c.members {
		told := make(map[string]bool)
		for f := range m.found {
			if at, ok := strings.CutPrefix(f, string(finding.NameCollides)+" sim/folder:"); ok {
				told[at] = true
			}
		}
		for _, n := range m.disk.Tree(false) {
			if m.secondAt(n.Path) != n.Path || m.cfg.Filter.MatchPath(n.Path, n.Type == repl.Directory) {
				continue
			}
			if !told[n.Path] {
				return fmt.Errorf("m%d: %s is left alone and no finding tells", m.index, n.Path)
			}
			c.Count.Seconds++
			delete(told, n.Path)
		}
		for at := range told {
			return fmt.Errorf("m%d: the finding of %s stands and nothing lies there", m.index, at)
		}
	}
	return nil
}

func line(n *disk.Node) string {
	text := fmt.Sprintf("%s %v %q %o", n.Path, n.Type, n.Content, n.Mode)
	if n.Type == repl.File {
		text += fmt.Sprint(" ", n.Mtime)
	}
	return text
}

func (c *Cluster) treesEqual() error {
	first := c.members[0]
	for _, m := range c.members[1:] {
		want := lines(m.kept(first.replicated())) // what both replicate
		if got := lines(first.kept(m.replicated())); got != want {
			return fmt.Errorf("trees differ:\nm0\n%sm%d\n%s", c.brief(want), m.index, c.brief(got))
		}
	}
	return nil
}

func lines(nodes []disk.Node) string {
	var b strings.Builder
	for i := range nodes {
		b.WriteString("  " + line(&nodes[i]) + "\n")
	}
	return b.String()
}

// recordsTellTheDisk compares each live record with what lies at its place.
func (c *Cluster) recordsTellTheDisk() error {
	for _, m := range c.members {
		nodes := make(map[string]disk.Node)
		for _, n := range m.replicated() {
			nodes[n.Path] = n
		}
		for _, u := range allUpdates(m.env.Store) {
			rec, ok, err := m.env.Store.Get(u.UID)
			if err != nil || !ok {
				return fmt.Errorf("m%d record %v: %v", m.index, u.UID, err)
			}
			if !rec.Present || rec.Parent.IsZero() {
				continue
			}
			path, err := m.env.Store.Path(rec.UID)
			if err != nil {
				return fmt.Errorf("m%d path of %q: %w", m.index, rec.Name, err)
			}
			if hidden := m.cfg.Filter.MatchPath(path, rec.Type == repl.Directory); hidden || rec.Presence == repl.Hidden {
				if !hidden || rec.Presence != repl.Hidden {
					return fmt.Errorf("m%d record of %s is %v, kept out %v", m.index, path, rec.Presence, hidden)
				}
				c.Count.Hidden++
				continue
			}
			if _, waits := m.found[string(finding.ShownMissing)+" sim/folder"]; waits && (rec.Presence == repl.Obscured || rec.Presence == repl.Absent) {
				c.Count.Missing++
				continue
			}
			n, ok := nodes[path]
			if !ok || n.Identity != rec.Identity || rec.Type == repl.File && hashOf(n.Content) != rec.Content {
				return fmt.Errorf("m%d record of %s is %+v, disk has %+v", m.index, path, rec, n)
			}
			delete(nodes, path)
		}
		for path := range nodes {
			return fmt.Errorf("m%d: %s is on disk and on no record", m.index, path)
		}
	}
	return nil
}

// nothingLost looks for every content that no user has knowingly replaced.
func (c *Cluster) nothingLost() error {
	found := make(map[string]bool)
	for _, m := range c.members {
		for _, n := range m.disk.Tree(true) {
			found[n.Content] = true
		}
	}
	var lost []string
	for content, where := range c.shadow.written {
		if !c.shadow.replaced[content] && !found[content] {
			lost = append(lost, strings.TrimSuffix(content, c.tail)+" of "+where)
		}
	}
	if len(lost) > 0 {
		sort.Strings(lost)
		return fmt.Errorf("lost: %v", lost)
	}
	return nil
}

// onlyUsersMint looks for updates of members that have no users: where nobody
// works at two places whatever they made was made of what they had installed
// themselves. Only of an object that is dead already, and of which a partner
// lags behind to say so, they may find that it lost its name.
func (c *Cluster) onlyUsersMint() error {
	if !c.alone {
		return nil
	}
	for _, m := range c.members[1:] {
		own := m.env.Store.State().Originator
		for _, u := range allUpdates(m.env.Store) {
			if u.GVSN.Originator == own && !u.Parent.IsZero() && !u.NameConflict {
				return fmt.Errorf("m%d has no users and made %s", m.index, c.describe(&u))
			}
		}
	}
	return nil
}

// nothingHalfDone looks for intents, staged and displaced objects.
func (c *Cluster) nothingHalfDone() error {
	for _, m := range c.members {
		intents, err := m.env.Store.Intents()
		if err != nil || len(intents) > 0 {
			return fmt.Errorf("m%d has intents %+v, %v", m.index, intents, err)
		}
		for _, n := range m.disk.Tree(true) {
			kept := strings.HasPrefix(n.Path, ".dfsr/staging/sig-") || strings.HasPrefix(n.Path, ".dfsr/staging/part-")
			if strings.HasPrefix(n.Path, ".dfsr/installing/") || strings.HasPrefix(n.Path, ".dfsr/staging/") && !kept {
				return fmt.Errorf("m%d still has %s", m.index, n.Path)
			}
		}
	}
	return nil
}
