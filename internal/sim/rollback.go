package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"opendfs/internal/engine"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/sim/disk"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// image is a backup of a member: its disk and its database of one moment.
type image struct {
	disk  *disk.Disk
	kv    *store.Memory
	epoch uint64 // of the marker
	at    repl.Time
	quiet bool // all that users had done was on record
}

// What of a member is put back.
const (
	rollStore = iota // the database, beside the present tree
	rollTree         // the tree, beside the present database
	rollBoth
	rollCopy // the database is another member's
	rollbacks
)

// maxImages is how many images of a member are kept.
const maxImages = 4

// past takes an image now and then, and now and then puts a member back to one:
// at any time, or with everything at rest, when not a name may come out different.
func (c *Cluster) past(m *Member) error {
	switch n := c.rnd.IntN(600); {
	case n < 20:
		m.takeImage()
	case n < 28:
		from, how := c.somePast(m)
		if from == nil {
			return nil
		}
		if c.rnd.IntN(2) == 0 || c.suspect != nil && c.suspect != m {
			return c.rollAtRest(m, from, how)
		}
		c.suspect = m
		c.leave(m)
		return m.roll(from, how)
	}
	return nil
}

// takeImage makes a backup of a member in Normal, which serves on.
func (m *Member) takeImage() {
	if m.folder.Phase() != wire.PhaseNormal {
		return
	}
	s := m.folder.Status()
	img := image{
		disk: m.disk.Snapshot(), kv: m.kv.Image(m.c.rnd.IntN(2) == 0), epoch: markedEpoch(m.disk), at: m.c.now,
		quiet: s.Settled() && len(m.events) == 0 && len(m.open) == 0,
	}
	if len(m.images) < maxImages {
		m.images = append(m.images, img)
	} else {
		m.images[m.c.rnd.IntN(maxImages)] = img
	}
	m.c.tracef("m%d is backed up in epoch %d", m.index, img.epoch)
}

// somePast draws what a member is put back to. The others are in Normal: where
// nobody has the present it cannot be had again.
func (c *Cluster) somePast(m *Member) (*image, int) {
	for _, other := range c.members {
		if other != m && (other.folder == nil || other.folder.Phase() != wire.PhaseNormal) {
			return nil, 0
		}
	}
	how, from := c.rnd.IntN(rollbacks), m
	if how == rollCopy {
		for from = m; from == m; {
			from = c.members[c.rnd.IntN(len(c.members))]
		}
	}
	if len(from.images) == 0 {
		return nil, 0
	}
	img := from.images[c.rnd.IntN(len(from.images))]
	return &img, how
}

// markedEpoch is the epoch in a tree's marker.
func markedEpoch(d *disk.Disk) uint64 {
	for _, n := range d.Tree(true) {
		if n.Path == ".dfsr/marker" {
			var marker struct{ Epoch uint64 }
			if err := json.Unmarshal([]byte(n.Content), &marker); err != nil {
				panic(err)
			}
			return marker.Epoch
		}
	}
	return 0
}

// leave ends a member one way or the other.
func (c *Cluster) leave(m *Member) {
	switch c.rnd.IntN(3) {
	case 0:
		m.kill()
	case 1:
		m.guard(func() { m.disk.Kill(); panic(crashed{m}) })
	default:
		if err := m.stop(); err != nil {
			c.law.broken = errors.Join(c.law.broken, err)
		}
	}
}

// roll puts a member that does not run back to an image. What only its tree held
// is gone, and no one's fault.
func (m *Member) roll(img *image, how int) error {
	c := m.c
	if how == rollTree {
		if present, err := m.ofPresent(img); err != nil || present {
			return err
		}
	}
	c.Count.Images[how]++
	c.tracef("m%d is put back to epoch %d: %s", m.index, img.epoch, [...]string{"its database", "its tree", "both", "the database of another"}[how])
	m.unmount()
	before := m.disk.Tree(true)
	if how == rollStore || how == rollBoth {
		// What was backed up later is no past of this member, but of one that is gone.
		m.images = slices.DeleteFunc(m.images, func(other image) bool { return other.at > img.at })
	}
	if how == rollTree || how == rollBoth {
		m.disk.Restore(img.disk)
		m.open = nil
	}
	if how != rollTree {
		m.kv = img.kv.Image(true)
	}
	c.shadow.rolledBack(m, before)
	m.revived = []version.GVSN{}
	return c.law.forget(c)
}

