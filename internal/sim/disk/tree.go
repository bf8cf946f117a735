package disk

import (
	"slices"
	"strings"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// Node is one object of a dump.
type Node struct {
	Path     string // relative to the root
	Type     repl.Type
	Content  string // of a file; the target of a link
	Mode     uint32
	Owner    uint32
	Group    uint32
	Xattrs   []volume.Xattr
	Mtime    repl.Time
	Identity repl.Identity
	Writers  int // users who hold it open for writing
}

// Tree dumps the tree for checkers, sorted by path, without the root itself;
// with private the private area too. It shows what lies under mounts.
func (d *Disk) Tree(private bool) []Node {
	var out []Node
	var walk func(n *inode, at string)
	walk = func(n *inode, at string) {
		for _, e := range n.entries {
			if n == d.root && e.name == privateName && !private {
				continue
			}
			c := e.n
			node := Node{
				Path: join(at, e.name), Type: c.kind, Content: c.target, Mode: c.cur.mode, Owner: c.cur.owner,
				Group: c.cur.group, Xattrs: c.cur.xattrs, Mtime: c.cur.mtime, Identity: c.id, Writers: c.writers,
			}
			if c.kind == repl.File {
				node.Content = string(c.data)
			}
			out = append(out, node)
			walk(c, node.Path)
		}
	}
	walk(d.root, "")
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Path, b.Path) })
	return out
}
