package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// The bounds on what partners can make a member hold.
const (
	maxSnapshots = 16
	snapshotLife = 2 * time.Minute
	pageUpdates  = 4096
	maxPaths     = 4096
)

// Served answers partners from the folder's durable records and its tree. It
// only reads, and is used from many goroutines beside the folder's own.
type Served struct {
	// Doubt is told of an object that is not what its record says, so that it is
	// looked at, and why it cannot be read, if so, or ErrRotten. It must not block;
	// nil: nobody asks.
	Doubt func(uid repl.UID, why error)

	env  *Env
	root repl.UID
	near nearby

	mu        sync.Mutex
	phase     wire.Phase             // guarded by mu
	retired   *Retired               // guarded by mu
	snapshots map[string]*servedSnap // guarded by mu
	// paths remembers where directories lie; a file found there is believed by
	// its identity alone, so a stale path costs another look. Guarded by mu.
	paths map[repl.UID]string
	// recent are signatures that partners ask about, the last one first. Guarded
	// by mu.
	recent []signed
	// whole are versions that were sent whole, and whether they were proven since.
	// Guarded by mu.
	whole map[version.GVSN]bool
	// signing holds a token for each content that is being signed or matched.
	signing chan struct{}
}

type servedSnap struct {
	snap    *store.Snapshot
	vector  version.Vector
	partner repl.MemberID
	used    repl.Time
	busy    bool
}

// NewServed makes the serving side of a folder.
func NewServed(env *Env, folder repl.FolderID) *Served {
	return &Served{env: env, root: repl.RootUID(folder), snapshots: make(map[string]*servedSnap), paths: make(map[repl.UID]string), signing: make(chan struct{}, maxSigning)}
}

// SetPhase tells partners from now on where the folder stands.
func (s *Served) SetPhase(p wire.Phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = p
}

// phaseNow returns the phase that was told last.
func (s *Served) phaseNow() wire.Phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase
}

// Diff answers with a page of what the request's vector lacks. A member that
// is not Normal serves nothing of its own (rule 13).
func (s *Served) Diff(_ context.Context, partner repl.MemberID, req *wire.DiffRequest) (*wire.DiffPage, error) {
	phase := s.phaseNow()
	if phase != wire.PhaseNormal {
		return &wire.DiffPage{Phase: phase}, nil
	}
	if err := s.Whole(req); err != nil {
		return nil, err
	}
	token, snap, err := s.snapshot(partner, req.Snapshot)
	if err != nil {
		return nil, err
	}
	floor, err := s.floorFor(token, snap, req)
	if err != nil {
		return nil, err
	}
	limit := req.Limit
	if limit <= 0 || limit > pageUpdates {
		limit = pageUpdates
	}
	want := snap.vector.Minus(req.LeaveOut())
	page := &wire.DiffPage{Vector: snap.vector, Phase: phase, Packed: req.Packed, Floor: floor, Originator: s.env.Store.State().Originator}
	if len(want) > 0 {
		page.Updates, page.Cursor, page.More, err = snap.snap.Updates(want, req.After, limit)
	}
	s.shorten(page, req)
	s.shortVector(page, req)
	if err != nil || !page.More {
		return page, errors.Join(err, s.release(token))
	}
	page.Snapshot = []byte(token)
	s.mu.Lock()
	snap.busy = false
	s.mu.Unlock()
	return page, nil
}

// snapshot returns the partner's open snapshot, or a new one.
func (s *Served) snapshot(partner repl.MemberID, token []byte) (string, *servedSnap, error) {
	now := s.env.Now()
	if len(token) > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		snap := s.snapshots[string(token)]
		if snap == nil || snap.partner != partner || snap.busy {
			return "", nil, wire.Errorf(wire.CodeSnapshotGone, "the exchange was given up; begin it anew")
		}
		snap.used, snap.busy = now, true
		return string(token), snap, nil
	}
	if err := s.expire(now); err != nil {
		return "", nil, err
	}
	db, err := s.env.Store.Snapshot()
	if err != nil {
		return "", nil, err
	}
	fresh := newToken()
	snap := &servedSnap{snap: db, vector: db.Vector(), partner: partner, used: now, busy: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshots[fresh] = snap
	return fresh, snap, nil
}

// floorFor is what a page must tell of the floor. A partner that does not cover
// it gets no plain diff: it may have what was deleted and collected here, and
// would never hear of that (rule 25). One in its initial sync may have nothing
// yet, or have begun below this very floor.
func (s *Served) floorFor(token string, snap *servedSnap, req *wire.DiffRequest) (version.Vector, error) {
	floor := snap.snap.Floor()
	switch {
	case req.Vector.Covers(floor):
		return nil, nil
	case req.Phase == wire.PhaseInitialSync && (req.Floor.Covers(floor) || s.fresh(snap.vector, req.Vector)):
		return floor, nil
	}
	stale := wire.Errorf(wire.CodeStale, "deletions were forgotten here that the partner has never heard of: it must start anew")
	return nil, errors.Join(stale, s.release(token))
}

