package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"opendfs/internal/install"
	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/volume"
)

// settler finishes or takes back the installs of one batch that a crash
// interrupted. What the tree shows done is committed, all of it at once; of a
// group everything must be, or what is done is put back as it was. A change of
// metadata alone is always finished: what was half set is nobody's.
type settler struct {
	env    *Env
	cfg    *Config
	area   volume.Dir // installing/
	put    store.Batch
	placed map[repl.UID]repl.Identity // directories that the batch made, took over or removed
}

// unsettled is one intent and what the tree tells of it.
type unsettled struct {
	store.Intent
	old  repl.Record // on record now
	had  bool
	rec  repl.Record // if it is done
	done bool
}

// settle settles every intent and empties `.dfsr/installing`.
func settle(ctx context.Context, cfg *Config, env *Env) error {
	intents, err := env.Store.Intents()
	if err != nil {
		return err
	}
	area, err := env.Volume.Private(volume.Installing)
	if err != nil {
		return err
	}
	s := &settler{env: env, cfg: cfg, area: area, placed: make(map[repl.UID]repl.Identity)}
	err = s.all(ctx, intents)
	if err == nil {
		err = s.leftOvers()
	}
	if err == nil && len(intents) > 0 {
		err = env.Volume.Sync()
	}
	return errors.Join(err, area.Close())
}

func (s *settler) all(ctx context.Context, intents []store.Intent) error {
	if len(intents) == 0 {
		return nil
	}
	for i := range intents {
		if in := &intents[i]; in.Update.Type == repl.Directory && !in.From.IsZero() && !in.Place.IsZero() {
			s.placed[in.UID] = in.Displaced
		}
	}
	slices.SortFunc(intents, func(a, b store.Intent) int { return cmp.Or(cmp.Compare(a.Seq, b.Seq), a.UID.Compare(b.UID)) })
	work := make([]unsettled, len(intents))
	for i := range intents {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.judge(&work[i], &intents[i]); err != nil {
			return fmt.Errorf("settle install of %q: %w", intents[i].Update.Name, err)
		}
	}
	if err := s.tie(work); err != nil {
		return err
	}
	for _, step := range []func(*unsettled) error{s.takeBack, s.unpark} { // parking came first
		for i := len(work) - 1; i >= 0; i-- {
			if u := &work[i]; !u.done {
				if err := step(u); err != nil {
					return fmt.Errorf("take back install of %q: %w", u.Update.Name, err)
				}
			}
		}
	}
	for i := range work {
		if u := &work[i]; u.done {
			if err := errors.Join(s.finish(u), s.carried(u)); err != nil {
				return fmt.Errorf("finish install of %q: %w", u.Update.Name, err)
			}
		}
	}
	// The tree may show what only the page cache has: durable before said.
	if err := s.env.Volume.Sync(); err != nil {
		return err
	}
	if err := s.commit(work); err != nil {
		return err
	}
	return s.directoryTimes(work)
}

// directoryTimes gives the directories in which installs were interrupted the
// mtimes of their records: what an install leaves there is no user's change.
func (s *settler) directoryTimes(work []unsettled) error {
	done := make(map[repl.UID]bool)
	for i := range work {
		for _, p := range []repl.Place{work[i].From, work[i].Place} {
			if p.IsZero() || done[p.Dir] {
				continue
			}
			done[p.Dir] = true
			if err := s.directoryTime(p); err != nil {
				return fmt.Errorf("give directory of %q its time back: %w", p.Name, err)
			}
		}
	}
	return nil
}

func (s *settler) directoryTime(p repl.Place) error {
	uid, err := s.env.Store.Canonical(p.Dir)
	if err != nil {
		return err
	}
	rec, ok, err := s.env.Store.Get(uid)
	if err != nil || !ok || !rec.Present {
		return err
	}
	d, err := openPlace(s.env, p)
	if err != nil {
		return ignoreMissing(err)
	}
	return errors.Join(d.SetMtime(rec.Mtime), d.Close())
}

// judge says whether the tree holds the outcome of an intent.
func (s *settler) judge(u *unsettled, in *store.Intent) (err error) {
	u.Intent = *in
	if u.Temp == "" {
		u.Temp = install.TempName(&in.Update)
	}
	if u.old, u.had, err = s.env.Store.Get(in.UID); err != nil {
		return err
	}
	u.rec = repl.Record{Update: in.Update, Presence: repl.OnDisk, Provisional: u.had && u.old.Provisional}
	switch {
	case in.Update.Parent.IsZero():
		u.rec.Identity, u.rec.Print, u.done = u.old.Identity, u.old.Print, true
		return nil
	case in.Place.IsZero():
		u.rec.Presence = away(&in.Update)
		if in.From.IsZero() { // a matter of records alone
			u.done = true
			if in.Update.Present {
				u.done, err = s.hidden(in)
			}
			return err
		}
		u.done, err = s.removed(in)
		return err
	}
	st, err := s.lookup(in.Place)
	if err != nil {
		return ignoreMissing(err)
	}
	// The walk that follows reads whatever a crash may have mixed up.
	u.rec.Identity, u.rec.Print, u.rec.Shown = st.Identity, st.Print, u.old.Shown
	u.rec.Print.Ctime = 0
	if u.done, err = s.arrived(in, &st); u.done && st.Type == repl.Directory {
		s.placed[in.UID] = st.Identity
	}
	return err
}

