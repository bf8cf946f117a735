package scope

import (
	"slices"
	"strings"

	"opendfs/internal/repl"
)

// Deed is what kind of thing a user does.
type Deed uint8

// The alphabet.
const (
	Create     Deed = iota
	Edit            // new content of a file
	Delete          // a file, or a directory with all in it
	Rename          // to a place that is free; a directory too
	Swap            // two objects, which lie in none of each other
	RenameOver      // a file over a file
	Retype          // delete and create another type under the name
	Mkdir
	Chmod
	deeds
)

func (d Deed) String() string {
	return [...]string{"create", "edit", "delete", "rename", "swap", "rename-over", "retype", "mkdir", "chmod"}[d]
}

// Act is one thing that a user does: at a path, and for some at another one.
type Act struct {
	Deed     Deed
	Path, To string
}

func (a Act) String() string {
	if a.To == "" {
		return a.Deed.String() + " " + a.Path
	}
	return a.Deed.String() + " " + a.Path + " " + a.To
}

// near reports whether two paths have to do with one another: one is the other
// or lies in it.
func near(p, q string) bool {
	if len(p) > len(q) {
		p, q = q, p
	}
	return strings.HasPrefix(q, p) && (len(p) == len(q) || q[len(p)] == '/')
}

// meets reports whether two acts have to do with one another. If not, either
// may come first and nothing else is different.
func (a Act) meets(b Act) bool {
	for _, p := range [...]string{a.Path, a.To} {
		for _, q := range [...]string{b.Path, b.To} {
			if p != "" && q != "" && near(strings.ToLower(p), strings.ToLower(q)) {
				return true
			}
		}
	}
	return false
}

// meet reports whether anything of one history has to do with anything of the
// other.
func meet(xs, ys []Act) bool {
	for _, x := range xs {
		if slices.ContainsFunc(ys, x.meets) {
			return true
		}
	}
	return false
}

// renamed is the act with every name replaced by its image.
func (a Act) renamed(image map[string]string) Act {
	of := func(path string) string {
		parts := strings.Split(path, "/")
		for i, p := range parts {
			if q, ok := image[p]; ok {
				parts[i] = q
			}
		}
		return strings.Join(parts, "/")
	}
	a.Path, a.To = of(a.Path), of(a.To)
	if a.Deed == Swap && a.To < a.Path {
		a.Path, a.To = a.To, a.Path
	}
	return a
}

// maxDepth bounds how deep users go.
const maxDepth = 3

// acts lists everything that a user can do in a tree with a few names. Of a name
// that is spelt in two ways a directory has one at a time, as for SMB's clients.
func (t *tree) acts(names []string) []Act {
	var files, dirs, all, free []string
	var out []Act
	dirs = []string{"."}
	for i := 1; i < len(t.objects); i++ {
		path := t.path(int16(i))
		switch {
		case path == "":
			continue
		case t.objects[i].kind == repl.Directory:
			dirs = append(dirs, path)
		default:
			files = append(files, path)
		}
		all = append(all, path)
	}
	for _, d := range dirs {
		for _, n := range names {
			p := join(d, n)
			if strings.Count(p, "/") >= maxDepth {
				continue
			}
			switch there := t.spelt(t.find(d), n, Law{Fold: true}); {
			case there == gone:
				free = append(free, p)
			case t.objects[there].name != n:
				out = append(out, Act{Rename, t.path(there), p})
			}
		}
	}
	slices.Sort(all)
	slices.Sort(files)
	slices.Sort(free)
	for _, p := range free {
		out = append(out, Act{Create, p, ""}, Act{Mkdir, p, ""})
		for _, q := range all {
			if !near(q, p) {
				out = append(out, Act{Rename, q, p})
			}
		}
	}
	for i, p := range all {
		out = append(out, Act{Delete, p, ""}, Act{Chmod, p, ""}, Act{Retype, p, ""})
		for _, q := range all[i+1:] {
			if !near(p, q) {
				out = append(out, Act{Swap, p, q})
			}
		}
	}
	for _, p := range files {
		out = append(out, Act{Edit, p, ""})
		for _, q := range files {
			if p != q {
				out = append(out, Act{RenameOver, p, q})
			}
		}
	}
	return out
}

// doer is a user at work: which contents are still unwritten, and which were
// written and which replaced or deleted by one who had them.
type doer struct {
	next             uint8 // content
	mode             uint8 // the next one that a chmod gives
	written, settled contents
}

// newDoer is the user of the n-th member, who finds what is written already.
func newDoer(n int, written contents) doer {
	return doer{next: uint8(n * contentsEach), mode: uint8(16 * (n + 1)), written: written}
}

func (d *doer) fresh() uint8 {
	d.written.add(d.next)
	d.next++
	return d.next - 1
}

// do carries out an act.
func (d *doer) do(t *tree, a Act) {
	n := t.find(a.Path)
	parent, name := split(a.Path)
	switch a.Deed {
	case Create:
		t.add(t.find(parent), name, repl.File, d.fresh())
	case Mkdir:
		t.add(t.find(parent), name, repl.Directory, 0)
	case Edit:
		o := &t.objects[n]
		d.settled.add(o.content)
		o.content, o.ctime = d.fresh(), t.tick()
		o.mtime = repl.Time(o.content) + 1
	case Chmod:
		o := &t.objects[n]
		o.mode, o.ctime = d.mode, t.tick()
		d.mode++
	case Delete:
		d.remove(t, n)
	case Retype:
		kind := repl.Directory
		if t.objects[n].kind == repl.Directory {
			kind = repl.File
		}
		d.remove(t, n)
		content := uint8(0)
		if kind == repl.File {
			content = d.fresh()
		}
		t.add(t.find(parent), name, kind, content)
	case Rename:
		to, as := split(a.To)
		t.move(n, t.find(to), as)
	case RenameOver:
		over := t.find(a.To)
		o := t.objects[over]
		d.remove(t, over)
		t.move(n, o.parent, o.name)
	case Swap:
		m := t.find(a.To)
		x, y := t.objects[n], t.objects[m]
		t.move(n, y.parent, y.name)
		t.move(m, x.parent, x.name)
	}
}

// remove deletes an object with all in it.
func (d *doer) remove(t *tree, n int16) {
	t.entries(n, func(c int16, _ *object) { d.remove(t, c) })
	o := &t.objects[n]
	if o.kind != repl.Directory {
		d.settled.add(o.content)
	}
	o.parent, o.ctime = gone, t.tick()
}
