package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire/wirepb"

	"github.com/zeebo/blake3"
)

// CompareRequest asks for the records of a folder in the order of their UIDs, to be
// compared below equal vectors (slow sync, [MS-FRS2] 3.3.4.16): runs of them as
// digests first, and one by one where a digest differs.
type CompareRequest struct {
	Folder  repl.FolderID
	After   repl.UID // where to begin, itself not included; zero: with the first
	Through repl.UID // where to end, itself included; zero: with the last
	Salt    [16]byte // of the checks
	// Since leaves out tombstones whose clock is less: they may be collected on one
	// side and not yet on the other.
	Since repl.Time
	List  bool // records one by one
	// Behind asks for nothing: the requester has records that the upstream does not
	// have although its vector covers them, and the upstream is to compare itself.
	Behind bool
}

// CompareReply holds runs, or entries if they were asked for, in the order of UIDs,
// of one snapshot.
type CompareReply struct {
	Runs    []CompareRun
	Entries []CompareEntry
	More    bool           // there are records above the last one here
	Vector  version.Vector // of the snapshot, with entries
}

// CompareRun stands for the records above the run before, up to Last.
type CompareRun struct {
	Last   repl.UID
	Count  int // 1 at least
	Digest uint64
}

// CompareEntry stands for one record. Check is CheckOf of its update by the
// request's salt.
type CompareEntry struct {
	UID   repl.UID
	GVSN  version.GVSN
	Check uint64
}

// Digest makes a run's digest of the checks of its records: the first 8 bytes of
// BLAKE3 over them, 8 bytes each, big-endian.
type Digest struct {
	Count int
	buf   []byte
}

// Add takes the next record's check up.
func (d *Digest) Add(check uint64) {
	d.Count++
	d.buf = binary.BigEndian.AppendUint64(d.buf, check)
}

// Sum returns the digest of what was added and begins anew.
func (d *Digest) Sum() (count int, digest uint64) {
	sum := blake3.Sum256(d.buf)
	count = d.Count
	d.Count, d.buf = 0, d.buf[:0]
	return count, binary.BigEndian.Uint64(sum[:])
}

// Type returns TypeCompareRequest.
func (*CompareRequest) Type() Type { return TypeCompareRequest }

func (m *CompareRequest) append(b []byte) ([]byte, error) {
	return marshal(b, &wirepb.CompareRequest{
		Folder:          m.Folder[:],
		AfterOriginator: encodeOriginator(version.GVSN(m.After)), AfterVersion: m.After.Version,
		ThroughOriginator: encodeOriginator(version.GVSN(m.Through)), ThroughVersion: m.Through.Version,
		Salt: m.Salt[:], Since: int64(m.Since), List: m.List, Behind: m.Behind,
	})
}

func (m *CompareRequest) decode(b []byte) error {
	var p wirepb.CompareRequest
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	folder, err1 := decodeFolder(p.Folder)
	above, err2 := decodeGVSN(p.AfterOriginator, p.AfterVersion)
	through, err3 := decodeGVSN(p.ThroughOriginator, p.ThroughVersion)
	if len(p.Salt) != len(m.Salt) {
		return fmt.Errorf("salt of %d bytes", len(p.Salt))
	}
	*m = CompareRequest{
		Folder: folder, After: repl.UID(above), Through: repl.UID(through), Salt: [16]byte(p.Salt),
		Since: repl.Time(p.Since), List: p.List, Behind: p.Behind,
	}
	return errors.Join(err1, err2, err3)
}

// Type returns TypeCompareReply.
func (*CompareReply) Type() Type { return TypeCompareReply }

func (m *CompareReply) append(b []byte) ([]byte, error) {
	if err := errors.Join(bounded("runs", len(m.Runs), MaxRuns), bounded("entries", len(m.Entries), MaxEntries)); err != nil {
		return nil, err
	}
	p := &wirepb.CompareReply{More: m.More}
	t := newTable()
	for _, r := range m.Runs {
		i, v := t.of(version.GVSN(r.Last))
		p.Runs = append(p.Runs, uint64(i), v, uint64(r.Count))
		p.Digests = append(p.Digests, r.Digest)
	}
	for _, e := range m.Entries {
		i, v := t.of(version.GVSN(e.UID))
		j, w := t.of(e.GVSN)
		p.Entries = append(p.Entries, uint64(i), v, uint64(j), w)
		p.Checks = append(p.Checks, e.Check)
	}
	if p.Originators = t.bytes; t.err != nil {
		return nil, t.err
	}
	if m.Vector != nil {
		v, err := encodeVector(m.Vector)
		if err != nil {
			return nil, err
		}
		p.Vector = v
	}
	return marshal(b, p)
}

func (m *CompareReply) decode(b []byte) error {
	var p wirepb.CompareReply
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	if len(p.Runs) != 3*len(p.Digests) || len(p.Entries) != 4*len(p.Checks) {
		return fmt.Errorf("%d numbers of %d runs, %d of %d entries", len(p.Runs), len(p.Digests), len(p.Entries), len(p.Checks))
	}
	if err := errors.Join(bounded("runs", len(p.Digests), MaxRuns), bounded("entries", len(p.Checks), MaxEntries)); err != nil {
		return err
	}
	from, err := decodeOrigins(p.Originators)
	if err != nil {
		return err
	}
	*m = CompareReply{More: p.More}
	last := repl.UID{}
	for i, digest := range p.Digests {
		r := CompareRun{Digest: digest}
		if r.Last, err = from.above(last, p.Runs[3*i], p.Runs[3*i+1]); err != nil {
			return err
		}
		if n := p.Runs[3*i+2]; n == 0 || n > 1<<30 {
			return fmt.Errorf("a run of %d records", n)
		}
		r.Count, last = int(p.Runs[3*i+2]), r.Last
		m.Runs = append(m.Runs, r)
	}
	last = repl.UID{}
	for i, check := range p.Checks {
		e := CompareEntry{Check: check}
		if e.UID, err = from.above(last, p.Entries[4*i], p.Entries[4*i+1]); err != nil {
			return err
		}
		if e.GVSN, err = from.named(p.Entries[4*i+2], p.Entries[4*i+3]); err != nil {
			return err
		}
		last = e.UID
		m.Entries = append(m.Entries, e)
	}
	if len(p.Vector) > 0 {
		m.Vector, err = version.DecodeVector(p.Vector)
	}
	return err
}

// above is the UID of an entry that comes after another one.
func (o origins) above(last repl.UID, origin, v uint64) (repl.UID, error) {
	g, err := o.named(origin, v)
	uid := repl.UID(g)
	if err == nil && uid.Compare(last) <= 0 {
		err = fmt.Errorf("%v comes after %v", uid, last)
	}
	return uid, err
}
