package main

import (
	"context"
	"errors"
	"fmt"

	"opendfs/internal/directory"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// evictor is engine.Directory for one folder: each change is one compare-and-swap
// in the directory, whatever that lives in. Where this server only has a copy
// nothing is done: the master's own engine does it.
type evictor struct {
	admin  *admin
	folder directory.UUID
}

// Evict is that of engine.Directory.
func (e evictor) Evict(ctx context.Context, member repl.MemberID, database version.Originator) error {
	return e.change(ctx, "evict member", member, func(m, own *directory.Membership) bool {
		if !m.Evicted.IsZero() || own != nil && !own.Evicted.IsZero() {
			return false
		}
		m.Evicted = directory.UUID(database)
		return true
	})
}

// Readmit is that of engine.Directory.
func (e evictor) Readmit(ctx context.Context, member repl.MemberID, database version.Originator) error {
	return e.change(ctx, "readmit member", member, func(m, _ *directory.Membership) bool {
		if m.Evicted != directory.UUID(database) {
			return false
		}
		m.Evicted = directory.UUID{}
		return true
	})
}

// change makes one change of a member; own is what this server is in the folder, nil if
// it is none of its members.
func (e evictor) change(ctx context.Context, what string, member repl.MemberID, edit func(m, own *directory.Membership) bool) error {
	doc, err := e.admin.dir.Load(ctx)
	if err != nil {
		return err
	}
	d := doc.Domain.Clone()
	s := d.Server(directory.UUID(member))
	g, f := d.Folder(e.folder)
	if s == nil || f == nil {
		return nil
	}
	m := f.Member(s.Name)
	var own *directory.Membership
	if self := d.Server(e.admin.self()); self != nil {
		own = f.Member(self.Name)
	}
	if m == nil || !edit(m, own) {
		return nil
	}
	next, err := doc.With(d)
	if err != nil {
		return err
	}
	object := g.Name + "/" + f.Name + "@" + s.Name
	_, err = e.admin.updateAs(ctx, event{Who: "opendfs", From: "this server", What: what, Object: object}, d.Generation, next)
	var copied *directory.NotMasterError
	var away *directory.AwayError
	if errors.As(err, &copied) || errors.As(err, &away) && !away.Here {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, object, err)
	}
	return nil
}
