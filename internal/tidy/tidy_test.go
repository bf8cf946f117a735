package tidy

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// checks are all rules, by the name of the script in testdata that shows each one failing.
var checks = []struct {
	name string
	run  func(*tree) []breach
}{
	{"layers", checkLayers},
	{"pure", checkPure},
	{"docs", checkDocs},
	{"exported", checkExported},
	{"errors", checkErrors},
	{"ceilings", checkCeilings},
	{"init", checkInit},
	{"sleep", checkSleep},
	{"notes", checkNotes},
	{"format", checkFormat},
	{"links", checkLinks},
	{"paths", checkMachinePaths},
	{"proofs", checkProofs},
}

// TestTree holds this repository to every rule.
func TestTree(t *testing.T) {
	tr, err := readTree(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.files) == 0 || len(tr.paths(".md")) == 0 {
		t.Fatalf("read %d Go files and %d Markdown files: this is not the root of the repository", len(tr.files), len(tr.paths(".md")))
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			for _, b := range c.run(tr) {
				t.Error(b)
			}
		})
	}
}

// TestLayersStand compares the table with the tree from the other side: an
// entry of the table that has code is read as its own layer, in order.
func TestLayersStand(t *testing.T) {
	seen := map[string]bool{}
	for i, l := range layers {
		if seen[l.name] {
			t.Errorf("layer %s stands twice in the table", l.name)
		}
		seen[l.name] = true
		if place("internal/"+l.name) != i || place("internal/"+l.name+"/below") != i {
			t.Errorf("layer %s is not found at its place %d", l.name, i)
		}
		if l.why == "" {
			t.Errorf("layer %s gives no reason", l.name)
		}
		if i > 0 && l.kind < layers[i-1].kind && layers[i-1].kind != hub {
			t.Errorf("layer %s stands above a layer of a lower kind", l.name)
		}
	}
}

// TestChecksFail runs every check over a small bad tree: a check that cannot
// fail is a defect. A script in testdata is a tree, and the file "want" in it
// lists the messages; {NAME} in a text stands for what a script may not hold
// literally. DFS_REWRITE=1 writes the messages found.
func TestChecksFail(t *testing.T) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			script := filepath.Join("testdata", c.name+".txtar")
			archive, err := txtar.ParseFile(script)
			if err != nil {
				t.Fatal(err)
			}
			fsys, want := badTree(archive)
			tr, err := readTree(fsys)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, b := range c.run(tr) {
				got.WriteString(b.String() + "\n")
			}
			if os.Getenv("DFS_REWRITE") != "" {
				rewrite(t, script, archive, got.String())
				want = got.String()
			}
			if diff := cmp.Diff(want, got.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", script, diff)
			}
			if got.Len() == 0 {
				t.Errorf("%s breaks no rule: nothing shows that the check can fail", script)
			}
		})
	}
}

// TestUnreadableTree shows that a tree that cannot be judged is an error, not a pass.
func TestUnreadableTree(t *testing.T) {
	for name, fsys := range map[string]fs.FS{
		"no module":   fstest.MapFS{"a.go": {Data: []byte("package a\n")}},
		"broken file": fstest.MapFS{"go.mod": {Data: []byte("module m\n")}, "a.go": {Data: []byte("package\n")}},
	} {
		if _, err := readTree(fsys); err == nil {
			t.Errorf("%s: read without an error", name)
		}
	}
}

// badTree turns a script into a tree. Lines of the form "{LINES n}" become n
// empty comment lines, "{SLASH}" becomes a slash.
func badTree(archive *txtar.Archive) (fstest.MapFS, string) {
	fsys, want := fstest.MapFS{}, ""
	for _, f := range archive.Files {
		text := strings.ReplaceAll(string(f.Data), "{SLASH}", "/")
		text = strings.ReplaceAll(text, "{70 LINES}\n", strings.Repeat("\t//\n", 70))
		text = strings.ReplaceAll(text, "{500 LINES}\n", strings.Repeat("//\n", 500))
		if f.Name == "want" {
			want = text
			continue
		}
		fsys[f.Name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys, want
}

func rewrite(t *testing.T, script string, archive *txtar.Archive, got string) {
	t.Helper()
	got = machinePath.ReplaceAllStringFunc(got, func(m string) string {
		return strings.Replace(m, "/", "{SLASH}", 1)
	})
	kept := archive.Files[:0]
	for _, f := range archive.Files {
		if f.Name != "want" {
			kept = append(kept, f)
		}
	}
	archive.Files = append(kept, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(script, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}
