package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/version"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"
)

var (
	orig1  = version.Originator{1}
	orig2  = version.Originator{2, 2}
	folder = repl.FolderID{7, 7}
)

func file(n uint64) repl.Update {
	g := version.GVSN{Originator: orig1, Version: n}
	return repl.Update{
		UID: repl.UID(g), GVSN: version.GVSN{Originator: orig2, Version: n + 1}, Parent: repl.RootUID(folder), Name: "a \xff b",
		Type: repl.File, Present: true, Fence: repl.FenceDefault, CreateTime: 5, Clock: 6, Size: 7, Mtime: -8,
		Content: repl.Hash{9}, Meta: []byte("owner"), History: repl.History{g},
	}
}

// many are n updates alike.
func many(u repl.Update, n uint64) (out []repl.Update) {
	for i := range n {
		u.GVSN.Version = i + 1
		out = append(out, u)
	}
	return out
}

func samples() []Message {
	dead := file(40)
	dead.Present, dead.NameConflict, dead.Content, dead.Meta, dead.History = false, true, repl.Hash{}, nil, nil
	merged := repl.Update{UID: repl.UID{Originator: orig2, Version: 9}, GVSN: version.GVSN{Originator: orig2, Version: 10},
		Parent: repl.RootUID(folder), Name: "dir", Type: repl.Directory, Heir: repl.UID{Originator: orig1, Version: 12}}
	link := repl.Update{UID: repl.UID{Originator: orig2, Version: 19}, GVSN: version.GVSN{Originator: orig2, Version: 20},
		Parent: repl.RootUID(folder), Name: "link", Type: repl.Symlink, Present: true, Target: "../x", Content: repl.Hash{3}}
	root := repl.Update{UID: repl.RootUID(folder), GVSN: version.GVSN{Originator: orig2, Version: 10}, Type: repl.Directory, Present: true}
	v := version.Vector{orig1: {{Low: 8, High: 12}, {Low: 13, High: 99}}, orig2: {{Low: 0, High: 1 << 40}}}
	return []Message{
		&Hello{Min: 1, Max: 2, Member: repl.MemberID{1}, Domain: repl.GUID{2}, Product: "1.0", Term: 2, Generation: 3, Clock: 4, Role: RoleData},
		&Error{Code: CodeBusy, Text: "later"},
		&Ping{Sent: 1}, &Pong{Sent: 1, Clock: 2}, &Credit{Bytes: 3}, &Pace{Group: repl.GUID{7}, Rate: 512_000}, &Cancel{},
		&DiffRequest{Folder: folder, Vector: v, After: version.GVSN{Originator: orig1, Version: 9}, Snapshot: []byte("tok"), Wait: true, Limit: 100, Phase: PhaseNormal},
		&DiffRequest{Folder: folder, Vector: version.Vector{}},
		&DiffPage{Vector: v, Snapshot: []byte("tok"), Updates: []repl.Update{file(9), file(10), dead, merged, link, root}, More: true, Cursor: version.GVSN{Originator: orig2, Version: 10}, Phase: PhaseInitialSync},
		&DiffPage{Vector: version.Vector{}},
		&DiffRequest{Folder: folder, Vector: v, Touches: true, Retired: 1 << 63},
		&DiffPage{Vector: v, Retired: 5, Short: true},
		&DiffPage{Vector: v, Updates: []repl.Update{file(9), Short(new(file(10))), Short(new(file(11)))}, Touches: []Touch{{1, 7}, {2, 1 << 63}}, Salt: [16]byte{1}},
		&DiffPage{Vector: v, Updates: many(file(9), 100), Phase: PhaseNormal, Packed: true},
		&RecordsRequest{Folder: folder, UIDs: []repl.UID{{Originator: orig1, Version: 9}, {Originator: orig1, Version: 10}}},
		&RecordsReply{Updates: []repl.Update{file(9)}, Unknown: []repl.UID{{Originator: orig1, Version: 10}}, Vector: v, Answered: 2},
		&ContentRequest{Folder: folder, Credit: 1 << 20, Items: []ContentItem{{UID: repl.UID{Originator: orig1, Version: 9}, GVSN: version.GVSN{Originator: orig2, Version: 7}, Offset: 1 << 40}}},
		&ContentRequest{Folder: folder, Credit: 1 << 20, Items: []ContentItem{
			{UID: repl.UID{Originator: orig1, Version: 9}, GVSN: version.GVSN{Originator: orig2, Version: 7}, Seeds: []repl.Hash{{1}, {2}}},
			{UID: repl.UID{Originator: orig1, Version: 9}, GVSN: version.GVSN{Originator: orig2, Version: 7}, Ranges: []rdc.Range{{Off: 0, Len: 5}, {Off: 5, Len: 1}, {Off: 1 << 40, Len: 1 << 33}}},
			{UID: repl.UID{Originator: orig1, Version: 9}, GVSN: version.GVSN{Originator: orig2, Version: 7}, Seeds: []repl.Hash{{1}}, Grains: make([]byte, 50), Similar: true},
		}},
		&Content{Parts: []Part{
			{Index: 0, Head: Head{Size: 10, Hash: repl.Hash{1}}, Length: 10, Last: true}, {Index: 1, Head: Head{Status: StatusBusy}, Last: true},
			{Index: 2, Head: Head{Size: 1 << 50, Hash: repl.Hash{2}, Form: FormOffer, Offer: []byte("offer")}, Last: true},
			{Index: 3, Head: Head{Size: 1 << 50, Hash: repl.Hash{2}, Form: FormDelta, Needs: 500, Carries: 1 << 30}, Length: 500},
			{Index: 4, Head: Head{Size: 1 << 17, Hash: repl.Hash{2}, Form: FormGraft, Needs: 50, Carries: 1 << 10}, Length: 1 << 10, Last: true},
		}},
		&ContentRequest{Folder: folder, Items: []ContentItem{}, Packed: true, Always: true},
		&Content{Parts: []Part{}, Raw: MaxBody},
		&RdcRequest{Folder: folder, UID: repl.UID{Originator: orig1, Version: 9}, GVSN: version.GVSN{Originator: orig2, Version: 7}, Question: rdc.Request{Level: 2, Indexes: []int{0, 7, 9}}},
		&RdcRequest{Folder: folder, UID: repl.UID{Originator: orig1, Version: 9}, GVSN: version.GVSN{Originator: orig2, Version: 7}, Grains: rdc.GrainRequest{Ranges: []rdc.Range{{Off: 3, Len: 400}}}},
		&RdcReply{Reply: []byte("nodes")},
		&BarrierRequest{Folder: folder}, &BarrierReply{Vector: v},
		&CoverRequest{Folder: folder, Statements: []repl.Statement{{Member: repl.MemberID{1}, Database: version.Originator{2}, Stamp: -3, Covers: v}, {Member: repl.MemberID{4}, Database: version.Originator{5}, Covers: version.Vector{}}}}, &CoverReply{},
		&CompareRequest{Folder: folder}, &CompareRequest{Folder: folder, After: repl.UID{Originator: orig1, Version: 9}, Through: repl.UID{Originator: orig2, Version: 9}, Salt: [16]byte{3}, Since: -5, List: true, Behind: true},
		&CompareReply{}, &CompareReply{More: true, Runs: []CompareRun{{repl.UID{Originator: orig1, Version: 9}, 1024, 1 << 63}, {repl.UID{Originator: orig1, Version: 1 << 40}, 1, 0}}},
		&CompareReply{Vector: v, Entries: []CompareEntry{{repl.UID{Originator: orig1, Version: 9}, version.GVSN{Originator: orig2, Version: 9}, 77}, {repl.UID{Originator: orig1, Version: 10}, version.GVSN{Originator: orig1, Version: 10}, 0}}},
		&StatusRequest{Folder: folder}, &StatusReply{Phase: PhaseNormal, Vector: v, Pending: 5},
		&DirectoryGet{Term: 2, Generation: 9, Wait: true}, &DirectoryCopy{Term: 2, Generation: 10, Signed: []byte("signed")},
		&RenewRequest{Request: []byte("csr")}, &RenewReply{Certificate: []byte("cert")},
		&JoinRequest{Min: 1, Max: 1, Invitation: [16]byte{1}, Request: []byte("csr"), Addresses: []string{"[::1]:7440", "branch.example:7440"}, Clock: 77, Product: "1.0", MAC: [32]byte{5}},
		&JoinReply{Certificate: []byte("cert"), CA: []byte("ca"), Domain: []byte("yaml"), Clock: 78},
	}
}

