package preserve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
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
	Quota     int64         // bytes in the conflict area; 0: no quota
	Retention time.Duration // promised to all but what was deleted remotely
	Reserve   uint64        // bytes that shall be free on the volume
}

// high is from how many bytes on the quota makes an eviction.
func (p *Policy) high() int64 {
	if p.Quota <= 0 {
		return math.MaxInt64
	}
	return p.Quota / 100 * highWatermark
}

// over says that more than the quota is kept.
func (p *Policy) over(u Usage) bool { return p.Quota > 0 && u.Bytes > p.Quota }

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
	name      string
	at        repl.Time
	size      int64
	directory bool
	promised  bool
}

// nothing says that an eviction would remove nothing, unless something is kept
// that is not promised.
type nothing struct {
	before    repl.Time // when the first promise is over
	retention time.Duration
}

// Usage says how much is kept. It reads the manifests the first time, and after
// that the directories that were kept since.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	if u, known := s.known(); known {
		return u, nil
	}
	s.work.Lock()
	defer s.work.Unlock()
	u, known, err := s.grown(ctx)
	if err == nil && !known {
		u, _, err = s.measure(ctx)
	}
	return u, err
}

// Due reports whether something was kept since the last eviction by which the
// quota's high watermark may be passed. It reads no disk.
func (s *Store) Due(p Policy) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arrived > 0 && (s.usage == nil || len(s.unsized) > 0 || s.usage.Bytes > p.high())
}

// Evict is to be called when Due says so, and every few minutes for what has
// outlived its promise and for room on the disk. It removes
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
	u, known, err := s.grown(ctx)
	if err != nil {
		return Eviction{}, fmt.Errorf("evict kept objects: %w", err)
	}
	if known && (need(u, free, p) == 0 || s.promisedAll(now, p)) {
		return Eviction{After: u, OverQuota: p.over(u)}, nil
	}
	u, all, err := s.measure(ctx)
	if err != nil {
		return Eviction{}, fmt.Errorf("evict kept objects: %w", err)
	}
	out := Eviction{After: u}
	err = s.evict(ctx, now, p, all, need(u, free, p), &out)
	out.OverQuota = p.over(out.After)
	if err != nil {
		return out, fmt.Errorf("evict kept objects: %w", err)
	}
	return out, nil
}

// evict removes what may go of all, until missing bytes are gone. The caller
// holds work.
func (s *Store) evict(ctx context.Context, now repl.Time, p Policy, all []candidate, missing int64, out *Eviction) error {
	s.mu.Lock()
	s.left = nothing{}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(compareBool(a.promised, b.promised), cmp.Compare(a.at, b.at), cmp.Compare(a.name, b.name))
	})
	for i := range all {
		c := &all[i]
		switch {
		case out.Bytes >= missing:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case c.promised && c.at > now-repl.Time(p.Retention): // and so are all after it
			s.promise(nothing{c.at + repl.Time(p.Retention), p.Retention})
			return nil
		}
		e := Entry{Area: volume.Conflicts, Name: c.name, Type: repl.File, Size: c.size}
		if c.directory {
			e.Type = repl.Directory
		}
		if err := s.purge(ctx, &e); err != nil {
			return err
		}
		out.Objects++
		out.Bytes += c.size
		out.After.Objects--
		out.After.Bytes -= c.size
	}
	return nil
}

// promise notes that all that is left is promised, unless something came that
// is not.
func (s *Store) promise(n nothing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.unpromised {
		s.left = n
	}
}

// promisedAll reports whether nothing may go now, by what the last eviction
// has left and what was kept since; it also says that an eviction begins.
func (s *Store) promisedAll(now repl.Time, p Policy) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := !s.unpromised && s.left.retention == p.Retention && now < s.left.before
	s.unpromised = false
	return all
}

// need is how many bytes must go.
func need(u Usage, free uint64, p Policy) int64 {
	var n int64
	if u.Bytes > p.high() {
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
		all = append(all, candidate{e.Name, e.At, size, e.Type == repl.Directory, e.Why != Deleted})
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
		clear(s.unsized)
	}
	return u, all, nil
}

// known returns what is known without reading.
func (s *Store) known() (u Usage, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usage == nil || len(s.unsized) > 0 {
		return u, false
	}
	return *s.usage, true
}

// grown returns what is known after adding up the directories that were kept
// since it was; not known if nothing has been measured yet. What is kept from
// here on makes the next eviction due. The caller holds work.
func (s *Store) grown(ctx context.Context) (u Usage, known bool, err error) {
	s.mu.Lock()
	s.arrived = 0
	known = s.usage != nil
	fresh := maps.Clone(s.unsized)
	s.mu.Unlock()
	if !known {
		return Usage{}, false, nil
	}
	for name, area := range fresh {
		if err := ctx.Err(); err != nil {
			return Usage{}, false, err
		}
		size, err := s.sizeOf(&Entry{Area: area, Name: name, Type: repl.Directory})
		if err != nil {
			return Usage{}, false, err
		}
		s.mu.Lock()
		delete(s.unsized, name)
		if area == volume.PreExisting {
			s.usage.PreExistingBytes += size
		} else {
			s.usage.Bytes += size
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.usage, true, nil
}

// account adds an object to what is known (sign 1) or takes it off (-1). The
// size of a directory is found out when it is asked for. The caller holds mu.
func (s *Store) account(e *Entry, sign int) {
	size := e.Size
	if e.Type == repl.Directory {
		size = s.trees[e.Name]
	}
	if sign < 0 {
		delete(s.trees, e.Name)
		delete(s.unsized, e.Name)
	} else {
		if e.Type == repl.Directory {
			s.unsized[e.Name] = e.Area
		}
		s.unpromised = s.unpromised || e.Why == Deleted
		s.arrived++
	}
	switch {
	case s.usage == nil:
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

// Size is the size of a kept object, a directory with all in it, in bytes.
func (s *Store) Size(e *Entry) (int64, error) {
	size, err := s.sizeOf(e)
	if err != nil {
		return 0, fmt.Errorf("size of kept object %q: %w", e.Name, err)
	}
	return size, nil
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

// spoiled forgets the size of a directory of which only a part was removed.
func (s *Store) spoiled(e *Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.usage = nil
	delete(s.trees, e.Name)
}
