package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"opendfs/internal/pki"
	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	domain = repl.GUID{0xd0}
	hubID  = repl.MemberID{1}
	brID   = repl.MemberID{2}
	docs   = repl.FolderID{0xf0}
	secret = repl.FolderID{0xf1} // exists at the hub, and is not for the branch
	nobody = repl.FolderID{0xf2} // exists nowhere
	orig   = version.Originator{0x0a}
)

func gvsn(n uint64) version.GVSN { return version.GVSN{Originator: orig, Version: n} }

func file(n uint64) repl.Update {
	return repl.Update{UID: repl.UID(gvsn(n)), GVSN: gvsn(n), Parent: repl.RootUID(docs), Name: "f", Type: repl.File, Present: true, Content: repl.Hash{1}}
}

// shelf is a Handler that serves one folder from memory.
type shelf struct {
	mu       sync.Mutex
	files    uint64 // updates 9 … 9+files-1
	vector   version.Vector
	changed  chan struct{}
	gen      uint64
	content  func(ctx context.Context, item wire.ContentItem) (ContentSource, wire.Status)
	barrier  func(ctx context.Context) (version.Vector, error)
	released chan struct{} // of a handler that was waiting and whose context ended
	dirNews  chan struct{}
}

func newShelf() *shelf {
	return &shelf{vector: version.Vector{}, changed: make(chan struct{}), dirNews: make(chan struct{}), released: make(chan struct{}, 100), gen: 1}
}

func (s *shelf) add() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vector.Add(gvsn(9 + s.files))
	s.files++
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *shelf) Diff(_ context.Context, _ repl.MemberID, req *wire.DiffRequest) (*wire.DiffPage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if string(req.Snapshot) == "old" {
		return nil, wire.Errorf(wire.CodeSnapshotGone, "begin again")
	}
	page := &wire.DiffPage{Vector: s.vector.Clone(), Snapshot: []byte("snap"), Phase: wire.PhaseNormal}
	limit := req.Limit
	if limit == 0 {
		limit = wire.MaxUpdates
	}
	for n := range s.files {
		g := gvsn(9 + n)
		if req.Vector.Contains(g) || g.Compare(req.After) <= 0 {
			continue
		}
		if len(page.Updates) == limit {
			page.More = true
			break
		}
		page.Updates = append(page.Updates, file(9+n))
		page.Cursor = g
	}
	return page, nil
}

func (s *shelf) Changed(repl.FolderID) (<-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed, nil
}

func (s *shelf) Records(_ context.Context, _ repl.MemberID, _ repl.FolderID, uids []repl.UID) (*wire.RecordsReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &wire.RecordsReply{Vector: s.vector.Clone()}
	for _, u := range uids {
		if r.Answered == 3 {
			break
		}
		r.Answered++
		if u.Version >= 9 && u.Version < 9+s.files {
			r.Updates = append(r.Updates, file(u.Version))
		} else {
			r.Unknown = append(r.Unknown, u)
		}
	}
	return r, nil
}

func (s *shelf) Content(ctx context.Context, _ repl.MemberID, _ repl.FolderID, item wire.ContentItem) (ContentSource, wire.Status) {
	return s.content(ctx, item)
}

func (s *shelf) Rdc(_ context.Context, _ repl.MemberID, req *wire.RdcRequest) ([]byte, error) {
	if req.UID != repl.UID(gvsn(9)) {
		return nil, wire.Errorf(wire.CodeUnavailable, "it has moved on")
	}
	return req.Question.Encode(nil), nil
}

func (s *shelf) Cover(_ context.Context, partner repl.MemberID, _ repl.FolderID, heard []repl.Statement) ([]repl.Statement, error) {
	for i := range heard {
		if heard[i].Member == partner {
			return heard[i : i+1], nil
		}
	}
	return nil, nil
}

func (s *shelf) Compare(_ context.Context, _ repl.MemberID, req *wire.CompareRequest) (*wire.CompareReply, error) {
	return &wire.CompareReply{Runs: []wire.CompareRun{{Last: req.Through, Count: 7}}, More: true}, nil
}

func (s *shelf) Barrier(ctx context.Context, _ repl.MemberID, _ repl.FolderID) (version.Vector, error) {
	if s.barrier != nil {
		return s.barrier(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.vector.Clone(), nil
}

// stuck waits until the request ends and tells that it was released.
func (s *shelf) stuck(ctx context.Context) (version.Vector, error) {
	<-ctx.Done()
	s.released <- struct{}{}
	return nil, ctx.Err()
}

func (s *shelf) Status(context.Context, repl.MemberID, repl.FolderID) (*wire.StatusReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &wire.StatusReply{Phase: wire.PhaseNormal, Vector: s.vector.Clone(), Pending: 7}, nil
}

func (s *shelf) Directory(_ context.Context, _ repl.MemberID, _, generation uint64) (*wire.DirectoryCopy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gen <= generation {
		return &wire.DirectoryCopy{Term: 1, Generation: s.gen}, nil
	}
	return &wire.DirectoryCopy{Term: 1, Generation: s.gen, Signed: []byte("signed")}, nil
}

func (s *shelf) DirectoryChanged() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirNews
}

func (s *shelf) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen++
	close(s.dirNews)
	s.dirNews = make(chan struct{})
}

// bytesSource serves a slice; cut ends it early, bad makes Close say that it changed.
type bytesSource struct {
	*bytes.Reader
	size   int64
	bad    error
	fail   error
	delta  int // bytes of needs, if it is one
	closed func()
}

