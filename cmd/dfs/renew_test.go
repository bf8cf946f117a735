package main

import (
	"strings"
	"testing"
	"time"

	"opendfs/internal/pki"
)

// Two servers were off until after their certificates had ended: the one with the
// CA renews its own when it starts, the other is given a new one, and they
// replicate. One that is not in the domain any more is given none.
func TestExpiredWhileOff(t *testing.T) {
	long := time.Now().Add(-2 * 365 * 24 * time.Hour)
	hub, branch := newSite(t, "hub"), newSite(t, "branch")
	if _, err := initDomain(hub.state, newDomain{"corp", "hub", []string{hub.address}, []string{hub.address}, long}); err != nil {
		t.Fatal(err)
	}
	hub.serve()
	hub.eventually("has renewed its own", func() bool { return notAfter(t, hub).After(time.Now()) })
	branch.must("join", strings.TrimSpace(hub.must("invite", "branch")), "--address", branch.address)
	hub.must("apply", "-f", replicate(t, hub, branch))
	expire(t, hub, branch, long.Add(time.Hour))
	branch.serve()
	branch.eventually("has a new certificate", func() bool { return notAfter(t, branch).After(time.Now().Add(300 * 24 * time.Hour)) })
	branch.eventually("has heard of the folder", func() bool { return strings.Contains(branch.must("status"), "projects/docs") })
	branch.must("status", "--wait", "--timeout", "20s")
	branch.stop()
	expire(t, hub, branch, long.Add(2*time.Hour))
	hub.must("server", "revoke", "branch")
	branch.serve()
	branch.eventually("is told that it is out", func() bool {
		return strings.Contains(branch.must("status"), "is not in the domain any more")
	})
}

func notAfter(t *testing.T, s *site) time.Time {
	t.Helper()
	id, err := pki.Load(s.state)
	if err != nil {
		t.Fatal(err)
	}
	return id.NotAfter()
}

// expire gives a server that does not run a certificate that was made then.
func expire(t *testing.T, hub, s *site, then time.Time) {
	t.Helper()
	ca, err := pki.LoadAuthority(hub.state)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.Load(s.state)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pki.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	old, err := ca.Issue(r.DER, id.Member(), s.name, then)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Renew(r, old); err != nil || notAfter(t, s).After(time.Now()) {
		t.Fatalf("expired on %v, %v", notAfter(t, s), err)
	}
}
