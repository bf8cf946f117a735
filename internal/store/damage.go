package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"
	"golang.org/x/sys/unix"
)

// The conditions that callers tell apart.
var (
	// ErrCorrupt marks damage of the database: MoveAside, open anew, rebuild.
	ErrCorrupt = errors.New("the state database is damaged")
	// ErrNewer marks state that a newer product wrote (finding state-newer).
	ErrNewer = errors.New("the state was written by a newer dfs; run that version, or a newer one")
	// ErrInUse marks a database that another process has open.
	ErrInUse = errors.New("the state is in use by another process; stop that one first")
)

// corrupt returns an ErrCorrupt that says what is wrong with which row.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// MoveAside renames a damaged database, so that a new one can be made in its
// place, and returns the new name: dir, ".damaged-", and now as digits. The
// database must be closed. Nothing is deleted.
func MoveAside(dir string, now time.Time) (string, error) {
	base := dir + ".damaged-" + stamp(now)
	for i := 1; ; i++ {
		to := base
		if i > 1 {
			to += "-" + strconv.Itoa(i)
		}
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		if err := os.Rename(dir, to); err != nil {
			return "", fmt.Errorf("move damaged state %s aside: %w", dir, err)
		}
		return to, nil
	}
}

// lockDirectory takes the lock of a database directory and names who holds it.
func lockDirectory(dir string, fs vfs.FS) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(dir, fs)
	switch {
	case err == nil:
		return lock, nil
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) && holder(dir) > 0:
		return nil, fmt.Errorf("open state %s: %w (process %d)", dir, ErrInUse, holder(dir))
	case strings.Contains(err.Error(), "held by current process"):
		return nil, fmt.Errorf("open state %s: %w (process %d, this one)", dir, ErrInUse, os.Getpid())
	}
	return nil, fmt.Errorf("lock state %s: %w", dir, err)
}

// holder returns the process that has dir's lock, 0 if there is none. It must
// not be asked by a process that holds the lock: closing the file would free it.
func holder(dir string) int {
	f, err := os.Open(dir + "/LOCK")
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }() // only read
	l := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l); err != nil || l.Type == unix.F_UNLCK {
		return 0
	}
	return int(l.Pid)
}

// checkPebbleFormat refuses a database whose files are of a newer layout than
// this product writes; Pebble would report it like damage.
func checkPebbleFormat(dir string, fs vfs.FS) error {
	value, err := atomicfs.ReadMarker(fs, dir, "format-version")
	if err != nil {
		return openError(dir, err)
	}
	if value == "" {
		return nil
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return fmt.Errorf("open state %s: %w", dir, corrupt("format marker %q", value))
	}
	if n > uint64(pebbleFormat) {
		return fmt.Errorf("open state %s: %w (file format %d, known %d)", dir, ErrNewer, n, uint64(pebbleFormat))
	}
	return nil
}

// openError judges why a database does not open. What the kernel refused is
// the disk's own error, unless it is that a file is missing; everything else
// is something that this product cannot have written: damage.
func openError(dir string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != syscall.ENOENT && !pebble.IsCorruptionError(err) {
		return fmt.Errorf("open state %s: %w", dir, err)
	}
	if errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("open state %s: %w", dir, err)
	}
	return fmt.Errorf("open state %s: %w: %w", dir, ErrCorrupt, err)
}

// health is what is known against a database. It hears Pebble's logger and
// events, and makes errors of its panics.
type health struct {
	dir    string
	logger *slog.Logger
	fatal  func(error)
	told   sync.Once
	stalls atomic.Int64
	// stuck: a goroutine of Pebble's stands still in Fatalf, with locks held.
	stuck atomic.Bool
	bad   atomic.Pointer[error] // what ended this database, nil while it is well

	mu     sync.Mutex
	behind error // the last background error
}

