package capture

import (
	"io"
	"slices"
	"sync/atomic"
	"time"

	"opendfs/internal/filter"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/volume"
)

// Records is the member's knowledge of one folder. What it returns is the
// caller's, but Meta, which nobody changes.
type Records interface {
	// Get returns the record of an object, dead or alive.
	Get(uid repl.UID) (repl.Record, bool, error)
	// At returns the live record that claims a place. dir is canonical; records
	// whose parent was merged into dir count. With Deps.Fold it may spell the name
	// differently.
	At(dir repl.UID, name string) (repl.Record, bool, error)
	// Named calls fn for each of names, which are in order, with what At returns,
	// nil for what is not there, and what fn does not change but may keep. fn may have
	// the records written.
	Named(dir repl.UID, names []string, fn func(i int, rec *repl.Record) error) error
	// Children calls fn for the live records of a canonical directory whose
	// names follow after, in the order of the names' bytes, until fn returns
	// false. The record is fn's only during the call.
	Children(dir repl.UID, after string, fn func(*repl.Record) bool) error
	// ByHandle returns the records of the objects with that handle.
	ByHandle(handle string) ([]repl.Record, error)
	// Path returns the path beneath the root by which the records lead to a
	// directory, "." for the root.
	Path(dir repl.UID) (string, error)
	// Canonical returns the directory that a merged one became, else dir.
	Canonical(dir repl.UID) (repl.UID, error)
}

// Deps is what a look works with.
type Deps struct {
	Volume  volume.Volume
	Records Records
	Filter  *filter.Set
	// Fold: the folder compares names folded (filter.Fold), and so does At of the
	// records.
	Fold bool
	Root repl.UID // the folder's root directory
	Now  func() repl.Time
	// Rest is how long a file that is open for writing must have been left alone
	// before it is read; 0: it is read at once.
	Rest time.Duration
	// Racy is how young a ctime may be for a further change to leave it as it
	// is: two clock ticks on kernels before 6.13, 0 from there on.
	Racy time.Duration
	// Sign takes a content of size bytes while it is read, of which like is a
	// version before it, if it is not zero: end is called once, with ok if it was
	// read whole and its hash is content. w may be nil: not this one. Nil: nobody
	// wants to.
	Sign func(size int64, like repl.Hash) (w io.Writer, end func(content repl.Hash, ok bool))
	// Apart has a large file read, hashed and signed side by side.
	Apart bool
	// Undoes says that drafts of what users did are not stored but undone: a
	// read-only member's.
	Undoes bool
	// Doubt says whose fingerprints are not believed although they stand.
	Doubt Doubt
	// Nested tells from one look to the next that the root of another replicated
	// folder was met in the tree; until then nothing is sought in one. Nil: always.
	Nested *atomic.Bool
}

// Doubt is what a power cut leaves of records whose data were not synced when
// they were stored: a file may be torn behind an unchanged fingerprint. The zero
// value doubts nothing.
type Doubt struct {
	Own   []version.Originator // of the records that this member made itself
	Since repl.Time            // with a ctime from then on; 0: none
}

// Of reports whether the fingerprint of a record is not to be believed.
func (d Doubt) Of(rec *repl.Record) bool {
	return d.Since != 0 && rec.Type == repl.File && slices.Contains(d.Own, rec.GVSN.Originator) && (rec.Print.Ctime >= d.Since || rec.Print.Ctime < 0)
}

// Name is a name to look at.
type Name struct {
	Name string
	// Wrote: somebody may have written to it, so that another ctime means another
	// content. For a directory: look at everything in it, too.
	Wrote bool
}

// Work is a look at one directory.
type Work struct {
	Dir   repl.UID
	Names []Name // with All: the names among all that somebody may have written to
	All   bool   // look at every name on disk and on record
	Self  bool   // also compare the directory's own mtime; for the root, which is no name
	// Thorough: look at everything in directories that moved, too. A walk that is
	// under way may have missed them at either place.
	Thorough bool
}

// Kind is what a draft does.
type Kind uint8

