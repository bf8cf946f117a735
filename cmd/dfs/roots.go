package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"opendfs/internal/control"
	"opendfs/internal/engine"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/volume"
)

// rootsName is the file that says where each membership ran last.
const rootsName = "roots.json"

// roots remembers at which path each membership ran last, so that a path that was
// changed is told from a tree that is gone.
type roots struct {
	path string

	mu   sync.Mutex
	last map[string]string // guarded by mu; by membership
}

func openRoots(path string) (*roots, error) {
	r := &roots{path: path, last: make(map[string]string)}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r.last)
	}
	if err != nil {
		return nil, control.Hint(fmt.Errorf("read %s: %w", path, err), "remove the file; it is made anew")
	}
	return r, nil
}

// changed returns where a membership ran last, if that is another path.
func (r *roots) changed(m repl.GUID, path string) (was string, moved bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was = r.last[m.String()]
	return was, was != "" && was != path
}

// runs notes where a membership runs now.
func (r *roots) runs(m repl.GUID, path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last[m.String()] == path {
		return nil
	}
	r.last[m.String()] = path
	b, err := json.MarshalIndent(r.last, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(r.path, append(b, '\n'))
}

// moved decides what a changed path means for the records: the tree that they
// are of was moved there, marker and all, and they go on; or another tree or none
// is there, and it is compared with the partners anew, without authority.
func (k *keeper) moved(v *volume.Disk, records *store.Folder) error {
	was, moved := k.f.roots.changed(k.Membership, k.Path)
	st := records.State()
	if !moved || st.Phase == store.PhaseNew {
		return nil
	}
	own, err := engine.OwnTree(v, &st)
	if err != nil || own {
		return err
	}
	k.f.log.Warn("the path has changed, and the tree that was replicated is not there; what is there is compared with the partners", "folder", k.Name, "before", was, "path", k.Path)
	return engine.ErrRebuild
}
