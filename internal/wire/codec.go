package wire

import (
	"errors"
	"fmt"
	"strings"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire/wirepb"

	"google.golang.org/protobuf/proto"
)

var errGUID = errors.New("an identifier is not 16 bytes or zero")

func marshal(b []byte, m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(b, m)
}

func decodeGUID(b []byte) (repl.GUID, error) {
	if len(b) != 16 || repl.GUID(b).IsZero() {
		return repl.GUID{}, errGUID
	}
	return repl.GUID(b), nil
}

// decodeFolder decodes a folder's id.
func decodeFolder(b []byte) (repl.FolderID, error) {
	g, err := decodeGUID(b)
	return repl.FolderID(g), err
}

func encodeOriginator(g version.GVSN) []byte {
	if g.IsZero() {
		return nil
	}
	return g.Originator[:]
}

func decodeGVSN(o []byte, v uint64) (version.GVSN, error) {
	if len(o) == 0 && v == 0 {
		return version.GVSN{}, nil
	}
	g, err := decodeGUID(o)
	return version.GVSN{Originator: version.Originator(g), Version: v}, err
}

func encodeVector(v version.Vector) ([]byte, error) {
	b := v.Append(nil)
	if len(b) > maxVector {
		return nil, fmt.Errorf("vector of %d bytes, limit %d", len(b), maxVector)
	}
	return b, nil
}

func decodePhase(p uint32) (Phase, error) {
	if p >= uint32(phases) {
		return 0, fmt.Errorf("phase %d", p)
	}
	return Phase(p), nil
}

func bounded(what string, n, limit int) error {
	if n > limit {
		return fmt.Errorf("%s: %d, limit %d", what, n, limit)
	}
	return nil
}

// clip cuts a text for people at n bytes and leaves no control characters.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// Type returns TypeHello.
func (*Hello) Type() Type { return TypeHello }

func (m *Hello) append(b []byte) ([]byte, error) {
	return marshal(b, &wirepb.Hello{
		ProtocolMin: m.Min, ProtocolMax: m.Max, Member: m.Member[:], Domain: m.Domain[:],
		Product: []byte(clip(m.Product, MaxProduct)), Term: m.Term, Generation: m.Generation, Clock: int64(m.Clock), Role: uint32(m.Role),
	})
}

func (m *Hello) decode(b []byte) error {
	var p wirepb.Hello
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	member, err1 := decodeGUID(p.Member)
	domain, err2 := decodeGUID(p.Domain)
	*m = Hello{
		Min: p.ProtocolMin, Max: p.ProtocolMax, Member: repl.MemberID(member), Domain: domain,
		Product: clip(string(p.Product), MaxProduct), Term: p.Term, Generation: p.Generation, Clock: repl.Time(p.Clock), Role: Role(p.Role),
	}
	if p.Role > uint32(RoleData) {
		return fmt.Errorf("role %d", p.Role)
	}
	return errors.Join(err1, err2)
}

// Type returns TypeError.
func (*Error) Type() Type { return TypeError }

func (e *Error) append(b []byte) ([]byte, error) {
	return marshal(b, &wirepb.Error{Code: uint32(e.Code), Text: []byte(clip(e.Text, MaxText))})
}

func (e *Error) decode(b []byte) error {
	var p wirepb.Error
	err := unmarshal(b, &p)
	*e = Error{Code: Code(p.Code), Text: clip(string(p.Text), MaxText)}
	return err
}

// Type returns TypePing.
func (*Ping) Type() Type { return TypePing }

func (m *Ping) append(b []byte) ([]byte, error) {
	return marshal(b, &wirepb.Ping{Sent: int64(m.Sent)})
}

func (m *Ping) decode(b []byte) error {
	var p wirepb.Ping
	err := unmarshal(b, &p)
	m.Sent = repl.Time(p.Sent)
	return err
}

// Type returns TypePong.
func (*Pong) Type() Type { return TypePong }

func (m *Pong) append(b []byte) ([]byte, error) {
	return marshal(b, &wirepb.Pong{Sent: int64(m.Sent), Clock: int64(m.Clock)})
}

func (m *Pong) decode(b []byte) error {
	var p wirepb.Pong
	err := unmarshal(b, &p)
	*m = Pong{repl.Time(p.Sent), repl.Time(p.Clock)}
	return err
}

// Type returns TypePace.
func (*Pace) Type() Type { return TypePace }

func (m *Pace) append(b []byte) ([]byte, error) {
	return marshal(b, &wirepb.Pace{Group: m.Group[:], Rate: m.Rate})
}

