package store

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/version"

	"pgregory.net/rapid"
)

// testNames knows the originators {1} to {9}.
func testNames() *names {
	n := &names{make(map[version.Originator]uint64), make([]version.Originator, 1)}
	for i := range byte(9) {
		n = n.with(version.Originator{i + 1})
	}
	return n
}

func numberOf(n *names) *numbering {
	return &numbering{number: func(g version.GVSN) (ref, error) {
		r, ok := n.ref(g)
		if !ok {
			return r, fmt.Errorf("no number for %v", g.Originator)
		}
		return r, nil
	}}
}

func drawGVSN(t *rapid.T, label string) version.GVSN {
	return version.GVSN{Originator: version.Originator{rapid.ByteRange(1, 9).Draw(t, label)}, Version: rapid.Uint64().Draw(t, label)}
}

func drawTime(t *rapid.T, label string) repl.Time { return repl.Time(rapid.Int64().Draw(t, label)) }

func drawRecord(t *rapid.T) repl.Record {
	maybe := func(label string) bool { return rapid.Bool().Draw(t, label) }
	text := func(label string, n int) string {
		return string(rapid.SliceOfN(rapid.Byte(), 0, n).Draw(t, label))
	}
	r := repl.Record{
		Update: repl.Update{
			UID: repl.UID(drawGVSN(t, "uid")), Type: repl.Type(rapid.IntRange(0, 3).Draw(t, "type")),
			Present: maybe("present"), NameConflict: maybe("conflict"),
			Fence: repl.Fence(rapid.Int64().Draw(t, "fence")), CreateTime: drawTime(t, "create"), Clock: drawTime(t, "clock"),
			Size: rapid.Int64Min(0).Draw(t, "size"), Mtime: drawTime(t, "mtime"), Target: text("target", 40),
			Meta: []byte(text("meta", 80)),
		},
		Presence: repl.Presence(rapid.IntRange(0, 4).Draw(t, "presence")), Provisional: maybe("provisional"), Unclean: maybe("unclean"),
		Identity: repl.Identity{Handle: text("handle", 30)},
	}
	r.GVSN = version.GVSN(r.UID)
	if maybe("later") {
		r.GVSN = drawGVSN(t, "gvsn")
	}
	if maybe("parent") {
		r.Parent, r.Name = repl.UID(drawGVSN(t, "parent")), text("name", 60)
	}
	if maybe("content") {
		r.Content = repl.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "content"))
	}
	if maybe("history") {
		for range rapid.IntRange(1, repl.MaxHistory).Draw(t, "seen") {
			r.History = append(r.History, drawGVSN(t, "entry"))
		}
	}
	if maybe("heir") {
		r.Heir = repl.UID(drawGVSN(t, "heir"))
	}
	if maybe("carried") {
		r.Shown = []byte(text("shown", 80) + "x")
	}
	if maybe("print") {
		r.Print = repl.Print{Size: r.Size, Mtime: r.Mtime, Ctime: drawTime(t, "ctime")}
		if maybe("own print") {
			r.Print.Size, r.Print.Mtime = rapid.Int64().Draw(t, "print size"), drawTime(t, "print mtime")
		}
	}
	if maybe("birth") {
		r.Identity.Birth = drawTime(t, "birth")
	}
	return r
}

func TestRecordsRoundTrip(t *testing.T) {
	n := testNames()
	rapid.Check(t, func(rt *rapid.T) {
		want := drawRecord(rt)
		inline := rapid.Bool().Draw(rt, "inline")
		var hash metaHash
		if !inline && len(want.Meta) > inlineMeta {
			hash = hashMeta(want.Meta)
		}
		num := numberOf(n)
		b := appendRecord(nil, &want, num, hash, inline)
		if num.err != nil {
			rt.Fatal(num.err)
		}
		got, gotHash, err := decodeRecord(b, want.UID, n)
		if err != nil || gotHash != hash {
			rt.Fatalf("%x: %v, blob %x, want %x", b, err, gotHash, hash)
		}
		if hash != (metaHash{}) {
			got.Meta = want.Meta
		}
		if !bytes.Equal(got.Meta, want.Meta) || !slices.Equal(got.History, want.History) {
			rt.Fatalf("%+v came back as %+v", want, got)
		}
		if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
			rt.Fatalf("%s came back as %s", w, g)
		}
	})
}

