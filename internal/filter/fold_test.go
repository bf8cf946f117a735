package filter

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/zeebo/blake3"
)

func TestNamesThatAreOneInACaseInsensitiveFolder(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"a.txt", "A.TXT", true}, {"Ärger", "äRGER", true}, {"ΣΊΣΥΦΟΣ", "σίσυφος", true}, {"Ж", "ж", true},
		{"ÿ", "Ÿ", true}, {"ß", "ss", false}, {"ß", "SS", false}, {"ı", "I", false}, {"ı", "i", false}, {"İ", "i", false},
		{"ſ", "s", false}, {"é", "e\u0301", false}, {"K", "\u212a", false}, {"𐐨", "𐐀", false}, {"ﬁ", "FI", false},
		{"a\xff", "A\xff", true}, {"\xe9", "\xc9", false}, {"a", "a ", false}, {"a.", "a", false}, {"", "", true},
	} {
		if got := Fold(c.a) == Fold(c.b); got != c.same {
			t.Errorf("%q and %q are one name: %v, want %v (%q, %q)", c.a, c.b, got, c.same, Fold(c.a), Fold(c.b))
		}
		if Folder(false)(c.a) != c.a || Folder(true)(c.a) != Fold(c.a) {
			t.Errorf("Folder compares %q by another form", c.a)
		}
	}
}

// text is the table as docs/formats/names.md prints it, one character a line.
func text() string {
	var b strings.Builder
	for r := rune(0); r <= 0xffff; r++ {
		if u := upper(r); u != r {
			fmt.Fprintf(&b, "%04X %04X\n", r, u)
		}
	}
	return b.String()
}

// The table is a format: the document names its hash and lists its runs.
func TestTheFoldingTableIsFrozen(t *testing.T) {
	const frozen = "f7e9c171d059627e4fdbe7843a8a20521d941fbe8cf6b1ca31298d22b49144ff"
	all := text()
	sum := fmt.Sprintf("%x", blake3.Sum256([]byte(all)))
	if n := strings.Count(all, "\n"); n != 1188 || sum != frozen {
		t.Errorf("the table has %d characters and the hash %s, frozen is %s", n, sum, frozen)
	}
	doc, err := os.ReadFile("../../docs/formats/names.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), frozen) {
		t.Error("docs/formats/names.md does not name the table's hash")
	}
	for _, r := range upperRuns {
		line := fmt.Sprintf("%04X %04X %d %+d\n", r.first, r.last, r.step, r.delta)
		if !strings.Contains(string(doc), line) {
			t.Errorf("docs/formats/names.md lacks the run %s", line)
		}
	}
}

func FuzzFold(f *testing.F) {
	f.Add("a.TXT")
	f.Add("\xc3ä\xff")
	f.Add("ŐŰſı𐐨")
	f.Fuzz(func(t *testing.T, name string) {
		once := Fold(name)
		if Fold(once) != once {
			t.Fatalf("%q folds to %q, and that to %q", name, once, Fold(once))
		}
		if utf8.RuneCountInString(once) != utf8.RuneCountInString(name) || len(once) > 2*len(name) {
			t.Fatalf("%q folds to %q: not one character for one", name, once)
		}
		if strings.ContainsAny(once, "/\x00") != strings.ContainsAny(name, "/\x00") {
			t.Fatalf("%q folds to %q", name, once)
		}
	})
}

func BenchmarkFold(b *testing.B) {
	for b.Loop() {
		if Fold("some-ordinary-name.c") == "" {
			b.Fatal("folded away")
		}
	}
}
