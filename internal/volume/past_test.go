package volume

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLongPiecesGoPastTheCache: what is put together in long pieces and read in them is the same with a kernel that can do it past its cache
// and with one that cannot, and there it is not left in the cache.
func TestLongPiecesGoPastTheCache(t *testing.T) {
	v, err := Open(t.TempDir(), Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	can := !v.past.refused.Load()
	for _, name := range []string{"past", "through"} {
		if name == "through" {
			v.past.refused.Store(true)
		}
		const size = 8 * pastFrom
		want := make([]byte, size+100)
		_, _ = rand.NewChaCha8([32]byte{1}).Read(want)
		clear(want[3*pastFrom+8192 : 3*pastFrom+65536]) // a hole amidst a piece
		made, err := v.NewTemp(int64(len(want)), nil)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(want); at += pastFrom {
			if _, err := made.WriteAt(want[at:min(at+pastFrom, len(want))], int64(at)); err != nil {
				t.Fatal(err)
			}
		}
		if err := made.Sync(); err != nil {
			t.Fatal(err)
		}
		fd := made.(*temp).fd.get()
		cached := cachedBytes(t, fd)
		got := make([]byte, len(want))
		for at := 0; at < len(got); at += pastFrom {
			if n, err := readThrough(&v.past, fd, name, got[at:min(at+pastFrom, len(got))], int64(at)); err != nil {
				t.Fatalf("%d bytes at %d: %v", n, at, err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s the cache other bytes are read than were written", name)
		}
		if cached >= 0 && name == "past" && can && !v.past.refused.Load() && cached > size/2 {
			t.Errorf("%d of %d bytes are in the cache that went past it", cached, len(want))
		}
		if cached >= 0 && name == "through" && v.features.Filesystem == "ext4" && cached < size/2 {
			t.Errorf("%d of %d bytes are in the cache that went through it: the count tells nothing", cached, len(want))
		}
		if err := made.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// cachedBytes is how much of a file the kernel's cache holds; -1 if it does not tell.
func cachedBytes(t *testing.T, fd int) int64 {
	t.Helper()
	var st unix.Cachestat_t
	if err := unix.Cachestat(uint(fd), &unix.CachestatRange{}, &st, 0); err != nil {
		t.Logf("cachestat: %v", err)
		return -1
	}
	return int64(st.Cache) * int64(unix.Getpagesize())
}
