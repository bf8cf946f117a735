package journal

import (
	"slices"
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

// placed is a directory's place in the folder of subscriber sub of its group.
type placed struct {
	sub int
	location
}

// verdict is what is known of one directory: the folders in which it does not lie
// outside, mostly one or none of hundreds. Holds: at is in the order of sub.
type verdict struct {
	dir []byte
	key string // dir
	at  []placed
}

// in is the directory's place in one folder.
func (v *verdict) in(sub int) location {
	i, found := slices.BinarySearchFunc(v.at, sub, func(p placed, sub int) int { return p.sub - sub })
	if !found {
		return location{}
	}
	return v.at[i].location
}

// put sets the directory's place in one folder.
func (v *verdict) put(sub int, l location) {
	i, found := slices.BinarySearchFunc(v.at, sub, func(p placed, sub int) int { return p.sub - sub })
	if !found {
		v.at = slices.Insert(v.at, i, placed{sub: sub})
	}
	v.at[i].location = l
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
			g.cache.none = new(verdict)
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
	v = &verdict{dir: append([]byte(nil), dir...), key: string(dir)}
	gone, certain := false, false
	for range 8 { // until nothing above it moves while we look
		v.at = nil
		settled, missing, err := g.locate(v)
		if err != nil {
			break
		}
		if settled {
			gone, certain = missing, true
			break
		}
	}
	if at, ok := g.fixed[v.key]; ok {
		v.put(at.sub, at.location)
	}
	if certain && !gone {
		return v, true
	}
	for i, s := range g.subs {
		if _, ok := s.fixed[v.key]; !ok && (!certain || s.known == nil || s.known(v.dir)) {
			v.put(i, location{state: doubtful})
		}
	}
	return v, certain
}

// born notes that a new directory lies in no folder because its parent lies in
// none: neither what happens in it nor its end has to be asked about. Until it is
// renamed, and that event comes after all of these, it stays so.
func (g *group) born(ev *event, parent *verdict) {
	const made = unix.FAN_CREATE | unix.FAN_ONDIR
	if ev.mask&made != made || ev.child == nil || ev.dir == nil || len(parent.at) > 0 {
		return
	}
	if _, root := g.fixed[string(ev.child)]; !root {
		g.cache.add(&verdict{dir: append([]byte(nil), ev.child...), key: string(ev.child)})
	}
}

// objectID is what tells directories apart while they are open.
type objectID struct{ device, inode uint64 }

// regroup computes what depends on which folders there are. Places that were known
// are not any more.
func (g *group) regroup() {
	g.cache.flush()
	g.fixed, g.roots, g.views, g.others = make(map[string]placed), make(map[objectID][]int), nil, true
	for i, s := range g.subs {
		g.others = g.others && s.others
		for key, l := range s.fixed {
			g.fixed[key] = placed{i, l}
		}
		g.roots[s.id] = append(g.roots[s.id], i)
		if !slices.ContainsFunc(g.views, func(v *tree) bool { return v.mount == s.tree.mount }) {
			g.views = append(g.views, s.tree)
		}
	}
}

// locate fills v.at: it goes from the directory up and meets the roots, whose
// number so costs nothing. settled is false if the directory's path changed
// meanwhile, gone is true if it exists no more.
func (g *group) locate(v *verdict) (settled, gone bool, err error) {
	for _, t := range g.views { // mostly one: folders of a filesystem share its mount
		if settled, gone, err = g.climb(v, t); !settled || gone || err != nil {
			return settled, gone, err
		}
	}
	return true, false, nil
}

// climb is locate for the folders that were reached by the same mount as t.
func (g *group) climb(v *verdict, t *tree) (settled, gone bool, err error) {
	fd, err := openHandle(t.root, v.dir)
	if err == unix.ESTALE || err == unix.ENOENT {
		return true, true, nil
	}
	if err != nil {
		return true, false, err
	}
	defer unix.Close(fd) //nolint:errcheck // a path only
	path, gone, err := pathOf(fd)
	if err != nil || gone {
		return true, gone, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	for up, at := "..", len(path); err == nil; up += "/.." {
		for _, i := range g.roots[objectID{st.Dev, st.Ino}] {
			if g.subs[i].tree.mount == t.mount {
				v.put(i, within(strings.TrimPrefix(path[at:], "/")))
			}
		}
		if at == 0 || path == "/" {
			break
		}
		at = max(0, strings.LastIndexByte(path[:at], '/'))
		err = unix.Fstatat(fd, up, &st, 0)
	}
	if err != nil && err != unix.ENOENT { // ENOENT: it is not below what the mount shows
		return true, false, err
	}
	again, err := link(fd)
	return again == path, false, err
}

// pathOf returns the path of an open directory as its mount shows it.
func pathOf(fd int) (path string, gone bool, err error) {
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

// within places a path that is relative to the root it lies beneath.
func within(rel string) location {
	switch {
	case rel == "":
		return location{inside, "."}
	case rel == privateName || strings.HasPrefix(rel, privateName+"/"):
		return location{private, rel}
	}
	return location{inside, rel}
}
