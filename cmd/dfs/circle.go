package main

import (
	"context"
	"reflect"
	"slices"

	"opendfs/internal/engine"
	"opendfs/internal/peer"
	"opendfs/internal/repl"
)

// circle is the partners of a membership: a folder that runs takes others without
// being started again.
type circle struct {
	engine.PartnersAre
	// Packing says which upstreams send contents packed in another way than auto.
	Packing map[repl.MemberID]peer.Packing
}

// link gives the runner a session, or takes it: it has none while the window of the
// connection is closed.
func (k *keeper) link(m repl.MemberID, s *peer.Session) {
	k.mu.Lock()
	r, ctx := k.runner, k.links
	k.mu.Unlock()
	if r == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // a runner that has ended takes nothing any more
		select {
		case <-r.Ended():
			cancel()
		case <-stop:
		}
	}()
	g := k.f.windows.pass(k.Folder, m)
	if s == nil || g == nil {
		r.SetUpstream(ctx, m, nil)
		return
	}
	r.SetUpstream(ctx, m, upstream{s, k.f.windows, g, k.partners().Packing[m]})
}

// hearMembers gives the runner the members that the domain has now.
func (k *keeper) hearMembers(ctx context.Context, list []engine.Member) {
	if slices.Equal(*k.members.Load(), list) {
		return
	}
	k.members.Store(&list)
	if r := k.current(); r != nil {
		if err := r.SetMembers(ctx, list); err != nil { // it has ended; the next one has them
			k.f.log.Info("members are heard of by the next start", "folder", k.Name, "err", err)
		}
	}
}

// partners are those that the folder has now.
func (k *keeper) partners() *circle { return k.around.Load() }

// hearPartners gives the runner the partners that the domain has now: it goes on with
// those that stay, and is given the sessions of those that are new.
func (k *keeper) hearPartners(ctx context.Context, now circle) {
	k.f.linking.Lock()
	defer k.f.linking.Unlock()
	before := k.partners()
	if reflect.DeepEqual(*before, now) {
		return
	}
	k.around.Store(&now)
	r := k.current()
	if r == nil {
		return
	}
	k.f.log.Info("partners of the folder changed", "folder", k.Name, "upstreams", len(now.Upstreams), "downstreams", len(now.Downstreams))
	if err := r.SetPartners(ctx, now.PartnersAre); err != nil { // it has ended; the next one has them
		k.f.log.Info("partners are heard of by the next start", "folder", k.Name, "err", err)
		return
	}
	for _, m := range now.Upstreams {
		if s := k.f.session(m); s != nil && (!slices.Contains(before.Upstreams, m) || before.Packing[m] != now.Packing[m]) {
			k.link(m, s)
		}
	}
}

// linkAll gives a new runner the partners of now, and the sessions that stand.
func (k *keeper) linkAll(ctx context.Context, r *engine.Runner) {
	k.f.linking.Lock()
	defer k.f.linking.Unlock()
	now := k.partners()
	if err := r.SetPartners(ctx, now.PartnersAre); err != nil { // they may have become others while it was opened
		return
	}
	for _, m := range now.Upstreams {
		if s := k.f.session(m); s != nil {
			k.link(m, s)
		}
	}
}
