package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A domain is set up, changed and looked at by commands alone; comments stay, ids are
// filled in, and what is refused changes nothing.
func TestADomainByCommands(t *testing.T) {
	hub := initialised(t)
	file := filepath.Join(hub.state, "domain.yaml")
	for _, c := range []string{"group create projects", "folder create projects/docs --exclude-files *.iso,~*", "folder create projects/media --rest 5s", "invite branch",
		"member add projects hub --path /srv", "membership create projects/docs@branch --path /data/docs --read-only", "membership set projects/docs@hub --primary",
		"server set hub --max-rate 100mbps", "group create software --hub hub"} {
		hub.must(strings.Fields(c)...)
	}
	text := read(t, file)
	if !strings.Contains(text, "# The domain: servers") || strings.Count(text, "id: ") != 10 {
		t.Errorf("the file has lost its comments, or lacks ids:\n%s", text)
	}
	var list []membershipView
	if err := json.Unmarshal([]byte(hub.must("membership", "list", "projects/docs", "--json")), &list); err != nil || len(list) != 2 || !list[0].ReadOnly && !list[1].Primary {
		t.Errorf("memberships %+v, %v", list, err)
	}
	for _, c := range []struct{ command, want string }{
		{"server list", "100mbps"}, {"server show hub", "Max rate    100mbps"}, {"group list", "hub-and-spoke of hub"}, {"group show projects", "Connections  branch->hub, hub->branch"},
		{"folder list", "*.iso, ~*"}, {"folder show projects/media", "Rest                5s"}, {"folder show projects/media", "Owners              numeric"}, {"member list projects", "projects  hub     no   docs, media"},
		{"membership show projects/docs@branch", "Flags               read-only"}, {"connection list", "projects  hub->branch  yes      daily full (the group's)"},
		{"schedule list", "software  all others  daily full"},
	} {
		if out := hub.must(strings.Fields(c.command)...); !strings.Contains(out, c.want) {
			t.Errorf("dfs %s:\n%swant %q", c.command, out, c.want)
		}
	}
	for _, c := range []struct{ command, want string }{
		{"group create projects", "in the domain already"}, {"group set project --topology full-mesh", "there are: projects, software"},
		{"group set projects", "no change was named"}, {"group set projects --topology ring", "full-mesh, hub-and-spoke or connections"},
		{"folder create docs", "GROUP/FOLDER"}, {"membership create projects/media@branch --path srv", "is relative"},
		{"membership create projects/media@branch --path /data/docs", "name another directory, or one in it"}, {"connection add projects hub->branch", "--topology connections"},
		{"server remove hub", "the only hub"}, {"membership create projects/media@lab --path /x", `server "lab" is not in the domain`}, {"server set hub --max-rate closed", "disable"},
	} {
		if _, errs, exit := hub.dfs(strings.Fields(c.command)...); exit == exitDone || !strings.Contains(errs, c.want) {
			t.Errorf("dfs %s: exit %d, want %q:\n%s", c.command, exit, c.want, errs)
		}
	}
	before := read(t, file)
	if out := hub.must("folder", "remove", "projects/docs", "--dry-run"); !strings.Contains(out, "remove folder projects/docs") || !strings.Contains(out, "Nothing was changed") || read(t, file) != before {
		t.Errorf("a dry run says or changes what it should not:\n%s", out)
	}
	if read(t, file) != before {
		t.Error("what was refused has changed the file")
	}
	hub.must("group", "set", "projects", "--topology", "connections")
	_, warned, _ := hub.dfs("connection", "remove", "projects", "branch->hub")
	if !strings.Contains(warned, "has no way back") || strings.Contains(warned, "no primary") {
		t.Errorf("warnings:\n%s", warned)
	}
	hub.must("connection", "set", "projects", "hub->branch", "--compression", "off", "--rdc-min-size", "1MiB", "--cross-file=false")
	if text := read(t, file); !strings.Contains(text, "connection-transfers") {
		t.Errorf("how a connection brings contents is not in the file:\n%s", text)
	}
	if _, errs, exit := hub.dfs("connection", "set", "projects", "hub->branch", "--compression", "much"); exit == exitDone || !strings.Contains(errs, "auto, on or off") {
		t.Errorf("an unknown way of compression: exit %d:\n%s", exit, errs)
	}
	if out := hub.must("connection", "list", "projects"); !strings.Contains(out, "cross-file off, rdc from 1MiB, compression off") {
		t.Errorf("how a connection brings contents is not listed:\n%s", out)
	}
	hub.must("server", "set", "branch", "--name", "lab")
	if out := hub.must("connection", "list", "projects"); !strings.Contains(out, "hub->lab") || strings.Contains(out, "branch") {
		t.Errorf("after the renaming:\n%s", out)
	}
	hub.must("connection", "set", "projects", "hub->lab", "--compression", "auto", "--rdc-min-size", "64KiB", "--cross-file")
	if text := read(t, file); strings.Contains(text, "connection-transfers") {
		t.Errorf("defaults are written down:\n%s", text)
	}
	hub.must("member", "set", "projects", "lab", "--enabled=false")
	hub.must("member", "remove", "projects", "lab")
	hub.must("folder", "set", "projects/media", "--name", "films")
	hub.must("folder", "remove", "projects/docs")
	hub.must("group", "remove", "software")
	hub.must("server", "remove", "lab")
	if out := hub.must("folder", "list"); !strings.Contains(out, "projects/films") || strings.Contains(out, "docs") {
		t.Errorf("at last:\n%s", out)
	}
}

