package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"opendfs/internal/engine"
	"opendfs/internal/journal"
	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

var errLost = errors.New("the connection is lost")

// upstream is the session of one member with another.
func (m *Member) upstream(id repl.MemberID) engine.Upstream {
	up := m.c.byID(id)
	if !m.c.reachable(m, up) {
		return nil
	}
	return session{m, up, m.sessions[id]}
}

// session carries questions at once; the partner may lose power over them.
type session struct {
	from, to *Member
	nth      int // of those between the two
}

// lost reports whether the session has ended; another one may stand.
func (s session) lost() bool {
	return s.nth != s.from.sessions[s.to.id] || !s.from.up[s.to.id] || !s.from.c.reachable(s.from, s.to)
}

func (s session) call(work func() error) error {
	if s.lost() || !slices.Contains(s.to.cfg.Downstreams, s.from.id) {
		return errLost
	}
	err := errLost
	s.to.guard(func() { err = work() })
	return err
}

func (s session) Diff(ctx context.Context, req wire.DiffRequest) (page wire.DiffPage, err error) {
	err = s.call(func() error {
		p, err := s.to.served.Diff(ctx, s.from.id, &req)
		if err == nil {
			page = *p
			s.from.c.Count.Short += len(p.Touches)
			s.shortIsWhole(p)
		}
		if req.After.IsZero() && s.to.served.Whole(&req) == nil {
			s.to.events = append(s.to.events, engine.Heard{Member: s.from.id, Vector: req.Vector})
		}
		return err
	})
	return page, err
}

// shortIsWhole: what a vector leaves out its receiver puts in again.
func (s session) shortIsWhole(p *wire.DiffPage) {
	r, c := s.from.folder.Retired(), s.from.c
	if !p.Short || p.Retired != r.Digest {
		return
	}
	c.Count.Retired++
	if p.More || p.Vector.Union(r.Vector).Equal(s.to.env.Store.Vector()) || c.law.broken != nil {
		return
	}
	c.law.broken = fmt.Errorf("m%d is given the vector %v without %v, m%d has %v", s.from.index, p.Vector, r.Vector, s.to.index, s.to.env.Store.Vector())
}

func (s session) Records(ctx context.Context, _ repl.FolderID, uids []repl.UID) (reply wire.RecordsReply, err error) {
	err = s.call(func() error {
		r, err := s.to.served.Records(ctx, uids)
		if err == nil {
			reply = *r
		}
		return err
	})
	return reply, err
}

func (s session) Barrier(context.Context, repl.FolderID) (v version.Vector, err error) {
	err = s.call(func() error {
		v, err = s.to.served.Vector()
		return err
	})
	return v, err
}

func (s session) Cover(_ context.Context, _ repl.FolderID, heard []repl.Statement) (theirs []repl.Statement, err error) {
	err = s.call(func() error {
		theirs, err = s.to.folder.Cover(s.to.env, heard)
		return err
	})
	return theirs, err
}

func (s session) Compare(ctx context.Context, req wire.CompareRequest) (reply wire.CompareReply, err error) {
	err = s.call(func() error {
		if req.Behind {
			s.to.events = append(s.to.events, engine.Behind{Member: s.from.id})
			return nil
		}
		r, err := s.to.served.Compare(ctx, &req)
		if err == nil {
			reply = *r
		}
		return err
	})
	return reply, err
}

func (s session) Content(ctx context.Context, _ repl.FolderID, items []wire.ContentItem, sink func(int, *wire.Head, io.Reader) error) error {
	for i := range items {
		var data []byte
		var head wire.Head
		err := s.call(func() error {
			data, head = s.read(ctx, &items[i])
			return nil
		})
		if err != nil {
			return err
		}
		s.from.c.Count.Forms[head.Form]++
		var r io.Reader = reader(data)
		cut := s.from.c.faulty && !s.from.c.still && s.from.c.rnd.IntN(6) == 0 && len(data) > 0
		if cut {
			r = io.MultiReader(reader(data[:s.from.c.rnd.IntN(len(data))]), lost{})
			s.from.c.Count.Torn++
		} else if items[i].Offset > 0 {
			s.from.c.Count.Resumed++
		}
		if err := sink(i, &head, r); err != nil {
			return err
		}
		if cut {
			return errLost
		}
	}
	return nil
}

// read reads one content on the partner's disk, where users act meanwhile.
func (s session) read(ctx context.Context, item *wire.ContentItem) ([]byte, wire.Head) {
	c, status := s.to.served.Content(ctx, item)
	if status != wire.StatusOK {
		return nil, wire.Head{Status: status}
	}
	data, err := io.ReadAll(c)
	if err := errors.Join(err, c.Close()); err != nil {
		return nil, wire.Head{Status: wire.StatusChanged}
	}
	return data, c.Head()
}

func (s session) Rdc(ctx context.Context, req *wire.RdcRequest) (reply []byte, err error) {
	err = s.call(func() error {
		reply, err = s.to.served.Rdc(ctx, req)
		return err
	})
	return reply, err
}

// lost is the end of a stream whose connection is cut.
type lost struct{}

func (lost) Read([]byte) (int, error) { return 0, errLost }

// bytesReader hands out its bytes a few at a time.
type bytesReader struct{ rest []byte }

func reader(b []byte) io.Reader { return &bytesReader{b} }

func (r *bytesReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest[:min(len(r.rest), 5+len(r.rest)/4)])
	r.rest = r.rest[n:]
	return n, nil
}

func journaled(token uint64, handle []byte, dirPath, name string, wrote bool) engine.Event {
	return engine.Journaled{Batch: journal.Batch{
		Token: token, Dirty: []journal.Dirty{{Dir: handle, Path: dirPath, Name: name, Wrote: wrote, Tree: true}},
	}}
}
