package capture

import (
	"errors"
	"slices"
	"strings"
)

// names is a directory's listing, packed: about 4 bytes a name beside the
// name's own. Names are cut out of chunks without copying, so whoever keeps one
// clones it.
type names struct {
	chunks []*strings.Builder
	texts  []string // of the chunks, once sealed
	at     []uint32 // chunk and offset of each name
}

// A name lies in one chunk behind its length in two bytes.
const (
	chunkBits = 20
	chunkSize = 1 << chunkBits
	maxChunks = 1 << (32 - chunkBits)
	lengthLen = 2
)

var errNames = errors.New("directory has more names than can be held")

func (l *names) add(name string) error {
	need := lengthLen + len(name)
	if need > chunkSize {
		return errNames
	}
	n := len(l.chunks)
	if n == 0 || l.chunks[n-1].Len()+need > chunkSize {
		if n == maxChunks {
			return errNames
		}
		l.chunks = append(l.chunks, new(strings.Builder))
		if n > 0 {
			l.chunks[n].Grow(chunkSize)
		}
		n++
	}
	b := l.chunks[n-1]
	l.at = append(l.at, uint32(n-1)<<chunkBits|uint32(b.Len()))
	b.WriteByte(byte(len(name) >> 8))
	b.WriteByte(byte(len(name)))
	b.WriteString(name)
	return nil
}

// seal puts the names in the order of their bytes; none may be added after.
func (l *names) seal() {
	for _, b := range l.chunks {
		l.texts = append(l.texts, b.String())
	}
	l.chunks = nil
	slices.SortFunc(l.at, func(a, b uint32) int { return strings.Compare(l.cut(a), l.cut(b)) })
}

func (l *names) len() int { return len(l.at) }

func (l *names) name(i int) string { return l.cut(l.at[i]) }

func (l *names) cut(at uint32) string {
	text := l.texts[at>>chunkBits]
	o := int(at & (chunkSize - 1))
	n := int(text[o])<<8 | int(text[o+1])
	return text[o+lengthLen : o+lengthLen+n]
}
