package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/peer"
	"opendfs/internal/repl"
)

// status asks a member for its status.
func (s *site) status() (r struct {
	Folders []struct {
		Files       int64
		ServedBytes uint64
		Links       []struct {
			Direction, Window, WindowUntil string
			Connected                      bool
		}
	}
	Orders []struct{ Verb, Object, Until string }
}) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.must("status", "--json")), &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// window is what the folder's connection in a direction may do.
func (s *site) window(direction string) (window, until string) {
	s.t.Helper()
	for _, l := range s.status().Folders[0].Links {
		if l.Direction == direction {
			return l.Window, l.WindowUntil
		}
	}
	s.t.Fatalf("%s has no connection %s", s.name, direction)
	return "", ""
}

func (s *site) has(name string) bool {
	_, err := os.Stat(filepath.Join(s.folder, name))
	return err == nil
}

// A closed window stops what comes in, at once and seen by the administrator; what
// happens here is captured meanwhile; sync-now opens it for a while.
func TestClosedWindow(t *testing.T) {
	hub, branch := pair(t)
	file := filepath.Join(hub.state, "domain.yaml")
	day := time.Now().AddDate(0, 0, 3).Format("Mon") // closed for two days at least
	closed := strings.Replace(read(t, file), "\n  projects:\n", fmt.Sprintf("\n  projects:\n    connection-schedules: {\"hub->branch\": \"%s full; else closed\"}\n", strings.ToLower(day)), 1)
	put(t, file, closed)
	hub.must("apply", "-f", file)
	branch.eventually("is closed", func() bool { w, _ := branch.window("in"); return w == "closed" })
	if _, until := branch.window("in"); until == "" {
		t.Error("nobody is told when it opens")
	}
	if out := branch.must("status"); !strings.Contains(out, "closed until "+day) {
		t.Errorf("status does not say until when it is closed:\n%s", out)
	}
	hub.write("out.txt", "from the hub")
	branch.write("in.txt", "from the branch")
	hub.eventually("has the branch's file", func() bool { return hub.has("in.txt") }) // the other way is open
	if branch.has("out.txt") {
		t.Error("the closed connection brought a file")
	}
	branch.refused(exitNotYet, "the connection from hub is closed until "+day, "status", "--wait", "--timeout", "2s")
	if out := branch.must("backlog", "projects/docs", "--json"); !strings.Contains(out, "the connection is closed until "+day) {
		t.Errorf("backlog does not say why:\n%s", out)
	}
	branch.refused(exitUsage, "this server is branch", "sync-now", "branch->hub")
	branch.refused(exitUsage, "no member of it", "sync-now", "project")
	branch.must("sync-now", "hub->branch", "--for", "5m")
	branch.eventually("has the hub's file", func() bool { return branch.has("out.txt") })
	if w, until := branch.window("in"); w != "sync-now" || until == "" {
		t.Errorf("the window is %q until %q", w, until)
	}
	branch.must("resume", "hub->branch")
	if w, _ := branch.window("in"); w != "closed" {
		t.Errorf("after resume the window is %q", w)
	}
}

// A pause stops both directions on the server where it was given, outlives a
// restart, and ends by resume or by itself.
func TestPause(t *testing.T) {
	hub, branch := pair(t)
	branch.must("pause", "projects/docs@branch")
	branch.refused(exitFailed, "`dfs pause projects/docs`", "resume", "projects/docs/x")
	branch.refused(exitFailed, "no order", "resume", "projects/nothing")
	hub.write("out.txt", "from the hub")
	branch.write("in.txt", "from the branch")
	branch.eventually("captures its own", func() bool { return branch.status().Folders[0].Files == 1 })
	if out := hub.must("status"); hub.has("in.txt") || branch.has("out.txt") {
		t.Errorf("replicated in spite of the pause:\n%s", out)
	}
	branch.stop()
	branch.serve()
	branch.eventually("runs the folder", func() bool {
		f := branch.status().Folders
		return len(f) == 1 && len(f[0].Links) == 2
	})
	for _, direction := range []string{"in", "out"} {
		if w, until := branch.window(direction); w != "paused" || until != "" {
			t.Errorf("%s is %q until %q after a restart", direction, w, until)
		}
	}
	if out := branch.must("status"); !strings.Contains(out, "pause     projects/docs, until `dfs resume projects/docs`") {
		t.Errorf("status does not list the order:\n%s", out)
	}
	branch.must("pause", "projects", "--for", "1s") // replaces what is within
	branch.must("status", "--wait", "--timeout", "60s")
	if orders := branch.status().Orders; len(orders) > 0 || !branch.has("out.txt") || !hub.has("in.txt") {
		t.Errorf("after its time the pause holds: %v", orders)
	}
}

