package wire

import (
	"errors"
	"fmt"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire/wirepb"
)

// Type returns TypeCoverRequest.
func (*CoverRequest) Type() Type { return TypeCoverRequest }

func (m *CoverRequest) append(b []byte) ([]byte, error) {
	p, err := encodeStatements(m.Statements)
	if err != nil {
		return nil, err
	}
	p.Folder = m.Folder[:]
	return marshal(b, p)
}

func (m *CoverRequest) decode(b []byte) error {
	p, statements, err := decodeStatements(b)
	if err != nil {
		return err
	}
	m.Statements = statements
	m.Folder, err = decodeFolder(p.Folder)
	return err
}

// Type returns TypeCoverReply.
func (*CoverReply) Type() Type { return TypeCoverReply }

func (m *CoverReply) append(b []byte) ([]byte, error) {
	p, err := encodeStatements(m.Statements)
	if err != nil {
		return nil, err
	}
	return marshal(b, p)
}

func (m *CoverReply) decode(b []byte) (err error) {
	_, m.Statements, err = decodeStatements(b)
	return err
}

func encodeStatements(list []repl.Statement) (*wirepb.Cover, error) {
	if err := bounded("statements", len(list), MaxMembers); err != nil {
		return nil, err
	}
	p := new(wirepb.Cover)
	for i := range list {
		s := &list[i]
		v := s.Covers.Append(nil)
		if err := bounded("bytes of a stated vector", len(v), MaxCovers); err != nil {
			return nil, err
		}
		p.Statements = append(p.Statements, &wirepb.Statement{Member: s.Member[:], Database: s.Database[:], Stamp: int64(s.Stamp), Covers: v})
	}
	return p, nil
}

// decodeStatements reads statements: of each member one, all of it there.
func decodeStatements(b []byte) (*wirepb.Cover, []repl.Statement, error) {
	if err := atMost(b, counted{2, MaxMembers}); err != nil {
		return nil, nil, err
	}
	p := new(wirepb.Cover)
	if err := unmarshal(b, p); err != nil {
		return nil, nil, err
	}
	var list []repl.Statement
	seen := make(map[repl.MemberID]bool, len(p.Statements))
	for _, s := range p.Statements {
		member, err1 := decodeGUID(s.Member)
		database, err2 := decodeGUID(s.Database)
		err3 := bounded("bytes of a stated vector", len(s.Covers), MaxCovers)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, nil, err
		}
		v, err := version.DecodeVector(s.Covers)
		if err != nil {
			return nil, nil, err
		}
		id := repl.MemberID(member)
		if seen[id] {
			return nil, nil, fmt.Errorf("two statements of member %v", id)
		}
		seen[id] = true
		list = append(list, repl.Statement{Member: id, Database: version.Originator(database), Stamp: repl.Time(s.Stamp), Covers: v})
	}
	return p, list, nil
}
