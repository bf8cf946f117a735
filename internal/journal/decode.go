package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// event is one fanotify event (fanotify(7), struct fanotify_event_metadata and
// its information records). The slices lie in the buffer it was decoded from.
type event struct {
	mask    uint64
	pid     int32
	dir     []byte // handle of the parent, of the old one for a rename
	name    []byte // in dir, the old one for a rename
	newDir  []byte // FAN_RENAME only
	newName []byte
	child   []byte // handle of the object itself
}

// Sizes of the kernel's structures. All numbers are in the byte order of the
// machine, and every one this is built for is little-endian.
const (
	metadataSize   = 24 // event_len u32, vers u8, reserved u8, metadata_len u16, mask u64, fd i32, pid i32
	infoHeaderSize = 4  // info_type u8, pad u8, len u16
	infoHandleAt   = 16 // header, fsid u64, handle_bytes u32; then handle_type i32 and the handle's bytes
	maxHandle      = 128
	maxName        = 255
)

var errEvent = errors.New("malformed event")

// decode takes one event from the front of b, which must not be empty, and
// returns the rest.
func decode(b []byte) (ev event, rest []byte, err error) {
	if len(b) < metadataSize {
		return ev, nil, fmt.Errorf("%w: %d bytes are left", errEvent, len(b))
	}
	size := int(binary.LittleEndian.Uint32(b))
	meta := int(binary.LittleEndian.Uint16(b[6:]))
	if b[4] != unix.FANOTIFY_METADATA_VERSION {
		return ev, nil, fmt.Errorf("%w: version %d, not %d", errEvent, b[4], unix.FANOTIFY_METADATA_VERSION)
	}
	if meta < metadataSize || size < meta || size > len(b) {
		return ev, nil, fmt.Errorf("%w: length %d, metadata %d of %d bytes", errEvent, size, meta, len(b))
	}
	ev.mask = binary.LittleEndian.Uint64(b[8:])
	ev.pid = int32(binary.LittleEndian.Uint32(b[20:]))
	info := b[meta:size]
	for len(info) > 0 {
		if len(info) < infoHeaderSize {
			return ev, nil, fmt.Errorf("%w: %d bytes of information", errEvent, len(info))
		}
		n := int(binary.LittleEndian.Uint16(info[2:]))
		if n < infoHeaderSize || n > len(info) {
			return ev, nil, fmt.Errorf("%w: information of %d in %d bytes", errEvent, n, len(info))
		}
		if err := ev.record(info[:n:n]); err != nil {
			return ev, nil, err
		}
		info = info[n:]
	}
	return ev, b[size:], nil
}

// record takes one information record; kinds it does not know are skipped.
func (ev *event) record(r []byte) error {
	kind := r[0]
	switch kind {
	case unix.FAN_EVENT_INFO_TYPE_FID, unix.FAN_EVENT_INFO_TYPE_DFID, unix.FAN_EVENT_INFO_TYPE_DFID_NAME,
		unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
	default:
		return nil
	}
	if len(r) < infoHandleAt+4 {
		return fmt.Errorf("%w: record of %d bytes", errEvent, len(r))
	}
	n := binary.LittleEndian.Uint32(r[infoHandleAt-4:])
	if n > maxHandle || infoHandleAt+4+int(n) > len(r) {
		return fmt.Errorf("%w: handle of %d in %d bytes", errEvent, n, len(r))
	}
	if n == 0 { // an object without identity: nothing to look for
		return nil
	}
	end := infoHandleAt + 4 + int(n)
	handle := r[infoHandleAt:end:end]
	switch kind {
	case unix.FAN_EVENT_INFO_TYPE_FID:
		ev.child = handle
		return nil
	case unix.FAN_EVENT_INFO_TYPE_DFID:
		ev.dir, ev.name = handle, nil
		return nil
	}
	name := r[end:]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i:i]
	}
	if len(name) == 0 || len(name) > maxName || bytes.IndexByte(name, '/') >= 0 {
		return fmt.Errorf("%w: name %q", errEvent, name)
	}
	if kind == unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME {
		ev.newDir, ev.newName = handle, name
	} else {
		ev.dir, ev.name = handle, name
	}
	return nil
}
