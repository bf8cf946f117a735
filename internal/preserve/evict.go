package preserve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// The watermarks: eviction begins above the high one and ends below the low
// one, in percent of the quota, as DFSR's.
const (
	highWatermark = 90
	lowWatermark  = 60
)

// Usage says how much is kept. Sizes are those of the files, without manifests.
type Usage struct {
	Objects int // in the conflict area; a directory with all in it is one
	Bytes   int64
	// What is kept from initial sync has no quota.
	PreExisting      int
	PreExistingBytes int64
}

// Policy is what an eviction aims at.
type Policy struct {
	Quota     int64         // bytes in the conflict area
	Retention time.Duration // promised to all but what was deleted remotely
	Reserve   uint64        // bytes that shall be free on the volume
}

// Eviction is what an eviction did.
type Eviction struct {
	Objects int
	Bytes   int64
	After   Usage
	// OverQuota says that more than the quota is kept, all of it promised.
	OverQuota bool
}

// candidate is an object that an eviction may remove.
type candidate struct {
	entry    Entry // without metadata
	size     int64
	promised bool
}

// Usage says how much is kept. It reads the manifests if anything was removed,
// or a directory kept, since it was last asked.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	if u, known := s.known(); known {
		return u, nil
	}
	s.work.Lock()
	defer s.work.Unlock()
	u, _, err := s.measure(ctx)
	return u, err
}

// Evict is to be called every few minutes and when room is short. It removes
// kept objects if more than 90 % of the quota is used, until 60 % is, or if less than the reserve is free: what was deleted remotely first,
// then what has outlived the retention, each from the oldest on; nothing else,
// and nothing from before the initial sync (rule 26).
func (s *Store) Evict(ctx context.Context, now repl.Time, p Policy) (Eviction, error) {
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.tidyUp(); err != nil {
		return Eviction{}, err
	}
	free, _, err := s.v.Free()
	if err != nil {
		return Eviction{}, fmt.Errorf("evict kept objects: %w", err)
	}
	if u, known := s.known(); known && need(u, free, p) == 0 {
		return Eviction{After: u, OverQuota: u.Bytes > p.Quota}, nil
	}
	u, all, err := s.measure(ctx)
	if err != nil {
		return Eviction{}, fmt.Errorf("evict kept objects: %w", err)
	}
	out := Eviction{After: u}
	missing := need(u, free, p)
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(compareBool(a.promised, b.promised), cmp.Compare(a.entry.At, b.entry.At), cmp.Compare(a.entry.Name, b.entry.Name))
	})
	for i := range all {
		c := &all[i]
		if out.Bytes >= missing || ctx.Err() != nil {
			break
		}
		if c.promised && c.entry.At > now-repl.Time(p.Retention) {
			break // and so are all after it
		}
		if err := s.purge(&c.entry); err != nil {
			return out, fmt.Errorf("evict kept objects: %w", err)
		}
		out.Objects++
		out.Bytes += c.size
		out.After.Objects--
		out.After.Bytes -= c.size
	}
	out.OverQuota = out.After.Bytes > p.Quota
	return out, ctx.Err()
}

// need is how many bytes must go.
func need(u Usage, free uint64, p Policy) int64 {
	var n int64
	if u.Bytes > p.Quota/100*highWatermark {
		n = u.Bytes - p.Quota/100*lowWatermark
	}
	if free < p.Reserve {
		n = max(n, int64(min(p.Reserve-free, 1<<62)))
	}
	return n
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// measure reads all manifests and returns what may be evicted. The caller
// holds work.
func (s *Store) measure(ctx context.Context) (Usage, []candidate, error) {
	var u Usage
	var all []candidate
	s.mu.Lock()
	before := s.count
	s.mu.Unlock()
	err := s.List(func(e Entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		size, err := s.sizeOf(&e)
		if err != nil {
			return err
		}
		if e.Area == volume.PreExisting {
			u.PreExisting++
			u.PreExistingBytes += size
			return nil
		}
		u.Objects++
		u.Bytes += size
		e.Meta, e.Path, e.Record = nil, "", repl.Update{}
		all = append(all, candidate{entry: e, size: size, promised: e.Why != Deleted})
		return nil
	})
	if err != nil {
		return Usage{}, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == before && len(s.coming) == 0 { // else something was kept meanwhile
		s.usage = new(Usage)
		*s.usage = u
	}
	return u, all, nil
}

// known returns what is known without measuring.
func (s *Store) known() (u Usage, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usage == nil {
		return u, false
	}
	return *s.usage, true
}

// account adds an object to what is known (sign 1) or takes it off (-1). The
// caller holds mu.
func (s *Store) account(e *Entry, sign int) {
	size, known := e.Size, true
	if e.Type == repl.Directory {
		size, known = s.trees[e.Name]
	}
	if sign < 0 {
		delete(s.trees, e.Name)
	}
	switch {
	case s.usage == nil:
	case !known:
		s.usage = nil // to be measured
	case e.Area == volume.PreExisting:
		s.usage.PreExisting += sign
		s.usage.PreExistingBytes += size * int64(sign)
	default:
		s.usage.Objects += sign
		s.usage.Bytes += size * int64(sign)
	}
}

// gone takes an object off.
func (s *Store) gone(e *Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account(e, -1)
}

// sizeOf is the size of an object with all in it. Those of directories are
// remembered: nobody works in the store.
func (s *Store) sizeOf(e *Entry) (int64, error) {
	if e.Type != repl.Directory {
		return e.Size, nil
	}
	s.mu.Lock()
	size, known := s.trees[e.Name]
	s.mu.Unlock()
	if known {
		return size, nil
	}
	area, err := s.v.Private(e.Area)
	if err != nil {
		return 0, err
	}
	size, err = treeSize(area, e.Name, maxDepth)
	if err = errors.Join(err, area.Close()); err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.trees[e.Name] = size
	s.mu.Unlock()
	return size, nil
}

// treeSize adds up the files below the directory name, down to some depth;
// what little lies deeper does not count.
func treeSize(in volume.Dir, name string, depth int) (size int64, err error) {
	if depth == 0 {
		return 0, nil
	}
	d, err := in.OpenDir(name)
	if err != nil {
		return 0, ignore(err, volume.ErrNotExist)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	var sub []string
	err = d.List(func(e volume.Entry) error {
		st, err := d.Lookup(e.Name)
		switch {
		case errors.Is(err, volume.ErrNotExist), errors.Is(err, volume.ErrMount):
			return nil
		case err != nil:
			return err
		case st.Type == repl.Directory:
			sub = append(sub, e.Name)
		case st.Type == repl.File:
			size += st.Print.Size
		}
		return nil
	})
	for _, child := range sub {
		if err != nil {
			return size, err
		}
		var more int64
		more, err = treeSize(d, child, depth-1)
		size += more
	}
	return size, err
}
