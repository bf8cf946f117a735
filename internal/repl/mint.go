package repl

import "opendfs/internal/version"

// Mint is the only way to a GVSN: it returns draft as update g, greater than
// what it replaces (rule 6). prior is this member's record of the UID, nil for
// a new object, whose UID then becomes g. also lists further versions of the
// UID that the author has seen besides prior, as a resolver has.
//
// The draft gives parent, name, type, presence, heir, size, mtime, content,
// target, metadata and, if it is to be raised, the fence; everything else is
// set here. A nameConflict tombstone must never be prior of a live draft: that
// is a broken invariant and panics.
func Mint(g version.GVSN, now Time, prior *Update, draft Update, also ...*Update) Update {
	u := draft
	u.GVSN = g
	if prior == nil {
		u.UID = UID(g)
		u.CreateTime, u.Clock, u.History = now, now, nil
		if u.Fence == Unfenced {
			u.Fence = FenceDefault
		}
		return u
	}
	if prior.NameConflict && u.Present {
		panic("repl: mint a live update of " + prior.UID.String() + ", which lost its name for ever")
	}
	if prior.Type != u.Type {
		panic("repl: mint another type of " + prior.UID.String())
	}
	u.UID = prior.UID
	u.CreateTime = prior.CreateTime
	u.Fence = max(u.Fence, prior.Fence, FenceDefault)
	u.NameConflict = u.NameConflict || prior.NameConflict
	u.Clock = max(now, prior.Clock+1)
	u.History = prior.History.With(prior.GVSN)
	for _, seen := range also {
		u.Fence = max(u.Fence, seen.Fence)
		u.Clock = max(u.Clock, seen.Clock+1)
		u.History = u.History.With(seen.GVSN).With(seen.History...)
	}
	return u
}

// Touch is Mint for an update that changes nothing but the mtime of a live object:
// author and receivers make the same one of the same prior. Its clock is the next, not
// the time of day: an mtime alone is no later than what others did unseen.
func Touch(g version.GVSN, prior *Update, mtime Time) Update {
	draft := *prior
	draft.Mtime = mtime
	return Mint(g, 0, prior, draft)
}
