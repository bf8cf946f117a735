package rdc

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// The third cut, in bytes: grains of 64 to 1024, 256 on average. They are looked
// at only between two copies, against what lies between them in the old
// version, so that 5 bytes of hash are enough.
const (
	GrainMin  = 64
	GrainMax  = 1 << 10
	grainMark = ^uint64(0) - (1<<64-1)/192
	grainHash = 5
	// gapMax bounds what lies between two copies in the old version.
	gapMax = 64 << 10
	// rangeMax bounds one range of a GrainRequest.
	rangeMax = 2 * gapMax
)

// MaxRanges bounds the ranges of one GrainRequest.
const MaxRanges = 4096

// Range is a stretch of the new version.
type Range struct{ Off, Len int64 }

// GrainRequest asks the side that has the new version for the grains of parts
// of it. The ranges ascend, do not overlap, and have 1..128 KiB each.
type GrainRequest struct{ Ranges []Range }

// GrainAsker carries a request to the side that has the new version and brings
// what AnswerGrains returned.
type GrainAsker func(GrainRequest) ([]byte, error)

// Encode appends the form of q that travels.
func (q GrainRequest) Encode(b []byte) []byte {
	b = append(b, FormatVersion)
	b = binary.AppendUvarint(b, uint64(len(q.Ranges)))
	var at int64
	for _, r := range q.Ranges {
		b = binary.AppendUvarint(b, uint64(r.Off-at))
		b = binary.AppendUvarint(b, uint64(r.Len))
		at = r.Off + r.Len
	}
	return b
}

// DecodeGrainRequest reads what Encode wrote, all of b.
func DecodeGrainRequest(b []byte) (GrainRequest, error) {
	d := decoder{b: b}
	d.version()
	var q GrainRequest
	n := d.uvarint(MaxRanges)
	if n == 0 {
		d.fail("nothing asked")
	}
	var at int64
	for range n {
		r := Range{Off: at + int64(d.uvarint(uint64(math.MaxInt64-rangeMax-at)))}
		r.Len = int64(d.uvarint(rangeMax))
		if r.Len == 0 {
			d.fail("empty range")
		}
		at = r.Off + r.Len
		if d.err != nil || at > math.MaxInt64-rangeMax {
			d.fail("range out of range")
			break
		}
		q.Ranges = append(q.Ranges, r)
	}
	if err := d.end(); err != nil {
		return GrainRequest{}, fmt.Errorf("rdc: decode grain request: %w", err)
	}
	return q, nil
}

// grain is one cut of a range.
type grain struct {
	len  int
	hash uint64 // of 40 bits
}

func cutGrains(b []byte, out []grain) []grain {
	for len(b) > 0 {
		n := min(GrainMin, len(b))
		if n < len(b) {
			k, _ := scan(b[n:min(GrainMax, len(b))], 0, grainMark)
			n += k
		}
		out = append(out, grain{n, hashOf(b[:n])})
		b = b[n:]
	}
	return out
}

// AnswerGrains appends to b the reply to q about the file of size bytes in r: as
// many of the ranges as fit into MaxReply, in order, at least one. It reads the
// ranges and no more.
func AnswerGrains(b []byte, q GrainRequest, r io.ReaderAt, size int64) ([]byte, error) {
	const room = MaxReply - 4
	var body []byte
	var grains []grain
	var count uint64
	buf := make([]byte, rangeMax)
	for _, s := range q.Ranges {
		if s.Len <= 0 || s.Len > rangeMax || s.Off < 0 || s.Off > size-s.Len || len(q.Ranges) > MaxRanges {
			return nil, fmt.Errorf("rdc: answer grains: %d bytes at %d of %d: %w", s.Len, s.Off, size, ErrFormat)
		}
		if n, err := r.ReadAt(buf[:s.Len], s.Off); n < int(s.Len) {
			return nil, fmt.Errorf("rdc: answer grains: read %d bytes at %d: %w", s.Len, s.Off, err)
		}
		grains = cutGrains(buf[:s.Len], grains[:0])
		before := len(body)
		body = binary.AppendUvarint(body, uint64(len(grains)))
		for _, g := range grains {
			body = binary.AppendUvarint(body, uint64(g.len))
			var h [8]byte
			binary.BigEndian.PutUint64(h[:], g.hash)
			body = append(body, h[8-grainHash:]...)
		}
		if len(body) > room {
			body = body[:before]
			break
		}
		count++
	}
	return append(binary.AppendUvarint(b, count), body...), nil
}

// grains reads those of one range.
func (d *decoder) grains(length int64, out []grain) []grain {
	n := int(d.uvarint(rangeMax/GrainMin + 1))
	for i := range n {
		g := grain{len: int(d.uvarint(GrainMax))}
		var h [8]byte
		copy(h[8-grainHash:], d.take(grainHash))
		if length -= int64(g.len); length < 0 || g.len < GrainMin && i < n-1 {
			d.fail("grains that do not add up")
		}
		if d.err != nil {
			return nil
		}
		g.hash = binary.BigEndian.Uint64(h[:])
		out = append(out, g)
	}
	if length != 0 {
		d.fail("grains that do not add up")
	}
	return out
}

// gap is a run to fetch between two copies, with what lies there in the old
// version, and the one or two ranges of it that may hold the same.
type gap struct {
	run    int
	old    Range
	ranges []Range
	runs   []Run
}

