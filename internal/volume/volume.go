// Package volume is the replicated tree on disk. All access is by handle and
// beneath the root: no operation follows a symbolic link, leaves the root or
// crosses into another mount, whatever a user does to the tree meanwhile. The
// way to the root may lead through symbolic links that no other user can have
// made (OpenRoot).
//
// A Volume is one replicated folder's root. Its private area `.dfsr/` lies in
// the root on the same filesystem, mode 0700, and is neither listed nor found
// through any Dir of the tree. Names that are looked up are single components;
// paths are relative, slash-separated, "." is the root.
//
// Nothing here overwrites or removes a user's object: Link, Mkdir, Symlink and
// Rename refuse a place that is taken, Exchange swaps, and Remove works in the
// private area only. What an operation has done is durable only after Sync of
// what it changed: the file's data by Temp.Sync, directory entries by Dir.Sync,
// everything by Volume.Sync.
package volume

import (
	"errors"
	"io"

	"opendfs/internal/repl"
)

// The errors that callers tell apart with errors.Is. Besides them the
// operating system's own errors (ENOSPC, EDQUOT, EROFS, EIO, ENAMETOOLONG, …)
// come through wrapped.
var (
	ErrNotExist  = errors.New("does not exist")
	ErrExist     = errors.New("place is taken")
	ErrNotEmpty  = errors.New("directory is not empty")
	ErrNotDir    = errors.New("not a directory")
	ErrEscapes   = errors.New("leaves the replicated folder")       // a link or .. in a path
	ErrMount     = errors.New("another filesystem is mounted here") // a mount point inside the root
	ErrStale     = errors.New("object is gone")                     // Resolve: the handle names nothing any more
	ErrOutside   = errors.New("object lies outside the folder")     // Resolve
	ErrUnknown   = errors.New("cannot be told without privilege")   // Resolve, Writable
	ErrUnmounted = errors.New("root is not the directory it was")   // the root was replaced, unmounted or removed
	ErrLinked    = errors.New("others may lead it elsewhere")       // Open, Root: see OpenRoot
	ErrChanged   = errors.New("object is not what it was")          // SetMeta: identity or print differ
	ErrInUse     = errors.New("file is open for writing")           // SetMeta
)

// Private names a directory of the private area.
type Private string

// The private area's directories.
const (
	Staging     Private = "staging"     // downloads not yet in place
	Installing  Private = "installing"  // what is on its way in or out of the tree
	Conflicts   Private = "conflicts"   // losers of conflicts and remotely deleted files
	PreExisting Private = "preexisting" // what only this member had at initial sync
	CarriedArea Private = "carried"     // content this tree cannot hold, kept for others
)

// Stat is what lstat says of an object, with its identity.
type Stat struct {
	Type     repl.Type
	Identity repl.Identity
	Print    repl.Print
	Links    uint32
	Mode     uint32 // permission bits with setuid, setgid, sticky
	Owner    uint32
	Group    uint32
}

// Entry is one name of a listing. Type is the listing's hint: Other may mean
// that the filesystem does not say.
type Entry struct {
	Name string
	Type repl.Type
}

// Volume is one replicated folder's tree. Its methods may be called from
// several goroutines.
type Volume interface {
	// Root opens the root directory; ErrUnmounted if the path no longer leads
	// to the directory the volume was opened on.
	Root() (Dir, error)
	// OpenDir opens a directory by its path beneath the root.
	OpenDir(path string) (Dir, error)
	// Private opens a directory of the private area.
	Private(p Private) (Dir, error)
	// Resolve says at which path beneath the root the object with that handle
	// lies now: ErrStale, ErrOutside or ErrUnknown otherwise. A path below
	// `.dfsr` counts as outside.
	Resolve(id repl.Identity) (path string, err error)
	// NewTemp makes a nameless file for content of about size bytes. meta is the
	// metadata that SetMeta will be given, or nil: what of them a file can be made
	// with need not be set then.
	NewTemp(size int64, meta []byte) (Temp, error)
	// Sync makes everything on the volume durable (syncfs): for bulk work only,
	// because it waits for everybody's dirty data.
	Sync() error
	// Free returns the bytes a write may still take and the volume's size.
	Free() (free, total uint64, err error)
	// NameMax is how many bytes a name may have.
	NameMax() int
	// ReadPrivate and WritePrivate read and durably replace a small file of the
	// private area, such as the marker. ReadPrivate returns ErrNotExist.
	ReadPrivate(name string) ([]byte, error)
	WritePrivate(name string, data []byte) error
	Close() error
}

