package filter

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func set(t testing.TB, r Rules) *Set {
	t.Helper()
	s, err := New(r)
	if err != nil {
		t.Fatalf("rules %+v: %v", r, err)
	}
	return s
}

// The defaults are those of [MS-FRS2] product note <14>.
func TestDefaultsKeepOutWhatOfficesLeaveBehind(t *testing.T) {
	s := set(t, Defaults())
	for name, want := range map[string]bool{
		"~$report.docx": true, "~": true, "report.docx~": false, "a.bak": true, "A.BAK": true, ".bak": true,
		"bak": false, "a.bak.txt": false, "x.tmp": true, "x.TmP": true, "tmp": false, "x.tmpx": false, "": false,
	} {
		if got := s.Match(name, false); got != want {
			t.Errorf("file %q: kept out %v, want %v", name, got, want)
		}
		if s.Match(name, true) {
			t.Errorf("directory %q is kept out by a filter for files", name)
		}
	}
}

func TestWildcards(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "anything", true}, {"*", "", true}, {"?", "", false}, {"?", "a", true}, {"?", "ab", false},
		{"?", "ä", true}, {"?", "\xff", true}, {"?", "\xff\xfe", false}, {"a?c", "abc", true}, {"a?c", "ac", false},
		{"*.*", "a.b", true}, {"*.*", "ab", false}, {"*a*b*", "xxaxxbxx", true}, {"*a*b*", "xxbxxaxx", false},
		{"**a", "bba", true}, {"a*", "A", true}, {"Ä*", "ärger", true}, {"ÄRGER", "ärger", true}, {"ss", "ß", false},
		{"[ab]", "a", false}, {"[ab]", "[AB]", true}, {"a\xc3\xa9", "A\xc3\x89", true}, {"*aab", "aaaaab", true},
		{"thumbs.db", "Thumbs.db", true}, {"*.d?c", "x.doc", true}, {"*.d?c", "x.docx", false}, {"Ω", "ω", true},
	} {
		s := set(t, Rules{Directories: []string{c.pattern}})
		if got := s.Match(c.name, true); got != c.want {
			t.Errorf("pattern %q, name %q: %v, want %v", c.pattern, c.name, got, c.want)
		}
		if s.Match(c.name, false) {
			t.Errorf("pattern %q for directories keeps out the file %q", c.pattern, c.name)
		}
	}
}

func TestPathsAreKeptOutByTheDirectoriesAboveThem(t *testing.T) {
	s := set(t, Rules{Files: []string{"*.bak"}, Directories: []string{"cache"}})
	for path, want := range map[string]bool{
		".": false, "a/b": false, "a/b.bak": true, "Cache/a": true, "a/cache/b/c": true, "cache": false, "a/cache.d/b": false,
	} {
		if got := s.MatchPath(path, false); got != want {
			t.Errorf("file %q: kept out %v, want %v", path, got, want)
		}
	}
	if !s.MatchPath("a/cache", true) || s.MatchPath("a.bak", true) {
		t.Error("directories are not judged by the directory filter alone")
	}
}

func TestNoFilterKeepsNothingOut(t *testing.T) {
	var none *Set
	for _, s := range []*Set{none, set(t, Rules{})} {
		if s.Match("~a.tmp", false) || s.Match("~a.tmp", true) || s.MatchPath("a/~b", false) {
			t.Errorf("set %+v keeps something out", s)
		}
	}
	if r := none.Rules(); r.Files != nil || r.Directories != nil {
		t.Errorf("rules of no filter are %+v", r)
	}
}

func TestBadPatternsAreRefusedWithTheRemedy(t *testing.T) {
	many := make([]string, MaxPatterns+1)
	for i := range many {
		many[i] = strings.Repeat("x", i%200+1) + strings.Repeat("y", i/200)
	}
	for what, c := range map[string]struct {
		list []string
		says string
	}{
		"empty":     {[]string{"*.x", ""}, "is empty"},
		"path":      {[]string{"a/b"}, "not paths"},
		"backslash": {[]string{`a\b`}, "not paths"},
		"comma":     {[]string{"a,b"}, "comma"},
		"long":      {[]string{strings.Repeat("x", MaxPattern+1)}, "256 bytes"},
		"bytes":     {[]string{"\xff"}, "UTF-8"},
		"control":   {[]string{"a\nb"}, "control"},
		"blank":     {[]string{" a"}, "blank"},
		"twice":     {[]string{"a", "b", "a"}, "twice"},
		"many":      {many, "at most 256"},
	} {
		for _, r := range []Rules{{Files: c.list}, {Directories: c.list}} {
			if _, err := New(r); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: error %v, want one that says %q", what, err, c.says)
			}
		}
	}
}

func TestListsReadAsTheyAreWritten(t *testing.T) {
	for _, text := range []string{"", "~*, *.bak,*.tmp", " a "} {
		list := ParseList(text)
		if again := ParseList(FormatList(list)); FormatList(again) != FormatList(list) {
			t.Errorf("%q reads as %q, then as %q", text, list, again)
		}
	}
	if got := FormatList(ParseList(" ~* , *.bak")); got != "~*,*.bak" {
		t.Errorf("list is written %q", got)
	}
}

// asRegexp is the meaning of a pattern, said another way.
func asRegexp(p string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`(?s)^`)
	for _, r := range p {
		switch r {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(string(upper(r))))
		}
	}
	b.WriteString("$")
	return regexp.MustCompile(b.String())
}

func TestMatchMeansWhatTheRegularExpressionMeans(t *testing.T) {
	letters := rapid.StringOfN(rapid.SampledFrom([]rune("aAb.é*")), 0, 12, -1)
	patterns := rapid.StringOfN(rapid.SampledFrom([]rune("aAb.É*?")), 1, 8, -1)
	rapid.Check(t, func(t *rapid.T) {
		p, name := patterns.Draw(t, "pattern"), letters.Draw(t, "name")
		s, err := New(Rules{Files: []string{p}})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := s.Match(name, false), asRegexp(p).MatchString(strings.Map(upper, name)); got != want {
			t.Fatalf("pattern %q, name %q: %v, want %v", p, name, got, want)
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("*.bak", "a.bak")
	f.Add("~*", "~\xff")
	f.Add("*a*a*a*b", strings.Repeat("a", 200))
	f.Fuzz(func(t *testing.T, p, name string) {
		s, err := New(Rules{Files: []string{p}})
		if err != nil {
			return
		}
		got := s.Match(name, false)
		if utf8.ValidString(name) {
			if want := asRegexp(p).MatchString(strings.Map(upper, name)); got != want {
				t.Fatalf("pattern %q, name %q: %v, want %v", p, name, got, want)
			}
		}
	})
}

func BenchmarkMatchDefaults(b *testing.B) {
	s := set(b, Defaults())
	for b.Loop() {
		if s.Match("some-ordinary-name.c", false) {
			b.Fatal("kept out")
		}
	}
}
