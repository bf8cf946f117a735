package capture

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/version"

	"golang.org/x/sys/unix"
)

// shelf is records whose look-ups cost next to nothing, to measure the look.
type shelf struct {
	*ledger
	in map[repl.UID][]repl.Record // live, by name
}

func (s *shelf) Children(dir repl.UID, after string, fn func(*repl.Record) bool) error {
	list := s.in[dir]
	from, found := slices.BinarySearchFunc(list, after, func(r repl.Record, n string) int { return strings.Compare(r.Name, n) })
	if found {
		from++
	}
	for i := range list[from:] {
		if !fn(&list[from+i]) {
			return nil
		}
	}
	return nil
}

func (s *shelf) ByHandle(string) ([]repl.Record, error) { return nil, nil }

func (s *shelf) Path(dir repl.UID) (string, error) {
	if dir == s.root {
		return ".", nil
	}
	return s.byUID[dir].Name, nil
}

// benchTree is a tree of directories with files of size bytes.
func benchTree(b testing.TB, dirs, files, size int) (*world, *shelf) {
	w := newWorldAt(b, inMemory(b))
	w.deps.Volume, w.ahead = w.plain, time.Hour // at rest
	text := bytes.Repeat([]byte("x"), size)
	for d := range dirs {
		dir := w.abs(fmt.Sprintf("directory-%04d", d))
		w.must(os.Mkdir(dir, 0o755))
		for f := range files {
			w.must(os.WriteFile(fmt.Sprintf("%s/file-%05d.txt", dir, f), text, 0o644))
		}
	}
	s := &shelf{w.book, map[repl.UID][]repl.Record{}}
	w.deps.Records = s
	return w, s
}

// build walks the tree and puts every draft on the shelf.
func (s *shelf) build(w *world) (files int) {
	works := w.walk()
	for len(works) > 0 {
		work := works[0]
		works = works[1:]
		res, err := Look(context.Background(), &w.deps, &work, func(d Draft) error {
			files++
			s.next++
			u := repl.Mint(version.GVSN{Originator: version.Originator{1}, Version: s.next}, 1, nil, d.Update)
			rec := repl.Record{Update: u, Presence: d.Presence, Identity: d.Identity, Print: d.Print}
			s.in[work.Dir] = append(s.in[work.Dir], rec)
			if u.Type == repl.Directory {
				s.byUID[u.UID] = &rec
			}
			return nil
		})
		w.must(err)
		for _, name := range res.Descend {
			i, _ := slices.BinarySearchFunc(s.in[work.Dir], name, func(r repl.Record, n string) int { return strings.Compare(r.Name, n) })
			works = append(works, Work{Dir: s.in[work.Dir][i].UID, All: true})
		}
	}
	return files
}

// cpu returns the seconds of processor time that this process has used: what a
// look costs whatever else the machine does.
func cpu(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

func (s *shelf) clear() {
	s.in = map[repl.UID][]repl.Record{}
}

func BenchmarkInitialBuild(b *testing.B) {
	w, s := benchTree(b, 20, 500, 4096)
	n, begin := 0, cpu(b)
	b.ReportAllocs()
	for b.Loop() {
		s.clear()
		n += s.build(w)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "files/s")
	b.ReportMetric(float64(n)/(cpu(b)-begin), "files/cpu-s")
}

func walkBench(b *testing.B, dirs, files int) {
	w, s := benchTree(b, dirs, files, 4096)
	total := s.build(w)
	works := w.walk()
	for _, r := range s.in[s.root] {
		works = append(works, Work{Dir: r.UID, All: true})
	}
	n, begin := 0, cpu(b)
	b.ReportAllocs()
	for b.Loop() {
		for i := range works {
			res, err := Look(context.Background(), &w.deps, &works[i], func(d Draft) error {
				return fmt.Errorf("%s of %s", d.Kind, d.Update.Name)
			})
			if err != nil || !res.Complete {
				b.Fatal(err, res)
			}
		}
		n += total
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "files/s")
	b.ReportMetric(float64(n)/(cpu(b)-begin), "files/cpu-s")
}

func BenchmarkWarmWalk(b *testing.B)     { walkBench(b, 20, 500) }
func BenchmarkBigDirectory(b *testing.B) { walkBench(b, 1, 100000) }

func BenchmarkNames(b *testing.B) {
	for b.Loop() {
		var l names
		for i := range 1000000 {
			if err := l.add(fmt.Sprintf("some-file-%07d.txt", (i*7919)%1000000)); err != nil {
				b.Fatal(err)
			}
		}
		l.seal()
	}
}
