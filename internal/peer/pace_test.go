package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/wire"

	"golang.org/x/sys/unix"
)

// passed is one frame that a pacer let through.
type passed struct {
	at time.Time
	n  int
}

// shares gives the most of any span of one second, and the least of any ten, as
// parts of the rate in bytes per second.
func shares(list []passed, rate int) (most, least float64) {
	span := func(d time.Duration, each func(sum int)) {
		sum, to := 0, 0
		for from := range list {
			for to < len(list) && list[to].at.Before(list[from].at.Add(d)) {
				sum += list[to].n
				to++
			}
			if to < len(list) {
				each(sum)
			}
			sum -= list[from].n
		}
	}
	least = 99
	span(time.Second, func(sum int) { most = max(most, float64(sum)/float64(rate)) })
	span(10*time.Second, func(sum int) { least = min(least, float64(sum)/float64(rate)/10) })
	return most, least
}

var wiki = repl.FolderID{2}

// A pacer lets pass what its rate allows in every second and no less over ten, in
// turns by folder whatever the number of streams, with what does not wait counted.
func TestPacer(t *testing.T) {
	for _, rate := range []int{64_000, 1_000_000, 32_000_000} { // bytes
		synctest.Test(t, func(t *testing.T) {
			p := new(pacer)
			p.set(uint64(rate) * 8)
			var mu sync.Mutex
			var all []passed
			bytes := make(map[repl.FolderID]int)
			ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
			defer cancel()
			var wg sync.WaitGroup
			stream := func(folder repl.FolderID) {
				for p.wait(ctx, folder, p.frame()) == nil {
					mu.Lock()
					all = append(all, passed{time.Now(), p.frame()})
					bytes[folder] += p.frame()
					mu.Unlock()
				}
			}
			for range 7 {
				wg.Go(func() { stream(docs) })
			}
			wg.Go(func() { stream(wiki) })
			wg.Go(func() { // what goes first
				tick := time.NewTicker(100 * time.Millisecond)
				defer tick.Stop()
				for ctx.Err() == nil {
					<-tick.C
					p.charge(200)
					mu.Lock()
					all = append(all, passed{time.Now(), 200})
					mu.Unlock()
				}
			})
			wg.Wait()
			most, least := shares(all, rate)
			if most > 1.05 || least < 0.95 {
				t.Errorf("rate %d: at most %.3f of it in a second, at least %.3f in ten", rate, most, least)
			}
			if a, b := bytes[docs], bytes[wiki]; a > b*11/10 || b > a*11/10 {
				t.Errorf("rate %d: %d bytes of one folder, %d of the other", rate, a, b)
			}
		})
	}
}

