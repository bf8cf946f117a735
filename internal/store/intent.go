package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// Intent says what is being done to one object on disk, so that a crash in the
// middle can be settled (rule 15). Its UID and its place are closed to capture.
type Intent struct {
	UID      repl.UID
	GVSN     version.GVSN // what the record shall be
	Base     version.GVSN // what it is, zero if there is none (rule 16)
	Verdict  repl.Verdict
	Place    repl.Place // where the object shall lie; zero if nothing shall
	From     repl.Place // where its object lies before; zero if nothing does
	Identity repl.Identity
	Print    repl.Print // of the new object
	// Displaced and DisplacedPrint are what the verdict saw at the place.
	Displaced      repl.Identity
	DisplacedPrint repl.Print
	Keep           repl.Keep
	Temp           string // the new object's name in installing/; empty: the one that UID and GVSN make
	Update         repl.Update
	// Seq is the change's place in its batch, Group the changes that are only done
	// together, 0 for one that stands alone, as in repl.Change.
	Seq   uint64
	Group uint64
	Drop  bool // the record goes altogether
}

// The tags of Intent's entries.
const (
	intentUID = iota + 1
	intentGVSN
	intentBase
	intentDir
	intentName
	intentFromDir
	intentFromName
	intentHandle
	intentBirth
	intentPrint
	intentDisplacedHandle
	intentDisplacedBirth
	intentDisplacedPrint
	intentKeep
	intentTemp
	intentVerdict
	intentUpdate
	intentSeq
	intentGroup
	intentDrop
)

const maxTemp = 255 // bytes in a name on disk

func (e *entries) print(tag uint64, p repl.Print) {
	if p == (repl.Print{}) {
		return
	}
	e.tmp = binary.AppendVarint(e.tmp[:0], p.Size)
	e.tmp = binary.AppendVarint(e.tmp, int64(p.Mtime))
	e.tmp = binary.AppendVarint(e.tmp, int64(p.Ctime))
	e.bytes(tag, e.tmp)
}

func (d *decoder) print() repl.Print {
	return repl.Print{Size: d.varint(), Mtime: repl.Time(d.varint()), Ctime: repl.Time(d.varint())}
}

// appendIntent appends the value of an intent's row.
func appendIntent(b []byte, in *Intent, n *numbering) []byte {
	e := entries{b: append(b, 1), tmp: n.room}
	e.gvsn(intentUID, version.GVSN(in.UID))
	e.gvsn(intentGVSN, in.GVSN)
	e.gvsn(intentBase, in.Base)
	e.gvsn(intentDir, version.GVSN(in.Place.Dir))
	e.string(intentName, in.Place.Name)
	e.gvsn(intentFromDir, version.GVSN(in.From.Dir))
	e.string(intentFromName, in.From.Name)
	e.string(intentHandle, in.Identity.Handle)
	e.varint(intentBirth, int64(in.Identity.Birth))
	e.print(intentPrint, in.Print)
	e.string(intentDisplacedHandle, in.Displaced.Handle)
	e.varint(intentDisplacedBirth, int64(in.Displaced.Birth))
	e.print(intentDisplacedPrint, in.DisplacedPrint)
	e.uvarint(intentKeep, uint64(in.Keep))
	e.string(intentTemp, in.Temp)
	e.uvarint(intentVerdict, uint64(in.Verdict))
	if !in.Update.UID.IsZero() {
		e.tmp = n.append(e.tmp[:0], version.GVSN(in.Update.UID))
		e.tmp = appendRecord(e.tmp, &repl.Record{Update: in.Update}, n, metaHash{}, true)
		e.bytes(intentUpdate, e.tmp)
	}
	e.uvarint(intentSeq, in.Seq)
	e.uvarint(intentGroup, in.Group)
	e.bool(intentDrop, in.Drop)
	n.room = e.tmp
	return e.b
}

// decodeIntent reads the value of an intent's row.
func decodeIntent(b []byte, n *names) (Intent, error) {
	var in Intent
	err := eachEntry(b, n, func(tag uint64, d *decoder) {
		switch tag {
		case intentUID:
			in.UID = repl.UID(d.wholeGVSN())
		case intentGVSN:
			in.GVSN = d.wholeGVSN()
		case intentBase:
			in.Base = d.wholeGVSN()
		case intentDir:
			in.Place.Dir = repl.UID(d.wholeGVSN())
		case intentName:
			in.Place.Name = string(d.rest())
		case intentFromDir:
			in.From.Dir = repl.UID(d.wholeGVSN())
		case intentFromName:
			in.From.Name = string(d.rest())
		case intentHandle:
			in.Identity.Handle = string(d.rest())
		case intentBirth:
			in.Identity.Birth = repl.Time(d.varint())
		case intentPrint:
			in.Print = d.print()
		case intentDisplacedHandle:
			in.Displaced.Handle = string(d.rest())
		case intentDisplacedBirth:
			in.Displaced.Birth = repl.Time(d.varint())
		case intentDisplacedPrint:
			in.DisplacedPrint = d.print()
		case intentKeep:
			in.Keep = repl.Keep(d.small(uint64(repl.KeepPreExisting)))
		case intentTemp:
			in.Temp = string(d.rest())
		case intentVerdict:
			in.Verdict = repl.Verdict(d.small(uint64(repl.Verdicts - 1)))
		case intentUpdate:
			in.Update = d.update()
		case intentSeq:
			in.Seq = d.uvarint()
		case intentGroup:
			in.Group = d.uvarint()
		case intentDrop:
			in.Drop = d.bool()
		default:
			d.fail(errors.New("unknown tag"))
		}
	})
	if err != nil {
		return Intent{}, fmt.Errorf("decode intent: %w", err)
	}
	return in, nil
}

// small reads a number that is at most limit.
func (d *decoder) small(limit uint64) uint64 {
	v := d.uvarint()
	if v > limit {
		d.fail(fmt.Errorf("%d, limit %d", v, limit))
		return 0
	}
	return v
}

// update reads a UID and a record value to the end of the entry.
func (d *decoder) update() repl.Update {
	uid := d.gvsn()
	if d.err != nil {
		return repl.Update{}
	}
	r, hash, err := decodeRecord(d.b, repl.UID(uid), d.names)
	if err == nil && hash != (metaHash{}) {
		err = errors.New("metadata elsewhere")
	}
	if err != nil {
		d.fail(err)
	}
	d.b = nil
	return r.Update
}

// check reports why an intent cannot be stored.
func (in *Intent) check() error {
	switch {
	case in.UID.IsZero() || in.GVSN.IsZero():
		return fmt.Errorf("intent of %v: no identity", in.UID)
	case len(in.Temp) > maxTemp || len(in.Place.Name) > repl.MaxName || len(in.From.Name) > repl.MaxName:
		return fmt.Errorf("intent of %v: name too long", in.UID)
	case !in.Update.UID.IsZero() && in.Update.UID != in.UID:
		return fmt.Errorf("intent of %v: update of %v", in.UID, in.Update.UID)
	}
	return nil
}