func source(b []byte, offset int64) *bytesSource {
	return &bytesSource{Reader: bytes.NewReader(b[min(offset, int64(len(b))):]), size: int64(len(b))}
}

func (s *bytesSource) Read(p []byte) (int, error) {
	if s.fail != nil {
		return 0, s.fail
	}
	return s.Reader.Read(p)
}
func (s *bytesSource) Head() wire.Head {
	if s.delta > 0 {
		return wire.Head{Form: wire.FormDelta, Needs: s.delta, Carries: s.size, Size: 1 << 30}
	}
	return wire.Head{Size: s.size, Hash: repl.Hash{byte(s.size)}}
}
func (s *bytesSource) Close() error {
	if s.closed != nil {
		s.closed()
	}
	return s.bad
}

// world is a hub that serves and a branch that asks.
type world struct {
	t       testing.TB
	ca      *pki.Authority
	state   string
	hub     Config
	branch  Config
	shelf   *shelf
	server  *Server
	address string
	log     *lockedBuffer

	mu      sync.Mutex
	granted map[repl.FolderID]bool
	revoked map[repl.MemberID]bool
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func identity(t testing.TB, ca *pki.Authority, id repl.MemberID, name string) *pki.Identity {
	t.Helper()
	i, err := ca.CreateIdentity(filepath.Join(t.TempDir(), name), id, name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// newWorld starts a hub on loopback; change may alter it before.
func newWorld(t testing.TB, listen string, change func(*world, *ServerConfig)) *world {
	t.Helper()
	w := &world{t: t, shelf: newShelf(), log: &lockedBuffer{}, granted: map[repl.FolderID]bool{docs: true}, revoked: map[repl.MemberID]bool{}}
	w.state = filepath.Join(t.TempDir(), "ca")
	var err error
	if w.ca, err = pki.CreateAuthority(w.state, domain, "corp", time.Now()); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	w.hub = Config{Identity: identity(t, w.ca, hubID, "hub"), Revoked: w.isRevoked, Product: "1.0", Log: log, Meter: NewMeter()}
	w.branch = Config{Identity: identity(t, w.ca, brID, "branch"), Product: "1.0", Log: log, Meter: NewMeter()}
	cfg := ServerConfig{Config: w.hub, Listen: []string{listen}, Handler: w.shelf, Authorize: w.may}
	if change != nil {
		change(w, &cfg)
	}
	if w.server, err = Listen(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	w.address = w.server.Addresses()[0]
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return w
}

func (w *world) may(f repl.FolderID, m repl.MemberID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m == brID && w.granted[f]
}

func (w *world) isRevoked(m repl.MemberID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.revoked[m]
}

func (w *world) dial() *Session {
	w.t.Helper()
	s, err := Dial(w.t.Context(), w.branch, hubID, []string{w.address})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

func items(n int) []wire.ContentItem {
	out := make([]wire.ContentItem, n)
	for i := range out {
		out[i] = wire.ContentItem{UID: repl.UID(gvsn(uint64(9 + i))), GVSN: gvsn(uint64(9 + i))}
	}
	return out
}

// delayProxy passes TCP on with a delay each way, and can be cut.
type delayProxy struct {
	l     net.Listener
	delay time.Duration
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
	stuck chan struct{} // closed: nothing passes any more, and nothing is closed
	once  sync.Once
}

func newDelayProxy(t testing.TB, target string, delay time.Duration) *delayProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &delayProxy{l: l, delay: delay, stuck: make(chan struct{})}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", target)
			if err != nil {
				_ = c.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, c, d)
			p.mu.Unlock()
			p.wg.Go(func() { p.pipe(d, c) })
			p.wg.Go(func() { p.pipe(c, d) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); p.cut(); p.wg.Wait() })
	return p
}

// pipe reads at once and writes each piece when it is due.
func (p *delayProxy) pipe(dst, src net.Conn) {
	type piece struct {
		b   []byte
		due time.Time
	}
	pieces := make(chan piece, 1024) // 64 MiB: the link is long, not narrow
	p.wg.Go(func() {
		for x := range pieces {
			t := time.NewTimer(time.Until(x.due))
			select {
			case <-t.C:
			case <-p.stuck:
			}
			t.Stop()
			if p.frozen() {
				continue
			}
			if _, err := dst.Write(x.b); err != nil && !p.frozen() {
				_ = src.Close()
			}
		}
		if !p.frozen() {
			_ = dst.Close()
		}
	})
	defer close(pieces)
	for {
		b := make([]byte, 64<<10)
		n, err := src.Read(b)
		if n > 0 {
			pieces <- piece{b[:n], time.Now().Add(p.delay)}
		}
		if err != nil {
			return
		}
	}
}

// cut closes all that pass.
func (p *delayProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *delayProxy) frozen() bool {
	select {
	case <-p.stuck:
		return true
	default:
		return false
	}
}

// freeze lets nothing pass and tells nobody: a half-open link.
func (p *delayProxy) freeze() { p.once.Do(func() { close(p.stuck) }) }

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b) // never fails
	return b
}

// idle waits until the server has let go of the branch's connections.
func (w *world) idle() {
	w.t.Helper()
	for w.server.bounds(brID).conns.Load() > 0 {
		select {
		case <-w.t.Context().Done():
			w.t.Fatal("the server still holds a connection")
		case <-time.After(time.Millisecond):
		}
	}
}

func isCode(err error, c wire.Code) bool { return errors.Is(err, &wire.Error{Code: c}) }

func drain(d Delivery, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }
