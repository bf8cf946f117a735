package directory

import (
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var rewriteGolden = flag.Bool("rewrite", false, "write the golden files of testdata as the code has them now")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *rewriteGolden {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustRead(t testing.TB, text string) *Document {
	t.Helper()
	doc, err := Read([]byte(text), "domain.yaml")
	if err != nil {
		t.Fatalf("read document:\n%v\n%s", err, text)
	}
	return doc
}

// seeded gives random bytes that are the same in every run.
func seeded(n byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{n}) }

// completed gives testdata/full.yaml with all ids.
func completed(t testing.TB) *Document {
	t.Helper()
	doc, err := mustRead(t, string(readFile(t, "testdata/full.yaml"))).Complete(nil, seeded(1))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// Every error, with line, column and remedy: testdata/errors/*.yaml beside
// what is said of each.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/errors/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d files: %v", len(files), err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			_, err := Parse(readFile(t, name), "domain.yaml")
			var ps Problems
			if !errors.As(err, &ps) {
				t.Fatalf("error is %T %v, want Problems", err, err)
			}
			for _, p := range ps {
				if p.What == "" || p.Remedy == "" || p.File != "domain.yaml" || p.Line < 1 || p.Column < 1 {
					t.Errorf("not a whole problem: %+v", p)
				}
			}
			golden(t, strings.TrimSuffix(name, ".yaml")+".want", err.Error()+"\n")
		})
	}
}

func TestWarnings(t *testing.T) {
	doc := mustRead(t, string(readFile(t, "testdata/warnings.yaml")))
	golden(t, "testdata/warnings.want", doc.Warnings.Error()+"\n")
	if doc := mustRead(t, "version: 1\ndomain: corp\n"); len(doc.Warnings) > 0 {
		t.Errorf("an empty domain has warnings: %v", doc.Warnings)
	}
}

