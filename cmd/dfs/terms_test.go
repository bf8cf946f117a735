package main

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A folder's quotas, times, breaker and filters change on one server and are in force
// on the other within 2 s, while the folders go on as they run.
func TestSettingsAndFiltersOfARunningFolder(t *testing.T) {
	hub, branch := pair(t)
	hub.write("doomed", strings.Repeat("x", 11<<20))
	hub.write("old.iso", "old")
	settled(hub, branch)
	hub.user("rm", "doomed")
	settled(hub, branch)
	starts := func() int {
		return strings.Count(hub.log.String(), "folder runs") + strings.Count(branch.log.String(), "folder runs")
	}
	was := starts()
	within := func(what string, is func() bool, change ...string) {
		t.Helper()
		began := time.Now()
		hub.must(change...)
		hub.eventually(what, is)
		took := time.Since(began)
		t.Logf("%s after %v", what, took.Round(time.Millisecond))
		if took > 2*time.Second {
			t.Errorf("%s after %v, want within 2 s", what, took)
		}
	}
	kept := func() bool { return len(branch.kept("projects/docs")) > 0 }
	branch.eventually("keeps what was deleted on the hub", kept)
	within("the conflict store is at its new quota", func() bool { return !kept() },
		"membership", "set", "projects/docs@branch", "--conflict-quota", "10MiB", "--conflict-retention", "1d", "--staging-quota", "1GiB")

	writer := exec.Command("sh", "-c", "exec >open; echo not closed; read line")
	writer.Dir = branch.folder
	closes, err := writer.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(closes.Close(), writer.Wait()); err != nil && writer.ProcessState.ExitCode() != 1 { // read finds the end
			t.Error(err)
		}
	}()
	branch.eventually("a file is open", func() bool { return branch.has("open") && branch.read("open") != "" })
	branch.write("beside", "x")
	hub.eventually("beside it comes", func() bool { return hub.has("beside") })
	if hub.has("open") {
		t.Fatal("an open file came before its rest")
	}
	within("a file that is open comes after another rest", func() bool { return hub.has("open") },
		"folder", "set", "projects/docs", "--rest", "1s", "--slow-sync", "1h", "--tombstone-lifetime", "30d", "--breaker", "off")

	within("the filter is in force", func() bool { return strings.Contains(branch.must("explain", "projects/docs:new.iso"), "*.iso") },
		"folder", "set", "projects/docs", "--exclude-files", "*.iso")
	for _, from := range []*site{hub, branch} {
		from.write(from.name+".iso", "x")
		from.write(from.name+".txt", "x")
	}
	hub.write("old.iso", "new")
	settled(hub, branch)
	if !hub.has("branch.txt") || !branch.has("hub.txt") || hub.has("branch.iso") || branch.has("hub.iso") || branch.read("old.iso") != "old" {
		t.Error("what the filter keeps out travels, or something else does not")
	}
	within("what was kept out is everywhere", func() bool {
		return hub.has("branch.iso") && branch.has("hub.iso") && branch.read("old.iso") == "new"
	}, "folder", "set", "projects/docs", "--exclude-files", "")
	if now := starts(); now != was {
		t.Errorf("folders ran anew %d times", now-was)
	}
}
