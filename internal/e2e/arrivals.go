package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// arrivals notes when tokens become readable in some directories of one member: inotify tells of a name, then the file is opened and
// read as its user would. A token is the first line of a file; no two versions share one.
type arrivals struct {
	mu   sync.Mutex
	seen map[string]time.Time
	more chan struct{} // a token came; capacity 1
	fd   *os.File
	dirs map[int32]string
	done chan struct{}
}

// watch begins to note arrivals in dirs until the test ends.
func watch(t testing.TB, dirs ...string) *arrivals {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	a := &arrivals{
		seen: map[string]time.Time{}, more: make(chan struct{}, 1), done: make(chan struct{}),
		fd: os.NewFile(uintptr(fd), "inotify"), dirs: map[int32]string{},
	}
	for _, dir := range dirs {
		wd, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE|unix.IN_ATTRIB)
		if err != nil {
			t.Fatalf("watch %s: %v", dir, err)
		}
		a.dirs[int32(wd)] = dir
	}
	go a.run()
	t.Cleanup(func() {
		a.fd.Close()
		<-a.done
	})
	return a
}

func (a *arrivals) run() {
	defer close(a.done)
	buf := make([]byte, 256<<10)
	for {
		n, err := a.fd.Read(buf)
		if err != nil {
			return
		}
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			wd := int32(binary.NativeEndian.Uint32(buf[at:]))
			size := int(binary.NativeEndian.Uint32(buf[at+12:]))
			name := strings.TrimRight(string(buf[at+unix.SizeofInotifyEvent:at+unix.SizeofInotifyEvent+size]), "\x00")
			at += unix.SizeofInotifyEvent + size
			a.read(filepath.Join(a.dirs[wd], name))
		}
	}
}

func (a *arrivals) read(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	now := time.Now()
	token, _, whole := strings.Cut(string(text), "\n")
	if !whole {
		return
	}
	a.mu.Lock()
	if _, ok := a.seen[token]; !ok {
		a.seen[token] = now
	}
	a.mu.Unlock()
	select {
	case a.more <- struct{}{}:
	default:
	}
}

// when is the time at which a token became readable.
func (a *arrivals) when(token string) (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.seen[token]
	return at, ok
}

// await waits for one token.
func (a *arrivals) await(token string, limit time.Duration) (time.Time, error) {
	end := time.NewTimer(limit)
	defer end.Stop()
	for {
		if at, ok := a.when(token); ok {
			return at, nil
		}
		select {
		case <-a.more:
		case <-end.C:
			return time.Time{}, fmt.Errorf("%q is not readable after %v", token, limit)
		}
	}
}

// closeFile writes a file of size bytes that begins with token, closes it, and says when.
func closeFile(path, token string, size int) (time.Time, error) {
	text := make([]byte, size)
	n := copy(text, token+"\n")
	scribble(random(uint64(size), token), text[n:])
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return time.Time{}, err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Close())
	return time.Now(), err
}
