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
	VerdictNameWon                        // takes a name from another object, which dies
	VerdictNameLost                       // dies because another object keeps or takes its name
	VerdictMerged                         // a directory becomes a tombstone that names its heir
	VerdictRevived                        // a dead ancestor comes back for a live descendant
	VerdictCycleBroken                    // a move into its own descendant is undone
	VerdictDropProvisional                // a provisional record gives way to the partner's
	VerdictUndone                         // a user's change on a read-only member is taken back
	VerdictMorphed                        // a directory is renamed because another one keeps or takes its name
	verdicts
)

// Verdicts is the number of verdicts: 0 to Verdicts-1 are valid.
const Verdicts = int(verdicts)

// String returns the verdict's name.
func (v Verdict) String() string {
	return [...]string{
		"known", "create", "edit", "meta", "move", "delete", "forget", "adopt", "name-won",
		"name-lost", "merged", "revived", "cycle-broken", "drop-provisional", "undone", "morphed", "?",
	}[min(v, verdicts)]
}

// Change is what a plan does to one record and to the object behind it.
type Change struct {
	Verdict Verdict
	// Update is the record that shall be. If Mint is set it is a draft and
	// becomes an update of ours, by Minted, when it is carried out. If its GVSN
	// is Was's the record stays: only the object moves, because its directory
	// was merged. A provisional record that is not dropped stays provisional.
	Update Update
	Mint   bool
	// Also lists the versions of this UID that the batch brought and that Update
	// replaces; the first is what a draft is over if there is no Was.
	Also []Update
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
	// From zero: nothing lies on disk. To zero: nothing shall. Both are zero for
	// the root and for what concerns the record alone. Look From.Dir up through
	// merged directories: an earlier change may have merged it.
	From, To Place
	// Content says that the result's data must be brought here, Meta that its
	// metadata or mtime differ from the object's.
	Content bool
	Meta    bool
	// ViaPrivate says that the object must leave From before the plan's other
	// changes are carried out, through the private area: places are exchanged in
	// a ring. When its own turn comes it goes from there to To, or dies.
	ViaPrivate bool
	// Keep says what becomes of the displaced object, if its data go. A
	// directory that goes with Keep set goes with all that is in it.
	Keep Keep
	// Group joins the changes that exchange places or win a name from one
	// another: bring all their content here first, and make the verdict again
	// for all if one cannot be carried out. They follow one another in the plan.
	// 0: the change stands alone.
	Group int
}

// Minted returns the update that a draft becomes (Mint set), as version g.
func (c *Change) Minted(g version.GVSN, now Time) Update {
	seen := make([]*Update, 0, len(c.Also)+1)
	if !c.Was.GVSN.IsZero() {
		seen = append(seen, &c.Was.Update)
	}
	for i := range c.Also {
		seen = append(seen, &c.Also[i])
	}
	return Mint(g, now, seen[0], c.Update, seen[1:]...)
}

// Settles lists the received versions that are known here once the change is
// committed: its own, unless it is a draft, and those that it replaces.
func (c *Change) Settles() []version.GVSN {
	var out []version.GVSN
	if !c.Mint && !c.Drop && c.Update.GVSN != c.Was.GVSN {
		out = append(out, c.Update.GVSN)
	}
	for i := range c.Also {
		out = append(out, c.Also[i].GVSN)
	}
	return out
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
	// Parked says of some of Waiting that no answer to Need frees them: this
	// member may not mint, or what the partner sent does not fit together.
	Parked []Parked
	// Bad lists updates that cannot be true: keep them out of the vector and
	// raise a finding.
	Bad []BadUpdate
}

// Parked is an update that waits for something else than an answer.
type Parked struct {
	GVSN version.GVSN
	Why  string
}

// BadUpdate is an update that cannot be true, and why.
type BadUpdate struct {
	GVSN version.GVSN
	Err  error
}

// Error names the update and the reason.
func (b BadUpdate) Error() string { return "update " + b.GVSN.String() + ": " + b.Err.Error() }

// Unwrap returns the reason.
func (b BadUpdate) Unwrap() error { return b.Err }
