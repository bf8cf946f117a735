package preserve

import (
	"slices"
	"strings"

	"opendfs/internal/repl"
)

// Selection chooses kept objects. The zero value chooses all.
type Selection struct {
	Paths  []string  // where they were, or a directory above; none: everywhere
	Since  repl.Time // kept then or later; 0: ever
	Before repl.Time // kept earlier; 0: ever
	Why    []Why     // none: for whatever reason
}

// Match reports whether an entry is chosen.
func (sel *Selection) Match(e *Entry) bool {
	return (sel.Since == 0 || e.At >= sel.Since) && (sel.Before == 0 || e.At < sel.Before) &&
		(len(sel.Why) == 0 || slices.Contains(sel.Why, e.Why)) &&
		(len(sel.Paths) == 0 || slices.ContainsFunc(sel.Paths, func(p string) bool { return beneath(e.Path, p) }))
}

// beneath reports whether path is dir or lies in it; "." is the root.
func beneath(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, dir)
	return dir == "." || ok && (rest == "" || rest[0] == '/')
}

// Homeless reports whether nobody knows where the object was: Path is then only
// a name for it.
func (e *Entry) Homeless() bool { return e.Why == LeftOver && e.Record.UID.IsZero() }
