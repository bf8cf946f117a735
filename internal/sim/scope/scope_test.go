package scope

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"opendfs/internal/repl"
)

// one returns how much of a scope is tried: one in so many cases. SCOPE=all
// tries every one (an hour), SCOPE=n n times as many.
func one(in int) int {
	switch s := os.Getenv("SCOPE"); s {
	case "":
		return in
	case "all":
		return 1
	default:
		k, err := strconv.ParseFloat(s, 64)
		if err != nil {
			panic("SCOPE: " + err.Error())
		}
		return max(1, int(float64(in)/k))
	}
}

// total counts the cases of all tests.
var total atomic.Int64

// TestMain gives the collector room: cases are short, and live for an instant.
func TestMain(m *testing.M) {
	debug.SetGCPercent(1000)
	code := m.Run()
	text := fmt.Sprintf("%10d  cases of the small scope\n", total.Load())
	fmt.Print(text)
	if file := os.Getenv("DFS_SIM_TABLE"); file != "" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// tally is what the cases of a test come to.
type tally struct {
	mu    sync.Mutex
	cases atomic.Int64
	seen  Seen
	begun time.Time
}

func (a *tally) add(s *Seen) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, n := range s.Verdicts {
		a.seen.Verdicts[i] += n
	}
	a.seen.Respelt += s.Respelt
	a.seen.Again += s.Again
}

func (a *tally) print(t *testing.T, what string) {
	t.Helper()
	all := total.Add(a.cases.Load())
	t.Logf("%s: %d cases in %.1f s (morphed %d, respelt %d, made again %d); %d in all", what, a.cases.Load(), time.Since(a.begun).Seconds(),
		a.seen.Verdicts[repl.VerdictMorphed], a.seen.Respelt, a.seen.Again, all)
	if a.cases.Load() == 0 {
		t.Error("nothing was tried")
	}
}

// each calls fn for the numbers below n, on every processor.
func each(t *testing.T, n int, sum *tally, fn func(i int, seen *Seen) string) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			var seen Seen
			defer func() { sum.add(&seen) }()
			for !t.Failed() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if wrong := fn(i, &seen); wrong != "" {
					t.Error(wrong)
				}
			}
		})
	}
	wg.Wait()
}

// lawful is a scope in a folder that is told something.
func (s Scope) lawful(law Law) *Scope {
	s.Law = law
	return &s
}

// clocks are how the clocks of members stand to each other.
var clocks = []struct {
	name string
	of   [3]Clock
}{
	{"acts in one instant", [3]Clock{{1000, 0}, {1000, 0}, {1000, 0}}},
	{"one acts after the other", [3]Clock{{1000, 1}, {2000, 1}, {3000, 1}}},
	{"acts by turns", [3]Clock{{1000, 3}, {1001, 3}, {1002, 3}}},
}

// narrow is a tree of two names and a directory, wide one of four names.
var (
	narrow = Scope{Names: []string{"a", "b"}, Dirs: []string{"b"}, Files: []string{"a", "b/a"}}
	wide   = Scope{
		Names: []string{"a", "b", "c", "d"}, Dirs: []string{"c", "d"}, Files: []string{"a", "b"},
		Alike: []map[string]string{{"a": "b", "b": "a"}, {"c": "d", "d": "c"}, {"a": "b", "b": "a", "c": "d", "d": "c"}},
	}
)

// respelt is a tree of two names, of which one is spelt in two ways.
var respelt = Scope{Names: []string{"a", "A", "b"}, Dirs: []string{"b"}, Files: []string{"a", "b/a"}}

// apart is a set of cases: histories of so many acts at most of each member,
// every combination.
type apart struct {
	scope  *Scope
	depths []int
	when   Noticed
	in     int // one of so many combinations
	ways   int // ways in which each combination meets; 0: all
}

func (p apart) run(t *testing.T) {
	t.Helper()
	start, err := p.scope.Start()
	if err != nil {
		t.Fatal(err)
	}
	for c, clock := range clocks {
		sum := tally{begun: time.Now()}
		hs := make([][]History, len(p.depths))
		rest := 1
		for i, depth := range p.depths {
			if hs[i], err = Histories(start.as(i+1, clock.of[i]), p.scope.Names, depth, p.when); err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				rest *= len(hs[i])
			}
		}
		in := one(p.in)
		each(t, len(hs[0]), &sum, func(i int, seen *Seen) string {
			of := make([]*History, len(hs))
			of[0] = &hs[0][i]
			for k := range rest {
				if in > 1 && (i*31+k*7+c)%in != 0 {
					continue
				}
				for n, left := 1, k; n < len(hs); n++ {
					of[n] = &hs[n][left%len(hs[n])]
					left /= len(hs[n])
				}
				if !p.scope.least(of...) {
					continue
				}
				if wrong := p.meet(start, of, i+k+c, &sum, seen); wrong != "" {
					return wrong
				}
			}
			return ""
		})
		sum.print(t, clock.name)
		if law := p.scope.Law; law.Morph && sum.seen.Verdicts[repl.VerdictMorphed] == 0 || law.Fold && sum.seen.Respelt == 0 || law.Again && sum.seen.Again == 0 {
			t.Errorf("%+v: not seen at work", law)
		}
		if t.Failed() {
			return
		}
	}
}

