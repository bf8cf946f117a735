package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// alone makes a server that is the only member of folder g/f.
func alone(t *testing.T) *site {
	t.Helper()
	hub := initialised(t)
	file := filepath.Join(hub.state, "domain.yaml")
	put(t, file, read(t, file)+"\ngroups: {g: {folders: {f: {members: {hub: {path: "+hub.folder+", primary: true}}}}}}\n")
	hub.serve()
	hub.must("status", "--wait", "--timeout", "20s")
	return hub
}

// A name that is no UTF-8 is asked for as it stands on disk, and answered with
// what a terminal and a program can read.
func TestNamesThatAreNoText(t *testing.T) {
	hub := alone(t)
	const odd = "caf\xe9.txt" // Latin-1
	hub.write(odd, "menu")
	hub.must("status", "--wait", "--timeout", "20s")
	for _, path := range []string{filepath.Join(hub.folder, odd), "g/f:" + odd} {
		if out := hub.must("record", path, "--json"); !strings.Contains(out, `"name": "caf`+"\uFFFD"+`.txt"`) {
			t.Errorf("record of %q:\n%s", path, out)
		}
		if out := hub.must("explain", path); !strings.Contains(out, "In order") {
			t.Errorf("explain of %q:\n%s", path, out)
		}
	}
	hub.refused(exitFailed, "has no ID record", "record", "g/f:other\xe9")
	hub.refused(exitFailed, "hint: `dfs explain g/f:other", "record", "g/f:other\xe9")
	mine := filepath.Join(t.TempDir(), "domain\xe9.yaml")
	put(t, mine, read(t, filepath.Join(hub.state, "domain.yaml")))
	if out := hub.must("apply", "-f", mine, "--dry-run"); !strings.Contains(out, "Nothing changes") {
		t.Errorf("apply of %q:\n%s", mine, out)
	}
}
