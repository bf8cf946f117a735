package rdc

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// storySize is large enough for two levels over the chunks.
const storySize = 40 << 20

func TestOneByteAtTheHeadMovesNoChunkButTheFirst(t *testing.T) {
	old := virtual{{1, 0, storySize}}
	next := old.insert(0, 1, 9)
	o, n := sign(t, old, old.size()), sign(t, next, next.size())
	w, _ := pull(t, n, o)
	if w.total() > 16<<10 {
		t.Errorf("%d bytes travel: %+v", w.total(), w)
	}
	if p, _ := push(t, n, o); p.total() > 8<<10 {
		t.Errorf("%d bytes travel where the sender matches: %+v", p.total(), p)
	}
}

func TestSixteenInsertionsCostWhatTheyInsert(t *testing.T) {
	old := virtual{{1, 0, storySize}}
	next := old
	for i := range int64(16) {
		next = next.insert((2*i+1)*storySize/32+i*1237, 64<<10, 100+uint64(i))
	}
	o, n := sign(t, old, old.size()), sign(t, next, next.size())
	w, _ := pull(t, n, o)
	if w.total() > 1_250_000 || w.overhead() > 80_000 {
		t.Errorf("%d bytes travel: %+v", w.total(), w)
	}
	if p, _ := push(t, n, o); p.overhead() > 1000 || p.literals != w.literals {
		t.Errorf("where the sender matches: %+v, else %+v", p, w)
	}
}

func TestOverwritesStayInPlace(t *testing.T) {
	old := virtual{{1, 0, storySize}}
	next := old
	for i := range int64(16) {
		next = next.replace((2*i+1)*storySize/32+i*1237, 64<<10, 100+uint64(i))
	}
	o, n := sign(t, old, old.size()), sign(t, next, next.size())
	w, needs := pull(t, n, o)
	if w.total() > 1_250_000 {
		t.Errorf("%d bytes travel: %+v", w.total(), w)
	}
	var at int64
	for _, r := range needs.Runs {
		if r.Seed != Fetch && r.Off != at {
			t.Errorf("%d bytes at %d come from %d", r.Len, at, r.Off)
		}
		at += r.Len
	}
}

func TestMovedBlocksAreFoundWhereTheyWere(t *testing.T) {
	old := virtual{{1, 0, 32 << 20}}
	a, b, c := old.cut(0, 9<<20+777), old.cut(9<<20+777, 21<<20+13), old.cut(21<<20+13, 32<<20)
	next := slices.Concat(c, a, b)
	o, n := sign(t, old, old.size()), sign(t, next, next.size())
	w, _ := pull(t, n, o)
	if w.literals > 32<<10 {
		t.Errorf("%d new bytes in a file that has none", w.literals)
	}
}

func TestTruncationAndGrowthSendOnlyTheEnd(t *testing.T) {
	old := virtual{{1, 0, 8 << 20}}
	shorter, longer := old.cut(0, 5<<20+99), append(slices.Clone(old), stretch{2, 0, 100_000})
	o := sign(t, old, old.size())
	if w, _ := pull(t, sign(t, shorter, shorter.size()), o); w.literals > 4<<10 {
		t.Errorf("shorter: %+v", w)
	}
	if w, _ := pull(t, sign(t, longer, longer.size()), o); w.literals > 108<<10 {
		t.Errorf("longer: %+v", w)
	}
	empty := signBytes(t, nil)
	if w, n := pull(t, empty, o); w.total() > 40 || len(n.Runs) != 0 {
		t.Errorf("emptied: %+v", w)
	}
	if w, n := pull(t, o, empty); w.literals != 8<<20 || len(n.Runs) != 1 {
		t.Errorf("from nothing: %+v", w)
	}
}

func TestTheSameFileCostsItsName(t *testing.T) {
	v := virtual{{1, 0, 8 << 20}}
	o := sign(t, v, v.size())
	if w, _ := pull(t, o, o); w.rounds != 0 || w.total() > 64 {
		t.Errorf("%+v", w)
	}
}

