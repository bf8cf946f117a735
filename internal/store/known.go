package store

import (
	"encoding/binary"
	"errors"

	"opendfs/internal/version"
)

// known is the value of a vector row: what is known of one originator.
type known struct {
	top       uint64
	intervals []version.Interval
}

func appendKnown(b []byte, k known) []byte {
	b = binary.AppendUvarint(b, k.top)
	b = binary.AppendUvarint(b, uint64(len(k.intervals)))
	last := uint64(0)
	for _, iv := range k.intervals {
		b = binary.AppendUvarint(b, iv.Low-last)
		b = binary.AppendUvarint(b, iv.High-iv.Low)
		last = iv.High
	}
	return b
}

func decodeKnown(b []byte) (known, error) {
	d := decoder{b: b}
	k := known{top: d.uvarint()}
	count := d.uvarint()
	if d.err == nil && count > uint64(len(d.b))/2 {
		d.fail(errors.New("bad count of intervals"))
	}
	last := uint64(0)
	for i := uint64(0); i < count && d.err == nil; i++ {
		gap, length := d.uvarint(), d.uvarint()
		low := last + gap
		high := low + length
		if low < last || high <= low || i > 0 && gap == 0 {
			d.fail(errors.New("bad interval"))
			break
		}
		k.intervals = append(k.intervals, version.Interval{Low: low, High: high})
		last = high
	}
	return k, d.end()
}

func appendCounts(b []byte, c Counts) []byte {
	for _, n := range [...]int64{c.Files, c.Directories, c.Links, c.Bytes, c.Tombstones, c.Merged, c.Provisional, c.Carried} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

func decodeCounts(b []byte) (Counts, error) {
	d := decoder{b: b}
	var c Counts
	for _, n := range [...]*int64{&c.Files, &c.Directories, &c.Links, &c.Bytes, &c.Tombstones, &c.Merged, &c.Provisional, &c.Carried} {
		*n = int64(d.uvarint())
	}
	return c, d.end()
}