func (m *Pace) decode(b []byte) error {
	var p wirepb.Pace
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	group, err := decodeGUID(p.Group)
	*m = Pace{group, p.Rate}
	return err
}

// Type returns TypeCredit.
func (*Credit) Type() Type { return TypeCredit }

func (m *Credit) append(b []byte) ([]byte, error) { return marshal(b, &wirepb.Credit{Bytes: m.Bytes}) }

func (m *Credit) decode(b []byte) error {
	var p wirepb.Credit
	err := unmarshal(b, &p)
	m.Bytes = p.Bytes
	return err
}

// Type returns TypeCancel.
func (*Cancel) Type() Type { return TypeCancel }

func (*Cancel) append(b []byte) ([]byte, error) { return b, nil }

func (*Cancel) decode([]byte) error { return nil }

// Type returns TypeBarrierRequest.
func (*BarrierRequest) Type() Type { return TypeBarrierRequest }

func (m *BarrierRequest) append(b []byte) ([]byte, error) {
	return marshal(b, &wirepb.FolderRequest{Folder: m.Folder[:]})
}

func (m *BarrierRequest) decode(b []byte) (err error) {
	m.Folder, err = decodeFolderRequest(b)
	return err
}

func decodeFolderRequest(b []byte) (repl.FolderID, error) {
	var p wirepb.FolderRequest
	if err := unmarshal(b, &p); err != nil {
		return repl.FolderID{}, err
	}
	return decodeFolder(p.Folder)
}

// Type returns TypeBarrierReply.
func (*BarrierReply) Type() Type { return TypeBarrierReply }

func (m *BarrierReply) append(b []byte) ([]byte, error) {
	v, err := encodeVector(m.Vector)
	if err != nil {
		return nil, err
	}
	return marshal(b, &wirepb.BarrierReply{Vector: v})
}

func (m *BarrierReply) decode(b []byte) (err error) {
	var p wirepb.BarrierReply
	if err = unmarshal(b, &p); err == nil {
		m.Vector, err = version.DecodeVector(p.Vector)
	}
	return err
}

// Type returns TypeStatusRequest.
func (*StatusRequest) Type() Type { return TypeStatusRequest }

func (m *StatusRequest) append(b []byte) ([]byte, error) {
	return marshal(b, &wirepb.FolderRequest{Folder: m.Folder[:]})
}

func (m *StatusRequest) decode(b []byte) (err error) {
	m.Folder, err = decodeFolderRequest(b)
	return err
}

// Type returns TypeStatusReply.
func (*StatusReply) Type() Type { return TypeStatusReply }

func (m *StatusReply) append(b []byte) ([]byte, error) {
	v, err := encodeVector(m.Vector)
	if err != nil {
		return nil, err
	}
	return marshal(b, &wirepb.StatusReply{Phase: uint32(m.Phase), Vector: v, Pending: m.Pending})
}

func (m *StatusReply) decode(b []byte) error {
	var p wirepb.StatusReply
	if err := unmarshal(b, &p); err != nil {
		return err
	}
	phase, err1 := decodePhase(p.Phase)
	v, err2 := version.DecodeVector(p.Vector)
	*m = StatusReply{Phase: phase, Vector: v, Pending: p.Pending}
	return errors.Join(err1, err2)
}

// Type returns TypeDirectoryGet.
func (*DirectoryGet) Type() Type { return TypeDirectoryGet }

func (m *DirectoryGet) append(b []byte) ([]byte, error) {
	return marshal(b, &wirepb.DirectoryGet{Term: m.Term, Generation: m.Generation, Wait: m.Wait})
}

func (m *DirectoryGet) decode(b []byte) error {
	var p wirepb.DirectoryGet
	err := unmarshal(b, &p)
	*m = DirectoryGet{p.Term, p.Generation, p.Wait}
	return err
}

// Type returns TypeDirectoryCopy.
func (*DirectoryCopy) Type() Type { return TypeDirectoryCopy }

func (m *DirectoryCopy) append(b []byte) ([]byte, error) {
	if err := bounded("bytes of the domain file", len(m.Signed), MaxDirectory); err != nil {
		return nil, err
	}
	return marshal(b, &wirepb.DirectoryCopy{Term: m.Term, Generation: m.Generation, Signed: m.Signed})
}

func (m *DirectoryCopy) decode(b []byte) error {
	var p wirepb.DirectoryCopy
	err := unmarshal(b, &p)
	*m = DirectoryCopy{p.Term, p.Generation, p.Signed}
	return errors.Join(err, bounded("bytes of the domain file", len(p.Signed), MaxDirectory))
}
