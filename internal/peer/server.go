package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"opendfs/internal/pki"
	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// ServerConfig is what a server needs beside what all sessions share.
type ServerConfig struct {
	Config
	// Listen are the addresses, HOST:PORT, to listen on; an empty host is
	// every interface, IPv4 and IPv6.
	Listen    []string
	Handler   Handler
	Authorize Authorizer
	// Group names the replication group of a folder, to which partners grant
	// rates; nil: nobody grants any.
	Group func(repl.FolderID) repl.GUID
	// Limit bounds what is sent to all partners together; nil: nothing does.
	Limit *Limit
	// Turns bounds the transfers to all partners together; nil: nothing does.
	Turns *Turns
	// Door gives what lets newcomers in and renews certificates, on the holder of
	// the CA; nil, or a function that gives nil, elsewhere.
	Door func() *pki.Door
	// Control serves the management API on a connection, whose handshake is done,
	// until it ends; nil: it is not served here.
	Control func(ctx context.Context, c net.Conn, who pki.Subject)
	// Greeted is told of each control connection that a partner opens; it must
	// not block. Nil: nobody asks.
	Greeted func(partner repl.MemberID, hello wire.Hello)
}

// door is what lets newcomers in, nil on a server that does not hold the CA.
func (c *ServerConfig) door() *pki.Door {
	if c.Door == nil {
		return nil
	}
	return c.Door()
}

// offers are the protocols beside replication that are served here.
func (c *ServerConfig) offers(door *pki.Door) []string {
	var list []string
	if door != nil {
		list = append(list, pki.ALPNJoin, pki.ALPNRenew)
	}
	if c.Control != nil {
		list = append(list, pki.ALPNControl)
	}
	return list
}

// Server is the side that answers: all partners, on one port.
type Server struct {
	cfg       ServerConfig
	listeners []net.Listener
	wg        sync.WaitGroup
	arrived   atomic.Uint64 // questions for updates

	mu       sync.Mutex
	closed   bool
	conns    map[net.Conn]struct{} // all, to be closed; before the handshake too
	shaking  map[netip.Addr]int    // handshakes under way
	shakes   int
	partners map[repl.MemberID]*partnerBounds // of members that were met
}

// partnerBounds counts what one partner has in flight over all connections.
type partnerBounds struct {
	conns, requests, waits, contents atomic.Int64
	headers                          atomic.Int64 // bytes
	packer                           packer
	mu                               sync.Mutex
	inbounds                         map[*inbound]struct{}
	lanes                            map[repl.GUID]*pacer // guarded by mu; of groups that have a rate
}

// take adds n to a count if it stays within its limit.
func take(c *atomic.Int64, n, limit int64) bool {
	if c.Add(n) > limit {
		c.Add(-n)
		return false
	}
	return true
}

// Listen opens the server's addresses. The caller then calls Run.
func Listen(ctx context.Context, cfg ServerConfig) (*Server, error) {
	cfg.Config = cfg.orDefaults()
	s := &Server{
		cfg: cfg, conns: make(map[net.Conn]struct{}), shaking: make(map[netip.Addr]int),
		partners: make(map[repl.MemberID]*partnerBounds),
	}
	for _, a := range cfg.Listen {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", a)
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("listen on %s: another program has this port; stop it, or set `listen` of this server in the domain file", a)
		} else if err != nil {
			err = fmt.Errorf("listen on %s: %w; check `listen` of this server in the domain file", a, err)
		}
		if err != nil {
			s.stop()
			return nil, err
		}
		s.listeners = append(s.listeners, l)
	}
	if len(s.listeners) == 0 {
		return nil, errors.New("listen: no address is given")
	}
	return s, nil
}

// Addresses returns what the server listens on, with the ports that it got.
func (s *Server) Addresses() []string {
	var out []string
	for _, l := range s.listeners {
		out = append(out, l.Addr().String())
	}
	return out
}

// Run answers until ctx ends, then closes all connections, waits for all
// handlers and returns.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		s.wg.Go(func() { failed <- s.accept(ctx, l) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	s.stop()
	s.wg.Wait()
	return err
}

func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		_ = c.Close()
	}
}

// Disconnect closes what a partner has open here, after its revocation.
func (s *Server) Disconnect(partner repl.MemberID) {
	b := s.bounds(partner)
	b.mu.Lock()
	defer b.mu.Unlock()
	for in := range b.inbounds {
		in.close()
	}
}

