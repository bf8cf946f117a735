package engine

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// TestSlowSync: one member's database loses a record and has another content in a
// second one; both members say that they know the same. Told to compare itself it
// finds both, the law mends them, and the finding goes.
func TestSlowSync(t *testing.T) {
	a, b := newMember(t, 1, true, 2), newMember(t, 2, false, 1)
	a.cfg.SlowSync, b.cfg.SlowSync = 24*time.Hour, 24*time.Hour
	for i := range 40 {
		if err := os.WriteFile(filepath.Join(a.root, fmt.Sprintf("file-%02d", i)), []byte{byte(i)}, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a.start()
	b.start()
	connect(a, b)
	settled(t, a, b)
	root := repl.RootUID(a.cfg.Folder)
	lost, ok, err := b.env.Store.At(root, "file-03")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	wrong, ok, err := b.env.Store.At(root, "file-07")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	content := wrong.Content
	wrong.Content[5]++
	for uid, to := range map[repl.UID]*repl.Record{lost.UID: nil, wrong.UID: &wrong} {
		if err := b.env.Store.Falsify(uid, to); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Compare(t.Context(), a.cfg.Self, &wire.CompareRequest{Folder: b.cfg.Folder, Behind: true}); err != nil {
		t.Fatal(err)
	}
	over := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		one, there, err1 := b.env.Store.At(root, "file-03")
		other, _, err2 := b.env.Store.At(root, "file-07")
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if there && one.Presence == repl.OnDisk && other.Content == content {
			break
		}
		select {
		case <-tick.C:
		case <-over:
			t.Fatalf("after 30 s there is %v, %+v and %+v", there, one, other)
		}
	}
	settled(t, a, b)
	b.found.mu.Lock()
	defer b.found.mu.Unlock()
	if got := strings.Join(b.found.raised, "\n"); !strings.Contains(got, "records-differ test/2 from "+member(1).String()+": 1 records were lost or old here, 0 there, 1 differ in one version") {
		t.Errorf("found %s", got)
	}
}

// BenchmarkSlowSync compares 100,000 equal records of two databases.
func BenchmarkSlowSync(b *testing.B) {
	const records = 100_000
	var sides [2]*Served
	folder := repl.FolderID{1}
	for i := range sides {
		kv, err := store.OpenPebble(b.TempDir(), store.Options{})
		if err != nil {
			b.Fatal(err)
		}
		s, err := store.Open(kv, rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := s.Close(); err != nil {
				b.Error(err)
			}
		})
		st, err := s.Folder(folder)
		if err != nil {
			b.Fatal(err)
		}
		for n := 0; n < records; n += 1000 {
			var put store.Batch
			for k := range uint64(1000) {
				g := version.GVSN{Originator: version.Originator{7}, Version: version.FirstVersion + uint64(n) + k}
				put.Writes = append(put.Writes, store.Write{Record: repl.Record{Presence: repl.Absent, Update: repl.Update{
					UID: repl.UID(g), GVSN: g, Parent: repl.RootUID(folder), Name: fmt.Sprintf("a-name-of-some-%06d.txt", uint64(n)+k), Type: repl.File, Present: true,
					Fence: repl.FenceDefault, CreateTime: 1, Clock: 1, Mtime: 1, Size: 1 << 20, Content: repl.Hash{1, byte(k), byte(n)}, Meta: []byte(strings.Repeat("mode=0644 owner=1000 group=1000 ", 3)),
				}}})
			}
			put.NoSync = true
			if err := st.Put(&put); err != nil {
				b.Fatal(err)
			}
		}
		env := &Env{Store: st, Now: func() repl.Time { return repl.Time(time.Now().UnixNano()) }}
		sides[i] = NewServed(env, folder)
		sides[i].SetPhase(wire.PhaseNormal)
	}
	bytes, parts := 0, 0
	for b.Loop() {
		bytes, parts = 0, 0
		req := wire.CompareRequest{Folder: folder}
		for more := true; more; parts++ {
			reply, err := sides[0].Compare(b.Context(), &req)
			if err != nil {
				b.Fatal(err)
			}
			for _, m := range []wire.Message{&req, reply} {
				frame, err := wire.Append(nil, m, 1, true, 0)
				if err != nil {
					b.Fatal(err)
				}
				bytes += len(frame)
			}
			unlike, err := sides[1].env.unlikeRuns(&req, reply.Runs)
			if err != nil || len(unlike) > 0 {
				b.Fatal(unlike, err)
			}
			more, req.After = reply.More, reply.Runs[len(reply.Runs)-1].Last
		}
	}
	b.ReportMetric(float64(bytes), "wire-B")
	b.ReportMetric(float64(parts), "parts")
}