// Every message survives the way through a frame, with a body where it may have one.
func TestMessagesComeBackWhole(t *testing.T) {
	var stream bytes.Buffer
	seen := map[Type]bool{}
	for i, m := range samples() {
		var body []byte
		if m.Type() == TypeContent {
			body = bytes.Repeat([]byte{0xab}, 5000)
		}
		b, err := Append(nil, m, uint32(i), i%2 == 0, len(body))
		if err != nil {
			t.Fatalf("append %v: %v", m.Type(), err)
		}
		stream.Write(append(b, body...))
		seen[m.Type()] = true
	}
	for typ := range kinds {
		if !seen[typ] {
			t.Errorf("%v has no sample", typ)
		}
	}
	r := NewReader(&stream)
	for i, want := range samples() {
		f, err := r.Next()
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if f.Stream != uint32(i) || f.Final != (i%2 == 0) {
			t.Errorf("frame %d came as stream %d, final %v", i, f.Stream, f.Final)
		}
		got, err := f.Message()
		if err != nil {
			t.Fatalf("%v: %v", f.Type, err)
		}
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b repl.Hash) bool { return a == b })); d != "" {
			t.Errorf("%v changed on its way:\n%s", f.Type, d)
		}
		if f.Type == TypeContent && !bytes.Equal(f.Body, bytes.Repeat([]byte{0xab}, 5000)) {
			t.Errorf("body of %d bytes changed", len(f.Body))
		}
		f.Release()
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatalf("after the last frame: %v, want EOF", err)
	}
}

