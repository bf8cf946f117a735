package peer

import (
	"slices"
	"sync"
	"time"

	"opendfs/internal/wire"

	"github.com/klauspost/compress/zstd"
)

// Packing, in bytes of content.
const (
	packLeast  = 512     // below this nothing is tried
	packWindow = 4 << 20 // one measurement
	packTries  = 3       // measurements of each way
	packStay   = 128     // windows until the way that was slower is tried again
	packSlow   = 16      // a link that takes so many times as long as packing is slow
	packRest   = 64      // frames at most that are sent as they are after some that did not shrink
)

// packer packs bodies for one partner while that brings them there faster. It
// begins with packing: on a slow link that is right from the first byte. While
// packing takes more than a packSlow-th of the time, packing and not packing are
// measured in turns over packWindow bytes, packTries times each, and one stays: packing
// if in the middle it is faster by a quarter. Less may be chance, and where the partner is what takes the
// time, packing takes some of it on both sides. What does not shrink is left as it is, and with it more and more of the frames that follow.
type packer struct {
	mu      sync.Mutex
	off     bool
	rest    int // frames to be sent as they are
	resting int // how many that were the last time
	// The window that is measured.
	began time.Time
	raw   int64
	spent time.Duration // on packing
	rates [2][]float64  // bytes each second: packed, not packed
	stay  int           // windows until both are measured again
}

// Packing says whether contents that are asked for may come packed.
type Packing uint8

// The ways of packing.
const (
	PackAuto  Packing = iota // while that brings them here faster
	PackOn                   // whatever shrinks
	PackNever                // not at all
)

var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithWindowSize(contentFrame))
		if err != nil {
			panic("peer: options of the packer: " + err.Error())
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(wire.MaxBody), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic("peer: options of the unpacker: " + err.Error())
		}
		return d
	})
)

// pack returns the packed form of a body, in a buffer of package wire, or nil if
// it is to be sent as it is. With always it is packed if it shrinks at all.
func (p *packer) pack(body []byte, always bool) []byte {
	if len(body) < packLeast || !p.tries(len(body)) && !always {
		return nil
	}
	began := time.Now()
	buf := wire.Buffer(len(body))
	out := encoder().EncodeAll(body, buf[:0])
	shrunk := len(out) < len(body)-len(body)/16 || always && len(out) < len(body)
	p.packed(time.Since(began), shrunk)
	if !shrunk {
		wire.FreeBuffer(buf)
		return nil
	}
	return out
}

// tries counts a body and reports whether it should be packed.
func (p *packer) tries(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began.IsZero() {
		p.began = time.Now()
	}
	if p.raw += int64(n); p.raw >= packWindow {
		p.judge(time.Since(p.began))
		p.began, p.raw, p.spent = time.Now(), 0, 0
	}
	if p.rest > 0 {
		p.rest--
		return false
	}
	return !p.off
}

// packed notes what packing one body came to.
func (p *packer) packed(took time.Duration, shrunk bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spent += took
	if shrunk {
		p.resting = 0
		return
	}
	p.resting = min(max(1, 2*p.resting), packRest)
	p.rest = p.resting
}

// judge decides, at the end of a window, how the next one is sent.
func (p *packer) judge(took time.Duration) {
	way := 0
	if p.off {
		way = 1
	}
	switch {
	case p.stay > 0:
		if p.stay--; p.stay == 0 {
			p.off = false
		}
	case !p.off && p.spent < took/packSlow: // the link is what takes the time
		p.rates = [2][]float64{}
	default:
		p.rates[way] = append(p.rates[way], float64(p.raw)/max(took.Seconds(), 1e-6))
		if p.off = !p.off; len(p.rates[1]) < packTries {
			return
		}
		packed, plain := middle(p.rates[0]), middle(p.rates[1])
		p.off = plain+plain/4 > packed
		p.stay, p.rates = packStay, [2][]float64{}
	}
}

// middle is the median: a measurement during which the partner waited for its disk, or
// in which all went into empty buffers, says nothing.
func middle(rates []float64) float64 {
	slices.Sort(rates)
	return rates[len(rates)/2]
}

// unpack returns the raw bytes of a packed body in a buffer of package wire. A
// body that gives more or fewer is an error.
func unpack(body []byte, raw int) ([]byte, error) {
	buf := wire.Buffer(raw)
	out, err := decoder().DecodeAll(body, buf[:0:raw])
	if err != nil || len(out) != raw {
		wire.FreeBuffer(buf)
		return nil, wire.Errorf(wire.CodeProtocol, "a packed body of %d bytes does not give %d (%v)", len(body), raw, err)
	}
	return buf, nil // decoded in place: it had exactly the room
}
