package scope

import (
	"slices"
	"strconv"
	"strings"

	"opendfs/internal/repl"
)

// object is a file, directory or link of a tree, or what is left of one.
type object struct {
	parent  int16 // the number of its directory; gone or private
	kind    repl.Type
	content uint8
	mode    uint8
	name    string
	mtime   repl.Time
	ctime   repl.Time
}

// Where an object lies that is in no directory.
const (
	gone    int16 = -1
	private int16 = -2 // on its way through the private area
)

// The modes that objects begin with.
const (
	fileMode = 1
	dirMode  = 2
)

// tree is a member's disk. An object is its number, which is given once; 0 is
// the root. Directories have no mtime that their entries would move: such
// updates have nothing to do with conflicts.
type tree struct {
	objects []object
	clock   repl.Time // of ctimes
}

func newTree() tree {
	return tree{objects: []object{{parent: gone, kind: repl.Directory, mode: dirMode, mtime: 1, ctime: 1}}, clock: 1}
}

func (t *tree) clone() tree {
	return tree{objects: slices.Clone(t.objects), clock: t.clock}
}

func (t *tree) tick() repl.Time {
	t.clock++
	return t.clock
}

// spelt is what lies at a name, or at another spelling of it.
func (t *tree) spelt(dir int16, name string, law Law) int16 {
	for i := 1; i < len(t.objects); i++ {
		if o := &t.objects[i]; o.parent == dir && law.same(o.name, name) {
			return int16(i)
		}
	}
	return gone
}

func (t *tree) child(dir int16, name string) int16 {
	for i := 1; i < len(t.objects); i++ {
		if o := &t.objects[i]; o.parent == dir && o.name == name {
			return int16(i)
		}
	}
	return gone
}

// find leads along a path; gone if there is nothing.
func (t *tree) find(path string) int16 {
	if path == "." {
		return 0
	}
	at := int16(0)
	for path != "" && at != gone {
		name, rest, _ := strings.Cut(path, "/")
		if t.objects[at].kind != repl.Directory {
			return gone
		}
		at, path = t.child(at, name), rest
	}
	return at
}

// path is where an object lies, "" if in no directory of the tree.
func (t *tree) path(n int16) string {
	if n == 0 {
		return "."
	}
	path := ""
	for ; n > 0; n = t.objects[n].parent {
		path = join(t.objects[n].name, path)
	}
	if n != 0 {
		return ""
	}
	return path
}

func join(dir, name string) string {
	switch {
	case name == "":
		return dir
	case dir == ".", dir == "":
		return name
	}
	return dir + "/" + name
}

func split(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return ".", path
}

// within reports whether dir is top or lies below it.
func (t *tree) within(dir, top int16) bool {
	for ; dir > 0; dir = t.objects[dir].parent {
		if dir == top {
			return true
		}
	}
	return dir == top
}

func (t *tree) add(dir int16, name string, kind repl.Type, content uint8) int16 {
	o := object{parent: dir, name: name, kind: kind, mode: fileMode, mtime: 1, ctime: t.tick()}
	if kind == repl.Directory {
		o.mode = dirMode
	} else {
		o.content, o.mtime = content, repl.Time(content)+1
	}
	t.objects = append(t.objects, o)
	return int16(len(t.objects) - 1)
}

func (t *tree) move(n, dir int16, name string) {
	o := &t.objects[n]
	o.parent, o.name, o.ctime = dir, name, t.tick()
}

// entries calls fn for what lies in a directory.
func (t *tree) entries(dir int16, fn func(n int16, o *object)) {
	for i := 1; i < len(t.objects); i++ {
		if o := &t.objects[i]; o.parent == dir {
			fn(int16(i), o)
		}
	}
}

// listing is the whole tree as text, in order.
func (t *tree) listing() string {
	var lines []string
	for i := 1; i < len(t.objects); i++ {
		if path := t.path(int16(i)); path != "" {
			lines = append(lines, t.objects[i].line(path))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (o *object) line(path string) string {
	text := path + " " + o.kind.String() + " mode " + strconv.Itoa(int(o.mode))
	if o.kind != repl.Directory {
		text += " " + tables.text[o.content]
	}
	return text
}