// ofPresent reports whether an image is of the epoch that the database is in. Its
// tree cannot be told from the present one: no longer than engine.Config.RemarkAfter,
// and only after a stop that was none in order.
func (m *Member) ofPresent(img *image) (bool, error) {
	f, err := recordsOf(m.kv, m.c)
	if err != nil {
		return false, err
	}
	st := f.State()
	return img.epoch == st.Epoch || !st.EpochSettled && img.epoch+1 == st.Epoch, nil
}

// past reports whether an image holds nothing but the past: no version that nobody
// knows any more, which was lost with another rollback, and nobody has replaced it;
// nor what a user had just done, if nothing that its member did since is known to
// others: it is done again.
func (img *image) past(c *Cluster, how int) (bool, error) {
	if how == rollTree || how == rollCopy {
		return true, nil
	}
	f, err := recordsOf(img.kv, c)
	if err != nil {
		return false, err
	}
	known, o := c.members[0].env.Store.Vector(), f.State().Originator
	proof := !f.Vector().Covers(version.Vector{o: known[o]})
	return known.Covers(f.Vector()) && (proof || img.quiet || how == rollStore), nil
}

// rollAtRest puts a member back while nobody works: every tree must then be what
// it was before.
func (c *Cluster) rollAtRest(m *Member, img *image, how int) error {
	defer func() { c.still = false }()
	if err := errors.Join(c.heal(), c.check()); err != nil {
		return fmt.Errorf("before a rollback: %w", err)
	}
	c.suspect = nil
	present := lines(m.replicated())
	past, err := img.past(c, how) // and none that nobody has the object of any more
	past = past && !slices.ContainsFunc(c.members, func(m *Member) bool { return m.found[string(finding.ShownMissing)+" sim/folder"] != "" })
	if err != nil {
		return err
	}
	c.leave(m)
	if err := m.roll(img, how); err != nil {
		return err
	}
	if err := errors.Join(c.heal(), c.check()); err != nil {
		return fmt.Errorf("after a rollback: %w", err)
	}
	if now := lines(m.replicated()); past && now != present {
		return fmt.Errorf("m%d was put back, and the past overwrote the present:\nbefore\n%safter\n%s", m.index, c.brief(present), c.brief(now))
	}
	return nil
}

// brief leaves out of a picture what all contents have in common.
func (c *Cluster) brief(text string) string {
	if c.tail == "" {
		return text
	}
	return strings.ReplaceAll(text, strings.Trim(strconv.Quote(c.tail), `"`), "")
}

// forget drops the member's records, as the keeper of cmd/dfs does when they are
// of another time or membership.
func (m *Member) forget() (*store.Folder, error) {
	m.promises = false
	m.c.Count.Anew++
	if err := m.store.DropFolder(folderID); err != nil {
		return nil, err
	}
	m.c.law.withdraw(m)
	m.c.tracef("m%d drops its records", m.index)
	m.had = make(map[repl.UID]repl.Update)
	st, err := m.store.Folder(folderID)
	return st, errors.Join(err, m.c.law.forget(m.c), m.c.unbury())
}

// rebuild starts a member anew whose records are of the past.
func (m *Member) rebuild() error {
	if strings.HasPrefix(m.found[string(finding.MemberStale)+" sim/folder"], "partner") {
		m.c.Count.Stale++
	}
	m.disk.Kill()
	m.folder, m.served, m.tasks, m.events = nil, nil, nil, nil
	m.c.connect()
	if _, err := m.forget(); err != nil {
		return err
	}
	return m.Start()
}

