package capture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"opendfs/internal/repl"

	"golang.org/x/sync/errgroup"
)

func TestNamesComeBackInOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	var l names
	var want []string
	for i := range 60000 {
		n := fmt.Sprintf("%d%s", i, strings.Repeat("x", rnd.IntN(120)))
		want = append(want, n)
		if err := l.add(n); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []string{"", "\xff", strings.Repeat("y", 1000)} {
		want = append(want, n)
		if err := l.add(n); err != nil {
			t.Fatal(err)
		}
	}
	if l.add(strings.Repeat("z", chunkSize)) == nil {
		t.Error("a name longer than a chunk is taken")
	}
	l.seal()
	slices.Sort(want)
	if l.len() != len(want) {
		t.Fatalf("%d names of %d", l.len(), len(want))
	}
	for i := range want {
		if l.name(i) != want[i] {
			t.Fatalf("name %d is %.20q, want %.20q", i, l.name(i), want[i])
		}
	}
}

// A directory of 100,000 names is compared with its records by pages; what
// changed in it is found, and nothing else is read.
func TestBigDirectory(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 100,000 files")
	}
	w, s := benchTree(t, 1, 100000, 0)
	if n := s.build(w); n != 100001 {
		t.Fatalf("%d objects are drafted", n)
	}
	w.deps.Volume = countingVolume{w.plain, &w.reads}
	dir := s.in[s.root][0]
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(i int) string { return fmt.Sprintf("%s/directory-0000/file-%05d.txt", w.root, i) }
	for i := range 100 {
		must(os.Remove(at(i * 1000)))
		must(os.WriteFile(at(i*1000+7), []byte("edited"), 0o644))
		must(os.WriteFile(at(i*1000+9)+"-new", []byte("new"), 0o644))
	}
	got := map[Kind]int{}
	work := Work{Dir: dir.UID, All: true}
	res, err := Look(t.Context(), &w.deps, &work, func(d Draft) error { got[d.Kind]++; return nil })
	must(err)
	if !res.Complete || len(res.Gone) != 100 || got[KindEdit] != 100 || got[KindCreate] != 100 || len(got) != 2 {
		t.Errorf("complete %v, %d gone, drafts %v", res.Complete, len(res.Gone), got)
	}
	if w.reads != 100*len("edited")+100*len("new") {
		t.Errorf("%d bytes were read", w.reads)
	}
	for _, uid := range res.Gone {
		i := slices.IndexFunc(s.in[dir.UID], func(r repl.Record) bool { return r.UID == uid })
		s.byUID[uid] = &s.in[dir.UID][i]
	}
	deleted := 0
	_, err = Gone(t.Context(), &w.deps, res.Gone, func(d Draft) error {
		if d.Kind != KindDelete || d.Update.Present {
			t.Errorf("drafted %+v", d)
		}
		deleted++
		return nil
	})
	must(err)
	if deleted != 100 {
		t.Errorf("%d deletions", deleted)
	}
}

// Looks at different directories share nothing but what they are given.
func TestLooksAtOnce(t *testing.T) {
	w, s := benchTree(t, 8, 50, 300000)
	s.build(w)
	var g errgroup.Group
	for _, dir := range s.in[s.root] {
		for i := range 10 {
			if err := os.WriteFile(fmt.Sprintf("%s/%s/file-%05d.txt", w.root, dir.Name, i), []byte("edited"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		g.Go(func() error {
			edits := 0
			work := Work{Dir: dir.UID, All: true}
			_, err := Look(context.Background(), &w.deps, &work, func(d Draft) error {
				if d.Kind == KindEdit && d.Update.Content == hashOf([]byte("edited")) {
					edits++
				}
				return nil
			})
			if err == nil && edits != 10 {
				err = fmt.Errorf("%s: %d edits of 10", dir.Name, edits)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}