func TestASmallEditOfADocumentCostsAFewPieces(t *testing.T) {
	// A document of 2 MB in which a sentence is typed, as its program saves it:
	// the header, the sentence, the stream that moves on by it, and the directory
	// and the summary at the end are written anew.
	old := virtual{{1, 0, 2_000_000}}
	next := old.replace(0, 512, 21).insert(700_000, 180, 22).replace(1_400_000, 300, 23).
		replace(1_960_000, 1024, 24).replace(1_990_000, 200, 25)
	w, _ := pull(t, sign(t, next, next.size()), sign(t, old, old.size()))
	t.Logf("%+v", w)
	if w.total() > 40_000 {
		t.Errorf("%d bytes travel: %+v", w.total(), w)
	}
	if w.refined.literals > 6000 {
		t.Errorf("refined: %+v", w.refined)
	}
}

func TestAnUpstreamWithoutFineLevelAnswersFromTheData(t *testing.T) {
	old := random(2 << 20)
	next := slices.Concat(old[:900_000], []byte("a few words"), old[900_000:])
	o, n := signBytes(t, old), signBytes(t, next)
	var read int
	data := readAtFunc(func(p []byte, off int64) (int, error) {
		read += len(p)
		return n.data.ReadAt(p, off)
	})
	tree := NewTree(n.sig)
	_, needs, err := Sync(tree.Offer(), []Seed{{o.sig, CutPieces(o.data, o.sig)}}, func(q Request) ([]byte, error) {
		return tree.Answer(nil, q, CutPieces(data, n.sig))
	})
	if err != nil {
		t.Fatal(err)
	}
	if read == 0 || read > 2*ChunkMax || needs.Missing() > 10<<10 {
		t.Errorf("read %d bytes to find %d new ones", read, needs.Missing())
	}
}

type readAtFunc func(p []byte, off int64) (int, error)

func (f readAtFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// archive is like a tar file: members of very different sizes, each behind a
// header of 512 bytes that holds its time.
func archive(members int, time byte, edited map[int]bool) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b []byte
	for i := range members {
		head := make([]byte, 512)
		copy(head, "linux/drivers/net/file"+string(rune('a'+i%26)))
		for k := range 12 {
			head[136+k] = '0' + byte(int(time)*i*7+k*i)%8
		}
		b = append(b, head...)
		n := int(1024 * (1 + r.ExpFloat64()*10))
		body := make([]byte, (n+511)/512*512)
		s := uint64(1000 + i)
		if edited[i] {
			s += uint64(time) << 32
		}
		stretch{s, 0, int64(n)}.read(body[:n], 0)
		b = append(b, body...)
	}
	return b
}

func TestAnArchiveWhoseHeadersAllDifferSendsALittleAroundEach(t *testing.T) {
	const members = 1500
	edited := map[int]bool{7: true, 700: true, 1400: true}
	old, next := archive(members, 1, edited), archive(members, 2, edited)
	o, n := signBytes(t, old), signBytes(t, next)
	w, _ := pull(t, n, o)
	each := w.literals / members
	t.Logf("%d bytes, %d members: %+v, %d bytes a member", len(next), members, w, each)
	if each > 4096 {
		t.Errorf("%d new bytes a member", each)
	}
	if fine := w.refined; fine.literals/members > 1000 || fine.asked+fine.answered > int64(len(next))/150 {
		t.Errorf("refined: %+v", fine)
	}
	if w.overhead() > int64(len(next))/80 {
		t.Errorf("%d bytes of signatures and needs for %d", w.overhead(), len(next))
	}
	if s := Similar(o.sig.Traits, n.sig.Traits); s < MinSimilar {
		t.Errorf("similar by %d traits", s)
	}
}

func TestSeveralSeedsServeOneFile(t *testing.T) {
	a, b := virtual{{1, 0, 6 << 20}}, virtual{{2, 0, 6 << 20}}
	next := slices.Concat(a.cut(0, 3<<20), virtual{{3, 0, 5000}}, b.cut(2<<20, 6<<20))
	va, vb, vn := sign(t, a, a.size()), sign(t, b, b.size()), sign(t, next, next.size())
	w, needs := pull(t, vn, va, vb)
	if w.literals > 20<<10 {
		t.Errorf("%+v", w)
	}
	if len(needs.Runs) != 3 || needs.Runs[0].Seed != 0 || needs.Runs[2].Seed != 1 {
		t.Errorf("runs %+v", needs.Runs)
	}
}

