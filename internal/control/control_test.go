package control

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opendfs/internal/control/controlpb"
)

// scripted is a member that answers as a test says.
type scripted struct {
	Member
	status func() (*controlpb.StatusReply, error)
	wait   func(ctx context.Context, tell func(*controlpb.WaitReply) error) error
}

func (s *scripted) Status(context.Context, *controlpb.StatusRequest) (*controlpb.StatusReply, error) {
	return s.status()
}

func (s *scripted) Wait(ctx context.Context, _ *controlpb.WaitRequest, tell func(*controlpb.WaitReply) error) error {
	return s.wait(ctx, tell)
}

// serve serves a member on a socket whose path is as long as asked for.
func serve(t *testing.T, m Member, deep int) (*Client, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d/", deep))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, SocketName)
	l, err := Listen(path, false)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(m, func(context.Context, *Caller, string) error { return nil })
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	c := NewClient(path)
	t.Cleanup(func() {
		c.Close()
		if err := errors.Join(s.Close(), <-ended, l.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	return c, path
}

// A reply, an error with its hint, and a stream come as they were sent, on a
// short path and on one that no socket address holds.
func TestCalls(t *testing.T) {
	for _, deep := range []int{0, 100} {
		reply, fault := &controlpb.StatusReply{Server: "hub", Generation: 7}, error(nil)
		m := &scripted{
			status: func() (*controlpb.StatusReply, error) { return reply, fault },
			wait: func(_ context.Context, tell func(*controlpb.WaitReply) error) error {
				return errors.Join(tell(&controlpb.WaitReply{Waiting: []*controlpb.Waiting{{Folder: "g/f"}}}), tell(&controlpb.WaitReply{Done: true}))
			},
		}
		c, path := serve(t, m, deep)
		if st, err := os.Lstat(path); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("mode of the socket: %v, %v", st, err)
		}
		got, err := c.Status(t.Context())
		if err != nil || got.Server != "hub" || got.Generation != 7 {
			t.Errorf("status: %v, %v", got, err)
		}
		fault = &Problem{Err: errors.New("no folder \"ä\"\nsecond line"), Hint: "name another", Usage: true}
		var p *Problem
		if _, err = c.Status(t.Context()); !errors.As(err, &p) || p.Error() != fault.Error() || p.Hint != "name another" || !p.Usage {
			t.Errorf("problem came as %#v", err)
		}
		fault = &Problem{Err: errors.New("a\xff has no record"), Hint: "ask about a\xff"}
		if _, err = c.Status(t.Context()); !errors.As(err, &p) || p.Error() != "a\uFFFD has no record" || p.Hint != "ask about a\uFFFD" {
			t.Errorf("problem with a name that is no text came as %#v", err)
		}
		fault = errors.New("unforeseen")
		if _, err = c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "unforeseen") {
			t.Errorf("error came as %v", err)
		}
		n := 0
		if err := c.Wait(t.Context(), &controlpb.WaitRequest{}, func(*controlpb.WaitReply) { n++ }); err != nil || n != 2 {
			t.Errorf("wait: %d replies, %v", n, err)
		}
	}
}

// A wait that takes too long ends with the caller's deadline, whoever notices.
func TestWaitDeadline(t *testing.T) {
	c, _ := serve(t, &scripted{wait: func(ctx context.Context, _ func(*controlpb.WaitReply) error) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}}, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Wait(ctx, &controlpb.WaitRequest{}, func(*controlpb.WaitReply) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
}

// Where nobody listens the client says so; a left-over socket is replaced, and
// what is no socket is not.
func TestNobodyListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	l, err := Listen(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.(*socket).UnixListener.Close(); err != nil { // as a crash leaves it
		t.Fatal(err)
	}
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("left-over socket: %v", err)
	}
	if l, err = Listen(path, false); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, false); err == nil || !strings.Contains(err.Error(), "something else is there") {
		t.Errorf("listen over a file: %v", err)
	}
}

// JSON shows every field, numbers as numbers and lists never null.
func TestJSON(t *testing.T) {
	b, err := JSON(&controlpb.StatusReply{Server: `a"b`, Generation: 1 << 60, Folders: []*controlpb.Folder{{Name: "g/f", In: &controlpb.Backlog{Updates: 3, Bytes: -1}}}})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Server     *string
		Generation json.Number
		Findings   []any
		Database   any
		Folders    []struct {
			Name string
			In   struct{ Updates, Bytes json.Number }
			Out  any
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if *got.Server != `a"b` || got.Generation != "1152921504606846976" || got.Findings == nil || got.Folders[0].In.Bytes != "-1" || got.Folders[0].Out != nil {
		t.Errorf("%+v\n%s", got, b)
	}
	for _, name := range []string{`"serverId": ""`, `"master": false`, `"findings": []`, `"database": null`} {
		if !strings.Contains(string(b), name) {
			t.Errorf("%s is not in\n%s", name, b)
		}
	}
}
