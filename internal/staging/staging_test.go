package staging

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/volume"

	"github.com/zeebo/blake3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stream returns n bytes that no two of these stories share.
func stream(name string, n int) []byte {
	h := blake3.New()
	_, _ = h.WriteString(name)
	b := make([]byte, n)
	_, _ = io.ReadFull(h.Digest(), b)
	return b
}

func hashOf(b []byte) repl.Hash { return repl.Hash(blake3.Sum256(b)) }

func openVolume(t *testing.T, root string) *volume.Disk {
	t.Helper()
	v, err := volume.Open(root, volume.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

func pieces(t *testing.T, s rdc.Seed) []rdc.Piece {
	t.Helper()
	var out []rdc.Piece
	all := make([]int, len(s.Sig.Chunks))
	for i := range all {
		all[i] = i
	}
	err := s.Pieces(all, func(_ int, ps []rdc.Piece) error {
		out = append(out, ps...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What was signed on its way past is kept as if the file had been read, and is
// there again after a restart.
func TestKeptAsSigned(t *testing.T) {
	root := t.TempDir()
	s := Open(openVolume(t, root), 1<<30, 2)
	for _, n := range []int{1, 70 << 10, 3 << 20} {
		data := stream("kept", n)
		w, end := s.Sign(int64(n), repl.Hash{})
		for part := range slices.Chunk(data, 10_000) {
			if k, err := w.Write(part); k != len(part) || err != nil {
				t.Fatalf("write: %d, %v", k, err)
			}
		}
		end(hashOf(data), true)
		for _, from := range []*Store{s, Open(openVolume(t, root), 1<<30, 0)} {
			got, release, ok := from.Get(hashOf(data))
			if !ok {
				t.Fatalf("%d bytes: no signature is kept", n)
			}
			want, _, err := rdc.Sign(bytes.NewReader(data), rdc.Options{})
			if err != nil || got.Sig.ID() != want.ID() || got.Sig.Traits != want.Traits {
				t.Fatalf("%d bytes: another signature is kept (%v)", n, err)
			}
			cut := rdc.Seed{Sig: want, Pieces: rdc.CutPieces(bytes.NewReader(data), want)}
			if !slices.Equal(pieces(t, got), pieces(t, cut)) {
				t.Fatalf("%d bytes: other pieces are kept", n)
			}
			release()
		}
	}
	if u := s.Usage(); u.Entries != 3 || u.Used < 3*block || u.Used > 64<<10 {
		t.Fatalf("usage %+v", u)
	}
}

// A content that was not written whole, or is another, leaves nothing.
func TestOnlyWholeContentsAreKept(t *testing.T) {
	s := Open(openVolume(t, t.TempDir()), 1<<30, 0)
	data := stream("whole", 200<<10)
	w, end := s.Sign(int64(len(data)), repl.Hash{})
	_, _ = w.Write(data[:1000])
	end(hashOf(data), true)
	_, end = s.Sign(int64(len(data)), repl.Hash{})
	end(repl.Hash{}, false)
	if _, err := s.Make(bytes.NewReader(data), repl.Hash{1}, int64(len(data))); !errors.Is(err, ErrOther) {
		t.Fatalf("another content: %v", err)
	}
	if u := s.Usage(); u.Entries != 0 || u.Used != 0 {
		t.Fatalf("usage %+v", u)
	}
	sig, err := s.Make(bytes.NewReader(data), hashOf(data), int64(len(data)))
	if err != nil || sig.Size != int64(len(data)) || s.Usage().Entries != 1 {
		t.Fatalf("signature %+v, %v", sig, err)
	}
}

// Whatever a disk makes of a kept file, it is gone when it is next asked for,
// and can be kept again.
func TestDamageIsForgotten(t *testing.T) {
	root := t.TempDir()
	s := Open(openVolume(t, root), 1<<30, 0)
	data := stream("damage", 200<<10)
	for what, spoil := range map[string]func(b []byte) []byte{
		"cut short":     func(b []byte) []byte { return b[:len(b)-5] },
		"empty":         func([]byte) []byte { return nil },
		"a flipped bit": func(b []byte) []byte { b[len(b)-40] ^= 1; return b },
		"a wild length": func(b []byte) []byte { b[len(b)-8] = 0xff; return b },
	} {
		if _, err := s.Make(bytes.NewReader(data), hashOf(data), int64(len(data))); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(root, ".dfsr", "staging", keptName(t, s, data))
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, spoil(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, ok := s.Get(hashOf(data)); ok {
			t.Errorf("%s: it is believed", what)
		}
		if _, err := os.Stat(name); !os.IsNotExist(err) || s.Usage().Entries != 0 {
			t.Errorf("%s: it is still there (%v)", what, err)
		}
	}
}

// From 90 % of the quota on, what was used longest ago goes, down to 60 %; what
// is asked for stays.
func TestQuotaIsKept(t *testing.T) {
	root := t.TempDir()
	const quota = 100 * block
	s := Open(openVolume(t, root), quota, 0)
	keep := func(i int) repl.Hash {
		data := stream(string(rune('a'+i)), 66<<10)
		if _, err := s.Make(bytes.NewReader(data), hashOf(data), int64(len(data))); err != nil {
			t.Fatal(err)
		}
		return hashOf(data)
	}
	first := keep(0)
	highest := int64(0)
	for i := 1; i < 150; i++ {
		keep(i)
		u := s.Usage()
		highest = max(highest, u.Used)
		if u.Used > quota {
			t.Fatalf("%d of %d bytes are used", u.Used, quota)
		}
		if _, release, ok := s.Get(first); ok {
			release()
		} else {
			t.Fatalf("what is asked for all the time is gone after %d", i)
		}
	}
	u := s.Usage()
	if highest < quota*85/100 || u.Evicted == 0 || u.Used != int64(u.Entries)*block {
		t.Fatalf("highest %d, %+v", highest, u)
	}
	names, err := os.ReadDir(filepath.Join(root, ".dfsr", "staging"))
	if err != nil || len(names) != u.Entries {
		t.Fatalf("%d files for %d entries, %v", len(names), u.Entries, err)
	}
	// What is too large for the quota is made and not kept.
	data := stream("large", quota*30)
	if sig, err := s.Make(bytes.NewReader(data), hashOf(data), int64(len(data))); err != nil || sig == nil {
		t.Fatal(err)
	}
	if _, _, ok := s.Get(hashOf(data)); ok {
		t.Fatal("a signature above its share is kept")
	}
}

// The beginnings of contents are there again after a restart; there are never
// more than the bounds say, and the oldest goes first.
func TestPartsAreBounded(t *testing.T) {
	root := t.TempDir()
	v := openVolume(t, root)
	s := Open(v, 1<<20, 0)
	keep := func(s *Store, i, size int) {
		t.Helper()
		tmp, err := v.NewTemp(int64(size), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tmp.Write(stream("part", size)); err != nil {
			t.Fatal(err)
		}
		s.KeepPart(repl.Hash{byte(i)}, tmp)
		if err := tmp.Close(); err != nil {
			t.Fatal(err)
		}
	}
	there := func(s *Store, i int) int64 {
		f, size, ok := s.Part(repl.Hash{byte(i)})
		if !ok {
			return -1
		}
		defer func() { _ = f.Close() }()
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, stream("part", int(size))) {
			t.Fatalf("part %d holds %d other bytes, %v", i, len(got), err)
		}
		return size
	}
	for i := range maxParts + 2 {
		keep(s, i, 100_000+i)
	}
	for i := range maxParts + 2 {
		if got := there(s, i); (got >= 0) != (i >= 2) {
			t.Errorf("part %d: %d bytes", i, got)
		}
	}
	keep(s, 50, 900_000) // of the others only what the quota has room for
	keep(s, 51, 1<<20+1) // more than all of it: not kept
	s = Open(v, 1<<20, 0)
	for i, want := range map[int]int64{8: -1, 9: 100_009, 50: 900_000, 51: -1} {
		if got := there(s, i); got != want {
			t.Errorf("after a restart part %d has %d bytes, want %d", i, got, want)
		}
	}
	keep(s, 9, 5) // a shorter beginning of the same says nothing
	if got := there(s, 9); got != 100_009 {
		t.Errorf("the part that was kept has %d bytes", got)
	}
	keep(s, 9, 100_020)
	if got := there(s, 9); got != 100_020 {
		t.Errorf("the part that was replaced has %d bytes", got)
	}
	s.DropParts()
	if there(s, 9)+there(s, 50) != -2 {
		t.Error("parts that were dropped are there")
	}
	names, err := os.ReadDir(filepath.Join(root, ".dfsr", "staging"))
	if err != nil || len(names) > 0 {
		t.Errorf("left in staging: %v, %v", names, err)
	}
}

// A file that holds anything never makes the reader do more than say no.
func FuzzRead(f *testing.F) {
	root := f.TempDir()
	v, err := volume.Open(root, volume.Options{Create: true})
	if err != nil {
		f.Fatal(err)
	}
	s := Open(v, 1<<30, 0)
	data := stream("fuzz", 70<<10)
	if _, err := s.Make(bytes.NewReader(data), hashOf(data), int64(len(data))); err != nil {
		f.Fatal(err)
	}
	kept, _ := s.touch(hashOf(data))
	name := filepath.Join(root, ".dfsr", "staging", kept.name())
	good, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-9])
	f.Add([]byte("\xff\xff\xff\xffRDCk"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s.add(kept)
		seed, release, ok := s.Get(hashOf(data))
		if !ok {
			return
		}
		defer release()
		all := make([]int, len(seed.Sig.Chunks))
		for i := range all {
			all[i] = i
		}
		if seed.Pieces == nil {
			return
		}
		_ = seed.Pieces(all, func(i int, ps []rdc.Piece) error {
			if i >= len(seed.Sig.Chunks) || len(ps) == 0 {
				t.Fatalf("chunk %d of %d with %d pieces", i, len(seed.Sig.Chunks), len(ps))
			}
			return nil
		})
	})
}

// A content that shares its blocks with another version has its chunks kept and
// no pieces, in less room.
func TestKeptWithoutPieces(t *testing.T) {
	s := Open(openVolume(t, t.TempDir()), 1<<30, 2)
	old := stream("coarse", 3<<20)
	w, end := s.Sign(int64(len(old)), repl.Hash{})
	_, _ = w.Write(old)
	end(hashOf(old), true)
	before := s.Usage().Used
	next := append(slices.Clone(old[:2<<20]), stream("more", 1<<20)...)
	runs := &rdc.Needs{Size: int64(len(next)), Runs: []rdc.Run{{Seed: 0, Off: 0, Len: 2 << 20}, {Seed: rdc.Fetch, Off: 2 << 20, Len: 1 << 20}}}
	w, end = s.Assembled(int64(len(next)), hashOf(old), runs, true)
	_, _ = w.Write(next)
	end(hashOf(next), true)
	want, _, err := rdc.Sign(bytes.NewReader(next), rdc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, release, ok := s.Get(hashOf(next))
	if !ok {
		t.Fatal("nothing is kept")
	}
	defer release()
	if got.Pieces != nil || !slices.Equal(got.Sig.Chunks, want.Chunks) {
		t.Errorf("kept %d chunks (pieces: %v), %d are right", len(got.Sig.Chunks), got.Pieces != nil, len(want.Chunks))
	}
	if took := s.Usage().Used - before; took > block {
		t.Errorf("%d bytes for a signature without pieces", took)
	}
}

// keptName is the name of the file that the signature of data is kept in.
func keptName(t *testing.T, s *Store, data []byte) string {
	t.Helper()
	e, ok := s.touch(hashOf(data))
	if !ok {
		t.Fatal("no signature is kept")
	}
	return e.name()
}

// Contents that are alike find each other by their traits, after a restart too;
// others do not.
func TestSimilar(t *testing.T) {
	root := t.TempDir()
	s := Open(openVolume(t, root), 1<<30, 2)
	old, other := stream("like", 2<<20), stream("other", 2<<20)
	next := append(slices.Clone(old[:1500<<10]), stream("new", 300<<10)...)
	for _, data := range [][]byte{old, other} {
		w, end := s.Sign(int64(len(data)), repl.Hash{})
		_, _ = w.Write(data)
		end(hashOf(data), true)
	}
	sig, _, err := rdc.Sign(bytes.NewReader(next), rdc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []*Store{s, Open(openVolume(t, root), 1<<30, 0)} {
		if got := from.Similar(sig.Traits, 5); len(got) != 1 || got[0] != hashOf(old) {
			t.Errorf("alike are %v", got)
		}
		if got := from.Similar(rdc.Traits{}, 5); len(got) != 0 {
			t.Errorf("an empty file is like %v", got)
		}
		if from.Traits(hashOf(old)) == (rdc.Traits{}) || from.Traits(hashOf(next)) != (rdc.Traits{}) {
			t.Error("traits are those of what is kept")
		}
	}
}

// What is being brought is there after the process ended in the midst of it; when
// it is done, or was for nothing, its name is gone.
func TestBegunOutlivesTheProcess(t *testing.T) {
	root := t.TempDir()
	v := openVolume(t, root)
	s := Open(v, 1<<30, 0)
	h, data := repl.Hash{7}, stream("begun", 300_000)
	parts := func() []string {
		names, err := filepath.Glob(filepath.Join(root, ".dfsr", "staging", "part-*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	begin := func() volume.Temp {
		tmp, err := v.NewTemp(int64(len(data)), nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Begin(h, tmp)
		if _, err := tmp.Write(data[:200_000]); err != nil {
			t.Fatal(err)
		}
		return tmp
	}
	tmp := begin()
	f, size, ok := Open(v, 1<<30, 0).Part(h) // as another process finds it
	if !ok || size != 200_000 {
		t.Fatalf("of what was begun %d bytes are there (%v)", size, ok)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s.KeepPart(h, tmp)
	if err := tmp.Close(); err != nil || len(parts()) != 1 {
		t.Errorf("kept are %q, %v", parts(), err)
	}
	if err := begin().Close(); err != nil || len(parts()) != 0 {
		t.Errorf("after a transfer for nothing: %q, %v", parts(), err)
	}
	tmp = begin()
	d, err := v.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Link(tmp, "whole"), d.Close(), tmp.Close()); err != nil || len(parts()) != 0 {
		t.Errorf("after it was installed: %q, %v", parts(), err)
	}
	if got, err := os.ReadFile(filepath.Join(root, "whole")); err != nil || !bytes.Equal(got, data[:200_000]) {
		t.Errorf("installed are %d other bytes, %v", len(got), err)
	}
}

// Where signatures are missed that had to go, the store grows while there is room
// on the disk, and says that it is small when there is none.
func TestStagingSizesItself(t *testing.T) {
	const quota = 100 * block
	free := uint64(1 << 40)
	z := sizing{limit: quota}
	miss := func(n int) {
		for i := range n {
			h := repl.Hash{byte(i), byte(i >> 8), 1}
			z.removed(h)
			z.asked(h, false, func() uint64 { return free })
		}
	}
	miss(sizeWindow / missedPart)
	if z.limit != 2*quota || z.small {
		t.Fatalf("the limit is %d, small %v", z.limit, z.small)
	}
	for range 10 {
		miss(sizeWindow / missedPart)
	}
	if z.limit != maxGrowth*quota || !z.small {
		t.Errorf("grown to %d (small %v), %d times the quota is the most", z.limit, z.small, maxGrowth)
	}
	for range sizeWindow {
		z.asked(repl.Hash{9}, true, nil)
	}
	if z.small {
		t.Error("it is small though nothing is missed")
	}
	z = sizing{limit: quota}
	free = 10 * quota
	miss(sizeWindow / missedPart)
	if z.limit != quota || !z.small {
		t.Errorf("on a full disk: limit %d, small %v", z.limit, z.small)
	}
	miss(3 * maxRemoved)
	if len(z.lately) > maxRemoved {
		t.Errorf("%d removed signatures are remembered", len(z.lately))
	}
}
