package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"opendfs/internal/directory"
	"opendfs/internal/engine"
	"opendfs/internal/journal"
	"opendfs/internal/peer"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/volume"
)

// folders keeps one engine.Runner for each enabled membership of this server,
// and follows the domain as it changes.
type folders struct {
	state *stateDir
	find  *findings
	log   *slog.Logger
	hub   *journal.Hub
	// session returns the session with an upstream, nil if there is none.
	session func(repl.MemberID) *peer.Session
	windows *windows
	roots   *roots
	// evictor changes the memberships of a folder for its engine.
	evictor func(repl.FolderID) engine.Directory
	clocks  *clocks
	// damaged is told once that the database cannot be trusted any more.
	damaged func(error)

	// linking serialises the hand-over of sessions to runners, so that the one
	// that a runner has is never older than the partner's.
	linking sync.Mutex

	mu      sync.Mutex
	store   *store.Store               // guarded by mu; nil while there is none
	domain  *directory.Domain          // guarded by mu
	keepers map[repl.FolderID]*keeper  // guarded by mu
	off     []directory.MembershipView // guarded by mu; disabled memberships
}

// membership is what the domain says of one membership of this server, without its
// partners and its terms, in a form that can be compared: a folder of which it is
// another is started anew.
type membership struct {
	engine.Config
	Owners   volume.Owners
	Optional volume.Optional
}

// wanted is a membership with its partners and its terms.
type wanted struct {
	membership
	circle
	terms
}

// owners are the forms of the domain as the volume has them.
var owners = map[directory.Owners]volume.Owners{
	directory.OwnersNumeric: volume.OwnersNumeric, directory.OwnersByName: volume.OwnersByName, directory.OwnersNone: volume.OwnersNone,
}

// memberships lists the enabled memberships of a server.
func memberships(d *directory.Domain, self directory.UUID) (on []wanted, off []directory.MembershipView) {
	ids := func(servers []*directory.Server) []repl.MemberID {
		var out []repl.MemberID
		for _, s := range servers {
			out = append(out, repl.MemberID(s.ID))
		}
		return out
	}
	for _, v := range d.Memberships(self) {
		if !v.Enabled {
			off = append(off, v)
			continue
		}
		on = append(on, wanted{membership{
			Config: engine.Config{
				Folder: repl.FolderID(v.Folder.ID), Name: v.Name(), Self: repl.MemberID(self), Membership: repl.GUID(v.ID),
				Path: v.Path, Primary: v.Primary, ReadOnly: v.ReadOnly,
				Insensitive: v.Folder.Case == directory.CaseInsensitive, Morph: v.Folder.DirectoryConflict == directory.DirectoryMorph,
			},
			Owners: owners[v.Folder.Owners],
			Optional: volume.Optional{
				Capability: slices.Contains(v.Folder.Attributes, directory.AttributeCapability),
				SELinux:    slices.Contains(v.Folder.Attributes, directory.AttributeSELinux),
				Trusted:    slices.Contains(v.Folder.Attributes, directory.AttributeTrusted),
			},
		}, circle{
			PartnersAre: engine.PartnersAre{
				Upstreams: ids(d.Upstreams(v.Folder.ID, self)), Downstreams: ids(d.Downstreams(v.Folder.ID, self)),
				Transfers: transfers(d, v.Folder.ID, self),
			},
			Packing: packing(d, v.Folder.ID, self),
		}, termsOf(&v)})
	}
	return on, off
}

// members lists all members of a folder, in the order of their names.
func members(d *directory.Domain, id repl.FolderID) []engine.Member {
	_, f := d.Folder(directory.UUID(id))
	if f == nil {
		return nil
	}
	var list []engine.Member
	for _, m := range f.Members {
		if s := d.ServerByName(m.Server); s != nil {
			list = append(list, engine.Member{ID: repl.MemberID(s.ID), Server: s.Name, Evicted: version.Originator(m.Evicted)})
		}
	}
	return list
}

// breakerOf is a folder's breaker.
func breakerOf(f *directory.Folder) engine.Breaker {
	if f.Breaker == directory.BreakerOff {
		return engine.Breaker{}
	}
	return engine.UsualBreaker()
}

// transfers says how a server's upstreams of a folder bring contents, where that is
// not the default.
func transfers(d *directory.Domain, folder, self directory.UUID) map[repl.MemberID]engine.Transfer {
	out := make(map[repl.MemberID]engine.Transfer)
	for _, up := range d.Upstreams(folder, self) {
		if t := d.TransferOf(folder, up.ID, self); t != directory.DefaultTransfer() {
			out[repl.MemberID(up.ID)] = engine.Transfer{Whole: !t.RDC, NoCrossFile: !t.CrossFile, MinDelta: int64(t.MinSize)}
		}
	}
	return out
}

// packing lists the upstreams of a folder whose contents are packed in another way
// than auto.
func packing(d *directory.Domain, folder, self directory.UUID) map[repl.MemberID]peer.Packing {
	out := make(map[repl.MemberID]peer.Packing)
	for _, up := range d.Upstreams(folder, self) {
		switch d.TransferOf(folder, up.ID, self).Compression {
		case directory.CompressionOn:
			out[repl.MemberID(up.ID)] = peer.PackOn
		case directory.CompressionOff:
			out[repl.MemberID(up.ID)] = peer.PackNever
		}
	}
	return out
}

