package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"opendfs/internal/control/controlpb/controlpbconnect"
	"opendfs/internal/pki"

	"connectrpc.com/connect"
)

// The bounds of a request: its headers' time and its bytes; and how long a
// connection may be without one.
const (
	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
	maxRequest = 20 << 20 // a domain file and its frame
)

// Server serves the API on any number of sockets, and on connections that it is
// handed.
type Server struct {
	http    *http.Server
	calls   calls
	handed  *handed
	serving sync.WaitGroup
}

// NewServer makes the server of a member. may is asked, before a request is read,
// whether the caller may make a call of that name at all; which objects it may
// touch the member judges itself, by CallerOf.
func NewServer(m Member, may func(ctx context.Context, who *Caller, call string) error) *Server {
	path, h := controlpbconnect.NewControlHandler(handler{m},
		connect.WithReadMaxBytes(maxRequest), connect.WithInterceptors(connect.UnaryInterceptorFunc(validText)))
	mux := http.NewServeMux()
	mux.Handle(path, authorize(may, h))
	s := &Server{
		http:   &http.Server{Handler: mux, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, ConnContext: noteCaller},
		handed: newHanded(),
	}
	s.serving.Go(func() { _ = s.http.Serve(s.handed) }) // it ends with Close alone
	return s
}

// Serve answers on a listener of Listen until Close.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(&guarded{l, &s.calls}); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve control socket: %w", err)
	}
	return nil
}

// ServeConn answers on a connection whose caller is known by its certificate,
// until it ends.
func (s *Server) ServeConn(ctx context.Context, c net.Conn, who pki.Subject) {
	leave, ok := s.calls.enter(who.Kind.String() + who.ID.String())
	if !ok {
		return
	}
	r := &remote{Conn: c, caller: Caller{Subject: who, Address: c.RemoteAddr().String()}, leave: leave, ended: make(chan struct{})}
	defer func() { _ = r.Close() }()
	select {
	case s.handed.conns <- r:
	case <-s.handed.done:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-r.ended:
	case <-ctx.Done():
	}
}

// Close ends every call and closes the listeners.
func (s *Server) Close() error {
	err := s.http.Close()
	s.handed.close()
	s.serving.Wait()
	return err
}
