package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"opendfs/internal/control"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// place is an object as commands name it: a folder and a path beneath its root.
type place struct {
	k   *keeper
	rel string // slash-separated, "." for the root
}

func (p place) String() string {
	if p.rel == "." {
		return p.k.Name + ":"
	}
	return p.k.Name + ":" + p.rel
}

// userPath makes of what a user typed what the member understands: an absolute
// path, or GROUP/FOLDER:relative as it is.
func userPath(arg string) (string, error) {
	if name, _, ok := strings.Cut(arg, ":"); ok && strings.Count(name, "/") == 1 && !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, ".") {
		return arg, nil
	}
	abs, err := filepath.Abs(arg)
	if err != nil {
		return "", fmt.Errorf("path %s: %w", arg, err)
	}
	return abs, nil
}

// locate says which object a path names.
func (f *folders) locate(path string) (place, error) {
	if filepath.IsAbs(path) {
		return f.findLocal(filepath.Clean(path))
	}
	name, rel, ok := strings.Cut(path, ":")
	if !ok {
		return place{}, &control.Problem{Err: fmt.Errorf("path %q: neither absolute nor GROUP/FOLDER:relative", path), Usage: true}
	}
	k, err := f.named(name)
	if err != nil {
		return place{}, &control.Problem{Err: err, Usage: true}
	}
	rel = filepath.Clean("/" + rel)[1:]
	if rel == "" {
		rel = "."
	}
	return place{k, rel}, nil
}

// findLocal finds the folder whose root a path lies beneath. The path's last
// name is not followed if it is a link: it may be one that replicates.
func (f *folders) findLocal(path string) (place, error) {
	real := path
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		real = filepath.Join(dir, filepath.Base(path))
	}
	best := place{}
	var roots []string
	for _, k := range f.all() {
		roots = append(roots, k.Path)
		for _, root := range []string{k.Path, evaluated(k.Path)} {
			for _, p := range []string{path, real} {
				rel, err := filepath.Rel(root, p)
				if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
					continue
				}
				if best.k == nil || len(k.Path) > len(best.k.Path) {
					best = place{k, rel}
				}
			}
		}
	}
	if best.k != nil {
		return best, nil
	}
	hint := "this server replicates no folder"
	if len(roots) > 0 {
		hint = "replicated here: " + strings.Join(roots, ", ") + "; GROUP/FOLDER:PATH names what lies in one of them too"
	}
	return place{}, control.Hint(fmt.Errorf("%s lies in no replicated folder of this server", path), hint)
}

func evaluated(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	return path
}

// inPrivate reports whether the place is in the private area.
func (p place) inPrivate() bool {
	first, _, _ := strings.Cut(p.rel, "/")
	return first == ".dfsr"
}

// record walks the records from the root to the place. Without one, above is
// the deepest directory on the way that has a record.
func (p place) record(records store.Reader) (rec repl.Record, above repl.UID, ok bool, err error) {
	return recordAt(records, p.k.Folder, p.rel)
}

// recordAt is place.record of a path in a folder.
func recordAt(records store.Reader, folder repl.FolderID, rel string) (rec repl.Record, above repl.UID, ok bool, err error) {
	above = repl.RootUID(folder)
	rec, ok, err = records.Get(above)
	if err != nil || !ok || rel == "." {
		return rec, above, ok, err
	}
	for name := range strings.SplitSeq(rel, "/") {
		rec, ok, err = records.At(above, name)
		if err != nil || !ok {
			return repl.Record{}, above, false, err
		}
		above = rec.UID
	}
	return rec, above, true, nil
}

// onDisk looks at the place beneath the root, following no link out of it; nil
// if there is nothing.
func (p place) onDisk() (fs.FileInfo, error) {
	dir, err := openRoot(p.k.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }() // read-only: nothing is lost
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return nil, err
	}
	info, err := root.Lstat(p.rel)
	if errors.Is(err, fs.ErrNotExist) {
		info, err = nil, nil
	}
	return info, errors.Join(err, root.Close())
}
