// Package preserve is the conflict store of a replicated folder: what installs
// displaced and nobody may lose. It lies in the folder's private area, on the
// same filesystem, so that an object is kept by one rename, with its content,
// metadata and, a directory, all that it holds.
//
// `conflicts/` takes losers of conflicts and what remote deletes removed,
// `preexisting/` what only this member had at initial sync. Beside each object
// lies its manifest NAME.json (docs/formats/private-area.md), durable before
// the object moves, so that a crash leaves at worst a manifest without an
// object, which List passes over.
package preserve

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/volume"
)

// Why says for what reason an object is kept; the texts stand in manifests.
type Why string

// The reasons.
const (
	Conflict    Why = "conflict"
	Deleted     Why = "deleted"
	PreExisting Why = "pre-existing"
	LeftOver    Why = "left-over" // found in installing/ after a crash
)

// Because returns the reason that a plan gives.
func Because(k repl.Keep) Why {
	switch k {
	case repl.KeepDeleted:
		return Deleted
	case repl.KeepPreExisting:
		return PreExisting
	}
	return Conflict
}

// Entry says what is kept and why.
type Entry struct {
	Why    Why
	At     repl.Time // when it was displaced
	Path   string    // where it lay, beneath the root
	Record repl.Update
	Winner version.GVSN // the version that displaced it; zero if none
}

// manifest is an Entry as it is written.
type manifest struct {
	Version int       `json:"version"`
	Why     Why       `json:"why"`
	At      time.Time `json:"at"`
	Path    string    `json:"path"`
	Type    string    `json:"type"`
	UID     string    `json:"uid,omitempty"`
	GVSN    string    `json:"gvsn,omitempty"`
	Winner  string    `json:"winner,omitempty"`
	Size    int64     `json:"size"`
	Mtime   int64     `json:"mtime"`
	Content string    `json:"content,omitempty"`
	Meta    []byte    `json:"meta,omitempty"`
}

// Store is the conflict store of one folder. It holds no state of its own.
type Store struct{ v volume.Volume }

// Open returns the conflict store of a volume.
func Open(v volume.Volume) *Store { return &Store{v} }

const manifestSuffix = ".json"

// Keep moves an object into the store and returns the name that it has there.
// Object and manifest are durable when it returns; the removal from its old
// directory is the caller's to sync.
func (s *Store) Keep(from volume.Dir, name string, e Entry) (string, error) {
	area, err := s.v.Private(e.Why.area())
	if err != nil {
		return "", fmt.Errorf("keep %q: %w", e.Path, err)
	}
	kept, err := s.keep(area, from, name, &e)
	if err = errors.Join(err, area.Close()); err != nil {
		return "", fmt.Errorf("keep %q as %s: %w", e.Path, e.Why, err)
	}
	return kept, nil
}

func (w Why) area() volume.Private {
	if w == PreExisting {
		return volume.PreExisting
	}
	return volume.Conflicts
}

// maxTries bounds the search for a free name among objects kept in one moment.
const maxTries = 10000

func (s *Store) keep(area, from volume.Dir, name string, e *Entry) (string, error) {
	base := time.Unix(0, int64(e.At)).UTC().Format("20060102T150405.000000000Z") + "-" + shortName(e.Path)
	for n := range maxTries {
		kept := base
		if n > 0 {
			kept = fmt.Sprintf("%s.%d", base, n)
		}
		err := s.writeManifest(area, kept+manifestSuffix, e)
		if errors.Is(err, volume.ErrExist) {
			continue
		}
		if err == nil {
			err = from.Rename(name, area, kept)
		}
		if errors.Is(err, volume.ErrExist) {
			continue
		}
		return kept, errors.Join(err, area.Sync())
	}
	return "", fmt.Errorf("no free name like %q", base)
}

// maxShort keeps a kept object's name, with time, counter and suffix, below 255
// bytes.
const maxShort = 180

// shortName is the last component of a path, made fit for a name.
func shortName(path string) string {
	base := path[strings.LastIndexByte(path, '/')+1:]
	if len(base) > maxShort {
		base = base[:maxShort]
	}
	return base
}

func (s *Store) writeManifest(area volume.Dir, name string, e *Entry) error {
	m := manifest{
		Version: 1, Why: e.Why, At: time.Unix(0, int64(e.At)).UTC(), Path: e.Path, Type: e.Record.Type.String(),
		Size: e.Record.Size, Mtime: int64(e.Record.Mtime), Meta: e.Record.Meta,
	}
	if !e.Record.UID.IsZero() {
		m.UID, m.GVSN, m.Content = e.Record.UID.String(), e.Record.GVSN.String(), e.Record.Content.String()
	}
	if !e.Winner.IsZero() {
		m.Winner = e.Winner.String()
	}
	data, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	t, err := s.v.NewTemp(int64(len(data)))
	if err != nil {
		return err
	}
	_, err = t.Write(append(data, '\n'))
	if err == nil {
		err = t.Sync()
	}
	if err == nil {
		err = area.Link(t, name)
	}
	return errors.Join(err, t.Close())
}
