package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestPowerCut cuts the power a few times (rules 14 to 19).
func TestPowerCut(t *testing.T) { powerCuts(t, 5, "ext4") }

// TestSoakPowerCut cuts it at many moments, on each filesystem.
func TestSoakPowerCut(t *testing.T) {
	if !soaking() {
		t.Skip("SKIPPED: takes long; run `make soak`")
	}
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) { powerCuts(t, 60, kind) })
	}
}

// TestPowerCutAtRest cuts the power right after `dfs status --wait` returned, once for each way to change a tree, of the member where it was
// changed and of the other one: nothing was synced by the users, so what stands afterwards was made durable by the members.
func TestPowerCutAtRest(t *testing.T) {
	needRoot(t, "mkfs.xfs")
	c := newCluster(t, plan{backing: disks(t, workDir(t), 16*gib), size: 512 * mib})
	a, b := c.members[0], c.members[1]
	for _, e := range edits {
		write(t, a, "edits/"+e.name+"/file", "first "+e.name)
		write(t, a, "edits/"+e.name+"/other", "other "+e.name)
		write(t, a, "edits/"+e.name+"/dir/below", "below "+e.name)
	}
	c.apply()
	c.wait(patience)
	for i, e := range edits {
		origin := []*member{a, b}[i%2]
		must(t, "sync", "-f", a.root)
		must(t, "sync", "-f", b.root)
		s := &scribe{t: t, root: origin.root, rng: random(uint64(i), e.name), done: map[string]int{}, areas: []string{"edits/" + e.name}}
		if err := s.once(e.do); err != nil {
			t.Fatalf("%s: %v", e.name, err)
		}
		for _, victim := range []*member{origin, []*member{b, a}[i%2]} {
			origin.must("status", "--wait", "--timeout", patience.String())
			before := walk(t, origin.root)
			c.cutPower([]*member{victim}, func() {})
			c.wait(patience)
			for _, m := range c.members {
				if diff := difference(before, walk(t, m.root)); len(diff) > 0 {
					t.Errorf("%s on %s was confirmed, and after a power cut of %s it is not what %s has:\n%s", e.name, origin.name, victim.name, m.name, strings.Join(diff, "\n"))
				}
			}
		}
	}
	c.converged()
}

// powerCuts: authors write on both members and a list outside notes what `dfs status --wait` promised. At a random moment one member or
// both are stopped where they are, the backing files of tree and state are copied while mounted, and the members go on from the copies:
// what was in the page cache only is gone. SIGKILL proves nothing about this.
func powerCuts(t *testing.T, cuts int, kind string) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("DFS_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("DFS_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	needRoot(t, "mkfs.xfs", "mkfs."+kind)
	c := newCluster(t, plan{backing: disks(t, workDir(t), 16*gib), size: 512 * mib, kind: kind})
	c.apply()
	c.wait(patience)
	list := newConfirmed()
	var authors []*author
	for i, m := range c.members {
		authors = append(authors, &author{c: list, m: m, files: 60, rng: rand.New(rand.NewPCG(seed, uint64(2+i)))})
	}
	for cut := range cuts {
		victims := c.members
		if which := rng.IntN(3); which < 2 {
			victims = victims[which : which+1]
		}
		moment := time.Duration(rng.IntN(1000)) * time.Millisecond
		c.powerCut(list, authors, victims, moment)
		c.wait(patience)
		list.check(t, c.members)
		c.converged()
		c.calm("conflict-kept", "journal-gap", "preexisting-kept")
		var names []string
		for _, m := range victims {
			names = append(names, m.name)
		}
		stopIfFailed(t, fmt.Sprintf("cut %d of %d, of %v, after %v", cut+1, cuts, names, moment))
		for _, m := range c.members {
			if err := list.rebase(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d cuts, %d promises, %d paths", cuts, list.promises, len(list.closed))
}

// powerCut lets authors write for a while, cuts the power of the victims and starts them again.
func (c *cluster) powerCut(list *confirmed, authors []*author, victims []*member, moment time.Duration) {
	t := c.t
	t.Helper()
	promised := list.made()
	stop := make(chan struct{})
	var over []chan struct{}
	run := func(do func(<-chan struct{})) {
		done := make(chan struct{})
		over = append(over, done)
		go func() {
			defer close(done)
			do(stop)
		}()
	}
	for _, a := range authors {
		run(a.work)
		run(func(stop <-chan struct{}) { list.confirm(a.m, stop) })
	}
	eventually(t, patience, "a promise before the power is cut", func() bool { return list.made() > promised })
	pass(moment)
	c.cutPower(victims, func() {
		close(stop)
		for _, done := range over {
			<-done
		}
	})
	for _, a := range authors {
		if a.err != nil {
			t.Fatalf("the author on %s: %v", a.m.name, a.err)
		}
	}
}

// cutPower stops the victims where they are, copies their disks, lets quiet end whatever still works there, and starts them from the copies.
func (c *cluster) cutPower(victims []*member, quiet func()) {
	c.t.Helper()
	copies := make(map[*image]string)
	for _, m := range victims {
		m.freeze()
		for i := range c.members {
			if c.members[i] != m {
				continue
			}
			for _, im := range []*image{c.trees[i], c.states[i]} {
				copies[im] = im.file + ".cut"
				im.snapshot(copies[im])
			}
		}
	}
	for _, m := range victims {
		m.kill()
	}
	quiet()
	for im, file := range copies {
		im.become(file)
	}
	for _, m := range victims {
		m.start()
	}
}
