package wire

import (
	"errors"
	"fmt"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire/wirepb"
)

// Type returns TypeDiffRequest.
func (*DiffRequest) Type() Type { return TypeDiffRequest }

func (m *DiffRequest) append(b []byte) ([]byte, error) {
	v, err1 := encodeVector(m.Vector)
	err2 := bounded("limit of updates", m.Limit, MaxUpdates)
	err3 := bounded("bytes of the snapshot token", len(m.Snapshot), MaxSnapshot)
	var except []byte
	var err4 error
	if len(m.Except) > 0 {
		except, err4 = encodeVector(m.Except)
	}
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	return marshal(b, &wirepb.DiffRequest{
		Folder: m.Folder[:], Vector: v, AfterOriginator: encodeOriginator(m.After), AfterVersion: m.After.Version,
		Snapshot: m.Snapshot, Wait: m.Wait, Limit: uint32(max(m.Limit, 0)), Phase: uint32(m.Phase), Except: except,
	})
}

func (m *DiffRequest) decode(b []byte) error {
	var p wirepb.DiffRequest
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	folder, err1 := decodeFolder(p.Folder)
	v, err2 := version.DecodeVector(p.Vector)
	after, err3 := decodeGVSN(p.AfterOriginator, p.AfterVersion)
	phase, err4 := decodePhase(p.Phase)
	err5 := bounded("limit of updates", int(p.Limit), MaxUpdates)
	err6 := bounded("bytes of the snapshot token", len(p.Snapshot), MaxSnapshot)
	var except version.Vector
	var err7 error
	if len(p.Except) > 0 {
		except, err7 = version.DecodeVector(p.Except)
	}
	*m = DiffRequest{
		Folder: folder, Vector: v, After: after, Snapshot: p.Snapshot, Wait: p.Wait, Limit: int(p.Limit), Phase: phase, Except: except,
	}
	return errors.Join(err1, err2, err3, err4, err5, err6, err7)
}

// Type returns TypeDiffPage.
func (*DiffPage) Type() Type { return TypeDiffPage }

func (m *DiffPage) append(b []byte) ([]byte, error) {
	v, err1 := encodeVector(m.Vector)
	page, err2 := encodePage(m.Updates)
	err3 := bounded("bytes of the snapshot token", len(m.Snapshot), MaxSnapshot)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return marshal(b, &wirepb.DiffPage{
		Vector: v, Snapshot: m.Snapshot, Page: page, More: m.More,
		CursorOriginator: encodeOriginator(m.Cursor), CursorVersion: m.Cursor.Version, Phase: uint32(m.Phase),
	})
}

func (m *DiffPage) decode(b []byte) error {
	var p wirepb.DiffPage
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	v, err1 := version.DecodeVector(p.Vector)
	updates, err2 := decodePage(p.Page)
	cursor, err3 := decodeGVSN(p.CursorOriginator, p.CursorVersion)
	phase, err4 := decodePhase(p.Phase)
	err5 := bounded("bytes of the snapshot token", len(p.Snapshot), MaxSnapshot)
	*m = DiffPage{Vector: v, Snapshot: p.Snapshot, Updates: updates, More: p.More, Cursor: cursor, Phase: phase}
	return errors.Join(err1, err2, err3, err4, err5)
}

// Type returns TypeRecordsRequest.
func (*RecordsRequest) Type() Type { return TypeRecordsRequest }

func (m *RecordsRequest) append(b []byte) ([]byte, error) {
	if err := bounded("UIDs", len(m.UIDs), MaxUIDs); err != nil {
		return nil, err
	}
	t := newTable()
	uids := t.pairs(len(m.UIDs), func(i int) version.GVSN { return version.GVSN(m.UIDs[i]) })
	if t.err != nil {
		return nil, t.err
	}
	return marshal(b, &wirepb.RecordsRequest{Folder: m.Folder[:], Originators: t.bytes, Uids: uids})
}

func (m *RecordsRequest) decode(b []byte) error {
	var p wirepb.RecordsRequest
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	folder, err1 := decodeFolder(p.Folder)
	uids, err2 := decodeUIDs(p.Originators, p.Uids)
	*m = RecordsRequest{folder, uids}
	return errors.Join(err1, err2)
}

