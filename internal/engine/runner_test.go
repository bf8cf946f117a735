package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"opendfs/internal/filter"
	"opendfs/internal/finding"
	"opendfs/internal/journal"
	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/staging"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/volume"
	"opendfs/internal/wire"
)

// direct is a session without a network: the partner's serving side itself.
type direct struct{ r *Runner }

func (d direct) Diff(ctx context.Context, req wire.DiffRequest) (wire.DiffPage, error) {
	d.r.Heard(ctx, member(2), &req)
	for {
		changed := d.r.Changed()
		page, err := d.r.Served.Diff(ctx, member(2), &req)
		if err != nil || !req.Wait || len(page.Updates) > 0 || !req.Vector.Covers(page.Vector) {
			if page == nil {
				page = &wire.DiffPage{}
			}
			return *page, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return wire.DiffPage{}, ctx.Err()
		}
	}
}

func (d direct) Records(ctx context.Context, _ repl.FolderID, uids []repl.UID) (wire.RecordsReply, error) {
	reply, err := d.r.Served.Records(ctx, uids)
	if err != nil {
		return wire.RecordsReply{}, err
	}
	return *reply, nil
}

func (d direct) Barrier(context.Context, repl.FolderID) (version.Vector, error) {
	return d.r.Served.Vector()
}

func (d direct) Cover(ctx context.Context, _ repl.FolderID, heard []repl.Statement) ([]repl.Statement, error) {
	return d.r.Cover(ctx, heard)
}

func (d direct) Compare(ctx context.Context, req wire.CompareRequest) (wire.CompareReply, error) {
	reply, err := d.r.Compare(ctx, member(2), &req)
	if err != nil {
		return wire.CompareReply{}, err
	}
	return *reply, nil
}

