package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWorkingDay is a minute of what happens on file servers in months.
func TestWorkingDay(t *testing.T) { workingDay(t, 45*time.Second) }

// TestSoakWorkingDay is ten minutes of it.
func TestSoakWorkingDay(t *testing.T) {
	if !soaking() {
		t.Skip("SKIPPED: takes long; run `make soak`")
	}
	workingDay(t, 10*time.Minute)
}

// workingDay: on each of three members somebody works on the names that all share, and somebody uses programs in a directory of his own: git, sqlite,
// rsync --inplace. Daemons are killed and links cut at random. At rest the trees are equal, every version that a user closed is live, kept, or was
// replaced by a user who had it, and what the programs made is whole on every member, as it is where they ran.
func workingDay(t *testing.T, d time.Duration) {
	needRoot(t, "git", "sqlite3", "rsync")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	c := newCluster(t, plan{members: 3, options: "breaker: off\n"}) // git packs a third of the folder in a minute
	c.apply()
	c.wait(patience)
	l, stop := newLedger(), make(chan struct{})
	var users []*user
	var shops []*workshop
	var over []chan struct{}
	run := func(work func(<-chan struct{})) {
		done := make(chan struct{})
		over = append(over, done)
		go func() {
			defer close(done)
			work(stop)
		}()
	}
	for i, m := range c.members {
		u := &user{l: l, name: m.name, root: m.root, rng: random(seed+uint64(i), "user"), done: map[string]int{}}
		for n := range 12 {
			u.places = append(u.places, "shared-"+string(rune('a'+n)))
		}
		w := &workshop{dir: m.path("workshop-" + m.name), source: filepath.Join(workDir(t), "source-"+m.name), rng: random(seed+uint64(i), "workshop")}
		users, shops = append(users, u), append(shops, w)
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		run(u.work)
		run(w.work)
	}
	kills, cuts := c.troubles(rng, d)
	close(stop)
	for _, done := range over {
		<-done
	}
	for i := range users {
		if users[i].err != nil || shops[i].err != nil {
			t.Fatalf("on %s: %v, %v", c.members[i].name, users[i].err, shops[i].err)
		}
	}
	c.wait(2 * patience)
	c.converged()
	if lost := l.missing(t, c.roots()); len(lost) > 0 {
		t.Errorf("%d of %d closed versions are lost; they are neither live nor kept, and no user replaced them:\n%s", len(lost), len(l.closed), shorten(strings.Join(lost, "\n"), 20))
	}
	rounds := 0
	for i, w := range shops {
		rounds += w.rounds
		for _, m := range c.members {
			if err := w.whole(m.path("workshop-" + c.members[i].name)); err != nil {
				t.Errorf("what the programs on %s made, on %s: %v", c.members[i].name, m.name, err)
			}
		}
	}
	t.Logf("%d kills, %d cuts, %d versions closed, %d replaced by users, %d rounds of programs", kills, cuts, len(l.closed), len(l.gone), rounds)
	if kills == 0 || cuts == 0 || rounds < len(shops) {
		t.Error("the day was too quiet to show anything")
	}
}

// troubles kills daemons and cuts links for a while, one after the other, and leaves all well.
func (c *cluster) troubles(rng *rand.Rand, d time.Duration) (kills, cuts int) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		pass(time.Duration(500+rng.IntN(3000)) * time.Millisecond)
		m := c.members[rng.IntN(len(c.members))]
		if (kills+cuts)%2 == 0 {
			m.kill()
			pass(time.Duration(rng.IntN(1500)) * time.Millisecond)
			m.start()
			kills++
			continue
		}
		m.host.cut()
		pass(time.Duration(500+rng.IntN(4000)) * time.Millisecond)
		m.host.heal()
		cuts++
	}
	return kills, cuts
}

// workshop is a directory in which one person uses programs that treat files badly.
type workshop struct {
	dir    string
	source string // outside the folder: what rsync copies from
	rng    *rand.Rand
	rounds int
	rows   int
	err    error
}

// open makes the directory, a repository in it and a database.
func (w *workshop) open() error {
	for _, d := range []string{w.dir, w.source, filepath.Join(w.dir, "repo")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := w.git("init", "-q"); err != nil {
		return err
	}
	_, err := try("sqlite3", filepath.Join(w.dir, "data.db"), "create table t (n integer primary key, text text)")
	return err
}

func (w *workshop) git(args ...string) error {
	all := append([]string{"-C", filepath.Join(w.dir, "repo"), "-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "gc.auto=20", "-c", "gc.autoDetach=false"}, args...)
	_, err := try("git", all...)
	return err
}

// work goes on until stop is closed.
func (w *workshop) work(stop <-chan struct{}) {
	for w.err == nil {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(w.rng.IntN(200)) * time.Millisecond):
		}
		w.err = w.round()
	}
}

// round is a commit, some rows, and a copy in place of a large file that changed a little.
func (w *workshop) round() error {
	w.rounds++
	for n := range 3 {
		file := filepath.Join(w.dir, "repo", fmt.Sprintf("file-%d", (w.rounds+n)%7))
		if err := os.WriteFile(file, fmt.Appendf(nil, "round %d\n%s", w.rounds, strings.Repeat("line\n", w.rng.IntN(400))), 0o644); err != nil {
			return err
		}
	}
	if err := w.git("add", "-A"); err != nil {
		return err
	}
	if err := w.git("commit", "-q", "-m", fmt.Sprint("round ", w.rounds)); err != nil {
		return err
	}
	w.rows++
	insert := fmt.Sprintf("begin; insert into t values (%d, hex(randomblob(500))); commit;", w.rows)
	if _, err := try("sqlite3", filepath.Join(w.dir, "data.db"), insert); err != nil {
		return err
	}
	big := filepath.Join(w.source, "big")
	f, err := os.OpenFile(big, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "round %d", w.rounds), int64(w.rng.IntN(256<<10)))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		_, err = try("rsync", "--inplace", "--no-whole-file", "--ignore-times", "-t", big, filepath.Join(w.dir, "big"))
	}
	return err
}

// whole checks what the programs left, as it stands in dir.
func (w *workshop) whole(dir string) error {
	repo := filepath.Join(dir, "repo")
	if _, err := try("git", "-c", "safe.directory=*", "-C", repo, "fsck", "--strict", "--no-progress"); err != nil {
		return err
	}
	count, err := try("git", "-c", "safe.directory=*", "-C", repo, "rev-list", "--count", "HEAD")
	if err == nil && strings.TrimSpace(count) != fmt.Sprint(w.rounds) {
		err = fmt.Errorf("the repository has %s commits, %d were made", strings.TrimSpace(count), w.rounds)
	}
	if err != nil {
		return err
	}
	found, err := try("sqlite3", "-readonly", filepath.Join(dir, "data.db"), "pragma integrity_check; select count(*) from t")
	if err == nil && found != fmt.Sprintf("ok\n%d\n", w.rows) {
		err = fmt.Errorf("the database says %q, %d rows were inserted", found, w.rows)
	}
	if err != nil {
		return err
	}
	return exec.Command("cmp", filepath.Join(w.source, "big"), filepath.Join(dir, "big")).Run()
}
