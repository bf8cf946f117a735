package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// packEvent lays an event out as the kernel does.
func packEvent(ev event) []byte {
	b := make([]byte, metadataSize)
	b[4] = unix.FANOTIFY_METADATA_VERSION
	binary.LittleEndian.PutUint16(b[6:], metadataSize)
	binary.LittleEndian.PutUint64(b[8:], ev.mask)
	binary.LittleEndian.PutUint32(b[16:], 0xffffffff) // FAN_NOFD
	binary.LittleEndian.PutUint32(b[20:], uint32(ev.pid))
	first := byte(unix.FAN_EVENT_INFO_TYPE_DFID_NAME)
	if ev.newDir != nil {
		first = unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME
	}
	b = packRecord(b, first, ev.dir, ev.name)
	b = packRecord(b, unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, ev.newDir, ev.newName)
	b = packRecord(b, unix.FAN_EVENT_INFO_TYPE_FID, ev.child, nil)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	return b
}

func packRecord(b []byte, kind byte, handle, name []byte) []byte {
	if handle == nil {
		return b
	}
	r := make([]byte, infoHandleAt, 64)
	r[0] = kind
	binary.LittleEndian.PutUint32(r[12:], uint32(len(handle)-4))
	r = append(r, handle...)
	if name != nil {
		r = append(append(r, name...), 0)
	}
	for len(r)%4 != 0 {
		r = append(r, 0)
	}
	binary.LittleEndian.PutUint16(r[2:], uint16(len(r)))
	return append(b, r...)
}

func testHandle(i int) []byte {
	h := make([]byte, 12)
	h[0] = 1
	binary.LittleEndian.PutUint32(h[4:], uint32(i))
	return h
}

func TestDecodeReadsWhatTheKernelWrites(t *testing.T) {
	events := []event{
		{mask: unix.FAN_CLOSE_WRITE, pid: 7, dir: testHandle(1), name: []byte("a"), child: testHandle(2)},
		{mask: unix.FAN_RENAME | unix.FAN_ONDIR, dir: testHandle(1), name: []byte("old"),
			newDir: testHandle(3), newName: []byte("new name"), child: testHandle(4)},
		{mask: unix.FAN_ATTRIB, child: testHandle(5)},
		{mask: unix.FAN_Q_OVERFLOW},
	}
	var b []byte
	for _, ev := range events {
		b = append(b, packEvent(ev)...)
	}
	for _, want := range events {
		got, rest, err := decode(b)
		must(t, err)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("decoded %+v, want %+v", got, want)
		}
		b = rest
	}
	if len(b) != 0 {
		t.Errorf("%d bytes are left", len(b))
	}
}

func TestDecodeRefusesEveryCut(t *testing.T) {
	whole := packEvent(event{mask: unix.FAN_RENAME, dir: testHandle(1), name: []byte("old"),
		newDir: testHandle(3), newName: []byte("new"), child: testHandle(4)})
	for n := 1; n < len(whole); n++ {
		if _, _, err := decode(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes were accepted", n, len(whole))
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(packEvent(event{mask: unix.FAN_CREATE, dir: testHandle(1), name: []byte("a"), child: testHandle(2)}))
	f.Add(packEvent(event{mask: unix.FAN_RENAME, dir: testHandle(1), name: []byte("a"),
		newDir: testHandle(1), newName: []byte("b"), child: testHandle(2)}))
	f.Add(packEvent(event{mask: unix.FAN_Q_OVERFLOW}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			ev, rest, err := decode(b)
			if err != nil {
				return
			}
			if len(b)-len(rest) < metadataSize {
				t.Fatalf("an event of %d bytes", len(b)-len(rest))
			}
			for _, name := range [][]byte{ev.name, ev.newName} {
				if len(name) > maxName || bytes.ContainsAny(name, "/\x00") {
					t.Fatalf("name %q", name)
				}
			}
			for _, h := range [][]byte{ev.dir, ev.newDir, ev.child} {
				if h != nil && (len(h) <= 4 || len(h) > 4+maxHandle) {
					t.Fatalf("handle of %d bytes", len(h))
				}
			}
			b = rest
		}
	})
}

func FuzzDecodeInotify(f *testing.F) {
	ev := make([]byte, 32)
	ev[0], ev[4], ev[12], ev[16] = 1, unix.IN_CLOSE_WRITE, 16, 'a'
	f.Add(ev)
	f.Add(append(ev, ev...))
	f.Add(ev[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			ev, rest, err := decodeWatch(b)
			if err != nil {
				return
			}
			if len(rest) > len(b)-unix.SizeofInotifyEvent || len(ev.name) > maxName || bytes.ContainsAny(ev.name, "/\x00") {
				t.Fatalf("%+v, %d of %d bytes left", ev, len(rest), len(b))
			}
			b = rest
		}
	})
}

