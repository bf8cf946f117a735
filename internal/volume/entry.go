package volume

import "opendfs/internal/repl"

// Opened is a file or a directory that is open.
type Opened interface {
	Stat() (Stat, error)
	Sync() error
	Close() error
}

// OpenEntry opens the directory or the file at a name. A link cannot be opened.
func OpenEntry(d Dir, name string, t repl.Type) (Opened, error) {
	if t == repl.Directory {
		return d.OpenDir(name)
	}
	return d.OpenFile(name)
}
