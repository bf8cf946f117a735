package staging

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"opendfs/internal/digest"
	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// The end of a kept file: the length of the signature before it, and a mark.
const (
	mark     = "RDCk"
	tailSize = 4 + len(mark)
	// maxSignature bounds the signature that is read: of MaxChunks chunks.
	maxSignature = 64 + 20*rdc.MaxChunks
)

// alone is the size up to which a content is signed by its caller's goroutine.
const alone = 1 << 20

// ErrOther says that what was read is not the content it was to be.
var ErrOther = errors.New("content is another than expected")

// Get returns the kept signature of a content, with its pieces if they are kept;
// release lets go of them. Without ok there is none.
func (s *Store) Get(h repl.Hash) (seed rdc.Seed, release func(), ok bool) {
	e, ok := s.touch(h)
	if !ok {
		return rdc.Seed{}, nil, false
	}
	seed, f, err := s.open(&e)
	if err != nil {
		s.forget(e)
		return rdc.Seed{}, nil, false
	}
	return seed, func() { _ = f.Close() }, true // it was only read
}

func (s *Store) open(e *entry) (rdc.Seed, volume.File, error) {
	d, err := s.vol.Private(volume.Staging)
	if err != nil {
		return rdc.Seed{}, nil, err
	}
	f, err := d.OpenFile(e.name())
	if err = errors.Join(err, d.Close()); err != nil {
		return rdc.Seed{}, nil, err
	}
	seed, err := read(f)
	if err != nil {
		return rdc.Seed{}, nil, errors.Join(err, f.Close())
	}
	return seed, f, nil
}

// read decodes a kept file.
func read(f volume.File) (rdc.Seed, error) {
	st, err := f.Stat()
	if err != nil {
		return rdc.Seed{}, err
	}
	var tail [tailSize]byte
	at := st.Print.Size - int64(tailSize)
	if at < 0 {
		return rdc.Seed{}, rdc.ErrFormat
	}
	if n, err := f.ReadAt(tail[:], at); n < tailSize {
		return rdc.Seed{}, err
	}
	size := int64(binary.BigEndian.Uint32(tail[:]))
	if string(tail[4:]) != mark || size > at || size > maxSignature {
		return rdc.Seed{}, rdc.ErrFormat
	}
	raw := make([]byte, size)
	if n, err := f.ReadAt(raw, at-size); n < len(raw) {
		return rdc.Seed{}, err
	}
	sig, err := rdc.DecodeSignature(raw)
	if err != nil || at == size { // without pieces
		return rdc.Seed{Sig: sig}, err
	}
	fine, err := rdc.OpenFine(f, at-size, sig)
	if err != nil {
		return rdc.Seed{}, err
	}
	return rdc.Seed{Sig: sig, Pieces: fine.Pieces}, nil
}

// Sign signs a content of size bytes on its way past: w takes it from its
// beginning on and never fails. end is called once: with ok, the content was
// written whole, its hash is h, and its signature is kept. Where the signature of
// like is kept, what this content has of that is not signed again.
func (s *Store) Sign(size int64, like repl.Hash) (w io.Writer, end func(h repl.Hash, ok bool)) {
	return s.sign(size, guide{like: like})
}

// Assembled is Sign for a content that is put together of like and others as runs
// say. With coarse no pieces are kept: they would take more room than the content
// itself, which shares the most of its own.
func (s *Store) Assembled(size int64, like repl.Hash, runs *rdc.Needs, coarse bool) (w io.Writer, end func(h repl.Hash, ok bool)) {
	return s.sign(size, guide{like, runs, coarse})
}

// guide is what is known of a content that is to be signed.
type guide struct {
	like   repl.Hash
	runs   *rdc.Needs
	coarse bool
}

func (s *Store) sign(size int64, g guide) (w io.Writer, end func(h repl.Hash, ok bool)) {
	m := s.begin(size, g)
	return m, func(h repl.Hash, ok bool) {
		if ok {
			_ = m.keep(h, size) // a cache: what is not kept is made again
		} else {
			m.drop()
		}
	}
}