// Who waits goes on at once when the limit is lifted, and stops when it is no
// longer wanted.
func TestPacerChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(pacer)
		p.set(8000)
		if err := p.wait(t.Context(), docs, 100_000); err != nil { // paid for by what follows
			t.Fatal(err)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.wait(ctx, docs, 1); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		done := make(chan error, 1)
		go func() { done <- p.wait(t.Context(), docs, 1) }()
		synctest.Wait()
		p.set(0)
		if err := <-done; err != nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// A frame of content is never more than the share of a second that its rate
// allows, headers counted, and never useless.
func TestFramesFitTheRate(t *testing.T) {
	for _, mss := range []int{536, 1448, 65483} {
		for most := leastFrame; most < 1<<20; most += 997 {
			body := bodyWithin(most, mss)
			if cost := onWire(body+16+partHeader, mss); cost > most && body > leastFrame/4 {
				t.Fatalf("%d bytes of content cost %d of %d at %d a segment", body, cost, most, mss)
			}
			if mss > 1000 && float64(body) < 0.85*float64(most) {
				t.Fatalf("%d bytes of content in a frame of %d at %d a segment", body, most, mss)
			}
		}
	}
}

func pacedWorld(t testing.TB) *world {
	return newWorld(t, "127.0.0.1:0", func(w *world, cfg *ServerConfig) {
		cfg.Group = func(repl.FolderID) repl.GUID { return repl.GUID{7} }
		cfg.Limit = new(Limit)
	})
}

// What a partner grants holds for content, for pages and for whatever is under
// way; everything arrives whole.
func TestPace(t *testing.T) {
	w := pacedWorld(t)
	body := random(300_000)
	w.shelf.content = func(_ context.Context, item wire.ContentItem) (ContentSource, wire.Status) {
		return source(body, item.Offset), wire.StatusOK
	}
	for range 3000 {
		w.shelf.add()
	}
	s := w.dial()
	if err := s.Pace(repl.GUID{7}, 4_000_000); err != nil {
		t.Fatal(err)
	}
	p, err := s.Diff(t.Context(), &wire.DiffRequest{Folder: docs})
	if err != nil || len(p.Updates) > 2500 || !p.More {
		t.Fatalf("a page of %d updates, more: %v, %v", len(p.Updates), p.More, err)
	}
	began := time.Now()
	var got []byte
	err = s.Content(t.Context(), docs, items(1), func(d Delivery, r io.Reader) error {
		got, err = io.ReadAll(r)
		return err
	})
	if took := time.Since(began); err != nil || string(got) != string(body) || took < 400*time.Millisecond {
		t.Errorf("%d bytes in %v, %v; at 4 Mbit/s it takes 0.6 s", len(got), took, err)
	}
	if err := s.Pace(repl.GUID{}, 1); err != nil {
		t.Fatal(err)
	}
	<-s.Done() // a group without an id breaks the protocol
}

// What a session sends beside answers is told as TCP counts it, by folder, and what is
// told to a server takes of the rate that its partner has granted.
func TestWhatASessionSendsIsCharged(t *testing.T) {
	w := pacedWorld(t)
	w.shelf.content = func(_ context.Context, item wire.ContentItem) (ContentSource, wire.Status) {
		return source(random(2_000_000), item.Offset), wire.StatusOK
	}
	var mu sync.Mutex
	told := make(map[repl.FolderID]int)
	w.branch.Sent = func(partner repl.MemberID, folder repl.FolderID, n int) {
		mu.Lock()
		defer mu.Unlock()
		if partner != hubID || n <= 0 {
			t.Errorf("%d bytes to %v", n, partner)
		}
		told[folder] += n
	}
	s := w.dial()
	if err := s.Content(t.Context(), docs, items(1), drain); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	// A handshake and a request at least, and far less than what came.
	if n := told[docs]; n < 1000 || n > 500_000 {
		t.Errorf("%d bytes were told to have been sent, %v", n, told)
	}
	mu.Unlock()
	const rate = 4_000_000
	if err := s.Pace(repl.GUID{7}, rate); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Status(t.Context(), docs); err != nil { // the rate is there
		t.Fatal(err)
	}
	w.server.Charge(brID, docs, rate/8/2)
	began := time.Now()
	if err := s.Content(t.Context(), docs, items(1)[:1], func(_ Delivery, r io.Reader) error {
		_, err := r.Read(make([]byte, 1))
		return errors.Join(err, errEnough)
	}); !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("content comes after %v, although half a second of its rate is spent", took)
	}
}

var errEnough = errors.New("enough was read")

// ethIPv4 is ETH_P_IP in network order.
const ethIPv4 = 0x0008

// sniff records what comes by the loopback interface between ports, as the interface
// counts it.
func sniff(b testing.TB, wanted func(from, to int) bool) (stop func() []passed) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, ethIPv4)
	if err != nil {
		b.Skipf("needs root to see the interface: %v", err)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ethIPv4, Ifindex: lo.Index}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20), unix.SetNonblock(fd, true)); err != nil {
		b.Fatal(err)
	}
	var list []passed
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		head, control := make([]byte, 128), make([]byte, 128)
		for {
			n, m, _, from, err := unix.Recvmsg(fd, head, control, unix.MSG_TRUNC)
			if errors.Is(err, unix.EAGAIN) {
				select {
				case <-end:
					return
				case <-time.After(time.Millisecond):
				}
				continue
			}
			if err != nil {
				return
			}
			if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype == unix.PACKET_HOST && head[23] == unix.IPPROTO_TCP && wanted(int(head[34])<<8|int(head[35]), int(head[36])<<8|int(head[37])) {
				list = append(list, passed{stamp(control[:m]), n})
			}
		}
	}()
	return func() []passed {
		close(end)
		<-done
		_ = unix.Close(fd)
		return list
	}
}

// stamp is when the kernel saw a packet.
func stamp(control []byte) time.Time {
	if list, err := unix.ParseSocketControlMessage(control); err == nil && len(list) == 1 && len(list[0].Data) >= 16 {
		d := list[0].Data
		return time.Unix(int64(binary.NativeEndian.Uint64(d)), int64(binary.NativeEndian.Uint64(d[8:])))
	}
	return time.Now()
}

