// Package directorytest is the contract of directory.Store: what holds for each
// of its implementations, whatever the domain lives in.
package directorytest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"opendfs/internal/directory"
)

// Backend is one domain in an implementation of Store.
type Backend struct {
	// Open gives a Store of the domain: the first call one that holds First at
	// generation 1, a later one a fresh look, as of another process or after a
	// restart. step is called before each step of a change; when it gives an error
	// the change ends there, as by a crash. It may be nil.
	Open func(t testing.TB, step func(string) error) directory.Store
	// Shared says that several Stores of the domain may be used at once.
	Shared bool
	// Volatile says that a fresh look is the same Store: nothing can be interrupted.
	Volatile bool
}

// text is a domain that uses what a domain file can say.
const text = `# A domain for tests.
version: 1
domain: corp
servers:
  hub:    {address: ["10.77.0.1:7440", "hub.example:7440"], max-rate: 100mbps}
  branch: {address: "branch.example:7440", listen: ":7440"}
  lab:    {address: "lab.example:7440"}   # the machine in the cellar
groups:
  projects:
    schedule: "mon-fri 08:00-18:00 512kbps; else full"
    connection-schedules: {"hub->branch": "utc; 22:00-04:00 8mbps; else 96kbps"}
    folders:
      docs:
        filters: {files: ["~*", "*.o"], directories: ["tmp"]}
        owners: name
        members:
          hub:    {path: /srv/docs, primary: true}
          branch: {path: "/srv/my docs", read-only: true, staging-quota: 5000MiB, conflict-retention: 30d, evicted: 3f2504e0-4f89-41d3-9a0c-0305e82c3301}
          lab:    {path: /srv/docs, enabled: false}
      media:
        case: insensitive
        rest: 90s
        tombstone-lifetime: 1500h
        members:
          hub:    {path: /srv/media, primary: true}
          branch: {path: /srv/media, conflict-quota: 700MB}
  software:
    topology: {hub-and-spoke: {hubs: [hub]}}
    folders:
      dist:
        members:
          hub:    {path: /srv/dist, primary: true}
          lab:    {path: /srv/dist}
  chain:
    topology: {connections: ["hub->branch", {from: branch, to: hub, enabled: false}, "branch->lab"]}
    folders:
      logs:
        members:
          hub:    {path: /srv/logs, primary: true}
          branch: {path: /srv/logs}
          lab:    {path: /srv/logs}
`

// First gives the document that a backend begins with, complete, at generation 1.
func First(t testing.TB) *directory.Document {
	t.Helper()
	doc, err := directory.Read([]byte(text), "domain.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if doc, err = doc.Complete(nil, rand.Reader); err != nil {
		t.Fatal(err)
	}
	d := doc.Domain.Clone()
	d.Generation = 1
	if doc, err = doc.With(d); err != nil {
		t.Fatal(err)
	}
	return doc
}

// Run runs the suite. begin makes a new domain each time.
func Run(t *testing.T, begin func(t *testing.T) Backend) {
	t.Run("updates", func(t *testing.T) { updates(t, begin(t)) })
	t.Run("refuses and stays as it was", func(t *testing.T) { refuses(t, begin(t)) })
	t.Run("compare-and-swap under a race", func(t *testing.T) { races(t, begin(t)) })
	t.Run("watch", func(t *testing.T) { watches(t, begin(t)) })
	t.Run("an interrupted change is never half applied", func(t *testing.T) { interrupted(t, begin(t)) })
	t.Run("who looks anew finds the same", func(t *testing.T) { fresh(t, begin(t)) })
	t.Run("two who use it at once", func(t *testing.T) { shared(t, begin(t)) })
}

