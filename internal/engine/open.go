package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/volume"
)

// markerName is the file of the private area that ties a tree to a membership
// (docs/formats/private-area.md).
const markerName = "marker"

// marker is what the tree knows of its membership. Store and marker carry the
// same epoch and nonce; if they differ, one of them is from another time or
// another server (rule 3).
type marker struct {
	Version    int    `json:"version"`
	Folder     string `json:"folder"`
	Membership string `json:"membership"`
	Nonce      string `json:"nonce"`
	Epoch      uint64 `json:"epoch"`
	// Originators are those that the tree was captured under, the last one the
	// database's: should that be lost, they are closed.
	Originators []string `json:"originators,omitempty"`
}

// MarkerError says why the tree cannot be taken for the membership's own.
type MarkerError struct {
	Code   finding.Code
	Detail string
}

// Error returns the detail.
func (e *MarkerError) Error() string { return e.Detail }

// Open prepares a membership: it checks the marker, settles what a crash left
// half done, before the journal or the tree is read (rule 15), and says with
// which work the folder starts. random gives new identifiers.
func Open(ctx context.Context, cfg Config, env *Env, find Findings, random io.Reader) (*Folder, error) {
	st := env.Store.State()
	cfg.Filter = cfg.Filter.Within(env.Volume.NameMax())
	root, err := rootStat(env.Volume)
	if err != nil {
		return nil, err
	}
	if err := checkMarker(&cfg, env.Volume, &st, find, random); err != nil {
		return nil, err
	}
	if err := checkEvicted(&cfg, &st, find); err != nil {
		return nil, err
	}
	if st.RootIdentity != root.Identity && !st.RootIdentity.IsZero() && st.Phase != store.PhaseNew {
		return nil, &MarkerError{finding.RootUnmounted, fmt.Sprintf("the root of %s is not the directory it was", cfg.Name)}
	}
	unclean := !st.Clean && st.Phase != store.PhaseNew
	st.RootIdentity, st.Clean = root.Identity, false
	if err := enroll(env, &st, root); err != nil {
		return nil, err
	}
	if err := partWithMinted(env, &st, random); err != nil {
		return nil, err
	}
	if err := writeMarker(&cfg, env, &st); err != nil {
		return nil, err
	}
	st.EpochSettled = true
	if err := settle(ctx, &cfg, env); err != nil {
		return nil, err
	}
	st.Filter, st.Missing = env.Store.State().Filter, env.Store.State().Missing // settling may have hidden something
	if err := followCase(&cfg, env.Store, find); err != nil {
		return nil, err
	}
	if err := followFilter(&cfg, env.Store, &st); err != nil {
		return nil, err
	}
	f := New(cfg, env.Store, env.Now, find)
	f.work(env)
	if err := errors.Join(f.loadCovers(), f.tellAllLong()); err != nil {
		return nil, err
	}
	f.phase, f.unclean, f.missing = st.Phase, unclean, st.Missing
	f.mark = func(st *store.State) error { return writeMarker(&cfg, env, st) }
	f.remarked, f.markedAt = env.Now(), env.Store.Vector()
	if st.Phase != store.PhaseNew {
		var spare version.Originator
		if _, err := io.ReadFull(random, spare[:]); err != nil {
			return nil, err
		}
		f.awaitVouchers(spare)
	}
	if st.Phase == store.PhaseNew {
		// What is captured before the folder is Normal is not synced one by one.
		// What lies here now is durable from now on; should the power fail, only
		// what is younger is doubted.
		if err := env.Volume.Sync(); err != nil {
			return nil, fmt.Errorf("sync %s: %w", cfg.Path, err)
		}
		f.begin(&st)
	} else if unclean && st.Phase != store.PhaseNormal {
		f.doubt = doubtOwn(&st)
	}
	if err := env.Store.Put(&store.Batch{State: &st}); err != nil {
		return nil, err
	}
	f.walk()
	return f, nil
}