func TestAllValuesAreRead(t *testing.T) {
	d, err := Parse(readFile(t, "testdata/full.yaml"), "full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	docs, media := NewFolder("docs"), NewFolder("media")
	hub, branch := NewMembership("hub", "/srv/docs"), NewMembership("branch", "/srv/docs")
	hub.Primary = true
	branch.StagingQuota = 8 * GiB
	docs.Members = []*Membership{branch, hub}
	media.Case, media.Rest, media.CaptureBusy, media.TombstoneLifetime = CaseInsensitive, 5*time.Minute, time.Hour, 90*24*time.Hour
	media.SlowSync = 0
	media.DirectoryConflict = DirectoryMorph
	media.Breaker = BreakerOff
	media.Owners, media.Attributes = OwnersByName, []string{AttributeCapability, AttributeSELinux}
	media.Filters = Filters{Files: []string{"*.part"}, Directories: []string{"cache"}}
	mhub, mlab := NewMembership("hub", "/srv/media files/ä"), NewMembership("lab", "/data/media")
	mhub.Primary, mhub.ConflictRetention = true, 30*24*time.Hour
	mlab.ReadOnly, mlab.Enabled = true, false
	media.Members = []*Membership{mhub, mlab}
	dist := NewFolder("dist")
	dhub := NewMembership("hub", "/srv/dist")
	dhub.Primary = true
	dist.Members = []*Membership{NewMembership("branch", "/srv/dist"), dhub}
	want := &Domain{
		Name: "corp", Term: 1,
		Servers: []*Server{
			{Name: "branch", Addresses: []string{"branch.example:7440", "[2001:db8::2]:7440"}, Listen: []string{":7440"}},
			{Name: "hub", Addresses: []string{"10.77.0.1:7440"}},
			{Name: "lab"},
		},
		Groups: []*Group{
			{Name: "chain", Topology: Topology{Kind: Custom, Links: []Link{{"branch", "hub", true}, {"branch", "lab", false}, {"hub", "branch", true}}}},
			{Name: "projects", Folders: []*Folder{docs, media}},
			{Name: "software", Topology: Topology{Kind: HubAndSpoke, Hubs: []string{"hub"}}, Folders: []*Folder{dist}},
		},
	}
	if d := cmp.Diff(want, d); d != "" {
		t.Errorf("domain (-want +got):\n%s", d)
	}
}

func TestADocumentMayHaveItsMarks(t *testing.T) {
	if _, err := Parse([]byte("# head\n---\nversion: 1\ndomain: corp\n...\n# foot\n"), "domain.yaml"); err != nil {
		t.Error(err)
	}
}

func TestManyProblemsAreCutShort(t *testing.T) {
	var b strings.Builder
	b.WriteString("version: 1\ndomain: corp\n")
	for range 500 {
		b.WriteString("nonsense: 1\n")
	}
	_, err := Parse([]byte(b.String()), "domain.yaml")
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxProblems+1 || !strings.Contains(lines[maxProblems], "400 more problems") {
		t.Errorf("%d lines, the last: %s", len(lines), lines[len(lines)-1])
	}
}

// What would cost the YAML parser time or stack out of proportion to the text
// is refused before it, by what it is, at its first place.
func TestHostileDocumentsDoNotReachTheParser(t *testing.T) {
	const many = 1 << 15
	for name, c := range map[string]struct{ text, want string }{
		"deep lists":     {"a: " + strings.Repeat("[", many), "1:20: brackets are nested deeper than 16"},
		"deep maps":      {"a: " + strings.Repeat("{a: ", many), "brackets are nested deeper than 16"},
		"deep dashes":    {strings.Repeat("- ", many), "1:3: a list in a list"},
		"deep questions": {strings.Repeat("? ", many), "begins a block that is not used"},
		"tags":           {"a: " + strings.Repeat("!t ", many), "anchors, aliases, tags and merges are not used"},
		"aliases":        {"a: &x [1]\nb: *x\n", "anchors, aliases, tags and merges are not used"},
		"long value":     {"version: 1\ndomain: " + strings.Repeat("x", many), "2:9: a value of 32768 bytes"},
		"long key":       {strings.Repeat("x", many) + ": 1\n", "1:1: a value of 32768 bytes"},
		"colons":         {strings.Repeat("a: ", many), "1:5: a second ':' follows a value"},
		"closed colons":  {strings.Repeat("a: {}", many), "1:7: a second ':' follows a value"},
		"flow colons":    {"a: {" + strings.Repeat("a: b: ", many), "1:4: the YAML is broken"},
		"quotes":         {"a: " + strings.Repeat("'' ", many), "1:7: a second value follows a value"},
		"many keys":      {strings.Repeat("a: 1\n", many), "10001:2: more than 10000 keys stand beside each other"},
		"many documents": {strings.Repeat("---\n", many) + "a: 1\n", "2:1: a second document begins here"},
		"empty ahead":    {"---\n---\nversion: 1\ndomain: corp\n", "2:1: a second document begins here"},
		"end and more":   {"version: 1\n...\ndomain: corp\n", "3:1: a second document begins here"},
		"many values":    {"version: 1\ndomain:\n" + strings.Repeat("- 1\n", many), "\"domain\" is a list"},
		"too large":      {strings.Repeat("#", MaxSize+1), "more than the 16777216 that are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.text), "domain.yaml")
			if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 4096 {
				t.Errorf("error %.300v, want %q", err, c.want)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"hub":                   "hub:7440",
		"Hub.Example:7441":      "hub.example:7441",
		"10.0.0.1":              "10.0.0.1:7440",
		"10.0.0.1:1":            "10.0.0.1:1",
		"[2001:DB8::2]":         "[2001:db8::2]:7440",
		"[2001:db8::2]:65535":   "[2001:db8::2]:65535",
		"[fe80::1%eth0]:7440":   "[fe80::1%eth0]:7440",
		"srv_1.example.:7440":   "srv_1.example.:7440",
		"localhost:07440":       "localhost:7440",
		"[::ffff:10.0.0.1]:100": "[::ffff:10.0.0.1]:100",
	} {
		got, err := ParseAddress(in)
		if err != nil || got != want {
			t.Errorf("ParseAddress(%q) = %q, %v; want %q", in, got, err, want)
		}
		if again, err := ParseAddress(got); err != nil || again != got {
			t.Errorf("ParseAddress(%q) = %q, %v; want it unchanged", got, again, err)
		}
	}
	for in, want := range map[string]string{":7440": ":7440", "0.0.0.0": "0.0.0.0:7440", "[::]:0": "[::]:0", "[::]:7440": "[::]:7440"} {
		if got, err := ParseListen(in); err != nil || got != want {
			t.Errorf("ParseListen(%q) = %q, %v; want %q", in, got, err, want)
		}
		if got, err := ParseAddress(in); err == nil {
			t.Errorf("ParseAddress(%q) = %q, want an error", in, got)
		}
	}
}

func TestListenAddresses(t *testing.T) {
	for _, c := range []struct {
		server Server
		want   string
	}{
		{Server{}, ":7440"},
		{Server{Addresses: []string{"[2001:db8::2]:7444", "hub:1"}}, ":7444"},
		{Server{Addresses: []string{"hub:7441"}, Listen: []string{"127.0.0.1:7440"}}, "127.0.0.1:7440"},
	} {
		if got := strings.Join(c.server.ListenAddresses(), " "); got != c.want {
			t.Errorf("%+v listens on %q, want %q", c.server, got, c.want)
		}
	}
}

func TestUnits(t *testing.T) {
	for in, want := range map[string]Size{"0": 0, "5B": 5, "10MB": 10e6, "4GiB": 4 << 30, "1536KiB": 1536 << 10, "15PiB": 15 << 50} {
		got, err := ParseSize(in)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %v, %v; want %v", in, got, err, want)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("ParseSize(%q) = %v, %v; want %v", got, again, err, got)
		}
	}
	for _, in := range []string{"", "GiB", "4 GiB", "-1", "1.5GiB", "4gib", "4GiBB", "99999999PiB", "18446744073709551616"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("ParseSize(%q) = %v, want an error", in, got)
		}
	}
	for in, want := range map[string]string{"60s": "1m", "0s": "0s", "60d": "60d", "1d12h": "1d12h", "36h": "1d12h", "90m": "1h30m", "1.5s": "1.5s", "250ms": "250ms", "1m1s": "1m1s"} {
		d, err := ParseDuration(in)
		if err != nil || FormatDuration(d) != want {
			t.Errorf("ParseDuration(%q) = %q, %v; want %q", in, FormatDuration(d), err, want)
		}
		if again, err := ParseDuration(want); err != nil || again != d {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", want, again, err, d)
		}
	}
	for _, in := range []string{"", "60", "0", "d", "-3d", "-1s", "1d-1h", "1d2d", "1.5d", "soon", "99999d", "+1s", "1dd"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", in, got)
		}
	}
}