// hidden reports whether a record can be stored of which nothing is on this disk:
// its directory may not have been made, nor its place have been left. Else it is
// asked for again.
func (s *settler) hidden(in *store.Intent) (bool, error) {
	dir, err := s.env.Store.Canonical(in.Update.Parent)
	if err != nil {
		return false, err
	}
	up, known, err := s.env.Store.Get(dir)
	if err != nil || !known || !up.Present {
		return false, err
	}
	there, taken, err := s.env.Store.At(dir, in.Update.Name)
	return !taken || there.UID == in.UID, err
}

// removed reports whether an object was taken out of the tree; a user may have
// moved it instead.
func (s *settler) removed(in *store.Intent) (bool, error) {
	st, err := s.lookup(in.From)
	if err == nil && st.Identity == in.Displaced || ignoreMissing(err) != nil {
		return false, ignoreMissing(err)
	}
	_, err = s.env.Volume.Resolve(in.Displaced)
	return err != nil, nil // it lies nowhere in the tree, or nobody can tell
}

// arrived reports whether what lies at an intent's place is what it shall be.
func (s *settler) arrived(in *store.Intent, st *volume.Stat) (bool, error) {
	switch {
	case st.Type != in.Update.Type:
		return false, nil
	case !in.Identity.IsZero():
		return st.Identity == in.Identity && st.Print.SameData(in.Print), nil
	case in.From.IsZero() && st.Type == repl.Directory:
		return s.nobodys(in.UID, st.Identity)
	case in.From.IsZero(), in.Verdict == repl.VerdictEdit && st.Type == repl.Symlink:
		return s.leadsTo(in)
	}
	return st.Identity == in.Displaced, nil
}

// nobodys reports whether a directory may be one that an intent was to make: it has
// no record, and is none that another intent made and a user has moved since.
func (s *settler) nobodys(uid repl.UID, id repl.Identity) (bool, error) {
	for other, made := range s.placed {
		if other != uid && made == id {
			return false, nil
		}
	}
	known, err := s.env.Store.ByHandle(id.Handle)
	return len(known) == 0, err
}

// leadsTo reports whether the link at an intent's place is the one to be.
func (s *settler) leadsTo(in *store.Intent) (bool, error) {
	d, err := s.open(in.Place)
	if err != nil {
		return false, ignoreMissing(err)
	}
	target, err := d.ReadLink(in.Place.Name)
	return err == nil && target == in.Update.Target, d.Close() // unreadable: a user has replaced it
}

// tie lets a group be done only as a whole, nothing be done in a directory that
// was to be made, or to come to be by taking another one over, and is taken back,
// and no directory be removed in which something stays.
func (s *settler) tie(work []unsettled) error {
	for again := true; again; {
		again = false
		broken := make(map[uint64]bool)
		unmade, done := make(map[repl.UID]bool), make(map[repl.UID]bool)
		for i := range work {
			if u := &work[i]; u.done {
				done[u.UID] = true
			} else {
				broken[u.Group] = u.Group != 0
				stands := u.had && u.old.Presence == repl.OnDisk && !u.From.IsZero()
				unmade[u.UID] = u.Update.Type == repl.Directory && !stands
			}
		}
		for i := range work {
			u := &work[i]
			if !u.done {
				continue
			}
			full, err := s.full(u, done)
			if err != nil {
				return err
			}
			if broken[u.Group] || unmade[u.Place.Dir] || full {
				u.done, again = false, true
			}
		}
	}
	return nil
}

// full reports whether something lives on in a directory that is to die.
func (s *settler) full(u *unsettled, done map[repl.UID]bool) (full bool, err error) {
	if u.Update.Type != repl.Directory || u.Update.Present && !u.Drop || !u.Update.Heir.IsZero() {
		return false, nil
	}
	err = s.env.Store.Children(u.UID, "", func(rec *repl.Record) bool {
		full = !done[rec.UID]
		return !full
	})
	return full, err
}