// work takes from the environment what the folder does its own work with.
func (f *Folder) work(env *Env) {
	f.touches = &env.touches
	if env.Clock != nil {
		f.mint = env.Clock
	}
	if env.Workers > 0 {
		f.looks = manyLooks
	}
}

// begin chooses how a new membership starts: the primary's tree is the folder,
// everybody else's is compared with it. A member without partners is alone and
// thereby primary.
func (f *Folder) begin(st *store.State) {
	st.Phase, st.Partner = store.PhaseInitialSync, f.cfg.Follow
	if len(f.cfg.Upstreams) == 0 || f.cfg.Primary && !st.Rebuilt {
		st.Phase, st.Primary = store.PhaseInitialBuild, true
	}
	f.phase, st.Since = st.Phase, f.now()
}

// clockSlack is by how much the clock may have been set back during an initial
// build or sync without a torn file being trusted.
const clockSlack = time.Hour

func rootStat(v volume.Volume) (volume.Stat, error) {
	d, err := v.Root()
	if err != nil {
		return volume.Stat{}, err
	}
	st, err := d.Stat()
	return st, errors.Join(err, d.Close())
}

// checkMarker compares the marker with the store's state and decides what a
// difference means; it prepares the state for the next epoch.
func checkMarker(cfg *Config, v volume.Volume, st *store.State, find Findings, random io.Reader) error {
	data, err := v.ReadPrivate(markerName)
	var m marker
	switch {
	case errors.Is(err, volume.ErrNotExist) && st.Phase == store.PhaseNew:
		return take(cfg, st, cfg.Moved, random)
	case errors.Is(err, volume.ErrNotExist):
		return &MarkerError{finding.FolderMarkerMissing, fmt.Sprintf("%s has no marker in .dfsr", cfg.Path)}
	case err != nil:
		return fmt.Errorf("read marker of %s: %w", cfg.Path, err)
	}
	adopt := cfg.Adopt && st.Phase == store.PhaseNew
	if err := json.Unmarshal(data, &m); (err != nil || m.Version != 1) && adopt {
		return take(cfg, st, true, random)
	} else if err != nil || m.Version != 1 {
		return &MarkerError{finding.FolderMarkerForeign, fmt.Sprintf("the marker in %s/.dfsr cannot be read", cfg.Path)}
	}
	if other := m.Folder != cfg.Folder.String(); adopt && (other || m.Membership != cfg.Membership.String()) {
		// The originators that it names may be another server's, which lives.
		return take(cfg, st, cfg.Moved || !other, random)
	}
	if m.Folder != cfg.Folder.String() || m.Membership != cfg.Membership.String() {
		return &MarkerError{finding.FolderMarkerForeign, fmt.Sprintf("the marker in %s/.dfsr is of membership %s", cfg.Path, m.Membership)}
	}
	return compareEpochs(cfg, &m, st, find)
}

// take prepares a state without records for a tree whose marker, if it has one, is
// not its own; rebuilt says that nothing in it is authoritative.
func take(cfg *Config, st *store.State, rebuilt bool, random io.Reader) error {
	if _, err := io.ReadFull(random, st.Nonce[:]); err != nil {
		return err
	}
	st.Membership, st.Epoch, st.Rebuilt = cfg.Membership, 1, rebuilt
	return nil
}

// OwnTree reports whether a tree has the marker that belongs to the records.
func OwnTree(v volume.Volume, st *store.State) (bool, error) {
	data, err := v.ReadPrivate(markerName)
	if errors.Is(err, volume.ErrNotExist) {
		return false, nil
	}
	var m marker
	if err != nil || json.Unmarshal(data, &m) != nil {
		return false, err
	}
	return m.Nonce == st.Nonce.String() && m.Membership == st.Membership.String(), nil
}