// check returns what ended the database, if anything did.
func (h *health) check(verb string) error {
	if bad := h.bad.Load(); bad != nil {
		return fmt.Errorf("%s state %s: %w", verb, h.dir, *bad)
	}
	return nil
}

// wrap names the operation and marks damage.
func (h *health) wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	if pebble.IsCorruptionError(err) && !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%s state %s: %w: %w", verb, h.dir, ErrCorrupt, err)
	}
	return fmt.Errorf("%s state %s: %w", verb, h.dir, err)
}

// failed ends the database with err and returns it wrapped.
func (h *health) failed(verb string, err error) error {
	h.end(err)
	return h.wrap(verb, err)
}

func (h *health) end(err error) {
	if pebble.IsCorruptionError(err) && !errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	h.bad.CompareAndSwap(nil, &err)
}

// guard makes an error of a panic of Pebble's in the calling operation.
func (h *health) guard(verb string, err *error) {
	if r := recover(); r != nil {
		*err = h.panicked(verb, r)
	}
}

func (h *health) panicked(verb string, r any) error {
	err, ok := r.(error)
	if !ok {
		err = fmt.Errorf("%v", r)
	}
	if errors.Is(err, pebble.ErrClosed) {
		return h.wrap(verb, err)
	}
	var f fatalError
	if !errors.As(err, &f) {
		// Pebble panics over what it reads only if that cannot be.
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return h.failed(verb, err)
}

// fatalError is what Pebble said last.
type fatalError struct{ text string }

func (f fatalError) Error() string { return f.text }

// Infof implements Pebble's logger.
func (h *health) Infof(format string, args ...any) {
	h.logger.Debug("state database", "event", fmt.Sprintf(format, args...))
}

// Errorf implements Pebble's logger.
func (h *health) Errorf(format string, args ...any) {
	h.logger.Debug("state database", "error", fmt.Sprintf(format, args...))
}

// Fatalf implements Pebble's logger. It must not return. The owner is told; in
// an operation of ours it becomes that operation's error, too. A goroutine of
// Pebble's, where nobody could catch a panic, stops for good.
func (h *health) Fatalf(format string, args ...any) {
	f := fatalError{fmt.Sprintf(format, args...)}
	for _, a := range args {
		if err, ok := a.(error); ok && pebble.IsCorruptionError(err) {
			h.end(err)
		}
	}
	h.end(f)
	ours := calledByUs()
	if !ours {
		h.stuck.Store(true)
	}
	if h.fatal != nil {
		h.told.Do(func() { h.fatal(h.check("write")) })
	}
	if ours {
		panic(f)
	}
	select {}
}

// calledByUs reports whether a method that guards itself is on the stack.
func calledByUs() bool {
	pc := make([]uintptr, 256)
	frames := runtime.CallersFrames(pc[:runtime.Callers(3, pc)])
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, "/store.(*pebble") || strings.HasSuffix(f.Function, "/store.openPebble") {
			return true
		}
		if !more {
			return false
		}
	}
}

// listener hears what Pebble meets in the background. Damage ends the
// database: its compactions would never get past it.
func (h *health) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			h.mu.Lock()
			h.behind = h.wrap("compact", err)
			h.mu.Unlock()
			if pebble.IsCorruptionError(err) {
				h.end(err)
			}
		},
		DataCorruption:  func(i pebble.DataCorruptionInfo) { h.end(fmt.Errorf("%w: %s", ErrCorrupt, i)) },
		WriteStallBegin: func(pebble.WriteStallBeginInfo) { h.stalls.Add(1) },
		FlushEnd:        func(i pebble.FlushInfo) { h.done(i.Err) },
		CompactionEnd:   func(i pebble.CompactionInfo) { h.done(i.Err) },
	}
}

// done forgets the last background error once work succeeds again.
func (h *health) done(err error) {
	if err == nil {
		h.mu.Lock()
		h.behind = nil
		h.mu.Unlock()
	}
}

func (h *health) background() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.behind
}
