package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrClosed is what Next and Drain return once the journal is closed.
var ErrClosed = errors.New("journal is closed")

// Dirty is one place, or one object, that may have changed. The package
// comment says how to read its fields. Slices are shared and never written to.
type Dirty struct {
	Dir   []byte // the parent's handle; nil under inotify, and where only Child is known
	Path  string // the parent relative to the root; "" if not known
	Name  string // in that parent; "." the parent itself; "" if not known
	Child []byte // the object's handle; nil if not known
	Wrote bool   // a writable descriptor was closed: content may have changed
	Tree  bool   // a directory of which everything below is in doubt as well
}

// Gap says that names may have been missed: the whole tree is in doubt.
type Gap struct {
	Reason  string // for the log, lower case, without a full stop
	Planned bool   // of Open, the walk's period or Drain: nothing went wrong
}

// Batch is what became dirty since the last one: either names, each place once,
// or a Gap. Token counts the batches of a journal from 1.
type Batch struct {
	Dirty []Dirty
	Gap   *Gap
	Token uint64
}

// Kind is how a journal learns of changes. The zero Kind is none.
type Kind uint8

// The kinds, the better the greater.
const (
	Walk Kind = 1 + iota
	Inotify
	Fanotify
)

// String returns the kind's name as `dfs status` shows it.
func (k Kind) String() string {
	switch k {
	case Walk:
		return "walk"
	case Inotify:
		return "inotify"
	case Fanotify:
		return "fanotify"
	}
	return "none"
}

// Journal is the change journal of one replicated folder. Its methods may be
// called from several goroutines, Next from one at a time.
type Journal interface {
	// Kind says how changes are learnt. An inotify journal that runs out of
	// watches turns into a walk.
	Kind() Kind
	// Reason says why no better kind is used; empty for fanotify.
	Reason() string
	// Next blocks until something is dirty, or ctx is done (its error), or the
	// journal is closed (ErrClosed). Any other error means that the journal has
	// gone blind: close it and open another. The Batch is the caller's.
	Next(ctx context.Context) (Batch, error)
	// Drain returns once every event that the kernel had when Drain was called
	// has been handed out by Next or is ready for it: all of them are in batches
	// up to the returned token. A walk answers by a Gap, at once.
	Drain(ctx context.Context) (token uint64, err error)
	// Close ends the journal, waits for its goroutine and wakes Next and Drain.
	Close() error
}

// Options are the settings of Open; the zero value is good.
type Options struct {
	// Hub is shared by the folders of one process; nil: one of its own.
	Hub *Hub
	// Only asks for this kind or an error; zero: the best that works.
	Only Kind
	// WalkEvery is the period of a walk; zero: 5 minutes.
	WalkEvery time.Duration
	// MaxNames bounds the names that wait for Next; zero: 65,536.
	MaxNames int
	// Known reports whether a directory that is gone, given by its handle, is on
	// record in this folder. It is called by the hub's reader: it must be quick
	// and must not call the journal. Nil: always.
	Known func(dir []byte) bool
	// Others leaves out what this process does itself, where the kernel tells
	// (fanotify): a member knows what it installs. The kernel merges only events
	// of one process, so nobody else's change goes with them.
	Others bool
}

const (
	defaultWalkEvery = 5 * time.Minute
	defaultMaxNames  = 1 << 16
	selfTestTime     = 2 * time.Second
	privateName      = ".dfsr" // the private area in the root; never replicated
)

// Open opens the journal of the tree at root, whose private area .dfsr must
// exist unless the tree can only be walked. ctx bounds Open alone: watching a
// large tree by inotify takes a while.
func Open(ctx context.Context, root string, o Options) (Journal, error) {
	if o.WalkEvery <= 0 {
		o.WalkEvery = defaultWalkEvery
	}
	if o.MaxNames <= 0 {
		o.MaxNames = defaultMaxNames
	}
	if o.Hub == nil {
		o.Hub = NewHub()
	}
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	j, why, err := openBest(ctx, t, o)
	if err != nil {
		t.close()
		return nil, err
	}
	if j != nil {
		return j, nil
	}
	t.close()
	if o.Only != 0 && o.Only != Walk {
		return nil, fmt.Errorf("journal: open %s by %v: %s", root, o.Only, why)
	}
	return newWalk(o, why), nil
}

