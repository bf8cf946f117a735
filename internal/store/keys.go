package store

import (
	"encoding/binary"
	"errors"
	"math/bits"

	"opendfs/internal/filter"
	"opendfs/internal/repl"

	"github.com/cespare/xxhash/v2"
)

// The first byte of every key, and the table letter of a folder's rows; see
// docs/formats/records.md.
const (
	keyGate       byte = 0x00
	keyOriginator byte = 0x01
	keyFolder     byte = 0x02
	keyRows       byte = 0x10

	tableState   byte = 'S'
	tableCounts  byte = 'N'
	tableFloor   byte = 'F'
	tableKnown   byte = 'K'
	tablePartner byte = 'P'
	tableIntent  byte = 'I'
	tableRecord  byte = 'r'
	tableVersion byte = 'v'
	tableName    byte = 'n'
	tableFolded  byte = 'f'
	tableGrave   byte = 'd'
	tableHandle  byte = 'h'
	tableContent byte = 'c'
	tableAlias   byte = 'a'
	tableMeta    byte = 'm'
)

const oneByte = 0xf7 // the highest ordered number of one byte

var (
	errShort = errors.New("ends too early")
	errLong  = errors.New("bytes too many")
)

// appendOrdered appends the ordered number n: numbers sort as their bytes do.
func appendOrdered(b []byte, n uint64) []byte {
	if n <= oneByte {
		return append(b, byte(n))
	}
	size := (bits.Len64(n) + 7) / 8
	var be [8]byte
	binary.BigEndian.PutUint64(be[:], n)
	b = append(b, byte(oneByte+size))
	return append(b, be[8-size:]...)
}

// decodeOrdered reads an ordered number and returns the rest. Only the shortest
// form is accepted.
func decodeOrdered(b []byte) (uint64, []byte, error) {
	if len(b) == 0 {
		return 0, nil, errShort
	}
	if b[0] <= oneByte {
		return uint64(b[0]), b[1:], nil
	}
	size := int(b[0] - oneByte)
	if len(b) < 1+size {
		return 0, nil, errShort
	}
	var be [8]byte
	copy(be[8-size:], b[1:])
	n := binary.BigEndian.Uint64(be[:])
	if n <= oneByte || size > 1 && b[1] == 0 {
		return 0, nil, errors.New("number is not in its shortest form")
	}
	return n, b[1+size:], nil
}

// ref is a UID or GVSN whose originator is a number of this database.
type ref struct{ originator, version uint64 }

func (r ref) append(b []byte) []byte {
	return appendOrdered(appendOrdered(b, r.originator), r.version)
}

func decodeRef(b []byte) (ref, []byte, error) {
	o, b, err := decodeOrdered(b)
	if err != nil {
		return ref{}, nil, err
	}
	v, b, err := decodeOrdered(b)
	return ref{o, v}, b, err
}

// keys makes the keys of one folder's rows. Every method returns fresh bytes
// at the end of dst.
type keys struct {
	prefix []byte // keyRows, folder number
}

func folderKeys(number uint64) keys {
	return keys{appendOrdered([]byte{keyRows}, number)}
}

// table appends the prefix of one table.
func (k keys) table(dst []byte, table byte) []byte {
	return append(append(dst, k.prefix...), table)
}

func (k keys) ref(dst []byte, table byte, r ref) []byte {
	return r.append(k.table(dst, table))
}

func (k keys) known(dst []byte, originator uint64) []byte {
	return appendOrdered(k.table(dst, tableKnown), originator)
}

func (k keys) partner(member repl.MemberID) []byte {
	return append(k.table(nil, tablePartner), member[:]...)
}

func (k keys) name(dst []byte, parent ref, name string) []byte {
	return append(k.ref(dst, tableName, parent), name...)
}

func (k keys) folded(dst []byte, parent ref, name string) []byte {
	return append(k.ref(dst, tableFolded, parent), filter.Fold(name)...)
}

// grave is the row of the tombstones of one place, whether names are compared
// folded or not.
func (k keys) grave(dst []byte, parent ref, name string) []byte {
	return append(k.ref(dst, tableGrave, parent), filter.Fold(name)...)
}

// handle is the prefix of the rows of one handle: the low half of the inode,
// with which the kernel's handles begin after their type, then a hash. Files
// made one after another get rows beside each other.
func (k keys) handle(dst []byte, handle string) []byte {
	var inode uint32
	if len(handle) >= 8 {
		inode = binary.LittleEndian.Uint32([]byte(handle[4:8]))
	}
	dst = binary.BigEndian.AppendUint32(k.table(dst, tableHandle), inode)
	return binary.BigEndian.AppendUint32(dst, uint32(xxhash.Sum64String(handle)))
}

// content is the prefix of the rows of one content.
func (k keys) content(dst []byte, h repl.Hash) []byte {
	return append(k.table(dst, tableContent), h[:8]...)
}

func (k keys) meta(dst []byte, hash metaHash) []byte {
	return append(k.table(dst, tableMeta), hash[:]...)
}

// after returns the lowest key above every key with this prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}
