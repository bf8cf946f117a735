package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// metered is a session whose contents and answers are counted, and spoiled if
// they are to be.
type metered struct {
	direct
	mu    sync.Mutex
	came  int64 // bytes
	forms []wire.Form
	spoil bool // flip a bit in the last byte of a delta
	cut   int  // streams of whole contents that are still to be cut in their middle
}

func (m *metered) Content(ctx context.Context, f repl.FolderID, items []wire.ContentItem, sink func(int, *wire.Head, io.Reader) error) error {
	return m.direct.Content(ctx, f, items, func(i int, head *wire.Head, r io.Reader) error {
		if head.Status != wire.StatusOK {
			return sink(i, head, r)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		m.mu.Lock()
		if m.cut > 0 && head.Form == wire.FormWhole {
			m.cut--
			m.came += int64(len(data) / 2)
			m.mu.Unlock()
			err := sink(i, head, io.MultiReader(bytes.NewReader(data[:len(data)/2]), broken{}))
			return errors.Join(errBroken, err)
		}
		m.came += int64(len(data))
		m.forms = append(m.forms, head.Form)
		if m.spoil && head.Form != wire.FormWhole {
			data[len(data)-1] ^= 1
		}
		m.mu.Unlock()
		return sink(i, head, bytes.NewReader(data))
	})
}

func (m *metered) Rdc(ctx context.Context, req *wire.RdcRequest) ([]byte, error) {
	reply, err := m.direct.Rdc(ctx, req)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.came += int64(len(reply))
	return reply, err
}

var errBroken = errors.New("the link is cut")

// broken is the end of a stream whose link is cut.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }

// since returns the forms and bytes that came since it was last asked.
func (m *metered) since() ([]wire.Form, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	forms, came := m.forms, m.came
	m.forms, m.came = nil, 0
	return forms, came
}

func (m *testMember) holds(path string, want []byte) {
	m.t.Helper()
	got, err := os.ReadFile(filepath.Join(m.root, path))
	if err != nil || !bytes.Equal(got, want) {
		m.t.Fatalf("%s holds %d bytes that are not the %d of the new version, %v", path, len(got), len(want), err)
	}
}

func (m *testMember) signatures() []string {
	m.t.Helper()
	names, err := filepath.Glob(filepath.Join(m.root, ".dfsr", "staging", "sig-*"))
	check(m.t, err)
	return names
}

// Of a large file that changes a little only a little travels, in one answer,
// because the upstream has signed what it sent; and by questions about the
// signature where that is lost. What comes spoilt is fetched whole.
func TestLittleTravelsOfALargeFile(t *testing.T) {
	a, b := newMember(t, 1, true, 2), newMember(t, 2, false, 1)
	content := make([]byte, 3<<20)
	chance := rand.NewChaCha8([32]byte{7})
	_, _ = chance.Read(content)
	a.write("large", string(content))
	a.start()
	b.start()
	up := &metered{direct: direct{a.Runner}}
	a.SetUpstream(t.Context(), b.cfg.Self, direct{b.Runner})
	b.SetUpstream(t.Context(), a.cfg.Self, up)
	settled(t, a, b)
	b.holds("large", content)
	if forms, came := up.since(); !slices.Equal(forms, []wire.Form{wire.FormWhole}) || came != int64(len(content)) {
		t.Fatalf("at first %d bytes came in forms %v", came, forms)
	}

	edit := func(what string, at int, most int64, want ...wire.Form) {
		t.Helper()
		fresh := make([]byte, 1000)
		_, _ = chance.Read(fresh)
		content = slices.Insert(content, at, fresh...)
		a.write("large", string(content))
		settled(t, a, b)
		b.holds("large", content)
		if forms, came := up.since(); !slices.Equal(forms, want) || came > most {
			t.Fatalf("%s: %d bytes came in forms %v", what, came, forms)
		}
	}
	edit("the first edit", 0, 20_000, wire.FormDelta)
	edit("the second edit", 1<<20, 20_000, wire.FormDelta)
	edit("the third edit", len(content), 20_000, wire.FormDelta)
	for _, m := range []*testMember{a, b} {
		for _, name := range m.signatures() {
			check(t, os.Remove(name))
		}
	}
	edit("an edit without signatures", 2<<20, 40_000, wire.FormOffer, wire.FormWhole)
	up.mu.Lock()
	up.spoil = true
	up.mu.Unlock()
	edit("a spoilt delta", 3<<20, int64(len(content))+40_000, wire.FormDelta, wire.FormWhole)
	up.mu.Lock()
	up.spoil = false
	up.mu.Unlock()
	edit("an edit after it", 500, 20_000, wire.FormDelta)

	content = slices.Concat(content[1<<20:], content[:1<<20], content[:500_000])
	a.write("copied and edited", string(content))
	settled(t, a, b)
	b.holds("copied and edited", content)
	if forms, came := up.since(); !slices.Equal(forms, []wire.Form{wire.FormOffer, wire.FormWhole}) || came > 60_000 {
		t.Errorf("a file like another one: %d bytes came in forms %v", came, forms)
	}
	for _, name := range []string{"large", "copied and edited"} { // b keeps them aside
		check(t, os.Remove(filepath.Join(a.root, name)))
	}
	settled(t, a, b)
	content = slices.Concat(content[:2<<20], []byte("once more"), content[2<<20:])
	a.write("again", string(content))
	settled(t, a, b)
	b.holds("again", content)
	if forms, came := up.since(); !slices.Equal(forms, []wire.Form{wire.FormOffer, wire.FormWhole}) || came > 60_000 {
		t.Errorf("a file like one that was deleted: %d bytes came in forms %v", came, forms)
	}

	b.found.mu.Lock()
	mismatches := slices.DeleteFunc(slices.Clone(b.found.raised), func(s string) bool { return !strings.HasPrefix(s, "hash-mismatch ") })
	b.found.mu.Unlock()
	if len(mismatches) != 1 {
		t.Errorf("findings about hashes: %q", mismatches)
	}
	s, err := b.Status(t.Context())
	check(t, err)
	if saved := s.Links[a.cfg.Self].Saved; s.Stats.Saved != saved || saved < 7*3<<20-300_000 || saved > 8*3<<20 {
		t.Errorf("%d bytes saved in all, %d from a", s.Stats.Saved, saved)
	}
	if similar := s.Links[a.cfg.Self].Similar; similar != s.Stats.Similar || similar < 2*3<<20 || similar > 2*4<<20 {
		t.Errorf("%d bytes saved by similarity in all, %d from a", s.Stats.Similar, similar)
	}
	if n := len(b.signatures()); n < 3 {
		t.Errorf("b keeps %d signatures", n)
	}
}

// A transfer that is cut goes on where it was, and again; what is kept of it is
// Of a small file too only what changed travels: the request says what the old
// version holds. What comes spoilt, and what has nothing of the old one, is fetched
// whole.
func TestLittleTravelsOfASmallFile(t *testing.T) {
	a, b := newMember(t, 1, true, 2), newMember(t, 2, false, 1)
	content := make([]byte, 20_000)
	chance := rand.NewChaCha8([32]byte{9})
	_, _ = chance.Read(content)
	a.write("small", string(content))
	a.start()
	b.start()
	up := &metered{direct: direct{a.Runner}}
	a.SetUpstream(t.Context(), b.cfg.Self, direct{b.Runner})
	b.SetUpstream(t.Context(), a.cfg.Self, up)
	settled(t, a, b)
	up.since()
	replace := func(what string, next []byte, most int, want ...wire.Form) {
		t.Helper()
		content = next
		a.write("small", string(content))
		settled(t, a, b)
		b.holds("small", content)
		if forms, came := up.since(); !slices.Equal(forms, want) || came > int64(most) {
			t.Fatalf("%s: %d bytes came in forms %v", what, came, forms)
		}
	}
	insert := func(at int) []byte { return slices.Insert(slices.Clone(content), at, []byte("a sentence")...) }
	replace("a sentence", insert(7000), 2100, wire.FormGraft)
	replace("another", insert(0), 2100, wire.FormGraft)
	replace("a larger one", slices.Repeat(content, 5), 3000, wire.FormGraft)
	replace("and back", content[:20_000], 2100, wire.FormGraft)
	fresh := make([]byte, 20_000)
	_, _ = chance.Read(fresh)
	replace("nothing of the old one", fresh, len(fresh), wire.FormWhole)
	up.mu.Lock()
	up.spoil = true
	up.mu.Unlock()
	replace("spoilt", insert(100), 2100+len(fresh)+100, wire.FormGraft, wire.FormWhole)
	s, err := b.Status(t.Context())
	check(t, err)
	if s.Stats.Saved < 130_000 {
		t.Fatalf("%d bytes were saved", s.Stats.Saved)
	}
}

// gone afterwards.
func TestCutTransferGoesOn(t *testing.T) {
	a, b := newMember(t, 1, true, 2), newMember(t, 2, false, 1)
	content := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{8}).Read(content)
	a.write("large", string(content))
	a.start()
	b.start()
	up := &metered{direct: direct{a.Runner}, cut: 2}
	a.SetUpstream(t.Context(), b.cfg.Self, direct{b.Runner})
	b.SetUpstream(t.Context(), a.cfg.Self, up)
	settled(t, a, b)
	b.holds("large", content)
	if forms, came := up.since(); came != int64(len(content)) {
		t.Errorf("%d bytes came for %d, the last time in forms %v", came, len(content), forms)
	}
	parts, err := filepath.Glob(filepath.Join(b.root, ".dfsr", "staging", "part-*"))
	if err != nil || len(parts) > 0 {
		t.Errorf("what is left of the cut transfers: %q, %v", parts, err)
	}
}
