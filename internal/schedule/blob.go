package schedule

import "fmt"

// BlobSize is the size of Active Directory's form in bytes.
const BlobSize = slots / 2

// FromBlob reads Active Directory's form: two quarter hours to a byte (MS-FRS2 section 2.3.11 has four in 16 bits), the earlier
// one in the high nibble, from Sunday 00:00 on. utc says what the group's options
// say beside it.
func FromBlob(b []byte, utc bool) (*Schedule, error) {
	if len(b) != BlobSize {
		return nil, fmt.Errorf("read schedule: %d bytes; a schedule has %d", len(b), BlobSize)
	}
	s := &Schedule{utc: utc}
	for i, c := range b {
		s.week[2*i], s.week[2*i+1] = Levels[c>>4], Levels[c&15]
	}
	return s, nil
}

// Blob gives Active Directory's form. exact is false if a rate is none of DFSR's
// levels: the level below it stands in its place, the lowest open one for what is
// slower than that.
func (s *Schedule) Blob() (b []byte, exact bool) {
	s = s.orOpen()
	b, exact = make([]byte, BlobSize), true
	for i, r := range s.week {
		level := r.Level()
		if level == 0 && r > Closed {
			level = 1
		}
		exact = exact && Levels[level] == r
		b[i/2] |= level << (4 * (1 - i%2))
	}
	return b, exact
}
