package sim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"opendfs/internal/repl"
	"opendfs/internal/sim/disk"
	"opendfs/internal/store"
	"opendfs/internal/version"

	"github.com/zeebo/blake3"
)

// shadow is what users know: which contents they wrote, and which of them a
// user who had seen them replaced or deleted. Every other must be somewhere.
type shadow struct {
	next     int
	written  map[string]string // content to where it was written
	replaced map[string]bool
	promised map[repl.Hash]bool // on record of a member in Normal
}

func (s *shadow) init() {
	s.written, s.replaced, s.promised = make(map[string]string), make(map[string]bool), make(map[repl.Hash]bool)
}

// openFile is a file that a user holds open for writing.
type openFile struct {
	path string
	w    io.WriteCloser
}

// fresh makes a content that nobody has written before. All have one length,
// so that one replaces another wholly.
func (c *Cluster) fresh(where string) string {
	c.shadow.next++
	text := fmt.Sprintf("content-%08d", c.shadow.next) + c.tail
	c.shadow.written[text] = where
	return text
}

// longTail is what the long contents have in common: about five pieces of
// package rdc, two of them alike.
var longTail = func() string {
	var b strings.Builder
	for i := 0; b.Len() < 8<<10; i++ {
		fmt.Fprintf(&b, "line %d of what does not change; ", i%400*7919)
	}
	return b.String()
}()

// stagingQuota holds the signatures of a few contents.
const stagingQuota = 64 << 10

// gone notes that a user who sees the content replaces or removes it.
func (c *Cluster) gone(content string) {
	if _, ok := c.shadow.written[content]; ok {
		c.shadow.replaced[content] = true
	}
}

// promise notes that the member has on record, durably, what its users closed:
// from now on no power cut excuses its loss (rule 14).
func (s *shadow) promise(updates []repl.Update) {
	for i := range updates {
		if u := &updates[i]; u.Present && u.Type == repl.File {
			s.promised[u.Content] = true
		}
	}
}

// crashed excuses the loss of what only the member's page cache had, and what
// nobody had promised. before is what its disk held until then.
func (s *shadow) crashed(m *Member, before []disk.Node) {
	left := make(map[string]bool)
	for _, other := range m.c.members {
		for _, n := range other.disk.Tree(true) {
			left[n.Content] = true
		}
	}
	for i := range before {
		content := before[i].Content
		if _, users := s.written[content]; users && !left[content] && !s.promised[hashOf(content)] {
			s.replaced[content] = true
		}
	}
}

func hashOf(content string) repl.Hash { return repl.Hash(blake3.Sum256([]byte(content))) }

func allUpdates(f *store.Folder) []repl.Update {
	all, _, more, err := f.Updates(f.Vector(), version.GVSN{}, 1<<20)
	if err != nil || more {
		panic(fmt.Sprintf("list updates: %v, more %v", err, more))
	}
	return all
}

var names = []string{"a", "b", "c", "d"}

// lengths are names of which some are too long for a narrow disk.
var lengths = []string{"a", "b", "cc", "dd"}

// spellings are names of which two are one in a folder that folds names.
var spellings = []string{"a", "A", "b", "B"}

// habits is what the users of a run like to do: how often each deed comes, and
// how deep they go.
type habits struct {
	weights [deeds]int
	deeper  int  // one in so many paths goes on into a directory
	calm    bool // they leave members the time to bring what they did
}

// The deeds of users.
const (
	deedWrite = iota
	deedSave
	deedRemove
	deedRename
	deedMkdir
	deedChmod
	deedSymlink
	deedRemoveAll
	deedOpen
	deedWriteOpen
	deedMoveDir
	deeds
)

// ways lists the habits a run draws from: a bit of everything, movers of
// directories, editors of few files.
var ways = []habits{
	{[deeds]int{6, 2, 2, 3, 2, 1, 1, 1, 1, 1, 0}, 3, false},
	{[deeds]int{3, 0, 1, 3, 5, 1, 0, 1, 0, 0, 8}, 2, false},
	{[deeds]int{6, 6, 2, 3, 1, 1, 1, 0, 3, 3, 1}, 5, false},
}

// tenants write into directories that others remove.
var tenants = habits{[deeds]int{10, 1, 0, 0, 6, 0, 0, 5, 0, 0, 0}, 2, true}

// movers do little else than move directories into one another.
var movers = habits{[deeds]int{1, 0, 0, 2, 5, 0, 0, 0, 0, 0, 14}, 2, false}

// editors write the same few files again and again.
var editors = habits{[deeds]int{20, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0}, 50, true}

func (h *habits) draw(c *Cluster) int {
	sum := 0
	for _, w := range h.weights {
		sum += w
	}
	n := c.rnd.IntN(sum)
	for deed, w := range h.weights {
		if n -= w; n < 0 {
			return deed
		}
	}
	panic("sim: weights do not add up")
}

// somePath draws a path of at most three components.
func (c *Cluster) somePath() string {
	parts := []string{c.names[c.rnd.IntN(len(c.names))]}
	for len(parts) < 3 && c.rnd.IntN(c.habits.deeper) == 0 {
		parts = append(parts, c.names[c.rnd.IntN(len(c.names))])
	}
	return strings.Join(parts, "/")
}

