package peer

import (
	"context"
	"fmt"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// Limit bounds what a member sends to all its partners together. The zero value
// does not. Safe for concurrent use.
type Limit struct{ p pacer }

// Set changes the limit, in bits per second with all headers; 0 is none.
func (l *Limit) Set(bits uint64) { l.p.set(bits) }

// partHeader is about what one part costs in a Content frame's header.
const partHeader = 64

// bodyWithin is how many bytes of content go into a frame that costs at most most
// on the wire.
func bodyWithin(most, mss int) int {
	rest := most - 16 - partHeader - (most/recordSize+2)*recordHeaders - (most/mss+1)*packetHeaders
	return max(rest, leastFrame/4)
}

// updateSize is about what one update costs in a page.
const updateSize = 200

// page bounds how many updates an answer has, so that it takes about a second; 0
// is no bound.
func (ps pacers) page(limit int) int {
	most := ps.frame()
	if most == 0 {
		return limit
	}
	n := max(most*paceShare/updateSize, 16)
	if limit > 0 {
		n = min(n, limit)
	}
	return n
}

// pace takes what the partner grants.
func (b *partnerBounds) pace(m *wire.Pace) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.lanes[m.Group]
	if p == nil {
		if len(b.lanes) >= maxLanes {
			return wire.Errorf(wire.CodeProtocol, "rates for more than %d groups", maxLanes)
		}
		if b.lanes == nil {
			b.lanes = make(map[repl.GUID]*pacer)
		}
		p = new(pacer)
		b.lanes[m.Group] = p
	}
	p.set(m.Rate)
	return nil
}

// clearLanes takes all limits away, for streams under way too.
func (b *partnerBounds) clearLanes() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.lanes {
		p.set(0)
	}
	clear(b.lanes)
}

// chargeOpening counts what the opening of a connection has sent: it is of no
// group, so it is of each.
func (b *partnerBounds) chargeOpening(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.lanes {
		p.charge(n)
	}
}

// Charge counts n bytes that this member has sent a partner and that are no answers
// of this server: what it asks, and what TCP acknowledges of what comes. It does not
// wait for anything, so content does. Without a folder they are of each group.
func (s *Server) Charge(partner repl.MemberID, folder repl.FolderID, n int) {
	b := s.bounds(partner)
	if s.cfg.Limit != nil {
		s.cfg.Limit.p.charge(n)
	}
	if s.cfg.Group == nil || repl.GUID(folder).IsZero() {
		b.chargeOpening(n)
		return
	}
	group := s.cfg.Group(folder)
	b.mu.Lock()
	p := b.lanes[group]
	b.mu.Unlock()
	if p != nil {
		p.charge(n)
	}
}

// pacers are what frames of a folder have to pass. A group that has no rate yet
// gets its lane all the same, so that a later one holds for streams under way.
func (in *inbound) pacers(folder repl.FolderID) pacers {
	var ps pacers
	if group := in.server.cfg.Group; group != nil && !repl.GUID(folder).IsZero() {
		id := group(folder)
		in.bounds.mu.Lock()
		p := in.bounds.lanes[id]
		if p == nil && len(in.bounds.lanes) < maxLanes {
			if in.bounds.lanes == nil {
				in.bounds.lanes = make(map[repl.GUID]*pacer)
			}
			p = new(pacer)
			in.bounds.lanes[id] = p
		}
		in.bounds.mu.Unlock()
		if p != nil {
			ps = append(ps, p)
		}
	}
	if in.server.cfg.Limit != nil {
		ps = append(ps, &in.server.cfg.Limit.p)
	}
	return ps
}

// pacersOf are those of a request's answer. Content waits for itself.
func (in *inbound) pacersOf(m wire.Message) pacers { return in.pacers(folderOf(m)) }

// folderOf is the folder that a request names, zero if none.
func folderOf(m wire.Message) repl.FolderID {
	switch m := m.(type) {
	case *wire.DiffRequest:
		return m.Folder
	case *wire.RecordsRequest:
		return m.Folder
	case *wire.RdcRequest:
		return m.Folder
	case *wire.ContentRequest:
		return m.Folder
	case *wire.BarrierRequest:
		return m.Folder
	case *wire.CoverRequest:
		return m.Folder
	case *wire.CompareRequest:
		return m.Folder
	case *wire.StatusRequest:
		return m.Folder
	}
	return repl.FolderID{}
}

// answer sends the one frame of an answer. What fits into a frame of the rate
// goes ahead of all content and is counted; what does not goes out in slices.
func (in *inbound) answer(ctx context.Context, ps pacers, m wire.Message, id uint32) error {
	most := ps.frame()
	if most == 0 {
		return in.send(m, id, true, nil)
	}
	b, err := wire.Append(nil, m, id, true, 0)
	if err != nil {
		return err
	}
	if cost := onWire(len(b), in.mss); cost <= most {
		ps.charge(cost)
		return in.write(b, nil)
	}
	return in.writeSlices(ctx, ps, b)
}

// writeSlices writes one frame at the pace of ps. Nothing else is written to the
// connection meanwhile: it is one frame.
func (in *inbound) writeSlices(ctx context.Context, ps pacers, b []byte) error {
	in.waiting.Add(1)
	in.wmu.Lock()
	defer in.wmu.Unlock()
	defer in.waiting.Add(-1)
	slice := bodyWithin(ps.frame(), in.mss)
	for len(b) > 0 {
		n := min(slice, len(b))
		if err := ps.wait(ctx, repl.FolderID{}, onWire(n, in.mss)); err != nil {
			in.close() // half a frame is out
			return fmt.Errorf("send at a limited rate: %w", err)
		}
		if _, err := in.tls.Write(b[:n]); err != nil {
			return err
		}
		if err := in.raw.Flush(); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
