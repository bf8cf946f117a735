package engine

import (
	"context"
	"errors"

	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/wire"
)

// The bounds of one answer of a slow sync: what is read for it.
const (
	compareRun  = 1024 // records that one digest stands for
	compareRuns = 16
)

// Compare answers a partner's slow sync: with runs of records, or with records one
// by one, from one snapshot.
func (s *Served) Compare(_ context.Context, req *wire.CompareRequest) (*wire.CompareReply, error) {
	if phase := s.phaseNow(); phase != wire.PhaseNormal {
		return nil, wire.Errorf(wire.CodeUnavailable, "the folder is in %v here; compare later", phase)
	}
	snap, err := s.env.Store.Snapshot()
	if err != nil {
		return nil, err
	}
	reply := new(wire.CompareReply)
	if req.List {
		reply.Vector = snap.Vector()
		err = checks(snap, req, func(rec *repl.Record, check uint64) bool {
			if reply.More = len(reply.Entries) == wire.MaxEntries; !reply.More {
				reply.Entries = append(reply.Entries, wire.CompareEntry{UID: rec.UID, GVSN: rec.GVSN, Check: check})
			}
			return !reply.More
		})
		return reply, errors.Join(err, snap.Close())
	}
	var digest wire.Digest
	run := wire.CompareRun{}
	end := func() {
		run.Count, run.Digest = digest.Sum()
		reply.Runs = append(reply.Runs, run)
	}
	err = checks(snap, req, func(rec *repl.Record, check uint64) bool {
		if reply.More = len(reply.Runs) == compareRuns; reply.More {
			return false
		}
		run.Last = rec.UID
		if digest.Add(check); digest.Count == compareRun {
			end()
		}
		return true
	})
	if digest.Count > 0 {
		end()
	}
	return reply, errors.Join(err, snap.Close())
}

// checks calls fn with the records that a request is about and their checks, in
// order, until fn returns false. One that cannot be told as an update has check 0.
func checks(snap *store.Snapshot, req *wire.CompareRequest, fn func(rec *repl.Record, check uint64) bool) error {
	return snap.InOrder(req.After, func(rec *repl.Record) bool {
		if !req.Through.IsZero() && rec.UID.Compare(req.Through) > 0 {
			return false
		}
		if !rec.Present && rec.Clock < req.Since {
			return true
		}
		check, err := wire.CheckOf(req.Salt, &rec.Update)
		if err != nil {
			check = 0
		}
		return fn(rec, check)
	})
}
