package main

import (
	"strings"
	"testing"
	"time"
)

// A server becomes a member, its connections change, and it is taken out again: the
// folders of the others go on as they run, and take it up, or leave it, at once.
func TestPartnersComeAndGo(t *testing.T) {
	hub, branch := pair(t)
	depot := newSite(t, "depot")
	depot.must("join", strings.TrimSpace(hub.must("invite", "depot")), "--address", depot.address)
	depot.serve()
	hub.write("before", "x")
	settled(hub, branch)
	starts := func(s *site) int { return strings.Count(s.log.String(), "folder runs") }
	wasHub, wasBranch := starts(hub), starts(branch)
	within := func(what string, is func() bool) {
		t.Helper()
		began := time.Now()
		hub.eventually(what, is)
		took := time.Since(began)
		t.Logf("%s after %v", what, took.Round(time.Millisecond))
		if took > 2*time.Second {
			t.Errorf("%s after %v, want within 2 s", what, took)
		}
	}
	hub.must("membership", "create", "projects/docs@depot", "--path", depot.folder)
	within("the new member has the tree", func() bool { return depot.has("before") })
	depot.must("status", "--wait", "--timeout", "20s")
	for _, from := range []*site{hub, branch, depot} {
		name := from.name + "-wrote"
		from.write(name, "x")
		within(name+" is everywhere", func() bool { return hub.has(name) && branch.has(name) && depot.has(name) })
	}
	hub.must("connection", "set", "projects", "depot->hub", "--rdc=false", "--compression", "off")
	depot.write("otherwise", strings.Repeat("x", 100_000))
	within("what comes another way is there", func() bool { return hub.has("otherwise") && branch.has("otherwise") })

	hub.must("membership", "remove", "projects/docs@depot")
	within("the partner is gone", func() bool {
		return !strings.Contains(hub.must("status", "--json"), `"depot"`) && !strings.Contains(branch.must("status", "--json"), `"depot"`)
	})
	settled(hub, branch)
	branch.write("after", "x")
	within("a change of who stays is there", func() bool { return hub.has("after") })
	if depot.has("after") {
		t.Error("who is no member any more was sent a file")
	}
	if h, b := starts(hub), starts(branch); h != wasHub || b != wasBranch {
		t.Errorf("folders ran anew: %d and %d times, before %d and %d", h, b, wasHub, wasBranch)
	}
}
