package rdc

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
)

// virtual is a file that is made as it is read: stretches of endless random
// streams, so that large files need no memory.
type virtual []stretch

type stretch struct {
	stream uint64
	off    int64
	len    int64
}

func (v virtual) size() int64 {
	var n int64
	for _, s := range v {
		n += s.len
	}
	return n
}

func word(stream, i uint64) uint64 { // splitmix64
	x := stream*0xd1342543de82ef95 + i*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (s stretch) read(p []byte, off int64) {
	off += s.off
	var w [8]byte
	for len(p) > 0 {
		if off%8 == 0 && len(p) >= 8 {
			binary.LittleEndian.PutUint64(p, word(s.stream, uint64(off/8)))
			p, off = p[8:], off+8
			continue
		}
		binary.LittleEndian.PutUint64(w[:], word(s.stream, uint64(off/8)))
		n := copy(p, w[off%8:])
		p, off = p[n:], off+int64(n)
	}
}

func (v virtual) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for _, s := range v {
		if n == len(p) {
			break
		}
		if off < s.len {
			k := min(int64(len(p)-n), s.len-off)
			s.read(p[n:n+int(k)], off)
			n += int(k)
			off = s.len
		}
		off -= s.len
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// insert puts n bytes of another stream at off; replace puts them in place.
func (v virtual) insert(off int64, n int64, stream uint64) virtual {
	return v.splice(off, 0, n, stream)
}

func (v virtual) replace(off, n int64, stream uint64) virtual { return v.splice(off, n, n, stream) }

func (v virtual) splice(off, drop, n int64, stream uint64) virtual {
	a := v.cut(0, off)
	if n > 0 {
		a = append(a, stretch{stream, 0, n})
	}
	return append(a, v.cut(off+drop, v.size())...)
}

func (v virtual) cut(from, to int64) virtual {
	var out virtual
	var at int64
	for _, s := range v {
		lo, hi := max(from, at), min(to, at+s.len)
		if lo < hi {
			out = append(out, stretch{s.stream, s.off + lo - at, hi - lo})
		}
		at += s.len
	}
	return out
}

// version is a file signed and at rest: all that a member has of it.
type version struct {
	data io.ReaderAt
	size int64
	sig  *Signature
	fine *Fine
	sum  [32]byte
}

func (v *version) seed() Seed { return Seed{v.sig, v.fine.Pieces} }

func sign(t testing.TB, data io.ReaderAt, size int64) *version {
	t.Helper()
	var kept bytes.Buffer
	sig, sum, err := Sign(io.NewSectionReader(data, 0, size), Options{Workers: 2, Fine: &kept})
	if err != nil {
		t.Fatal(err)
	}
	if sig.Size != size {
		t.Fatalf("signed %d bytes of %d", sig.Size, size)
	}
	fine, err := OpenFine(bytes.NewReader(kept.Bytes()), int64(kept.Len()), sig)
	if err != nil {
		t.Fatal(err)
	}
	return &version{data, size, sig, fine, sum}
}

func signBytes(t testing.TB, b []byte) *version {
	t.Helper()
	return sign(t, bytes.NewReader(b), int64(len(b)))
}

// wire counts what travels.
type wire struct {
	asked, answered, needs, literals int64
	rounds                           int

	refined wire2 // the same after Refine
}

// wire2 is what Refine asks and what is left to fetch after it.
type wire2 struct {
	asked, answered, needs, literals int64
	rounds                           int
}

func (w wire) overhead() int64 { return w.asked + w.answered + w.needs }
func (w wire) total() int64    { return w.overhead() + w.literals }

// literals reads the Fetch runs of needs out of the new version, in order.
func literals(needs *Needs, from io.ReaderAt) io.Reader {
	var parts []io.Reader
	for _, r := range needs.Runs {
		if r.Seed == Fetch {
			parts = append(parts, io.NewSectionReader(from, r.Off, r.Len))
		}
	}
	return io.MultiReader(parts...)
}

// pull brings next to the side that has olds, which asks for what it lacks, and
// shows that the file comes out whole. Every message passes through its bytes.
func pull(t testing.TB, next *version, olds ...*version) (wire, *Needs) {
	t.Helper()
	tree := NewTree(next.sig)
	raw := tree.Offer().Encode(nil)
	offer, err := DecodeOffer(raw)
	if err != nil {
		t.Fatal(err)
	}
	w := wire{answered: int64(len(raw))}
	ask := func(q Request) ([]byte, error) {
		raw := q.Encode(nil)
		q, err := DecodeRequest(raw)
		if err != nil {
			return nil, err
		}
		reply, err := tree.Answer(nil, q, next.fine.Pieces)
		if len(reply) > MaxReply {
			t.Errorf("reply of %d bytes", len(reply))
		}
		w.asked += int64(len(raw))
		w.answered += int64(len(reply))
		w.rounds++
		return reply, err
	}
	var seeds []Seed
	var datas []io.ReaderAt
	var sizes []int64
	for _, o := range olds {
		seeds, datas, sizes = append(seeds, o.seed()), append(datas, o.data), append(sizes, o.size)
	}
	sig, needs, err := Sync(offer, seeds, ask)
	if err != nil {
		t.Fatal(err)
	}
	if sig.ID() != next.sig.ID() {
		t.Fatal("learnt another signature than was offered")
	}
	raw = needs.Encode(nil)
	w.needs, w.literals = int64(len(raw)), needs.Missing()
	if needs, err = DecodeNeeds(raw, sizes); err != nil {
		t.Fatal(err)
	}
	if err := Patch(io.Discard, needs, datas, literals(needs, next.data), next.sum); err != nil {
		t.Fatal(err)
	}
	w.refined = refine(t, needs, next, datas, sizes)
	return w, needs
}

// refine goes on from needs and shows that the file comes out whole.
func refine(t testing.TB, needs *Needs, next *version, datas []io.ReaderAt, sizes []int64) wire2 {
	t.Helper()
	var w wire2
	better, err := Refine(needs, datas, sizes, func(q GrainRequest) ([]byte, error) {
		raw := q.Encode(nil)
		q, err := DecodeGrainRequest(raw)
		if err != nil {
			return nil, err
		}
		reply, err := AnswerGrains(nil, q, next.data, next.size)
		if len(reply) > MaxReply {
			t.Errorf("reply of %d bytes", len(reply))
		}
		w.asked += int64(len(raw))
		w.answered += int64(len(reply))
		w.rounds++
		return reply, err
	})
	if err != nil {
		t.Fatal(err)
	}
	raw := better.Encode(nil)
	w.needs, w.literals = int64(len(raw)), better.Missing()
	if w.literals > needs.Missing() {
		t.Errorf("refined from %d bytes to fetch to %d", needs.Missing(), w.literals)
	}
	if better, err = DecodeNeeds(raw, sizes); err != nil {
		t.Fatal(err)
	}
	if err := Patch(io.Discard, better, datas, literals(better, next.data), next.sum); err != nil {
		t.Fatal(err)
	}
	return w
}

// push is the other way: the side that has next has the signature of the old
// version too, and only the needs and the new bytes travel.
func push(t testing.TB, next *version, olds ...*version) (wire, *Needs) {
	t.Helper()
	var seeds []Seed
	var datas []io.ReaderAt
	for _, o := range olds {
		seeds, datas = append(seeds, o.seed()), append(datas, o.data)
	}
	needs, err := Match(next.seed(), seeds)
	if err != nil {
		t.Fatal(err)
	}
	if err := Patch(io.Discard, needs, datas, literals(needs, next.data), next.sum); err != nil {
		t.Fatal(err)
	}
	return wire{needs: int64(len(needs.Encode(nil))), literals: needs.Missing()}, needs
}
