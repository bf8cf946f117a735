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
	var floor []byte
	var err5 error
	if len(m.Floor) > 0 {
		floor, err5 = encodeVector(m.Floor)
	}
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	return marshal(b, &wirepb.DiffRequest{
		Floor:  floor,
		Folder: m.Folder[:], Vector: v, AfterOriginator: encodeOriginator(m.After), AfterVersion: m.After.Version,
		Snapshot: m.Snapshot, Wait: m.Wait, Limit: uint32(max(m.Limit, 0)), Phase: uint32(m.Phase), Except: except, Packed: m.Packed, Touches: m.Touches,
		Retired: m.Retired,
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
	var floor version.Vector
	var err8 error
	if len(p.Floor) > 0 {
		floor, err8 = version.DecodeVector(p.Floor)
	}
	*m = DiffRequest{
		Folder: folder, Vector: v, After: after, Snapshot: p.Snapshot, Wait: p.Wait, Limit: int(p.Limit), Phase: phase, Except: except,
		Packed: p.Packed, Floor: floor, Touches: p.Touches, Retired: p.Retired,
	}
	return errors.Join(err1, err2, err3, err4, err5, err6, err7, err8)
}

// Type returns TypeDiffPage.
func (*DiffPage) Type() Type { return TypeDiffPage }

func (m *DiffPage) append(b []byte) ([]byte, error) {
	v, err1 := encodeVector(m.Vector)
	page, err2 := encodePage(m.Updates, &shortened{salt: m.Salt, touches: m.Touches})
	err3 := bounded("bytes of the snapshot token", len(m.Snapshot), MaxSnapshot)
	var floor []byte
	var err4 error
	if len(m.Floor) > 0 {
		floor, err4 = encodeVector(m.Floor)
	}
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	p := &wirepb.DiffPage{
		Floor: floor, Vector: v, Snapshot: m.Snapshot, Page: page, More: m.More, Retired: m.Retired, Short: m.Short,
		CursorOriginator: encodeOriginator(m.Cursor), CursorVersion: m.Cursor.Version, Phase: uint32(m.Phase),
	}
	if !m.Originator.IsZero() {
		p.Originator = m.Originator[:]
	}
	if m.Packed {
		if packed := packPage(page); packed != nil {
			p.Page, p.Packed, p.Raw = nil, packed, uint32(len(page))
		}
	}
	return marshal(b, p)
}

func (m *DiffPage) decode(b []byte) error {
	var p wirepb.DiffPage
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	v, err1 := version.DecodeVector(p.Vector)
	page, err6 := p.Page, error(nil)
	if len(p.Packed) > 0 {
		page, err6 = unpackPage(p.Packed, p.Raw)
	}
	var short shortened
	updates, err2 := decodeShort(page, &short)
	cursor, err3 := decodeGVSN(p.CursorOriginator, p.CursorVersion)
	phase, err4 := decodePhase(p.Phase)
	err5 := bounded("bytes of the snapshot token", len(p.Snapshot), MaxSnapshot)
	var floor version.Vector
	var err7 error
	if len(p.Floor) > 0 {
		floor, err7 = version.DecodeVector(p.Floor)
	}
	*m = DiffPage{Vector: v, Snapshot: p.Snapshot, Updates: updates, More: p.More, Cursor: cursor, Phase: phase, Packed: len(p.Packed) > 0, Floor: floor, Touches: short.touches, Salt: short.salt, Retired: p.Retired, Short: p.Short}
	var err8 error
	switch len(p.Originator) {
	case 0:
	case len(m.Originator):
		m.Originator = version.Originator(p.Originator)
	default:
		err8 = fmt.Errorf("originator of %d bytes", len(p.Originator))
	}
	return errors.Join(err1, err2, err3, err4, err5, err6, err7, err8)
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
	page, err2 := encodePage(m.Updates, nil)
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
