package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"opendfs/internal/pki"
	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

func TestQuestionsAreAnswered(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		w := newWorld(t, listen, nil)
		for range 5 {
			w.shelf.add()
		}
		s := w.dial()
		ctx := t.Context()
		if r := s.Remote(); r.Member != hubID || r.Product != "1.0" || s.Skew().Abs() > time.Second {
			t.Errorf("the hub says %+v, skew %v", r, s.Skew())
		}
		page, err := s.Diff(ctx, &wire.DiffRequest{Folder: docs, Limit: 2, Phase: wire.PhaseNormal})
		if err != nil || len(page.Updates) != 2 || !page.More || page.Phase != wire.PhaseNormal || page.Vector.Len() != 5 {
			t.Fatalf("first page %+v, %v", page, err)
		}
		page, err = s.Diff(ctx, &wire.DiffRequest{Folder: docs, After: page.Cursor, Snapshot: page.Snapshot})
		if err != nil || len(page.Updates) != 3 || page.More {
			t.Fatalf("second page %+v, %v", page, err)
		}
		if _, err = s.Diff(ctx, &wire.DiffRequest{Folder: docs, Snapshot: []byte("old")}); !isCode(err, wire.CodeSnapshotGone) {
			t.Errorf("a token that is gone: %v", err)
		}
		rec, err := s.Records(ctx, docs, []repl.UID{repl.UID(gvsn(9)), repl.UID(gvsn(99)), repl.UID(gvsn(10)), repl.UID(gvsn(11))})
		if err != nil || rec.Answered != 3 || len(rec.Updates) != 2 || len(rec.Unknown) != 1 || rec.Vector.Len() != 5 {
			t.Errorf("records %+v, %v", rec, err)
		}
		if v, err := s.Barrier(ctx, docs); err != nil || v.Len() != 5 {
			t.Errorf("barrier %v, %v", v, err)
		}
		heard := []repl.Statement{{Member: repl.MemberID{77}, Database: version.Originator{1}, Covers: version.Vector{}}}
		if told, err := s.Cover(ctx, docs, heard); err != nil || len(told) != 0 { // that of who asks would come back
			t.Errorf("cover %+v, %v", told, err)
		}
		last := repl.UID(gvsn(9))
		if runs, err := s.Compare(ctx, &wire.CompareRequest{Folder: docs, Through: last}); err != nil || len(runs.Runs) != 1 || runs.Runs[0].Last != last || !runs.More {
			t.Errorf("compared %+v, %v", runs, err)
		}
		if st, err := s.Status(ctx, docs); err != nil || st.Pending != 7 || st.Phase != wire.PhaseNormal {
			t.Errorf("status %+v, %v", st, err)
		}
		if d, err := s.Directory(ctx, 1, 0, false); err != nil || string(d.Signed) != "signed" || d.Generation != 1 {
			t.Errorf("directory %+v, %v", d, err)
		}
		if d, err := s.Directory(ctx, 1, 1, false); err != nil || len(d.Signed) != 0 {
			t.Errorf("nothing newer: %+v, %v", d, err)
		}
		if _, err := s.Renew(ctx, []byte("csr")); !isCode(err, wire.CodeUnavailable) {
			t.Errorf("renewal by one who has no CA: %v", err)
		}
	}
}

// A waiting diff is how news travels: it returns when there is some, or empty
// after the poll time.
func TestWaitingDiffReturnsWithNews(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", func(_ *world, c *ServerConfig) { c.Timing.Poll = 30 * time.Millisecond })
	w.shelf.add()
	s := w.dial()
	known := version.Vector{orig: {{Low: 8, High: 9}}}
	page, err := s.Diff(t.Context(), &wire.DiffRequest{Folder: docs, Vector: known, Wait: true})
	if err != nil || len(page.Updates) != 0 || !page.Vector.Equal(known) {
		t.Fatalf("without news: %+v, %v", page, err)
	}
	if d, err := s.Directory(t.Context(), 1, 1, true); err != nil || len(d.Signed) != 0 {
		t.Fatalf("without a newer domain file: %+v, %v", d, err)
	}

	long := newWorld(t, "127.0.0.1:0", func(_ *world, c *ServerConfig) { c.Timing.Poll = time.Hour })
	long.shelf.add()
	s = long.dial()
	pages, files := make(chan *wire.DiffPage, 1), make(chan *wire.DirectoryCopy, 1)
	go func() {
		p, err := s.Diff(t.Context(), &wire.DiffRequest{Folder: docs, Vector: known, Wait: true})
		if err != nil {
			t.Error(err)
		}
		pages <- p
	}()
	go func() {
		d, err := s.Directory(t.Context(), 1, 1, true)
		if err != nil {
			t.Error(err)
		}
		files <- d
	}()
	// Both are waiting at the server once its bound says so.
	for long.server.bounds(brID).waits.Load() < 2 {
		if _, err := s.Status(t.Context(), docs); err != nil {
			t.Fatal(err)
		}
	}
	long.shelf.add()
	long.shelf.publish()
	if p := <-pages; p == nil || len(p.Updates) != 1 || p.Updates[0].GVSN != gvsn(10) {
		t.Fatalf("news: %+v", p)
	}
	if d := <-files; d == nil || d.Generation != 2 {
		t.Fatalf("newer domain file: %+v", d)
	}
}

