package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"
	"opendfs/internal/repl"
)

// Promote makes this server the master of the domain file. reached says whether
// the present master can be reached; nil: nobody knows.
func (a *admin) promote(ctx context.Context, req *controlpb.PromoteRequest, reached func(directory.UUID) bool) (*controlpb.PromoteReply, error) {
	if err := a.mayAdminister(ctx, "promote this server", ""); err != nil {
		return nil, err
	}
	before, here := a.dir.Master()
	d := a.domain().Domain
	name := serverName(d, before)
	switch {
	case here:
		return nil, control.Hint(fmt.Errorf("promote this server: it is the master already"), "nothing need be done")
	case a.ca.Load() == nil:
		return nil, control.Hint(fmt.Errorf("promote this server: it does not hold the domain's CA, by whose key the domain is signed"),
			"bring the key here from the file that `dfs ca export` made on "+name+": dfs ca import FILE")
	case reached != nil && reached(before) && !req.Force:
		return nil, control.Hint(fmt.Errorf("promote this server: the master, %s, is connected", name),
			"change the domain there; to hand it over all the same: dfs directory promote --force")
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	if err := a.dir.Promote(); err != nil {
		return nil, err
	}
	now := a.domain().Domain
	a.noteLocked(ctx, event{What: "promote"}, now)
	a.log.Info("this server is the master now", "term", now.Term, "generation", now.Generation, "before", name)
	return &controlpb.PromoteReply{Term: now.Term, Generation: now.Generation, Before: name}, nil
}

// Promote is that of control.Member.
func (m *member) Promote(ctx context.Context, req *controlpb.PromoteRequest) (*controlpb.PromoteReply, error) {
	return m.promote(ctx, req, func(id directory.UUID) bool { return m.session(repl.MemberID(id)) != nil })
}

// Promote is that of a running member, without knowledge of the master.
func (o offline) Promote(ctx context.Context, req *controlpb.PromoteRequest) (*controlpb.PromoteReply, error) {
	a, err := openAdmin(o.state, quiet)
	if err != nil {
		return nil, err
	}
	return a.promote(ctx, req, nil)
}

// CaExport is that of control.Member.
func (a *admin) CaExport(ctx context.Context, req *controlpb.CaExportRequest) (*controlpb.CaExportReply, error) {
	if err := a.mayAdminister(ctx, "export the CA", ""); err != nil {
		return nil, err
	}
	ca := a.ca.Load()
	if ca == nil {
		master, _ := a.dir.Master()
		return nil, control.Hint(errors.New("export the CA: this server does not hold it"), "run it on "+serverName(a.domain().Domain, master))
	}
	text, err := ca.Export(req.Passphrase)
	if err != nil {
		return nil, &control.Problem{Err: err, Usage: true}
	}
	a.record(ctx, event{What: "ca export", Object: "domain " + a.domain().Domain.Name})
	return &controlpb.CaExportReply{Text: text}, nil
}

// CaExport is that of a running member.
func (o offline) CaExport(ctx context.Context, req *controlpb.CaExportRequest) (*controlpb.CaExportReply, error) {
	a, err := openAdmin(o.state, quiet)
	if err != nil {
		return nil, err
	}
	return a.CaExport(ctx, req)
}

// CaImport is that of control.Member.
func (a *admin) CaImport(ctx context.Context, req *controlpb.CaImportRequest) (*controlpb.CaImportReply, error) {
	if err := a.mayAdminister(ctx, "import the CA", ""); err != nil {
		return nil, err
	}
	if a.ca.Load() != nil {
		return nil, control.Hint(errors.New("import the CA: this server holds it already"), "nothing need be done")
	}
	ca, err := a.id.ImportAuthority(req.Text, req.Passphrase)
	if err != nil {
		return nil, err
	}
	a.dir.UseSigner(ca.Signer())
	a.ca.Store(ca)
	name := a.domain().Domain.Name
	a.record(ctx, event{What: "ca import", Object: "domain " + name})
	a.log.Info("this server holds the domain's CA now")
	return &controlpb.CaImportReply{Domain: name}, nil
}

// CaImport is that of a running member.
func (o offline) CaImport(ctx context.Context, req *controlpb.CaImportRequest) (*controlpb.CaImportReply, error) {
	a, err := openAdmin(o.state, quiet)
	if err != nil {
		return nil, err
	}
	return a.CaImport(ctx, req)
}

// The bounds of a list of events.
const (
	defaultEvents = 100
	maxEvents     = 10000
)

// Events is that of control.Member.
func (a *admin) Events(_ context.Context, req *controlpb.EventsRequest) (*controlpb.EventsReply, error) {
	var since time.Time
	if req.Since != "" {
		var err error
		if since, err = time.Parse(time.RFC3339, req.Since); err != nil {
			return nil, &control.Problem{Err: fmt.Errorf("events since %q: it is no time as 2026-05-01T12:00:00Z", req.Since), Usage: true}
		}
	}
	limit := req.Limit
	if limit <= 0 {
		limit = defaultEvents
	}
	list, err := a.audit.events(since, int(min(limit, maxEvents)))
	if err != nil {
		return nil, err
	}
	reply := &controlpb.EventsReply{}
	for _, e := range list {
		p := &controlpb.Event{
			Number: e.Number, Time: e.Time.Format(time.RFC3339Nano), Who: e.Who, From: e.From, What: e.What, Object: e.Object, Generation: e.Generation, Error: e.Error,
		}
		for _, d := range e.Edits {
			p.Edits = append(p.Edits, &controlpb.Edit{Op: d.Op, Object: d.Object, Property: d.Property, Before: d.Before, After: d.After})
		}
		reply.Events = append(reply.Events, p)
	}
	return reply, nil
}

// Events is that of a running member; what was changed by hand meanwhile is left
// to the next one that opens the domain.
func (o offline) Events(ctx context.Context, req *controlpb.EventsRequest) (*controlpb.EventsReply, error) {
	trail, err := openAudit(o.state.file(auditName))
	if err != nil {
		return nil, err
	}
	return (&admin{audit: trail}).Events(ctx, req)
}
