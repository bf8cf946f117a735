// Package engine is one replicated folder on one member: a state machine that
// is told events and answers with actions. Step never blocks on the network or
// on content; it reads and writes the member's records, which are fast. The
// actions are the work: look at names, ask a partner, bring content, install.
// Each is run by Action.Run, which posts events as it goes; the Runner does so
// on goroutines, the simulator one after the other in an order it draws.
//
// One goroutine owns a Folder. It is the only writer of the folder's records.
// The lock table is the flight: what plans under way will make of records and
// places; capture leaves those alone, and later verdicts are made on them.
package engine

import (
	"sync/atomic"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/filter"
	"opendfs/internal/finding"
	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/staging"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/volume"
)

// Config is what the directory says of this member of the folder.
type Config struct {
	Folder     repl.FolderID
	Name       string // GROUP/FOLDER, for people
	Self       repl.MemberID
	Membership repl.GUID
	Path       string
	Primary    bool
	ReadOnly   bool
	// Follow is the partner whose tree a folder without records takes over; zero:
	// that of any upstream.
	Follow      repl.MemberID
	Adopt       bool // without records, the tree is the folder's whatever its marker says
	Moved       bool // the path has changed and the records were dropped: nothing found there is authoritative
	Filter      *filter.Set
	Insensitive bool // names that fold to the same are one (filter.Fold)
	Morph       bool // of two directories of one name both stay, one renamed
	Settings
	// Members are all members of the folder, this one too: no tombstone is
	// collected that one of them is not known to cover.
	Members []Member
	// VouchWait is how long a start waits to hear what its partners know of it before
	// it captures anything; 0: 3 s. RemarkAfter is how often the marker is written
	// anew while something changes; 0: 15 min.
	VouchWait, RemarkAfter time.Duration
	MinDelta               int64           // size from which on contents are signed and deltas travel; 0: 64 KiB
	Reserve                uint64          // free bytes below which no content is brought here
	Upstreams              []repl.MemberID // whom this member asks
	Downstreams            []repl.MemberID // who may ask this member

	// Transfers say how contents are brought from upstreams, where that is not as
	// the zero Transfer says.
	Transfers map[repl.MemberID]Transfer
}

// Transfer says how contents are brought from one upstream.
type Transfer struct {
	Whole       bool  // never by what differs
	NoCrossFile bool  // files like a new one are not looked for
	MinDelta    int64 // size from which on deltas travel; 0: Config.MinDelta
}

// Findings is where bad conditions are raised and cleared.
type Findings interface {
	Raise(code finding.Code, object, detail string)
	Clear(code finding.Code, object string)
}

// Env is what actions work with: the edges of one member's folder.
type Env struct {
	Volume volume.Volume
	Store  *store.Folder
	Keep   *preserve.Store
	// Staging keeps signatures; nil: contents travel whole.
	Staging *staging.Store
	Now     func() repl.Time
	// Directory changes what the domain says of members; nil: nothing is evicted.
	Directory Directory
	// Clock is what updates are stamped with, by Clamp; nil: Now.
	Clock func() repl.Time
	// Upstream returns the session with a partner, nil if there is none.
	Upstream func(repl.MemberID) Upstream
	// Drain returns when everything that the journal had seen is handed out.
	Drain func() error
	// Racy is how young a ctime may be and not be trusted, 0 on kernels whose
	// timestamps tell every change.
	Racy    time.Duration
	Workers int // goroutines that one action may use; 0 in the simulator
	// Hurry is called when an initial sync begins or metadata change at many objects,
	// and what it returns when that has ended, or the folder has. nil: nobody wants to know.
	Hurry func() (over func())

	touches touches // what this member has made, or heard of, that is short for partners
	// nested: the root of another replicated folder was met in the tree.
	nested atomic.Bool
}

// Event is something that happened. Events are applied by Step alone.
type Event interface{ apply(f *Folder) }

// Class says which actions compete for the same resource.
type Class uint8

// The classes of actions.
const (
	ClassLook    Class = iota // reads the tree
	ClassAsk                  // waits for a partner
	ClassStage                // brings content
	ClassInstall              // changes the tree
)

// Action is work to be done outside Step. Run does it, posting events; post
// may block. It returns when the work is over.
type Action interface {
	Class() Class
	Run(ctx Context, post func(Event))
}