func TestFoldersNotGrantedLookLikeNone(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	s := w.dial()
	ctx := t.Context()
	ask := func(f repl.FolderID) []error {
		_, e1 := s.Diff(ctx, &wire.DiffRequest{Folder: f})
		_, e2 := s.Diff(ctx, &wire.DiffRequest{Folder: f, Wait: true})
		_, e3 := s.Records(ctx, f, []repl.UID{repl.UID(gvsn(9))})
		_, e4 := s.Barrier(ctx, f)
		_, e5 := s.Status(ctx, f)
		e6 := s.Content(ctx, f, items(1), drain)
		_, e7 := s.Rdc(ctx, &wire.RdcRequest{Folder: f, UID: repl.UID(gvsn(9)), GVSN: gvsn(9), Question: rdc.Request{Level: 1, Indexes: []int{0}}})
		return []error{e1, e2, e3, e4, e5, e6, e7}
	}
	for i, err := range ask(secret) {
		other := ask(nobody)[i]
		if !isCode(err, wire.CodeNotServed) || strings.ReplaceAll(err.Error(), secret.String(), "") != strings.ReplaceAll(other.Error(), nobody.String(), "") {
			t.Errorf("request %d: %v for a folder not granted, %v for none", i, err, other)
		}
	}
	// Each request is judged anew: what is withdrawn ends at once.
	if _, err := s.Status(ctx, docs); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.granted[docs] = false
	w.mu.Unlock()
	if _, err := s.Status(ctx, docs); !isCode(err, wire.CodeNotServed) {
		t.Errorf("after withdrawal: %v", err)
	}
}

// A delta carries what its head says, not the size of the content; ranges carry
// their sum; what lies behind the end of a content has changed.
func TestContentComesInTheFormAsked(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	w.shelf.content = func(_ context.Context, it wire.ContentItem) (ContentSource, wire.Status) {
		if len(it.Seeds) > 0 {
			s := source(random(contentFrame+700), 0)
			s.delta = 300
			return s, wire.StatusOK
		}
		s := source(random(200), 0)
		s.size = 1 << 20
		return s, wire.StatusOK
	}
	ask := []wire.ContentItem{
		{UID: repl.UID(gvsn(9)), GVSN: gvsn(9), Seeds: []repl.Hash{{1}}},
		{UID: repl.UID(gvsn(9)), GVSN: gvsn(9), Ranges: []rdc.Range{{Off: 5, Len: 150}, {Off: 1<<20 - 50, Len: 50}}},
		{UID: repl.UID(gvsn(9)), GVSN: gvsn(9), Ranges: []rdc.Range{{Off: 5, Len: 1 << 20}}},
	}
	var got []string
	err := w.dial().Content(t.Context(), docs, ask, func(d Delivery, r io.Reader) error {
		b, err := io.ReadAll(r)
		got = append(got, fmt.Sprintf("%v form %d needs %d: %d bytes, %v", d.Status, d.Form, d.Needs, len(b), err))
		return nil
	})
	want := []string{
		fmt.Sprintf("ok form 1 needs 300: %d bytes, <nil>", contentFrame+700), "ok form 0 needs 0: 200 bytes, <nil>", "changed form 0 needs 0: 0 bytes, <nil>",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v, got %q", err, got)
	}
	reply, err := w.dial().Rdc(t.Context(), &wire.RdcRequest{Folder: docs, UID: repl.UID(gvsn(9)), GVSN: gvsn(9), Question: rdc.Request{Level: 1, Indexes: []int{3}}})
	if err != nil || len(reply) == 0 {
		t.Fatalf("reply of %d bytes, %v", len(reply), err)
	}
	_, err = w.dial().Rdc(t.Context(), &wire.RdcRequest{Folder: docs, UID: repl.UID(gvsn(8)), GVSN: gvsn(9), Question: rdc.Request{Level: 1, Indexes: []int{3}}})
	if !isCode(err, wire.CodeUnavailable) {
		t.Fatalf("about what has moved on: %v", err)
	}
}

