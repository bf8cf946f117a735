package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"
	"opendfs/internal/engine"
	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/volume"
)

// maxKeptListed bounds the objects that one answer names.
const maxKeptListed = 1000

// kept is the conflict store of one running folder, and what was chosen of it.
type kept struct {
	m       *member
	k       *keeper
	r       *engine.Runner
	records *store.Folder
	sel     preserve.Selection
}

// kept finds the folder of a selection and reads the rest of it.
func (m *member) kept(q *controlpb.KeptSelection) (*kept, error) {
	k, err := m.folders.named(q.GetFolder())
	if err != nil {
		return nil, &control.Problem{Err: err, Usage: true}
	}
	c := &kept{m: m, k: k}
	if c.r, c.records, err = k.running(); err != nil {
		return nil, err
	}
	var known *control.Problem
	if c.sel, err = c.selection(q); err != nil && !errors.As(err, &known) {
		err = &control.Problem{Err: err, Usage: true}
	}
	return c, err
}

func (c *kept) selection(q *controlpb.KeptSelection) (sel preserve.Selection, err error) {
	for _, b := range q.Paths {
		path := string(b)
		if !filepath.IsAbs(path) {
			path = c.k.Name + ":" + path
		}
		p, err := c.m.folders.locate(path)
		if err != nil {
			return sel, err
		}
		if p.k != c.k {
			return sel, fmt.Errorf("path %q lies in %s, not in %s", b, p.k.Name, c.k.Name)
		}
		sel.Paths = append(sel.Paths, p.rel)
	}
	for _, t := range []struct {
		to   *repl.Time
		text string
	}{{&sel.Since, q.Since}, {&sel.Before, q.Before}} {
		if t.text == "" {
			continue
		}
		at, ok := parseTime(t.text)
		if !ok {
			return sel, fmt.Errorf("time %q is not RFC 3339", t.text)
		}
		*t.to = repl.Time(at.UnixNano())
	}
	for _, why := range q.Why {
		if !slices.Contains(preserve.Reasons(), preserve.Why(why)) {
			return sel, fmt.Errorf("%q is no reason to keep something; the reasons are %s", why, reasonList())
		}
		sel.Why = append(sel.Why, preserve.Why(why))
	}
	return sel, nil
}

// choose calls fn for every kept object that was chosen.
func (c *kept) choose(ctx context.Context, s *preserve.Store, fn func(e *preserve.Entry) error) error {
	return s.List(func(e preserve.Entry) error {
		e.Meta = nil
		if ctx.Err() != nil || !c.sel.Match(&e) {
			return ctx.Err()
		}
		return fn(&e)
	})
}

// newestFirst orders kept objects.
func newestFirst(a, b preserve.Entry) int {
	return cmp.Or(cmp.Compare(b.At, a.At), cmp.Compare(b.Name, a.Name))
}

