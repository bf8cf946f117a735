// Package version holds the two numbers that replication is built on: the
// global version sequence number (GVSN), which names one update for ever, and
// the version vector, which says what a member knows.
//
// A GVSN is a pair of an originator (the GUID of the database that minted the
// update) and a 64-bit counter of that database. Exactly one database creates
// a given GVSN ([MS-FRS2] 3.3.4.6.2). A vector holds for each originator a set
// of half-open intervals (low, high] ([MS-FRS2] 2.2.1.4.1).
//
// Everything here is a value: no clock, no randomness, no file.
package version

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// FirstVersion is the first counter value that names a file; 0 to 8 are
// reserved ([MS-FRS2] 3.3.4.6.2).
const FirstVersion = 9

// Originator is the GUID of a database that mints updates. The zero value is
// no originator.
type Originator [16]byte

// IsZero reports whether o names no database.
func (o Originator) IsZero() bool { return o == Originator{} }

// Compare orders originators by their bytes, unsigned ([MS-FRS2] 3.3.4.6.1).
func (o Originator) Compare(p Originator) int { return bytes.Compare(o[:], p[:]) }

// String prints the GUID as 8-4-4-4-12 hexadecimal digits.
func (o Originator) String() string {
	var b [36]byte
	hex.Encode(b[0:8], o[0:4])
	hex.Encode(b[9:13], o[4:6])
	hex.Encode(b[14:18], o[6:8])
	hex.Encode(b[19:23], o[8:10])
	hex.Encode(b[24:36], o[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// ParseOriginator reads the form that String prints.
func ParseOriginator(s string) (Originator, error) {
	var o Originator
	plain := strings.ReplaceAll(s, "-", "")
	if len(s) != 36 || len(plain) != 32 {
		return o, fmt.Errorf("parse GUID %q: want 8-4-4-4-12 hexadecimal digits", s)
	}
	if _, err := hex.Decode(o[:], []byte(plain)); err != nil {
		return Originator{}, fmt.Errorf("parse GUID %q: %w", s, err)
	}
	return o, nil
}

// GVSN names one update for ever. The zero value is no update.
type GVSN struct {
	Originator Originator
	Version    uint64
}

// IsZero reports whether g names no update.
func (g GVSN) IsZero() bool { return g == GVSN{} }

// Compare orders GVSNs by originator bytes, then by version ([MS-FRS2]
// 3.3.4.6.1).
func (g GVSN) Compare(h GVSN) int {
	if c := g.Originator.Compare(h.Originator); c != 0 {
		return c
	}
	switch {
	case g.Version < h.Version:
		return -1
	case g.Version > h.Version:
		return 1
	}
	return 0
}

// String prints the GUID, "-v" and the counter, as DFSR's own logs do.
func (g GVSN) String() string {
	return g.Originator.String() + "-v" + strconv.FormatUint(g.Version, 10)
}

// ParseGVSN reads the form that String prints.
func ParseGVSN(s string) (GVSN, error) {
	guid, counter, ok := strings.Cut(s, "-v")
	if !ok {
		return GVSN{}, fmt.Errorf("parse GVSN %q: want GUID-vNUMBER", s)
	}
	o, err := ParseOriginator(guid)
	if err != nil {
		return GVSN{}, err
	}
	v, err := strconv.ParseUint(counter, 10, 64)
	if err != nil {
		return GVSN{}, fmt.Errorf("parse GVSN %q: %w", s, err)
	}
	return GVSN{o, v}, nil
}