func TestContentComesInOrderWithItsFate(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	big := random(3*contentFrame + 17)
	var opened, closed int
	var mu sync.Mutex
	w.shelf.content = func(_ context.Context, it wire.ContentItem) (ContentSource, wire.Status) {
		n := it.UID.Version - 9
		s := source(fmt.Appendf(nil, "content of %d", n), it.Offset)
		switch n {
		case 1:
			return nil, wire.StatusAbsent
		case 2:
			s = source(big, it.Offset)
		case 3:
			return nil, wire.StatusBusy
		case 4:
			s.bad = errors.New("mtime moved") // found changed when all is read, all in one frame
		case 5:
			s = source(big, it.Offset)
			s.bad = errors.New("mtime moved")
		case 6:
			s = source(big[:len(big)-100], it.Offset) // shrinks while it is read
			s.size = int64(len(big))
		case 7:
			s = source(nil, 0)
		case 8:
			s = source(big, 0)
			s.fail = errors.New("I/O error")
		}
		mu.Lock()
		opened++
		mu.Unlock()
		s.closed = func() { mu.Lock(); closed++; mu.Unlock() }
		return s, wire.StatusOK
	}
	s := w.dial()
	req := items(11)
	req[9].Offset = 4
	req[10].Offset = 1000 // beyond its end
	var got []string
	err := s.Content(t.Context(), docs, req, func(d Delivery, r io.Reader) error {
		b, err := io.ReadAll(r)
		what := fmt.Sprintf("%d %v size %d: %d bytes", d.Index, d.Status, d.Size, len(b))
		if errors.Is(err, ErrChanged) {
			what += ", changed"
		} else if err != nil {
			return err
		}
		if d.Index == 2 && !bytes.Equal(b, big) || d.Index == 9 && string(b) != "ent of 9" {
			t.Errorf("item %d is not what it should be", d.Index)
		}
		got = append(got, what)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n := len(big)
	want := []string{
		"0 ok size 12: 12 bytes", "1 absent size 0: 0 bytes", fmt.Sprintf("2 ok size %d: %d bytes", n, n), "3 busy size 0: 0 bytes",
		"4 changed size 0: 0 bytes",
	}
	for i, x := range want {
		if got[i] != x {
			t.Errorf("item %d: %s, want %s", i, got[i], x)
		}
	}
	for _, i := range []int{5, 6} {
		if !strings.HasPrefix(got[i], fmt.Sprintf("%d ok size %d", i, n)) || !strings.HasSuffix(got[i], "changed") {
			t.Errorf("item %d: %s, want it to end as changed", i, got[i])
		}
	}
	for i, x := range map[int]string{7: "7 ok size 0: 0 bytes", 8: "8 error size 0: 0 bytes", 9: "9 ok size 12: 8 bytes", 10: "10 changed size 0: 0 bytes"} {
		if got[i] != x {
			t.Errorf("item %d: %s, want %s", i, got[i], x)
		}
	}
	if opened != closed {
		t.Errorf("%d sources were opened, %d closed", opened, closed)
	}
}

// A sink that reads nothing, or gives up, neither loses its place nor stops others.
func TestSinkMayLeaveEarly(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	big := random(maxWindow + 2*minWindow) // more than a stream's credit
	closed := make(chan struct{}, 10)
	w.shelf.content = func(_ context.Context, it wire.ContentItem) (ContentSource, wire.Status) {
		s := source(big, it.Offset)
		s.closed = func() { closed <- struct{}{} }
		return s, wire.StatusOK
	}
	s := w.dial()
	seen := 0
	if err := s.Content(t.Context(), docs, items(3), func(Delivery, io.Reader) error { seen++; return nil }); err != nil || seen != 3 {
		t.Fatalf("skipping: %d items, %v", seen, err)
	}
	for range 3 {
		<-closed
	}
	enough := errors.New("enough")
	err := s.Content(t.Context(), docs, items(3), func(_ Delivery, r io.Reader) error {
		_, _ = r.Read(make([]byte, 10))
		return enough
	})
	if !errors.Is(err, enough) {
		t.Fatalf("giving up: %v", err)
	}
	<-closed // the server was told and has closed its source
	ctx, cancel := context.WithCancel(t.Context())
	err = s.Content(ctx, docs, items(1), func(_ Delivery, r io.Reader) error { cancel(); _, err := io.Copy(io.Discard, r); return err })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	<-closed
	if err := s.Content(t.Context(), docs, items(1), drain); err != nil {
		t.Fatalf("after all that: %v", err)
	}
	if f := s.windows.free; f != allWindows {
		t.Errorf("%d bytes of credit of %d came back", f, allWindows)
	}
}

// A sink that stands still holds its own stream: at most the credit is sent,
// and everything else goes on, on the same connections.
func TestStalledSinkStopsOnlyItself(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	var mu sync.Mutex
	read := map[uint64]int{}
	noise := random(64 << 20)
	w.shelf.content = func(_ context.Context, it wire.ContentItem) (ContentSource, wire.Status) {
		n := it.UID.Version
		return &countingSource{bytesSource: source(noise, 0), count: func(k int) {
			mu.Lock()
			read[n] += k
			mu.Unlock()
		}}, wire.StatusOK
	}
	s := w.dial()
	hold, holding := make(chan struct{}), make(chan struct{}, dataLinks+1)
	var wg sync.WaitGroup
	for range dataLinks + 1 { // more than there are connections
		wg.Go(func() {
			err := s.Content(t.Context(), docs, items(1), func(Delivery, io.Reader) error { holding <- struct{}{}; <-hold; return errors.New("enough") })
			if err == nil {
				t.Error("a sink's error is lost")
			}
		})
	}
	for range dataLinks + 1 {
		<-holding
	}
	other := items(2)[1:]
	if err := s.Content(t.Context(), docs, other, drain); err != nil {
		t.Errorf("another stream: %v", err)
	}
	if _, err := s.Status(t.Context(), docs); err != nil {
		t.Errorf("the control connection: %v", err)
	}
	mu.Lock()
	if got := read[9]; got > allWindows+(dataLinks+1)*(minWindow+2*contentFrame) {
		t.Errorf("%d bytes were sent to sinks that read nothing", got)
	}
	if read[10] != 64<<20 {
		t.Errorf("%d bytes of the other stream were read", read[10])
	}
	mu.Unlock()
	close(hold)
	wg.Wait()
}

type countingSource struct {
	*bytesSource
	count func(int)
}

func (s *countingSource) Read(p []byte) (int, error) {
	n, err := s.bytesSource.Read(p)
	s.count(n)
	return n, err
}

func TestBytesAreCounted(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	w.shelf.content = func(_ context.Context, it wire.ContentItem) (ContentSource, wire.Status) {
		return source(random(1<<20), 0), wire.StatusOK
	}
	s := w.dial()
	if err := s.Content(t.Context(), docs, items(4), drain); err != nil {
		t.Fatal(err)
	}
	s.Close()
	w.idle()
	in, out := w.branch.Meter.Partner(hubID).In(), w.branch.Meter.Partner(hubID).Out()
	if in < 4<<20 || in > 4<<20+100_000 || out < 1000 || out > 50_000 {
		t.Errorf("the branch counts %d in, %d out for 4 MiB", in, out)
	}
	if all := w.hub.Meter.All(); len(all) != 1 || all[brID].Out() < in {
		t.Errorf("the hub counts %d out, the branch %d in", all[brID].Out(), in)
	}
}

func TestCancelledQuestionReleasesItsHandler(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	w.shelf.barrier = w.shelf.stuck
	s := w.dial()
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 1)
	go func() { _, err := s.Barrier(ctx, docs); errs <- err }()
	for w.server.bounds(brID).requests.Load() < 1 {
		if _, err := s.Directory(t.Context(), 1, 1, false); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	<-w.shelf.released
	if s.Err() != nil {
		t.Fatalf("the session ended too: %v", s.Err())
	}
}

func TestRequestsInFlightAreBounded(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	w.shelf.barrier = w.shelf.stuck
	s := w.dial()
	errs := make(chan error, maxRequests+1)
	ctx, cancel := context.WithCancel(t.Context())
	for range maxRequests + 1 { // past the session's own bound, as a hostile partner would
		go func() {
			_, err := ask[*wire.BarrierReply](ctx, s.control, &wire.BarrierRequest{Folder: docs})
			errs <- err
		}()
	}
	if err := <-errs; !isCode(err, wire.CodeBusy) {
		t.Fatalf("request %d: %v", maxRequests+1, err)
	}
	cancel()
	for range maxRequests {
		if err := <-errs; isCode(err, wire.CodeBusy) {
			t.Errorf("a request within the bound: %v", err)
		}
		<-w.shelf.released
	}
	if _, err := s.Status(t.Context(), docs); err != nil {
		t.Fatalf("afterwards: %v", err)
	}
}

func TestSessionRenewsACertificate(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", func(w *world, c *ServerConfig) {
		c.Door = func() *pki.Door {
			return &pki.Door{Authority: w.ca, Invitations: pki.OpenInvitations(w.state), Now: time.Now, Log: w.hub.Log}
		}
	})
	s := w.dial()
	before := w.branch.Identity.NotAfter()
	r, err := pki.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := s.Renew(t.Context(), r.DER)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.branch.Identity.Renew(r, cert); err != nil || w.branch.Identity.NotAfter().Before(before) {
		t.Fatalf("renewed until %v after %v, %v", w.branch.Identity.NotAfter(), before, err)
	}
	if _, err := w.dial().Status(t.Context(), docs); err != nil {
		t.Fatalf("with the new certificate: %v", err)
	}
	if _, err := s.Renew(t.Context(), []byte("junk")); err == nil {
		t.Fatal("junk was certified")
	}
}

