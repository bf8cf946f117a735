package capture

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// spelling is how a name on disk stands to a record of the same folded name
// that is spelt differently.
type spelling int

const (
	respelt spelling = iota // what lies there is, or follows, the record's object
	second                  // the record's own spelling is there too: this one is left alone
	untrue                  // the filesystem finds one entry by both: its listing tells
)

// spell compares what lies at a name with what lies at a record's own spelling
// of it. rec was on this disk when it was recorded. A directory takes its record
// along; with files the place decides, as everywhere.
func spell(dir volume.Dir, st *volume.Stat, rec *repl.Record) (spelling, error) {
	now, err := dir.Lookup(rec.Name)
	switch {
	case errors.Is(err, volume.ErrNotExist):
		return respelt, nil
	case errors.Is(err, volume.ErrUnmounted):
		return second, err
	case err != nil:
		return second, nil // whatever hides it is told where it lies
	case now.Identity == st.Identity && (st.Type == repl.Directory || st.Links <= 1):
		return untrue, nil
	case st.Type == repl.Directory && same(rec, st) && !same(rec, &now):
		return respelt, nil
	}
	return second, nil
}

// spelt judges a name that the record of its place spells differently. It
// reports whether the name is to be judged as that record's.
func (l *look) spelt(n Name, st *volume.Stat, rec *repl.Record) (bool, error) {
	how, err := spell(l.here.dir, st, rec)
	switch {
	case err != nil:
		return false, err
	case how == second:
		l.collide(n.Name, rec.Name)
		return false, nil
	case how == untrue && !l.work.All:
		l.result.AgainAll = max(l.result.AgainAll, unsettledAfter)
		return false, nil
	}
	return true, nil
}

// collide notes a name that stays unreplicated because another one that folds to
// the same is on record.
func (l *look) collide(name, recorded string) {
	l.result.Skipped.Collided++
	l.raise(finding.NameCollides, l.here.pathOf(name), fmt.Sprintf("%q replicates; in this folder both are one name", recorded))
}

// taken returns the name of a draft that gives its object the folded place of a
// name of this directory.
func (l *look) taken(drafts []Draft, name string) (string, bool) {
	if !l.deps.Fold {
		return "", false
	}
	for i := range drafts {
		u := &drafts[i].Update
		if u.Present && u.Parent == l.here.uid && l.fold(u.Name) == l.fold(name) {
			return u.Name, true
		}
	}
	return "", false
}

// unreplicated reports whether what lies at a path does not replicate because of
// its name or of a directory above it: a filter keeps it out, another spelling of
// it is on record, or it lies in another replicated folder.
func (l *look) unreplicated(at string, isDir bool) (bool, error) {
	if at == "." || l.deps.Filter.MatchPath(at, isDir) {
		return at != ".", nil
	}
	if in, err := l.inNested(path.Dir(at)); err != nil || in || !l.deps.Fold {
		return in, err
	}
	for above, rest := ".", at; ; {
		name, below, more := strings.Cut(rest, "/")
		s, err := l.directoryAt(above) // by its identity: its name may tell of another
		if err != nil {
			return false, err
		}
		if s != nil { // else it is new, and what is below it may not be
			is, err := l.isSecond(s, name)
			l.leave(s)
			if err != nil || is {
				return is, err
			}
		}
		if !more {
			return false, nil
		}
		above, rest = path.Join(above, name), below
	}
}

// inNested reports whether a directory is, or lies in, the root of another replicated
// folder in this one's tree. One that is where its record says lies in none.
func (l *look) inNested(dir string) (bool, error) {
	if l.deps.Nested != nil && !l.deps.Nested.Load() {
		return false, nil
	}
	for at := dir; at != "." && at != l.within; at = path.Dir(at) {
		s, err := l.directoryAt(at)
		if err != nil {
			return false, err
		}
		if s != nil {
			on, err := l.deps.Records.Path(s.uid)
			l.leave(s)
			if err != nil {
				return false, err
			}
			if on == at {
				break
			}
		}
		above, err := l.openPath(path.Dir(at))
		if err != nil {
			return false, nil // it moved on, or the look that leads there tells
		}
		is, err := volume.IsRoot(above, path.Base(at))
		_ = above.Close() // it was only read
		if err == nil && is {
			return true, nil
		}
	}
	l.within = dir
	return false, nil
}

// openPath opens the directory at a path, whatever is on record of it.
func (l *look) openPath(at string) (volume.Dir, error) {
	if at == "." {
		return l.deps.Volume.Root()
	}
	return l.deps.Volume.OpenDir(at)
}

// isSecond reports whether what lies at a name of a directory is left alone
// because another spelling of it is on record and there.
func (l *look) isSecond(s *spot, name string) (bool, error) {
	rec, ok, err := l.deps.Records.At(s.uid, name)
	if err != nil || !ok || rec.Name == name || !seen(&rec) {
		return false, err
	}
	st, err := s.dir.Lookup(name)
	if err != nil {
		return false, nil // it moved on
	}
	how, err := spell(s.dir, &st, &rec)
	return how == second, err
}
