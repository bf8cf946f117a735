package store

import (
	"encoding/binary"
	"fmt"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// HoldDecision is what was decided on a hold.
type HoldDecision uint8

// The decisions.
const (
	HoldOpen     HoldDecision = iota // none yet: nothing of it is installed or joined
	HoldReleased                     // let go on
	HoldRejected                     // answered by updates of this member
	holdDecisions
)

// String returns the decision's name as `dfs held` prints it.
func (d HoldDecision) String() string {
	return [...]string{"held", "released", "rejected", "?"}[min(d, holdDecisions)]
}

// Hold is an originator that the breaker holds (rule 27), or what was decided on
// it, until nothing of that is still to come.
type Hold struct {
	Originator version.Originator
	From       uint64 // the first version held
	To         uint64 // the last that a decision is about; 0 while there is none
	Decision   HoldDecision
	// Replaced and Deleted are the files that were counted when it tripped, of
	// Live live ones.
	Replaced, Deleted, Live int64
	Since                   repl.Time
	Partner                 repl.MemberID // who told of it first
	Maker                   repl.MemberID // whose originator it is; zero where that is not known
}

// Covers reports whether the hold is about a version.
func (h Hold) Covers(g version.GVSN) bool {
	return g.Originator == h.Originator && g.Version >= h.From && (h.Decision == HoldOpen || g.Version <= h.To)
}

func appendHolds(b []byte, holds []Hold) []byte {
	for i := range holds {
		h := &holds[i]
		b = append(append(append(b, h.Originator[:]...), h.Partner[:]...), h.Maker[:]...)
		for _, n := range [...]uint64{h.From, h.To, uint64(h.Decision), uint64(h.Replaced), uint64(h.Deleted), uint64(h.Live)} {
			b = binary.AppendUvarint(b, n)
		}
		b = binary.AppendVarint(b, int64(h.Since))
	}
	return b
}

func decodeHolds(d *decoder) (holds []Hold) {
	for d.err == nil && len(d.b) > 0 {
		var h Hold
		h.Originator, h.Partner = version.Originator(d.take(len(h.Originator))), repl.MemberID(d.take(len(h.Partner)))
		h.Maker = repl.MemberID(d.take(len(h.Maker)))
		h.From, h.To = d.uvarint(), d.uvarint()
		decision := d.uvarint()
		h.Replaced, h.Deleted, h.Live = int64(d.uvarint()), int64(d.uvarint()), int64(d.uvarint())
		h.Since = repl.Time(d.varint())
		h.Decision = HoldDecision(min(decision, uint64(holdDecisions)))
		switch {
		case h.Decision == holdDecisions, h.From == 0, (h.Decision == HoldOpen) != (h.To == 0):
			d.fail(fmt.Errorf("hold of %v: decision %d from %d to %d", h.Originator, decision, h.From, h.To))
		default:
			holds = append(holds, h)
		}
	}
	return holds
}
