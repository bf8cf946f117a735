package wire

import (
	"errors"
	"fmt"
	"math"

	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire/wirepb"
)

// Type returns TypeContentRequest.
func (*ContentRequest) Type() Type { return TypeContentRequest }

func (m *ContentRequest) append(b []byte) ([]byte, error) {
	if err := bounded("items", len(m.Items), MaxItems); err != nil {
		return nil, err
	}
	t := newTable()
	p := &wirepb.ContentRequest{Folder: m.Folder[:], Credit: m.Credit, Packed: m.Packed, Always: m.Always, Items: make([]*wirepb.Item, len(m.Items))}
	left := itemLimits{MaxNamed, MaxRanges, MaxGrains}
	for i := range m.Items {
		it := &m.Items[i]
		if err := left.take(it); err != nil {
			return nil, err
		}
		p.Items[i] = &wirepb.Item{Offset: it.Offset, Ranges: encodeRanges(it.Ranges), Similar: it.Similar, Needs: it.Needs, Grains: it.Grains}
		for _, h := range it.Seeds {
			p.Items[i].Seeds = append(p.Items[i].Seeds, h[:]...)
		}
		p.Items[i].UidOrigin, p.Items[i].UidVersion = t.of(version.GVSN(it.UID))
		p.Items[i].GvsnOrigin, p.Items[i].GvsnVersion = t.of(it.GVSN)
	}
	p.Originators = t.bytes
	if t.err != nil {
		return nil, t.err
	}
	return marshal(b, p)
}

