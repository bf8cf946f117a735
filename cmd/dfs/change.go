package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"
	"opendfs/internal/pki"
)

// Apply makes a document the domain, or says what that would change.
func (a *admin) Apply(ctx context.Context, req *controlpb.ApplyRequest) (*controlpb.ApplyReply, error) {
	if err := a.mayChange(); err != nil {
		return nil, err
	}
	now := a.domain()
	reply, next, err := planChange(a.state, now, req)
	if err == nil {
		err = errors.Join(a.mayMake(ctx, now.Domain, next.Domain), a.staysIn(now.Domain, next.Domain))
	}
	if err == nil && a.refuses != nil {
		var warnings []string
		warnings, err = a.refuses(now.Domain, next.Domain)
		reply.Warnings = append(reply.Warnings, warnings...)
	}
	if err != nil {
		return nil, err
	}
	if req.DryRun {
		return reply, nil
	}
	stored := now
	switch {
	case isOwn(a.state, req):
		if _, err = a.refreshOwn(ctx, event{What: "apply"}); err == nil {
			stored = a.domain()
		}
	case len(reply.Changes) > 0 || a.dir.Refused() != nil:
		stored, err = a.update(ctx, "apply", now.Domain.Generation, next)
	}
	if err != nil {
		return nil, control.Hint(err, "nothing was changed")
	}
	reply.Generation, reply.Document = stored.Domain.Generation, stored.Text()
	for _, c := range reply.Changes {
		a.log.Info("domain changed", "change", c, "generation", reply.Generation)
	}
	return reply, nil
}

// staysIn refuses a change by which the server that makes it would shut itself out:
// nobody could take that back there, and its partners would not hear of it.
func (a *admin) staysIn(now, next *directory.Domain) error {
	self := now.Server(a.self())
	if self == nil || next.Server(self.ID) != nil {
		return nil
	}
	return control.Hint(fmt.Errorf("server %s would shut itself out, where the domain is changed", self.Name),
		"make another server the place of the domain first (`dfs ca import` and `dfs directory promote` on it), and say it there; nothing was changed")
}

// planChange checks a document against the domain as it is now and says what it
// changes. Nothing is changed.
func planChange(state *stateDir, now *directory.Document, req *controlpb.ApplyRequest) (*controlpb.ApplyReply, *directory.Document, error) {
	doc, err := directory.Read(req.Document, string(req.Filename))
	if err != nil {
		return nil, nil, control.Hint(err, "nothing was changed")
	}
	base := now.Domain.Generation
	if g := doc.Domain.Generation; g != 0 && g != base {
		return nil, nil, control.Hint(fmt.Errorf("%s was made from generation %d, the domain is at generation %d by now", req.Filename, g, base),
			fmt.Sprintf("repeat the change in %s, which is the present domain, and apply that", state.file("domain.yaml")))
	}
	if id := doc.Domain.ID; !id.IsZero() && id != now.Domain.ID {
		return nil, nil, control.Hint(fmt.Errorf("%s is of another domain (id %v, this one is %v)", req.Filename, id, now.Domain.ID), "apply it on that domain's master, or remove the id at its top")
	}
	next, err := doc.Complete(now.Domain, rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	reply := &controlpb.ApplyReply{Generation: base, Document: doc.Text()}
	for _, w := range doc.Warnings {
		reply.Warnings = append(reply.Warnings, w.String())
	}
	for _, c := range directory.Diff(now.Domain, next.Domain) {
		reply.Changes = append(reply.Changes, c.String())
	}
	return reply, next, nil
}

// isOwn reports whether what is applied is the state directory's own domain.yaml,
// as it is there. The path alone does not tell: it may be one of the computer that
// asks.
func isOwn(state *stateDir, req *controlpb.ApplyRequest) bool {
	if len(req.Path) == 0 {
		return false
	}
	st, err1 := os.Stat(string(req.Path))
	own, err2 := os.Stat(state.file("domain.yaml"))
	if err1 != nil || err2 != nil || !os.SameFile(st, own) {
		return false
	}
	text, err := os.ReadFile(state.file("domain.yaml"))
	return err == nil && bytes.Equal(text, req.Document)
}

// offline is what can be asked of a member that does not run. The state
// directory is held.
type offline struct{ state *stateDir }

var quiet = slog.New(slog.DiscardHandler)

// Apply is that of a running member. To open the domain is to take what was
// edited in its own file; so what that changes is found out before.
func (o offline) Apply(ctx context.Context, req *controlpb.ApplyRequest) (*controlpb.ApplyReply, error) {
	now, err := o.signedDomain()
	if err != nil {
		return nil, err
	}
	reply, _, err := planChange(o.state, now, req)
	if err != nil || req.DryRun {
		return reply, err
	}
	own := isOwn(o.state, req)
	a, err := openAdmin(o.state, quiet)
	if err != nil {
		return nil, err
	}
	if !own {
		return a.Apply(ctx, req)
	}
	if err := a.dir.Refused(); err != nil {
		return nil, control.Hint(err, "nothing was changed")
	}
	stored := a.domain()
	reply.Generation, reply.Document = stored.Domain.Generation, stored.Text()
	return reply, nil
}

// signedDomain reads the domain that was published last, on its master.
func (o offline) signedDomain() (*directory.Document, error) {
	id, err := pki.Load(o.state.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noDomain(o.state.path)
	}
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(o.state.file("domain.copy"))
	if err != nil {
		return nil, fmt.Errorf("read the domain: %w", err)
	}
	s, err := directory.DecodeSigned(b)
	if err != nil {
		return nil, err
	}
	doc, err := s.Open(id.CA().PublicKey)
	if err == nil && s.Signer != directory.UUID(id.Member()) {
		err = notMaster(doc.Domain, s.Signer)
	}
	return doc, err
}

// Invite is that of a running member.
func (o offline) Invite(ctx context.Context, req *controlpb.InviteRequest) (*controlpb.InviteReply, error) {
	a, err := openAdmin(o.state, quiet)
	if err != nil {
		return nil, err
	}
	return a.Invite(ctx, req)
}

// Domain is that of control.Member.
func (a *admin) Domain(context.Context, *controlpb.DomainRequest) (*controlpb.DomainReply, error) {
	_, here := a.dir.Master()
	return &controlpb.DomainReply{Document: a.domain().Text(), Master: here, Signed: a.dir.Signed()}, nil
}

// Domain is that of a running member. A copy will do to look at.
func (o offline) Domain(context.Context, *controlpb.DomainRequest) (*controlpb.DomainReply, error) {
	doc, err := o.signedDomain()
	if err != nil {
		return nil, err
	}
	return &controlpb.DomainReply{Document: doc.Text(), Master: true}, nil
}