// Make reads a content of size bytes to its end, holds it against its hash
// (ErrOther), and keeps and returns its signature.
func (s *Store) Make(r io.Reader, h repl.Hash, size int64) (*rdc.Signature, error) {
	m := s.begin(size, guide{})
	whole := digest.New()
	if _, err := rdc.Feed(r, s.workers > 0 && size > alone, whole, m); err != nil {
		m.drop()
		return nil, fmt.Errorf("sign %v: %w", h, err)
	}
	if repl.Hash(whole.Sum(nil)) != h {
		m.drop()
		return nil, fmt.Errorf("sign %v: %w", h, ErrOther)
	}
	if sig := m.keep(h, size); sig != nil {
		return sig, nil
	}
	return nil, fmt.Errorf("sign %v: %w", h, m.err)
}

// making is a signature that is being made. Its disk may fail it: then only the
// signature itself comes out; its signer may: then nothing does.
type making struct {
	s      *Store
	signer *rdc.Signer
	temp   volume.Temp // nil: not kept
	done   int64       // bytes signed
	unlike func()      // lets go of the signature that guides this one
	err    error
}

func (s *Store) begin(size int64, g guide) *making {
	m := &making{s: s}
	opt := rdc.Options{Fine: (*fineFile)(m), Runs: g.runs, ChunksOnly: g.coarse}
	if size > alone {
		opt.Workers = s.workers
	}
	if !g.like.IsZero() && size > alone {
		if seed, release, ok := s.Get(g.like); ok {
			opt.Like, m.unlike = &seed, release
		}
	}
	m.signer = rdc.NewSigner(opt)
	// The fine level is about 0.5 % of the content, twice that at most.
	if size/100 <= s.quota.Load()/4 {
		if t, err := s.vol.NewTemp(0, nil); err == nil {
			m.temp = t
		}
	}
	return m
}

// Write signs.
func (m *making) Write(p []byte) (int, error) {
	if m.err == nil {
		_, m.err = m.signer.Write(p)
		m.done += int64(len(p))
	}
	return len(p), nil
}

// fineFile writes the fine level while there is somewhere to.
type fineFile making

// Write never fails: a fine level that cannot be written is none.
func (f *fineFile) Write(p []byte) (int, error) {
	m := (*making)(f)
	m.write(p)
	return len(p), nil
}

func (m *making) write(p []byte) {
	if m.temp == nil {
		return
	}
	if _, err := m.temp.Write(p); err != nil {
		m.abandon()
	}
}

// abandon goes on without a file.
func (m *making) abandon() {
	if m.temp != nil {
		_ = m.temp.Close() // it has no name
		m.temp = nil
	}
}

func (m *making) drop() {
	m.signer.Close()
	m.guided()
	m.abandon()
}

// guided lets go of the signature that guided this one.
func (m *making) guided() {
	if m.unlike != nil {
		m.unlike()
		m.unlike = nil
	}
}

// keep ends the signature and files it; nil if there is none.
func (m *making) keep(h repl.Hash, size int64) *rdc.Signature {
	if m.err == nil && m.done != size {
		m.err = ErrOther
	}
	if m.err != nil {
		m.drop()
		return nil
	}
	sig, err := m.signer.Finish()
	m.guided()
	if err != nil {
		m.err = err
		m.abandon()
		return nil
	}
	raw := sig.Encode(nil)
	n := len(raw)
	raw = binary.BigEndian.AppendUint32(raw, uint32(n))
	m.write(append(raw, mark...))
	if m.temp != nil {
		m.s.file(entry{content: h, traits: sig.Traits}, m.temp)
	}
	m.abandon()
	return sig
}

// file gives a kept signature its name.
func (s *Store) file(e entry, t volume.Temp) {
	s.load()
	st, err := t.Stat()
	if err != nil {
		return
	}
	d, err := s.vol.Private(volume.Staging)
	if err != nil {
		return
	}
	err = d.Link(t, e.name()) // ErrExist: it is kept already
	if err = errors.Join(err, d.Close()); err == nil {
		e.size = st.Print.Size
		s.forget(s.add(e)...)
	}
}
