package rdc

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// How Feed hands a content on: in pieces, of which each taker may have feedAhead
// before it. The first ones are of feedSize, so that all begin soon and what is small
// stays in a processor's own cache; behind the first feedLong bytes they are of
// feedMost, which disks take best and which wake eight times fewer takers.
const (
	feedSize  = 128 << 10
	feedMost  = 1 << 20
	feedLong  = 16 << 20
	feedAhead = 4
)

// feeding is a piece of a content on its way to its takers.
type feeding struct {
	buf  []byte // of feedSize or feedMost
	n    int
	refs atomic.Int32 // takers that have not taken it yet
}

func (f *feeding) free() {
	if len(f.buf) == feedMost {
		longFeedings.Put(f)
	} else {
		feedings.Put(f)
	}
}

// nextFeeding is for the piece that follows all bytes.
func nextFeeding(all int64) *feeding {
	if all >= feedLong {
		return longFeedings.Get().(*feeding)
	}
	return feedings.Get().(*feeding)
}

var (
	feedings     = sync.Pool{New: func() any { return &feeding{buf: make([]byte, feedSize)} }}
	longFeedings = sync.Pool{New: func() any { return &feeding{buf: make([]byte, feedMost)} }}
)

// Feed reads r to its end and writes all of it to each of the takers, in order;
// it returns the number of bytes read. r is read by the caller's goroutine, which
// serves the first taker too. With apart each of the others has a goroutine of its
// own, so that reading, hashing, signing and writing go on side by side, and each has
// returned when Feed does. The first is to be the one with the most to do: a goroutine
// of its own for it would have the two that are busiest wake each other at each piece,
// where a server with two cores waits more than it works. The first error of a taker,
// in their order, ends it, or that of r, which is returned as it is.
func Feed(r io.Reader, apart bool, takers ...io.Writer) (int64, error) {
	if !apart {
		return feedInTurn(r, takers)
	}
	var failed atomic.Bool
	var done sync.WaitGroup
	errs := make([]error, len(takers)+1)
	lines := make([]chan *feeding, len(takers))
	take := func(i int, f *feeding) {
		if errs[i] == nil {
			if _, errs[i] = takers[i].Write(f.buf[:f.n]); errs[i] != nil {
				failed.Store(true)
			}
		}
		if f.refs.Add(-1) == 0 {
			f.free()
		}
	}
	for i := 1; i < len(takers); i++ {
		lines[i] = make(chan *feeding, feedAhead)
		done.Go(func() {
			for f := range lines[i] {
				take(i, f)
			}
		})
	}
	var all int64
	var err error
	for err == nil && !failed.Load() {
		f := nextFeeding(all)
		f.n, err = readFull(r, f.buf)
		all += int64(f.n)
		f.refs.Store(int32(len(takers)))
		if f.n == 0 || len(takers) == 0 {
			f.free()
			continue
		}
		for _, line := range lines[1:] {
			line <- f
		}
		take(0, f)
	}
	for i := 1; i < len(takers); i++ {
		close(lines[i])
	}
	done.Wait()
	if !errors.Is(err, io.EOF) {
		errs[len(takers)] = err
	}
	for _, err := range errs {
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func feedInTurn(r io.Reader, takers []io.Writer) (all int64, err error) {
	f := nextFeeding(0)
	defer f.free()
	for err == nil {
		f.n, err = readFull(r, f.buf)
		all += int64(f.n)
		for _, w := range takers {
			if f.n > 0 {
				if _, err := w.Write(f.buf[:f.n]); err != nil {
					return all, err
				}
			}
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return all, err
}

// readFull fills p as far as r goes: io.EOF says that it does not go further.
func readFull(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = r.Read(p[n:])
		n += k
	}
	return n, err
}