func TestTraitsTellLikeFromUnlike(t *testing.T) {
	base := virtual{{1, 0, 4 << 20}}
	b := sign(t, base, base.size())
	like := sign(t, base.splice(1<<20, 1<<19, 1<<19, 5), 4<<20)
	half := sign(t, base.splice(0, 2<<20, 2<<20, 6), 4<<20)
	if s := Similar(b.sig.Traits, b.sig.Traits); s != 16 {
		t.Errorf("a file is like itself by %d", s)
	}
	if s := Similar(b.sig.Traits, like.sig.Traits); s < 9 {
		t.Errorf("an eighth replaced: %d", s)
	}
	if s := Similar(b.sig.Traits, half.sig.Traits); s < 2 {
		t.Errorf("half replaced: %d", s)
	}
	chance := 0
	for i := range uint64(200) {
		u := virtual{{50 + i, 0, 128 << 10}}
		if Similar(b.sig.Traits, sign(t, u, u.size()).sig.Traits) >= MinSimilar {
			chance++
		}
	}
	if chance > 1 {
		t.Errorf("%d of 200 unlike files look alike", chance)
	}
	if s := Similar(Traits{}, Traits{}); s != 0 {
		t.Errorf("empty files are alike by %d", s)
	}
}

func TestAChangedSeedIsFoundOutByTheWhole(t *testing.T) {
	old := random(1 << 20)
	next := append(random(2000), old...)
	o, n := signBytes(t, old), signBytes(t, next)
	_, needs := push(t, n, o)
	changed := bytes.Clone(old)
	changed[500_000] ^= 1
	var out bytes.Buffer
	err := Patch(&out, needs, []io.ReaderAt{bytes.NewReader(changed)}, literals(needs, n.data), n.sum)
	if !errors.Is(err, ErrMismatch) {
		t.Errorf("changed seed: %v", err)
	}
	err = Patch(io.Discard, needs, []io.ReaderAt{bytes.NewReader(old[:900_000])}, literals(needs, n.data), n.sum)
	if !errors.Is(err, ErrMismatch) {
		t.Errorf("shorter seed: %v", err)
	}
	err = Patch(io.Discard, needs, []io.ReaderAt{bytes.NewReader(old)}, strings.NewReader("x"), n.sum)
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrMismatch) {
		t.Errorf("new bytes cut short: %v", err)
	}
	if err := Patch(io.Discard, needs, nil, literals(needs, n.data), n.sum); err == nil {
		t.Error("patched without its seed")
	}
}

