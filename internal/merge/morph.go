package merge

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"unicode/utf8"

	"opendfs/internal/repl"
)

// How a directory is called that could not keep its name where both stay: as FRS
// called it, and at most as long as Linux filesystems take.
const (
	morphMark = "_NTFRS_"
	morphName = 255 // bytes
	morphMax  = morphName - len(morphMark) - 8
	maxMorphs = 64 // how often one directory may be renamed so, one after the other
)

// Morphed returns the name that a directory gets when another one keeps or takes
// its own: NAME_NTFRS_xxxxxxxx with eight hexadecimal digits that follow from its
// UID, so that every member gives it the same (docs/formats/names.md). Where it
// has such a name already, it gets the next one.
func Morphed(name string, uid repl.UID) string {
	base := name
	n := uint32(0)
	if at := len(name) - len(morphMark) - 8; at > 0 {
		for try := range uint32(maxMorphs) {
			if name[at:] == morphMark+morphDigits(uid, try) {
				base, n = name[:at], try+1
				break
			}
		}
	}
	if len(base) > morphMax {
		base = base[:morphMax]
		for utf8.ValidString(name) && !utf8.ValidString(base) {
			base = base[:len(base)-1] // half a character
		}
	}
	return base + morphMark + morphDigits(uid, n)
}

// morphDigits is the FNV-1a of the originator's 16 bytes, the version and the
// count, both big-endian, in hexadecimal.
func morphDigits(uid repl.UID, n uint32) string {
	h := fnv.New32a()
	b := append(make([]byte, 0, 28), uid.Originator[:]...)
	b = binary.BigEndian.AppendUint64(b, uid.Version)
	b = binary.BigEndian.AppendUint32(b, n)
	_, _ = h.Write(b) // a hash takes everything
	return fmt.Sprintf("%08x", h.Sum32())
}
