package merge

import (
	"fmt"
	"reflect"
	"testing"

	"opendfs/internal/filter"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// plainIsWhole reports where the short way of a batch, or of one of its updates
// alone, comes to another plan than the long one.
func plainIsWhole(view View, batch []repl.Update, partner version.Vector, opts Options) error {
	parts := [][]repl.Update{batch}
	for i := range batch {
		parts = append(parts, batch[i:i+1])
	}
	for _, part := range parts {
		short, ok := plain(view, part, partner, opts)
		if !ok {
			continue
		}
		long, err := decide(view, part, partner, opts)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(short, long) {
			return fmt.Errorf("of %d updates the short way makes\n%s\nand the long one\n%s", len(part), summary(&short), summary(&long))
		}
	}
	return nil
}

// A batch of metadata goes the short way, and comes to what the long one does,
// whatever a filter keeps out; anything else in it has all of it go the long way.
func TestPlainBatches(t *testing.T) {
	keeping := func(r filter.Rules, longest int) *filter.Set {
		set, err := filter.New(r)
		if err != nil {
			t.Fatal(err)
		}
		return set.Within(longest)
	}
	for _, c := range []struct {
		name  string
		set   *filter.Set
		act   func(s *stage)
		short bool
	}{
		{"no filter", nil, nil, true},
		{"files kept out", keeping(filter.Rules{Files: []string{"a"}}, 0), nil, true},
		{"directories kept out", keeping(filter.Rules{Directories: []string{"d"}}, 0), nil, true},
		{"names that are just short enough", keeping(filter.Rules{}, 1), nil, true},
		{"an edit beside them", nil, func(s *stage) { s.b.edit(s.at(s.b, "b")) }, false},
		{"a directory beside them", nil, func(s *stage) { s.b.chmod(s.at(s.b, "e")) }, false},
		{"a move beside them", nil, func(s *stage) { s.b.rename(s.at(s.b, "b"), root, "c") }, false},
		{"their directory has gone here", nil, func(s *stage) { s.a.remove(s.at(s.a, "d")) }, false},
		{"one was edited here", nil, func(s *stage) { s.a.edit(s.at(s.a, "d/a")) }, false},
		{"one has moved here", nil, func(s *stage) { s.a.rename(s.at(s.a, "d/a"), root, "c") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			s.b.chmod(s.at(s.b, "a"))
			s.tick()
			s.b.chmod(s.at(s.b, "d/a"))
			s.tick()
			if c.act != nil {
				c.act(s)
			}
			opts := Options{Folder: folder, Filter: c.set}
			if _, short := plain(s.a, s.since(), s.b.vec, opts); short != c.short {
				t.Errorf("the short way is taken: %v, should be %v", short, c.short)
			}
			s.check(plainIsWhole(s.a, s.since(), s.b.vec, opts))
		})
	}
}

// What lies in a directory whose name this disk cannot hold leaves it, which is for
// the long way.
func TestPlainBatchLiesInDirectoriesOfThisDisk(t *testing.T) {
	s := newStage(t)
	s.b.rename(s.at(s.b, "d"), root, "long")
	s.meet()
	s.tick()
	s.b.chmod(s.at(s.b, "long/a"))
	set, err := filter.New(filter.Rules{})
	s.check(err)
	opts := Options{Folder: folder, Filter: set.Within(3)}
	if _, short := plain(s.a, s.since(), s.b.vec, opts); short {
		t.Error("what cannot stay on this disk went the short way")
	}
	opts.Filter = set.Within(4)
	if _, short := plain(s.a, s.since(), s.b.vec, opts); !short {
		t.Error("what stays on this disk went the long way")
	}
	s.check(plainIsWhole(s.a, s.since(), s.b.vec, opts))
}

// One object twice in a batch is no plain batch: the greater version counts.
func TestPlainBatchHoldsEachObjectOnce(t *testing.T) {
	s := newStage(t)
	s.b.chmod(s.at(s.b, "a"))
	first := s.since()
	s.tick()
	s.b.chmod(s.at(s.b, "a"))
	batch := append(first, s.since()...)
	if _, short := plain(s.a, batch, s.b.vec, Options{Folder: folder}); short {
		t.Error("a batch with two versions of one object went the short way")
	}
	if plan := s.decideOn(batch...); len(plan.Changes) != 1 {
		t.Errorf("%d changes of one object:\n%s", len(plan.Changes), summary(&plan))
	}
}