func decodeUIDs(table []byte, pairs []uint64) ([]repl.UID, error) {
	from, err := decodeOrigins(table)
	if err != nil {
		return nil, err
	}
	list, err := from.list(pairs, MaxUIDs)
	if err != nil {
		return nil, err
	}
	var out []repl.UID
	for _, g := range list {
		out = append(out, repl.UID(g))
	}
	return out, nil
}

// Type returns TypeRecordsReply.
func (*RecordsReply) Type() Type { return TypeRecordsReply }

func (m *RecordsReply) append(b []byte) ([]byte, error) {
	t := newTable()
	unknown := t.pairs(len(m.Unknown), func(i int) version.GVSN { return version.GVSN(m.Unknown[i]) })
	v, err1 := encodeVector(m.Vector)
	page, err2 := encodePage(m.Updates)
	err3 := bounded("UIDs", max(len(m.Unknown), m.Answered), MaxUIDs)
	if err := errors.Join(err1, err2, err3, t.err); err != nil {
		return nil, err
	}
	return marshal(b, &wirepb.RecordsReply{Page: page, Originators: t.bytes, Unknown: unknown, Vector: v, Answered: uint32(m.Answered)})
}

func (m *RecordsReply) decode(b []byte) error {
	var p wirepb.RecordsReply
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	unknown, err1 := decodeUIDs(p.Originators, p.Unknown)
	v, err2 := version.DecodeVector(p.Vector)
	updates, err3 := decodePage(p.Page)
	err4 := bounded("UIDs", int(p.Answered), MaxUIDs)
	*m = RecordsReply{Updates: updates, Unknown: unknown, Vector: v, Answered: int(p.Answered)}
	return errors.Join(err1, err2, err3, err4)
}

// Type returns TypeContentRequest.
func (*ContentRequest) Type() Type { return TypeContentRequest }

