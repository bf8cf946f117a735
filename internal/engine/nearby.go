package engine

import (
	"errors"
	"slices"
	"sync"

	"opendfs/internal/volume"
)

// keptOpen is how many directories stay open after a file of them was served.
const keptOpen = 4

// nearby keeps open the directories that files were served from last: what a partner
// asks for next mostly lies beside. A file that is found there is believed by its
// identity and its print alone, so a directory that was moved or removed costs another
// look.
type nearby struct {
	mu   sync.Mutex
	last []*nearDir // the last one first, at most keptOpen; guarded by mu
	shut bool       // nothing is kept any more; guarded by mu
}

// nearDir is an open directory. Whoever keeps it and each who uses it counts.
type nearDir struct {
	volume.Dir
	path  string
	users int // guarded by nearby.mu
}

// take returns the directory at a path, open, the caller's to give back; fresh: one
// that is opened now.
func (n *nearby) take(v volume.Volume, path string, fresh bool) (*nearDir, error) {
	n.mu.Lock()
	at := slices.IndexFunc(n.last, func(d *nearDir) bool { return d.path == path })
	if at >= 0 && !fresh {
		d := n.last[at]
		copy(n.last[1:], n.last[:at])
		n.last[0] = d
		d.users++
		n.mu.Unlock()
		return d, nil
	}
	n.mu.Unlock()
	opened, err := v.OpenDir(path)
	if err != nil {
		return nil, err
	}
	d := &nearDir{Dir: opened, path: path, users: 1}
	n.keep(d)
	return d, nil
}

// keep keeps a directory in place of the one that was used longest ago, or of another
// of its path.
func (n *nearby) keep(d *nearDir) {
	n.mu.Lock()
	if n.shut {
		n.mu.Unlock()
		return
	}
	var out *nearDir
	at := slices.IndexFunc(n.last, func(o *nearDir) bool { return o.path == d.path })
	if at < 0 && len(n.last) == keptOpen {
		at = keptOpen - 1
	}
	if at >= 0 {
		out = n.last[at]
		n.last = slices.Delete(n.last, at, at+1)
	}
	d.users++
	n.last = slices.Insert(n.last, 0, d)
	n.mu.Unlock()
	if out != nil {
		_ = n.give(out) // it was only read
	}
}

// give gives a directory back; the last one closes it.
func (n *nearby) give(d *nearDir) error {
	n.mu.Lock()
	d.users--
	over := d.users == 0
	n.mu.Unlock()
	if over {
		return d.Close()
	}
	return nil
}

// close lets go of all that is kept.
func (n *nearby) close() error {
	n.mu.Lock()
	kept := n.last
	n.last, n.shut = nil, true
	n.mu.Unlock()
	var errs []error
	for _, d := range kept {
		errs = append(errs, n.give(d))
	}
	return errors.Join(errs...)
}
