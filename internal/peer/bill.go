package peer

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// billEvery is how often at most a connection is asked what it has sent.
const billEvery = 5 * time.Millisecond

// bill counts what a connection sends as the interface does, by what TCP says of it.
// Safe for concurrent use.
type bill struct {
	conn    net.Conn
	headers int // of a packet

	mu      sync.Mutex
	at      time.Time // of the last look
	bytes   uint64
	packets uint32
}

func newBill(c net.Conn) *bill {
	b := &bill{conn: c, headers: packetHeaders}
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil && a.Addr().Is6() && !a.Addr().Is4In6() {
		b.headers += 20 // IPv6's are longer
	}
	return b
}

// since returns what was sent since the last look; 0 if that was just now.
func (b *bill) since(now time.Time) int {
	if !b.mu.TryLock() {
		return 0 // somebody looks
	}
	defer b.mu.Unlock()
	if now.Sub(b.at) < billEvery {
		return 0
	}
	b.at = now
	bytes, packets, ok := outgoing(b.conn)
	if !ok {
		return 0
	}
	n := int(bytes-b.bytes) + int(packets-b.packets)*b.headers
	b.bytes, b.packets = bytes, packets
	return n
}
