package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
	"opendfs/internal/wire"
)

// Signatures are the signatures that this member keeps of contents. What it
// cannot keep is no error.
type Signatures interface {
	// Get returns a kept one; release lets go of its pieces.
	Get(content repl.Hash) (seed rdc.Seed, release func(), ok bool)
	// Similar finds contents with kept signatures that are like one with those
	// traits, at most n.
	Similar(traits rdc.Traits, n int) []repl.Hash
	// Make signs what r holds, which must be the content.
	Make(r io.Reader, content repl.Hash, size int64) (*rdc.Signature, error)
	// Sign signs a content on its way past, of which like is another version. end
	// is called once, with ok if it was written whole.
	Sign(size int64, like repl.Hash) (w io.Writer, end func(content repl.Hash, ok bool))
	// Assembled is Sign for a content that is put together of like and others as
	// runs say; with coarse without pieces, which would take more room than the
	// content itself.
	Assembled(size int64, like repl.Hash, runs *rdc.Needs, coarse bool) (w io.Writer, end func(content repl.Hash, ok bool))
}

// Old is a file of this member that may hold most of a content: another version
// of it.
type Old struct {
	Local
	Content repl.Hash // when it was recorded
}

// errSeed says that an old version is not what it was on record; the content is
// fetched whole, without a word.
var errSeed = errors.New("the old version has changed")

// Delta is what assembling from old versions came to.
type Delta struct {
	Saved   int64 // bytes of the content that did not come
	Similar bool  // the old versions were files like it, not itself before
	// Broken is why what was assembled is not the content, which was then fetched
	// whole.
	Broken error
}

// healed says which errors of a delta another try, whole, may heal.
func healed(err error) bool {
	return errors.Is(err, rdc.ErrMismatch) || errors.Is(err, rdc.ErrFormat) || errors.Is(err, errSeed)
}

// seeds lists the contents that a transfer may start from.
func (s *Stager) seeds(w *Wanted) []repl.Hash {
	if s.Signatures == nil || w.Update.Size < s.MinDelta {
		return nil
	}
	var out []repl.Hash
	for i := range w.Old {
		if w.Old[i].Print.Size < s.MinDelta { // nobody has signed it
			return nil
		}
		if len(out) < wire.MaxSeeds {
			out = append(out, w.Old[i].Content)
		}
	}
	return out
}

// refineFrom is how many runs make a content one with many small changes, such as an
// archive: those are looked at once more, closer.
const refineFrom = 512

// maxSimilar is how many files like a content are made use of.
const maxSimilar = 5

// similar reports whether a content may be offered to be looked for in files like
// it.
func (s *Stager) similar(w *Wanted) bool {
	return s.Find != nil && s.Signatures != nil && w.Update.Size >= s.MinDelta
}

// like finds files that are like a content with those traits, other than those
// that are known already.
func (s *Stager) like(w *Wanted, traits rdc.Traits) []Old {
	if !s.similar(w) || traits == (rdc.Traits{}) {
		return nil
	}
	var out []Old
	for _, h := range s.Signatures.Similar(traits, maxSimilar+len(w.Old)) {
		if len(out) == maxSimilar || slices.ContainsFunc(w.Old, func(o Old) bool { return o.Content == h }) {
			continue
		}
		if old, ok := s.Find(h); ok {
			out = append(out, old)
		}
	}
	return out
}

// olds are the files that a content is assembled from, open.
type olds struct {
	files []volume.File
	from  []Old
	part  volume.File // the beginning of the content itself, numbered behind them; nil: there is none
}

// openOlds opens the seeds of a wanted content; errSeed if one is not what it was.
func (s *Stager) openOlds(from []Old) (*olds, error) {
	o := &olds{from: from}
	for i := range from {
		f, err := s.openLocal(&from[i].Local)
		if err != nil {
			o.close()
			return nil, errors.Join(errSeed, err)
		}
		o.files = append(o.files, f)
	}
	return o, nil
}

func (s *Stager) openLocal(l *Local) (volume.File, error) {
	var d volume.Dir
	var err error
	if l.Area != "" {
		d, err = s.Volume.Private(l.Area)
	} else {
		d, err = s.Volume.OpenDir(l.Dir)
	}
	if err != nil {
		return nil, err
	}
	f, err := d.OpenFile(l.Name)
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	if !same(f, l) {
		return nil, errors.Join(errSeed, f.Close())
	}
	return f, nil
}

// same reports whether an open file is what it was when it was recorded.
func same(f volume.File, l *Local) bool {
	st, err := f.Stat()
	return err == nil && st.Identity == l.Identity && st.Print.SameData(l.Print)
}

// unchanged is errSeed if an old version is no longer what it was.
func (o *olds) unchanged() error {
	for i := range o.files {
		if !same(o.files[i], &o.from[i].Local) {
			return errSeed
		}
	}
	return nil
}

func (o *olds) sizes() []int64 {
	var out []int64
	for i := range o.from {
		out = append(out, o.from[i].Print.Size)
	}
	return out
}

