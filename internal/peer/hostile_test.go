package peer

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opendfs/internal/pki"
	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// rough is a partner that holds a good certificate and keeps no rules.
type rough struct {
	t testing.TB
	c *tls.Conn
	r *wire.Reader
}

func (w *world) rough(hello *wire.Hello) *rough {
	w.t.Helper()
	raw, err := net.Dial("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	c := tls.Client(raw, w.branch.Identity.ClientTLS(pki.Policy{Now: time.Now}, hubID))
	w.t.Cleanup(func() { _ = raw.Close() })
	x := &rough{w.t, c, wire.NewReader(c)}
	if hello != nil {
		x.send(hello, 0, nil)
	}
	return x
}

func (w *world) hello() *wire.Hello {
	return &wire.Hello{Min: 1, Max: 1, Member: brID, Domain: domain, Clock: 1}
}

func (x *rough) send(m wire.Message, stream uint32, body []byte) {
	x.t.Helper()
	b, err := wire.Append(nil, m, stream, true, len(body))
	if err != nil {
		x.t.Fatal(err)
	}
	x.write(append(b, body...))
}

func (x *rough) write(b []byte) {
	x.t.Helper()
	if _, err := x.c.Write(b); err != nil {
		x.t.Fatal(err)
	}
}

func (x *rough) next() (wire.Message, error) {
	f, err := x.r.Next()
	if err != nil {
		return nil, err
	}
	f.Release()
	return f.Message()
}

// ends expects that the other side says why and closes.
func (x *rough) ends(what string, code wire.Code) {
	x.t.Helper()
	m, err := x.next()
	if e, ok := m.(*wire.Error); err != nil || !ok || e.Code != code {
		x.t.Errorf("%s: got %+v, %v, want the error %v", what, m, err, code)
	}
	x.gone(what)
}

// gone expects that the other side closes, whatever it says before.
func (x *rough) gone(what string) {
	x.t.Helper()
	if err := x.c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		x.t.Fatal(err)
	}
	for {
		if _, err := x.next(); err != nil {
			if op, ok := errors.AsType[net.Error](err); ok && op.Timeout() {
				x.t.Errorf("%s: the connection is still open", what)
			}
			return
		}
	}
}

func (x *rough) greeted() *rough {
	x.t.Helper()
	if m, err := x.next(); err != nil || m.Type() != wire.TypeHello {
		x.t.Fatalf("greeting: %+v, %v", m, err)
	}
	return x
}

func TestServerRefusesABadHello(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	for what, c := range map[string]struct {
		spoil func(*wire.Hello)
		code  wire.Code
		say   string
	}{
		"another member's id":  {func(h *wire.Hello) { h.Member = repl.MemberID{9} }, wire.CodeIdentity, "certificate"},
		"another domain":       {func(h *wire.Hello) { h.Domain = repl.GUID{9} }, wire.CodeIdentity, "domain"},
		"a version from later": {func(h *wire.Hello) { h.Min, h.Max = 7, 8 }, wire.CodeVersion, "1 to 1 and the other one 7 to 8"},
	} {
		h := w.hello()
		c.spoil(h)
		x := w.rough(h)
		m, err := x.next()
		e, ok := m.(*wire.Error)
		if err != nil || !ok || e.Code != c.code || !strings.Contains(e.Text, c.say) {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
		x.gone(what)
	}
	x := w.rough(nil)
	x.send(&wire.Ping{}, 0, nil)
	x.ends("no Hello", wire.CodeProtocol)
	if _, err := w.dial().Status(t.Context(), docs); err != nil {
		t.Fatalf("a good partner afterwards: %v", err)
	}
}

// TestAPartnerOfTheNextVersionIsServed: it speaks ours as well (N and N-1), and what
// its messages have that ours do not is skipped. It does not send messages that we
// do not know: those end the connection (above).
func TestAPartnerOfTheNextVersionIsServed(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	later := func(m wire.Message, stream uint32) []byte {
		b, err := wire.Append(nil, m, stream, true, 0)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, 0xf8, 0x7f, 1, 0xf2, 0x7f, 2, 'o', 'h') // fields 2047, a number, and 2046, a text
		binary.BigEndian.PutUint32(b, uint32(len(b)-4))
		binary.BigEndian.PutUint32(b[12:], uint32(len(b)-16))
		return b
	}
	hello := w.hello()
	hello.Min, hello.Max = wire.Protocol, wire.Protocol+1
	x := w.rough(nil)
	x.write(later(hello, 0))
	m, err := x.next()
	if h, ok := m.(*wire.Hello); err != nil || !ok || h.Min != wire.OldestProtocol || h.Max != wire.Protocol {
		t.Fatalf("greeting: %+v, %v", m, err)
	}
	x.write(later(&wire.DiffRequest{Folder: docs, Limit: 10}, 1))
	if m, err := x.next(); err != nil || m.Type() != wire.TypeDiffPage {
		t.Fatalf("a diff: %+v, %v", m, err)
	}
	x.write(later(&wire.StatusRequest{Folder: docs}, 2))
	if m, err := x.next(); err != nil || m.Type() != wire.TypeStatusReply {
		t.Fatalf("the status: %+v, %v", m, err)
	}
}

