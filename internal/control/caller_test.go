package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"opendfs/internal/control/controlpb"
	"opendfs/internal/pki"
	"opendfs/internal/repl"
)

// Who calls on a socket is known by user and groups; a call is judged by its name
// before its request is read, and what is denied says why and what to do.
func TestCallerOnASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	l, err := Listen(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(path); err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("mode of a socket for everybody: %v, %v", st, err)
	}
	var who *Caller
	var call string
	denied := false
	s := NewServer(&scripted{status: func() (*controlpb.StatusReply, error) { return &controlpb.StatusReply{}, nil }},
		func(ctx context.Context, c *Caller, name string) error {
			if who, call = c, name; denied {
				return Denied("ask alice", "status: user %d has no role", c.UID)
			}
			if CallerOf(ctx) != c {
				t.Error("the context holds another caller")
			}
			return nil
		})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	c := NewClient(path)
	if _, err := c.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if who.UID != uint32(os.Getuid()) || !slices.Contains(who.Groups, uint32(os.Getgid())) || !who.Local() || call != "Status" {
		t.Errorf("called %s by %+v", call, who)
	}
	for _, g := range groups {
		if !slices.Contains(who.Groups, uint32(g)) {
			t.Errorf("group %d is missing in %v", g, who.Groups)
		}
	}
	denied = true
	var p *Problem
	if _, err := c.Status(t.Context()); !errors.As(err, &p) || p.Hint != "ask alice" || !strings.Contains(err.Error(), "has no role") {
		t.Errorf("denied: %v", err)
	}
	if err := c.Wait(t.Context(), &controlpb.WaitRequest{}, nil); !errors.As(err, &p) || p.Hint != "ask alice" {
		t.Errorf("denied a stream: %v", err)
	}
	c.Close()
	if err := errors.Join(s.Close(), <-ended, l.Close()); err != nil {
		t.Error(err)
	}
}

// A connection that is handed over speaks for whom its certificate named, and one
// caller has not any number of them.
func TestCallerByCertificate(t *testing.T) {
	alice := pki.Subject{Kind: pki.KindAdmin, ID: repl.GUID{1}, Name: "alice"}
	var who *Caller
	s := NewServer(&scripted{status: func() (*controlpb.StatusReply, error) { return &controlpb.StatusReply{Server: "hub"}, nil }},
		func(_ context.Context, c *Caller, _ string) error { who = c; return nil })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.ServeConn(t.Context(), c, alice)
		}
	}()
	var open []net.Conn
	c := NewRemoteClient("hub", func(ctx context.Context) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		open = append(open, c)
		return c, err
	})
	if r, err := c.Status(t.Context()); err != nil || r.Server != "hub" {
		t.Fatal(r, err)
	}
	if who.Subject != alice || who.Local() || who.Address == "" || who.String() != `admin "alice"` {
		t.Errorf("called by %+v", who)
	}
	c.Close()
	gone := NewRemoteClient("hub", func(context.Context) (net.Conn, error) { return nil, errors.New("no route") })
	var p *Problem
	if _, err := gone.Status(t.Context()); !errors.As(err, &p) || !strings.Contains(err.Error(), "no route") || p.Hint == "" || errors.Is(err, ErrNotRunning) {
		t.Errorf("a member that is not there: %v", err)
	}
	if err := errors.Join(l.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	<-served
	for _, c := range open {
		_ = c.Close()
	}
}

// What is counted is given free again, once.
func TestCallsAreBounded(t *testing.T) {
	var c calls
	var leave func()
	for i := range maxCalls {
		l, ok := c.enter("user 1")
		if !ok {
			t.Fatalf("connection %d is refused", i)
		}
		leave = l
	}
	if _, ok := c.enter("user 1"); ok {
		t.Error("one connection too many")
	}
	if _, ok := c.enter("user 2"); !ok {
		t.Error("another caller is refused")
	}
	leave()
	leave()
	if _, ok := c.enter("user 1"); !ok {
		t.Error("refused after one has left")
	}
	if _, ok := c.enter("user 1"); ok {
		t.Error("one that left twice counts twice")
	}
}