// Dir is an open directory of the tree or of the private area. It keeps
// naming the same directory when that is renamed. Close is the caller's.
type Dir interface {
	// Stat describes the directory itself.
	Stat() (Stat, error)
	// Lookup describes the object with that name; ErrNotExist if there is none,
	// ErrMount if something is mounted on it.
	Lookup(name string) (Stat, error)
	// Again describes an object once more, as Lookup does. One of which all that
	// can be told at little cost is as it was has its identity; whoever waits for
	// a change that leaves even the ctime asks Lookup.
	Again(name string, was *Stat) (Stat, error)
	// Recognize is Lookup of a name at which an object is on record that had the ctime
	// seen when it was looked at last. It asks for no handle where the number of the
	// inode and the time of birth can be no other object's.
	Recognize(name string, id repl.Identity, seen repl.Time) (Stat, error)
	// List calls fn for every name but `.`, `..` and the root's `.dfsr`, in no
	// order, streaming. An error from the filesystem or fn ends it and is
	// returned: then the listing was not complete.
	List(fn func(Entry) error) error
	// OpenDir opens a subdirectory; ErrNotDir if the name is anything else.
	OpenDir(name string) (Dir, error)
	// OpenFile opens a regular file for reading.
	OpenFile(name string) (File, error)
	// ReadLink returns a symbolic link's target.
	ReadLink(name string) (string, error)
	// Meta returns the canonical metadata (docs/formats/metadata.md) of the
	// object with that name.
	Meta(name string) ([]byte, error)
	// MetaOf is Meta of an object that was described just before. They are its
	// metadata if Again finds it as it was; it costs less than Meta.
	MetaOf(name string, was *Stat) ([]byte, error)
	// SetMeta gives the object with that name metadata and mtime, in place, and
	// describes it afterwards. With expect it does so only if the object has
	// that identity and, a file, that size and mtime (else ErrChanged) and no
	// writer (else ErrInUse); a read lease held meanwhile keeps writers out
	// where the filesystem has leases. What this process has no right to set is
	// left and reported by lacks.
	SetMeta(name string, expect *Stat, meta []byte, mtime repl.Time) (after Stat, lacks []string, err error)
	// Amend is SetMeta of an object that had the metadata was when it was recorded.
	// Attributes that are alike in was and in meta may be left as they are, without
	// a look: what a user has done to them since stays. A file that has the mtime
	// already may be open for writing: it keeps that mtime until it is written to. Of
	// such a file after has the size and the mtime of before, as it may have the
	// ctime, mode and owners.
	Amend(name string, expect *Stat, was, meta []byte, mtime repl.Time) (after Stat, lacks []string, err error)
	// OwnMeta returns the canonical metadata of the directory itself, as the root
	// has them, which is no name.
	OwnMeta() ([]byte, error)
	// SetOwnMeta gives the directory itself metadata and mtime, as SetMeta does.
	// Dir.Sync makes them durable.
	SetOwnMeta(meta []byte, mtime repl.Time) (lacks []string, err error)
	// SetMtime sets the directory's own mtime.
	SetMtime(mtime repl.Time) error
	// Mkdir makes a directory of mode 0700; ErrExist if the place is taken.
	Mkdir(name string) error
	// Symlink makes a symbolic link; ErrExist if the place is taken.
	Symlink(target, name string) error
	// Link gives a Temp its name; ErrExist if the place is taken.
	Link(t Temp, name string) error
	// Rename moves an object; ErrExist if the new place is taken.
	Rename(name string, to Dir, newName string) error
	// Exchange swaps two objects of any types; ErrNotExist if one is missing.
	Exchange(name string, with Dir, otherName string) error
	// Remove unlinks a file or link, in the private area only.
	Remove(name string) error
	// Rmdir removes an empty directory; ErrNotEmpty.
	Rmdir(name string) error
	// Sync makes the directory's entries and its own metadata durable, and what
	// SetMeta on this Dir has set. A rename is durable when both its directories
	// are synced.
	Sync() error
	Close() error
}