func (o *olds) readers() []io.ReaderAt {
	var out []io.ReaderAt
	for _, f := range o.files {
		out = append(out, f)
	}
	return out
}

func (o *olds) close() {
	for _, f := range o.files {
		_ = f.Close() // it was only read
	}
	if o.part != nil {
		_ = o.part.Close() // it was only read
	}
}

// receiveDelta takes an item that comes as needs and new bytes.
func (s *Stager) receiveDelta(pool *pool, w *Wanted, out *Staged, head *wire.Head, r io.Reader) {
	if head.Carries > small || pool == nil {
		out.set(w, s.delta(w, out, head, r))
		return
	}
	buf := buffers.Get().(*bytes.Buffer)
	buf.Reset()
	if _, err := buf.ReadFrom(r); err != nil {
		buffers.Put(buf)
		out.Err = fmt.Errorf("receive %v: %w", w.Update.UID, err)
		return
	}
	h := *head
	pool.do(func() {
		out.set(w, s.delta(w, out, &h, buf))
		buffers.Put(buf)
	})
}

// set notes how a delta ended.
func (out *Staged) set(w *Wanted, err error) {
	switch {
	case err == nil:
	case healed(err):
		out.whole = true
		if !errors.Is(err, errSeed) {
			out.Delta.Broken = fmt.Errorf("assemble %v: %w", w.Update.UID, err)
		}
	default:
		out.Err = fmt.Errorf("stage %v: %w", w.Update.UID, err)
	}
}

// delta assembles a content from needs and the new bytes behind them.
func (s *Stager) delta(w *Wanted, out *Staged, head *wire.Head, r io.Reader) error {
	raw := make([]byte, head.Needs)
	if _, err := io.ReadFull(r, raw); err != nil {
		return err
	}
	o, err := s.openOlds(w.Old)
	if err != nil {
		return err
	}
	defer o.close()
	needs, err := rdc.DecodeNeeds(raw, o.sizes())
	if err == nil && needs.Missing() != head.Carries-int64(head.Needs) {
		err = fmt.Errorf("%d bytes come for %d that are needed: %w", head.Carries-int64(head.Needs), needs.Missing(), rdc.ErrFormat)
	}
	if err == nil {
		err = s.assemble(w, o, needs, r, out)
	}
	if err == nil {
		out.Delta.Saved = w.Update.Size - head.Carries
	}
	return err
}

// lacks is a content that comes as needs, without the bytes that they lack.
type lacks struct {
	index int
	raw   []byte
	err   error
}

func (s *Stager) receiveNeeds(index int, head *wire.Head, r io.Reader) lacks {
	l := lacks{index: index, raw: make([]byte, head.Needs)}
	_, l.err = io.ReadFull(r, l.raw)
	return l
}

// bringLacking assembles a content from needs and what is missing here by them.
func (s *Stager) bringLacking(ctx context.Context, up Upstream, w *Wanted, out *Staged, l *lacks) error {
	if l.err != nil {
		return l.err
	}
	o, err := s.openOlds(w.Old)
	if err != nil {
		return err
	}
	defer o.close()
	needs, err := rdc.DecodeNeeds(l.raw, o.sizes())
	if err == nil {
		err = s.complete(ctx, up, w, o, needs, out)
	}
	if err == nil {
		out.Delta.Saved = max(0, w.Update.Size-needs.Missing()-int64(len(l.raw)))
	}
	return err
}

// complete brings what needs lack, but for what an earlier transfer brought, and
// assembles the content.
func (s *Stager) complete(ctx context.Context, up Upstream, w *Wanted, o *olds, needs *rdc.Needs, out *Staged) error {
	needs, o.part = s.begun(&w.Update, needs, len(o.files))
	return s.literals(ctx, up, &w.Update, needs, func(r io.Reader) error { return s.assemble(w, o, needs, r, out) })
}

// offered is a content whose signature the partner lets this member look at.
type offered struct {
	index  int
	offer  []byte
	traits rdc.Traits
}

// syncers is how many offers are followed at once, each a row of questions.
const syncers = 4

// follow finds, for each content that was offered, what of it is missing here,
// and brings that.
func (s *Stager) follow(ctx context.Context, up Upstream, wanted []Wanted, out []Staged, offers []offered) {
	one := func(o offered) {
		w := &wanted[o.index]
		out[o.index].set(w, s.sync(ctx, up, w, &out[o.index], &o))
	}
	if s.Workers == 0 {
		for _, o := range offers {
			one(o)
		}
		return
	}
	var done sync.WaitGroup
	left := make(chan offered, len(offers))
	for _, o := range offers {
		left <- o
	}
	close(left)
	for range min(syncers, len(offers)) {
		done.Go(func() {
			for o := range left {
				one(o)
			}
		})
	}
	done.Wait()
}

