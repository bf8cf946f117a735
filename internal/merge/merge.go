// Package merge holds the law of conflicts: what a batch of updates of one
// partner does to the records of this member and to the objects behind them.
//
// Decide is a function of what both sides know. It lets the greater version of
// each UID win, all updates of the batch together, on an overlay over the
// records; then it mends what that broke, until nothing is broken:
//
//   - the tree: a live object whose directory is dead revives it, or is still
//     to be asked about; a ring of directories is opened;
//   - the places: of two live objects at one place the smaller dies, of two
//     directories it is merged into the greater, or renamed (Options.Morph).
//
// Whatever is mended by a new update of ours (a mint) is mended only when the
// partner's own current record of each object concerned is in the batch, or
// the partner has never known the object: otherwise the partner may have
// settled the matter already, and its record is asked for first (rule 9). So
// the verdict does not depend on how a diff is cut into batches.
//
// The difference between the overlay and the records, in an order in which it
// can be carried out, is the plan. docs/conflicts.md tells the law in words.
//
// The package sees no clock, chance or file; the same view, batch and vector
// give the same plan.
package merge

import (
	"fmt"

	"opendfs/internal/filter"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// View is what Decide reads of this member's records. It does not change while
// Decide runs. An error of a view is returned by Decide as it is.
type View interface {
	// Get returns the record of an object, false if there is none.
	Get(uid repl.UID) (repl.Record, bool, error)
	// At returns the live record at a place: its parent is dir or a directory
	// merged into dir. dir is not merged itself. Where Options.Fold is set, names
	// that fold to the same are one.
	At(dir repl.UID, name string) (repl.Record, bool, error)
	// Children calls fn for the live records whose parent is dir or a directory
	// merged into dir, beginning after a name, until fn returns false. fn does
	// not call the view, and the record is fn's only until it returns.
	Children(dir repl.UID, after string, fn func(*repl.Record) bool) error
}

// Options is what Decide must know of the member and of the exchange.
type Options struct {
	Folder repl.FolderID
	// InitialSync and ReadOnly members mint nothing (rule 13): an update that
	// would need it is parked.
	InitialSync bool
	ReadOnly    bool
	// Asked names objects whose current record the partner was asked for
	// already. Unless the answers stay in the batch of every later call, name
	// them here, or they may be asked for again without end.
	Asked map[repl.UID]bool
	// Vector is what this member knows in full, Own the originator of what it
	// makes itself. Where they do not contain the version of a record, a diff
	// that brought it has not ended: what its author had seen may be still to
	// come, and nothing is settled with it. nil: all is known.
	Vector version.Vector
	Own    version.Originator
	// Lacking are versions of files whose content the partner did not have: what
	// only this member's initial build knows in their places is not replaced by it,
	// but makes way for a record.
	Lacking map[version.GVSN]bool
	// Filter keeps names out of the folder. A live object that it keeps out, or
	// that lies in a directory it keeps out, and that is not on this disk, is not
	// brought there: only its record is kept. What the disk cannot hold by its
	// name leaves it. nil keeps nothing out.
	Filter *filter.Set
	// Morph is set in a folder in which of two directories that claim one place
	// both stay, the smaller under the name that Morphed gives it; else it is
	// merged into the greater.
	Morph bool
	// Fold is set in a folder that compares names folded (filter.Fold): names
	// that fold to the same claim one place.
	Fold bool
}

const (
	// maxNeed bounds the objects asked for at once.
	maxNeed = 1024
	// maxPasses bounds how often a batch is decided anew because an update of
	// it must wait; then the whole batch waits.
	maxPasses = 16
)

// Decide makes the verdict on updates, the current records of one partner that
// this member lacks: a part of its diff and what it answered to Plan.Need.
// partner is the vector that belongs to them; a later one does no harm.
//
// The plan's changes keep every record's parent alive, every place single and
// the tree without rings, whatever of Waiting is still open. Decide never
// changes updates, and the plan shares their memory. The error is the view's.
func Decide(view View, updates []repl.Update, partner version.Vector, opts Options) (repl.Plan, error) {
	if plan, ok := plain(view, updates, partner, opts); ok {
		return plan, nil
	}
	return decide(view, updates, partner, opts)
}

// decide is Decide of any batch.
func decide(view View, updates []repl.Update, partner version.Vector, opts Options) (repl.Plan, error) {
	d := &decider{
		view: view, partner: partner, opts: opts, root: repl.RootUID(opts.Folder), fold: filter.Folder(opts.Fold),
		entries: make(map[repl.UID]*entry, len(updates)+16),
		claims:  make(map[repl.Place]*entry, len(updates)),
		needed:  make(map[repl.UID]bool),
	}
	d.admit(updates)
	for range maxPasses {
		d.begin()
		d.settle()
		if !d.stale || d.err != nil {
			break
		}
	}
	if d.stale && d.err == nil {
		d.withholdAll()
	}
	plan := d.plan()
	if d.knotted && d.err == nil { // better to wait than to do half of it
		d.withholdAll()
		plan = d.plan()
	}
	if d.err != nil {
		return repl.Plan{}, fmt.Errorf("decide on %d updates: %w", len(updates), d.err)
	}
	return plan, nil
}

// decider is one run of Decide.
type decider struct {
	view    View
	partner version.Vector
	opts    Options
	root    repl.UID
	fold    func(name string) string // the form by which names are compared
	err     error                    // of the view; sticky, the verdict is thrown away then

	entries map[repl.UID]*entry
	order   []*entry // as they were met: what the plan's order rests on
	slab    []entry

	need   []repl.UID
	needed map[repl.UID]bool
	bad    []repl.BadUpdate
	// knotted: the changes could not be put in an order.
	knotted bool

	// What follows is of one pass.

	claims     map[repl.Place]*entry   // touched live objects by place, its name folded, linked by next
	dependents map[repl.UID][]*entry   // what was found to hang on a directory; may be out of date
	hid        map[repl.UID]hiding     // of directories
	carried    map[repl.UID]repl.UID   // objects that go along with the merge of the directory they lie in, and that directory
	aliases    map[repl.UID][]repl.UID // directories of the view that the overlay merges into another
	tree       []*entry                // to be checked: parents, rings, deaths, heirs
	places     []repl.Place            // to be checked, when the tree is whole; names folded
	drafts     int                     // what was decided beyond the updates themselves
	stale      bool                    // an update was withheld that drafts may rest on
	epoch      int                     // counts changes of directories
	walk       int                     // counts walks to the root
	backs      int                     // counts updates that were put back
}

// canMint reports whether this member may write updates of its own.
func (d *decider) canMint() bool { return !d.opts.InitialSync && !d.opts.ReadOnly }

// whyParked says why a matter that needs an update of ours waits.
func (d *decider) whyParked() string {
	if d.opts.ReadOnly {
		return "this member is read-only: another one must settle the conflict"
	}
	return "this member is in its initial sync: another one must settle the conflict"
}

// settle mends the overlay: the tree first, so that nothing dies for a place
// that another will not take after all.
func (d *decider) settle() {
	for d.err == nil {
		if n := len(d.tree); n > 0 {
			e := d.tree[n-1]
			d.tree = d.tree[:n-1]
			d.checkTree(e)
			continue
		}
		n := len(d.places)
		if n == 0 {
			return
		}
		p := d.places[n-1]
		d.places = d.places[:n-1]
		d.checkPlace(p)
	}
}

// withholdAll gives the batch up: all of it waits.
func (d *decider) withholdAll() {
	for _, e := range d.order {
		if e.state == active {
			e.state, e.why = withheld, "its batch does not come to rest"
		}
	}
	d.begin()
	d.stale = false
}