func (m *ContentRequest) append(b []byte) ([]byte, error) {
	if err := bounded("items", len(m.Items), MaxItems); err != nil {
		return nil, err
	}
	t := newTable()
	p := &wirepb.ContentRequest{Folder: m.Folder[:], Credit: m.Credit, Items: make([]*wirepb.Item, len(m.Items))}
	for i, it := range m.Items {
		if it.Offset < 0 || it.Offset > repl.MaxContent {
			return nil, fmt.Errorf("offset %d of %v", it.Offset, it.UID)
		}
		p.Items[i] = &wirepb.Item{Offset: it.Offset}
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
	*m = ContentRequest{Folder: folder, Credit: p.Credit, Items: make([]ContentItem, len(p.Items))}
	for i, it := range p.Items {
		uid, err1 := from.named(uint64(it.UidOrigin), it.UidVersion)
		gvsn, err2 := from.named(uint64(it.GvsnOrigin), it.GvsnVersion)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if it.Offset < 0 || it.Offset > repl.MaxContent {
			return fmt.Errorf("offset %d of %v", it.Offset, uid)
		}
		m.Items[i] = ContentItem{repl.UID(uid), gvsn, it.Offset}
	}
	return nil
}

// Type returns TypeContent.
func (*Content) Type() Type { return TypeContent }

func (m *Content) append(b []byte) ([]byte, error) {
	if err := bounded("parts", len(m.Parts), MaxItems); err != nil {
		return nil, err
	}
	parts := make([]wirepb.Part, len(m.Parts))
	p := &wirepb.Content{Parts: make([]*wirepb.Part, len(m.Parts))}
	for i := range m.Parts {
		part := &m.Parts[i]
		p.Parts[i] = &parts[i]
		q := p.Parts[i]
		q.Index, q.Status, q.Size, q.Length, q.Last = uint32(part.Index), uint32(part.Status), part.Size, uint32(part.Length), part.Last
		if !part.Hash.IsZero() {
			q.Hash = part.Hash[:]
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
	m.Parts = make([]Part, len(p.Parts))
	for i, q := range p.Parts {
		hash, err := decodeHash(q.Hash)
		switch {
		case err != nil:
			return err
		case q.Index >= MaxItems || q.Status >= uint32(statuses) || q.Size < 0 || q.Size > repl.MaxContent || q.Length > MaxBody:
			return fmt.Errorf("part %d: index %d, status %d, size %d, length %d", i, q.Index, q.Status, q.Size, q.Length)
		}
		m.Parts[i] = Part{Index: int(q.Index), Status: Status(q.Status), Size: q.Size, Hash: hash, Length: int(q.Length), Last: q.Last}
	}
	return nil
}

// Bytes is how long the body must be that the parts divide.
func (m *Content) Bytes() int {
	n := 0
	for i := range m.Parts {
		n += m.Parts[i].Length
	}
	return n
}

// Type returns TypeRenewRequest.
func (*RenewRequest) Type() Type { return TypeRenewRequest }

func (m *RenewRequest) append(b []byte) ([]byte, error) {
	return marshal(b, &wirepb.RenewRequest{Request: m.Request})
}

func (m *RenewRequest) decode(b []byte) error {
	var p wirepb.RenewRequest
	err := unmarshal(b, &p)
	m.Request = p.Request
	return errors.Join(err, bounded("bytes of the certificate request", len(p.Request), MaxRequest))
}

// Type returns TypeRenewReply.
func (*RenewReply) Type() Type { return TypeRenewReply }

func (m *RenewReply) append(b []byte) ([]byte, error) {
	return marshal(b, &wirepb.RenewReply{Certificate: m.Certificate})
}

func (m *RenewReply) decode(b []byte) error {
	var p wirepb.RenewReply
	err := unmarshal(b, &p)
	m.Certificate = p.Certificate
	return err
}

// Type returns TypeJoinRequest.
func (*JoinRequest) Type() Type { return TypeJoinRequest }

func (m *JoinRequest) append(b []byte) ([]byte, error) {
	p := &wirepb.JoinRequest{
		ProtocolMin: m.Min, ProtocolMax: m.Max, Invitation: m.Invitation[:], Request: m.Request,
		Clock: int64(m.Clock), Product: []byte(clip(m.Product, MaxProduct)), Mac: m.MAC[:],
	}
	for _, a := range m.Addresses {
		p.Addresses = append(p.Addresses, []byte(a))
	}
	return marshal(b, p)
}

func (m *JoinRequest) decode(b []byte) error {
	if err := atMost(b, counted{5, MaxAddresses}); err != nil {
		return err
	}
	var p wirepb.JoinRequest
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	if len(p.Invitation) != len(m.Invitation) || len(p.Mac) != len(m.MAC) {
		return fmt.Errorf("invitation of %d bytes, MAC of %d", len(p.Invitation), len(p.Mac))
	}
	*m = JoinRequest{
		Min: p.ProtocolMin, Max: p.ProtocolMax, Invitation: [16]byte(p.Invitation), Request: p.Request,
		Clock: repl.Time(p.Clock), Product: clip(string(p.Product), MaxProduct), MAC: [32]byte(p.Mac),
	}
	for _, a := range p.Addresses {
		if err := bounded("bytes of an address", len(a), MaxAddress); err != nil {
			return err
		}
		m.Addresses = append(m.Addresses, string(a))
	}
	return bounded("bytes of the certificate request", len(p.Request), MaxRequest)
}

// Type returns TypeJoinReply.
func (*JoinReply) Type() Type { return TypeJoinReply }

func (m *JoinReply) append(b []byte) ([]byte, error) {
	return marshal(b, &wirepb.JoinReply{Certificate: m.Certificate, Ca: m.CA, Domain: m.Domain, Clock: int64(m.Clock)})
}

func (m *JoinReply) decode(b []byte) error {
	var p wirepb.JoinReply
	err := unmarshal(b, &p)
	*m = JoinReply{Certificate: p.Certificate, CA: p.Ca, Domain: p.Domain, Clock: repl.Time(p.Clock)}
	return errors.Join(err, bounded("bytes of the domain file", len(p.Domain), MaxDirectory))
}