func (d direct) Content(ctx context.Context, _ repl.FolderID, items []wire.ContentItem, sink func(int, *wire.Head, io.Reader) error) error {
	for i := range items {
		c, status := d.r.Served.Content(ctx, &items[i])
		if status != wire.StatusOK {
			if err := sink(i, &wire.Head{Status: status}, nil); err != nil {
				return err
			}
			continue
		}
		head := c.Head()
		if err := sink(i, &head, c); err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (d direct) Rdc(ctx context.Context, req *wire.RdcRequest) ([]byte, error) {
	return d.r.Served.Rdc(ctx, req)
}

func member(n byte) repl.MemberID { return repl.MemberID{n} }

type testFindings struct {
	t               *testing.T
	mu              sync.Mutex
	raised, cleared []string // guarded by mu
}

func (f *testFindings) Raise(code finding.Code, object, detail string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.t.Logf("raised %s %s: %s", code, object, detail)
	f.raised = append(f.raised, fmt.Sprintf("%s %s: %s", code, object, detail))
}

func (f *testFindings) Clear(code finding.Code, object string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cleared = append(f.cleared, string(code)+" "+object)
}

// place is one member of a test: a tree, and the runner over it.
type testMember struct {
	t     *testing.T
	root  string
	kv    *store.Memory
	cfg   Config
	env   *Env
	jrn   journal.Journal
	found testFindings
	*Runner
}

func newMember(t *testing.T, n byte, primary bool, partners ...byte) *testMember {
	rules, err := filter.New(filter.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	m := &testMember{t: t, root: t.TempDir(), kv: store.NewMemory()}
	m.found.t = t
	m.cfg = Config{
		Folder: repl.FolderID{1}, Name: fmt.Sprintf("test/%d", n), Self: member(n), Membership: repl.GUID{n}, Path: m.root,
		Primary: primary, Filter: rules, Settings: Settings{Rest: time.Second},
	}
	for _, p := range partners {
		m.cfg.Upstreams = append(m.cfg.Upstreams, member(p))
		m.cfg.Downstreams = append(m.cfg.Downstreams, member(p))
	}
	return m
}

func (m *testMember) start() {
	m.t.Helper()
	v, err := volume.Open(m.root, volume.Options{Create: true})
	if err != nil {
		m.t.Fatal(err)
	}
	s, err := store.Open(m.kv, rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	st, err := s.Folder(m.cfg.Folder)
	if err != nil {
		m.t.Fatal(err)
	}
	if m.jrn, err = journal.Open(m.t.Context(), m.root, journal.Options{}); err != nil {
		m.t.Fatal(err)
	}
	m.env = &Env{Volume: v, Store: st, Keep: preserve.Open(v), Staging: staging.Open(v, 64<<20, 2), Now: func() repl.Time { return repl.Time(time.Now().UnixNano()) }, Workers: 2}
	if m.Runner, err = Start(m.t.Context(), m.cfg, m.env, m.jrn, &m.found, slog.Default(), rand.Reader); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if err := m.Close(); err != nil {
			m.t.Error(err)
		}
		if err := m.jrn.Close(); err != nil {
			m.t.Error(err)
		}
	})
}

// connect gives two members sessions with each other.
func connect(a, b *testMember) {
	a.SetUpstream(a.t.Context(), b.cfg.Self, direct{b.Runner})
	b.SetUpstream(b.t.Context(), a.cfg.Self, direct{a.Runner})
}

// settled waits until every member has everything.
func settled(t *testing.T, members ...*testMember) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, m := range members {
		if err := m.Drain(ctx); err != nil {
			t.Fatal(err)
		}
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		all, equal := make([]Status, len(members)), true
		for i, m := range members {
			var err error
			if all[i], err = m.Status(ctx); err != nil {
				t.Fatalf("%v: %+v", err, all)
			}
			equal = equal && all[i].Settled() && all[i].Vector.Equal(all[0].Vector)
		}
		if equal {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not settled: %+v", all)
		}
	}
}

// tree lists what lies in a folder, private area left out.
func (m *testMember) tree() map[string]string {
	m.t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(m.root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(m.root, path)
		if err != nil || rel == "." {
			return err
		}
		if d.Name() == ".dfsr" {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%v %v", info.Mode(), info.ModTime().UnixNano())
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(data)
		}
		out[rel] = text
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func sameTrees(t *testing.T, members ...*testMember) {
	t.Helper()
	want := members[0].tree()
	for _, m := range members[1:] {
		got := m.tree()
		for path, text := range want {
			if got[path] != text {
				t.Logf("%+v\n%+v", members[0].record(repl.RootUID(m.cfg.Folder), path), m.record(repl.RootUID(m.cfg.Folder), path))
				t.Errorf("%s: %q here, %q on %s", path, text, got[path], m.cfg.Name)
			}
		}
		for path := range got {
			if _, ok := want[path]; !ok {
				t.Errorf("%s is on %s only", path, m.cfg.Name)
			}
		}
	}
}

func (m *testMember) write(path, text string) {
	m.t.Helper()
	full := filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTwoMembersKeepAFolderTheSame(t *testing.T) {
	a, b := newMember(t, 1, true, 2), newMember(t, 2, false, 1)
	for i := range 40 {
		a.write(fmt.Sprintf("d%d/e/f%d", i%3, i), fmt.Sprintf("content %d", i))
	}
	b.write("extra/only-b", "only here")
	b.write("d0/e/f0", "differs")
	b.write("d1/e/f1", "content 1")
	a.start()
	b.start()
	connect(a, b)
	settled(t, a, b)
	sameTrees(t, a, b)

	a.write("d0/new", "from a")
	b.write("d1/new", "from b")
	check(t, os.Rename(filepath.Join(a.root, "d2"), filepath.Join(a.root, "moved")))
	check(t, os.Remove(filepath.Join(b.root, "d0/e/f3")))
	check(t, os.Symlink("d0/new", filepath.Join(b.root, "link")))
	check(t, os.Chmod(filepath.Join(a.root, "d0/e/f6"), 0o600))
	settled(t, a, b)
	sameTrees(t, a, b)

	check(t, os.RemoveAll(filepath.Join(a.root, "d1")))
	b.write("moved/e/f2", "replaced content")
	check(t, os.Rename(filepath.Join(b.root, "d0/new"), filepath.Join(b.root, "d0/e/f0")))
	settled(t, a, b)
	sameTrees(t, a, b)
}

func (m *testMember) record(dir repl.UID, name string) repl.Record {
	rec, _, err := m.env.Store.At(dir, name)
	check(m.t, err)
	return rec
}

// TestOldTombstonesGo: what both members know of and is old is collected on each,
// by itself, and stays forgotten over a restart.
func TestOldTombstonesGo(t *testing.T) {
	a, b := newMember(t, 1, true, 2), newMember(t, 2, false, 1)
	for _, m := range []*testMember{a, b} {
		m.cfg.TombstoneLifetime = 300 * time.Millisecond
		m.cfg.Members = []Member{{ID: member(1), Server: "a"}, {ID: member(2), Server: "b"}}
	}
	a.write("d/e/f", "goes")
	a.write("d/stays", "stays")
	a.start()
	b.start()
	connect(a, b)
	settled(t, a, b)
	check(t, os.RemoveAll(filepath.Join(a.root, "d/e")))
	settled(t, a, b)
	for _, m := range []*testMember{a, b} {
		dead := func() int64 {
			s, err := m.Status(t.Context())
			check(t, err)
			return s.Counts.Tombstones
		}
		tick := time.NewTicker(10 * time.Millisecond)
		for until := time.Now().Add(20 * time.Second); dead() > 0; <-tick.C {
			if time.Now().After(until) {
				t.Fatalf("%s still has %d tombstones", m.cfg.Name, dead())
			}
		}
		tick.Stop()
		if floor := m.env.Store.Floor(); len(floor) == 0 || !m.env.Store.Vector().Covers(floor) {
			t.Errorf("floor of %s is %v, its vector %v", m.cfg.Name, floor, m.env.Store.Vector())
		}
	}
	floor := b.env.Store.Floor()
	b.write("d/e/f", "made anew")
	settled(t, a, b)
	sameTrees(t, a, b)
	check(t, b.Close())
	s, err := store.Open(b.kv, rand.Reader)
	check(t, err)
	st, err := s.Folder(b.cfg.Folder)
	check(t, err)
	if !st.Floor().Covers(floor) {
		t.Errorf("after a restart the floor is %v, was %v", st.Floor(), floor)
	}
	if covers, err := st.Covers(); err != nil || len(covers) != 1 || covers[0].Database != a.env.Store.State().Database {
		t.Errorf("after a restart is known of the partner: %+v, %v", covers, err)
	}
}