// A thousand files of one owner carry its metadata once, and a page whose
// updates cost at most MaxPage can be encoded.
func TestPageSharesWhatItsUpdatesShare(t *testing.T) {
	meta := bytes.Repeat([]byte("acl"), 1000)
	var updates []repl.Update
	for n := range uint64(1000) {
		u := file(n + 9)
		u.Meta = meta
		updates = append(updates, u)
	}
	b, err := encodePage(updates, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 150_000 {
		t.Errorf("1,000 updates with the same metadata take %d bytes", len(b))
	}
	got, err := decodePage(b)
	if err != nil {
		t.Fatal(err)
	}
	if &got[0].Meta[0] != &got[999].Meta[0] {
		t.Error("each update got its own copy of the metadata")
	}
}

func TestUpdateCostIsAnUpperBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := file(rapid.Uint64Min(1).Draw(t, "version"))
		u.Name = "n" + strings.ReplaceAll(strings.ReplaceAll(rapid.StringN(0, -1, repl.MaxName-1).Draw(t, "name"), "/", "_"), "\x00", "_")
		u.Meta = rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "meta")
		u.Size, u.Mtime, u.Clock, u.Fence = repl.MaxContent, -1, -1, repl.Fence(rapid.Int64().Draw(t, "fence"))
		u.History = nil
		for i := range rapid.IntRange(0, repl.MaxHistory).Draw(t, "history") {
			u.History = append(u.History, version.GVSN{Originator: version.Originator{9, byte(i)}, Version: 1<<64 - 1})
		}
		if u.Check() != nil {
			t.Skip("not an update")
		}
		b, err := encodePage([]repl.Update{u}, nil)
		if err != nil || len(b) > UpdateCost(&u) {
			t.Fatalf("%d bytes, cost %d, %v", len(b), UpdateCost(&u), err)
		}
		got, err := decodePage(b)
		if len(u.Meta) == 0 {
			u.Meta = nil
		}
		if err != nil || !reflect.DeepEqual(got[0], u) {
			t.Fatalf("%+v came back as %+v, %v", u, got, err)
		}
	})
}

