package main

import (
	"context"
	"errors"
	"reflect"

	"opendfs/internal/directory"
	"opendfs/internal/engine"
	"opendfs/internal/filter"
)

// terms are the settings and the filter of a membership: a folder that runs takes
// others without being started again, mostly.
type terms struct {
	engine.Settings
	Rules filter.Rules
}

// termsOf are those of a membership in the domain.
func termsOf(v *directory.MembershipView) terms {
	return terms{
		Settings: engine.Settings{
			Breaker: breakerOf(v.Folder), TombstoneLifetime: v.Folder.TombstoneLifetime, SlowSync: v.Folder.SlowSync, Rest: v.Folder.Rest,
			StagingQuota: int64(v.StagingQuota), ConflictQuota: int64(v.ConflictQuota), ConflictRetention: v.ConflictRetention,
		},
		Rules: filter.Rules{Files: v.Folder.Filters.Files, Directories: v.Folder.Filters.Directories},
	}
}

// errTerms ends a folder that is to be opened again by other terms.
var errTerms = errors.New("the folder's filter has changed")

// hearTerms gives the runner the terms that the domain has now. It reports false if
// the folder cannot take them as it runs.
func (k *keeper) hearTerms(ctx context.Context, now terms) bool {
	if reflect.DeepEqual(*k.terms.Load(), now) {
		return true
	}
	k.terms.Store(&now)
	r := k.current()
	if r == nil {
		return true // it is told when it runs
	}
	k.f.log.Info("settings of the folder changed", "folder", k.Name)
	return k.tellTerms(ctx, r)
}

// tellTerms gives a runner the newest terms, false if it does not take them.
func (k *keeper) tellTerms(ctx context.Context, r *engine.Runner) bool {
	k.telling.Lock()
	defer k.telling.Unlock()
	t := k.terms.Load()
	set, err := filter.New(t.Rules)
	if err != nil {
		return false // the next start says what is wrong with it
	}
	taken, err := r.SetSettings(ctx, t.Settings, set)
	if err != nil { // it has ended; the next one has them
		k.f.log.Info("settings are heard of by the next start", "folder", k.Name, "err", err)
		return true
	}
	return taken
}
