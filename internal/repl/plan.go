package repl

import "opendfs/internal/version"

// Place is a directory entry of the replicated tree. Dir is the UID of a
// directory that exists on disk, never of a merged one; the zero Place is
// nowhere.
type Place struct {
	Dir  UID
	Name string
}

// IsZero reports whether p is nowhere.
func (p Place) IsZero() bool { return p == Place{} }

// Keep says what becomes of an object that an install displaces.
type Keep uint8

// What becomes of what is displaced. Nothing is for content that the new
// version's author had seen, or that is still on disk elsewhere in the plan.
const (
	KeepNothing     Keep = iota
	KeepConflict         // the loser of a conflict: promised for the retention
	KeepDeleted          // removed by a remote delete: best effort
	KeepPreExisting      // only here at initial sync: no quota
)

// String returns the name that manifests and `dfs preserved` use.
func (k Keep) String() string {
	return [...]string{"nothing", "conflict", "deleted", "pre-existing"}[min(k, KeepPreExisting)]
}

// Verdict names the rule that a change follows; `dfs explain` prints it and the
// simulator counts it.
type Verdict uint8

// The verdicts.
const (
	VerdictKnown           Verdict = iota // our record is not smaller: nothing to do
	VerdictCreate                         // a new object, or one that comes back to life
	VerdictEdit                           // new content, and whatever else changed
	VerdictMeta                           // new metadata or mtime only
	VerdictMove                           // another place, same content
	VerdictDelete                         // a tombstone over a live record
	VerdictForget                         // a tombstone of what we never had, or over another tombstone
	VerdictAdopt                          // what lies at the place has this content already
	VerdictNameWon                        // the newcomer takes the name, the incumbent dies
	VerdictNameLost                       // the newcomer dies, the incumbent keeps the name
	VerdictMerged                         // a directory becomes a tombstone that names its heir
	VerdictRevived                        // a dead ancestor comes back for a live descendant
	VerdictCycleBroken                    // a move into its own descendant is undone
	VerdictDropProvisional                // a provisional record gives way to the partner's
	verdicts
)

// Verdicts is the number of verdicts: 0 to Verdicts-1 are valid.
const Verdicts = int(verdicts)

// String returns the verdict's name.
func (v Verdict) String() string {
	return [...]string{
		"known", "create", "edit", "meta", "move", "delete", "forget", "adopt", "name-won",
		"name-lost", "merged", "revived", "cycle-broken", "drop-provisional", "?",
	}[min(v, verdicts)]
}

// Change is what a plan does to one record and to the object behind it.
type Change struct {
	Verdict Verdict
	// Update is the record that shall be. If Mint is set it is a draft over Was
	// and becomes an update of ours when it is carried out, knowing Also too.
	Update Update
	Mint   bool
	Also   []Update
	// Drop removes the record altogether (a provisional one).
	Drop bool
	// Was is the record that the verdict was made on, zero if there was none.
	// Its GVSN is the base of the compare-and-swap (rule 16).
	Was Record
	// Object is the record whose object on disk the change works on: Was, or
	// the one that the new record takes over (a merged or provisional one).
	// Its identity and print are the disk's state that the verdict was made on.
	Object Record
	// From is where the object lies on disk, To where the result shall lie.
	// From zero: nothing lies on disk. To zero: nothing shall.
	From, To Place
	// Content says that the result's data must be brought here, Meta that its
	// metadata or mtime differ from the object's.
	Content bool
	Meta    bool
	// ViaPrivate says that the object must leave From before the plan's other
	// changes are carried out, through the private area: places are exchanged.
	ViaPrivate bool
	// Keep says what becomes of the displaced object, if its data go.
	Keep Keep
}

// Base is the version that must still be our record when the change is
// committed.
func (c *Change) Base() version.GVSN { return c.Was.GVSN }

// Plan is a verdict on a batch of updates from one partner: changes in an order
// in which they can be carried out one by one (moves that vacate a place before
// those that take it, parents before children, deletions of children before
// their directory), and what is still lacking.
type Plan struct {
	Changes []Change
	// Known lists the updates of the batch that change nothing here: they may
	// be joined at once.
	Known []version.GVSN
	// Need lists objects whose current record must be asked of the partner by
	// UID before the updates in Waiting can be decided (rules 4 and 9).
	Need    []UID
	Waiting []Update
}
