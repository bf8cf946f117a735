package main

import (
	"context"

	"opendfs/internal/directory"
	"opendfs/internal/pki"
)

// joinerKey is under which the context of a join holds who joins.
type joinerKey struct{}

func joiner(ctx context.Context, who pki.Subject) context.Context {
	return context.WithValue(ctx, joinerKey{}, who)
}

// record puts an event into the audit log, by whoever asks in this context unless
// it names somebody. That it could not be written is logged: what was done is
// done.
func (a *admin) record(ctx context.Context, e event) {
	if err := a.audit.note(a.signedEvent(ctx, e)); err != nil {
		a.log.Error("what was done is not in the audit log", "what", e.What, "object", e.Object, "err", err)
	}
}

// signedEvent says who asks.
func (a *admin) signedEvent(ctx context.Context, e event) event {
	if e.Who != "" {
		return e
	}
	if s, ok := ctx.Value(joinerKey{}).(pki.Subject); ok {
		e.Who, e.From = s.Kind.String()+":"+s.Name, "invitation"
		return e
	}
	u, err := a.asker(ctx)
	if err != nil { // revoked while it asked
		e.Who, e.From = "unknown", err.Error()
		return e
	}
	e.Who, e.From = u.name, u.from
	return e
}

// update is that of the directory's store, with its line in the audit log.
func (a *admin) update(ctx context.Context, what string, base uint64, next *directory.Document) (*directory.Document, error) {
	return a.updateAs(ctx, event{What: what}, base, next)
}

// updateAs does so with what else is known of the event.
func (a *admin) updateAs(ctx context.Context, e event, base uint64, next *directory.Document) (*directory.Document, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	doc, err := a.dir.Update(ctx, base, next)
	if err == nil {
		a.noteLocked(ctx, e, doc.Domain)
	}
	return doc, err
}

// refreshOwn takes an edit of the state directory's own domain.yaml.
func (a *admin) refreshOwn(ctx context.Context, e event) (changed bool, err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	if changed, err = a.dir.Refresh(); changed {
		a.noteLocked(ctx, e, a.domain().Domain)
	}
	return changed, err
}

// take takes a copy that another server brought.
func (a *admin) take(ctx context.Context, copied []byte) (changed bool, err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	if changed, err = a.dir.Accept(copied); changed {
		d := a.domain().Domain
		master, _ := a.dir.Master()
		e := event{Who: "server:" + master.String(), From: "a partner's copy", What: "follow"}
		if s := d.Server(master); s != nil {
			e.Who = "server:" + s.Name
		}
		a.noteLocked(ctx, e, d)
	}
	return changed, err
}

// noteLocked puts a change of the domain into the audit log: what is now against
// what the log knows of.
func (a *admin) noteLocked(ctx context.Context, e event, now *directory.Domain) {
	e.Object, e.Term, e.Generation = "domain "+now.Name, now.Term, now.Generation
	e.Edits = editsOf(a.noted, now)
	a.noted = now
	a.record(ctx, e)
}

// noteOpened notes what has changed since the log was last written: an edit of
// domain.yaml while nothing ran, or a change that a crash cut off from its line.
// before is the domain of the copy that was there, nil if that is not known.
func (a *admin) noteOpened(before *directory.Document) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	now := a.domain().Domain
	if a.noted = now; before == nil {
		before = a.domain()
	}
	first := a.audit.last.Generation == 0
	if !first && before.Domain.Newer(a.audit.last) {
		e := event{
			Who: "unknown", From: "this server", What: "unrecorded", Object: "domain " + now.Name, Term: before.Domain.Term, Generation: before.Domain.Generation,
			Error: "the member ended before this change was recorded",
		}
		if err := a.audit.note(e); err != nil {
			return err
		}
	}
	if first || now.Newer(before.Domain) {
		e := event{Who: "unknown", From: "domain.yaml, edited by hand", What: "edit"}
		a.noted = before.Domain
		if first {
			e, a.noted = event{What: "begin"}, nil
		}
		a.noteLocked(context.Background(), e, now)
	}
	return nil
}
