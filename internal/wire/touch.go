package wire

import (
	"encoding/binary"

	"opendfs/internal/repl"

	"github.com/zeebo/blake3"
)

// Touch marks an update of a page that changes nothing but the mtime and travels
// short: of it only UID, GVSN and Mtime are set. The receiver makes the rest of its own
// record of the object (repl.Touch), and has it right if Check says so.
type Touch struct {
	At    int    // in the page's Updates
	Check uint64 // of the update as it is, by the page's Salt
}

// Short is what of an update travels as a touch.
func Short(u *repl.Update) repl.Update {
	return repl.Update{UID: u.UID, GVSN: u.GVSN, Mtime: u.Mtime}
}

// CheckOf is what a Touch says of an update: the first 8 bytes of BLAKE3 over the salt
// and the page that holds the update alone. Nobody who writes files knows the salt, so
// nobody can make two updates that look alike. An update that cannot be is an error.
func CheckOf(salt [16]byte, u *repl.Update) (uint64, error) {
	page, err := encodePage([]repl.Update{*u}, nil)
	if err != nil {
		return 0, err
	}
	sum := blake3.Sum256(append(salt[:], page...))
	return binary.BigEndian.Uint64(sum[:]), nil
}
