package e2e

import (
	"os"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readCount counts, by fanotify, the times that regular files of one filesystem are read. Reads of one file that nobody has fetched yet may be
// counted once; none is counted as none.
type readCount struct {
	events atomic.Int64
	file   *os.File
}

// countReads begins to count on the filesystem of dir, until the test ends.
func countReads(t testing.TB, dir string) *readCount {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_REPORT_FID|unix.FAN_UNLIMITED_QUEUE|unix.FAN_NONBLOCK|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		t.Fatalf("fanotify: %v", err)
	}
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_ACCESS, unix.AT_FDCWD, dir); err != nil {
		t.Fatalf("fanotify mark on %s: %v", dir, err)
	}
	r := &readCount{file: os.NewFile(uintptr(fd), "fanotify")}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, err := r.file.Read(buf)
			if err != nil {
				return
			}
			for at := 0; at+int(unsafe.Sizeof(unix.FanotifyEventMetadata{})) <= n; {
				event := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&buf[at]))
				r.events.Add(1)
				at += int(event.Event_len)
			}
		}
	}()
	t.Cleanup(func() {
		r.file.Close()
		<-done
	})
	return r
}
