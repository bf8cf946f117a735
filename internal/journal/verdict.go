package journal

import (
	"strings"

	"golang.org/x/sys/unix"
)

// state is where a directory lies, seen from one folder.
type state uint8

const (
	outside state = iota
	private       // in the private area
	inside
	doubtful // gone but on record, or not to be told
)

// location is a directory's place in one folder; path is relative to the root,
// "." for the root, and empty when outside or doubtful.
type location struct {
	state state
	path  string
}

// verdict is what is known of one directory: where it lies in each folder.
// Holds: len(at) == len(group.subs); nowhere if at has nothing but outside.
type verdict struct {
	dir     []byte
	key     string // dir
	at      []location
	nowhere bool
}

// verdicts is the cache of a group, by handle: two generations, the elder of
// which is dropped when the younger is full, so a directory in use stays.
type verdicts struct {
	young, old map[string]*verdict
	none       *verdict // for an event without that directory
}

const maxVerdicts = 1 << 14 // of a generation

func (c *verdicts) flush() { *c = verdicts{} }

func (c *verdicts) get(dir []byte) *verdict {
	if v, ok := c.young[string(dir)]; ok {
		return v
	}
	v, ok := c.old[string(dir)]
	if ok {
		c.add(v)
	}
	return v
}

func (c *verdicts) add(v *verdict) {
	if len(c.young) >= maxVerdicts {
		c.old, c.young = c.young, nil
	}
	if c.young == nil {
		c.young = map[string]*verdict{}
	}
	c.young[v.key] = v
}

// verdict returns where the directory lies, nowhere for none.
func (g *group) verdict(dir []byte) *verdict {
	if dir == nil {
		if g.cache.none == nil {
			g.cache.none = &verdict{at: make([]location, len(g.subs)), nowhere: true}
		}
		return g.cache.none
	}
	if v := g.cache.get(dir); v != nil {
		return v
	}
	v, certain := g.resolve(dir)
	if certain {
		g.cache.add(v)
	}
	return v
}

// resolve asks the kernel where the directory lies. An answer that is not
// certain is good for one event only.
func (g *group) resolve(dir []byte) (v *verdict, certain bool) {
	v = &verdict{dir: append([]byte(nil), dir...), key: string(dir), nowhere: true}
	gone, certain := false, false
	for range 8 { // until no root moves while we look
		v.at = make([]location, len(g.subs))
		settled, missing, err := g.locate(v)
		if err != nil {
			break
		}
		if settled {
			gone, certain = missing, true
			break
		}
	}
	for i, s := range g.subs {
		if l, ok := s.fixed[v.key]; ok {
			v.at[i] = l
		} else if !certain || gone && (s.known == nil || s.known(v.dir)) {
			v.at[i] = location{state: doubtful}
		}
		v.nowhere = v.nowhere && v.at[i].state == outside
	}
	return v, certain
}

// locate fills v.at. It compares the directory's path with each root's, both as
// the kernel tells them for the same mount; settled is false if a root's path
// changed meanwhile, gone is true if the directory exists no more.
func (g *group) locate(v *verdict) (settled, gone bool, err error) {
	roots, err := g.rootPaths()
	if err != nil {
		return true, false, err
	}
	type view struct {
		mount int
		path  string
	}
	var views []view // mostly one: folders of a filesystem share its mount
	for i, s := range g.subs {
		path, seen := "", false
		for _, w := range views {
			if w.mount == s.tree.mount {
				path, seen = w.path, true
			}
		}
		if !seen {
			path, gone, err = pathOf(s.tree.root, v.dir)
			if gone || err != nil {
				return true, gone, err
			}
			views = append(views, view{s.tree.mount, path})
		}
		v.at[i] = within(roots[i], path)
	}
	if g.batch { // the roots are compared when it ends
		return true, false, nil
	}
	same, err := g.rootsAre(roots)
	return same || err != nil, false, err
}

// rootPaths are where the folders' roots lie now; within a batch, where they lay
// at its first question, for each costs a call of the system.
func (g *group) rootPaths() (roots []string, err error) {
	if g.batch && g.roots != nil {
		return g.roots, nil
	}
	roots = make([]string, len(g.subs))
	for i, s := range g.subs {
		if roots[i], err = link(s.tree.root); err != nil {
			return nil, err
		}
	}
	if g.batch {
		g.roots = roots
	}
	return roots, nil
}

// rootsAre reports whether no root has moved since.
func (g *group) rootsAre(roots []string) (bool, error) {
	for i, s := range g.subs {
		if again, err := link(s.tree.root); err != nil || again != roots[i] {
			return false, err
		}
	}
	return true, nil
}

// pathOf returns the path of the directory with that handle as the mount behind
// root shows it.
func pathOf(root int, dir []byte) (path string, gone bool, err error) {
	fd, err := openHandle(root, dir)
	if err == unix.ESTALE || err == unix.ENOENT {
		return "", true, nil
	}
	if err != nil {
		return "", false, err
	}
	defer unix.Close(fd) //nolint:errcheck // a path only
	path, err = link(fd)
	if err != nil || !strings.HasSuffix(path, " (deleted)") {
		return path, false, err
	}
	var st unix.Stat_t // removed but still in use, or just called so
	if err := unix.Fstat(fd, &st); err != nil {
		return "", false, err
	}
	return path, st.Nlink == 0, nil
}

// within places a path in the folder whose root has that path.
func within(root, path string) location {
	if path == root {
		return location{inside, "."}
	}
	if root != "/" {
		root += "/"
	}
	rel, ok := strings.CutPrefix(path, root)
	switch {
	case !ok:
		return location{}
	case rel == privateName || strings.HasPrefix(rel, privateName+"/"):
		return location{private, rel}
	}
	return location{inside, rel}
}
