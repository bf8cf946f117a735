package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// watch runs a Partner and hands out its states.
func (w *world) watch(timing Timing, addresses func() []string) (*Partner, <-chan State, func()) {
	states := make(chan State, 1000)
	cfg := w.branch
	cfg.Timing = timing
	p := NewPartner(PartnerConfig{
		Config: cfg, Member: hubID, Addresses: addresses, Rand: func() float64 { return 0 },
		Changed: func(s State) { states <- s },
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	w.t.Cleanup(stop)
	return p, states, stop
}

func until(t *testing.T, states <-chan State, phase Phase) State {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for {
		select {
		case s := <-states:
			if s.Phase == phase {
				return s
			}
		case <-limit.C:
			t.Fatalf("never %v", phase)
		}
	}
}

func TestPartnerKeepsASessionUp(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	proxy := newDelayProxy(t, w.address, 0)
	fast := Timing{BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond}
	p, states, stop := w.watch(fast, func() []string { return []string{proxy.l.Addr().String()} })
	for range 3 {
		s := until(t, states, Connected)
		if s.Remote.Member != hubID || s.Address == "" {
			t.Fatalf("connected: %+v", s)
		}
		session, err := p.Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.Status(t.Context(), docs); err != nil {
			t.Fatal(err)
		}
		proxy.cut()
		if s := until(t, states, Waiting); s.Err == nil || s.Retry.IsZero() {
			t.Fatalf("after a cut: %+v", s)
		}
		if _, err := session.Status(t.Context(), docs); err == nil {
			t.Fatal("a dead session answers")
		}
	}
	stop()
	if s := until(t, states, Stopped); s.Phase != Stopped {
		t.Fatal("not stopped")
	}
	if _, err := p.Session(t.Context()); !errors.Is(err, ErrClosed) {
		t.Fatalf("after Run: %v", err)
	}
}

// Addresses are asked for anew at each attempt, and a poke does not wait.
func TestPokeTriesAtOnceWithNewAddresses(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	address := dead.Addr().String()
	_ = dead.Close()
	p, states, _ := w.watch(Timing{BackoffMin: time.Hour, BackoffMax: time.Hour}, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return []string{address}
	})
	if s := until(t, states, Waiting); s.Err == nil || !strings.Contains(s.Err.Error(), address) {
		t.Fatalf("nobody there: %+v", s)
	}
	mu.Lock()
	address = w.address
	mu.Unlock()
	p.Poke()
	until(t, states, Connected)
	if st := p.State(); st.Phase != Connected || st.Since.IsZero() {
		t.Fatalf("state %+v", st)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewPartner(PartnerConfig{Config: w.branch}).Session(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("waiting without Run: %v", err)
	}
}

func TestBackoffDoublesWithJitter(t *testing.T) {
	for attempt, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		lo := backoff(attempt, time.Second, time.Minute, 0)
		hi := backoff(attempt, time.Second, time.Minute, 0.999999)
		if lo != want*time.Second/2 || hi <= lo || hi > want*time.Second {
			t.Errorf("attempt %d: %v to %v, want half of %v s to all", attempt, lo, hi, int64(want))
		}
	}
	if d := backoff(1000, time.Second, time.Minute, 0); d != 30*time.Second {
		t.Errorf("attempt 1000: %v", d)
	}
}

// A link that passes nothing and closes nothing is noticed by both sides: the
// client by silence, the server too.
func TestHalfOpenLinkIsNoticed(t *testing.T) {
	timing := Timing{Ping: 50 * time.Millisecond, Dead: 1500 * time.Millisecond}
	w := newWorld(t, "127.0.0.1:0", func(_ *world, c *ServerConfig) { c.Timing = timing })
	w.shelf.content = func(_ context.Context, it wire.ContentItem) (ContentSource, wire.Status) {
		return &endless{left: 1 << 40, size: 1 << 40, data: random(1 << 16)}, wire.StatusOK
	}
	proxy := newDelayProxy(t, w.address, 0)
	w.branch.Timing = timing
	s, err := Dial(t.Context(), w.branch, hubID, []string{proxy.l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	streaming, frozen, contentErr := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		contentErr <- s.Content(t.Context(), docs, items(1), func(_ Delivery, r io.Reader) error {
			_, err := io.CopyN(io.Discard, r, 1<<20)
			close(streaming)
			<-frozen
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			return err
		})
	}()
	<-streaming
	if _, err := s.Status(t.Context(), docs); err != nil { // behind the first ping
		t.Fatal(err)
	}
	if s.RTT() == 0 {
		t.Error("pings are not answered")
	}
	began := time.Now()
	proxy.freeze()
	close(frozen)
	<-s.Done()
	if d := time.Since(began); d > 10*timing.Dead {
		t.Errorf("noticed after %v", d)
	}
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "dead") {
		t.Errorf("ended with %v", err)
	}
	if err := <-contentErr; err == nil {
		t.Error("content from a dead link")
	}
	w.idle() // the server lets go of both connections too
}

// An idle session lives as long as both sides do.
func TestIdleSessionStaysUp(t *testing.T) {
	timing := Timing{Ping: 20 * time.Millisecond, Dead: time.Second}
	w := newWorld(t, "127.0.0.1:0", func(_ *world, c *ServerConfig) { c.Timing = timing })
	w.branch.Timing = timing
	s := w.dial()
	select {
	case <-s.Done():
		t.Fatalf("an idle session ended: %v", s.Err())
	case <-time.After(2 * timing.Dead):
	}
}

func TestServerGoesAwayWithRequestsInFlight(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	cfg := ServerConfig{Config: w.hub, Listen: []string{"127.0.0.1:0"}, Handler: w.shelf, Authorize: w.may}
	greeted := make(chan wire.Hello, 1)
	cfg.Greeted = func(_ repl.MemberID, h wire.Hello) { greeted <- h }
	w.shelf.barrier = w.shelf.stuck
	server, err := Listen(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	s, err := Dial(t.Context(), w.branch, hubID, server.Addresses())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if h := <-greeted; h.Member != brID {
		t.Errorf("greeted by %+v", h)
	}
	errs := make(chan error, 1)
	go func() { _, err := s.Barrier(t.Context(), docs); errs <- err }()
	for server.bounds(brID).requests.Load() < 1 {
		if _, err := s.Directory(t.Context(), 1, 1, false); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatalf("server: %v", err)
	}
	<-w.shelf.released
	if err := <-errs; err == nil {
		t.Fatal("a request to a server that went is answered")
	}
	<-s.Done()
	for _, err := range []error{
		func() error { _, err := s.Status(t.Context(), docs); return err }(),
		s.Content(t.Context(), docs, items(1), drain),
	} {
		if err == nil {
			t.Error("a dead session answers")
		}
	}
}