func (m *ContentRequest) decode(b []byte) error {
	if err := atMost(b, counted{3, MaxItems}); err != nil {
		return err
	}
	var p wirepb.ContentRequest
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	folder, err1 := decodeFolder(p.Folder)
	from, err2 := decodeOrigins(p.Originators)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	*m = ContentRequest{Folder: folder, Credit: p.Credit, Packed: p.Packed, Always: p.Always, Items: make([]ContentItem, len(p.Items))}
	left := itemLimits{MaxNamed, MaxRanges, MaxGrains}
	for i, it := range p.Items {
		uid, err1 := from.named(uint64(it.UidOrigin), it.UidVersion)
		gvsn, err2 := from.named(uint64(it.GvsnOrigin), it.GvsnVersion)
		seeds, err3 := decodeSeeds(it.Seeds)
		ranges, err4 := decodeRanges(it.Ranges)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return err
		}
		m.Items[i] = ContentItem{repl.UID(uid), gvsn, it.Offset, seeds, it.Grains, ranges, it.Similar, it.Needs}
		if err := left.take(&m.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// itemLimits are how many seeds, ranges and bytes of grains a request may still name.
type itemLimits struct{ seeds, ranges, grains int }

// take counts those of one item and says what about it cannot be.
func (l *itemLimits) take(it *ContentItem) error {
	l.seeds -= len(it.Seeds)
	l.ranges -= len(it.Ranges)
	l.grains -= len(it.Grains)
	set, olds := 0, len(it.Seeds) > 0 || len(it.Grains) > 0
	for _, is := range []bool{it.Offset != 0, olds, len(it.Ranges) > 0} {
		if is {
			set++
		}
	}
	if it.Offset < 0 || it.Offset > repl.MaxContent || set > 1 || it.Similar && set > 0 && !olds || it.Needs && len(it.Seeds) == 0 || len(it.Seeds) > MaxSeeds || l.seeds < 0 || l.ranges < 0 || l.grains < 0 || rdc.CheckGrains(it.Grains) != nil {
		return fmt.Errorf("%v asked for from %d on, with %d seeds, %d ranges and %d bytes of grains", it.UID, it.Offset, len(it.Seeds), len(it.Ranges), len(it.Grains))
	}
	var at int64
	for _, r := range it.Ranges {
		if r.Len <= 0 || r.Off < at || r.Off > repl.MaxContent || r.Len > repl.MaxContent-r.Off {
			return fmt.Errorf("%v asked for %d bytes at %d", it.UID, r.Len, r.Off)
		}
		at = r.Off + r.Len
	}
	return nil
}

func encodeRanges(ranges []rdc.Range) []uint64 {
	out := make([]uint64, 0, 2*len(ranges))
	var at int64
	for _, r := range ranges {
		out = append(out, uint64(r.Off-at), uint64(r.Len))
		at = r.Off + r.Len
	}
	return out
}

func decodeRanges(pairs []uint64) ([]rdc.Range, error) {
	if len(pairs)%2 != 0 || len(pairs)/2 > MaxRanges {
		return nil, fmt.Errorf("list of %d numbers, limit %d", len(pairs), 2*MaxRanges)
	}
	var out []rdc.Range
	var at int64
	for ; len(pairs) > 0; pairs = pairs[2:] {
		if pairs[0] > uint64(repl.MaxContent-at) || pairs[1] > uint64(repl.MaxContent-at)-pairs[0] {
			return nil, fmt.Errorf("range of %d bytes, %d behind %d", pairs[1], pairs[0], at)
		}
		r := rdc.Range{Off: at + int64(pairs[0]), Len: int64(pairs[1])}
		out = append(out, r)
		at = r.Off + r.Len
	}
	return out, nil
}

func decodeSeeds(b []byte) ([]repl.Hash, error) {
	var one repl.Hash
	if len(b)%len(one) != 0 || len(b)/len(one) > MaxSeeds {
		return nil, fmt.Errorf("seeds of %d bytes", len(b))
	}
	var out []repl.Hash
	for ; len(b) > 0; b = b[len(one):] {
		out = append(out, repl.Hash(b[:len(one)]))
	}
	return out, nil
}

// Type returns TypeContent.
func (*Content) Type() Type { return TypeContent }

func (m *Content) append(b []byte) ([]byte, error) {
	if err := errors.Join(bounded("parts", len(m.Parts), MaxItems), bounded("bytes of the unpacked body", m.Raw, MaxBody)); err != nil {
		return nil, err
	}
	parts := make([]wirepb.Part, len(m.Parts))
	p := &wirepb.Content{Raw: uint32(m.Raw), Parts: make([]*wirepb.Part, len(m.Parts))}
	for i := range m.Parts {
		part := &m.Parts[i]
		p.Parts[i] = &parts[i]
		q := p.Parts[i]
		if err := part.check(); err != nil {
			return nil, err
		}
		q.Index, q.Status, q.Size, q.Length, q.Last = uint32(part.Index), uint32(part.Status), part.Size, uint32(part.Length), part.Last
		q.Form, q.Carries, q.Needs, q.Offer = uint32(part.Form), part.Carries, uint32(part.Needs), part.Offer
		if !part.Hash.IsZero() {
			q.Hash = part.Hash[:]
		}
		if part.Traits != (rdc.Traits{}) {
			q.Traits = part.Traits[:]
		}
	}
	return marshal(b, p)
}

func (m *Content) decode(b []byte) error {
	if err := atMost(b, counted{1, MaxItems}); err != nil {
		return err
	}
	var p wirepb.Content
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	if p.Raw > MaxBody {
		return fmt.Errorf("body of %d bytes when unpacked, limit %d", p.Raw, MaxBody)
	}
	m.Raw = int(p.Raw)
	m.Parts = make([]Part, len(p.Parts))
	for i, q := range p.Parts {
		hash, err := decodeHash(q.Hash)
		switch {
		case err != nil:
			return err
		case len(q.Traits) != 0 && len(q.Traits) != len(rdc.Traits{}):
			return fmt.Errorf("part %d: traits of %d bytes", i, len(q.Traits))
		case q.Index >= MaxItems || q.Length > MaxBody || q.Status > math.MaxUint8 || q.Form > math.MaxUint8:
			return fmt.Errorf("part %d: index %d, status %d, form %d, length %d", i, q.Index, q.Status, q.Form, q.Length)
		}
		m.Parts[i] = Part{
			Index: int(q.Index), Length: int(q.Length), Last: q.Last,
			Head: Head{Status: Status(q.Status), Form: Form(q.Form), Size: q.Size, Hash: hash, Carries: q.Carries, Needs: int(q.Needs), Offer: q.Offer},
		}
		copy(m.Parts[i].Traits[:], q.Traits)
		if err := m.Parts[i].check(); err != nil {
			return fmt.Errorf("part %d: %w", i, err)
		}
	}
	return nil
}

// Bytes is how long the body must be, unpacked, that the parts divide.
func (m *Content) Bytes() int {
	n := 0
	for i := range m.Parts {
		n += m.Parts[i].Length
	}
	return n
}

// Type returns TypeRdcRequest.
func (*RdcRequest) Type() Type { return TypeRdcRequest }

func (m *RdcRequest) append(b []byte) ([]byte, error) {
	if (len(m.Question.Indexes) > 0) == (len(m.Grains.Ranges) > 0) {
		return nil, errors.New("a question about signatures, or one about grains")
	}
	t := newTable()
	p := &wirepb.RdcRequest{Folder: m.Folder[:]}
	p.UidOrigin, p.UidVersion = t.of(version.GVSN(m.UID))
	p.GvsnOrigin, p.GvsnVersion = t.of(m.GVSN)
	p.Originators = t.bytes
	if len(m.Question.Indexes) > 0 {
		p.Question = m.Question.Encode(nil)
	} else {
		p.Grains = m.Grains.Encode(nil)
	}
	if t.err != nil {
		return nil, t.err
	}
	return marshal(b, p)
}

func (m *RdcRequest) decode(b []byte) error {
	var p wirepb.RdcRequest
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	folder, err1 := decodeFolder(p.Folder)
	from, err2 := decodeOrigins(p.Originators)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	uid, err1 := from.named(uint64(p.UidOrigin), p.UidVersion)
	gvsn, err2 := from.named(uint64(p.GvsnOrigin), p.GvsnVersion)
	*m = RdcRequest{Folder: folder, UID: repl.UID(uid), GVSN: gvsn}
	var err3 error
	switch {
	case len(p.Question) > 0 && len(p.Grains) == 0:
		m.Question, err3 = rdc.DecodeRequest(p.Question)
	case len(p.Grains) > 0 && len(p.Question) == 0:
		m.Grains, err3 = rdc.DecodeGrainRequest(p.Grains)
	default:
		err3 = errors.New("no question, or two")
	}
	return errors.Join(err1, err2, err3)
}

// Type returns TypeRdcReply.
func (*RdcReply) Type() Type { return TypeRdcReply }

func (m *RdcReply) append(b []byte) ([]byte, error) {
	if err := bounded("bytes of the reply", len(m.Reply), rdc.MaxReply); err != nil {
		return nil, err
	}
	return marshal(b, &wirepb.RdcReply{Reply: m.Reply})
}

func (m *RdcReply) decode(b []byte) error {
	var p wirepb.RdcReply
	err := unmarshal(b, &p)
	m.Reply = p.Reply
	return errors.Join(err, bounded("bytes of the reply", len(p.Reply), rdc.MaxReply))
}