// A window that closes ends a transfer that is under way within a second; it goes on
// later, and at the rate that holds then.
func TestAClosingWindowStopsATransfer(t *testing.T) {
	hub, branch := pair(t)
	hub.must("schedule", "set", "projects", "hub->branch", "2mbps") // 250 kB/s
	branch.eventually("is limited", func() bool { w, _ := branch.window("in"); return w == "2mbps" })
	hub.write("big.bin", strings.Repeat("0123456789abcdef", 1<<17)) // 2 MiB: more than 8 s
	served := func() uint64 { return hub.status().Folders[0].ServedBytes }
	hub.eventually("sends", func() bool { return served() > 100_000 })
	branch.must("pause", "hub->branch")
	closed, last, still := time.Now(), served(), time.Now()
	hub.eventually("stops sending", func() bool {
		if n := served(); n != last {
			last, still = n, time.Now()
		}
		return time.Since(still) > 1500*time.Millisecond
	})
	if took := still.Sub(closed); took > time.Second {
		t.Errorf("sent for %v after the window closed", took)
	}
	if last > 1<<20 || branch.has("big.bin") {
		t.Errorf("%d bytes were served", last)
	}
	hub.must("schedule", "remove", "projects", "hub->branch")
	began := time.Now()
	branch.must("resume", "--all")
	branch.eventually("has it", func() bool { return branch.has("big.bin") })
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("without a limit it took %v", took)
	}
}

// A transfer that a closing window cuts goes on at the byte where it was.
func TestAClosedWindowIsNoLoss(t *testing.T) {
	hub, branch := pair(t)
	hub.must("schedule", "set", "projects", "hub->branch", "16mbps") // 2 MB/s
	branch.eventually("is limited", func() bool { w, _ := branch.window("in"); return w == "16mbps" })
	content := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{5}).Read(content)
	hub.write("big.bin", string(content))
	served := func() uint64 { return hub.status().Folders[0].ServedBytes }
	hub.eventually("sends the half", func() bool { return served() > 4<<20 })
	branch.must("pause", "hub->branch")
	branch.eventually("is paused", func() bool { w, _ := branch.window("in"); return w == "paused" })
	branch.must("resume", "--all")
	branch.eventually("has it", func() bool { return branch.has("big.bin") })
	if n := served(); n > 9<<20 {
		t.Errorf("%d bytes were served of a file of %d", n, len(content))
	}
}

const domainOfWindows = `version: 1
domain: corp
servers:
  hub:    {id: 00000000-0000-4000-8000-000000000001, address: "h:7440"}
  branch: {id: 00000000-0000-4000-8000-000000000002, address: "b:7440", max-rate: 10mbps}
groups:
  projects:
    id: 00000000-0000-4000-8000-000000000003
    schedule: "02:00-03:00 64kbps; 03:00-04:00 full; else closed"
    folders:
      docs:
        id: 00000000-0000-4000-8000-000000000004
        members:
          hub:    {id: 00000000-0000-4000-8000-000000000005, path: /srv/docs, primary: true}
          branch: {id: 00000000-0000-4000-8000-000000000006, path: /srv/docs}
`

