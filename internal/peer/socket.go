package peer

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tune sets what every connection of ours has. Buffers are only ever enlarged
// past the system's limit, where we may: a buffer set within it would end the
// kernel's own tuning and be worse.
func tune(c syscall.RawConn, dead time.Duration, receive, send int) error {
	var err error
	ctl := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(dead/time.Millisecond))
		if receive > 0 {
			enlarge(int(fd), unix.SO_RCVBUFFORCE, receive)
		}
		if send > 0 {
			enlarge(int(fd), unix.SO_SNDBUFFORCE, send)
		}
	})
	return errors.Join(ctl, err)
}

// enlarge needs CAP_NET_ADMIN; without it the kernel's tuning remains.
func enlarge(fd, option, size int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, size)
}

func tuneConn(c net.Conn, dead time.Duration, receive, send int) error {
	t, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	return tune(raw, dead, receive, send)
}

// outgoing returns what TCP has sent on a connection so far: bytes, and packets, of
// acknowledgements and of what was sent again too; ok is false where it does not say.
// The numbers of packets begin anew past 2^32.
func outgoing(c net.Conn) (bytes uint64, packets uint32, ok bool) {
	t, is := c.(syscall.Conn)
	if !is {
		return 0, 0, false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	cerr := raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			bytes, packets = info.Bytes_sent, info.Segs_out
		}
	})
	return bytes, packets, cerr == nil && err == nil
}

// segment returns how many bytes TCP sends in a packet of a connection.
func segment(c net.Conn) int {
	t, ok := c.(syscall.Conn)
	if !ok {
		return usualSegment
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return usualSegment
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		n, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) // 0 where it is not known
	})
	if err != nil || n <= 0 {
		return usualSegment
	}
	return n
}