// Load gives what a store holds.
func Load(t testing.TB, s directory.Store) *directory.Document {
	t.Helper()
	doc, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// With gives a document with one more server.
func With(t testing.TB, doc *directory.Document, server string) *directory.Document {
	t.Helper()
	d := doc.Domain.Clone()
	d.Servers = append(d.Servers, &directory.Server{Name: server})
	next, err := doc.With(d)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func update(t testing.TB, s directory.Store, server string) *directory.Document {
	t.Helper()
	doc := Load(t, s)
	got, err := s.Update(t.Context(), doc.Domain.Generation, With(t, doc, server))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func updates(t *testing.T, b Backend) {
	s := b.Open(t, nil)
	before := Load(t, s)
	if before.Domain.Generation != 1 || before.Domain.ID.IsZero() {
		t.Fatalf("the first domain has generation %d, id %v", before.Domain.Generation, before.Domain.ID)
	}
	got := update(t, s, "new")
	if got.Domain.Generation != 2 || got.Domain.Term != before.Domain.Term || got.Domain.ServerByName("new").ID.IsZero() {
		t.Errorf("stored generation %d, term %d, new server %+v; want 2, the same, and an id", got.Domain.Generation, got.Domain.Term, got.Domain.ServerByName("new"))
	}
	if !strings.Contains(string(got.Text()), "# the machine in the cellar") || !strings.Contains(string(got.Text()), "generation: 2\n") {
		t.Errorf("the text has lost its comments or has no generation:\n%s", got.Text())
	}
	if now := Load(t, s); !bytes.Equal(now.Text(), got.Text()) {
		t.Error("load does not give what update stored")
	}
	if before.Domain.ServerByName("new") != nil {
		t.Error("a document that was loaded before has changed")
	}
	d := got.Domain.Clone()
	d.Home = directory.Home{Kind: directory.HomeEtcd, Servers: []string{"hub"}, Endpoints: []string{"https://etcd.example:2379"}}
	if _, file := s.(*directory.File); file {
		return // where it lives is more than a word to it
	}
	next, err := got.With(d)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = s.Update(t.Context(), 2, next); err != nil || got.Domain.Term != before.Domain.Term+1 || got.Domain.Generation != 3 {
		t.Errorf("a change of where the domain lives gives %+v, %v; want the next term", got, err)
	}
}

func refuses(t *testing.T, b Backend) {
	s := b.Open(t, nil)
	before := Load(t, s)
	next := With(t, before, "new")
	var conflict *directory.ConflictError
	for _, base := range []uint64{0, 7} {
		if _, err := s.Update(t.Context(), base, next); !errors.As(err, &conflict) || conflict.Current != 1 {
			t.Errorf("update on generation %d: %v", base, err)
		}
	}
	other, err := directory.Read([]byte("version: 1\ndomain: corp\nid: 99999999-9999-4999-8999-999999999999\n"), "other")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(t.Context(), 1, other); !errors.Is(err, directory.ErrForeign) {
		t.Errorf("update with another domain: %v", err)
	}
	if now := Load(t, s); !bytes.Equal(now.Text(), before.Text()) {
		t.Error("a refused update changed the domain")
	}
}

// races has ten commands at once each add a server to one of the stores; nobody's
// change is lost, and each base is taken once.
func races(t *testing.T, b Backend) {
	list := []directory.Store{b.Open(t, nil)}
	if b.Shared {
		list = append(list, b.Open(t, nil))
	}
	race(t, 10, list...)
	d := Load(t, b.Open(t, nil)).Domain
	for i := range 10 {
		if d.ServerByName(fmt.Sprintf("racer%d", i)) == nil {
			t.Errorf("the change of racer %d is lost", i)
		}
	}
	if d.Generation != 11 {
		t.Errorf("generation %d after ten changes of generation 1", d.Generation)
	}
}

func race(t *testing.T, racers int, list ...directory.Store) {
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			s := list[i%len(list)]
			for {
				doc, err := s.Load(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				d := doc.Domain.Clone()
				d.Servers = append(d.Servers, &directory.Server{Name: fmt.Sprintf("racer%d", i)})
				next, err := doc.With(d)
				if err == nil {
					_, err = s.Update(t.Context(), doc.Domain.Generation, next)
				}
				var conflict *directory.ConflictError
				if errors.As(err, &conflict) {
					continue
				}
				if err != nil {
					t.Errorf("racer %d: %v", i, err)
				}
				return
			}
		})
	}
	wg.Wait()
}

func watches(t *testing.T, b Backend) {
	s := b.Open(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	c := s.Watch(ctx)
	if d := <-c; d.Generation != 1 {
		t.Fatalf("the first domain watched has generation %d", d.Generation)
	}
	for g := range 3 { // not fetched: only the newest is kept
		update(t, s, fmt.Sprintf("new%d", g))
	}
	if d := <-c; d.Generation != 4 {
		t.Errorf("a slow watcher got generation %d, want the newest, 4", d.Generation)
	}
	cancel()
	for d := range c {
		if d.Generation < 4 {
			t.Errorf("after the newest came generation %d", d.Generation)
		}
	}
	update(t, s, "last")
}

var errCrash = errors.New("the test stops here")

// interrupted ends a change at each of its steps, and looks at the domain anew.
func interrupted(t *testing.T, b Backend) {
	b.Open(t, nil)
	for stop := 0; ; stop++ {
		at, reached := 0, ""
		s := b.Open(t, func(step string) error {
			if at++; at <= stop {
				return nil
			}
			reached = step
			return errCrash
		})
		before := Load(t, s)
		next := With(t, before, fmt.Sprintf("server%d", stop))
		d := next.Domain.Clone()
		g := d.GroupByName("projects")
		g.Folders[0].Members[0].StagingQuota += directory.GiB
		g.Folders = append(g.Folders, directory.NewFolder(fmt.Sprintf("folder%d", stop)))
		g.Folders[len(g.Folders)-1].Members = []*directory.Membership{directory.NewMembership("lab", fmt.Sprintf("/srv/%d", stop))}
		next, err := next.With(d)
		if err != nil {
			t.Fatal(err)
		}
		after, err := s.Update(t.Context(), before.Domain.Generation, next)
		if err == nil && reached != "" && after == nil {
			t.Fatal("an update gave nothing")
		}
		now := Load(t, b.Open(t, nil))
		switch {
		case bytes.Equal(now.Text(), before.Text()) && err != nil:
		case now.Domain.Generation == before.Domain.Generation+1 && len(directory.Diff(d, now.Domain)) == 0:
			// It got through: by itself, or whoever looked has finished it.
		default:
			t.Fatalf("stopped before %q (%v) the domain is neither what it was nor what it was to be:\n%v", reached, err, directory.Diff(before.Domain, now.Domain))
		}
		if reached == "" {
			if err != nil {
				t.Fatal(err)
			}
			if stop < 1 && !b.Volatile {
				t.Error("the change has no step at which it could be interrupted")
			}
			return
		}
	}
}

func fresh(t *testing.T, b Backend) {
	got := update(t, b.Open(t, nil), "new")
	if now := Load(t, b.Open(t, nil)); !bytes.Equal(now.Text(), got.Text()) {
		t.Errorf("looked at anew the text is\n%s\nwant\n%s", now.Text(), got.Text())
	}
}

// soon is within what time a change is seen elsewhere.
const soon = 10 * time.Second

func shared(t *testing.T, b Backend) {
	if !b.Shared {
		t.Skip("one process uses it at a time")
	}
	one, two := b.Open(t, nil), b.Open(t, nil)
	c := two.Watch(t.Context())
	<-c
	began := time.Now()
	want := update(t, one, "new")
	timer := time.NewTimer(soon)
	defer timer.Stop()
	for {
		select {
		case d := <-c:
			if d.Generation < want.Domain.Generation {
				continue
			}
		case <-timer.C:
			t.Fatalf("not seen within %v", soon)
		}
		break
	}
	t.Logf("seen after %v", time.Since(began).Round(time.Millisecond))
	if now := Load(t, two); !bytes.Equal(now.Text(), want.Text()) {
		t.Error("what is seen is not what was stored")
	}
	var conflict *directory.ConflictError
	update(t, two, "theirs")
	if _, err := one.Update(t.Context(), want.Domain.Generation, With(t, want, "ours")); !errors.As(err, &conflict) {
		t.Errorf("a change of what somebody else has changed: %v", err)
	}
	if now := Load(t, one); now.Domain.ServerByName("theirs") == nil {
		t.Error("after a conflict load does not give what it was about")
	}
}
