package preserve

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// Purge removes a kept object for good, a directory with all that is in it.
// An interrupted purge of a directory leaves the rest of it kept.
func (s *Store) Purge(ctx context.Context, e Entry) (err error) {
	s.work.Lock()
	defer s.work.Unlock()
	return s.purge(ctx, &e)
}

// purge is Purge for the holder of work.
func (s *Store) purge(ctx context.Context, e *Entry) (err error) {
	area, err := s.v.Private(e.Area)
	if err != nil {
		return fmt.Errorf("purge %q: %w", e.Name, err)
	}
	defer func() { err = errors.Join(err, area.Close()) }()
	if e.Type == repl.Directory {
		if err = s.removeTree(ctx, area, e.Name); err != nil {
			s.spoiled(e)
		}
	} else {
		err = area.Remove(e.Name)
	}
	if err == nil {
		s.gone(e)
		err = ignore(area.Remove(e.Name+manifestSuffix), volume.ErrNotExist)
	}
	if err != nil {
		return fmt.Errorf("purge %q: %w", e.Name, err)
	}
	return nil
}

// maxDepth is how deep removeTree descends before it takes what lies deeper out
// to the area itself; each level holds a descriptor.
const maxDepth = 64

// removeTree removes the directory name and what is in it. What lies too deep
// is moved next to it first, so that no depth is too much.
func (s *Store) removeTree(ctx context.Context, area volume.Dir, name string) error {
	queue := []string{name}
	for len(queue) > 0 {
		at := queue[len(queue)-1]
		deeper, err := s.removeLevels(ctx, area, area, at, maxDepth)
		if err != nil {
			return err
		}
		queue = append(queue[:len(queue)-1], deeper...)
	}
	return nil
}

// maxPasses bounds how often a directory is listed again because entries are
// left: a filesystem may skip some while others are being removed.
const maxPasses = 16

// removeLevels removes name in dir and returns the names in area of what lay
// too deep.
func (s *Store) removeLevels(ctx context.Context, area, dir volume.Dir, name string, depth int) (deeper []string, err error) {
	if depth == 0 {
		aside := s.newName(0, "purge")
		if err := dir.Rename(name, area, aside); err != nil {
			return nil, err
		}
		return []string{aside}, nil
	}
	for range maxPasses {
		more, err := s.empty(ctx, area, dir, name, depth)
		deeper = append(deeper, more...)
		if err != nil {
			return deeper, err
		}
		if err = dir.Rmdir(name); !errors.Is(err, volume.ErrNotEmpty) {
			return deeper, err
		}
	}
	return deeper, fmt.Errorf("remove directory %q: something is put into it all the time: %w", name, volume.ErrNotEmpty)
}

// empty removes what is in the directory name of dir.
func (s *Store) empty(ctx context.Context, area, dir volume.Dir, name string, depth int) (deeper []string, err error) {
	d, err := dir.OpenDir(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	var sub []string
	err = d.List(func(e volume.Entry) error {
		if d.Remove(e.Name) != nil { // a directory, most likely
			sub = append(sub, e.Name)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	for _, child := range sub {
		more, err := s.removeChild(ctx, area, d, child, depth)
		deeper = append(deeper, more...)
		if err != nil {
			return deeper, err
		}
	}
	return deeper, nil
}

func (s *Store) removeChild(ctx context.Context, area, d volume.Dir, child string, depth int) ([]string, error) {
	st, err := d.Lookup(child)
	if err != nil {
		return nil, ignore(err, volume.ErrNotExist)
	}
	if st.Type != repl.Directory {
		return nil, d.Remove(child) // says why it could not be removed
	}
	return s.removeLevels(ctx, area, d, child, depth-1)
}

// Tidy removes manifests whose object is gone, as a crash leaves them. It runs
// before the first Evict by itself. A manifest whose object is just being moved
// in is left alone.
func (s *Store) Tidy() error {
	s.work.Lock()
	defer s.work.Unlock()
	return s.tidyUp()
}

// tidyUp is Tidy for the holder of work.
func (s *Store) tidyUp() error {
	if s.tidy {
		return nil
	}
	for _, p := range []volume.Private{volume.Conflicts, volume.PreExisting} {
		if err := s.tidyArea(p); err != nil {
			return fmt.Errorf("tidy the conflict store: %w", err)
		}
	}
	s.tidy = true
	return nil
}

func (s *Store) tidyArea(p volume.Private) (err error) {
	area, err := s.v.Private(p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, area.Close()) }()
	var manifests []string
	err = area.List(func(e volume.Entry) error {
		if strings.HasSuffix(e.Name, manifestSuffix) {
			manifests = append(manifests, e.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range manifests {
		object := strings.TrimSuffix(name, manifestSuffix)
		if s.arriving(object) {
			continue // asked before the look-up: once it has arrived, it is found
		}
		_, err := area.Lookup(object)
		if errors.Is(err, volume.ErrNotExist) {
			err = ignore(area.Remove(name), volume.ErrNotExist)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