// IsRoot reports whether a name of a directory is the root of a replicated folder:
// a directory that has a private area.
func IsRoot(d Dir, name string) (bool, error) {
	in, err := d.OpenDir(name)
	switch {
	case errors.Is(err, ErrNotExist), errors.Is(err, ErrNotDir), errors.Is(err, ErrMount):
		return false, nil
	case err != nil:
		return false, err
	}
	st, err := in.Lookup(repl.PrivateName)
	is := err == nil && st.Type == repl.Directory
	if errors.Is(err, ErrNotExist) {
		err = nil
	}
	return is, errors.Join(err, in.Close())
}

// HoldsRoot reports whether a name of a directory is the root of a replicated folder,
// or a directory that has one somewhere in it: it lists the whole tree of it. What
// has another filesystem mounted on it, or is no directory, is none.
func HoldsRoot(d Dir, name string) (bool, error) {
	if is, err := IsRoot(d, name); is || err != nil {
		return is, err
	}
	in, err := d.OpenDir(name)
	switch {
	case errors.Is(err, ErrNotExist), errors.Is(err, ErrNotDir), errors.Is(err, ErrMount):
		return false, nil
	case err != nil:
		return false, err
	}
	var below []string
	err = in.List(func(e Entry) error {
		if e.Type == repl.Directory || e.Type == repl.Other { // which may be a directory
			below = append(below, e.Name)
		}
		return nil
	})
	holds := false
	for i := 0; i < len(below) && err == nil && !holds; i++ {
		holds, err = HoldsRoot(in, below[i])
	}
	return holds, errors.Join(err, in.Close())
}

// File is a regular file open for reading.
type File interface {
	io.Reader
	io.ReaderAt
	Stat() (Stat, error)
	// Writable reports whether somebody else could still write to the file: a
	// writable descriptor or shared mapping is open (a refused read lease says
	// so). ErrUnknown where the filesystem cannot tell.
	Writable() (bool, error)
	// Meta returns the canonical metadata of the open file, as Dir.Meta does.
	Meta() ([]byte, error)
	// Sync makes what anybody has written to the file durable, data and
	// metadata; its name in a directory is durable by Dir.Sync (rule 14).
	Sync() error
	Close() error
}

// Temp is a nameless file under construction. Close without a Link throws it
// away.
type Temp interface {
	io.Writer
	io.WriterAt
	io.ReaderAt
	// Share makes bytes of src from the offset from on, at most n, those of the
	// new file at the offset at, and lets both share their room on disk. Only whole
	// blocks that lie alike in both can be shared: first and past bound what is,
	// as offsets of the new file. They are equal if nothing is: the filesystem
	// cannot, src ends sooner, or it is not of this volume. What was at
	// those places of the new file is gone. Shared bytes are those that src has at
	// this instant and stay so.
	Share(src File, from, at, n int64) (first, past int64, err error)
	// SetMeta sets metadata and mtime; call it after the last write.
	SetMeta(meta []byte, mtime repl.Time) (lacks []string, err error)
	Stat() (Stat, error)
	// Sync makes data and metadata durable.
	Sync() error
	Close() error
}
