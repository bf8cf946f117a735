package engine

import (
	"context"
	"errors"
	"io"
	"slices"

	"opendfs/internal/fetch"
	"opendfs/internal/preserve"
	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/staging"
	"opendfs/internal/wire"
)

const (
	// maxSigning is how many contents are signed or matched for partners at once.
	maxSigning = 2
	// maxRecent is how many signatures are held that partners ask about.
	maxRecent = 4
	// defaultMinDelta is the size from which on a content is worth signing.
	defaultMinDelta = 64 << 10
)

func (c *Config) minDelta() int64 {
	if c.MinDelta > 0 {
		return c.MinDelta
	}
	return defaultMinDelta
}

// signed is the signature of a content with the tree over it.
type signed struct {
	content repl.Hash
	sig     *rdc.Signature
	tree    *rdc.Tree
}

// delta makes c what its content lacks of the seeds, where the signature of the
// first of them is kept; what it lacks of the grains, where it is not; an offer of its
// own signature where there are none, or where files like it may be looked for; and
// leaves it whole where that would not pay.
func (s *Served) delta(ctx context.Context, c *Content, item *wire.ContentItem) {
	if c.rec.Size == 0 {
		return
	}
	if len(item.Grains) > 0 && (len(item.Seeds) == 0 || s.env.Staging == nil || !s.env.Staging.Has(item.Seeds[0])) {
		if s.graft(c, item.Grains) || !item.Similar {
			return
		}
	}
	if s.env.Staging == nil {
		return
	}
	traits := s.env.Staging.Traits(c.rec.Content)
	similar := item.Similar && traits != (rdc.Traits{})
	if len(item.Seeds) == 0 && !similar {
		return // nothing is read only to find out that nothing is like it
	}
	select {
	case s.signing <- struct{}{}:
		defer func() { <-s.signing }()
	case <-ctx.Done():
		return
	}
	target, err := s.signature(ctx, c)
	if err != nil {
		return
	}
	kept, release, ok := s.kept(item.Seeds)
	defer release()
	if ok && s.match(c, target, kept, item.Needs) {
		return
	}
	if !ok && len(item.Seeds) > 0 || similar {
		c.head.Form, c.head.Offer = wire.FormOffer, target.tree.Offer().Encode(nil)
		c.lead, c.ranges = nil, nil
		if item.Similar {
			c.head.Traits = traits
		}
	}
}

// graft makes c what its content lacks of grains, and reports whether that pays. The
// content is read once, whatever comes of it.
func (s *Served) graft(c *Content, grains []byte) bool {
	if c.rec.Size > rdc.MaxGraft {
		return false
	}
	next := make([]byte, c.rec.Size)
	if n, _ := c.ReadAt(next, 0); n < len(next) {
		return false // it is read once more, and fails, when it is sent
	}
	runs, fresh := rdc.Graft(grains, next)
	if len(runs)+len(fresh) > len(next)/10*9 {
		c.lead, c.ranges = next, nil
		return false
	}
	c.head.Form, c.head.Needs, c.head.Carries = wire.FormGraft, len(runs), int64(len(runs)+len(fresh))
	c.lead, c.ranges = append(runs, fresh...), nil
	return true
}

// match makes c what its content lacks of seeds, or only the needs, and reports
// whether that pays.
func (s *Served) match(c *Content, target signed, seeds []rdc.Seed, only bool) bool {
	pieces, done := s.pieces(c, target.sig)
	defer done()
	needs, err := rdc.Match(rdc.Seed{Sig: target.sig, Pieces: pieces}, seeds)
	if err != nil {
		return false
	}
	raw := needs.Encode(nil)
	carries := int64(len(raw)) + needs.Missing()
	if len(raw) > wire.MaxNeeds || carries > c.rec.Size/10*9 {
		return false
	}
	c.head.Form, c.head.Needs, c.head.Carries = wire.FormDelta, len(raw), carries
	c.lead, c.ranges = raw, nil
	if only {
		c.head.Carries = int64(len(raw))
		return true
	}
	for _, r := range needs.Runs {
		if r.Seed == rdc.Fetch {
			c.ranges = append(c.ranges, rdc.Range{Off: r.Off, Len: r.Len})
		}
	}
	return true
}

// kept finds the signatures of seeds; without ok that of the first is not kept.
// In the place of others that are not stands an empty one.
func (s *Served) kept(seeds []repl.Hash) (out []rdc.Seed, release func(), ok bool) {
	var held []func()
	release = func() {
		for _, f := range held {
			f()
		}
	}
	if len(seeds) == 0 {
		return nil, release, false
	}
	for i, h := range seeds {
		seed, f, found := s.env.Staging.Get(h)
		if found && seed.Pieces == nil { // they can only be cut from the file
			f()
			found = false
		}
		switch {
		case found:
			held = append(held, f)
		case i == 0:
			return nil, release, false
		default:
			seed = rdc.Seed{Sig: &rdc.Signature{}}
		}
		out = append(out, seed)
	}
	return out, release, true
}

// signature returns the signature of an open content: one held, one kept, or one
// made by reading the file.
func (s *Served) signature(ctx context.Context, c *Content) (signed, error) {
	content := c.rec.Content
	s.mu.Lock()
	for i, one := range s.recent {
		if one.content == content {
			s.recent = slices.Insert(slices.Delete(s.recent, i, i+1), 0, one)
			s.mu.Unlock()
			return one, nil
		}
	}
	s.mu.Unlock()
	one := signed{content: content}
	if seed, release, ok := s.env.Staging.Get(content); ok {
		one.sig = seed.Sig
		release()
	} else {
		var err error
		if one.sig, err = s.env.Staging.Make(&untilDone{ctx, io.NewSectionReader(c.File, 0, c.rec.Size)}, content, c.rec.Size); err != nil {
			return signed{}, err
		}
	}
	one.tree = rdc.NewTree(one.sig)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent = slices.Insert(s.recent, 0, one)
	s.recent = s.recent[:min(len(s.recent), maxRecent)]
	return one, nil
}

