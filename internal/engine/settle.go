package engine

import (
	"context"
	"errors"
	"fmt"

	"opendfs/internal/install"
	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/volume"
)

// settle finishes or takes back every install that a crash interrupted, and
// empties `.dfsr/installing`.
func settle(ctx context.Context, cfg *Config, env *Env) error {
	intents, err := env.Store.Intents()
	if err != nil {
		return err
	}
	for i := range intents {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := settleOne(env, &intents[i]); err != nil {
			return fmt.Errorf("settle install of %q: %w", intents[i].Update.Name, err)
		}
	}
	if err := settleLeftOvers(cfg, env); err != nil {
		return err
	}
	if len(intents) == 0 {
		return nil
	}
	return env.Volume.Sync()
}

// settleOne commits the record if the tree shows the install done; otherwise
// it puts back what had been taken out.
func settleOne(env *Env, in *store.Intent) error {
	put := store.Batch{ClearIntents: []repl.UID{in.UID}}
	rec, done, err := evidence(env, in)
	if err != nil {
		return err
	}
	if done {
		// The tree may show what only the page cache has: durable before said.
		if err := env.Volume.Sync(); err != nil {
			return err
		}
		put.Writes = []store.Write{{Record: rec, Base: in.Base}}
	} else if err := takeBack(env, in); err != nil {
		return err
	}
	err = env.Store.Put(&put)
	var moved *store.MovedError
	if errors.As(err, &moved) { // the record went on before the crash
		put.Writes = nil
		err = env.Store.Put(&put)
	}
	return err
}

// evidence looks whether the tree holds the outcome of an intent.
func evidence(env *Env, in *store.Intent) (repl.Record, bool, error) {
	rec := repl.Record{Update: in.Update, Presence: repl.OnDisk}
	if in.Place.IsZero() {
		rec.Presence = repl.Absent
		_, err := lookup(env, in.From)
		return rec, errors.Is(err, volume.ErrNotExist), ignoreMissing(err)
	}
	st, err := lookup(env, in.Place)
	if err != nil {
		return rec, false, ignoreMissing(err)
	}
	rec.Identity, rec.Print = st.Identity, st.Print
	switch {
	case !in.Identity.IsZero():
		return rec, st.Identity == in.Identity && st.Print.SameData(in.Print), nil
	case in.From.IsZero(): // a directory was made; nobody else's has a record
		known, err := env.Store.ByHandle(st.Identity.Handle)
		return rec, err == nil && len(known) == 0 && st.Type == in.Update.Type, err
	default: // moved, or given other metadata, in place
		return rec, st.Identity == in.Displaced && (in.From != in.Place || st.Print.Mtime == in.Update.Mtime), nil
	}
}

func lookup(env *Env, p repl.Place) (volume.Stat, error) {
	d, err := openPlace(env, p)
	if err != nil {
		return volume.Stat{}, err
	}
	st, err := d.Lookup(p.Name)
	return st, errors.Join(err, d.Close())
}

func openPlace(env *Env, p repl.Place) (volume.Dir, error) {
	path, id, ok, err := env.directory(p.Dir)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("directory %v: %w", p.Dir, volume.ErrNotExist)
	}
	d, err := env.Volume.OpenDir(path)
	if err != nil {
		return nil, err
	}
	if st, err := d.Stat(); err != nil || st.Identity != id {
		return nil, errors.Join(fmt.Errorf("directory %q: %w", path, volume.ErrNotExist), err, d.Close())
	}
	return d, nil
}

// ignoreMissing takes errors for none that say that an object is not, or no
// longer, at its place: nothing lies there, or something of another type.
func ignoreMissing(err error) error {
	for _, missing := range []error{volume.ErrNotExist, volume.ErrNotDir, volume.ErrNotFile, volume.ErrEscapes, volume.ErrStale} {
		if errors.Is(err, missing) {
			return nil
		}
	}
	return err
}

// takeBack puts the object that an unfinished install had taken out of the
// tree where it was.
func takeBack(env *Env, in *store.Intent) error {
	if in.From.IsZero() {
		return nil
	}
	area, err := env.Volume.Private(volume.Installing)
	if err != nil {
		return err
	}
	for _, name := range []string{in.Temp, in.Temp + install.ParkedSuffix} {
		st, lerr := area.Lookup(name)
		if lerr != nil || st.Identity != in.Displaced {
			continue
		}
		d, derr := openPlace(env, in.From)
		if derr != nil {
			err = errors.Join(err, ignoreMissing(derr))
			continue
		}
		rerr := area.Rename(name, d, in.From.Name)
		if errors.Is(rerr, volume.ErrExist) { // a user's object took the place: the left-over is kept
			rerr = nil
		}
		err = errors.Join(err, rerr, d.Close())
	}
	return errors.Join(err, area.Close())
}

// settleLeftOvers keeps whatever still lies in `.dfsr/installing`: nobody can
// tell any more whether a user still needs it.
func settleLeftOvers(cfg *Config, env *Env) error {
	area, err := env.Volume.Private(volume.Installing)
	if err != nil {
		return err
	}
	var names []string
	err = area.List(func(e volume.Entry) error {
		names = append(names, e.Name)
		return nil
	})
	for _, name := range names {
		_, kerr := env.Keep.Keep(area, name, preserve.Entry{Why: preserve.LeftOver, At: env.Now(), Path: cfg.Name})
		err = errors.Join(err, kerr)
	}
	return errors.Join(err, area.Close())
}