func TestServerEndsConnectionsThatBreakTheProtocol(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	w.shelf.barrier = w.shelf.stuck
	prefix := func(length uint32, typ byte, header uint32) []byte {
		b := make([]byte, 16)
		binary.BigEndian.PutUint32(b, length)
		b[4] = typ
		binary.BigEndian.PutUint32(b[12:], header)
		return b
	}
	for what, b := range map[string][]byte{
		"garbage":           random(4000),
		"an unknown type":   prefix(12, 77, 0),
		"an oversize frame": prefix(1<<31, byte(wire.TypeDiffRequest), 1<<31-12),
		"an oversize body":  prefix(12+wire.MaxBody+1, byte(wire.TypeContent), 0),
		"HTTP":              []byte("GET / HTTP/1.1\r\nHost: hub\r\n\r\n"),
	} {
		x := w.rough(w.hello()).greeted()
		x.write(b)
		x.gone(what)
	}
	for what, send := range map[string]func(x *rough){
		"an answer nobody asked for": func(x *rough) { x.send(&wire.Pong{}, 0, nil) },
		"content":                    func(x *rough) { x.send(&wire.Content{}, 5, []byte("x")) },
		"a request on stream 0":      func(x *rough) { x.send(&wire.StatusRequest{Folder: docs}, 0, nil) },
		"one stream twice": func(x *rough) {
			x.send(&wire.BarrierRequest{Folder: docs}, 5, nil)
			x.send(&wire.BarrierRequest{Folder: docs}, 5, nil)
		},
		"a header that is no message": func(x *rough) { x.write(append(prefix(12+3, byte(wire.TypeStatusRequest), 3), 1, 2, 3)) },
		"a second Hello":              func(x *rough) { x.send(w.hello(), 0, nil) },
	} {
		x := w.rough(w.hello()).greeted()
		send(x)
		x.ends(what, wire.CodeProtocol)
	}
	if _, err := w.dial().Status(t.Context(), docs); err != nil {
		t.Fatalf("a good partner afterwards: %v", err)
	}
}

func TestLateCreditAndCancelAreNoCrime(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	x := w.rough(w.hello()).greeted()
	x.send(&wire.Credit{Bytes: 1<<64 - 1}, 7, nil)
	x.send(&wire.Cancel{}, 7, nil)
	x.send(&wire.Ping{Sent: 42}, 0, nil)
	if m, err := x.next(); err != nil || m.(*wire.Pong).Sent != 42 {
		t.Fatalf("got %+v, %v", m, err)
	}
}

