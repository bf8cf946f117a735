package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"strconv"
	"sync"
	"unsafe"

	"opendfs/internal/pki"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// Caller is who made a connection: by the kernel's word a user of this machine,
// or by a certificate a server or an administrator of the domain.
type Caller struct {
	// UID and Groups are those of the process at the other end of a socket.
	UID    uint32
	Groups []uint32
	// Subject is whom the certificate names; zero on a socket.
	Subject pki.Subject
	// Address is where a certificate came from; empty on a socket.
	Address string
}

// Local reports whether it called on a socket of this machine.
func (c *Caller) Local() bool { return c.Subject.Kind == 0 }

// String names the caller for messages.
func (c *Caller) String() string {
	if c.Local() {
		return "user " + strconv.FormatUint(uint64(c.UID), 10)
	}
	return fmt.Sprintf("%v %q", c.Subject.Kind, c.Subject.Name)
}

// ErrDenied is the error of a call that the caller has no right to.
var ErrDenied = errors.New("permission denied")

// Denied makes the error of a call that the caller has no right to, with what to
// do about it.
func Denied(hint, format string, args ...any) error {
	return &Problem{Err: &denied{fmt.Sprintf(format, args...)}, Hint: hint}
}

type denied struct{ text string }

func (d *denied) Error() string   { return d.text }
func (d *denied) Is(e error) bool { return e == ErrDenied }

// callerKey is under which a request's context holds who made the connection.
type callerKey struct{}

// identified is who made a connection, or why that is not known.
type identified struct {
	*Caller
	err error
}

// CallerOf returns who asks, nil if it was not asked by a connection.
func CallerOf(ctx context.Context) *Caller {
	who, _ := ctx.Value(callerKey{}).(identified)
	return who.Caller
}

func noteCaller(ctx context.Context, c net.Conn) context.Context {
	if r, ok := c.(*remote); ok {
		return context.WithValue(ctx, callerKey{}, identified{Caller: &r.caller})
	}
	if b, ok := c.(*bounded); ok {
		c = b.Conn
	}
	who, err := localCaller(c)
	return context.WithValue(ctx, callerKey{}, identified{who, err})
}

// localCaller returns who made a connection on a socket, by the kernel's word.
func localCaller(c net.Conn) (*Caller, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("tell who calls: a connection of type %T", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("tell who calls: %w", err)
	}
	who := new(Caller)
	var cerr error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); cerr == nil {
			who.UID, who.Groups = cred.Uid, []uint32{cred.Gid}
			who.Groups = append(who.Groups, peerGroups(fd)...)
		}
	})
	if err = errors.Join(err, cerr); err != nil {
		return nil, fmt.Errorf("tell who calls: %w", err)
	}
	return who, nil
}

// maxGroups is the kernel's own bound of a process's groups.
const maxGroups = 65536

// peerGroups returns the supplementary groups of the other end's process; none on
// a kernel (before 4.13) that does not tell.
func peerGroups(fd uintptr) []uint32 {
	list := make([]uint32, 64)
	for {
		size := uint32(len(list) * 4)
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case e == 0:
			return list[:size/4]
		case e != unix.ERANGE || size/4 > maxGroups || int(size/4) <= len(list):
			return nil
		}
		list = make([]uint32, size/4)
	}
}

// maxCalls bounds the connections of one caller that is not root.
const maxCalls = 64

// calls counts connections by who made them.
type calls struct {
	mu    sync.Mutex
	count map[string]int // guarded by mu
}

// enter counts one connection more, if the caller has not too many.
func (c *calls) enter(who string) (leave func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = make(map[string]int)
	}
	if c.count[who] >= maxCalls {
		return nil, false
	}
	c.count[who]++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.count[who]--; c.count[who] == 0 {
			delete(c.count, who)
		}
	}), true
}

// bounded is a connection that is counted.
type bounded struct {
	net.Conn
	leave func()
}

// Close ends the connection and its count.
func (b *bounded) Close() error {
	b.leave()
	return b.Conn.Close()
}

// guarded accepts from a socket; who has too many connections is cut off.
type guarded struct {
	net.Listener
	calls *calls
}

// Accept waits for the next connection that is not one too many.
func (g *guarded) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who, err := localCaller(c)
		if err != nil || who.UID == 0 {
			return c, nil // root is not counted; who is not known is told so
		}
		if leave, ok := g.calls.enter(who.String()); ok {
			return &bounded{c, leave}, nil
		}
		_ = c.Close()
	}
}

// remote is a connection whose caller a certificate has named.
type remote struct {
	net.Conn
	caller Caller
	leave  func()
	ended  chan struct{}
	once   sync.Once
}

// Close ends the connection and wakes ServeConn.
func (r *remote) Close() error {
	r.once.Do(func() { r.leave(); close(r.ended) })
	return r.Conn.Close()
}

// handed is a listener whose connections come from ServeConn.
type handed struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func newHanded() *handed {
	h := &handed{conns: make(chan net.Conn), done: make(chan struct{})}
	h.close = sync.OnceFunc(func() { close(h.done) })
	return h
}

// Accept waits for the next connection.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends accepting.
func (h *handed) Close() error { h.close(); return nil }

// Addr names the listener.
func (h *handed) Addr() net.Addr { return &net.UnixAddr{Name: "handed", Net: "unix"} }

// authorize asks whether the caller may make a call before its request is read.
func authorize(may func(context.Context, *Caller, string) error, next http.Handler) http.Handler {
	errs := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := r.Context().Value(callerKey{}).(identified)
		err := who.err
		if err == nil && who.Caller == nil {
			err = errors.New("tell who calls: no connection is known")
		}
		if err == nil {
			err = may(r.Context(), who.Caller, path.Base(r.URL.Path))
		}
		if err == nil {
			next.ServeHTTP(w, r)
			return
		}
		if !errs.IsSupported(r) {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		if werr := errs.Write(w, r, toWire(r.Context(), err)); werr != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
		}
	})
}
