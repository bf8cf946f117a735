package e2e

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// delayLimit bounds what one direction of a delayed connection holds: 64 KiB pieces, far more than 1 Gbit/s x 100 ms.
const delayLimit = 4096

// delayed listens on this machine's loopback and passes every connection on to target, each piece half a round trip late. The
// kernel's own delay (netem) is not there everywhere. It gives the address to dial.
func delayed(t testing.TB, target string, roundTrip time.Duration) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			go late(out, in, roundTrip/2)
			go late(in, out, roundTrip/2)
		}
	}()
	return ln.Addr().String()
}

// piece is what one read brought, and when it is due.
type piece struct {
	data []byte
	due  time.Time
}

// late copies from src to dst, each piece d after it was read, and closes both when either ends.
func late(dst, src net.Conn, d time.Duration) {
	defer dst.Close()
	defer src.Close()
	line := make(chan piece, delayLimit)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		defer close(line)
		for {
			buf := make([]byte, 64<<10)
			n, err := src.Read(buf)
			if n > 0 {
				select {
				case line <- piece{buf[:n], time.Now().Add(d)}:
				case <-stop:
					return
				}
			}
			if err != nil && !errors.Is(err, io.EOF) || err == io.EOF {
				return
			}
		}
	}()
	for p := range line {
		if wait := time.Until(p.due); wait > 0 {
			<-time.After(wait)
		}
		if _, err := dst.Write(p.data); err != nil {
			return
		}
	}
}