// BenchmarkPace measures at the interface, by packets with all their headers, what
// a partner sends at a rate with as much backlog as can be: the most in any second
// and the least in any ten, in per cent of the rate. PACE=seconds, 12 by default.
func BenchmarkPace(b *testing.B) {
	seconds := 12
	if v, err := strconv.Atoi(os.Getenv("PACE")); err == nil {
		seconds = v
	}
	for _, rate := range []int{512_000, 8_000_000, 256_000_000} {
		b.Run(fmt.Sprintf("kbps=%d", rate/1000), func(b *testing.B) {
			w := pacedWorld(b)
			serveEndless(w, 1<<40)
			port := portOf(b, w.address)
			s := w.dial()
			if err := s.Pace(repl.GUID{7}, uint64(rate)); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				stop := sniff(b, func(from, _ int) bool { return from == port })
				ctx, cancel := context.WithTimeout(b.Context(), time.Duration(seconds)*time.Second)
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() { _ = s.Content(ctx, docs, items(1), drain) })
				}
				wg.Wait()
				cancel()
				list := stop()
				for len(list) > 0 && list[0].n < leastFrame/2 { // before the first content
					list = list[1:]
				}
				most, least := shares(list, rate/8)
				b.ReportMetric(most*100, "%most/1s")
				b.ReportMetric(least*100, "%least/10s")
				b.ReportMetric(float64(len(list)), "packets")
			}
		})
	}
}

func portOf(t testing.TB, address string) int {
	t.Helper()
	_, text, _ := strings.Cut(address, ":")
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// bothWays makes a hub and a branch that serve and ask each other, each way at a rate
// in bits per second, counted or not, and returns the sessions of branch and hub, and
// the ports of hub and branch.
func bothWays(t testing.TB, down, up uint64, counted bool) (branch, hub *Session, hubPort, branchPort int) {
	t.Helper()
	w := pacedWorld(t)
	serveEndless(w, 1<<40)
	cfg := ServerConfig{
		Config: w.branch, Listen: []string{"127.0.0.1:0"}, Handler: w.shelf, Group: func(repl.FolderID) repl.GUID { return repl.GUID{7} },
		Authorize: func(_ repl.FolderID, m repl.MemberID) bool { return m == hubID },
	}
	back, err := Listen(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- back.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if counted {
		w.branch.Sent, w.hub.Sent = back.Charge, w.server.Charge
	}
	branch = w.dial()
	if hub, err = Dial(t.Context(), w.hub, brID, back.Addresses()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	if err := errors.Join(branch.Pace(repl.GUID{7}, down), hub.Pace(repl.GUID{7}, up)); err != nil {
		t.Fatal(err)
	}
	return branch, hub, portOf(t, w.address), portOf(t, back.Addresses()[0])
}

// BenchmarkPaceBothWays measures at the interface all that goes each way between two
// members that send each other as much as they may: contents, and what the other way
// needs of questions, credit and TCP's acknowledgements. PACE=seconds, 12 by default;
// UNCOUNTED=1 leaves those out of the rates.
func BenchmarkPaceBothWays(b *testing.B) {
	seconds := 12
	if v, err := strconv.Atoi(os.Getenv("PACE")); err == nil {
		seconds = v
	}
	for _, rates := range [][2]int{{512_000, 512_000}, {512_000, 8_000_000}, {8_000_000, 8_000_000}, {256_000_000, 256_000_000}} {
		b.Run(fmt.Sprintf("kbps=%d,%d", rates[0]/1000, rates[1]/1000), func(b *testing.B) {
			branch, hub, hubPort, branchPort := bothWays(b, uint64(rates[0]), uint64(rates[1]), os.Getenv("UNCOUNTED") == "")
			for b.Loop() {
				stopDown := sniff(b, func(from, to int) bool { return from == hubPort || to == branchPort })
				stopUp := sniff(b, func(from, to int) bool { return from == branchPort || to == hubPort })
				ctx, cancel := context.WithTimeout(b.Context(), time.Duration(seconds)*time.Second)
				var wg sync.WaitGroup
				for _, s := range []*Session{branch, hub} {
					for range 4 {
						wg.Go(func() { _ = s.Content(ctx, docs, items(1), drain) })
					}
				}
				wg.Wait()
				cancel()
				for i, list := range [][]passed{stopDown(), stopUp()} {
					for len(list) > 0 && list[0].n < leastFrame/2 { // before the first content
						list = list[1:]
					}
					most, least := shares(list, rates[i]/8)
					way := []string{"down", "up"}[i]
					b.ReportMetric(most*100, "%"+way+"-most/1s")
					b.ReportMetric(least*100, "%"+way+"-least/10s")
				}
			}
		})
	}
}
