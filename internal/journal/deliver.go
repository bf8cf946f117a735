package journal

import (
	"iter"

	"golang.org/x/sys/unix"
)

// deliver hands one event to the folders that it concerns.
func (g *group) deliver(ev *event) {
	if ev.mask&unix.FAN_Q_OVERFLOW != 0 {
		g.doubt("the kernel's queue of events overflowed")
		return
	}
	if ev.pid == g.self && g.others && g.passOver(ev) {
		return
	}
	if ev.dir == nil && ev.newDir == nil {
		if !g.allIgnore(ev) {
			g.deliverNameless(ev)
		}
		return
	}
	from, to := g.verdict(ev.dir), g.verdict(ev.newDir)
	if ev.mask&unix.FAN_RENAME != 0 && ev.mask&unix.FAN_ONDIR != 0 && len(from.at)+len(to.at) > 0 {
		g.cache.flush() // directories below it have moved within a folder, or into or out of one
		from, to = g.verdict(ev.dir), g.verdict(ev.newDir)
	}
	g.born(ev, from)
	near := 0 // folders that have one of the places
	for i := range touched(from.at, to.at) {
		g.subs[i].deliver(ev, from, to, from.in(i), to.in(i))
		near++
	}
	foreign := near < len(g.subs)
	if ev.child != nil && ev.mask&unix.FAN_ONDIR == 0 && ev.mask&(unix.FAN_CLOSE_WRITE|unix.FAN_ATTRIB) != 0 &&
		(foreign || temporary(ev.name)) && !g.allIgnore(ev) {
		g.deliverLinked(ev, from, to)
	}
}

// passOver reports whether an event of this process, which no folder wants, tells
// nothing else either: where its directory lies need not be asked then, and an install
// makes such events by the thousand. Markers come by the private area itself.
func (g *group) passOver(ev *event) bool {
	_, a := g.fixed[string(ev.dir)]
	_, b := g.fixed[string(ev.newDir)]
	if a || b {
		return false
	}
	if ev.mask&unix.FAN_RENAME != 0 && ev.mask&unix.FAN_ONDIR != 0 {
		g.cache.flush() // as in deliver
	}
	return true
}

// touched lists the folders of both, each once and in their order.
func touched(a, b []placed) iter.Seq[int] {
	return func(yield func(int) bool) {
		for len(a)+len(b) > 0 {
			first := a
			if len(a) == 0 || len(b) > 0 && b[0].sub < a[0].sub {
				first = b
			}
			i := first[0].sub
			if !yield(i) {
				return
			}
			if len(a) > 0 && a[0].sub == i {
				a = a[1:]
			}
			if len(b) > 0 && b[0].sub == i {
				b = b[1:]
			}
		}
	}
}

// deliver marks the places of ev that lie in this folder.
func (s *subscriber) deliver(ev *event, from, to *verdict, a, b location) {
	if a.state == private && a.path == privateName {
		s.seen(ev.name) // the first marker is created, later ones are renamed
	}
	if b.state == private && b.path == privateName {
		s.seen(ev.newName)
	}
	if s.ignores(ev) {
		return
	}
	wrote := ev.mask&unix.FAN_CLOSE_WRITE != 0
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.reported(ev.name) {
		s.putLocked(from.key, Dirty{Dir: from.dir, Path: a.path, Wrote: wrote}, ev.name, ev.child)
	}
	if b.reported(ev.newName) {
		// A directory from beyond the folder: what happened in it there was dropped.
		tree := ev.mask&unix.FAN_ONDIR != 0 && a.state != inside
		s.putLocked(to.key, Dirty{Dir: to.dir, Path: b.path, Wrote: wrote, Tree: tree}, ev.newName, ev.child)
	}
}

// ignores reports whether the folder does not want what this process did.
func (s *subscriber) ignores(ev *event) bool { return s.others && ev.pid == s.self }

// allIgnore reports whether no folder wants an event.
func (g *group) allIgnore(ev *event) bool {
	for _, s := range g.subs {
		if !s.ignores(ev) {
			return false
		}
	}
	return true
}

// reported tells whether a name there is the folder's business.
func (l location) reported(name []byte) bool {
	return l.state >= inside && len(name) > 0 && !(l.path == "." && string(name) == privateName)
}

// deliverLinked reports by handle a file that was changed through a name that
// some folders do not have: they may have it by another link, or under the name
// it got since it was made with O_TMPFILE.
func (g *group) deliverLinked(ev *event, from, to *verdict) {
	tmp := temporary(ev.name)
	links := g.links(ev.child)
	if links == 0 || links == 1 && !tmp {
		return
	}
	for i, s := range g.subs {
		a, b := from.in(i).state, to.in(i).state
		switch {
		case s.ignores(ev):
		case a == private || b == private: // our own staging
		case a == outside && b == outside, tmp:
			s.put("", Dirty{Wrote: ev.mask&unix.FAN_CLOSE_WRITE != 0}, nil, ev.child)
		}
	}
}

// deliverNameless reports an event that has the object's handle only: a link
// made or removed, or a change through a descriptor opened by handle, as the
// kernel's NFS server does.
func (g *group) deliverNameless(ev *event) {
	if ev.child == nil {
		return
	}
	// Our own installs move link counts and always say so by name as well.
	if ev.pid == g.self && ev.mask&unix.FAN_CLOSE_WRITE == 0 {
		return
	}
	if g.links(ev.child) == 0 {
		return // its names were reported when they went
	}
	for _, s := range g.subs {
		if !s.ignores(ev) {
			s.put("", Dirty{Wrote: ev.mask&unix.FAN_CLOSE_WRITE != 0}, nil, ev.child)
		}
	}
}

// links returns how many names the object has; if that cannot be told, as if it
// had several.
func (g *group) links(child []byte) uint64 {
	if len(g.subs) == 0 {
		return 0
	}
	fd, err := openHandle(g.subs[0].tree.root, child)
	if err == unix.ESTALE {
		return 0
	}
	if err != nil {
		return 2
	}
	defer unix.Close(fd) //nolint:errcheck // a path only
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 2
	}
	return uint64(st.Nlink)
}

// temporary recognises the kernel's name for an O_TMPFILE, "#" and the inode's
// number. A user may call a file so as well, hence both ways are reported.
func temporary(name []byte) bool {
	if len(name) < 2 || name[0] != '#' {
		return false
	}
	for _, c := range name[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