// untilDone reads until a context ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

// Read is that of the reader.
func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// pieces are those kept of a content, or cut again from its file.
func (s *Served) pieces(c *Content, sig *rdc.Signature) (rdc.PieceFunc, func()) {
	if seed, release, ok := s.env.Staging.Get(c.rec.Content); ok {
		if seed.Pieces != nil {
			return seed.Pieces, release
		}
		release()
	}
	return rdc.CutPieces(c.File, sig), func() {}
}

// Rdc answers a question about the content of a version.
func (s *Served) Rdc(ctx context.Context, req *wire.RdcRequest) ([]byte, error) {
	if s.env.Staging == nil {
		return nil, wire.Errorf(wire.CodeUnavailable, "no signatures are kept here")
	}
	c, status := s.version(req.UID, req.GVSN)
	if status != wire.StatusOK {
		return nil, wire.Errorf(wire.CodeUnavailable, "the content is not there: %v", status)
	}
	reply, err := s.answer(ctx, c, req)
	if closed := c.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, wire.Errorf(wire.CodeUnavailable, "about %v: %v", req.UID, err)
	}
	return reply, nil
}

func (s *Served) answer(ctx context.Context, c *Content, req *wire.RdcRequest) ([]byte, error) {
	if len(req.Grains.Ranges) > 0 {
		return rdc.AnswerGrains(nil, req.Grains, c.File, c.rec.Size)
	}
	select {
	case s.signing <- struct{}{}:
		defer func() { <-s.signing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	one, err := s.signature(ctx, c)
	if err != nil {
		return nil, err
	}
	pieces, done := s.pieces(c, one.sig)
	defer done()
	return one.tree.Answer(nil, req.Question, pieces)
}

// signer signs contents of at least least bytes on their way past.
func signer(kept *staging.Store, least int64) func(size int64, like repl.Hash) (io.Writer, func(repl.Hash, bool)) {
	if kept == nil {
		return nil
	}
	return func(size int64, like repl.Hash) (io.Writer, func(repl.Hash, bool)) {
		if size < least {
			return nil, nil
		}
		return kept.Sign(size, like)
	}
}

// stager makes what brings contents.
func (e *Env) stager(cfg *Config, t Transfer) fetch.Stager {
	s := fetch.Stager{Volume: e.Volume, Folder: cfg.Folder, Workers: e.Workers, MinDelta: cfg.minDelta(), Whole: t.Whole}
	if t.MinDelta > 0 {
		s.MinDelta = t.MinDelta
	}
	if e.Staging != nil {
		s.Signatures, s.Parts = e.Staging, e.Staging
		if !t.NoCrossFile {
			s.Find = e.find
		}
	}
	return s
}

// maxKeptLooked is how many kept objects are looked at for a content.
const maxKeptLooked = 4096

// find finds a file with a content of which the signature is kept: one of the
// tree, or one that was kept aside when it was deleted or had lost.
func (e *Env) find(content repl.Hash) (fetch.Old, bool) {
	seed, release, ok := e.Staging.Get(content)
	if !ok {
		return fetch.Old{}, false
	}
	release()
	size := seed.Sig.Size
	recs, err := e.Store.ByContent(content, size)
	if err != nil {
		return fetch.Old{}, false
	}
	for i := range recs {
		if l, err := e.localOf(&recs[i]); err == nil {
			return fetch.Old{Local: l, Content: content}, true
		}
	}
	return e.findKept(content, size)
}

var errEnough = errors.New("looked at enough")

func (e *Env) findKept(content repl.Hash, size int64) (old fetch.Old, found bool) {
	looked := 0
	_ = e.Keep.List(func(k preserve.Entry) error { // what cannot be listed is not found
		if k.Type == repl.File && k.Size == size && k.Record.Content == content {
			old, found = e.keptFile(&k)
		}
		if looked++; found || looked == maxKeptLooked {
			return errEnough
		}
		return nil
	})
	return old, found
}

// keptFile says where a kept file lies and what it is.
func (e *Env) keptFile(k *preserve.Entry) (fetch.Old, bool) {
	area, err := e.Volume.Private(k.Area)
	if err != nil {
		return fetch.Old{}, false
	}
	st, err := area.Lookup(k.Name)
	if err = errors.Join(err, area.Close()); err != nil || st.Type != repl.File {
		return fetch.Old{}, false
	}
	return fetch.Old{Local: fetch.Local{Area: k.Area, Name: k.Name, Identity: st.Identity, Print: st.Print}, Content: k.Record.Content}, true
}

// leastOld is the size from which on an old version is of use, in bytes.
const leastOld = 2 << 10

// old lists the file of this member that holds another version of a content.
func (e *Env) old(u *repl.Update, least int64) []fetch.Old {
	if u.Size < least {
		return nil
	}
	rec, ok, err := e.Store.Get(u.UID)
	if err != nil || !ok || !rec.Present || rec.Presence != repl.OnDisk || rec.Type != repl.File || rec.Size < least {
		return nil // the partner has all of it
	}
	l, err := e.localOf(&rec)
	if err != nil {
		return nil
	}
	return []fetch.Old{{Local: l, Content: rec.Content}}
}
