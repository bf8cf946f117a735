package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"opendfs/internal/engine"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/volume"

	"golang.org/x/sys/unix"
)

// A replicated folder may lie in another one's tree (docs/conflicts.md, "Folders in
// folders"): the outer one knows it by its private area and leaves it alone. What
// the outer one has on record already it goes on replicating, so the inner one is
// not opened there, nor where two folders have one root, by whatever path.

// neighbour is another membership of this server.
type neighbour struct {
	folder     repl.FolderID
	membership repl.GUID
	name, path string
	off        bool // the domain has switched it off
}

// outer is a folder in whose tree this one lies, at a path relative to its root.
type outer struct {
	neighbour
	at   string
	self repl.Identity // of the root that lies there
}

// others lists the other memberships of this server.
func (f *folders) others(k *keeper) []neighbour {
	var out []neighbour
	for _, o := range f.all() {
		if o.Folder != k.Folder {
			out = append(out, neighbour{o.Folder, o.Membership, o.Name, o.Path, false})
		}
	}
	for _, v := range f.disabled() {
		if id := repl.FolderID(v.Folder.ID); id != k.Folder {
			out = append(out, neighbour{id, repl.GUID(v.ID), v.Name(), v.Path, true})
		}
	}
	return out
}

// objectID is what tells directories apart, whatever path leads there.
type objectID struct {
	device, inode uint64
}

// identify describes the directory at a path, and tells the mount it is reached by.
func identify(path string) (id objectID, mount uint64, err error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_MNT_ID, &st); err != nil {
		return id, 0, &os.PathError{Op: "look at", Path: path, Err: err}
	}
	return objectID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, st.Mnt_id, nil
}

// checkOthers refuses a root that is another folder's, or lies in one that replicates
// it; it returns the folders that this one lies in. A folder that is new here lets
// those that lie in it be known first.
func (k *keeper) checkOthers(records *store.Folder) ([]outer, error) {
	around, within, err := k.neighbours()
	if err == nil {
		err = errors.Join(k.checkOuters(around), k.awaitOuters(around))
	}
	if err != nil || records.State().Phase != store.PhaseNew {
		return around, err
	}
	if _, marked, err := markedFor(k.Path); err != nil || marked {
		return around, err // its records were lost: it knows no better than before who lies in it
	}
	for _, in := range within {
		v, err := volume.Open(in.path, volume.Options{Create: true})
		if err != nil {
			k.f.log.Info("a folder that lies in this one is not there yet", "folder", k.Name, "inner", in.name, "err", err)
			continue
		}
		if err := v.Close(); err != nil {
			return nil, err
		}
	}
	return around, nil
}

// neighbours finds the folders that this one lies in, and those that lie in it.
func (k *keeper) neighbours() (around []outer, within []neighbour, err error) {
	dir, err := openRoot(k.Path)
	if err != nil {
		return nil, nil, &openError{finding.RootMissing, err}
	}
	real, rerr := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err := errors.Join(rerr, dir.Close()); err != nil {
		return nil, nil, &openError{finding.RootMissing, err}
	}
	self, mount, err := identify(real)
	if err != nil {
		return nil, nil, &openError{finding.RootMissing, err}
	}
	above, err := dirsAbove(real)
	if err != nil {
		return nil, nil, &openError{finding.RootMissing, err}
	}
	for _, n := range k.f.others(k) {
		id, other, err := identify(n.path)
		if err != nil {
			continue // it does not run
		}
		at, in := above[id]
		if !in && id.device == self.device && id != self && other != mount {
			at, in = k.liesIn(&n)
		}
		switch {
		case id == self && !n.off:
			if err := k.checkSame(&n); err != nil {
				return nil, nil, err
			}
		case in:
			around = append(around, outer{neighbour: n, at: at})
		case !n.off && strings.HasPrefix(evaluated(n.path), real+"/"):
			within = append(within, n)
		}
	}
	if len(around) == 0 {
		return nil, within, nil
	}
	own, err := rootIdentity(k.Path)
	for i := range around {
		around[i].self = own
	}
	return around, within, err
}

