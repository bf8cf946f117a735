package main

import (
	"context"
	"time"

	"opendfs/internal/engine"
	"opendfs/internal/finding"
)

// pulse is what a folder was seen to do: one clock looks at all folders of a
// member and wakes those in which something happens, so that hundreds that rest
// cost nothing. Owned by folders.run.
type pulse struct {
	runner        *engine.Runner
	moves, served uint64
	moved, looked time.Time
}

// run has each folder looked at when it is due, until ctx ends.
func (f *folders) run(ctx context.Context) {
	tick := time.NewTicker(folderWatch)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			f.lookAt(now)
		}
	}
}

// lookAt wakes the keepers that are due, and takes back that the database was
// rebuilt once every folder is Normal again.
func (f *folders) lookAt(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	normal := true
	for _, k := range f.keepers {
		normal = normal && k.normal.Load()
		if !k.isDue(now) {
			continue
		}
		select {
		case k.due <- struct{}{}:
		default: // it has not come to the last one yet
		}
	}
	if normal && f.store != nil {
		f.find.Clear(finding.StateRebuilt, "")
	}
}

// isDue reports whether a folder is to be looked at now.
func (k *keeper) isDue(now time.Time) bool {
	r := k.current()
	if r == nil {
		return false
	}
	p := &k.pulse
	if is := (pulse{r, r.Moves(), k.served.Load(), now, p.looked}); is.runner != p.runner || is.moves != p.moves || is.served != p.served {
		*p = is
	}
	if now.Sub(p.moved) >= folderCalm && now.Sub(p.looked) < folderIdle && k.unknown.Load() == 0 {
		return false
	}
	p.looked = now
	return true
}
