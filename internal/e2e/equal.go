package e2e

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/zeebo/blake3"
)

// equalTrees compares two roots twice: by rsync, which must list nothing, and by our own walk.
func equalTrees(t testing.TB, a, b string) {
	t.Helper()
	if said := rsyncDifference(t, a, b); said != "" {
		t.Errorf("`rsync -naAXHic --delete` from %s to %s lists:\n%s", a, b, shorten(said, 40))
	}
	if diff := difference(walk(t, a), walk(t, b)); len(diff) > 0 {
		t.Errorf("%s and %s differ:\n%s", a, b, shorten(strings.Join(diff, "\n"), 40))
	}
}

// rsyncDifference is what rsync would do to make b like a. What every folder leaves out, unless it says otherwise, is left out: names
// that begin with ~, which a killed editor leaves behind.
func rsyncDifference(t testing.TB, a, b string) string {
	t.Helper()
	return strings.TrimSpace(must(t, "rsync", "-naAXHic", "--delete", "--exclude=/.dfsr", "--exclude=~*", a+"/", b+"/"))
}

func shorten(text string, lines int) string {
	all := strings.Split(text, "\n")
	if len(all) > lines {
		all = append(all[:lines], fmt.Sprintf("… and %d lines more", len(all)-lines))
	}
	return strings.Join(all, "\n")
}

// look is what one name is, as text that compares: type, mode, owner, and for files and links the content.
type look string

// walk looks at everything beneath a root but the private area. Modification times of files are in the look, those of directories are
// rsync's to compare.
func walk(t testing.TB, root string) map[string]look {
	t.Helper()
	out := make(map[string]look)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if rel == "." {
			return nil
		}
		if rel == ".dfsr" {
			return filepath.SkipDir
		}
		if strings.HasPrefix(d.Name(), "~") {
			return nil
		}
		out[rel], err = lookAt(path)
		return err
	})
	if err != nil {
		t.Fatalf("walk %s: %v", root, err)
	}
	return out
}

func lookAt(path string) (look, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("stat %s: no owner", path)
	}
	head := fmt.Sprintf("%v %d:%d", info.Mode(), st.Uid, st.Gid)
	switch {
	case info.Mode().IsRegular():
		sum, err := hashFile(path)
		return look(fmt.Sprintf("%s %d %d %s", head, info.Size(), info.ModTime().UnixNano(), sum)), err
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return look(head + " -> " + target), err
	}
	return look(head), nil
}

// hashFile is the hash of a file's content, in hex, short enough to read.
func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := blake3.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:16]), nil
}

// difference lists the names that are not the same in both, in order.
func difference(a, b map[string]look) []string {
	var out []string
	for name, was := range a {
		if is, ok := b[name]; !ok {
			out = append(out, name+": only in the first: "+string(was))
		} else if is != was {
			out = append(out, name+": "+string(was)+" | "+string(is))
		}
	}
	for name, is := range b {
		if _, ok := a[name]; !ok {
			out = append(out, name+": only in the second: "+string(is))
		}
	}
	slices.Sort(out)
	return out
}
