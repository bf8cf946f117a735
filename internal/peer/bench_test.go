package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"opendfs/internal/pki"
	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// endless serves size bytes of the same pattern.
type endless struct {
	left int64
	size int64
	data []byte
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), e.left)], e.data)
	e.left -= int64(n)
	return n, nil
}
func (e *endless) Head() wire.Head { return wire.Head{Size: e.size, Hash: repl.Hash{1}} }
func (e *endless) Close() error    { return nil }

func serveEndless(w *world, size int64) {
	data := random(1 << 20)
	w.shelf.content = func(context.Context, wire.ContentItem) (ContentSource, wire.Status) {
		return &endless{left: size, size: size, data: data}, wire.StatusOK
	}
}

// transfer asks for n items of size bytes in batches over streams at once, and
// returns bytes and items each second.
func transfer(t testing.TB, s *Session, n, batch, streams int) (time.Duration, int64) {
	t.Helper()
	began := time.Now()
	jobs := make(chan int, n/batch+1)
	for at := 0; at < n; at += batch {
		jobs <- min(batch, n-at)
	}
	close(jobs)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var total int64
	for range streams {
		wg.Go(func() {
			for k := range jobs {
				sum := int64(0)
				err := s.Content(t.Context(), docs, items(k), func(_ Delivery, r io.Reader) error {
					m, err := io.Copy(io.Discard, r)
					sum += m
					return err
				})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				total += sum
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return time.Since(began), total
}

func BenchmarkLargeContent(b *testing.B) {
	for _, streams := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			w := newWorld(b, "127.0.0.1:0", nil)
			serveEndless(w, 512<<20)
			s := w.dial()
			b.SetBytes(512 << 20)
			for b.Loop() {
				transfer(b, s, streams, 1, streams)
			}
			b.ReportMetric(float64(b.N*streams)*512*1.048576/b.Elapsed().Seconds(), "MB/s-all")
		})
	}
}

func BenchmarkSmallFiles(b *testing.B) {
	for _, streams := range []int{1, 4} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			w := newWorld(b, "127.0.0.1:0", nil)
			serveEndless(w, 10<<10)
			s := w.dial()
			for b.Loop() {
				transfer(b, s, 100_000, 1000, streams)
			}
			b.ReportMetric(float64(b.N)*100_000/b.Elapsed().Seconds(), "files/s")
		})
	}
}

func BenchmarkOverLongLink(b *testing.B) {
	for _, c := range []struct {
		what                    string
		size                    int64
		n, batch, streams, unit int
	}{
		{"one large stream", 128 << 20, 1, 1, 1, 0},
		{"four large streams", 64 << 20, 4, 1, 4, 0},
		{"small files", 10 << 10, 40_000, 500, 12, 0},
	} {
		b.Run(c.what, func(b *testing.B) {
			w := newWorld(b, "127.0.0.1:0", nil)
			serveEndless(w, c.size)
			p := newDelayProxy(b, w.address, 50*time.Millisecond)
			w.address = p.l.Addr().String()
			s := w.dial()
			for b.Loop() {
				d, n := transfer(b, s, c.n, c.batch, c.streams)
				b.ReportMetric(float64(n)/1e6/d.Seconds(), "MB/s")
			}
		})
	}
}

// Round trips must not set the pace: what fills a link of 100 ms arrives at a
// rate that no question and answer for each file could reach.
func TestLongLinkIsFilled(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	serveEndless(w, 10<<10)
	p := newDelayProxy(t, w.address, 50*time.Millisecond)
	w.address = p.l.Addr().String()
	s := w.dial()
	d, n := transfer(t, s, 4000, 500, 4)
	if n != 4000*10<<10 {
		t.Fatalf("%d bytes came", n)
	}
	if d > 30*time.Second { // with the machine busy; file by file it would be 400 s
		t.Errorf("40 MB in 4,000 files took %v over a link of 100 ms", d)
	}
	t.Logf("4,000 files of 10 KiB at 100 ms: %v, %.0f MB/s", d, float64(n)/1e6/d.Seconds())
}

func TestContentIsExact(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	big := random(1<<20 + 3)
	w.shelf.content = func(_ context.Context, it wire.ContentItem) (ContentSource, wire.Status) {
		return source(big[:int(it.UID.Version-9)*7_001], it.Offset), wire.StatusOK
	}
	s := w.dial()
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			err := s.Content(t.Context(), docs, items(45), func(d Delivery, r io.Reader) error {
				b, err := io.ReadAll(io.LimitReader(r, 1000)) // both ways of reading
				var rest bytes.Buffer
				if err == nil {
					_, err = io.Copy(&rest, r)
				}
				if b = append(b, rest.Bytes()...); !bytes.Equal(b, big[:d.Index*7_001]) {
					t.Errorf("item %d has %d wrong bytes", d.Index, len(b))
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// BenchmarkRawTLS is the calibration: one TLS connection, nothing of ours.
func BenchmarkRawTLS(b *testing.B) {
	w := newWorld(b, "127.0.0.1:0", nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	const total = 512 << 20
	data := random(256 << 10)
	for b.Loop() {
		done := make(chan error, 1)
		go func() {
			raw, err := l.Accept()
			if err != nil {
				done <- err
				return
			}
			c := tls.Server(raw, w.hub.Identity.ServerTLS(pki.Policy{Now: time.Now}))
			for range total / len(data) {
				if _, err = c.Write(data); err != nil {
					break
				}
			}
			done <- errors.Join(err, c.Close())
		}()
		raw, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		c := tls.Client(raw, w.branch.Identity.ClientTLS(pki.Policy{Now: time.Now}, hubID))
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10)); err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(<-done, c.Close()); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(total)
}