func TestOrderedNumbersSortAsNumbers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		shift := func(label string) uint64 {
			return rapid.Uint64().Draw(rt, label) >> rapid.IntRange(0, 63).Draw(rt, label)
		}
		a, b := ref{shift("o"), shift("v")}, ref{shift("p"), shift("w")}
		ka, kb := a.append(nil), b.append(nil)
		want := bytes.Compare(fmt.Appendf(nil, "%020d%020d", a.originator, a.version), fmt.Appendf(nil, "%020d%020d", b.originator, b.version))
		if got := bytes.Compare(ka, kb); got != want {
			rt.Fatalf("%v and %v: keys %x, %x compare %d, want %d", a, b, ka, kb, got, want)
		}
		if back, rest, err := decodeRef(ka); err != nil || len(rest) > 0 || back != a {
			rt.Fatalf("%v came back as %v, %v", a, back, err)
		}
	})
}

func TestARecordIsSmall(t *testing.T) {
	n := testNames()
	uid := repl.UID{Originator: version.Originator{1}, Version: 1_000_000}
	now := repl.Time(1_700_000_000_000_000_000)
	r := repl.Record{
		Update: repl.Update{
			UID: uid, GVSN: version.GVSN(uid), Parent: repl.UID{Originator: version.Originator{1}, Version: 999_000}, Name: strings.Repeat("n", 20),
			Type: repl.File, Present: true, Fence: 3, CreateTime: now, Clock: now, Size: 1 << 20, Mtime: now - 1e16, Content: repl.Hash{1}, Meta: make([]byte, 90),
		},
		Identity: repl.Identity{Handle: strings.Repeat("h", 12), Birth: now - 1e9},
		Print:    repl.Print{Size: 1 << 20, Mtime: now - 1e16, Ctime: now - 1e8},
	}
	if b := appendRecord(nil, &r, numberOf(n), metaHash{1}, false); len(b) > 140 {
		t.Fatalf("a plain record takes %d bytes: %x", len(b), b)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	n := testNames()
	uid := repl.UID{Originator: version.Originator{1}, Version: 9}
	full := repl.Record{Update: repl.Update{
		UID: uid, GVSN: version.GVSN{Originator: version.Originator{2}, Version: 300}, Parent: uid, Name: "name", Type: repl.File, Present: true,
		Size: 5, Content: repl.Hash{1}, Meta: []byte("m"), Target: "t", Heir: uid, CreateTime: 5, Clock: 6, Mtime: 7,
		History: repl.History{{Originator: version.Originator{3}, Version: 4}},
	}, Identity: repl.Identity{Handle: "h", Birth: 4}, Print: repl.Print{Size: 1, Mtime: 2, Ctime: 3}}
	f.Add(appendRecord(nil, &full, numberOf(n), metaHash{}, true))
	f.Add([]byte{2, 0, 0, 0x10})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, hash, err := decodeRecord(b, uid, n)
		if err != nil {
			return
		}
		if len(r.History) > repl.MaxHistory || len(r.Name) > repl.MaxName || len(r.Target) > repl.MaxTarget || len(r.Meta) > repl.MaxMeta {
			t.Fatalf("%x gives a record beyond the limits", b)
		}
		num := numberOf(n)
		again := appendRecord(nil, &r, num, hash, true)
		if hash != (metaHash{}) || num.err != nil {
			return // the blob is not here; a reference to nobody encodes as none
		}
		back, _, err := decodeRecord(again, uid, n)
		if err != nil || fmt.Sprintf("%+v", back) != fmt.Sprintf("%+v", r) {
			t.Fatalf("%x: %+v came back as %+v, %v", b, r, back, err)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	f.Add(appendState(nil, &State{Originator: version.Originator{1}, Phase: PhaseNormal, Past: []version.Originator{{2}}, Volume: "v", Clean: true, Filter: repl.Hash{3}}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		back, err := decodeState(appendState(nil, &s))
		if err != nil || fmt.Sprintf("%+v", back) != fmt.Sprintf("%+v", s) {
			t.Fatalf("%x: %+v came back as %+v, %v", b, s, back, err)
		}
	})
}

func FuzzDecodeIntent(f *testing.F) {
	n := testNames()
	g := version.GVSN{Originator: version.Originator{1}, Version: 9}
	in := Intent{
		UID: repl.UID(g), GVSN: g, Base: g, Place: repl.Place{Dir: repl.UID(g), Name: "n"}, Identity: repl.Identity{Handle: "h", Birth: 1},
		Print: repl.Print{Size: 1}, Keep: repl.KeepConflict, Temp: "t", Verdict: repl.VerdictEdit,
		Update: repl.Update{UID: repl.UID(g), GVSN: g, Parent: repl.UID{Originator: version.Originator{2}, Version: 1}, Name: "n", Type: repl.File, Meta: make([]byte, 99)},
	}
	f.Add(appendIntent(nil, &in, numberOf(n)))
	f.Add([]byte{1, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := decodeIntent(b, n)
		if err != nil {
			return
		}
		num := numberOf(n)
		again := appendIntent(nil, &in, num)
		if num.err != nil {
			return
		}
		back, err := decodeIntent(again, n)
		if err != nil || fmt.Sprintf("%+v", back) != fmt.Sprintf("%+v", in) {
			t.Fatalf("%x: %+v came back as %+v, %v", b, in, back, err)
		}
	})
}

func FuzzDecodeKnown(f *testing.F) {
	f.Add(appendKnown(nil, known{9, []version.Interval{{Low: 0, High: 4}, {Low: 7, High: 9}}}), []byte{0, 1})
	f.Fuzz(func(t *testing.T, b, key []byte) {
		if k, err := decodeKnown(b); err == nil {
			back, err := decodeKnown(appendKnown(nil, k))
			if err != nil || back.top != k.top || !slices.Equal(back.intervals, k.intervals) {
				t.Fatalf("%x: %v came back as %v, %v", b, k, back, err)
			}
		}
		if r, rest, err := decodeRef(key); err == nil && !bytes.Equal(r.append(nil), key[:len(key)-len(rest)]) {
			t.Fatalf("key %x is not the only form of %v", key, r)
		}
		if c, err := decodeCounts(b); err == nil {
			if back, err := decodeCounts(appendCounts(nil, c)); err != nil || back != c {
				t.Fatalf("%x: %v came back as %v, %v", b, c, back, err)
			}
		}
		_ = checkChunks(b)
		if err := checkLogBlocks(bytes.NewReader(b), 7); err != nil && len(b) < oldHeader {
			t.Fatalf("%x is too short to prove damage: %v", b, err)
		}
	})
}

// TestKindsOfRowsDoNotShareFiles asks where a file of the database ends that
// begins with a row: after the row, and before the first row of another kind.
func TestKindsOfRowsDoNotShareFiles(t *testing.T) {
	k, next := folderKeys(300), folderKeys(301)
	dir := func(version uint64, name string) []byte { return k.name(nil, ref{7, version}, name) }
	for _, c := range []struct {
		what              string
		row, same, beyond []byte
	}{
		{"folders", []byte{keyFolder, 1}, []byte{keyFolder, 9}, k.table(nil, tableState)},
		{"contents", k.content(nil, repl.Hash{1}), k.content(nil, repl.Hash{255}), k.handle(nil, "")},
		{"state and contents", k.table(nil, tableState), k.content(nil, repl.Hash{}), k.handle(nil, "")},
		{"handles", k.handle(nil, "a"), k.meta(nil, metaHash{255}), dir(1, "a")},
		{"names of a shelf", dir(1, "a"), dir(nameShelf-1, "z"), dir(nameShelf, "")},
		{"names of the last shelf", dir(math.MaxUint64, "a"), dir(math.MaxUint64, "z"), k.ref(nil, tableRecord, ref{1, 1})},
		{"records", k.ref(nil, tableRecord, ref{1, 1}), k.ref(nil, tableVersion, ref{9, 9}), next.table(nil, tableState)},
	} {
		_, end, err := oneKind(c.row)
		if err != nil || bytes.Compare(c.row, end) >= 0 || bytes.Compare(c.same, end) >= 0 || bytes.Compare(c.beyond, end) < 0 {
			t.Errorf("%s: a file that begins with %x ends before %x, %v", c.what, c.row, end, err)
		}
	}
	for _, foreign := range [][]byte{nil, {keyRows}, {keyRows, 0xff}, {keyRows, 1}, {0x7f, 1}} {
		if _, end, err := oneKind(foreign); err != nil || end != nil && bytes.Compare(foreign, end) >= 0 {
			t.Errorf("a file that begins with %x ends before %x, %v", foreign, end, err)
		}
	}
}