// frame builds a prefix by hand, so that it can lie.
func frame(length uint32, typ, flags byte, zero uint16, header uint32, rest ...byte) []byte {
	b := make([]byte, prefixSize)
	binary.BigEndian.PutUint32(b, length)
	b[4], b[5] = typ, flags
	binary.BigEndian.PutUint16(b[6:], zero)
	binary.BigEndian.PutUint32(b[12:], header)
	return append(b, rest...)
}

func TestReaderRefusesWhatTheTableForbids(t *testing.T) {
	for what, b := range map[string][]byte{
		"unknown type":            frame(12, 99, 0, 0, 0),
		"type zero":               frame(12, 0, 0, 0, 0),
		"unknown flag":            frame(12, byte(TypeCancel), 2, 0, 0),
		"bytes that must be zero": frame(12, byte(TypeCancel), 0, 1, 0),
		"length below the prefix": frame(3, byte(TypeCancel), 0, 0, 0),
		"header beyond length":    frame(12, byte(TypePing), 0, 0, 1),
		"header beyond its limit": frame(12+5000, byte(TypePing), 0, 0, 5000, make([]byte, 5000)...),
		"body where none may be":  frame(13, byte(TypePing), 0, 0, 0, 1),
		"body beyond its limit":   frame(12+MaxBody+1, byte(TypeContent), 0, 0, 0),
		"four gigabytes":          frame(1<<32-1, byte(TypeContent), 0, 0, 1<<32-1),
		"cut prefix":              frame(12, byte(TypePing), 0, 0, 0)[:9],
		"cut header":              frame(14, byte(TypePing), 0, 0, 2, 1),
		"cut body":                frame(12+100, byte(TypeContent), 0, 0, 0, 1, 2, 3),
	} {
		f, err := NewReader(bytes.NewReader(b)).Next()
		if err == nil || err == io.EOF {
			t.Errorf("%s: read %+v, %v", what, f, err)
		}
	}
}

// A header that is announced but never sent costs the reader next to nothing.
func TestReaderAllocatesOnlyWhatArrives(t *testing.T) {
	announce := frame(12+maxVector, byte(TypeDiffRequest), 0, 0, maxVector, make([]byte, 100)...)
	r := NewReader(bytes.NewReader(announce))
	if _, err := r.Next(); err == nil {
		t.Fatal("a frame that was cut off is accepted")
	}
	if cap(r.header) > 2*step {
		t.Fatalf("%d bytes held for 100 that came", cap(r.header))
	}
}