// MarkedFor tells the membership that a tree's marker names; marked is false if there
// is no marker, or none that can be read.
func MarkedFor(v volume.Volume) (membership repl.GUID, marked bool, err error) {
	data, err := v.ReadPrivate(markerName)
	if errors.Is(err, volume.ErrNotExist) {
		return membership, false, nil
	}
	var m marker
	if err != nil || json.Unmarshal(data, &m) != nil {
		return membership, false, err
	}
	membership, err = repl.ParseGUID(m.Membership)
	return membership, err == nil, nil
}

// checkEvicted starts a member anew whose database was put out while it was away.
func checkEvicted(cfg *Config, st *store.State, find Findings) error {
	if !selfEvicted(cfg, st) {
		return nil
	}
	find.Raise(finding.MemberStale, cfg.Name, evictedText)
	return ErrRebuild
}

const evictedText = "this member was away for longer than deletions are remembered, and was evicted"

// selfEvicted reports whether the directory has put out the database at hand.
func selfEvicted(cfg *Config, st *store.State) bool {
	return st.Phase != store.PhaseNew && slices.ContainsFunc(cfg.Members, func(m Member) bool { return m.ID == cfg.Self && m.Evicted == st.Database })
}

func compareEpochs(cfg *Config, m *marker, st *store.State, find Findings) error {
	nonce, err := repl.ParseGUID(m.Nonce)
	if err != nil {
		return &MarkerError{finding.FolderMarkerForeign, fmt.Sprintf("the marker in %s/.dfsr has a bad nonce", cfg.Path)}
	}
	switch {
	case st.Phase == store.PhaseNew: // the records are lost, the tree is not
		find.Raise(finding.StateRebuilt, cfg.Name, "no records of this tree; it is compared with the partners, not authoritatively")
		st.Nonce, st.Membership, st.Epoch, st.Rebuilt, st.Past = nonce, cfg.Membership, m.Epoch+1, true, nil
		for _, text := range m.Originators {
			o, err := version.ParseOriginator(text)
			if err != nil {
				return &MarkerError{finding.FolderMarkerForeign, fmt.Sprintf("the marker in %s/.dfsr: %v", cfg.Path, err)}
			}
			if o != st.Originator { // else a start was cut short that wrote it
				st.Past = append(st.Past, o)
			}
		}
		return nil
	case nonce != st.Nonce:
		return &MarkerError{finding.FolderMarkerForeign, fmt.Sprintf("the tree %s and the state directory are of two memberships", cfg.Path)}
	case m.Epoch == st.Epoch, !st.EpochSettled && m.Epoch+1 == st.Epoch:
		st.Epoch++
		return nil
	case st.Epoch < m.Epoch: // the records are of the past
		find.Raise(finding.StateRolledBack, cfg.Name, fmt.Sprintf("state is of epoch %d, tree of epoch %d", st.Epoch, m.Epoch))
		return ErrRebuild
	}
	return &MarkerError{finding.FolderMarkerForeign, fmt.Sprintf("%s: state is of epoch %d, tree of epoch %d: the tree was restored or copied", cfg.Name, st.Epoch, m.Epoch)}
}

// enroll stores the new epoch, unsettled, the root's own record, and which
// originators were left behind with a lost database.
func enroll(env *Env, st *store.State, root volume.Stat) error {
	st.EpochSettled = false
	rec, err := env.Store.Root()
	if err != nil {
		return err
	}
	rec.Presence, rec.Identity = repl.OnDisk, root.Identity
	b := store.Batch{State: st, Writes: []store.Write{{Record: rec, Base: rec.GVSN}}}
	if st.Phase == store.PhaseNew {
		b.Join = closed(st.Past...)
	}
	return env.Store.Put(&b)
}

func writeMarker(cfg *Config, env *Env, st *store.State) error {
	m := marker{1, cfg.Folder.String(), cfg.Membership.String(), st.Nonce.String(), st.Epoch, nil}
	for _, o := range append(st.Past, st.Originator) {
		m.Originators = append(m.Originators, o.String())
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := env.Volume.WritePrivate(markerName, append(data, '\n')); err != nil {
		return fmt.Errorf("write marker of %s: %w", cfg.Path, err)
	}
	return nil
}