// cannedEvents is what a burst of new files looks like: CREATE|CLOSE_WRITE and
// an ATTRIB for each of n files in dirs directories.
func cannedEvents(n, dirs int) (b []byte, count int) {
	for i := range n {
		ev := event{dir: testHandle(i % dirs), name: fmt.Appendf(nil, "file-%08d.txt", i), child: testHandle(1<<20 + i)}
		ev.mask = unix.FAN_CREATE | unix.FAN_CLOSE_WRITE
		b = append(b, packEvent(ev)...)
		ev.mask = unix.FAN_ATTRIB
		b = append(b, packEvent(ev)...)
	}
	return b, 2 * n
}

// BenchmarkDecode decodes and delivers 60,000 events to a folder with an empty
// set: bounds, directory look-up, merging and the copies of names.
func BenchmarkDecode(b *testing.B) {
	buf, count := cannedEvents(30000, 500)
	s := &subscriber{names: newNames(defaultMaxNames)}
	g := &group{subs: []*subscriber{s}}
	for i := range 500 {
		h := testHandle(i)
		g.cache.add(&verdict{dir: h, key: string(h), at: []placed{{0, location{inside, fmt.Sprint("dir-", i)}}}})
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, _, err := s.take(); err != nil {
			b.Fatal(err)
		}
		g.deliverAll(buf)
	}
	if got := len(s.dirty); got != count/2 {
		b.Fatalf("%d names, want %d", got, count/2)
	}
	b.ReportMetric(float64(count)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkDecodeForeign is the same for events outside every folder.
func BenchmarkDecodeForeign(b *testing.B) {
	buf, count := cannedEvents(30000, 500)
	g := &group{subs: []*subscriber{}}
	b.ReportAllocs()
	for b.Loop() {
		g.deliverAll(buf)
	}
	b.ReportMetric(float64(count)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkReader creates files from two goroutines on a tmpfs and reads them
// from the journal: the whole way, with the kernel.
func BenchmarkReader(b *testing.B) {
	root := folder(b, filepath.Join(tmpfs(b), "tree"))
	j := open(b, root, Options{Only: Fanotify})
	const perRound = 10000
	read := uint64(1)
	for b.Loop() {
		var wg sync.WaitGroup
		for w := range 2 {
			dir := filepath.Join(root, fmt.Sprint(w))
			must(b, os.MkdirAll(dir, 0o755))
			wg.Go(func() {
				for i := range perRound / 2 {
					fd, err := unix.Open(filepath.Join(dir, fmt.Sprint(i)), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
					if err == nil {
						err = unix.Close(fd)
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		token, err := j.Drain(deadline(b))
		must(b, err)
		for read < token {
			batch, err := j.Next(deadline(b))
			must(b, err)
			read = batch.Token
			if batch.Gap != nil {
				b.Fatal(batch.Gap.Reason)
			}
		}
		must(b, os.RemoveAll(filepath.Join(root, "0")))
		must(b, os.RemoveAll(filepath.Join(root, "1")))
	}
	b.ReportMetric(perRound*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}