// The windows follow the clock by themselves: each opens and closes within a moment
// of its time, on a plain night and on both nights in which clocks are set.
func TestWindowsFollowTheClock(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		day  time.Time
		want string
	}{
		{time.Date(2026, 6, 14, 0, 0, 0, 0, berlin), "02:00 true, 04:00 false"},
		{time.Date(2026, 3, 29, 0, 0, 0, 0, berlin), "03:00 true, 04:00 false"},
		{time.Date(2026, 10, 25, 0, 0, 0, 0, berlin), "02:00 true, 04:00 false"},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, err := directory.Parse([]byte(domainOfWindows), "domain.yaml")
			if err != nil {
				t.Fatal(err)
			}
			key := heardKey{repl.MemberID(d.ServerByName("hub").ID), repl.FolderID(d.Groups[0].Folders[0].ID)}
			var said []string
			state := &stateDir{path: t.TempDir()}
			w, err := newWindows(state, new(peer.Limit), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			shift := time.Until(c.day) // from the bubble's clock to the night
			w.session = func(repl.MemberID) *peer.Session { return nil }
			w.relink = func(folder repl.FolderID, m repl.MemberID) {
				if folder == key.folder && m == key.partner {
					now := time.Now().Add(shift).In(berlin)
					said = append(said, fmt.Sprintf("%s %v", now.Format("15:04"), w.pass(folder, m) != nil))
					if now.Second() > 1 {
						t.Errorf("late: %v", now)
					}
				}
			}
			w.zone, w.clock = berlin, func() time.Time { return time.Now().Add(shift) }
			ctx, cancel := context.WithTimeout(t.Context(), 23*time.Hour)
			defer cancel()
			w.follow(d, d.ServerByName("branch").ID)
			w.run(ctx)
			if got := strings.Join(said, ", "); got != c.want {
				t.Errorf("%s: %s, want %s", c.day.Format(time.DateOnly), got, c.want)
			}
		})
	}
}

// max-rate is shared by the connections that are busy; those that are not begin with
// little, and a schedule's own rate still holds.
func TestMaxRateIsShared(t *testing.T) {
	d, err := directory.Parse([]byte(strings.NewReplacer(
		"\n  branch:", "\n  lab: {id: 00000000-0000-4000-8000-000000000007, address: \"l:7440\"}\n  branch:",
		"          hub: ", "          lab: {id: 00000000-0000-4000-8000-000000000008, path: /srv/docs}\n          hub: ",
		"    schedule: \"02:00-03:00 64kbps; 03:00-04:00 full; else closed\"\n", "    connection-schedules: {\"lab->branch\": \"4mbps\"}\n",
	).Replace(domainOfWindows)), "domain.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWindows(&stateDir{path: t.TempDir()}, new(peer.Limit), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w.session = func(repl.MemberID) *peer.Session { return nil }
	w.relink = func(repl.FolderID, repl.MemberID) {}
	now := time.Now()
	w.clock = func() time.Time { return now }
	w.follow(d, d.ServerByName("branch").ID)
	docs := repl.FolderID(d.Groups[0].Folders[0].ID)
	hub, lab := repl.MemberID(d.ServerByName("hub").ID), repl.MemberID(d.ServerByName("lab").ID)
	expect := func(what string, fromHub, fromLab uint64) {
		t.Helper()
		r, group := w.rates(now), repl.GUID(d.Groups[0].ID)
		if r[hub][group] != fromHub || r[lab][group] != fromLab {
			t.Errorf("%s: %d and %d bits per second, want %d and %d", what, r[hub][group], r[lab][group], fromHub, fromLab)
		}
	}
	expect("idle", 200_000, 200_000)
	hubDone := w.use(w.pass(docs, hub))
	expect("one is busy", 10_000_000, 200_000)
	labDone := w.use(w.pass(docs, lab))
	expect("both are busy", 5_000_000, 4_000_000)
	hubDone()
	now = now.Add(busyFor / 2)
	expect("just now", 5_000_000, 4_000_000)
	now = now.Add(busyFor)
	expect("the other alone", 200_000, 4_000_000)
	labDone()
	if err := w.give(order{Verb: verbSyncNow, Object: "lab->branch", Until: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	expect("in spite of the schedule", 200_000, 10_000_000)
}
