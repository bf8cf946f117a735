package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// Cover is the newest statement of a member that was heard here, and when it
// was, by this member's own clock. A member of which nothing was heard yet has
// no Originator; Heard is since when it is waited for.
type Cover struct {
	repl.Statement
	Heard repl.Time
}

const coverLayout = 1

// Covers returns what members are known to cover, in the order of their ids.
func (f *Folder) Covers() ([]Cover, error) {
	prefix := f.keys.table(nil, tablePartner)
	c := f.kv.Scan(prefix, after(prefix))
	var out []Cover
	var bad error
	for bad == nil && c.Next() {
		cover, err := decodeCover(c.Key()[len(prefix):], c.Value())
		if err != nil {
			bad = corrupt("what a member covers, row %x: %v", c.Key(), err)
			break
		}
		out = append(out, cover)
	}
	return out, errors.Join(bad, c.Close())
}

// SetCovers stores what members said. It is not synced: after a crash an older
// statement means that less is collected.
func (f *Folder) SetCovers(list []Cover) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dropped {
		return fmt.Errorf("folder %v: its records were dropped", f.id)
	}
	var ops Ops
	for i := range list {
		ops.Set(f.keys.partner(list[i].Member), appendCover(nil, &list[i]))
	}
	return f.s.kv.Apply(&ops, false)
}

func appendCover(b []byte, c *Cover) []byte {
	b = append(append(b, coverLayout), c.Database[:]...)
	b = binary.AppendVarint(binary.AppendVarint(b, int64(c.Stamp)), int64(c.Heard))
	return c.Covers.Append(b)
}

func decodeCover(key, value []byte) (c Cover, err error) {
	if len(key) != len(c.Member) || len(value) < 1+len(c.Database) || value[0] != coverLayout {
		return c, errShort
	}
	c.Member, c.Database = repl.MemberID(key), version.Originator(value[1:])
	rest := value[1+len(c.Database):]
	for _, to := range []*repl.Time{&c.Stamp, &c.Heard} {
		t, n := binary.Varint(rest)
		if n <= 0 {
			return c, errShort
		}
		*to, rest = repl.Time(t), rest[n:]
	}
	c.Covers, err = version.DecodeVector(rest)
	return c, err
}
