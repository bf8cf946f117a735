package directory

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The files of the backend file in its directory.
const (
	yamlName       = "domain.yaml"     // the master's, to read and to edit
	copyName       = "domain.copy"     // the newest signed copy
	oldCopyName    = "domain.copy.old" // the one before, for a damaged disk
	serversName    = "domain.servers"  // whom to ask when both copies are damaged
	damagedSuffix  = ".damaged"
	supersededName = "domain.yaml.superseded" // a master's, when another became master
	movedName      = "domain.yaml.moved"      // a master's, when it moved the domain elsewhere
	refusedName    = "domain.yaml.refused"    // a hand-made change that was not used
	tempSuffix     = ".new"
)

// disk is a directory in which files are replaced whole or not at all.
type disk struct {
	dir string
	// step, if set, is called before each step of a change; its error stops
	// there, as a crash would. Tests set it.
	step func(step string) error
}

func (k *disk) path(name string) string { return filepath.Join(k.dir, name) }

func (k *disk) before(step string) error {
	if k.step == nil {
		return nil
	}
	return k.step(step)
}

// read gives a file of at most MaxSize, and what it was read from for changed.
// The error is fs.ErrNotExist if there is none.
func (k *disk) read(name string) (data []byte, info fs.FileInfo, err error) {
	f, err := os.Open(k.path(name))
	if err != nil {
		return nil, nil, fmt.Errorf("read the domain: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err = f.Stat(); err != nil {
		return nil, nil, fmt.Errorf("read the domain: %w", err)
	}
	if data, err = io.ReadAll(io.LimitReader(f, MaxSize+1)); err != nil {
		return nil, nil, fmt.Errorf("read the domain: %w", err)
	}
	return data, info, nil
}

// write replaces a file: when it returns the new content is durable, and after
// a crash in between the file is the old or the new one. Mode 0600.
func (k *disk) write(name string, data []byte) error {
	temp := k.path(name + tempSuffix)
	if err := k.writeTemp(name, temp, data); err != nil {
		return fmt.Errorf("write the domain: %w", err)
	}
	return k.rename(name+tempSuffix, name)
}

func (k *disk) writeTemp(name, temp string, data []byte) (err error) {
	if err := k.before("create " + name); err != nil {
		return err
	}
	// What a crash has left there is nobody's.
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := k.before("write " + name); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := k.before("sync " + name); err != nil {
		return err
	}
	return f.Sync()
}

// rename moves a file over another and makes that durable.
func (k *disk) rename(from, to string) error {
	if err := k.before("rename " + to); err != nil {
		return err
	}
	if err := os.Rename(k.path(from), k.path(to)); err != nil {
		return fmt.Errorf("write the domain: %w", err)
	}
	if err := k.before("sync directory of " + to); err != nil {
		return err
	}
	return k.syncDir()
}

func (k *disk) syncDir() (err error) {
	d, err := os.Open(k.dir)
	if err != nil {
		return fmt.Errorf("write the domain: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write the domain: sync directory: %w", err)
	}
	return nil
}

// keepOld gives a file a second name, in the place of what had it; nothing if
// there is no such file.
func (k *disk) keepOld(name, old string) error {
	temp := k.path(old + tempSuffix)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the domain before: %w", err)
	}
	if err := os.Link(k.path(name), temp); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("keep the domain before: %w", err)
	}
	if err := os.Rename(temp, k.path(old)); err != nil {
		return fmt.Errorf("keep the domain before: %w", err)
	}
	return nil
}

func (k *disk) exists(name string) (fs.FileInfo, bool) {
	info, err := os.Stat(k.path(name))
	return info, err == nil
}

// changed says that a file is not the one that was read: replaced or written.
func changed(was, is fs.FileInfo) bool {
	if was == nil || is == nil {
		return (was == nil) != (is == nil)
	}
	return !os.SameFile(was, is) || was.Size() != is.Size() || !was.ModTime().Equal(is.ModTime())
}
