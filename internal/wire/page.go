package wire

import (
	"errors"
	"fmt"

	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire/wirepb"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// table collects the originators of a message that is being made. Index 0 is
// no GVSN, index 1 the table's first entry.
type table struct {
	index map[version.Originator]uint32
	bytes []byte
	err   error
}

func newTable() *table { return &table{index: make(map[version.Originator]uint32)} }

func (t *table) of(g version.GVSN) (uint32, uint64) {
	if g.IsZero() {
		return 0, 0
	}
	if g.Originator.IsZero() {
		t.err = fmt.Errorf("%v has no originator", g)
		return 0, 0
	}
	i, ok := t.index[g.Originator]
	if !ok {
		i = uint32(len(t.index) + 1)
		t.index[g.Originator] = i
		t.bytes = append(t.bytes, g.Originator[:]...)
	}
	return i, g.Version
}

func (t *table) pairs(n int, at func(int) version.GVSN) []uint64 {
	out := make([]uint64, 0, 2*n)
	for k := range n {
		i, v := t.of(at(k))
		out = append(out, uint64(i), v)
	}
	return out
}

// origins is a table that was received.
type origins []version.Originator

func decodeOrigins(b []byte) (origins, error) {
	if len(b)%16 != 0 {
		return nil, fmt.Errorf("table of originators has %d bytes", len(b))
	}
	out := make(origins, 0, len(b)/16)
	seen := make(map[version.Originator]bool, len(b)/16)
	for ; len(b) > 0; b = b[16:] {
		o := version.Originator(b[:16])
		if o.IsZero() || seen[o] {
			return nil, fmt.Errorf("originator %v is zero or twice in its table", o)
		}
		seen[o] = true
		out = append(out, o)
	}
	return out, nil
}

func (o origins) gvsn(i uint64, v uint64) (version.GVSN, error) {
	switch {
	case i == 0 && v == 0:
		return version.GVSN{}, nil
	case i == 0 || i > uint64(len(o)):
		return version.GVSN{}, fmt.Errorf("originator %d of %d", i, len(o))
	}
	return version.GVSN{Originator: o[i-1], Version: v}, nil
}

// named is a GVSN that must not be none.
func (o origins) named(i uint64, v uint64) (version.GVSN, error) {
	g, err := o.gvsn(i, v)
	if err == nil && g.IsZero() {
		err = errors.New("an identifier is missing")
	}
	return g, err
}

func (o origins) list(pairs []uint64, limit int) ([]version.GVSN, error) {
	if len(pairs)%2 != 0 || len(pairs)/2 > limit {
		return nil, fmt.Errorf("list of %d numbers, limit %d", len(pairs), 2*limit)
	}
	if len(pairs) == 0 {
		return nil, nil
	}
	out := make([]version.GVSN, 0, len(pairs)/2)
	for ; len(pairs) > 0; pairs = pairs[2:] {
		g, err := o.named(pairs[0], pairs[1])
		if err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return out, nil
}

// UpdateCost returns at least how many bytes u adds to a page; a page whose
// updates cost at most MaxPage together can always be encoded.
func UpdateCost(u *repl.Update) int {
	const fixed = 256 // all numbers, the hash, tags and lengths
	const origin = 18 // an entry in the table
	return fixed + 4*origin + len(u.Name) + len(u.Target) + len(u.Meta) + len(u.History)*(origin+15)
}

// encodePage encodes updates with their tables; short are those that are Short.
func encodePage(updates []repl.Update, short *shortened) ([]byte, error) {
	if len(updates) > MaxUpdates {
		return nil, fmt.Errorf("%d updates, limit %d", len(updates), MaxUpdates)
	}
	if len(updates) == 0 {
		return nil, nil
	}
	t, metas := newTable(), make(map[string]uint32)
	page := &wirepb.Page{Updates: make([]*wirepb.Update, len(updates))}
	for i := range updates {
		u := &updates[i]
		if check, ok := short.take(i); ok {
			p := &wirepb.Update{Mtime: int64(u.Mtime), Check: check}
			p.UidOrigin, p.UidVersion = t.of(version.GVSN(u.UID))
			p.GvsnOrigin, p.GvsnVersion = t.of(u.GVSN)
			page.Updates[i] = p
			continue
		}
		if err := u.Check(); err != nil {
			return nil, err
		}
		p := encodeUpdate(t, u)
		if len(u.Meta) > 0 {
			n, ok := metas[string(u.Meta)]
			if !ok {
				n = uint32(len(metas) + 1)
				metas[string(u.Meta)] = n
				page.Metas = append(page.Metas, u.Meta)
			}
			p.Meta = n
		}
		page.Updates[i] = p
	}
	page.Originators = t.bytes
	page.Salt = short.bytes()
	b, err := proto.Marshal(page)
	if err == nil {
		err = t.err
	}
	if err == nil && len(b) > MaxPage {
		err = fmt.Errorf("page of %d bytes, limit %d", len(b), MaxPage)
	}
	return b, err
}

func encodeUpdate(t *table, u *repl.Update) *wirepb.Update {
	p := &wirepb.Update{
		Name: []byte(u.Name), Type: uint32(u.Type), Present: u.Present, NameConflict: u.NameConflict,
		Fence: int64(u.Fence), CreateTime: int64(u.CreateTime), Clock: int64(u.Clock),
		Size: u.Size, Mtime: int64(u.Mtime), Target: []byte(u.Target),
		History: t.pairs(len(u.History), func(k int) version.GVSN { return u.History[k] }),
	}
	if !u.Content.IsZero() {
		p.Content = u.Content[:]
	}
	p.UidOrigin, p.UidVersion = t.of(version.GVSN(u.UID))
	p.GvsnOrigin, p.GvsnVersion = t.of(u.GVSN)
	p.ParentOrigin, p.ParentVersion = t.of(version.GVSN(u.Parent))
	p.HeirOrigin, p.HeirVersion = t.of(version.GVSN(u.Heir))
	return p
}

// shortened are the touches of a page, on their way.
type shortened struct {
	salt    [16]byte
	touches []Touch
	next    int
}

// take returns the check of the update at i, if that goes short.
func (s *shortened) take(i int) (check uint64, ok bool) {
	if s == nil || s.next == len(s.touches) || s.touches[s.next].At != i {
		return 0, false
	}
	s.next++
	return s.touches[s.next-1].Check, true
}

func (s *shortened) bytes() []byte {
	if s == nil || len(s.touches) == 0 {
		return nil
	}
	return s.salt[:]
}

// decodePage decodes updates, which may not be short.
func decodePage(b []byte) ([]repl.Update, error) {
	return decodeShort(b, nil)
}

// decodeShort decodes updates, and which of them are Short, where short can take them;
// metadata blobs are shared among them.
func decodeShort(b []byte, short *shortened) ([]repl.Update, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) > MaxPage {
		return nil, fmt.Errorf("page of %d bytes, limit %d", len(b), MaxPage)
	}
	if err := atMost(b, counted{2, MaxUpdates}, counted{3, MaxUpdates}); err != nil {
		return nil, err
	}
	var page wirepb.Page
	if err := unmarshal(b, &page); err != nil {
		return nil, err
	}
	from, err := decodeOrigins(page.Originators)
	if err != nil {
		return nil, err
	}
	if short != nil && len(page.Salt) == len(short.salt) {
		copy(short.salt[:], page.Salt)
	} else if len(page.Salt) > 0 {
		return nil, fmt.Errorf("salt of %d bytes", len(page.Salt))
	} else {
		short = nil
	}
	out := make([]repl.Update, len(page.Updates))
	for i, p := range page.Updates {
		if short != nil && p.Check != 0 {
			uid, err1 := from.named(uint64(p.UidOrigin), p.UidVersion)
			gvsn, err2 := from.named(uint64(p.GvsnOrigin), p.GvsnVersion)
			if err := errors.Join(err1, err2); err != nil {
				return nil, err
			}
			out[i] = repl.Update{UID: repl.UID(uid), GVSN: gvsn, Mtime: repl.Time(p.Mtime)}
			short.touches = append(short.touches, Touch{i, p.Check})
			continue
		}
		if err := decodeUpdate(&out[i], p, from, page.Metas); err != nil {
			return nil, fmt.Errorf("update %d of %d: %w", i, len(out), err)
		}
	}
	return out, nil
}

func decodeUpdate(u *repl.Update, p *wirepb.Update, from origins, metas [][]byte) error {
	uid, err1 := from.named(uint64(p.UidOrigin), p.UidVersion)
	gvsn, err2 := from.named(uint64(p.GvsnOrigin), p.GvsnVersion)
	parent, err3 := from.gvsn(uint64(p.ParentOrigin), p.ParentVersion)
	heir, err4 := from.gvsn(uint64(p.HeirOrigin), p.HeirVersion)
	history, err5 := from.list(p.History, repl.MaxHistory)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	for i := 1; i < len(history); i++ {
		if history[i-1].Originator.Compare(history[i].Originator) >= 0 {
			return errors.New("history out of order")
		}
	}
	*u = repl.Update{
		UID: repl.UID(uid), GVSN: gvsn, Parent: repl.UID(parent), Heir: repl.UID(heir), History: history,
		Name: string(p.Name), Present: p.Present, NameConflict: p.NameConflict, Fence: repl.Fence(p.Fence),
		CreateTime: repl.Time(p.CreateTime), Clock: repl.Time(p.Clock), Size: p.Size, Mtime: repl.Time(p.Mtime),
		Target: string(p.Target),
	}
	if p.Type > uint32(repl.Symlink) {
		return fmt.Errorf("type %d", p.Type)
	}
	u.Type = repl.Type(p.Type)
	if u.Content, err1 = decodeHash(p.Content); err1 != nil {
		return err1
	}
	if p.Meta > uint32(len(metas)) {
		return fmt.Errorf("metadata %d of %d", p.Meta, len(metas))
	}
	if p.Meta > 0 {
		u.Meta = metas[p.Meta-1]
	}
	return u.Check()
}

func decodeHash(b []byte) (repl.Hash, error) {
	if len(b) != 0 && len(b) != len(repl.Hash{}) {
		return repl.Hash{}, fmt.Errorf("hash of %d bytes", len(b))
	}
	var h repl.Hash
	copy(h[:], b)
	return h, nil
}

// counted limits how often a field may stand in a message.
type counted struct {
	field protowire.Number
	limit int
}

// atMost checks the counts of repeated fields before a decoder allocates for
// each of them.
func atMost(b []byte, limits ...counted) error {
	seen := make([]int, len(limits))
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(num, kind, b[n:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[n+size:]
		for i, l := range limits {
			if num != l.field {
				continue
			}
			if seen[i]++; seen[i] > l.limit {
				return fmt.Errorf("field %d stands more than %d times", num, l.limit)
			}
		}
	}
	return nil
}

func unmarshal(b []byte, m proto.Message) error {
	return proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: 8}.Unmarshal(b, m)
}
