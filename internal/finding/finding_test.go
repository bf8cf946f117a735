package finding

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	noon  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	later = noon.Add(time.Hour)
)

// A disk fills, is looked at many times, and is freed: two log lines.
func TestOneLogLineForEachRaiseAndClear(t *testing.T) {
	s := NewSet(0)
	var lines []string
	look := func(full bool, now time.Time) {
		if full {
			if f, isNew := s.Raise(DiskFull, "projects/docs", "write a.iso: ENOSPC", now); isNew {
				lines = append(lines, "raise "+f.String())
			}
			return
		}
		if f, was := s.Clear(DiskFull, "projects/docs"); was {
			lines = append(lines, "clear "+f.String())
		}
	}
	look(false, noon)
	look(true, noon)
	look(true, later)
	look(true, later)
	look(false, later)
	look(false, later)

	want := []string{
		"raise error disk-full projects/docs: the disk is full (write a.iso: ENOSPC)",
		"clear error disk-full projects/docs: the disk is full (write a.iso: ENOSPC)",
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Errorf("log lines (-want +got):\n%s", d)
	}
	if l := s.List(); len(l) != 0 {
		t.Errorf("after clear the set still lists %v", l)
	}
}

func TestRaiseAgainKeepsTheTimeAndTakesTheNewDetail(t *testing.T) {
	s := NewSet(0)
	s.Raise(PartnerUnreachable, "hub->branch", "connection refused", noon)
	s.Raise(PartnerUnreachable, "hub->branch", "no route to host", later)
	got := s.List()
	if len(got) != 1 || !got[0].Since.Equal(noon) || got[0].Detail != "no route to host" {
		t.Errorf("got %+v, want one finding since %v with the newest detail", got, noon)
	}
	if got[0].Text == "" || got[0].Remedy == "" || got[0].Severity != Warning {
		t.Errorf("finding does not carry its declaration: %+v", got[0])
	}
}

func TestListShowsTheWorstFirst(t *testing.T) {
	s := NewSet(0)
	if s.Worst() != 0 {
		t.Errorf("an empty set has worst %v, want 0", s.Worst())
	}
	s.Raise(ConflictKept, "g/f:x", "", noon)
	s.Raise(ListingError, "g/f:b", "", noon)
	s.Raise(ListingError, "g/f:a", "", noon)
	s.Raise(RootMissing, "g/f", "", noon)
	var order []string
	for _, f := range s.List() {
		order = append(order, string(f.Code)+" "+f.Object)
	}
	want := []string{"root-missing g/f", "listing-error g/f:a", "listing-error g/f:b", "conflict-kept g/f:x"}
	if d := cmp.Diff(want, order); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
	if s.Worst() != Error {
		t.Errorf("worst is %v, want error", s.Worst())
	}
}

func TestClearObjectTakesWhatIsInsideAlong(t *testing.T) {
	s := NewSet(0)
	s.Raise(RootMissing, "g/f", "", noon)
	s.Raise(FileUnreadable, "g/f:a/b", "", noon)
	s.Raise(FileUnreadable, "g/f2:a/b", "", noon)
	s.Raise(StoreError, "", "", noon)
	if gone := s.ClearObject("g/f"); len(gone) != 2 || gone[0].Code != RootMissing {
		t.Errorf("cleared %v, want the root and the file of g/f", gone)
	}
	if gone := s.ClearObject(""); len(gone) != 1 || gone[0].Code != StoreError {
		t.Errorf("clearing the member itself took %v, want store-error alone", gone)
	}
	if left := s.List(); len(left) != 1 || left[0].Object != "g/f2:a/b" {
		t.Errorf("left %v, want the file of g/f2", left)
	}
}

func TestClearCodeWithinAnObjectAndEverywhere(t *testing.T) {
	s := NewSet(0)
	s.Raise(FileUnreadable, "g/f:a", "", noon)
	s.Raise(FileUnreadable, "g/h:a", "", noon)
	s.Raise(ListingError, "g/f:d", "", noon)
	if gone := s.ClearCode(FileUnreadable, "g/f"); len(gone) != 1 || gone[0].Object != "g/f:a" {
		t.Errorf("cleared %v, want g/f:a", gone)
	}
	if gone := s.ClearCode(FileUnreadable, ""); len(gone) != 1 || gone[0].Object != "g/h:a" {
		t.Errorf("cleared %v, want g/h:a", gone)
	}
	if l := s.List(); len(l) != 1 || l[0].Code != ListingError {
		t.Errorf("left %v, want the listing error", l)
	}
}

// A disk with a thousand bad files: the list stays short and says that it is.
func TestACodeIsBoundedAndCountsWhatItRefused(t *testing.T) {
	s := NewSet(10)
	for i := range 1000 {
		_, isNew := s.Raise(FileUnreadable, fmt.Sprintf("g/f:%d", i), "EIO", noon)
		if isNew != (i < 10) {
			t.Fatalf("raise %d: new is %v", i, isNew)
		}
	}
	s.Raise(DiskFull, "g/f", "", noon)
	if n := len(s.List()); n != 11 {
		t.Errorf("list holds %d findings, want 10 unreadable files and the full disk", n)
	}
	if d := cmp.Diff(map[Code]uint64{FileUnreadable: 990}, s.Overflow()); d != "" {
		t.Errorf("overflow (-want +got):\n%s", d)
	}
	s.Clear(FileUnreadable, "g/f:3")
	if _, isNew := s.Raise(FileUnreadable, "g/f:999", "EIO", noon); !isNew {
		t.Error("a cleared finding makes no room for another")
	}
	s.ClearCode(FileUnreadable, "")
	if o := s.Overflow(); len(o) != 0 {
		t.Errorf("overflow stays %v after the code has no finding", o)
	}
}

