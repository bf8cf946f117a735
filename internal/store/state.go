package store

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// Phase is how far a folder has come on this member.
type Phase uint8

// The phases.
const (
	PhaseNew          Phase = iota // nothing is known yet
	PhaseInitialBuild              // what is on disk is being taken up
	PhaseInitialSync               // the partner's tree is being taken over
	PhaseNormal
	PhaseRecovery // state and tree disagree: local differences are not authoritative
	phases
)

// String returns the phase's name as `dfs status` prints it.
func (p Phase) String() string {
	names := [...]string{"new", "initial-build", "initial-sync", "normal", "recovery"}
	if int(p) < len(names) {
		return names[p]
	}
	return "phase(" + strconv.Itoa(int(p)) + ")"
}

// State is what a folder must know of itself after a restart.
type State struct {
	Originator version.Originator   // whose GVSNs this member mints
	Past       []version.Originator // originators it had before (rules 3 and 25)
	Database   version.Originator   // the one that these records began with: it names them
	Phase      Phase
	Primary    bool
	Epoch      uint64    // counts the databases and roots that met; also in the marker
	Nonce      repl.GUID // ties the database to the marker
	Membership repl.GUID
	// RootIdentity and Volume say which root on which filesystem this is.
	RootIdentity repl.Identity
	Volume       string
	Clean        bool          // the last stop was a clean one
	Boot         repl.GUID     // the boot during which Clean was last unset (rule 19)
	Filter       repl.Hash     // of the filter in force; another one needs a walk
	Since        repl.Time     // when the phase began
	Partner      repl.MemberID // whom the initial sync follows
	Rebuilt      bool          // the records were lost once: nothing found here is authoritative
	EpochSettled bool          // the marker in the tree carries Epoch
	Folds        bool          // names are compared folded, and every place has its row: see Fold
	Holds        []Hold        // originators that the breaker holds, and decisions on them
	Compared     []Compared    // the last slow syncs
	Missing      bool          // objects that are to be on this disk may not be: they are looked for
}

// Compared says when records were compared with a partner's last.
type Compared struct {
	Partner repl.MemberID
	At      repl.Time
}

// The tags of State's entries.
const (
	stateOriginator = iota + 1
	statePast
	statePhase
	statePrimary
	stateEpoch
	stateNonce
	stateMembership
	stateHandle
	stateBirth
	stateClean
	stateBoot
	stateVolume
	stateFilter
	stateSince
	statePartner
	stateRebuilt
	stateEpochSettled
	stateFolds
	stateMissing
	stateDatabase
	stateHolds    = 32
	stateCompared = 33
)

// appendState appends the value of the state row.
func appendState(b []byte, s *State) []byte {
	e := entries{b: append(b, 1)}
	e.guid(stateOriginator, s.Originator)
	var past []byte
	for _, o := range s.Past {
		past = append(past, o[:]...)
	}
	e.bytes(statePast, past)
	e.uvarint(statePhase, uint64(s.Phase))
	e.bool(statePrimary, s.Primary)
	e.uvarint(stateEpoch, s.Epoch)
	e.guid(stateNonce, s.Nonce)
	e.guid(stateMembership, s.Membership)
	e.bytes(stateHandle, []byte(s.RootIdentity.Handle))
	e.varint(stateBirth, int64(s.RootIdentity.Birth))
	e.bool(stateClean, s.Clean)
	e.guid(stateBoot, s.Boot)
	e.bytes(stateVolume, []byte(s.Volume))
	if !s.Filter.IsZero() {
		e.bytes(stateFilter, s.Filter[:])
	}
	e.varint(stateSince, int64(s.Since))
	e.guid(statePartner, s.Partner)
	e.bool(stateRebuilt, s.Rebuilt)
	e.bool(stateEpochSettled, s.EpochSettled)
	e.bool(stateFolds, s.Folds)
	e.bool(stateMissing, s.Missing)
	e.guid(stateDatabase, s.Database)
	e.bytes(stateHolds, appendHolds(nil, s.Holds))
	var compared []byte
	for _, c := range s.Compared {
		compared = binary.LittleEndian.AppendUint64(append(compared, c.Partner[:]...), uint64(c.At))
	}
	e.bytes(stateCompared, compared)
	return e.b
}

// decodeState reads the value of the state row.
func decodeState(b []byte) (State, error) {
	var s State
	err := eachEntry(b, nil, func(tag uint64, d *decoder) {
		switch tag {
		case stateOriginator:
			s.Originator = d.guid()
		case statePast:
			for d.err == nil && len(d.b) > 0 {
				s.Past = append(s.Past, d.guid())
			}
		case statePhase:
			if p := d.uvarint(); p < uint64(phases) {
				s.Phase = Phase(p)
			} else {
				d.fail(fmt.Errorf("phase %d", p))
			}
		case statePrimary:
			s.Primary = d.bool()
		case stateEpoch:
			s.Epoch = d.uvarint()
		case stateNonce:
			s.Nonce = d.guid()
		case stateMembership:
			s.Membership = d.guid()
		case stateHandle:
			s.RootIdentity.Handle = string(d.rest())
		case stateBirth:
			s.RootIdentity.Birth = repl.Time(d.varint())
		case stateClean:
			s.Clean = d.bool()
		case stateBoot:
			s.Boot = d.guid()
		case stateVolume:
			s.Volume = string(d.rest())
		case stateFilter:
			s.Filter = repl.Hash(d.take(len(s.Filter)))
		case stateSince:
			s.Since = repl.Time(d.varint())
		case statePartner:
			s.Partner = d.guid()
		case stateRebuilt:
			s.Rebuilt = d.bool()
		case stateEpochSettled:
			s.EpochSettled = d.bool()
		case stateFolds:
			s.Folds = d.bool()
		case stateMissing:
			s.Missing = d.bool()
		case stateDatabase:
			s.Database = d.guid()
		case stateHolds:
			s.Holds = decodeHolds(d)
		case stateCompared:
			for d.err == nil && len(d.b) > 0 {
				s.Compared = append(s.Compared, Compared{d.guid(), repl.Time(d.uint64())})
			}
		default:
			d.fail(fmt.Errorf("unknown tag"))
		}
	})
	if err != nil {
		return State{}, fmt.Errorf("decode state: %w", err)
	}
	if s.Database.IsZero() { // written before it had a name of its own
		s.Database = s.Originator
	}
	return s, nil
}
