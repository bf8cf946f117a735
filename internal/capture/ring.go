package capture

import "opendfs/internal/repl"

// unknot adds to drafts that would put a directory below itself the moves of what
// lies on the way to its new place and has moved too, so that all are stored
// together: where directories exchanged their order from the top down, none of
// the moves can be stored before the others. What still loops waits.
func (l *look) unknot(drafts []Draft) ([]Draft, bool, error) {
	for range maxChain {
		loops, err := l.loops(drafts)
		if err != nil || !loops {
			return drafts, false, err
		}
		more, err := l.onTheWay(drafts)
		if err != nil || len(more) == 0 {
			return drafts, true, err
		}
		drafts = append(more, drafts...)
	}
	return drafts, true, nil
}

// onTheWay drafts the move of a directory that lies, on record alone, between a
// directory of the drafts and its new place. Nothing: there is none, or it cannot
// be captured yet.
func (l *look) onTheWay(drafts []Draft) ([]Draft, error) {
	drafted := make(map[repl.UID]bool, len(drafts))
	for i := range drafts {
		drafted[drafts[i].Update.UID] = true
	}
	for i := range drafts {
		d := &drafts[i]
		if d.Kind != KindMove || d.Update.Type != repl.Directory {
			continue
		}
		if below, err := l.below(d.Update.Parent, d.Prior.UID, drafts); err != nil || !below {
			if err != nil {
				return nil, err
			}
			continue
		}
		for dir, depth := d.Update.Parent, 0; dir != l.deps.Root && dir != d.Prior.UID && depth < maxChain; depth++ {
			uid, err := l.deps.Records.Canonical(dir)
			if err != nil {
				return nil, err
			}
			rec, ok, err := l.deps.Records.Get(uid)
			if err != nil || !ok || !rec.Present || !seen(&rec) {
				return nil, err
			}
			if _, left := l.moved[uid]; !left && !drafted[uid] {
				more, err := l.followed(&rec, d.Prior.UID, depth)
				if err != nil || len(more) > 0 {
					return more, err
				}
			}
			dir = rec.Parent
		}
	}
	return nil, nil
}

// followed drafts the move of a directory to where it is seen.
func (l *look) followed(rec *repl.Record, taker repl.UID, depth int) ([]Draft, error) {
	fate, at, err := l.fate(rec)
	if err != nil || fate != elsewhere {
		return nil, err
	}
	drafts, ok, err := l.follow(rec, at, taker, depth)
	if !ok {
		drafts = nil
	}
	return drafts, err
}