// openBest returns the best journal with events, which then owns t, or the
// reason why there is none.
func openBest(ctx context.Context, t *tree, o Options) (j Journal, why string, err error) {
	if o.Only == Walk {
		return nil, "the folder's options ask for it", nil
	}
	if name, err := remote(t); err != nil {
		return nil, "", err
	} else if name != "" {
		return nil, name + " gives no events for changes made by other hosts", nil
	}
	if err := t.openPrivate(); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil, "", fmt.Errorf("journal: %w: the folder has no private area; create or adopt its membership first", err)
		}
		return nil, err.Error(), nil
	}
	var reasons []string
	for _, kind := range []Kind{Fanotify, Inotify} {
		if o.Only != 0 && o.Only != kind {
			continue
		}
		j, err := openKind(ctx, kind, t, o, strings.Join(reasons, "; "))
		if err == nil {
			return j, "", nil
		}
		if ctx.Err() != nil {
			return nil, "", fmt.Errorf("journal: open %s: %w", t.path, context.Cause(ctx))
		}
		reasons = append(reasons, fmt.Sprintf("%v: %v", kind, err))
	}
	return nil, strings.Join(reasons, "; "), nil
}

// openKind opens one kind and lets it prove itself.
func openKind(ctx context.Context, kind Kind, t *tree, o Options, why string) (Journal, error) {
	var j interface {
		Journal
		// release is Close that leaves the tree open.
		release() error
	}
	var err error
	if kind == Fanotify {
		j, err = o.Hub.subscribe(t, o)
	} else {
		j, err = newInotify(ctx, t, o, why)
	}
	if err != nil {
		return nil, err
	}
	test, cancel := context.WithTimeout(ctx, selfTestTime)
	defer cancel()
	if _, err := j.Drain(test); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("the event of the self-test did not arrive in %v", selfTestTime)
		}
		return nil, errors.Join(err, j.release())
	}
	return j, nil
}

// remote names the network or cluster filesystem that the tree lies on, or
// returns "".
func remote(t *tree) (string, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(t.root, &s); err != nil {
		return "", fmt.Errorf("journal: statfs %s: %w", t.path, err)
	}
	return remoteFilesystems[uint32(s.Type)], nil
}

// remoteFilesystems are the statfs magics of filesystems that other hosts
// change behind our kernel's back (statfs(2), linux/magic.h).
var remoteFilesystems = map[uint32]string{
	unix.NFS_SUPER_MAGIC:   "nfs",
	unix.SMB_SUPER_MAGIC:   "smb",
	unix.CIFS_SUPER_MAGIC:  "cifs",
	unix.SMB2_SUPER_MAGIC:  "smb2",
	unix.FUSE_SUPER_MAGIC:  "fuse",
	unix.CEPH_SUPER_MAGIC:  "ceph",
	unix.V9FS_MAGIC:        "9p",
	unix.AFS_SUPER_MAGIC:   "afs",
	unix.AFS_FS_MAGIC:      "afs",
	unix.CODA_SUPER_MAGIC:  "coda",
	unix.NCP_SUPER_MAGIC:   "ncpfs",
	unix.OCFS2_SUPER_MAGIC: "ocfs2",
	0x01161970:             "gfs2",
	0x0bd00bd0:             "lustre",
	0x47504653:             "gpfs",
	0x19830326:             "beegfs",
	0x20030528:             "orangefs",
	0x786f4256:             "vboxsf",
	0xbacbacbc:             "vmhgfs",
}
