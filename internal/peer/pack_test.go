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
// stays for a while and is then tried again.
func TestPackingStaysWhereItIsFaster(t *testing.T) {
	var p packer
	window := func(spent, took time.Duration) bool {
		p.raw, p.spent = packWindow, spent
		p.judge(took)
		return !p.off
	}
	for range 10 {
		if !window(50*time.Millisecond, time.Second) {
			t.Fatal("not packed on a slow link")
		}
	}
	if window(60*time.Millisecond, 70*time.Millisecond) {
		t.Fatal("the other way is not measured on a fast link")
	}
	if window(0, 20*time.Millisecond) {
		t.Fatal("packed although that is slower")
	}
	for i := range packStay - 1 {
		if window(0, 20*time.Millisecond) {
			t.Fatalf("packed again after %d windows", i)
		}
	}
	if !window(0, 20*time.Millisecond) || window(60*time.Millisecond, 70*time.Millisecond) {
		t.Fatal("not measured again")
	}
	if !window(0, 200*time.Millisecond) {
		t.Fatal("not packed although that is faster")
	}
	for range packStay {
		window(60*time.Millisecond, 70*time.Millisecond)
	}
	if window(60*time.Millisecond, 70*time.Millisecond) {
		t.Fatal("not measured once more")
	}
	if window(0, 80*time.Millisecond) {
		t.Fatal("packed although that is hardly faster")
	}
}
