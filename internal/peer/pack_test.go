package peer

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"opendfs/internal/wire"
)

// What shrinks travels packed, what does not as it is; both arrive as they were.
func TestContentIsPackedWhereItShrinks(t *testing.T) {
	w := newWorld(t, "127.0.0.1:0", nil)
	text := bytes.Repeat([]byte("a line of text that is said again and again, with hardly a change\n"), 40_000)
	noise := random(3 << 20)
	w.shelf.content = func(_ context.Context, it wire.ContentItem) (ContentSource, wire.Status) {
		if it.UID.Version == 9 {
			return source(text, it.Offset), wire.StatusOK
		}
		return source(noise, it.Offset), wire.StatusOK
	}
	s := w.dial()
	came := func(i int, want []byte) uint64 {
		t.Helper()
		before := w.branch.Meter.Partner(hubID).In()
		err := s.Content(t.Context(), docs, items(i)[i-1:], func(_ Delivery, r io.Reader) error {
			got, err := io.ReadAll(r)
			if err == nil && !bytes.Equal(got, want) {
				t.Errorf("item %d came as %d other bytes", i, len(got))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return w.branch.Meter.Partner(hubID).In() - before
	}
	if n := came(1, text); n > uint64(len(text)/10) {
		t.Errorf("%d bytes came for %d of text", n, len(text))
	}
	if n := came(2, noise); n < uint64(len(noise)) || n > uint64(len(noise))+50_000 {
		t.Errorf("%d bytes came for %d of noise", n, len(noise))
	}
}

// While the link is slower than packing, packing stays; otherwise the faster way
// stays for a while and is then tried again. A window that is unlike the others does not
// decide.
func TestPackingStaysWhereItIsFaster(t *testing.T) {
	var p packer
	window := func(spent, took time.Duration) bool {
		p.raw, p.spent = packWindow, spent
		p.judge(took)
		return !p.off
	}
	// measured plays the windows of both ways; one of each is disturbed.
	measured := func(packed, plain time.Duration) bool {
		t.Helper()
		for i := range packTries {
			if p.off {
				t.Fatal("packing is not what is measured first")
			}
			if i == 1 {
				window(packed, 10*packed)
				window(0, plain/20)
				continue
			}
			window(packed/2, packed)
			if !p.off {
				t.Fatal("the other way is not measured on a fast link")
			}
			window(0, plain)
		}
		return !p.off
	}
	stays := func() {
		t.Helper()
		was := p.off
		for i := range packStay - 1 {
			if window(0, 20*time.Millisecond); p.off != was {
				t.Fatalf("measured again after %d windows", i)
			}
		}
		if !window(0, 20*time.Millisecond) {
			t.Fatal("not measured again")
		}
	}
	for range 10 {
		if !window(50*time.Millisecond, time.Second) {
			t.Fatal("not packed on a slow link")
		}
	}
	if measured(70*time.Millisecond, 20*time.Millisecond) {
		t.Fatal("packed although that is slower")
	}
	stays()
	if measured(70*time.Millisecond, 80*time.Millisecond) {
		t.Fatal("packed although that is hardly faster")
	}
	stays()
	if !measured(70*time.Millisecond, 200*time.Millisecond) {
		t.Fatal("not packed although that is faster")
	}
	stays()
}