func TestJoinOnTheSamePort(t *testing.T) {
	var got []pki.Newcomer
	w := newWorld(t, "127.0.0.1:0", func(w *world, c *ServerConfig) {
		c.Door = func() *pki.Door {
			return &pki.Door{Authority: w.ca, Invitations: pki.OpenInvitations(w.state), Now: time.Now, Log: w.hub.Log,
				Accept: func(_ context.Context, n pki.Newcomer) ([]byte, error) {
					got = append(got, n)
					return []byte("file"), nil
				}}
		}
	})
	tok, err := pki.OpenInvitations(w.state).Create(w.ca, repl.MemberID{3}, "third", []string{w.address}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	j, err := pki.Join(t.Context(), tok, pki.Joining{Addresses: []string{"third:7440"}, Now: time.Now})
	if err != nil || string(j.Domain) != "file" || len(got) != 1 {
		t.Fatalf("join: %v, %v", j, err)
	}
	if _, err := pki.Join(t.Context(), tok, pki.Joining{Now: time.Now}); !errors.Is(err, pki.ErrTokenUsed) {
		t.Fatalf("again: %v", err)
	}
	id, err := j.Save(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w.branch.Identity = id
	if _, err := w.dial().Status(t.Context(), docs); !isCode(err, wire.CodeNotServed) {
		t.Fatalf("a new member, not on any folder: %v", err)
	}
}

func TestDialTriesEachAddressAndTellsAll(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := dead.Addr().String()
	_ = dead.Close()
	_, port, err := net.SplitHostPort(w.address)
	if err != nil {
		t.Fatal(err)
	}
	byName := net.JoinHostPort("localhost", port)
	s, err := Dial(t.Context(), w.branch, hubID, []string{gone, byName})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Address() != byName {
		t.Errorf("answered at %s", s.Address())
	}
	_, err = Dial(t.Context(), w.branch, hubID, []string{gone, "nowhere.invalid:1"})
	if err == nil || !strings.Contains(err.Error(), gone) || !strings.Contains(err.Error(), "nowhere.invalid") {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := Dial(t.Context(), w.branch, hubID, nil); err == nil || !strings.Contains(err.Error(), "joined") {
		t.Errorf("no address: %v", err)
	}
}

func TestPortInUseIsOneClearLine(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	cfg := ServerConfig{Config: w.hub, Listen: []string{w.address}, Handler: w.shelf}
	if _, err := Listen(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "another program has this port") {
		t.Fatalf("got %v", err)
	}
	cfg.Listen = nil
	if _, err := Listen(t.Context(), cfg); err == nil {
		t.Fatal("listens nowhere and is content")
	}
}