func TestUUIDs(t *testing.T) {
	u, err := NewUUID(seeded(7))
	if err != nil {
		t.Fatal(err)
	}
	if s := u.String(); s[14] != '4' || !strings.ContainsRune("89ab", rune(s[19])) {
		t.Errorf("%s is not of version 4 (RFC 9562 section 5.4)", s)
	}
	for _, s := range []string{u.String(), strings.ToUpper(u.String())} {
		if v, err := ParseUUID(s); err != nil || v != u {
			t.Errorf("ParseUUID(%q) = %v, %v", s, v, err)
		}
	}
	for _, s := range []string{"", "00000000-0000-0000-0000-000000000000", u.String() + "0", strings.ReplaceAll(u.String(), "-", "_"), "g" + u.String()[1:]} {
		if v, err := ParseUUID(s); err == nil {
			t.Errorf("ParseUUID(%q) = %v, want an error", s, v)
		}
	}
	if _, err := NewUUID(strings.NewReader("short")); err == nil {
		t.Error("an id was drawn from a source that ran dry")
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/errors/*.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, name := range files {
			f.Add(readFile(f, name))
		}
	}
	f.Add([]byte("{a, b}"))
	f.Add([]byte("? a\n: b\n"))
	f.Add([]byte("a: 'x\n\n y'\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := Read(data, "domain.yaml")
		if err != nil {
			var ps Problems
			if !errors.As(err, &ps) || len(ps) == 0 || err.Error() == "" {
				t.Fatalf("the error says nothing: %T %v", err, err)
			}
			return
		}
		back, err := Parse(Marshal(doc.Domain), "again")
		if err != nil {
			t.Fatalf("the canonical text is not valid: %v\n%s", err, Marshal(doc.Domain))
		}
		if d := cmp.Diff(doc.Domain, back); d != "" {
			t.Fatalf("the canonical text says something else (-want +got):\n%s", d)
		}
		filled, err := doc.Complete(nil, seeded(3))
		if err != nil {
			t.Fatalf("ids cannot be filled in: %v", err)
		}
		if len(Diff(doc.Domain, filled.Domain)) != 0 {
			t.Fatalf("filling in ids changed the domain: %v", Diff(doc.Domain, filled.Domain))
		}
	})
}