// PreservedList is that of control.Member.
func (m *member) PreservedList(ctx context.Context, q *controlpb.PreservedListRequest) (*controlpb.PreservedListReply, error) {
	c, err := m.kept(q.Selection)
	if err != nil {
		return nil, err
	}
	limit := maxKeptListed
	if q.Limit > 0 && q.Limit < maxKeptListed*maxKeptListed {
		limit = int(q.Limit)
	}
	reply := &controlpb.PreservedListReply{ConflictQuota: c.k.terms.Load().ConflictQuota}
	err = c.r.Kept(ctx, func(ctx context.Context, s *preserve.Store) error {
		u, err := s.Usage(ctx)
		if err != nil {
			return err
		}
		reply.ConflictBytes, reply.PreexistingBytes = u.Bytes, u.PreExistingBytes
		var all []preserve.Entry
		err = c.choose(ctx, s, func(e *preserve.Entry) error {
			size, err := s.Size(e)
			if err != nil {
				return ignoreGone(err)
			}
			e.Size = size
			reply.Count++
			reply.Bytes += size
			if all = append(all, *e); len(all) >= 2*limit {
				slices.SortFunc(all, newestFirst)
				all = all[:limit]
			}
			return nil
		})
		slices.SortFunc(all, newestFirst)
		for i := range all[:min(limit, len(all))] {
			reply.Objects = append(reply.Objects, c.report(&all[i]))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// ignoreGone takes it that somebody else has removed or restored an object.
func ignoreGone(err error) error {
	if errors.Is(err, volume.ErrNotExist) {
		return nil
	}
	return err
}

// report is an entry as the API gives it.
func (c *kept) report(e *preserve.Entry) *controlpb.Kept {
	r := &controlpb.Kept{
		Path: []byte(e.Path), KeptAt: replTime(e.At), Why: string(e.Why), Type: e.Type.String(), Size: e.Size, Mtime: replTime(e.Mtime),
		Place: []byte(".dfsr/" + string(e.Area) + "/" + e.Name), Homeless: e.Homeless(),
	}
	if !e.Record.UID.IsZero() {
		r.Uid, r.Gvsn, r.MadeBy = e.Record.UID.String(), e.Record.GVSN.String(), c.author(e.Record.GVSN)
	}
	if !e.Winner.IsZero() {
		r.Winner, r.WonBy = e.Winner.String(), c.author(e.Winner)
	}
	if e.Why != preserve.Deleted && e.Why != preserve.PreExisting {
		r.Promised = replTime(e.At + repl.Time(c.k.ConflictRetention))
	}
	return r
}

// author says who made a version: by name where there is one other member.
func (c *kept) author(g version.GVSN) string {
	who := madeBy(g.Originator, c.records)
	if who == "this server" {
		return c.m.id.Name()
	}
	var others []string
	if _, f := c.m.domain().Domain.Folder(directory.UUID(c.k.Folder)); f != nil {
		for _, m := range f.Members {
			if m.ID != directory.UUID(c.k.Membership) {
				others = append(others, m.Server)
			}
		}
	}
	if who == "another server" && len(others) == 1 {
		return others[0]
	}
	return who
}

// reasonList names the reasons for which something is kept.
func reasonList() string {
	var names []string
	for _, why := range preserve.Reasons() {
		names = append(names, string(why))
	}
	return strings.Join(names, ", ")
}

// PreservedPurge is that of control.Member.
func (m *member) PreservedPurge(ctx context.Context, q *controlpb.PreservedPurgeRequest) (*controlpb.PreservedPurgeReply, error) {
	c, err := m.kept(q.Selection)
	if err != nil {
		return nil, err
	}
	if err := m.mayAdminister(ctx, "purge "+c.k.Name, groupOf(c.k.Name)); err != nil {
		return nil, err
	}
	reply := &controlpb.PreservedPurgeReply{AsOf: timeText(time.Now())}
	err = c.r.Kept(ctx, func(ctx context.Context, s *preserve.Store) error {
		return c.choose(ctx, s, func(e *preserve.Entry) error {
			size, err := s.Size(e)
			if err == nil && !q.DryRun {
				err = s.Purge(ctx, *e)
			}
			if err != nil {
				return ignoreGone(err)
			}
			reply.Count++
			reply.Bytes += size
			return nil
		})
	})
	if !q.DryRun && reply.Count > 0 {
		e := event{What: "purge", Object: "folder " + c.k.Name, Error: errorText(err)}
		e.Edits = []auditEdit{{Op: "remove", Object: "kept objects", Before: fmt.Sprintf("%d objects, %d bytes", reply.Count, reply.Bytes)}}
		m.record(ctx, e)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; %d objects were purged before", err, reply.Count)
	}
	if !q.DryRun && reply.Count > 0 {
		m.log.Info("kept objects purged", "folder", c.k.Name, "objects", reply.Count, "bytes", reply.Bytes)
	}
	return reply, nil
}
