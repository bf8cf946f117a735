package sim

import (
	"os"
	"strconv"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// seeds returns how many seeds a test plays, and the first.
func seeds(t *testing.T, n uint64) (first, count uint64) {
	t.Helper()
	first, count = 1, n
	if os.Getenv("DFS_SIM") == "long" {
		count *= 50
	}
	if s := os.Getenv("SEEDS"); s != "" {
		k, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("SEEDS=%q: %v", s, err)
		}
		count = k
	}
	if s := os.Getenv("SEED"); s != "" {
		k, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("SEED=%q: %v", s, err)
		}
		first, count = k, 1
	}
	return first, count
}

func play(t *testing.T, n uint64, plan Plan) {
	t.Helper()
	first, count := seeds(t, n)
	var sum Counters
	for seed := first; seed < first+count; seed++ {
		plan.Seed, plan.Trace = seed, count == 1
		c, err := Run(plan)
		if err != nil {
			if count == 1 {
				t.Logf("%s\n%s", c.Trace(), c.Picture())
			}
			t.Fatalf("%v\nreplay: SEED=%d go test ./internal/sim -run '%s$'", err, seed, t.Name())
		}
		sum.add(&c.Count)
	}
	t.Logf("%d seeds: %+v", count, sum)
	if !plan.Edits && count > 10 && sum.Reanimated < int(count)/5 {
		t.Errorf("few deleted objects came back under their names: %d", sum.Reanimated)
	}
	if n := sum.Verdicts[repl.VerdictMorphed]; plan.Morph && count > 10 && n < count/3 {
		t.Errorf("few directories were renamed: %d", n)
	}
	if plan.Fold && !plan.Alone && count > 10 && sum.Seconds < int(count)/2 {
		t.Errorf("few second spellings were left alone: %d", sum.Seconds)
	}
	if plan.Edits && count > 10 && (sum.Forms[wire.FormDelta] < int(count)/10 || sum.Forms[wire.FormOffer] < int(count)/4) {
		t.Errorf("few contents came as deltas or as offers: %v", sum.Forms)
	}
}

func (s *Counters) add(o *Counters) {
	s.Steps += o.Steps
	s.UserOps += o.UserOps
	s.Crashes += o.Crashes
	s.Kills += o.Kills
	s.Stops += o.Stops
	s.Cuts += o.Cuts
	s.Torn += o.Torn
	s.Resumed += o.Resumed
	s.Seconds += o.Seconds
	s.Filters += o.Filters
	s.Hidden += o.Hidden
	s.Missing += o.Missing
	s.Reanimated += o.Reanimated
	s.Yields += o.Yields
	for i := range s.Verdicts {
		s.Verdicts[i] += o.Verdicts[i]
	}
	for i := range s.Forms {
		s.Forms[i] += o.Forms[i]
	}
}

func TestTwoMembers(t *testing.T) { play(t, 150, Plan{Members: 2, Topology: Mesh, Steps: 600}) }

func TestTwoMembersWithFaults(t *testing.T) {
	play(t, 150, Plan{Members: 2, Topology: Mesh, Steps: 900, Faults: true})
}

func TestMeshOfThree(t *testing.T) {
	play(t, 80, Plan{Members: 3, Topology: Mesh, Steps: 1200, Faults: true})
}

func TestChainOfThree(t *testing.T) {
	play(t, 60, Plan{Members: 3, Topology: Chain, Steps: 1200, Faults: true})
}

func TestHubOfFour(t *testing.T) {
	play(t, 40, Plan{Members: 4, Topology: Hub, Steps: 1600, Faults: true})
}

func TestEditsOfFewFiles(t *testing.T) {
	play(t, 30, Plan{Members: 2, Topology: Mesh, Steps: 1200, Edits: true})
}

func TestEditsWithFaults(t *testing.T) {
	play(t, 30, Plan{Members: 3, Topology: Mesh, Steps: 1200, Faults: true, Edits: true})
}

func TestUsersOfOneMember(t *testing.T) {
	play(t, 60, Plan{Members: 3, Topology: Mesh, Steps: 1200, Faults: true, Alone: true})
}

func TestSpellings(t *testing.T) {
	play(t, 60, Plan{Members: 3, Topology: Mesh, Steps: 1200, Faults: true, Fold: true})
}

func TestFiltersThatChange(t *testing.T) {
	play(t, 60, Plan{Members: 3, Topology: Mesh, Steps: 1800, Faults: true, Filters: true})
}

func TestMorphedDirectories(t *testing.T) {
	play(t, 60, Plan{Members: 3, Topology: Mesh, Steps: 1200, Faults: true, Morph: true})
}

func TestSpellingsOfOneMember(t *testing.T) {
	play(t, 30, Plan{Members: 3, Topology: Chain, Steps: 1200, Faults: true, Alone: true, Fold: true})
}

func TestReadOnlyMember(t *testing.T) {
	play(t, 60, Plan{Members: 3, Topology: Mesh, Steps: 1200, Faults: true, ReadOnly: true})
}
