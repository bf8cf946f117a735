package volume

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// Further errors that callers tell apart.
var (
	// ErrNotFile: OpenFile found something that is not a regular file.
	ErrNotFile = errors.New("not a regular file")
	// ErrIntoItself: Rename would put a directory below itself.
	ErrIntoItself = errors.New("a directory cannot move below itself")
	// ErrNotPrivate: Remove was asked to unlink outside the private area.
	ErrNotPrivate = errors.New("only objects of the private area are removed")
	// ErrForgotten comes with ErrUnknown from Resolve: the object exists on this
	// filesystem, but the kernel has dropped its name. It happens to files (not
	// directories) whose name nobody has looked up since they left the cache;
	// once a complete walk of the tree has not met the object, it lies outside.
	ErrForgotten = errors.New("the kernel has forgotten where it lies")
	// ErrMetaTooLong: the object's metadata exceed what replicates.
	ErrMetaTooLong = errors.New("more metadata than replicates")
)

// OpError is an error of a Volume with the operation and the object. Kind is
// one of this package's errors or nil, Err the operating system's or nil;
// errors.Is finds both.
type OpError struct {
	Op   string
	Name string
	Kind error
	Err  error
}

// Error prints operation, object and cause.
func (e *OpError) Error() string {
	s := e.Op
	if e.Name != "" {
		s += " " + strconv.Quote(e.Name)
	}
	if e.Kind != nil {
		s += ": " + e.Kind.Error()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns kind and cause.
func (e *OpError) Unwrap() []error {
	switch {
	case e.Kind == nil:
		return []error{e.Err}
	case e.Err == nil:
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// fail wraps what the kernel said about op on name; nil stays nil.
func fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var done *OpError
	if errors.As(err, &done) {
		return err
	}
	return &OpError{Op: op, Name: name, Kind: kindOf(err), Err: err}
}

// refuse is an error that the kernel has not been asked about.
func refuse(op, name string, kind error) error {
	return &OpError{Op: op, Name: name, Kind: kind}
}

// kindOf names the declared error behind an errno, nil if there is none.
func kindOf(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	switch errno {
	case unix.ENOENT:
		return ErrNotExist
	case unix.EEXIST:
		return ErrExist
	case unix.ENOTEMPTY:
		return ErrNotEmpty
	case unix.ENOTDIR:
		return ErrNotDir
	case unix.ELOOP:
		return ErrEscapes
	case unix.EXDEV:
		return ErrMount
	case unix.ESTALE:
		return ErrStale
	case unix.EAGAIN, unix.ETXTBSY: // EAGAIN of an open: somebody's lease, whose holder is told now
		return ErrInUse
	}
	return nil
}