// sync brings one offered content: from old versions of it, and where there is
// none or little of it in them, from files like it.
func (s *Stager) sync(ctx context.Context, up Upstream, w *Wanted, out *Staged, about *offered) error {
	offer, err := rdc.DecodeOffer(about.offer)
	if err != nil || offer.Size != w.Update.Size {
		return fmt.Errorf("offer of %d bytes: %w", offer.Size, errors.Join(err, rdc.ErrFormat))
	}
	err = errSeed
	if len(w.Old) > 0 {
		err = s.syncFrom(ctx, up, w, out, offer)
	}
	if !errors.Is(err, errSeed) {
		return err
	}
	like := s.like(w, about.traits)
	if len(like) == 0 {
		return err
	}
	more := *w
	more.Old = append(like, w.Old...)
	more.Old = more.Old[:min(len(more.Old), rdc.MaxSeeds)]
	err = s.syncFrom(ctx, up, &more, out, offer)
	out.Delta.Similar = err == nil
	return err
}

// syncFrom brings one offered content from the old versions it is wanted with;
// errSeed if they have too little of it.
func (s *Stager) syncFrom(ctx context.Context, up Upstream, w *Wanted, out *Staged, offer rdc.Offer) error {
	u := &w.Update
	o, err := s.openOlds(w.Old)
	if err != nil {
		return err
	}
	defer o.close()
	var asked int64
	var lost error // of the partner, not of what it said
	about := wire.RdcRequest{Folder: s.Folder, UID: u.UID, GVSN: u.GVSN}
	ask := func(req wire.RdcRequest) ([]byte, error) {
		reply, err := up.Rdc(ctx, &req)
		asked += int64(len(reply))
		lost = err
		return reply, err
	}
	needs, err := s.needs(o, offer, func(q rdc.Request) ([]byte, error) {
		req := about
		req.Question = q
		return ask(req)
	})
	if err == nil && len(needs.Runs) >= refineFrom {
		needs, err = rdc.Refine(needs, o.readers(), o.sizes(), func(q rdc.GrainRequest) ([]byte, error) {
			req := about
			req.Grains = q
			return ask(req)
		})
	}
	if err != nil && lost == nil && !errors.Is(err, rdc.ErrFormat) {
		err = errors.Join(errSeed, err) // no match could be made of what is here
	}
	if err == nil && needs.Missing() > u.Size/10*9 {
		err = errSeed // nothing to speak of is here
	}
	if err == nil {
		err = s.complete(ctx, up, w, o, needs, out)
	}
	if err == nil {
		out.Delta.Saved = max(0, u.Size-needs.Missing()-asked)
	}
	return err
}

// needs matches an offered content with the old versions.
func (s *Stager) needs(o *olds, offer rdc.Offer, ask rdc.Asker) (*rdc.Needs, error) {
	var seeds []rdc.Seed
	for i, f := range o.files {
		old := &o.from[i]
		if seed, release, ok := s.Signatures.Get(old.Content); ok {
			defer release()
			if seed.Pieces == nil {
				seed.Pieces = rdc.CutPieces(f, seed.Sig)
			}
			seeds = append(seeds, seed)
			continue
		}
		sig, err := s.Signatures.Make(io.NewSectionReader(f, 0, old.Print.Size), old.Content, old.Print.Size)
		if err != nil {
			return nil, errors.Join(errSeed, err)
		}
		seeds = append(seeds, rdc.Seed{Sig: sig, Pieces: rdc.CutPieces(f, sig)})
	}
	_, needs, err := rdc.Sync(offer, seeds, ask)
	return needs, err
}

// literals brings the bytes that needs lack, one after the other.
func (s *Stager) literals(ctx context.Context, up Upstream, u *repl.Update, needs *rdc.Needs, use func(io.Reader) error) error {
	var ranges []rdc.Range
	for _, r := range needs.Runs {
		if r.Seed == rdc.Fetch {
			ranges = append(ranges, rdc.Range{Off: r.Off, Len: r.Len})
		}
	}
	bring := func(part []rdc.Range, use func(io.Reader) error) error {
		items := []wire.ContentItem{{UID: u.UID, GVSN: u.GVSN, Ranges: part}}
		var used error
		err := up.Content(ctx, s.Folder, items, func(_ int, head *wire.Head, r io.Reader) error {
			if head.Status != wire.StatusOK {
				used = fmt.Errorf("content of %v: partner says %v", u.UID, head.Status)
				return nil
			}
			used = use(r)
			return nil
		})
		return errors.Join(used, err)
	}
	switch {
	case len(ranges) == 0:
		return use(bytes.NewReader(nil))
	case len(ranges) <= wire.MaxRanges:
		return bring(ranges, use)
	}
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		for len(ranges) > 0 && err == nil {
			n := min(len(ranges), wire.MaxRanges)
			err = bring(ranges[:n], func(r io.Reader) error {
				_, err := io.Copy(pw, r)
				return err
			})
			ranges = ranges[n:]
		}
		_ = pw.CloseWithError(err) // it never fails
	}()
	err := use(pr)
	_ = pr.Close() // it never fails
	<-done
	return err
}