func (p apart) meet(start *Member, of []*History, n int, sum *tally, seen *Seen) string {
	want, most := "", 0
	free := true
	for i, h := range of {
		most = max(most, h.updates())
		for _, o := range of[:i] {
			free = free && !meet(h.Acts, o.Acts)
		}
	}
	if free {
		want = together(start, of...)
	}
	ways := Ways(len(of), most)
	tried := p.ways
	if tried == 0 || os.Getenv("SCOPE") == "all" && tried > 1 {
		tried = len(ways)
	}
	for _, h := range of {
		seen.Again += h.Member.again
	}
	for k := range min(tried, len(ways)) {
		way := &ways[(n+k)%len(ways)]
		sum.cases.Add(1)
		if err := Meet(of, way, want, seen, nil); err != nil {
			return Tell(of, way, want)
		}
	}
	return ""
}

// TestApartTwoActs: two members, up to two acts each, two names and a directory.
func TestApartTwoActs(t *testing.T) {
	apart{scope: &narrow, depths: []int{2, 2}, in: 1, ways: 2}.run(t)
}

// TestApartNoticedLate: the same, captured by one walk.
func TestApartNoticedLate(t *testing.T) {
	apart{scope: &narrow, depths: []int{2, 2}, when: AtEnd, in: 7, ways: 2}.run(t)
}

// TestApartThreeActs: up to three acts each.
func TestApartThreeActs(t *testing.T) {
	apart{scope: &narrow, depths: []int{3, 3}, in: 347, ways: 1}.run(t)
}

// TestApartFourNames: up to two acts each, with four names.
func TestApartFourNames(t *testing.T) {
	apart{scope: &wide, depths: []int{2, 2}, in: 97, ways: 2}.run(t)
}

// TestApartThreeMembers: three members; each in turn has acted most.
func TestApartThreeMembers(t *testing.T) {
	apart{scope: &narrow, depths: []int{1, 1, 1}, in: 1, ways: 2}.run(t)
	apart{scope: &narrow, depths: []int{2, 1, 1}, in: 29, ways: 1}.run(t)
	apart{scope: &narrow, depths: []int{1, 2, 1}, in: 29, ways: 1}.run(t)
	apart{scope: &narrow, depths: []int{1, 1, 2}, in: 29, ways: 1}.run(t)
	apart{scope: &narrow, depths: []int{2, 2, 2}, in: 9973, ways: 1}.run(t)
}

// TestApartFolded: names that fold to the same are one; two members, up to two
// acts each.
func TestApartFolded(t *testing.T) {
	apart{scope: respelt.lawful(Law{Fold: true}), depths: []int{2, 2}, in: 5, ways: 1}.run(t)
	apart{scope: respelt.lawful(Law{Fold: true}), depths: []int{1, 1, 1}, in: 3, ways: 1}.run(t)
}

// TestApartMorphed: of two directories of one name both stay.
func TestApartMorphed(t *testing.T) {
	apart{scope: narrow.lawful(Law{Morph: true}), depths: []int{2, 2}, in: 3, ways: 1}.run(t)
	apart{scope: narrow.lawful(Law{Morph: true}), depths: []int{1, 1, 1}, in: 1, ways: 1}.run(t)
}

// TestApartMadeAgain: a name that is made again is the deleted object.
func TestApartMadeAgain(t *testing.T) {
	apart{scope: narrow.lawful(Law{Again: true}), depths: []int{2, 2}, in: 3, ways: 1}.run(t)
	apart{scope: narrow.lawful(Law{Again: true}), depths: []int{3, 2}, in: 127, ways: 1}.run(t)
	apart{scope: narrow.lawful(Law{Again: true}), depths: []int{2, 1, 1}, in: 97, ways: 1}.run(t)
}

// TestApartAllAtOnce: all of that.
func TestApartAllAtOnce(t *testing.T) {
	apart{scope: respelt.lawful(Law{Fold: true, Morph: true, Again: true}), depths: []int{2, 2}, in: 7, ways: 1}.run(t)
}

// TestBetween: two members hear of each other, or begin to, between any two of
// three acts.
func TestBetween(t *testing.T) { between(t, &narrow, 7) }

// TestBetweenMadeAgain: the same, where a name that is made again is the deleted
// object and of two directories of one name both stay.
func TestBetweenMadeAgain(t *testing.T) {
	between(t, narrow.lawful(Law{Morph: true, Again: true}), 31)
}

// TestBetweenFolded: the same, where names fold.
func TestBetweenFolded(t *testing.T) {
	between(t, respelt.lawful(Law{Fold: true, Again: true}), 97)
}

// between tries stories of three acts, one of so many.
func between(t *testing.T, scope *Scope, in int) {
	t.Helper()
	start, err := scope.Start()
	if err != nil {
		t.Fatal(err)
	}
	for _, clock := range clocks {
		sum := tally{begun: time.Now()}
		first := start.tree.acts(scope.Names)
		in := one(in)
		each(t, len(first), &sum, func(i int, seen *Seen) string {
			n, at := 0, -1
			keep := func(depth int) bool {
				switch depth {
				case 3:
					at++
					return at == i
				case 1:
					n++
					return n%in == 0
				}
				return true
			}
			s := &Story{Members: []*Member{start.as(1, clock.of[0]), start.as(2, clock.of[1])}}
			for _, m := range s.Members {
				m.seen = seen
			}
			ways := Ways(2, 4)
			err := Between(s, scope.Names, 3, keep, func(s *Story) error {
				sum.cases.Add(1)
				return s.End(&ways[n/in%len(ways)])
			})
			if err != nil {
				return err.Error()
			}
			return ""
		})
		sum.print(t, clock.name)
	}
}