// Folder is the state machine of one replicated folder on one member.
type Folder struct {
	cfg  *Config // never changed, only replaced: actions under way keep theirs
	st   *store.Folder
	now  func() repl.Time
	mint func() repl.Time // the clock of updates of ours
	find Findings
	// touches is the environment's.
	touches *touches

	phase   store.Phase
	stopped finding.Code // why nothing is done, if so
	actions []Action

	dirty   dirty
	looking map[repl.UID]uint64 // directories that an action looks at, by sequence
	looks   int                 // how many there may be
	gone    []goneMark
	raised  map[spot]capture.Raised // by names that were looked at
	long    map[repl.UID]string     // findings of names that this disk cannot hold
	unhad   map[version.GVSN]*unhad // contents that partners have not
	// raisedOf counts them by code.
	raisedOf map[finding.Code]int
	moves    bool         // directories have moved since their findings were last retitled
	opened   map[spot]int // how often a name was found open for writing, in a row
	goneRun  bool
	walking  bool // a Gap is being walked
	later    map[spot]laterName

	links   map[repl.MemberID]*link
	flight  flight
	fifo    []*batch // in order of decision; the first is the next to install
	big     []*batch
	install *batch // the batch that is being installed
	// Handles of directories in which something happened meanwhile, and that no record
	// knew; the empty one stands for any.
	strangers map[string]bool
	seq       uint64
	// failures counts changes that were not carried out.
	failures  uint64
	undoAfter map[repl.Place]repl.Time // when users' changes may be undone again
	// refused are those changes, until they are undone, by their objects.
	refused map[repl.UID]capture.Draft
	fencing *fencing                     // nil: no authoritative restore is under way
	waves   map[version.Originator]*wave // what originators did lately to live files
	holds   []store.Hold                 // as stored
	// toldHolds are the originators whose holds are a finding now.
	toldHolds map[version.Originator]bool

	unclean    bool // the walk follows an unclean stop (rule 19)
	doubt      capture.Doubt
	late       late
	evacuating bool
	// unsettled: what was found in the initial sync waits for the walk at its end.
	unsettled  bool
	evacuateAt repl.Time            // when it is tried again
	waits      map[repl.UID]waiting // whose installs wait for somebody here
	mending    bool
	mendAt     repl.Time                      // when carried metadata are tried again
	carried    int64                          // objects whose metadata were said to be carried
	seconds    map[repl.Place]map[string]bool // names left alone because of another spelling, by folded place
	foldAt     repl.Time                      // when folding names is tried again
	vouch      vouching
	mark       func(*store.State) error // writes the marker
	remarking  bool
	remarked   repl.Time      // when the marker was written last
	markedAt   version.Vector // what was known then
	syncing    bool
	rebuild    bool
	lacks      map[version.GVSN]bool // versions of files whose content a partner did not have
	missing    bool                  // what a filter hid, or was lost with its directory, is to be on this disk and may not be
	showWait   time.Duration
	shows      int      // times that partners were asked for it
	rehides    []hiding // directories that an install hid, or showed
	showing    bool
	showAt     repl.Time // when it is looked for again
	calmUntil  repl.Time // partners are not asked before
	walkAt     repl.Time // when the tree is walked for what a filter shows; 0: not
	partner    map[repl.MemberID]version.Vector
	arrived    map[repl.MemberID]uint64      // the question that tells it
	covers     map[repl.MemberID]store.Cover // what other members said of themselves
	own        repl.Statement                // what this one said last
	sift       *sift                         // the search for old tombstones under way
	surveying  bool
	collectAt  repl.Time // when the next one begins
	awayAt     repl.Time // when members are looked for that are away
	compare    *comparing
	retired    *Retired
	unsure     map[repl.UID]bool // whose records a partner has otherwise, until they are looked at
	watched    repl.Time         // for how long this member has run without a break
	watchedTo  repl.Time
	stats      Stats
	token      uint64 // of the last journal batch
	notify     bool
	wake       repl.Time // when a Tick is wanted
}

// New makes the state machine over an opened store. Start is its first event.
func New(cfg Config, st *store.Folder, now func() repl.Time, find Findings) *Folder {
	f := &Folder{
		cfg: &cfg, st: st, now: now, mint: now, find: find,
		looking: make(map[repl.UID]uint64), looks: maxLooks,
		later:  make(map[spot]laterName),
		raised: make(map[spot]capture.Raised), raisedOf: make(map[finding.Code]int), long: make(map[repl.UID]string), unhad: make(map[version.GVSN]*unhad),
		opened:  make(map[spot]int),
		refused: make(map[repl.UID]capture.Draft), undoAfter: make(map[repl.Place]repl.Time),
		links:   make(map[repl.MemberID]*link),
		partner: make(map[repl.MemberID]version.Vector), arrived: make(map[repl.MemberID]uint64),
		waits:   make(map[repl.UID]waiting),
		lacks:   make(map[version.GVSN]bool),
		unsure:  make(map[repl.UID]bool),
		seconds: make(map[repl.Place]map[string]bool),
		touches: new(touches),
		waves:   make(map[version.Originator]*wave), holds: st.State().Holds,
	}
	f.dirty.init()
	f.flight.init(st)
	for _, m := range cfg.Upstreams {
		f.links[m] = f.newLink(m)
		f.links[m].transfer = cfg.Transfers[m]
	}
	f.tellHolds()
	return f
}

// Step applies one event and returns the actions that follow from it, and
// whether partners should be told that there is something new.
func (f *Folder) Step(ev Event) (actions []Action, changed bool) {
	f.actions, f.notify = nil, false
	ev.apply(f)
	f.schedule()
	return f.actions, f.notify
}

// Wake returns when the folder wants a Tick at the latest, 0 for never.
func (f *Folder) Wake() repl.Time { return f.wake }

// do adds an action to the answer of this step.
func (f *Folder) do(a Action) { f.actions = append(f.actions, a) }

// schedule starts whatever can be started now.
func (f *Folder) schedule() {
	if f.stopped != "" || f.phase == store.PhaseNew {
		return
	}
	f.startRefiltered()
	f.ripen()
	f.startLooks()
	f.startGone()
	f.startStaging()
	f.startInstall()
	f.advancePhase()
	f.startEvacuating()
	f.startLagging()
	f.startFencing()
	f.startMending()
	f.retryFold()
	f.startShowing()
	f.retitle()
	f.startAsking()
	f.startRemarking()
	f.startStating()
	f.startCollecting()
	f.startComparing()
	f.watchAway()
	f.setWake()
}

// Tick tells that time has passed.
type Tick struct{}

func (Tick) apply(*Folder) {}

// fail stops the folder: its records or its tree cannot be trusted.
func (f *Folder) fail(code finding.Code, detail string) {
	if f.stopped == "" {
		f.stopped = code
	}
	f.find.Raise(code, f.cfg.Name, detail)
}

// storeFailed handles an error of the member's own records, which stops the
// folder: nothing may be decided without them.
func (f *Folder) storeFailed(err error) bool {
	if err == nil {
		return false
	}
	f.fail(finding.StoreError, err.Error())
	return true
}
