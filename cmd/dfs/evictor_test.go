package main

import (
	"strings"
	"sync"
	"testing"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// What puts a member's database out, and takes that back, is one compare-and-swap each,
// whether the domain lives in a file or in etcd: of many who do it at once one comes
// through, and who judged by another state changes nothing. A copy is left alone.
func TestEvictionIsOneChange(t *testing.T) {
	hub, branch := pair(t)
	for _, s := range []*site{hub, branch} { // or their engines would have a say
		hub.must("membership", "set", "projects/docs@"+s.name, "--enabled=false")
	}
	hub.stop()
	branch.stop()
	m, stop := inside(hub)
	defer stop()
	copied, stopCopied := inside(branch)
	defer stopCopied()
	hub.eventually("answers", func() bool { _, _, exit := hub.dfs("status"); return exit == exitDone })
	d := m.domain().Domain
	folder, id := d.GroupByName("projects").FolderByName("docs").ID, repl.MemberID(d.ServerByName("branch").ID)
	out := func(m *member) directory.UUID {
		_, f := m.domain().Domain.Folder(folder)
		return f.Member("branch").Evicted
	}
	race := func(where string) {
		t.Helper()
		e := evictor{m.admin, folder}
		if err := (evictor{copied.admin, folder}).Evict(t.Context(), id, version.Originator{0xff}); err != nil || !out(copied).IsZero() {
			t.Errorf("%s: a copy: %v, %v", where, out(copied), err)
		}
		before := m.domain().Domain.Generation
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() { // who comes too late is refused, or finds it done
				if err := e.Evict(t.Context(), id, version.Originator{byte(i + 1)}); err != nil && !strings.Contains(err.Error(), "evict member projects/docs@branch: ") {
					t.Errorf("%s: %v", where, err)
				}
			})
		}
		all.Wait()
		hub.eventually("has the eviction", func() bool { return !out(m).IsZero() })
		evicted := out(m)
		if now := m.domain().Domain.Generation; now != before+1 {
			t.Errorf("%s: %d changes", where, now-before)
		}
		if err := e.Evict(t.Context(), id, version.Originator{0x77}); err != nil || out(m) != evicted {
			t.Errorf("%s: evicted again: %v, %v", where, out(m), err)
		}
		if err := e.Readmit(t.Context(), id, version.Originator{0x77}); err != nil || out(m) != evicted {
			t.Errorf("%s: readmitted for another database: %v, %v", where, out(m), err)
		}
		if err := e.Readmit(t.Context(), id, version.Originator(evicted)); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		hub.eventually("has taken it back", func() bool { return out(m).IsZero() })
		self := repl.MemberID(d.ServerByName("hub").ID)
		if err := e.Evict(t.Context(), self, version.Originator{1}); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		hub.eventually("is put out itself", func() bool {
			_, f := m.domain().Domain.Folder(folder)
			return !f.Member("hub").Evicted.IsZero()
		})
		if err := e.Evict(t.Context(), id, version.Originator{2}); err != nil || !out(m).IsZero() {
			t.Errorf("%s: one that was put out puts another out: %v, %v", where, out(m), err)
		}
		if err := e.Readmit(t.Context(), self, version.Originator{1}); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		hub.eventually("has taken itself back", func() bool {
			_, f := m.domain().Domain.Folder(folder)
			return f.Member("hub").Evicted.IsZero()
		})
		if err := e.Evict(t.Context(), repl.MemberID{0x99}, version.Originator{1}); err != nil {
			t.Errorf("%s: who is no member: %v", where, err)
		}
	}
	race("file")
	hub.must("directory", "move", "--to", "etcd", "--servers", voterAt(t, hub))
	hub.eventually("speaks to etcd", func() bool {
		_, _, exit := hub.dfs("group", "create", "there-"+time.Now().Format("150405000"))
		return exit == exitDone
	})
	race("etcd")
	if text := hub.must("events"); !strings.Contains(text, "evict member") || !strings.Contains(text, "readmit member") {
		t.Errorf("audit log:\n%s", text)
	}
}
