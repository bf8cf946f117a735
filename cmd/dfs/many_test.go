package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Many folders on one disk, half of them in one group and half in groups of their
// own, come together and carry a file each.
func TestManyFolders(t *testing.T) {
	hub, branch := pair(t)
	const folders = 32
	var b strings.Builder
	b.WriteString(strings.Split(read(t, filepath.Join(hub.state, "domain.yaml")), "groups:")[0] + "\ngroups:\n  many:\n    folders:\n")
	for i := range folders {
		if i >= folders/2 {
			fmt.Fprintf(&b, "  g%d:\n    folders:\n", i)
		}
		fmt.Fprintf(&b, "      f%d:\n        members:\n", i)
		for _, s := range []*site{hub, branch} {
			root := filepath.Join(s.folder+"s", fmt.Sprint(i))
			if err := os.MkdirAll(root, 0o755); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "          %s: {path: %q, primary: %v}\n", s.name, root, s == hub)
		}
	}
	file := filepath.Join(t.TempDir(), "many.yaml")
	put(t, file, b.String())
	began := time.Now()
	hub.must("apply", "-f", file)
	for _, s := range []*site{branch, hub} {
		s.must("status", "--wait", "--timeout", "25s")
	}
	t.Logf("%d folders are Normal after %v", folders, time.Since(began))
	began = time.Now()
	own, theirs := hub.folder, branch.folder
	for i := range folders {
		hub.folder = filepath.Join(own+"s", fmt.Sprint(i))
		hub.write("file", "x")
	}
	hub.must("status", "--wait", "--timeout", "25s")
	t.Logf("a file in each is there after %v", time.Since(began))
	for i := range folders {
		if branch.folder = filepath.Join(theirs+"s", fmt.Sprint(i)); !branch.has("file") {
			t.Errorf("folder %d lacks its file", i)
		}
	}
}
