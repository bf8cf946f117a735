package disk

import (
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// indexFrom is the number of entries from which a directory has an index.
const indexFrom = 12

// meta is the part of an inode that is metadata.
type meta struct {
	mode, owner, group uint32
	xattrs             []volume.Xattr // replaced as a whole, never changed
	mtime, ctime       repl.Time
}

// dirent is one entry of a directory.
type dirent struct {
	name string
	n    *inode
}

// link is a place where an inode is named.
type link struct {
	dir  *inode
	name string
}

// inode is one object.
type inode struct {
	kind   repl.Type
	number uint32
	id     repl.Identity
	links  []link

	cur  meta
	data []byte // of a file
	// shared says that data belong to a durable state or to another disk too:
	// copy before writing inside them.
	shared bool
	target string // of a link
	enc    []byte // cached canonical metadata

	dirty bool // cur or data are newer than these:
	dur   meta
	durs  []byte

	entries []dirent
	index   map[string]int // of entries, once there are many

	writers int  // users' open handles for writing
	leased  bool // whoever wants to write waits
	// temp is the process, plus one, that still has the file open as a Temp.
	temp    int
	mounted bool
}

// find returns the place of a name among the entries, or -1.
func (n *inode) find(name string) int {
	if n.index != nil {
		if i, ok := n.index[name]; ok {
			return i
		}
		return -1
	}
	for i := range n.entries {
		if n.entries[i].name == name {
			return i
		}
	}
	return -1
}

// child returns the object with that name, or nil.
func (n *inode) child(name string) *inode {
	if i := n.find(name); i >= 0 {
		return n.entries[i].n
	}
	return nil
}

// set makes the entry name lead to to, or removes it if to is nil.
func (n *inode) set(name string, to *inode) {
	i := n.find(name)
	switch {
	case i >= 0 && to != nil:
		n.entries[i].n = to
	case i >= 0:
		last := len(n.entries) - 1
		n.entries[i] = n.entries[last]
		n.entries[last] = dirent{}
		n.entries = n.entries[:last]
		if n.index != nil {
			delete(n.index, name)
			if i != last {
				n.index[n.entries[i].name] = i
			}
		}
	case to != nil:
		n.entries = append(n.entries, dirent{name, to})
		if n.index != nil {
			n.index[name] = len(n.entries) - 1
		} else if len(n.entries) > indexFrom {
			n.index = make(map[string]int, 2*len(n.entries))
			for i := range n.entries {
				n.index[n.entries[i].name] = i
			}
		}
	}
}

func (n *inode) addLink(dir *inode, name string) { n.links = append(n.links, link{dir, name}) }

func (n *inode) dropLink(dir *inode, name string) {
	for i := range n.links {
		if n.links[i].dir == dir && n.links[i].name == name {
			n.links = append(n.links[:i], n.links[i+1:]...)
			return
		}
	}
}

// within reports whether n is dir or lies below it.
func (n *inode) within(dir *inode) bool {
	for n != dir {
		if len(n.links) == 0 {
			return false
		}
		n = n.links[0].dir
	}
	return true
}

// flush makes the current state the durable one.
func (n *inode) flush() {
	n.dirty = false
	n.dur, n.durs, n.shared = n.cur, n.data, true
}

// write puts p at off, growing the file.
func (n *inode) write(p []byte, off int64) {
	end := off + int64(len(p))
	if n.shared { // even to append: another state may append in the same room
		fresh := make([]byte, len(n.data), max(int(end), len(n.data))+len(p))
		copy(fresh, n.data)
		n.data, n.shared = fresh, false
	}
	if end > int64(len(n.data)) {
		n.grow(int(end))
	}
	copy(n.data[off:], p)
}

func (n *inode) grow(size int) {
	if size <= cap(n.data) {
		old := len(n.data)
		n.data = n.data[:size]
		clear(n.data[old:])
		return
	}
	fresh := make([]byte, size, size+size/4)
	copy(fresh, n.data)
	n.data, n.shared = fresh, false
}

// truncate sets the size.
func (n *inode) truncate(size int64) {
	if size <= int64(len(n.data)) {
		// Full slice: growing again must not write into what is cut off.
		n.data = n.data[:size:size]
		return
	}
	n.write(nil, size)
}

func (n *inode) size() int64 {
	switch n.kind {
	case repl.File:
		return int64(len(n.data))
	case repl.Symlink:
		return int64(len(n.target))
	}
	return int64(len(n.entries))
}

func (n *inode) stat() volume.Stat {
	nlink := uint32(len(n.links))
	if n.kind == repl.Directory {
		nlink = 2
	}
	return volume.Stat{
		Type: n.kind, Identity: n.id, Links: nlink,
		Print: repl.Print{Size: n.size(), Mtime: n.cur.mtime, Ctime: n.cur.ctime},
		Mode:  n.cur.mode, Owner: n.cur.owner, Group: n.cur.group,
	}
}
