package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"opendfs/internal/volume"
)

// Directories stay open for the next file of theirs, a few at a time, and each is closed
// when nobody keeps or uses it any more.
func TestDirectoriesStayOpenForTheNextFile(t *testing.T) {
	root := t.TempDir()
	for i := range keptOpen + 1 {
		dir := filepath.Join(root, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v, err := volume.Open(root, volume.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	var n nearby
	take := func(path string, fresh bool) *nearDir {
		t.Helper()
		d, err := n.take(v, path, fresh)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	give := func(d *nearDir) {
		t.Helper()
		if err := n.give(d); err != nil {
			t.Fatal(err)
		}
	}
	open := func(d *nearDir) bool {
		f, err := d.OpenFile("f")
		if err == nil {
			err = f.Close()
		}
		return err == nil
	}

	first := take("0", false)
	give(first)
	if again := take("0", false); again != first {
		t.Error("the directory was opened anew")
	}
	fresh := take("0", true)
	if fresh == first || !open(first) {
		t.Error("a fresh one is not another, or took the one in use away")
	}
	give(first)
	if open(first) {
		t.Error("the one that was replaced stays open")
	}
	for i := 1; i <= keptOpen; i++ {
		give(take(fmt.Sprint(i), false))
	}
	if len(n.last) != keptOpen || !open(fresh) {
		t.Errorf("%d are kept; the one in use is open: %v", len(n.last), open(fresh))
	}
	give(fresh)
	if open(fresh) {
		t.Error("one that is neither kept nor used stays open")
	}
	last := n.last[0]
	if err := n.close(); err != nil || open(last) {
		t.Errorf("after the end: %v, open: %v", err, open(last))
	}
	late := take("0", false)
	give(late)
	if open(late) || len(n.last) != 0 {
		t.Error("something is kept after the end")
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}
