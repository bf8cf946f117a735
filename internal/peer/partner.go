package peer

import (
	"context"
	"sync"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// Phase is where a Partner stands.
type Phase uint8

// The phases of a Partner.
const (
	Connecting Phase = iota // trying the addresses
	Connected               // a session is up
	Waiting                 // for the next attempt
	Stopped                 // Run has returned
)

// String returns the phase in a word, as `dfs status` prints it.
func (p Phase) String() string {
	return [...]string{"connecting", "connected", "waiting", "stopped", "?"}[min(p, Stopped+1)]
}

// State is what is known of a partner's session.
type State struct {
	Phase   Phase
	Since   time.Time
	Err     error      // why there is no session, or why the last one ended
	Retry   time.Time  // when the next attempt is due, if waiting
	Address string     // where the partner answered, if connected
	Remote  wire.Hello // what it said of itself, if connected
}

// PartnerConfig says who a Partner is and whom to tell.
type PartnerConfig struct {
	Config
	Member repl.MemberID
	// Addresses returns the partner's addresses as the domain file has them now.
	Addresses func() []string
	// Changed is told each new state, from Run's goroutine; nil: nobody.
	Changed func(State)
	// Rand returns a number in [0, 1) for the jitter.
	Rand func() float64
}

// Partner keeps a session with one member up. Safe for concurrent use.
type Partner struct {
	cfg  PartnerConfig
	poke chan struct{} // holds one

	mu      sync.Mutex
	state   State
	session *Session
	changed chan struct{} // closed at the next change of state
}

// NewPartner returns a Partner that does nothing until Run.
func NewPartner(cfg PartnerConfig) *Partner {
	cfg.Config = cfg.orDefaults()
	return &Partner{cfg: cfg, poke: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Run connects, again and again, until ctx ends. Between attempts it waits for
// Timing.BackoffMin, doubling up to BackoffMax, each with jitter; a session
// that lasted longer than BackoffMax begins anew.
func (p *Partner) Run(ctx context.Context) {
	defer p.set(State{Phase: Stopped}, nil)
	timing := p.cfg.Timing
	for attempt := 0; ctx.Err() == nil; {
		p.set(State{Phase: Connecting, Err: p.State().Err}, nil)
		s, err := Dial(ctx, p.cfg.Config, p.cfg.Member, p.cfg.Addresses())
		if err == nil {
			began := time.Now()
			err = p.keep(ctx, s)
			if time.Since(began) > timing.BackoffMax {
				attempt = 0
			}
		}
		if ctx.Err() != nil {
			return
		}
		wait := backoff(attempt, timing.BackoffMin, timing.BackoffMax, p.cfg.Rand())
		attempt++
		p.set(State{Phase: Waiting, Err: err, Retry: time.Now().Add(wait)}, nil)
		if p.pause(ctx, wait) {
			attempt = 0
		}
	}
}

// keep offers the session until it ends, and returns why it did.
func (p *Partner) keep(ctx context.Context, s *Session) error {
	p.set(State{Phase: Connected, Address: s.Address(), Remote: s.Remote()}, s)
	select {
	case <-s.Done():
	case <-ctx.Done():
	}
	err := s.Err()
	p.set(State{Phase: Connecting, Err: err}, nil) // nobody gets the session any more
	s.Close()
	return err
}

// backoff is the wait after an attempt: between half and all of least·2^attempt.
func backoff(attempt int, least, most time.Duration, r float64) time.Duration {
	d := most
	if attempt < 30 && least<<attempt < most {
		d = least << attempt
	}
	return d/2 + time.Duration(r*float64(d/2))
}

// pause waits, and reports whether it was poked.
func (p *Partner) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.poke:
		return true
	case <-ctx.Done():
	}
	return false
}

// pause waits, and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Poke makes a waiting Partner try again at once, as when the partner itself
// has connected to us or its address has changed.
func (p *Partner) Poke() {
	select {
	case p.poke <- struct{}{}:
	default:
	}
}

func (p *Partner) set(s State, session *Session) {
	s.Since = time.Now()
	p.mu.Lock()
	p.state, p.session = s, session
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
	if p.cfg.Changed != nil {
		p.cfg.Changed(s)
	}
}

// State returns what is known now.
func (p *Partner) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Session returns the session that is up, or waits for one.
func (p *Partner) Session(ctx context.Context) (*Session, error) {
	for {
		p.mu.Lock()
		s, changed, phase := p.session, p.changed, p.state.Phase
		p.mu.Unlock()
		if s != nil {
			return s, nil
		}
		if phase == Stopped {
			return nil, ErrClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
