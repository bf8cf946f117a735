package peer

import (
	"context"
	"sync"
	"time"

	"opendfs/internal/repl"
)

// The shape of a paced stream.
const (
	// paceShare of a second's worth is what may pass at once.
	paceShare = 50
	// leastFrame is the least that a frame is cut to, in bytes on the wire: below it
	// headers would be most of what is sent.
	leastFrame = 1280
	// paceSlack is how far a pacer that was late may catch up: with one frame it is
	// what may pass beyond the rate in any span of time.
	paceSlack = time.Second / 50
	// maxLanes is how many groups of one partner may have a rate.
	maxLanes = 1024
)

// Sizes of headers on the wire, in bytes.
const (
	packetHeaders = 14 + 20 + 32 // Ethernet, IPv4, TCP with timestamps
	recordHeaders = 5 + 1 + 16   // TLS 1.3: header, type, tag
	recordSize    = 16 << 10     // of plain text
	usualSegment  = 1448
)

// onWire is what n bytes of frames cost at the interface when TCP sends
// segments of mss bytes.
func onWire(n, mss int) int {
	n += (n + recordSize - 1) / recordSize * recordHeaders
	return n + (n+mss-1)/mss*packetHeaders
}

// pacer lets bytes pass at a rate. Who waits is let through in turns by folder:
// a folder with many streams gets no more than one with one. The zero value has
// no limit. Safe for concurrent use.
type pacer struct {
	mu   sync.Mutex
	rate int64 // guarded by mu; bytes per second, 0: no limit
	// next is when what has passed is paid for: never further behind now than
	// paceSlack. Guarded by mu.
	next time.Time
	// turn is the tag of the last one let through; last the tags of folders since
	// somebody waits. Guarded by mu.
	turn    int64
	last    map[repl.FolderID]int64
	waiting []*paced // guarded by mu; by tag
}

// paced is one frame that waits.
type paced struct {
	tag  int64
	wake chan struct{} // holds one: look again
}

// set changes the rate, in bits per second; 0 is no limit.
func (p *pacer) set(bits uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.rate
	p.rate = int64(min(bits, 1<<60) / 8)
	if bits > 0 {
		p.rate = max(p.rate, 1)
	}
	// What was sent and is not paid for is paid at the new rate.
	if now := time.Now(); p.rate > 0 && p.next.After(now) {
		p.next = now.Add(time.Duration(float64(p.next.Sub(now)) * float64(was) / float64(p.rate)))
	}
	p.wakeFirstLocked()
}

// frame is the most that one frame may cost on the wire, 0 for no limit.
func (p *pacer) frame() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate == 0 {
		return 0
	}
	return int(max(p.rate/paceShare, leastFrame))
}

// charge counts what passes without waiting.
func (p *pacer) charge(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.payLocked(time.Now(), n)
}

func (p *pacer) payLocked(now time.Time, n int) {
	if p.rate == 0 {
		p.next = time.Time{}
		return
	}
	if least := now.Add(-paceSlack); p.next.Before(least) {
		p.next = least
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
}

// wait returns when n bytes of a folder may pass; they are counted then. The
// error is that of ctx.
func (p *pacer) wait(ctx context.Context, folder repl.FolderID, n int) error {
	p.mu.Lock()
	if p.rate == 0 {
		p.mu.Unlock()
		return ctx.Err()
	}
	w := p.enterLocked(folder, n)
	defer p.leave(w)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		var due <-chan time.Time
		if p.waiting[0] == w {
			if p.rate == 0 || !p.next.After(now) {
				p.payLocked(now, n)
				p.turn = w.tag
				p.mu.Unlock()
				return nil
			}
			timer.Reset(p.next.Sub(now))
			due = timer.C
		}
		p.mu.Unlock()
		select {
		case <-due:
		case <-w.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		p.mu.Lock()
	}
}

// enterLocked queues a frame behind those of its folder and fairly among others.
func (p *pacer) enterLocked(folder repl.FolderID, n int) *paced {
	if p.last == nil {
		p.last = make(map[repl.FolderID]int64)
	}
	if len(p.waiting) == 0 && len(p.last) > maxLanes {
		clear(p.last)
	}
	w := &paced{tag: max(p.turn, p.last[folder]) + int64(n), wake: make(chan struct{}, 1)}
	p.last[folder] = w.tag
	at := len(p.waiting)
	for at > 0 && p.waiting[at-1].tag > w.tag {
		at--
	}
	p.waiting = append(p.waiting, nil)
	copy(p.waiting[at+1:], p.waiting[at:])
	p.waiting[at] = w
	return w
}

// leave takes a frame out of the queue and tells the next.
func (p *pacer) leave(w *paced) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.waiting {
		if other == w {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			break
		}
	}
	p.wakeFirstLocked()
}

func (p *pacer) wakeFirstLocked() {
	if len(p.waiting) > 0 {
		select {
		case p.waiting[0].wake <- struct{}{}:
		default:
		}
	}
}

// pacers are what one frame has to pass, one after the other.
type pacers []*pacer

// frame is the most that a frame may cost, 0 for no limit.
func (ps pacers) frame() int {
	least := 0
	for _, p := range ps {
		if n := p.frame(); n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

func (ps pacers) wait(ctx context.Context, folder repl.FolderID, n int) error {
	for _, p := range ps {
		if err := p.wait(ctx, folder, n); err != nil {
			return err
		}
	}
	return nil
}

func (ps pacers) charge(n int) {
	for _, p := range ps {
		p.charge(n)
	}
}