// Connected reports whether a partner has a connection here.
func (s *Server) Connected(partner repl.MemberID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.partners[partner]
	return b != nil && b.conns.Load() > 0
}

func (s *Server) bounds(partner repl.MemberID) *partnerBounds {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.partners[partner]
	if b == nil {
		b = &partnerBounds{inbounds: make(map[*inbound]struct{})}
		s.partners[partner] = b
	}
	return b
}

func (s *Server) accept(ctx context.Context, l net.Listener) error {
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return nil
		case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED):
			s.cfg.Log.Error("a connection could not be accepted; raise LimitNOFILE if this goes on", "err", err)
			if !pause(ctx, s.cfg.Timing.BackoffMin) {
				return nil
			}
			continue
		case err != nil:
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		from, ok := s.admit(c)
		if !ok {
			_ = c.Close()
			continue
		}
		s.wg.Go(func() {
			defer s.forget(c)
			s.serve(ctx, c, func() { s.shaken(from) })
		})
	}
}

// admit bounds the handshakes: of strangers nothing is known but an address.
func (s *Server) admit(c net.Conn) (netip.Addr, bool) {
	var from netip.Addr
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		from = a.AddrPort().Addr().Unmap()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.shakes >= maxHandshakes || s.shaking[from] >= maxFromOne {
		return from, false
	}
	s.shakes++
	s.shaking[from]++
	s.conns[c] = struct{}{}
	return from, true
}

func (s *Server) shaken(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shakes--
	if s.shaking[from]--; s.shaking[from] == 0 {
		delete(s.shaking, from)
	}
}

func (s *Server) forget(c net.Conn) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// serve is the whole life of one connection. shaken is called once, when its
// handshake is over.
func (s *Server) serve(ctx context.Context, c net.Conn, shaken func()) {
	var once sync.Once
	shaken = func(f func()) func() { return func() { once.Do(f) } }(shaken)
	defer shaken()
	timing := s.cfg.Timing
	if err := tuneConn(c, timing.Dead, 0, 0); err != nil {
		s.cfg.Log.Warn("connection could not be tuned", "from", c.RemoteAddr(), "err", err)
	}
	rc := newRawConn(c, timing.Dead)
	in := &inbound{server: s, streams: make(map[uint32]*stream)}
	door := s.cfg.door()
	in.conn = &conn{raw: rc, tls: tls.Server(rc, s.cfg.Identity.ServerTLS(s.cfg.policy(), s.cfg.offers(door)...))}
	in.reader = wire.NewReader(in.tls)
	var caller pki.Subject
	err := in.shake(ctx, timing.Handshake, func(ctx context.Context) (err error) {
		state := in.tls.ConnectionState()
		switch state.NegotiatedProtocol {
		case pki.ALPNJoin:
			return errors.Join(door.Serve(ctx, in.tls), rc.Flush(), errJoined)
		case pki.ALPNControl, pki.ALPNRenew:
			if caller, err = s.cfg.Identity.SubjectOf(state, s.cfg.policy()); err != nil {
				return err
			}
			if state.NegotiatedProtocol == pki.ALPNControl {
				return errControl
			}
			return errors.Join(door.ServeRenew(in.tls, caller), rc.Flush(), errJoined)
		}
		return in.greet()
	})
	shaken()
	switch {
	case errors.Is(err, errJoined):
		return
	case errors.Is(err, errControl):
		rc.plain = true
		if err := c.SetDeadline(time.Time{}); err == nil {
			s.cfg.Control(ctx, &plainConn{in.tls, rc}, caller)
		}
		return
	case err != nil:
		if ctx.Err() == nil && !errors.Is(err, io.EOF) {
			s.cfg.Log.Warn("connection refused", "from", c.RemoteAddr(), "err", err)
		}
		return
	}
	if err := in.run(ctx); err != nil && ctx.Err() == nil {
		s.cfg.Log.Info("connection ended", "partner", in.partner, "from", c.RemoteAddr(), "err", silent(err, timing.Dead))
	}
}

// errJoined ends a connection that served a join or a renewal and nothing else;
// errControl says that it goes on with the management API.
var (
	errJoined  = errors.New("joined")
	errControl = errors.New("control")
)

// plainConn is a connection for whoever does not know of frames: what is written
// goes out at once, and deadlines are its own.
type plainConn struct {
	net.Conn
	raw *rawConn
}

// Write writes and flushes.
func (c *plainConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err == nil {
		err = c.raw.Flush()
	}
	return n, err
}

// Close closes beneath TLS too.
func (c *plainConn) Close() error { return c.raw.Close() }