func TestBoundsOfOnePartner(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	// Connections: the next one is told and closed.
	var open []*rough
	for range maxConnections {
		open = append(open, w.rough(w.hello()).greeted())
	}
	w.rough(w.hello()).ends("one connection more", wire.CodeBusy)
	for _, x := range open[1:] {
		_ = x.c.Close()
	}
	x := open[0]
	// Content streams without credit hold one frame each and no more of them.
	opened := make(chan struct{}, 100)
	w.shelf.content = func(context.Context, wire.ContentItem) (ContentSource, wire.Status) {
		opened <- struct{}{}
		return source(make([]byte, 1<<20), 0), wire.StatusOK
	}
	for i := range maxContents + 1 {
		x.send(&wire.ContentRequest{Folder: docs, Items: items(1)}, uint32(1+i), nil)
	}
	if m, err := x.next(); err != nil || !errors.Is(m.(*wire.Error), &wire.Error{Code: wire.CodeBusy}) {
		t.Fatalf("content stream %d: %+v, %v", maxContents+1, m, err)
	}
	for range maxContents {
		<-opened
	}
	// Big headers: what exceeds the bound is refused before it is decoded.
	wide := version.Vector{}
	for n := range uint64(100_000) {
		wide[orig] = append(wide[orig], version.Interval{Low: 4 * n, High: 4*n + 2})
	}
	request := &wire.DiffRequest{Folder: docs, Vector: wide, Phase: wire.PhaseNormal}
	held := &w.server.bounds(brID).headers
	held.Add(maxHeaders - 100_000) // as other requests of this partner would
	x.send(request, 100, nil)
	if m, err := x.next(); err != nil || !errors.Is(m.(*wire.Error), &wire.Error{Code: wire.CodeBusy}) {
		t.Fatalf("headers past the bound: %+v, %v", m, err)
	}
	held.Add(100_000 - maxHeaders)
	x.send(request, 101, nil)
	if m, err := x.next(); err != nil || m.Type() != wire.TypeDiffPage {
		t.Fatalf("headers within the bound: %+v, %v", m, err)
	}
	if n := held.Load(); n != 0 {
		t.Errorf("%d bytes of headers are still counted", n)
	}
}

func TestSlowHandshakesAreEndedAndBounded(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", func(_ *world, c *ServerConfig) { c.Timing.Handshake = time.Second })
	var idle []net.Conn
	for range maxFromOne {
		c, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		idle = append(idle, c)
	}
	more, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = more.Close() }()
	if _, err := more.Read(make([]byte, 1)); err == nil {
		t.Fatal("handshake past the bound is served")
	}
	began := time.Now()
	for _, c := range idle {
		// A byte now and then does not make the handshake longer.
		_, _ = c.Write([]byte{22})
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("an idle handshake ends with %v", err)
		}
	}
	if d := time.Since(began); d > 9*time.Second {
		t.Errorf("idle handshakes ended after %v", d)
	}
	x := w.rough(nil) // TLS done, no Hello
	if err := x.c.Handshake(); err != nil {
		t.Fatal(err)
	}
	x.gone("no Hello in time")
	if _, err := w.dial().Status(t.Context(), docs); err != nil {
		t.Fatalf("a good partner afterwards: %v", err)
	}
}