// finish completes what a done install left behind: metadata that were set in
// part, and what it displaced.
func (s *settler) finish(u *unsettled) error {
	if u.Update.Parent.IsZero() {
		return s.mendRoot(u)
	}
	if !u.Place.IsZero() && u.Identity.IsZero() {
		if err := s.mend(u); err != nil {
			return err
		}
	}
	st, err := s.area.Lookup(u.Temp)
	if err != nil || st.Identity != u.Displaced {
		return ignoreMissing(err)
	}
	if u.Keep == repl.KeepNothing && st.Type != repl.Directory && st.Print.SameData(u.DisplacedPrint) {
		return s.area.Remove(u.Temp)
	}
	change := repl.Change{Update: u.Update, Keep: u.Keep}
	known, err := s.env.Store.ByHandle(u.Displaced.Handle)
	if err != nil {
		return err
	}
	if len(known) > 0 {
		change.Object = known[0]
	}
	_, err = s.env.keep(s.cfg, s.area, u.Temp, &change)
	return err
}

// mend gives an object the metadata that it shall have, if those it has are the
// old ones, the new ones or a mixture. A user's are left to be captured.
func (s *settler) mend(u *unsettled) error {
	d, err := s.open(u.Place)
	if err != nil {
		return ignoreMissing(err)
	}
	st, err := d.Lookup(u.Place.Name)
	var meta []byte
	if err == nil {
		meta, err = d.Meta(u.Place.Name)
	}
	made := st.Type != repl.File && st.Identity != u.Displaced // files come with theirs
	ours := made || (st.Print.Mtime == u.DisplacedPrint.Mtime || st.Print.Mtime == u.Update.Mtime) &&
		(bytes.Equal(meta, u.old.Meta) || bytes.Equal(meta, u.Update.Meta))
	if err == nil && ours && (!bytes.Equal(meta, u.Update.Meta) || st.Print.Mtime != u.Update.Mtime) {
		st, _, err = d.SetMeta(u.Place.Name, nil, u.Update.Meta, u.Update.Mtime)
	}
	if err == nil {
		u.rec.Print = st.Print
		u.rec.Print.Mtime, u.rec.Print.Ctime = u.Update.Mtime, 0
	}
	return errors.Join(ignoreMissing(err), d.Close())
}

// mendRoot gives the root the metadata that it shall have, if it still has the
// old ones: half set ones are told from a user's by nothing, and become an update.
func (s *settler) mendRoot(u *unsettled) error {
	if len(u.Update.Meta) == 0 {
		return nil
	}
	d, err := s.env.Volume.Root()
	if err != nil {
		return err
	}
	meta, err := d.OwnMeta()
	if err == nil && (!u.had || len(u.old.Meta) == 0 || bytes.Equal(meta, u.old.Meta)) {
		_, err = d.SetOwnMeta(u.Update.Meta, u.Update.Mtime)
	}
	return errors.Join(err, d.Close())
}

// commit stores what is done. A record that went on before the crash stays.
func (s *settler) commit(work []unsettled) error {
	was := make(map[repl.UID]repl.Presence, len(work))
	for i := range work {
		u := &work[i]
		was[u.UID] = u.old.Presence
		s.put.ClearIntents = append(s.put.ClearIntents, u.UID)
		switch {
		case !u.done: // if it was minted, its originator was given up
		case u.Drop:
			s.put.Drop = append(s.put.Drop, u.UID)
		default:
			s.put.Writes = append(s.put.Writes, store.Write{Record: u.rec, Base: u.Base})
		}
	}
	follow, missing, err := hide(s.cfg, s.env.Store, &s.put, was)
	if err != nil {
		return err
	}
	if len(follow) > 0 || missing {
		s.put.State = unfiltered(s.env.Store)
		s.put.State.Missing = s.put.State.Missing || missing
	}
	err = s.env.Store.Put(&s.put)
	var moved *store.MovedError
	if errors.As(err, &moved) {
		s.put.Writes = slices.DeleteFunc(s.put.Writes, func(w store.Write) bool { return slices.Contains(moved.UIDs, w.Record.UID) })
		err = s.env.Store.Put(&s.put)
	}
	return err
}

// leftOvers keeps whatever still lies in `.dfsr/installing`: nobody can tell any
// more whether a user still needs it.
func (s *settler) leftOvers() error {
	var names []string
	err := s.area.List(func(e volume.Entry) error {
		names = append(names, e.Name)
		return nil
	})
	slices.Sort(names)
	for _, name := range names {
		if s.area.Rmdir(name) == nil {
			continue // a directory that was being made
		}
		_, kerr := s.env.Keep.Keep(s.area, name, preserve.Entry{Why: preserve.LeftOver, At: s.env.Now(), Path: s.cfg.Name})
		err = errors.Join(err, kerr)
	}
	return err
}
