package main

import (
	"context"
	"errors"
	"fmt"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/engine"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// HeldList is that of control.Member.
func (m *member) HeldList(ctx context.Context, q *controlpb.HeldListRequest) (*controlpb.HeldListReply, error) {
	list := m.folders.all()
	if q.Folder != "" {
		k, err := m.folders.named(q.Folder)
		if err != nil {
			return nil, &control.Problem{Err: err, Usage: true}
		}
		list = []*keeper{k}
	}
	reply := &controlpb.HeldListReply{}
	for _, k := range list {
		r := k.current()
		if r == nil {
			continue
		}
		s, err := r.Status(ctx)
		if err != nil {
			return nil, err
		}
		for i := range s.Holds {
			reply.Held = append(reply.Held, m.reportHold(k, &s, &s.Holds[i]))
		}
	}
	return reply, nil
}

func (m *member) reportHold(k *keeper, s *engine.Status, h *engine.Hold) *controlpb.Held {
	return &controlpb.Held{
		Folder: k.Name, Originator: h.Originator.String(), Server: m.ownerName(s, h), ToldBy: memberName(m.domain().Domain, h.Partner),
		State: h.Decision.String(), Since: replTime(h.Since), Replaced: h.Replaced, Deleted: h.Deleted, Live: h.Live, Updates: h.Updates,
	}
}

// ownerName is the server whose originator is held: as it was known then, or is now.
func (m *member) ownerName(s *engine.Status, h *engine.Hold) string {
	if h.Maker != (repl.MemberID{}) {
		return memberName(m.domain().Domain, h.Maker)
	}
	for id, l := range s.Links {
		if l.Originator == h.Originator {
			return memberName(m.domain().Domain, id)
		}
	}
	return ""
}

// HeldDecide is that of control.Member.
func (m *member) HeldDecide(ctx context.Context, q *controlpb.HeldDecideRequest) (*controlpb.HeldListReply, error) {
	verb := "release"
	if q.Reject {
		verb = "reject"
	}
	k, err := m.folders.named(q.Folder)
	if err != nil {
		return nil, &control.Problem{Err: err, Usage: true}
	}
	if err := m.mayOperate(ctx, "held "+verb+" "+q.Folder, groupOf(q.Folder)); err != nil {
		return nil, err
	}
	r, _, err := k.running()
	if err != nil {
		return nil, err
	}
	s, err := r.Status(ctx)
	if err != nil {
		return nil, err
	}
	var chosen []version.Originator
	for i := range s.Holds {
		h := &s.Holds[i]
		if h.Decision == store.HoldOpen && (q.Of == "" || q.Of == h.Originator.String() || q.Of == m.ownerName(&s, h)) {
			chosen = append(chosen, h.Originator)
		}
	}
	if len(chosen) == 0 {
		return nil, control.Hint(fmt.Errorf("held %s: nothing of %s is held here that fits", verb, q.Folder), "`dfs held list` shows what is")
	}
	for _, o := range chosen {
		err := r.DecideHold(ctx, o, q.Reject)
		if _, ok := errors.AsType[*engine.ReadOnlyError](err); ok {
			return nil, control.Hint(err, "reject on a member that is not read-only, then release here")
		}
		if err != nil {
			return nil, err
		}
		m.record(ctx, event{What: "held " + verb, Object: q.Folder, Edits: []auditEdit{{Op: "set", Object: o.String(), Before: store.HoldOpen.String(), After: decided(q.Reject)}}})
	}
	return m.HeldList(ctx, &controlpb.HeldListRequest{Folder: q.Folder})
}

func decided(reject bool) string {
	if reject {
		return store.HoldRejected.String()
	}
	return store.HoldReleased.String()
}