func TestALiarIsFoundOut(t *testing.T) {
	old, next := virtual{{1, 0, 16 << 20}}, virtual{{2, 0, 16 << 20}}
	o, n := sign(t, old, old.size()), sign(t, next, next.size())
	tree := NewTree(n.sig)
	for name, lie := range map[string]func(q Request, reply []byte) []byte{
		"a bit":    func(_ Request, r []byte) []byte { r[len(r)/2] ^= 1; return r },
		"short":    func(_ Request, r []byte) []byte { return r[:len(r)-1] },
		"long":     func(_ Request, r []byte) []byte { return append(r, 0) },
		"nothing":  func(Request, []byte) []byte { return []byte{0} },
		"no bytes": func(Request, []byte) []byte { return nil },
		"too many": func(_ Request, r []byte) []byte { r[0]++; return r },
	} {
		ask := func(q Request) ([]byte, error) {
			r, err := tree.Answer(nil, q, n.fine.Pieces)
			return lie(q, r), err
		}
		if _, err := Learn(tree.Offer(), []Seed{o.seed()}, ask); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "a bit" {
			continue // no hash covers the pieces but that of the whole file
		}
		each := func(int, []Piece) error { return nil }
		if err := AskPieces(n.sig, ask)([]int{0, 1}, each); !errors.Is(err, ErrFormat) {
			t.Errorf("pieces, %s: %v", name, err)
		}
	}
	broken := errors.New("link is down")
	_, _, err := Sync(tree.Offer(), nil, func(Request) ([]byte, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("broken link: %v", err)
	}
}

func TestALiarAboutGrainsIsFoundOut(t *testing.T) {
	old := random(1 << 20)
	next := bytes.Clone(old)
	for off := 5000; off < len(next); off += 20_000 {
		next[off] ^= 1
	}
	o, n := signBytes(t, old), signBytes(t, next)
	_, needs := push(t, n, o)
	for name, lie := range map[string]func(r []byte) []byte{
		"short":    func(r []byte) []byte { return r[:len(r)-1] },
		"long":     func(r []byte) []byte { return append(r, 0) },
		"nothing":  func([]byte) []byte { return []byte{0} },
		"no bytes": func([]byte) []byte { return nil },
		"lengths":  func(r []byte) []byte { r[2]++; return r },
	} {
		_, err := Refine(needs, []io.ReaderAt{o.data}, []int64{o.size}, func(q GrainRequest) ([]byte, error) {
			r, err := AnswerGrains(nil, q, n.data, n.size)
			return lie(r), err
		})
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Half a reply is asked for again.
	var rounds int
	better, err := Refine(needs, []io.ReaderAt{o.data}, []int64{o.size}, func(q GrainRequest) ([]byte, error) {
		rounds++
		return AnswerGrains(nil, GrainRequest{q.Ranges[:(len(q.Ranges)+1)/2]}, n.data, n.size)
	})
	if err != nil || rounds < 3 || better.Missing() > needs.Missing()/3 {
		t.Errorf("%d rounds, %d bytes of %d: %v", rounds, better.Missing(), needs.Missing(), err)
	}
	if _, err := AnswerGrains(nil, GrainRequest{[]Range{{n.size - 5, 6}}}, n.data, n.size); !errors.Is(err, ErrFormat) {
		t.Errorf("range behind the end: %v", err)
	}
}

func TestALargeDifferenceIsMatchedInSlices(t *testing.T) {
	defer func(n int64) { fineMax = n }(fineMax)
	fineMax = 1 << 20
	old := virtual{{1, 0, 8 << 20}}
	next := old
	for i := range int64(80) { // every chunk has an edit
		next = next.replace(i*100_000+50_000, 10, 200+uint64(i))
	}
	w, _ := pull(t, sign(t, next, next.size()), sign(t, old, old.size()))
	if w.literals > 1<<20 {
		t.Errorf("%+v", w)
	}
}

func TestKeptFineLevelOfAnotherFileIsRefused(t *testing.T) {
	a, b := random(3<<20), random(4 << 20)[1<<20:]
	va, vb := signBytes(t, a), signBytes(t, b)
	var kept bytes.Buffer
	if _, _, err := Sign(bytes.NewReader(a), Options{Fine: &kept}); err != nil {
		t.Fatal(err)
	}
	raw := kept.Bytes()
	if _, err := OpenFine(bytes.NewReader(raw), int64(len(raw)), vb.sig); !errors.Is(err, ErrFormat) {
		t.Errorf("another file: %v", err)
	}
	raw[fineHead] ^= 0x40 // the length of the first piece
	f, err := OpenFine(bytes.NewReader(raw), int64(len(raw)), va.sig)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Pieces([]int{0}, func(int, []Piece) error { return nil }); !errors.Is(err, ErrFormat) {
		t.Errorf("damaged entry: %v", err)
	}
}

type failing struct{ after int }

var errFull = errors.New("disk is full")

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestSignerReportsItsWriter(t *testing.T) {
	data := random(20 << 20)
	for _, workers := range []int{1, 2} {
		_, _, err := Sign(bytes.NewReader(data), Options{Workers: workers, Fine: &failing{after: 70_000}})
		if !errors.Is(err, errFull) {
			t.Errorf("%d workers: %v", workers, err)
		}
		s := NewSigner(Options{Workers: workers})
		if _, err := s.Write(data); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s.Close()
		if _, err := s.Write(data); err == nil {
			t.Error("wrote to a closed signer")
		}
	}
}