// A week is set, drawn, and taken back.
func TestScheduleCommands(t *testing.T) {
	hub := initialised(t)
	hub.must("invite", "branch")
	hub.must("group", "create", "projects")
	hub.refused(exitUsage, "names no days", "schedule", "set", "projects", "mo-fr 08:00-18:00 full")
	hub.must("schedule", "set", "projects", "mon-fri 08:00-18:00 512kbps; sat,sun full; else closed")
	hub.must("schedule", "set", "projects", "hub->branch", "utc; 8mbps")
	want := `mon-fri 08:00-18:00 512kbps; sat,sun full; else closed

     00:00       03:00       06:00       09:00       12:00       15:00       18:00       21:00       
Mon  ································1111111111111111111111111111111111111111························
Tue  ································1111111111111111111111111111111111111111························
Wed  ································1111111111111111111111111111111111111111························
Thu  ································1111111111111111111111111111111111111111························
Fri  ································1111111111111111111111111111111111111111························
Sat  ████████████████████████████████████████████████████████████████████████████████████████████████
Sun  ████████████████████████████████████████████████████████████████████████████████████████████████

· closed  █ full  1 512kbps
Times are those of the server that receives.
`
	if got := hub.must("schedule", "show", "projects"); got != want {
		t.Errorf("drawn:\n%s\nwant:\n%s", got, want)
	}
	if got := hub.must("schedule", "show", "projects", "hub->branch"); !strings.Contains(got, "1 8mbps") || !strings.Contains(got, "UTC") {
		t.Errorf("drawn:\n%s", got)
	}
	hub.must("schedule", "remove", "projects", "hub->branch")
	hub.must("schedule", "remove", "projects")
	if got := hub.must("schedule", "list", "--json"); !strings.Contains(got, `"schedule": "daily full"`) || strings.Contains(got, "512") {
		t.Errorf("at last %s", got)
	}
}

// Object names are completed from the domain.
func TestCompletion(t *testing.T) {
	hub := initialised(t)
	hub.must("group", "create", "projects")
	hub.must("folder", "create", "projects/docs")
	for line, want := range map[string]string{
		"group show ": "projects", "folder show ": "projects/docs", "membership create ": "projects/docs@hub", "pause ": "projects/docs", "server set ": "hub", "schedule set ": "projects",
	} {
		if out := hub.must(append([]string{"__complete"}, strings.Split(line, " ")...)...); !strings.Contains(out, want+"\n") {
			t.Errorf("completion of %q: %s", line, out)
		}
	}
}

// A server whose identity is revoked is shut out within five seconds, and another
// machine takes its place.
func TestRevoke(t *testing.T) {
	hub, branch := pair(t)
	branch.refused(exitFailed, "master is hub", "group", "create", "other")
	if out := branch.must("server", "list"); !strings.Contains(out, "hub") {
		t.Errorf("a copy shows %s", out)
	}
	began := time.Now()
	if out := hub.must("server", "revoke", "branch", "--dry-run"); !strings.Contains(out, "server branch: identity ") || !strings.Contains(out, "is revoked") || strings.Contains(out, "add server") {
		t.Errorf("what revoking would do:\n%s", out)
	}
	hub.must("server", "revoke", "branch")
	branch.eventually("is refused", func() bool { return strings.Contains(branch.must("status"), "revoked") })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("shut out after %v", took)
	}
	if !strings.Contains(hub.log.String(), "server shut out") {
		t.Error("nothing is logged")
	}
	hub.write("secret.txt", "not for the thief")
	hub.eventually("has captured", func() bool { return hub.status().Folders[0].Files == 1 })
	if branch.has("secret.txt") {
		t.Error("a revoked server was served")
	}
	branch.stop()
	again := newSite(t, "branch")
	hub.must("membership", "set", "projects/docs@branch", "--path", again.folder)
	token := hub.must("invite", "branch")
	again.must("join", strings.TrimSpace(token), "--address", again.address)
	again.serve()
	again.eventually("has the file", func() bool { return again.has("secret.txt") })
	if out := hub.must("server", "list"); !strings.Contains(out, fmt.Sprint("branch  ", again.address)) {
		t.Errorf("servers:\n%s", out)
	}
}