func TestAnObjectOfAnySizeIsBounded(t *testing.T) {
	s := NewSet(0)
	long := strings.Repeat("ä", maxText)
	s.Raise(NameTooLong, long, long, noon)
	f := s.List()[0]
	if len(f.Object) > maxText || len(f.Detail) > maxText || !strings.HasSuffix(f.Object, "ä…") {
		t.Errorf("object has %d bytes, detail %d, want at most %d with a mark", len(f.Object), len(f.Detail), maxText)
	}
	if _, was := s.Clear(NameTooLong, long); !was {
		t.Error("the object that raised cannot clear")
	}
}

func TestAnUndeclaredCodeIsADefect(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("raise of an undeclared code did not panic")
		}
	}()
	NewSet(0).Raise("no-such-code", "", "", noon)
}

func TestSetIsSafeForConcurrentUse(t *testing.T) {
	s := NewSet(0)
	var raised, cleared atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 500 {
				object := fmt.Sprintf("g/f:%d", (w+i)%7)
				if _, isNew := s.Raise(ListingError, object, "", noon); isNew {
					raised.Add(1)
				}
				if _, was := s.Clear(ListingError, object); was {
					cleared.Add(1)
				}
				s.List()
				s.Overflow()
			}
		})
	}
	wg.Wait()
	if got, want := int64(len(s.List())), raised.Load()-cleared.Load(); got != want {
		t.Errorf("%d findings live, but %d raised and %d cleared", got, raised.Load(), cleared.Load())
	}
}

func TestLogLineAndJSONCarryTheCode(t *testing.T) {
	s := NewSet(0)
	f, _ := s.Raise(ClockAhead, "", "400s", noon)
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Log(t.Context(), f.Severity.Level(), "finding raised", "finding", f)
	if !strings.Contains(b.String(), "level=WARN") || !strings.Contains(b.String(), "finding.code=clock-ahead") {
		t.Errorf("log line: %s", b.String())
	}
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var back Finding
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(f, back); d != "" {
		t.Errorf("JSON does not come back (-want +got):\n%s", d)
	}
	if err := json.Unmarshal([]byte(`{"severity":"fatal"}`), &back); err == nil {
		t.Error("an unknown severity is read without an error")
	}
}

func TestEveryKindIsWholeAndFollowsTheHouse(t *testing.T) {
	code := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	for _, k := range Kinds() {
		if !code.MatchString(string(k.Code)) {
			t.Errorf("%s: a code is lower-case words joined by '-'", k.Code)
		}
		if k.Severity < Info || k.Severity > Error {
			t.Errorf("%s: severity %v", k.Code, k.Severity)
		}
		if k.Text == "" || strings.HasSuffix(k.Text, ".") {
			t.Errorf("%s: text %q is a sentence without a full stop", k.Code, k.Text)
		}
		for name, s := range map[string]string{"remedy": k.Remedy, "doc": k.Doc} {
			if !strings.HasSuffix(s, ".") || strings.ContainsAny(s, "|\n") {
				t.Errorf("%s: %s %q is whole sentences without '|'", k.Code, name, s)
			}
		}
	}
}

// Every constant of codes.go is declared in the table, and nothing else is.
func TestConstantsAndTableAgree(t *testing.T) {
	src, err := os.ReadFile("codes.go")
	if err != nil {
		t.Fatal(err)
	}
	var consts, table []string
	for _, m := range regexp.MustCompile(`Code\s*=\s*"([^"]+)"`).FindAllStringSubmatch(string(src), -1) {
		consts = append(consts, m[1])
	}
	for _, k := range Kinds() {
		table = append(table, string(k.Code))
	}
	slices.Sort(consts)
	slices.Sort(table)
	if len(consts) < 40 {
		t.Fatalf("codes.go gives only %d constants; is the pattern right?", len(consts))
	}
	if d := cmp.Diff(consts, table); d != "" {
		t.Errorf("codes.go and kinds.go differ (-constants +table):\n%s", d)
	}
}

// docs/findings.md and the table say the same, in both directions.
func TestDocumentAndTableAgree(t *testing.T) {
	data, err := os.ReadFile("../../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ Severity, Text, Doc, Remedy string }
	doc, table := map[string]row{}, map[string]row{}
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		c := strings.Split(strings.TrimSpace(line), "|")
		if len(c) != 6 {
			t.Fatalf("row with %d columns, want 4: %s", len(c)-2, line)
		}
		code := strings.Trim(strings.TrimSpace(c[1]), "`")
		if _, twice := doc[code]; twice {
			t.Errorf("docs/findings.md lists %s twice", code)
		}
		text, meaning, ok := strings.Cut(strings.TrimSpace(c[3]), ". ")
		if !ok {
			t.Errorf("%s: the meaning is the text, a full stop, and the explanation", code)
		}
		doc[code] = row{strings.TrimSpace(c[2]), text, meaning, strings.TrimSpace(c[4])}
	}
	for _, k := range Kinds() {
		text := strings.ToUpper(k.Text[:1]) + k.Text[1:]
		table[string(k.Code)] = row{k.Severity.String(), text, k.Doc, k.Remedy}
	}
	if d := cmp.Diff(table, doc); d != "" {
		t.Errorf("docs/findings.md differs from the table (-table +document):\n%s", d)
	}
}