// someDirectory draws a directory of the member's tree, "" if it has none.
func (c *Cluster) someDirectory(m *Member) string {
	var dirs []string
	for _, n := range m.disk.Tree(false) {
		if n.Type == repl.Directory {
			dirs = append(dirs, n.Path)
		}
	}
	if len(dirs) == 0 {
		return ""
	}
	return dirs[c.rnd.IntN(len(dirs))]
}

// userOp lets a user of the member do one thing, which may well fail.
func (c *Cluster) userOp(m *Member) {
	if c.alone && m.index > 0 {
		return
	}
	c.Count.UserOps++
	u, path := m.disk.User(), c.somePath()
	var what string
	var err error
	switch c.habits.draw(c) {
	case deedWrite:
		what, err = "write", c.userWrite(m, path)
	case deedSave:
		what, err = "save", c.userSave(m, path)
	case deedRemove:
		what, err = "remove", c.userRemove(m, path)
	case deedRename:
		to := c.somePath()
		what, err = "rename to "+to, c.userRename(m, path, to)
	case deedMkdir:
		what, err = "mkdir", u.Mkdir(path)
	case deedChmod:
		what, err = "chmod", m.userChmod(path, uint32(0o600+c.rnd.IntN(64)))
	case deedSymlink:
		what, err = "symlink", u.Symlink(c.somePath(), path)
	case deedRemoveAll:
		what, err = "remove all", c.userRemoveAll(m, path)
	case deedOpen:
		what, err = "open", m.userOpen(path)
	case deedWriteOpen:
		what, err = "write to the open file", m.userWriteOpen()
	case deedMoveDir:
		what, err = c.userMoveDir(m)
	}
	c.tracef("m%d user: %s %s: %v", m.index, path, what, err)
}

// userMoveDir moves a directory into another, or to the root.
func (c *Cluster) userMoveDir(m *Member) (string, error) {
	from, into := c.someDirectory(m), c.someDirectory(m)
	if from == "" || from == into {
		return "move nothing", nil
	}
	to := into + "/" + c.names[c.rnd.IntN(len(c.names))]
	if c.rnd.IntN(4) == 0 {
		to = c.names[c.rnd.IntN(len(c.names))]
	}
	return "move " + from + " to " + to, c.userRename(m, from, to)
}

func (c *Cluster) userWrite(m *Member, path string) error {
	old, err := m.disk.User().Read(path)
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	text := c.fresh(fmt.Sprintf("m%d %s", m.index, path))
	if err := m.disk.User().WriteFile(path, []byte(text)); err != nil {
		c.gone(text)
		return err
	}
	c.gone(string(old))
	return nil
}

// userSave is what editors do: write another file, rename it over the old one.
func (c *Cluster) userSave(m *Member, path string) error {
	tmp := path + ".tmp"
	if err := c.userWrite(m, tmp); err != nil {
		return err
	}
	err := c.userRename(m, tmp, path)
	if err == nil {
		c.Count.Saves++
	}
	return err
}

func (c *Cluster) userRename(m *Member, from, to string) error {
	old, rerr := m.disk.User().Read(to)
	if err := m.disk.User().Rename(from, to); err != nil {
		return err
	}
	c.Count.Moves++
	if rerr == nil && from != to {
		c.gone(string(old))
	}
	return nil
}

func (c *Cluster) userRemove(m *Member, path string) error {
	old, rerr := m.disk.User().Read(path)
	if err := m.disk.User().Remove(path); err != nil {
		return err
	}
	if rerr == nil {
		c.gone(string(old))
	}
	return nil
}

func (c *Cluster) userRemoveAll(m *Member, path string) error {
	before := m.disk.Tree(false)
	err := m.disk.User().RemoveAll(path) // on an error some of it is gone
	left := make(map[string]bool)
	for _, n := range m.disk.Tree(false) {
		left[n.Path] = true
	}
	for _, n := range before {
		if !left[n.Path] {
			c.gone(n.Content)
		}
	}
	return err
}

// userChmod changes a file's or a directory's mode; a link has none.
func (m *Member) userChmod(path string, mode uint32) error {
	for _, n := range m.disk.Tree(false) {
		if n.Path == path && n.Type == repl.Symlink {
			return os.ErrInvalid
		}
	}
	return m.disk.User().Chmod(path, mode)
}

func (m *Member) userOpen(path string) error {
	if len(m.open) > 2 {
		return m.userCloseOne()
	}
	w, err := m.disk.User().OpenForWrite(path)
	if err == nil {
		m.open = append(m.open, openFile{path, w})
	}
	return err
}

func (m *Member) userCloseOne() error {
	if len(m.open) == 0 {
		return os.ErrNotExist
	}
	f := m.open[0]
	m.open = m.open[1:]
	return f.w.Close()
}

// userWriteOpen overwrites what the oldest open file holds, wherever its name
// has gone meanwhile.
func (m *Member) userWriteOpen() error {
	if len(m.open) == 0 {
		return os.ErrNotExist
	}
	w := m.open[0].w.(*disk.Writer)
	old := w.Content()
	text := m.c.fresh(fmt.Sprintf("m%d open %s", m.index, m.open[0].path))
	if w.Links() == 0 || w.Offset() != 0 {
		m.c.gone(text) // nobody can find it again, or it was written behind another
		return m.userCloseOne()
	}
	if _, err := w.Write([]byte(text)); err != nil {
		m.c.gone(text)
		return err
	}
	m.c.gone(old)
	m.c.Count.OldHandles++
	return m.userCloseOne()
}