// gaps lists what can be refined.
func (n *Needs) gaps(sizes []int64) []gap {
	var out []gap
	for i, r := range n.Runs {
		if r.Seed != Fetch || r.Len < 2*GrainMin {
			continue
		}
		var from, to int64
		switch prev, next := i > 0, i+1 < len(n.Runs); {
		case prev && next:
			a, b := n.Runs[i-1], n.Runs[i+1]
			if a.Seed != b.Seed {
				continue
			}
			from, to = a.Off+a.Len, b.Off
		case prev:
			a := n.Runs[i-1]
			from, to = a.Off+a.Len, sizes[a.Seed]
		case next:
			to = n.Runs[i+1].Off
		default:
			continue
		}
		old := Range{from, to - from}
		if old.Len < GrainMin || old.Len > gapMax {
			continue
		}
		g := gap{run: i, old: old, ranges: []Range{{r.Off, r.Len}}}
		if r.Len > 2*old.Len { // the middle is surely new
			g.ranges = []Range{{r.Off, old.Len}, {r.Off + r.Len - old.Len, old.Len}}
		}
		out = append(out, g)
	}
	return out
}

// Refine looks once more at runs to fetch that lie between two copies of one
// seed: it asks for their grains and cuts the bytes that lie between those
// copies in the old version. It is for many small changes, such as the headers
// of an archive, and costs about 3 % of the bytes that it looks at; they are
// read on both sides. seeds hold the old versions, of the sizes given. Needs
// that it cannot better are returned as they are; what it is given stays.
func Refine(needs *Needs, seeds []io.ReaderAt, sizes []int64, ask GrainAsker) (*Needs, error) {
	if len(seeds) != len(sizes) {
		return nil, fmt.Errorf("rdc: refine: %d seeds and %d sizes", len(seeds), len(sizes))
	}
	if err := needs.check(sizes); err != nil {
		return nil, fmt.Errorf("rdc: refine: %w", err)
	}
	gaps := needs.gaps(sizes)
	for left := gaps; len(left) > 0; {
		n, err := refineSome(needs, left, seeds, ask)
		if err != nil {
			return nil, fmt.Errorf("rdc: refine: %w", err)
		}
		left = left[n:]
	}
	out := &Needs{}
	for i, r := range needs.Runs {
		if len(gaps) > 0 && gaps[0].run == i {
			for _, part := range gaps[0].runs {
				out.add(part)
			}
			gaps = gaps[1:]
			continue
		}
		out.add(r)
	}
	if len(out.Runs) > MaxRuns {
		return needs, nil
	}
	return out, nil
}

// refineSome asks about the first gaps and returns how many were answered.
func refineSome(needs *Needs, gaps []gap, seeds []io.ReaderAt, ask GrainAsker) (int, error) {
	var q GrainRequest
	for _, g := range gaps {
		if len(q.Ranges)+len(g.ranges) > MaxRanges {
			break
		}
		q.Ranges = append(q.Ranges, g.ranges...)
	}
	reply, err := ask(q)
	if err != nil {
		return 0, err
	}
	d := decoder{b: reply}
	count := int(d.uvarint(uint64(len(q.Ranges))))
	if count < len(gaps[0].ranges) {
		d.fail("too short a reply about grains")
		return 0, d.end()
	}
	m := grainMatcher{d: &d, buf: make([]byte, gapMax), index: map[uint64]Range{}}
	for i := range gaps {
		g := &gaps[i]
		if count < len(g.ranges) {
			if count > 0 { // half of a gap: it is asked for again
				d.b = nil
			}
			return i, d.end()
		}
		count -= len(g.ranges)
		seed := needs.seedBy(g.run)
		if err := m.match(g, needs.Runs[g.run], seed, seeds[seed]); err != nil {
			return 0, err
		}
	}
	return len(gaps), d.end()
}

// grainMatcher matches one gap after the other against a reply.
type grainMatcher struct {
	d          *decoder
	buf        []byte
	index      map[uint64]Range
	olds, news []grain
}

// match fills in the runs of g, which take the place of r.
func (m *grainMatcher) match(g *gap, r Run, seed int, old io.ReaderAt) error {
	if n, err := old.ReadAt(m.buf[:g.old.Len], g.old.Off); n < int(g.old.Len) {
		return fmt.Errorf("read seed %d at %d: %w", seed, g.old.Off, err)
	}
	m.olds = cutGrains(m.buf[:g.old.Len], m.olds[:0])
	clear(m.index)
	off := g.old.Off
	for _, o := range m.olds {
		if _, ok := m.index[o.hash]; !ok {
			m.index[o.hash] = Range{off, int64(o.len)}
		}
		off += int64(o.len)
	}
	var part Needs
	at := r.Off
	for _, rng := range g.ranges {
		if rng.Off > at { // the middle, which was not asked about
			part.add(Run{Fetch, at, rng.Off - at})
			at = rng.Off
		}
		if m.news = m.d.grains(rng.Len, m.news[:0]); m.d.err != nil {
			return m.d.err
		}
		for _, n := range m.news {
			run := Run{Fetch, at, int64(n.len)}
			if o, ok := m.index[n.hash]; ok && o.Len == run.Len {
				run.Seed, run.Off = seed, o.Off
			}
			part.add(run)
			at += run.Len
		}
	}
	g.runs = part.Runs
	return nil
}

// seedBy is the seed of the copy beside a run to fetch.
func (n *Needs) seedBy(run int) int {
	if run > 0 {
		return n.Runs[run-1].Seed
	}
	return n.Runs[run+1].Seed
}