// follow starts, restarts and stops folders as the domain says. One of which only
// the partners, the members or the terms are others now goes on.
func (f *folders) follow(ctx context.Context, d *directory.Domain, self directory.UUID) {
	on, off := memberships(d, self)
	f.mu.Lock()
	f.domain, f.off = d, off
	st := f.store
	keepers := maps.Clone(f.keepers)
	f.mu.Unlock()
	var gone []*keeper
	for id, k := range keepers {
		i := slices.IndexFunc(on, func(m wanted) bool { return m.Folder == id })
		if i < 0 || !reflect.DeepEqual(on[i].membership, k.membership) || !k.hearTerms(ctx, on[i].terms) {
			gone = append(gone, k)
		}
	}
	f.mu.Lock()
	for _, k := range gone {
		delete(f.keepers, k.Folder)
	}
	f.mu.Unlock()
	stopAll(gone)
	for _, k := range gone {
		f.find.clearObject(k.Name)
	}
	if st == nil {
		return
	}
	f.mu.Lock()
	for _, m := range on {
		if f.keepers[m.Folder] == nil {
			f.keepers[m.Folder] = f.start(ctx, st, m, members(d, m.Folder))
		}
	}
	f.mu.Unlock()
	for _, k := range f.all() {
		k.hearMembers(ctx, members(d, k.Folder))
		if i := slices.IndexFunc(on, func(m wanted) bool { return m.Folder == k.Folder }); i >= 0 {
			k.hearPartners(ctx, on[i].circle)
		}
	}
}

// dropLeft forgets the records of folders of which this server is no member;
// what lies on disk stays. It is called once the domain is known to be the
// newest: a member that starts from an older copy must lose nothing by it.
func (f *folders) dropLeft(self directory.UUID) {
	f.mu.Lock()
	st, d := f.store, f.domain
	f.mu.Unlock()
	if st == nil || d == nil || d.Server(self) == nil {
		return
	}
	on, off := memberships(d, self)
	for _, id := range st.Folders() {
		kept := slices.ContainsFunc(on, func(m wanted) bool { return m.Folder == id }) ||
			slices.ContainsFunc(off, func(v directory.MembershipView) bool { return repl.FolderID(v.Folder.ID) == id })
		if kept {
			continue
		}
		f.log.Info("membership ended; its records are dropped, its files stay", "folder", id)
		if err := st.DropFolder(id); err != nil {
			f.log.Error("records of a folder could not be dropped", "folder", id, "err", err)
		}
	}
}

// wants reports whether this server is to replicate a folder.
func (f *folders) wants(id repl.FolderID, self directory.UUID) bool {
	f.mu.Lock()
	d := f.domain
	f.mu.Unlock()
	on, _ := memberships(d, self)
	return slices.ContainsFunc(on, func(m wanted) bool { return m.Folder == id })
}

// hasPrimary reports whether the domain names a primary member of a folder.
func (f *folders) hasPrimary(id repl.FolderID) bool {
	f.mu.Lock()
	d := f.domain
	f.mu.Unlock()
	_, folder := d.Folder(directory.UUID(id))
	return folder == nil || slices.ContainsFunc(folder.Members, func(m *directory.Membership) bool { return m.Primary })
}

func stopAll(list []*keeper) {
	var all sync.WaitGroup
	for _, k := range list {
		all.Go(k.stop)
	}
	all.Wait()
}

// open gives the folders their database.
func (f *folders) open(st *store.Store) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.store = st
}

// close stops every folder and lets the database go.
func (f *folders) close() {
	f.mu.Lock()
	var all []*keeper
	for id, k := range f.keepers {
		all = append(all, k)
		delete(f.keepers, id)
	}
	f.store = nil
	f.mu.Unlock()
	stopAll(all)
}

// runner returns a folder that runs, nil if it does not.
func (f *folders) runner(id repl.FolderID) (*keeper, *engine.Runner) {
	f.mu.Lock()
	k := f.keepers[id]
	f.mu.Unlock()
	if k == nil {
		return nil, nil
	}
	return k, k.current()
}

// all lists the keepers in the order of their names.
func (f *folders) all() []*keeper {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*keeper
	for _, k := range f.keepers {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b *keeper) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// disabled lists the memberships that the domain has switched off.
func (f *folders) disabled() []directory.MembershipView {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.off
}

// named finds a folder by GROUP/FOLDER.
func (f *folders) named(name string) (*keeper, error) {
	var names []string
	for _, k := range f.all() {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("folder %q: this server is a member of no folder", name)
	}
	return nil, fmt.Errorf("folder %q: this server is not a member of it; it is a member of %s", name, strings.Join(names, ", "))
}

// linked hands a session, or its loss, to every folder that pulls from m.
func (f *folders) linked(m repl.MemberID, s *peer.Session) {
	if s != nil {
		f.windows.greet(m, s)
	}
	f.linking.Lock()
	defer f.linking.Unlock()
	for _, k := range f.all() {
		if slices.Contains(k.partners().Upstreams, m) {
			k.link(m, s)
		}
	}
}

// relink hands the session with m to one folder again, after its window has
// opened or closed.
func (f *folders) relink(id repl.FolderID, m repl.MemberID) {
	f.linking.Lock()
	defer f.linking.Unlock()
	f.mu.Lock()
	k := f.keepers[id]
	f.mu.Unlock()
	if k != nil && slices.Contains(k.partners().Upstreams, m) {
		k.link(m, f.session(m))
	}
}
