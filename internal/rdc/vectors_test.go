package rdc

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/vectors.txt anew")

// vectorStream is the content of the vectors: the BLAKE3 output stream over
// these words.
func vectorStream(t *testing.T, n int) []byte {
	t.Helper()
	h := blake3.New()
	if _, err := h.WriteString("opendfs rdc vector 1"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(h.Digest(), b); err != nil {
		t.Fatal(err)
	}
	return b
}

// vectors is everything that docs/formats/rdc.md freezes, for files that it
// describes.
func vectors(t *testing.T) string {
	var out strings.Builder
	line := func(name, format string, a ...any) { fmt.Fprintf(&out, name+": "+format+"\n", a...) }
	for _, i := range []int{0, 1, 255} {
		line(fmt.Sprintf("gear %d", i), "%016x", gear[i])
	}
	for _, i := range []int{0, 15} {
		line(fmt.Sprintf("permutation %d", i), "+%016x *%016x", permutations[i].offset, permutations[i].factor)
	}
	s := vectorStream(t, 1_001_000)
	old := s[:1_000_000]
	next := slices.Concat(old[:300_000], s[1_000_000:], old[350_000:])
	files := []struct {
		name string
		data []byte
	}{{"empty", nil}, {"zeros", make([]byte, 1<<20)}, {"old", old}, {"new", next}}
	list := Grains(nil, old[:20_000])
	runs, fresh := Graft(list, slices.Concat(old[:7000], s[1_000_000:1_000_100], old[8000:20_000]))
	line("graft list", "%d bytes, %x", len(list), blake3.Sum256(list))
	line("graft", "%x, %d new bytes, %x", runs, len(fresh), blake3.Sum256(fresh))
	signed := map[string]*version{}
	for _, f := range files {
		var kept bytes.Buffer
		sig, whole, err := Sign(bytes.NewReader(f.data), Options{Fine: &kept})
		if err != nil {
			t.Fatal(err)
		}
		line(f.name+" whole", "%d bytes, %x", len(f.data), whole)
		for i, c := range sig.Chunks {
			line(fmt.Sprintf("%s chunk %d", f.name, i), "%d %x", c.Len, c.Sum)
		}
		line(f.name+" traits", "%x", sig.Traits)
		line(f.name+" signature", "%x", sig.Encode(nil))
		line(f.name+" offer", "%x", NewTree(sig).Offer().Encode(nil))
		line(f.name+" fine", "%d bytes, %x", kept.Len(), blake3.Sum256(kept.Bytes()))
		signed[f.name] = signBytes(t, f.data)
	}
	conversation(t, line, signed["old"], signed["new"])
	return out.String()
}

// conversation writes down all that is said to bring next to who has old.
func conversation(t *testing.T, line func(string, string, ...any), old, next *version) {
	line("old and new", "%d traits alike", Similar(old.sig.Traits, next.sig.Traits))
	tree := NewTree(next.sig)
	_, needs, err := Sync(tree.Offer(), []Seed{old.seed()}, func(q Request) ([]byte, error) {
		reply, err := tree.Answer(nil, q, next.fine.Pieces)
		line("request", "%x", q.Encode(nil))
		if len(reply) > 300 {
			line("reply", "%d bytes, %x", len(reply), blake3.Sum256(reply))
		} else {
			line("reply", "%x", reply)
		}
		return reply, err
	})
	if err != nil {
		t.Fatal(err)
	}
	line("needs", "%x", needs.Encode(nil))
	needs, err = Refine(needs, []io.ReaderAt{old.data}, []int64{old.size}, func(q GrainRequest) ([]byte, error) {
		reply, err := AnswerGrains(nil, q, next.data, next.size)
		line("grain request", "%x", q.Encode(nil))
		line("grain reply", "%x", reply)
		return reply, err
	})
	if err != nil {
		t.Fatal(err)
	}
	line("refined needs", "%x", needs.Encode(nil))
}

func TestVectors(t *testing.T) {
	const name = "testdata/vectors.txt"
	got := vectors(t)
	if *rewrite {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	if len(g) != len(w) {
		t.Errorf("%d lines for %d", len(g), len(w))
	}
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Errorf("line %d is\n%s\nnot\n%s", i+1, g[i], w[i])
		}
	}
}

func TestKeptSignatureComesBack(t *testing.T) {
	v := signBytes(t, random(1<<20))
	raw := v.sig.Encode(nil)
	s, err := DecodeSignature(raw)
	if err != nil || s.Size != v.sig.Size || s.Traits != v.sig.Traits || !slices.Equal(s.Chunks, v.sig.Chunks) {
		t.Fatalf("%+v: %v", s, err)
	}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 4
		if _, err := DecodeSignature(bad); err == nil {
			t.Fatalf("a bit of byte %d was lost unseen", i)
		}
	}
	if _, err := DecodeSignature(raw[:len(raw)-1]); err == nil {
		t.Fatal("cut short unseen")
	}
}
