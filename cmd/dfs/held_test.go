package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type heldOriginator struct {
	Folder, Originator, Server, State string
	Replaced, Deleted, Live, Updates  json.Number
}

func (s *site) held() []heldOriginator {
	s.t.Helper()
	var reply struct{ Held []heldOriginator }
	if err := json.Unmarshal([]byte(s.must("held", "list", "--json")), &reply); err != nil {
		s.t.Fatal(err)
	}
	return reply.Held
}

// many lets a script do something with each of the files f0000, f0001, … of a range:
// $n is the name, $i the number.
func (s *site) many(from, to int, do string) {
	s.t.Helper()
	s.user("bash", "-c", fmt.Sprintf("for ((i = %d; i < %d; i++)); do printf -v n f%%04d $i; %s; done", from, to, do))
}

const (
	clearText = `printf "clear $i" > $n`
	encrypt   = `printf "encrypted $i" > $n`
)

func (s *site) holds(path, text string) bool {
	b, err := os.ReadFile(filepath.Join(s.folder, path))
	return err == nil && string(b) == text
}

// A script encrypts 40 % of a folder on one server. The other holds it, says so,
// and lets it go on when it is told to; what is released does not trip it again.
func TestMassChangeIsHeldAndReleased(t *testing.T) {
	hub, branch := pair(t)
	hub.many(0, 1200, clearText)
	settled(hub, branch)
	hub.must("pause", "projects/docs")
	hub.many(0, 480, encrypt)
	hub.must("resume", "projects/docs")
	branch.eventually("holds hub", func() bool { return len(branch.held()) == 1 })
	h := branch.held()[0]
	replaced, err := h.Replaced.Int64() // when it tripped: not all need have been captured yet
	if err != nil || replaced <= 360 || replaced > 480 || h.Folder != "projects/docs" || h.Server != "hub" || h.State != "held" || h.Live != "1200" {
		t.Errorf("held: %+v", h)
	}
	branch.write("of-branch", "goes on")
	hub.eventually("gets what branch does", func() bool { return hub.holds("of-branch", "goes on") })
	if out := branch.must("status"); !strings.Contains(out, "mass-change-held") || !strings.Contains(out, "by server hub") {
		t.Errorf("status:\n%s", out)
	}
	if !branch.holds("f0479", "clear 479") {
		t.Error("what is held was installed")
	}
	branch.refused(exitFailed, "nothing of projects/docs is held here that fits", "held", "release", "projects/docs", "branch")
	branch.refused(exitUsage, "not a member of it", "held", "reject", "projects/nothing")
	if out := branch.must("held", "list", "projects/docs"); !strings.Contains(out, "hub") || !strings.Contains(out, h.Originator) {
		t.Errorf("held list:\n%s", out)
	}
	branch.must("held", "release", "projects/docs", "hub")
	settled(hub, branch)
	if !branch.holds("f0000", "encrypted 0") || !branch.holds("f0479", "encrypted 479") || len(branch.held()) > 0 {
		t.Errorf("after the release f0479 is %q, held %+v", branch.read("f0479"), branch.held())
	}
	if out := hub.must("held", "list"); !strings.Contains(out, "Nothing is held") {
		t.Errorf("held list on hub:\n%s", out)
	}
}

// What is held is rejected: where it was done the old versions come back, and what
// was there is kept. A restart in between changes nothing.
func TestMassChangeIsRejected(t *testing.T) {
	hub, branch := pair(t)
	hub.many(0, 1100, clearText)
	settled(hub, branch)
	branch.must("pause", "projects/docs")
	hub.many(0, 400, encrypt)
	hub.many(400, 440, "rm $n")
	hub.write("ransom", "pay")
	for i := 400; i < 440; i++ { // what is captured after the rejection is another act
		hub.eventually("captures each deletion", func() bool {
			_, _, exit := hub.dfs("record", fmt.Sprintf("projects/docs:f%04d", i))
			return exit != exitDone
		})
	}
	branch.must("resume", "projects/docs")
	branch.eventually("holds hub", func() bool { return len(branch.held()) == 1 })
	branch.must("held", "reject", "projects/docs")
	settled(hub, branch)
	for _, s := range []*site{hub, branch} {
		for _, i := range []int{0, 399, 400, 439, 1099} {
			if name, want := fmt.Sprintf("f%04d", i), fmt.Sprintf("clear %d", i); !s.holds(name, want) {
				t.Errorf("%s on %s is not %q", name, s.name, want)
			}
		}
		if !s.holds("ransom", "pay") {
			t.Errorf("%s has not what was made anew", s.name)
		}
		if h := s.held(); len(h) > 0 {
			t.Errorf("%s holds %+v", s.name, h)
		}
	}
	hub.keeps(400, "projects/docs", "--why", "conflict", "--limit", "1000")
}

// A folder can do without the breaker.
func TestBreakerOff(t *testing.T) {
	hub, branch := pair(t)
	hub.refused(exitUsage, "it is on or off", "folder", "set", "projects/docs", "--breaker", "maybe")
	hub.must("folder", "set", "projects/docs", "--breaker", "off")
	hub.many(0, 1100, clearText)
	settled(hub, branch)
	hub.many(0, 500, encrypt)
	settled(hub, branch)
	if !branch.holds("f0499", "encrypted 499") || len(branch.held()) > 0 {
		t.Errorf("f0499 is %q, held %+v", branch.read("f0499"), branch.held())
	}
}