func TestStrangersAreRefusedAndBothSidesSayWhy(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	otherCA := func(d repl.GUID) *pki.Authority {
		a, err := pki.CreateAuthority(filepath.Join(t.TempDir(), "ca"), d, "other", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	try := func(id *pki.Identity, expected repl.MemberID) error {
		c := w.branch
		c.Identity = id
		s, err := Dial(t.Context(), c, expected, []string{w.address})
		if err == nil {
			s.Close()
		}
		return err
	}
	if err := try(identity(t, otherCA(domain), brID, "branch"), hubID); !errors.Is(err, pki.ErrForeign) {
		t.Errorf("another CA: %v", err)
	}
	if err := try(identity(t, otherCA(repl.GUID{9}), brID, "branch"), hubID); !errors.Is(err, pki.ErrForeign) {
		t.Errorf("another domain: %v", err)
	}
	if err := try(w.branch.Identity, repl.MemberID{9}); !errors.Is(err, pki.ErrWrongMember) || !strings.Contains(err.Error(), w.address) {
		t.Errorf("the address of another member: %v", err)
	}
	w.mu.Lock()
	w.revoked[brID] = true
	w.mu.Unlock()
	if err := try(w.branch.Identity, hubID); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("revoked: %v", err)
	}
	for !strings.Contains(w.log.String(), pki.ErrRevoked.Error()) { // written after the client was told
		select {
		case <-t.Context().Done():
			t.Fatalf("the server's log does not say why: %s", w.log.String())
		case <-time.After(time.Millisecond):
		}
	}
}

func TestRevocationEndsSessions(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	s := w.dial()
	w.mu.Lock()
	w.revoked[brID] = true
	w.mu.Unlock()
	w.server.Disconnect(brID)
	<-s.Done()
	if _, err := s.Status(t.Context(), docs); err == nil {
		t.Fatal("a revoked partner is answered")
	}
	if s.Err() == nil {
		t.Fatal("the session does not say why it ended")
	}
}

// rogue is an upstream with a good certificate that answers by script.
func rogue(t *testing.T, w *world, script func(f wire.Frame, send func(m wire.Message, stream uint32, final bool, body []byte))) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			c := tls.Server(raw, w.hub.Identity.ServerTLS(pki.Policy{Now: time.Now}))
			r := wire.NewReader(c)
			send := func(m wire.Message, stream uint32, final bool, body []byte) {
				b, err := wire.Append(nil, m, stream, final, len(body))
				if err != nil {
					t.Error(err)
				}
				_, _ = c.Write(append(b, body...)) // the client may have left
			}
			// Each connection on its own: a session has two.
			go func() {
				defer func() { _ = c.Close() }()
				for {
					f, err := r.Next()
					if err != nil {
						return
					}
					if f.Type == wire.TypeHello {
						send(&wire.Hello{Min: 1, Max: 1, Member: hubID, Domain: domain}, 0, false, nil)
						continue
					}
					script(f, send)
				}
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func TestClientRefusesARogueUpstream(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	part := func(p wire.Part, body string) func(func(wire.Message, uint32, bool, []byte), uint32) {
		return func(send func(wire.Message, uint32, bool, []byte), id uint32) {
			p.Length = len(body)
			send(&wire.Content{Parts: []wire.Part{p}}, id, false, []byte(body))
		}
	}
	type sender = func(wire.Message, uint32, bool, []byte)
	for what, play := range map[string]func(send sender, id uint32){
		"the wrong item":            part(wire.Part{Index: 1, Head: wire.Head{Size: 1}, Last: true}, "x"),
		"more than its size":        part(wire.Part{Index: 0, Head: wire.Head{Size: 2}, Last: true}, "xyz"),
		"less than its size":        part(wire.Part{Index: 0, Head: wire.Head{Size: 9}, Last: true}, "xyz"),
		"bytes of an absent item":   part(wire.Part{Index: 0, Head: wire.Head{Status: wire.StatusAbsent}, Last: true}, "x"),
		"an absent item that lasts": part(wire.Part{Index: 0, Head: wire.Head{Status: wire.StatusAbsent}}, ""),
		"a delta without seeds":     part(wire.Part{Head: wire.Head{Form: wire.FormDelta, Needs: 1, Carries: 1, Size: 9}, Last: true}, "x"),
		"an offer without seeds":    part(wire.Part{Head: wire.Head{Form: wire.FormOffer, Offer: []byte("o"), Size: 9}, Last: true}, ""),
		"a packed body of rubbish": func(send sender, id uint32) {
			send(&wire.Content{Raw: 100, Parts: []wire.Part{{Head: wire.Head{Size: 100}, Length: 100, Last: true}}}, id, false, []byte("rubbish"))
		},
		"a packed body of more than it says": func(send sender, id uint32) {
			bomb := encoder().EncodeAll(make([]byte, 1<<26), nil)
			send(&wire.Content{Raw: wire.MaxBody, Parts: []wire.Part{{Head: wire.Head{Size: 1 << 26}, Length: wire.MaxBody}}}, id, false, bomb)
		},
		"a packed body of less": func(send sender, id uint32) {
			send(&wire.Content{Raw: 100, Parts: []wire.Part{{Head: wire.Head{Size: 100}, Length: 100, Last: true}}}, id, false, encoder().EncodeAll(make([]byte, 99), nil))
		},
		"an endless empty item": func(send sender, id uint32) {
			send(&wire.Content{Parts: []wire.Part{{Index: 0, Head: wire.Head{Size: 5}}, {Index: 0}, {Index: 0}}}, id, true, nil)
		},
		"an end before the last item": func(send sender, id uint32) {
			send(&wire.Content{Parts: []wire.Part{{Index: 0, Last: true}}}, id, true, nil)
		},
		"items after the last": func(send sender, id uint32) {
			send(&wire.Content{Parts: []wire.Part{{Index: 0, Last: true}, {Index: 1, Last: true}, {Index: 2, Last: true}}}, id, true, nil)
		},
		"parts and body that differ": func(send sender, id uint32) {
			send(&wire.Content{Parts: []wire.Part{{Index: 0, Head: wire.Head{Size: 5}, Length: 5, Last: true}}}, id, true, []byte("four"))
		},
		"a page for content": func(send sender, id uint32) { send(&wire.DiffPage{}, id, true, nil) },
		"a stream never asked for": func(send sender, id uint32) {
			send(&wire.Content{}, id+50, true, nil)
		},
		"an error that goes on": func(send sender, id uint32) { send(wire.Errorf(wire.CodeBusy, "x"), id, false, nil) },
		"content without credit": func(send sender, id uint32) {
			p := wire.Part{Index: 0, Head: wire.Head{Size: 1 << 40}, Length: wire.MaxBody}
			for range allWindows/wire.MaxBody + 2 {
				send(&wire.Content{Parts: []wire.Part{p}}, id, false, make([]byte, wire.MaxBody))
				p.Size = 0
			}
		},
	} {
		addr := rogue(t, w, func(f wire.Frame, send func(wire.Message, uint32, bool, []byte)) {
			if f.Type == wire.TypeContentRequest {
				play(send, f.Stream)
			}
		})
		s, err := Dial(t.Context(), w.branch, hubID, []string{addr})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		stall := what == "content without credit"
		err = s.Content(ctx, docs, items(2), func(d Delivery, r io.Reader) error {
			if stall { // what comes is not read, so no credit is given
				<-s.firstData().life.Done()
				return s.firstData().reason()
			}
			return drain(d, r)
		})
		if !isCode(err, wire.CodeProtocol) {
			t.Errorf("%s: %v", what, err)
		}
		cancel()
		s.Close()
	}
}

func (s *Session) firstData() *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data[0]
}

func TestClientRefusesARogueGreeting(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	for what, c := range map[string]struct {
		spoil func(*wire.Hello)
		code  wire.Code
	}{
		"another id":      {func(h *wire.Hello) { h.Member = brID }, wire.CodeIdentity},
		"another domain":  {func(h *wire.Hello) { h.Domain = repl.GUID{5} }, wire.CodeIdentity},
		"another version": {func(h *wire.Hello) { h.Min, h.Max = 3, 4 }, wire.CodeVersion},
	} {
		h := &wire.Hello{Min: 1, Max: 1, Member: hubID, Domain: domain}
		c.spoil(h)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			raw, err := l.Accept()
			if err != nil {
				return
			}
			conn := tls.Server(raw, w.hub.Identity.ServerTLS(pki.Policy{Now: time.Now}))
			b, err := wire.Append(nil, h, 0, false, 0)
			if err != nil {
				t.Error(err)
			}
			_, _ = wire.NewReader(conn).Next()
			_, _ = conn.Write(b)
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}()
		if _, err := Dial(t.Context(), w.branch, hubID, []string{l.Addr().String()}); !isCode(err, c.code) {
			t.Errorf("%s: %v", what, err)
		}
		_ = l.Close()
		<-done
	}
	addr := rogue(t, w, func(f wire.Frame, send func(wire.Message, uint32, bool, []byte)) {
		if f.Type == wire.TypeRecordsRequest {
			send(&wire.RecordsReply{Answered: 5}, f.Stream, true, nil)
		}
		if f.Type == wire.TypeStatusRequest {
			send(&wire.BarrierReply{}, f.Stream, true, nil)
		}
	})
	s, err := Dial(t.Context(), w.branch, hubID, []string{addr})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Records(t.Context(), docs, []repl.UID{repl.UID(gvsn(9))}); err == nil {
		t.Error("an answer about more than was asked is accepted")
	}
	if _, err := s.Status(t.Context(), docs); !isCode(err, wire.CodeProtocol) {
		t.Errorf("another answer than asked: %v", err)
	}
	<-s.Done()
}