func TestDecodersRefuseWhatCannotBe(t *testing.T) {
	page := func(spoil func(*repl.Update)) func() error {
		return func() error {
			u := file(9)
			spoil(&u)
			_, err := encodePage([]repl.Update{u}, nil)
			return err
		}
	}
	item := func(items ...ContentItem) func() error {
		return func() error {
			for i := range items {
				items[i].UID, items[i].GVSN = repl.UID{Originator: orig1, Version: 9}, version.GVSN{Originator: orig1, Version: 9}
			}
			_, err := (&ContentRequest{Folder: folder, Items: items}).append(nil)
			return err
		}
	}
	part := func(h Head) func() error {
		return func() error { _, err := (&Content{Parts: []Part{{Head: h}}}).append(nil); return err }
	}
	for what, try := range map[string]func() error{
		"name with a slash": page(func(u *repl.Update) { u.Name = "../x" }),
		"no originator":     page(func(u *repl.Update) { u.Heir = repl.UID{Version: 3}; u.Present = false; u.Type = repl.Directory }),
		"too many updates":  func() error { _, err := encodePage(make([]repl.Update, MaxUpdates+1), nil); return err },
		"too many parts": func() error {
			_, err := Append(nil, &Content{Parts: make([]Part, MaxItems+1)}, 1, false, 0)
			return err
		},
		"body too long":     func() error { _, err := Append(nil, &Content{}, 1, false, MaxBody+1); return err },
		"body on a ping":    func() error { _, err := Append(nil, &Ping{}, 1, false, 1); return err },
		"no folder":         func() error { _, err := Decode(TypeStatusRequest, nil); return err },
		"no vector":         func() error { _, err := Decode(TypeBarrierReply, nil); return err },
		"unknown type":      func() error { _, err := Decode(99, nil); return err },
		"table out of step": func() error { _, err := decodeOrigins(make([]byte, 17)); return err },
		"zero originator":   func() error { _, err := decodeOrigins(make([]byte, 16)); return err },
		"a million updates in 2 MB": func() error {
			_, err := decodePage(bytes.Repeat([]byte{0x1a, 0}, 1_000_000))
			return err
		},
		"a question and grains": func() error {
			_, err := (&RdcRequest{Question: rdc.Request{Indexes: []int{1}}, Grains: rdc.GrainRequest{Ranges: []rdc.Range{{Len: 1}}}}).append(nil)
			return err
		},
		"runs out of order": func() error {
			run := CompareRun{Last: repl.UID{Originator: orig1, Version: 9}, Count: 1}
			b, err := (&CompareReply{Runs: []CompareRun{run, run}}).append(nil)
			if err == nil {
				_, err = Decode(TypeCompareReply, b)
			}
			return err
		},
		"a run of nothing": func() error {
			b, err := (&CompareReply{Runs: []CompareRun{{Last: repl.UID{Originator: orig1, Version: 9}}}}).append(nil)
			if err == nil {
				_, err = Decode(TypeCompareReply, b)
			}
			return err
		},
		"too many entries": func() error {
			_, err := (&CompareReply{Entries: make([]CompareEntry, MaxEntries+1)}).append(nil)
			return err
		},
		"no question":             func() error { _, err := Decode(TypeRdcRequest, nil); return err },
		"ranges that overlap":     item(ContentItem{Ranges: []rdc.Range{{Off: 5, Len: 5}, {Off: 9, Len: 1}}}),
		"an empty range":          item(ContentItem{Ranges: []rdc.Range{{Off: 5, Len: 0}}}),
		"ranges and an offset":    item(ContentItem{Offset: 1, Ranges: []rdc.Range{{Off: 5, Len: 1}}}),
		"too many seeds":          item(ContentItem{Seeds: make([]repl.Hash, MaxSeeds+1)}),
		"too many seeds in all":   item(slices.Repeat([]ContentItem{{Seeds: make([]repl.Hash, MaxSeeds)}}, MaxNamed/MaxSeeds+1)...),
		"grains cut short":        item(ContentItem{Grains: make([]byte, 7)}),
		"grains and an offset":    item(ContentItem{Grains: make([]byte, 5), Offset: 1}),
		"too many grains in all":  item(slices.Repeat([]ContentItem{{Grains: make([]byte, rdc.MaxGrains)}}, MaxGrains/rdc.MaxGrains+1)...),
		"a graft too large":       part(Head{Form: FormGraft, Needs: 5, Carries: 6, Size: rdc.MaxGraft + 1}),
		"a graft without runs":    part(Head{Form: FormGraft, Carries: 6, Size: 9}),
		"more needs than bytes":   part(Head{Form: FormDelta, Needs: 6, Carries: 5}),
		"more bytes than the new": part(Head{Form: FormDelta, Needs: 6, Carries: 16, Size: 9}),
		"an offer of nothing":     part(Head{Form: FormOffer}),
		"an unknown form":         part(Head{Form: forms}),
		"a million parts":         func() error { _, err := Decode(TypeContent, bytes.Repeat([]byte{0x0a, 0}, 200_000)); return err },
		"a short update without salt": func() error {
			b, err := encodePage([]repl.Update{Short(new(file(9)))}, &shortened{touches: []Touch{{0, 1}}})
			if err == nil {
				_, err = decodeShort(b[:len(b)-18], new(shortened))
			}
			return err
		},
		"a short update in an answer by UID": func() error {
			b, err := encodePage([]repl.Update{Short(new(file(9)))}, &shortened{touches: []Touch{{0, 1}}})
			if err == nil {
				_, err = decodePage(b)
			}
			return err
		},
		"history out of order": func() error {
			u := file(9)
			u.History = repl.History{{Originator: orig2, Version: 9}, {Originator: orig1, Version: 9}}
			b, err := encodePage([]repl.Update{u}, nil)
			if err == nil {
				_, err = decodePage(b)
			}
			return err
		},
	} {
		if try() == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

func TestNegotiateNamesBothRanges(t *testing.T) {
	for _, c := range []struct{ ourMin, ourMax, theirMin, theirMax, want uint32 }{
		{1, 1, 1, 1, 1}, {1, 2, 2, 3, 2}, {2, 3, 1, 2, 2}, {1, 1, 2, 3, 0}, {3, 4, 1, 2, 0}, {1, 9, 5, 2, 0},
	} {
		got, err := Negotiate(c.ourMin, c.ourMax, c.theirMin, c.theirMax)
		if got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("%+v: %d, %v", c, got, err)
		}
		if err != nil && (!errors.Is(err, &Error{Code: CodeVersion}) || !strings.Contains(err.Error(), "versions")) {
			t.Errorf("%+v: error %v does not say enough", c, err)
		}
	}
}

// A text from a peer goes to a log and a terminal: it must be short and plain.
func TestErrorTextIsTamed(t *testing.T) {
	b, err := Append(nil, &Error{Code: CodeInternal, Text: "a\x1b[31m\n\xff" + strings.Repeat("x", 5000)}, 1, true, 0)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(TypeError, b[prefixSize:])
	if err != nil {
		t.Fatal(err)
	}
	text := m.(*Error).Text
	if len(text) > MaxText || strings.ContainsAny(text, "\x1b\n") || !utf8.ValidString(text) {
		t.Fatalf("text of %d bytes: %.40q", len(text), text)
	}
}

func TestBuffersComeInClasses(t *testing.T) {
	for _, n := range []int{1, 1023, 1024, 1025, 4096, 300_000, MaxBody} {
		b := Buffer(n)
		if len(b) != n || cap(b) >= 2*n && n > 1024 {
			t.Errorf("buffer for %d has %d of %d", n, len(b), cap(b))
		}
		FreeBuffer(b)
	}
	FreeBuffer(nil)
	FreeBuffer(make([]byte, 3000)) // not from a pool: dropped
}

func FuzzReader(f *testing.F) {
	for i, m := range samples() {
		b, err := Append(nil, m, uint32(i), true, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(frame(12+3, byte(TypeContent), 1, 0, 0, 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		for {
			fr, err := r.Next()
			if err != nil {
				return
			}
			if k := kinds[fr.Type]; len(fr.Header) > k.maxHeader || len(fr.Body) > k.maxBody {
				t.Fatalf("%v frame with %d and %d bytes got through", fr.Type, len(fr.Header), len(fr.Body))
			}
			fr.Release()
		}
	})
}

// Whatever a decoder accepts can be sent again and means the same.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		b, err := m.append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(m.Type()), b)
	}
	f.Add(byte(TypeDiffPage), protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), bytes.Repeat([]byte{0x1a, 0}, 5000)))
	f.Fuzz(func(t *testing.T, typ byte, b []byte) {
		m, err := Decode(Type(typ), b)
		if err != nil {
			return
		}
		again, err := m.append(nil)
		if err != nil {
			t.Fatalf("%v was decoded from %x and cannot be encoded: %v", m, b, err)
		}
		back, err := Decode(Type(typ), again)
		if err != nil {
			t.Fatalf("%v from %x cannot be decoded again: %v", m, again, err)
		}
		third, err := back.append(nil)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%+v is not the same as %+v (%v)", m, back, err)
		}
	})
}