// fresh reports whether a partner knows nothing that this member knows, but the
// root. What it has of others, or is getting, it looks at itself (Folder.begun).
func (s *Served) fresh(own, partner version.Vector) bool {
	for o, both := range partner.Minus(partner.Minus(own)) {
		if o != s.root.Originator && both[0].High < closing { // that a database was given up is no knowledge of objects
			return false
		}
	}
	return true
}

func newToken() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic("engine: no random numbers: " + err.Error())
	}
	return string(b[:])
}

func (s *Served) release(token string) error {
	s.mu.Lock()
	snap := s.snapshots[token]
	delete(s.snapshots, token)
	s.mu.Unlock()
	if snap == nil {
		return nil
	}
	return snap.snap.Close()
}

// expire closes snapshots that nobody asked for lately, and the oldest beyond
// the limit.
func (s *Served) expire(now repl.Time) error {
	s.mu.Lock()
	var old []string
	oldest, n := "", 0
	for token, snap := range s.snapshots {
		if snap.busy {
			continue
		}
		n++
		if now-snap.used > repl.Time(snapshotLife) {
			old = append(old, token)
		} else if oldest == "" || snap.used < s.snapshots[oldest].used {
			oldest = token
		}
	}
	if n-len(old) >= maxSnapshots && oldest != "" {
		old = append(old, oldest)
	}
	s.mu.Unlock()
	var errs []error
	for _, token := range old {
		errs = append(errs, s.release(token))
	}
	return errors.Join(errs...)
}

// Close closes every open snapshot and directory.
func (s *Served) Close() error {
	s.mu.Lock()
	open := s.snapshots
	s.snapshots = make(map[string]*servedSnap)
	s.phase = wire.PhaseStopped
	s.mu.Unlock()
	var errs []error
	for _, snap := range open {
		errs = append(errs, snap.snap.Close())
	}
	return errors.Join(append(errs, s.near.close())...)
}

// Records answers with the current records of objects, from one snapshot.
func (s *Served) Records(_ context.Context, uids []repl.UID) (*wire.RecordsReply, error) {
	snap, err := s.env.Store.Snapshot()
	if err != nil {
		return nil, err
	}
	reply := &wire.RecordsReply{Vector: snap.Vector()}
	for _, uid := range uids {
		rec, ok, gerr := snap.Get(uid)
		if gerr != nil {
			return nil, errors.Join(gerr, snap.Close())
		}
		if ok && !rec.Provisional {
			reply.Updates = append(reply.Updates, rec.Update)
		} else {
			reply.Unknown = append(reply.Unknown, uid)
		}
		reply.Answered++
	}
	return reply, snap.Close()
}

// Vector is what this member durably knows.
func (s *Served) Vector() (version.Vector, error) {
	snap, err := s.env.Store.Snapshot()
	if err != nil {
		return nil, err
	}
	return snap.Vector(), snap.Close()
}

// version opens the file of one version. It must be, before and after it is
// read, what the record says (rule 24).
func (s *Served) version(uid repl.UID, gvsn version.GVSN) (*Content, wire.Status) {
	rec, ok, err := s.env.Store.Get(uid)
	switch {
	case err != nil:
		return nil, wire.StatusError
	case !ok || rec.GVSN != gvsn || !rec.Present: // without a record it was known before this member started anew, perhaps to nobody else
		return nil, wire.StatusChanged
	case rec.Presence == repl.Absent || rec.Type != repl.File:
		return nil, wire.StatusAbsent
	case rec.Presence != repl.OnDisk: // it may be there, under a mount or a filter
		return nil, wire.StatusHidden
	}
	var why error
	for _, cached := range []bool{true, false} {
		c, err := s.open(&rec, cached)
		if why = err; err != nil {
			continue
		}
		if c.unchanged() {
			return c, wire.StatusOK
		}
		if err := c.File.Close(); err != nil {
			return nil, wire.StatusError
		}
	}
	if s.Doubt != nil {
		s.Doubt(rec.UID, why)
	}
	return nil, wire.StatusChanged
}

// open opens the file at its place; cached lets a remembered path, or directory, do.
func (s *Served) open(rec *repl.Record, cached bool) (*Content, error) {
	path, err := s.path(rec.Parent, cached)
	if err != nil {
		return nil, err
	}
	d, err := s.near.take(s.env.Volume, path, !cached)
	if err != nil {
		return nil, err
	}
	f, err := d.OpenFile(rec.Name)
	if err = errors.Join(err, s.near.give(d)); err != nil {
		return nil, err
	}
	return &Content{File: f, rec: *rec}, nil
}

func (s *Served) path(dir repl.UID, cached bool) (string, error) {
	s.mu.Lock()
	path, ok := s.paths[dir]
	s.mu.Unlock()
	if ok && cached {
		return path, nil
	}
	heir, err := s.env.Store.Canonical(dir)
	if err != nil {
		return "", err
	}
	if path, err = s.env.Store.Path(heir); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.paths) >= maxPaths {
		clear(s.paths)
	}
	s.paths[dir] = path
	return path, nil
}