// The kinds. An adopt changes what this member knows of its disk and is no
// update.
const (
	KindCreate Kind = iota
	KindEdit        // new content, and whatever else changed
	KindMeta        // new metadata or mtime, same content
	KindMove        // another place; Data says whether the content changed too
	KindDelete
	KindAdopt
)

// String returns the kind's name.
func (k Kind) String() string {
	return [...]string{"create", "edit", "meta", "move", "delete", "adopt"}[min(k, KindAdopt)]
}

// Local is what a record says of this member's disk.
type Local struct {
	Presence repl.Presence
	Identity repl.Identity
	Print    repl.Print
	Shown    []byte // what the disk has instead of the metadata, nil if nothing
}

// Draft is a change of one record.
type Draft struct {
	Kind Kind
	// Group is not 0 for drafts that belong into one batch; they follow each
	// other. Numbers are unique within one call of Look or Gone.
	Group uint32
	// Prior is the record that the draft was made on, nil for a new object.
	Prior *repl.Record
	// Update is a draft for repl.Mint: parent, name, type, presence, size,
	// mtime, content, target and metadata are set. A tombstone keeps parent,
	// name and type only. For an adopt it is Prior's update.
	Update repl.Update
	Local
	// Data says that the content differs from Prior's.
	Data bool
	// MtimeOnly says that nothing but the mtime differs. For a directory this is
	// what any change inside brings about.
	MtimeOnly bool
	// Rival is a live record that claims the same place and is not on this disk.
	Rival *repl.Record
}

// Reason says why a name must be looked at again.
type Reason string

// The reasons.
const (
	OpenForWriting Reason = "open-for-writing"
	Changing       Reason = "changed-while-reading"
	TooYoung       Reason = "too-young"
	// Unsettled: where an object came from or went to is not known yet, or was
	// drafted in this very look.
	Unsettled Reason = "move-target-not-settled"
)

// How long to wait before a name is looked at again.
const (
	changingAfter  = 500 * time.Millisecond
	unsettledAfter = 50 * time.Millisecond
)

// Again is a name of the directory that must be looked at once more.
type Again struct {
	Name   string
	Wrote  bool
	Reason Reason
	After  time.Duration
}

// Dirty is a place in another directory, or in this one, that must be looked at
// because of what was found.
type Dirty struct {
	Dir   repl.UID
	Name  string
	Wrote bool
}

// Raised is a finding. Object is a path beneath the root. It holds until a
// later look at that name does not raise it.
type Raised struct {
	Code   finding.Code
	Object string
	Detail string
}

// Skipped counts the names on disk that do not replicate.
type Skipped struct {
	Others   int // sockets, pipes, devices
	Mounts   int
	Nested   int // roots of other replicated folders
	Filtered int
	Collided int // another spelling of the name is on record
}

// The bounds on what one result may hold; more is counted or left to a look at
// the whole directory.
const (
	maxFindings = 256
	maxAgain    = 16384
	maxDirty    = 16384
)

// Result is what a call leaves for its caller to do besides storing drafts.
type Result struct {
	// Complete says that every name of the directory was listed.
	Complete bool
	// Missing: the directory is not to be found; none of the names was judged.
	// Look at its name in its parent, and if it lives on, do this work again.
	Missing bool
	// Descend names the subdirectories to be looked at completely: those that
	// are new here, and with All or Wrote the others too.
	Descend []string
	// Gone lists records whose objects are not at their places, for Gone. From
	// Gone itself: those that were seen elsewhere, to be asked about again.
	Gone []repl.UID
	// Unsure lists, from Gone, those that an error hid: to be asked about again in
	// a while.
	Unsure []repl.UID
	// Doubted lists what could not be looked at while fingerprints are not to be
	// believed: they are not to be believed later either.
	Doubted []repl.UID
	// Wanted lists directories that are gone from the disk but still hold live
	// records that this disk does not show: they must be made again (rule 11).
	Wanted []repl.UID
	Again  []Again
	// AgainAll, if not 0: too many names for Again; look at the whole directory
	// after that.
	AgainAll time.Duration
	Dirty    []Dirty
	Findings []Raised
	// FindingsMore counts the findings beyond what Findings holds.
	FindingsMore int
	Skipped      Skipped
}
