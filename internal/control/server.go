package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"opendfs/internal/control/controlpb/controlpbconnect"

	"connectrpc.com/connect"
)

// The bounds of a request: its headers' time, and its bytes.
const (
	headerTime = 10 * time.Second
	maxRequest = 20 << 20 // a domain file and its frame
)

// Server serves the API on any number of sockets.
type Server struct {
	http *http.Server
}

// NewServer makes the server of a member.
func NewServer(m Member) *Server {
	path, h := controlpbconnect.NewControlHandler(handler{m},
		connect.WithReadMaxBytes(maxRequest), connect.WithInterceptors(mayCall{}, connect.UnaryInterceptorFunc(validText)))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	return &Server{&http.Server{Handler: mux, ReadHeaderTimeout: headerTime, ConnContext: noteCaller}}
}

// Serve answers on a listener of Listen until Close.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve control socket: %w", err)
	}
	return nil
}

// Close ends every call and closes the listeners.
func (s *Server) Close() error { return s.http.Close() }

// callerKey is under which a request's context holds who made the connection.
type callerKey struct{}

// identified is who made a connection, or why that is not known.
type identified struct {
	uid uint32
	err error
}

func noteCaller(ctx context.Context, c net.Conn) context.Context {
	uid, err := caller(c)
	return context.WithValue(ctx, callerKey{}, identified{uid, err})
}

// mayCall lets root and the daemon's own user in, and nobody else.
type mayCall struct{}

func (mayCall) check(ctx context.Context) error {
	who, _ := ctx.Value(callerKey{}).(identified)
	if who.err != nil {
		return connect.NewError(connect.CodePermissionDenied, who.err)
	}
	if who.uid != 0 && who.uid != uint32(os.Geteuid()) {
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("user %d may not control this member; root and user %d may", who.uid, os.Geteuid()))
	}
	return nil
}

// WrapUnary checks the caller of a unary call.
func (m mayCall) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		if err := m.check(ctx); err != nil {
			return nil, err
		}
		return next(ctx, r)
	}
}

// WrapStreamingClient is for clients, which are not checked.
func (mayCall) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler checks the caller of a streaming call.
func (m mayCall) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, c connect.StreamingHandlerConn) error {
		if err := m.check(ctx); err != nil {
			return err
		}
		return next(ctx, c)
	}
}