// dirsAbove lists the directories above a path, each with the rest of the path.
func dirsAbove(path string) (map[objectID]string, error) {
	out := make(map[objectID]string)
	for up := path; up != "/"; {
		up = filepath.Dir(up)
		id, _, err := identify(up)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(up, path)
		if err != nil {
			return nil, err
		}
		out[id] = rel
	}
	return out, nil
}

// liesIn asks the filesystem whether this root lies in the tree of another folder
// that was reached by another mount.
func (k *keeper) liesIn(n *neighbour) (string, bool) {
	own, err := rootIdentity(k.Path)
	if err != nil {
		return "", false
	}
	v, err := volume.Open(n.path, volume.Options{ReadOnly: true})
	if err != nil {
		return "", false
	}
	at, err := v.Resolve(own)
	_ = v.Close() // it was only read
	return at, err == nil && at != "."
}

// rootIdentity is the identity of the root at a path.
func rootIdentity(path string) (repl.Identity, error) {
	v, err := volume.Open(path, volume.Options{ReadOnly: true})
	if err != nil {
		return repl.Identity{}, err
	}
	root, err := v.Root()
	if err != nil {
		return repl.Identity{}, errors.Join(err, v.Close())
	}
	st, err := root.Stat()
	return st.Identity, errors.Join(err, root.Close(), v.Close())
}

// checkSame refuses the root of another folder. The one whose marker lies there has
// it; where none does, the first by name.
func (k *keeper) checkSame(n *neighbour) error {
	owner, marked, err := markedFor(k.Path)
	if err != nil {
		return err
	}
	if marked && owner == k.Membership || owner != n.membership && k.Name < n.name {
		return nil
	}
	return &openError{finding.FolderOverlaps, fmt.Errorf("%s is the directory that %s, the root of %s, leads to", k.Path, n.path, n.name)}
}

// markedFor tells whose marker lies in the tree at a path.
func markedFor(path string) (repl.GUID, bool, error) {
	v, err := volume.Open(path, volume.Options{ReadOnly: true})
	if err != nil {
		return repl.GUID{}, false, &openError{finding.RootMissing, err}
	}
	owner, marked, err := engine.MarkedFor(v)
	if err = errors.Join(err, v.Close()); err != nil {
		return repl.GUID{}, false, &openError{finding.FileUnreadable, err}
	}
	return owner, marked, nil
}

// awaitOuters refuses a root without private area for as long as a folder around it
// is comparing its tree: nobody knows yet what it replicates.
func (k *keeper) awaitOuters(around []outer) error {
	if _, err := os.Lstat(filepath.Join(k.Path, privateArea)); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for i := range around {
		o := &around[i]
		if o.off || !slices.Contains(k.store.Folders(), o.folder) {
			continue
		}
		records, err := k.store.Folder(o.folder)
		if err != nil {
			return err
		}
		if records.State().Phase == store.PhaseNormal {
			continue
		}
		if _, marked, err := markedFor(o.path); err == nil && marked {
			return &openError{finding.FolderOverlaps, fmt.Errorf("%s lies in %s, which is not Normal yet; this waits for that", k.Path, o.name)}
		}
	}
	return nil
}

// checkOuters refuses a root that a folder around it replicates.
func (k *keeper) checkOuters(around []outer) error {
	for i := range around {
		o := &around[i]
		if first, _, _ := strings.Cut(o.at, "/"); first == privateArea {
			return &openError{finding.FolderOverlaps, fmt.Errorf("%s lies in the private area of %s", k.Path, o.name)}
		}
		if !slices.Contains(k.store.Folders(), o.folder) {
			continue
		}
		records, err := k.store.Folder(o.folder)
		if err != nil {
			return err
		}
		rec, _, ok, err := recordAt(records, o.folder, o.at)
		switch {
		case err != nil:
			return err
		case !ok || rec.Presence != repl.OnDisk && rec.Presence != repl.Obscured:
		case rec.Identity.Handle != "" && o.self.Handle != "" && rec.Identity.Handle != o.self.Handle:
		default:
			return &openError{finding.FolderOverlaps, fmt.Errorf("%s replicates %s already, as %s", o.name, k.Path, o.at)}
		}
	}
	return nil
}
