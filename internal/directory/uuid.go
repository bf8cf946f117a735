package directory

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
)

// UUID is the id of an object of the directory (RFC 9562). The zero value
// means that none has been given yet; it never names an object.
type UUID [16]byte

// NewUUID draws a version 4 UUID from the 16 bytes that rand gives next.
func NewUUID(rand io.Reader) (UUID, error) {
	var u UUID
	if _, err := io.ReadFull(rand, u[:]); err != nil {
		return UUID{}, fmt.Errorf("draw an id: read random bytes: %w", err)
	}
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u, nil
}

// ParseUUID reads the form 8-4-4-4-12 of hexadecimal digits in either case.
// The zero UUID is refused: it names nothing.
func ParseUUID(s string) (UUID, error) {
	bad := fmt.Errorf("read id %q: not a UUID; write 8-4-4-4-12 hexadecimal digits, or leave the id out to have one drawn", s)
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return UUID{}, bad
	}
	var u UUID
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil || u.IsZero() {
		return UUID{}, bad
	}
	return u, nil
}

// String gives the form 8-4-4-4-12 in lower case.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// IsZero says that no id has been given.
func (u UUID) IsZero() bool { return u == UUID{} }

// Compare orders UUIDs by their bytes: -1, 0 or 1.
func (u UUID) Compare(v UUID) int { return bytes.Compare(u[:], v[:]) }

// MarshalText writes the form of String.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads the form of ParseUUID.
func (u *UUID) UnmarshalText(b []byte) error {
	v, err := ParseUUID(string(b))
	if err != nil {
		return err
	}
	*u = v
	return nil
}
