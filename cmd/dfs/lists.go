package main

import (
	"context"
	"fmt"
	"strings"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/engine"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// The bounds of lists.
const (
	maxListed = 10000 // updates listed of one connection
	// maxCounted is how many updates of a partner are fetched to be counted;
	// beyond it a count says "at least".
	maxCounted = 50000
	listPage   = 1000
)

// listLimit is how many updates a request wants listed.
func listLimit(n int64) int {
	if n <= 0 {
		n = defaultList
	}
	return int(min(n, maxListed))
}

// Backlog is that of control.Member.
func (m *member) Backlog(ctx context.Context, req *controlpb.BacklogRequest) (*controlpb.BacklogReply, error) {
	k, err := m.folders.named(req.Folder)
	if err != nil {
		return nil, &control.Problem{Err: err, Usage: true}
	}
	r, records, err := k.running()
	if err != nil {
		return nil, err
	}
	s, err := r.Status(ctx)
	if err != nil {
		return nil, err
	}
	d := m.domain().Domain
	self := m.id.Name()
	if own := d.Server(m.self()); own != nil {
		self = own.Name
	}
	for _, name := range []string{req.From, req.To} {
		if name != "" && d.ServerByName(name) == nil {
			return nil, &control.Problem{Err: fmt.Errorf("server %q is not in the domain", name), Usage: true}
		}
	}
	if req.From != "" && req.To != "" && req.From != self && req.To != self {
		return nil, &control.Problem{Err: fmt.Errorf("backlog from %s to %s: neither is this server, %s", req.From, req.To, self), Hint: "ask on one of the two", Usage: true}
	}
	reply := &controlpb.BacklogReply{}
	limit := listLimit(req.Limit)
	wants := func(from, to string) bool {
		return (req.From == "" || req.From == from) && (req.To == "" || req.To == to)
	}
	for _, id := range k.partners().Downstreams {
		if name := memberName(d, id); wants(self, name) {
			l, err := m.outboundList(records, k, &s, id, limit)
			if err != nil {
				return nil, err
			}
			l.Folder, l.From, l.To = k.Name, self, name
			reply.Lists = append(reply.Lists, l)
		}
	}
	for _, id := range k.partners().Upstreams {
		if name := memberName(d, id); wants(name, self) {
			l := m.inboundList(ctx, records, k, &s, id, limit)
			l.Folder, l.From, l.To = k.Name, name, self
			reply.Lists = append(reply.Lists, l)
		}
	}
	return reply, nil
}

// outboundList lists what a downstream partner lacks, as it last said itself.
func (m *member) outboundList(records *store.Folder, k *keeper, s *engine.Status, id repl.MemberID, limit int) (*controlpb.BacklogList, error) {
	v, ok := s.Partners[id]
	if !ok {
		return &controlpb.BacklogList{Total: &controlpb.Backlog{}, Problem: "it has not said yet what it has"}, nil
	}
	lacks := s.Vector.Minus(v)
	n, bytes, err := m.counts.count(heardKey{id, k.Folder}, records, lacks)
	if err != nil {
		return nil, err
	}
	l := &controlpb.BacklogList{Known: true, Total: &controlpb.Backlog{Updates: int64(n), Bytes: bytes}}
	after := version.GVSN{}
	for more := len(lacks) > 0; more && len(l.Updates) < limit; {
		var page []repl.Update
		page, after, more, err = records.Updates(lacks, after, min(listPage, limit-len(l.Updates)))
		if err != nil {
			return nil, err
		}
		for i := range page {
			l.Updates = append(l.Updates, updateLine(records, &page[i], nil))
		}
	}
	return l, nil
}

// inboundList lists what this member lacks of an upstream partner, by asking
// it.
func (m *member) inboundList(ctx context.Context, records *store.Folder, k *keeper, s *engine.Status, id repl.MemberID, limit int) *controlpb.BacklogList {
	link := s.Links[id]
	l := &controlpb.BacklogList{Known: len(link.Known) > 0, Total: inbound(link.Known.Minus(s.Vector))}
	session := m.session(id)
	if session == nil {
		l.Problem = "it cannot be reached; this is what was known last"
		return l
	}
	total := &controlpb.Backlog{}
	parents := make(map[repl.UID]*repl.Update)
	req := wire.DiffRequest{Folder: k.Folder, Vector: s.Vector, Limit: listPage, Phase: s.Phase}
	for {
		page, err := session.Diff(ctx, &req)
		if err != nil {
			l.Problem = "it could not be asked: " + err.Error()
			return l
		}
		if page.Phase != wire.PhaseNormal {
			l.Problem = fmt.Sprintf("it is not Normal itself (%v) and sends nothing yet", page.Phase)
			return l
		}
		for i := range page.Updates {
			u := &page.Updates[i]
			total.Updates++
			if u.Present && u.Type == repl.File {
				total.Bytes += u.Size
			}
			if u.Type == repl.Directory {
				parents[u.UID] = u
			}
			if len(l.Updates) < limit {
				line := updateLine(records, u, parents)
				line.Reason = m.whyNot(k, s, &link, id, u)
				l.Updates = append(l.Updates, line)
			}
		}
		if !page.More {
			l.Known, l.Total = true, total
			return l
		}
		if total.Updates >= maxCounted {
			l.Problem = "more than could be counted; the bytes are of the first " + thousands(total.Updates)
			l.Total.Bytes = total.Bytes
			return l
		}
		req.After, req.Snapshot = page.Cursor, page.Snapshot
	}
}

// whyNot says what an update that is known of waits for.
func (m *member) whyNot(k *keeper, s *engine.Status, link *engine.LinkStatus, id repl.MemberID, u *repl.Update) string {
	for _, f := range m.find.of(k.Name) {
		if f.Object == k.Name+":"+u.Name || strings.HasSuffix(f.Object, "/"+u.Name) {
			return string(f.Code) + ": " + f.Text
		}
	}
	switch {
	case s.Stopped != "":
		return "the folder is stopped: " + s.Stopped
	case m.windows.closedText(k.Folder, id) != "":
		return "the connection is " + m.windows.closedText(k.Folder, id)
	case link.Held.Contains(u.GVSN):
		for _, code := range []finding.Code{finding.DiskFull, finding.QuotaExceeded, finding.ReadOnlyFilesystem, finding.FreeSpaceReserve, finding.ParkedUpdate} {
			for _, f := range m.find.of(k.Name) {
				if f.Code == code {
					return string(code) + ": " + f.Text
				}
			}
		}
		return "could not be installed yet; it is tried again"
	case s.InFlight > 0:
		return "being fetched or installed, or next in line"
	}
	return "asked for"
}

// updateLine is one update in a list. Its path is known if its parent is on
// record here, or among the updates that came before.
func updateLine(records *store.Folder, u *repl.Update, parents map[repl.UID]*repl.Update) *controlpb.UpdateLine {
	return &controlpb.UpdateLine{
		Path: updatePath(records, u, parents), Kind: u.Type.String(), Deleted: !u.Present, Size: u.Size,
		Uid: u.UID.String(), Gvsn: u.GVSN.String(), Time: replTime(u.Clock),
	}
}

// maxAbove bounds how many directories on their way a path is made of.
const maxAbove = 64

func updatePath(records *store.Folder, u *repl.Update, parents map[repl.UID]*repl.Update) string {
	path := u.Name
	for range maxAbove {
		if u.Parent.IsZero() {
			return orDot(path)
		}
		above, err := records.Path(u.Parent)
		if err == nil {
			if above == "." {
				return path
			}
			return above + "/" + path
		}
		next, ok := parents[u.Parent]
		if !ok {
			break
		}
		path = next.Name + "/" + path
		u = next
	}
	return "…/" + path
}

func orDot(path string) string {
	if path == "" {
		return "."
	}
	return path
}

// Queue is that of control.Member.
func (m *member) Queue(ctx context.Context, req *controlpb.QueueRequest) (*controlpb.QueueReply, error) {
	if req.Direction != "inbound" && req.Direction != "outbound" {
		return nil, &control.Problem{Err: fmt.Errorf("queue %q: it is inbound or outbound", req.Direction), Usage: true}
	}
	reply := &controlpb.QueueReply{}
	d := m.domain().Domain
	limit := listLimit(req.Limit)
	for _, k := range m.folders.all() {
		r, records, err := k.running()
		if err != nil {
			reply.Totals = append(reply.Totals, &controlpb.QueueTotal{Folder: k.Name, Server: "every partner", Total: &controlpb.Backlog{}, Problem: err.Error()})
			continue
		}
		s, err := r.Status(ctx)
		if err != nil {
			return nil, err
		}
		partners := k.partners().Upstreams
		if req.Direction == "outbound" {
			partners = k.partners().Downstreams
		}
		for _, id := range partners {
			var l *controlpb.BacklogList
			if req.Direction == "inbound" {
				l = m.inboundList(ctx, records, k, &s, id, limit)
			} else if l, err = m.outboundList(records, k, &s, id, limit); err != nil {
				return nil, err
			}
			server := memberName(d, id)
			reply.Totals = append(reply.Totals, &controlpb.QueueTotal{Folder: k.Name, Server: server, Total: l.Total, Known: l.Known, Problem: l.Problem})
			for _, u := range l.Updates {
				u.Folder, u.Server = k.Name, server
				reply.Updates = append(reply.Updates, u)
			}
		}
	}
	return reply, nil
}