// remedy does what an administrator does about a tree that was restored or
// copied (docs/operations.md, "A tree restored whole"): a new membership, not the
// primary one, and no marker.
func (m *Member) remedy(why error) error {
	var marker *engine.MarkerError
	switch {
	case errors.Is(why, engine.ErrRebuild):
	case !m.c.restored || !errors.As(why, &marker):
		return why
	default:
		m.c.tracef("m%d does not start: %v", m.index, why)
		m.cfg.Primary = false
		if _, err := m.c.Read(m.cfg.Membership[:]); err != nil {
			return err
		}
		if err := m.disk.User().Remove(".dfsr/marker"); err != nil && marker.Code != "folder-marker-missing" {
			return err
		}
	}
	m.disk.Kill()
	if _, err := m.forget(); err != nil {
		return err
	}
	return m.start()
}

// rolledBack excuses the loss of what nothing but the member's disk held. Of what
// its conflict store alone held before, the tree of an image may show again what
// that one had been kept for: an early version, which gives way to the present
// one that had replaced it knowingly since, and is kept by nothing any more.
func (s *shadow) rolledBack(m *Member, before []disk.Node) {
	inTree := func(n disk.Node) bool { return !strings.HasPrefix(n.Path, repl.PrivateName+"/") }
	left, lived := make(map[string]bool), make(map[string]bool)
	for _, n := range before {
		lived[n.Content] = lived[n.Content] || inTree(n)
	}
	for _, other := range m.c.members {
		for _, n := range other.disk.Tree(true) {
			left[n.Content] = left[n.Content] || other != m || lived[n.Content] || !inTree(n)
		}
	}
	for i := range before {
		if content := before[i].Content; !left[content] {
			m.c.gone(content)
		}
	}
}

// forget lets go of versions that nobody knows any more: the database that made
// them is of before.
func (l *law) forget(c *Cluster) error {
	all, err := c.allKnown()
	if err != nil {
		return err
	}
	for g, u := range l.known {
		if all.Contains(g) {
			continue
		}
		if last, ok := l.last[u.UID]; !ok || repl.Compare(&last, &u) < 0 {
			l.last[u.UID] = u
		}
		delete(l.known, g)
		delete(l.of[u.UID], g)
		if len(l.of[u.UID]) == 0 {
			delete(l.of, u.UID)
			delete(l.types, u.UID)
		}
	}
	for o, by := range l.by {
		left := by[:0]
		for _, g := range by {
			if _, ok := l.known[g]; ok {
				left = append(left, g)
			}
		}
		l.by[o] = left
	}
	return nil
}

// withdraw lets go of versions that only this member ever had on record, since it
// was put back: others know of them that they had come to nothing.
func (l *law) withdraw(m *Member) {
	for _, g := range m.revived {
		u := l.known[g]
		had := slices.ContainsFunc(m.c.members, func(o *Member) bool { return o != m && o.had[u.UID].GVSN == g })
		if !had {
			delete(l.known, g)
			delete(l.of[u.UID], g)
		}
	}
	m.revived = nil
}

// allKnown is what any member knows.
func (c *Cluster) allKnown() (all version.Vector, err error) {
	for _, m := range c.members {
		known, err := m.durableVector()
		if err != nil {
			return nil, err
		}
		all = all.Union(known)
	}
	return all, nil
}

// durableVector is what a member knows, or will when it starts.
func (m *Member) durableVector() (version.Vector, error) {
	if m.folder != nil {
		return m.env.Store.Vector(), nil
	}
	f, err := recordsOf(m.kv, m.c)
	if err != nil {
		return nil, err
	}
	return f.Vector(), nil
}

// recordsOf opens a copy of a database that nobody has open.
func recordsOf(kv *store.Memory, c *Cluster) (*store.Folder, error) {
	s, err := store.Open(kv.Image(false), c)
	if err != nil {
		return nil, err
	}
	return s.Folder(folderID)
}
