package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// watchEvent is one inotify event (inotify(7), struct inotify_event). name lies
// in the buffer it was decoded from and is empty for the directory itself.
type watchEvent struct {
	wd   int32
	mask uint32
	name []byte
}

// decodeWatch takes one event from the front of b, which must not be empty, and
// returns the rest.
func decodeWatch(b []byte) (ev watchEvent, rest []byte, err error) {
	if len(b) < unix.SizeofInotifyEvent { // wd i32, mask u32, cookie u32, len u32, name
		return ev, nil, fmt.Errorf("%w: %d bytes are left", errEvent, len(b))
	}
	n := binary.LittleEndian.Uint32(b[12:])
	if uint64(n) > uint64(len(b)-unix.SizeofInotifyEvent) {
		return ev, nil, fmt.Errorf("%w: name of %d in %d bytes", errEvent, n, len(b))
	}
	end := unix.SizeofInotifyEvent + int(n)
	ev.wd = int32(binary.LittleEndian.Uint32(b))
	ev.mask = binary.LittleEndian.Uint32(b[4:])
	ev.name = b[unix.SizeofInotifyEvent:end:end]
	if i := bytes.IndexByte(ev.name, 0); i >= 0 {
		ev.name = ev.name[:i:i]
	}
	if len(ev.name) > maxName || bytes.IndexByte(ev.name, '/') >= 0 {
		return ev, nil, fmt.Errorf("%w: name %q", errEvent, ev.name)
	}
	return ev, b[end:], nil
}
