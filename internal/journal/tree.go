package journal

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"opendfs/internal/volume"

	"golang.org/x/sys/unix"
)

// tree is the root of a replicated folder, open for as long as its journal is.
type tree struct {
	path   string // as given, for messages
	root   int    // a descriptor that handles can be opened with: not O_PATH
	device uint64
	mount  int // id of the mount the root was reached by; 0 if there are no handles
	probe  *probe
}

func openTree(path string) (*tree, error) {
	fd, err := volume.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, errors.Join(fmt.Errorf("journal: stat %s: %w", path, err), unix.Close(fd))
	}
	return &tree{path: path, root: fd, device: st.Dev}, nil
}

// openPrivate opens the private area, where the probe lives.
func (t *tree) openPrivate() error {
	fd, err := t.openDir(privateName)
	if err != nil {
		return fmt.Errorf("open %s/%s: %w", t.path, privateName, err)
	}
	t.probe, err = newProbe(fd)
	return err
}

// openDir opens a directory by its path beneath the root, through no link and
// no other mount.
func (t *tree) openDir(path string) (int, error) {
	return unix.Openat2(t.root, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
}

func (t *tree) close() {
	if t.probe != nil {
		t.probe.close()
	}
	_ = unix.Close(t.root) // read-only: nothing to lose
}

// handleAt returns the handle of the object behind fd in the form of
// Dirty.Dir, and the id of the mount it was reached by.
func handleAt(fd int) (handle []byte, mount int, err error) {
	h, mount, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, 0, err
	}
	handle = binary.LittleEndian.AppendUint32(nil, uint32(h.Type()))
	return append(handle, h.Bytes()...), mount, nil
}

// openHandle opens the object with that handle on the filesystem of the mount
// behind fd, as a path only.
func openHandle(fd int, handle []byte) (int, error) {
	if len(handle) <= 4 {
		return -1, unix.EINVAL
	}
	h := unix.NewFileHandle(int32(binary.LittleEndian.Uint32(handle)), handle[4:])
	return unix.OpenByHandleAt(fd, h, unix.O_PATH|unix.O_CLOEXEC)
}

// link returns the kernel's own path of an open object.
func link(fd int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)) }

// probe is a file in the private area whose name changes put markers into the
// kernel's queue of events. Every marker is a new name, because the kernel
// merges events of one name and a merged marker would stand too early. Renaming
// needs no space, so it works on a full disk too.
type probe struct {
	mu   sync.Mutex
	dir  int // the private area; -1 once closed
	base string
	n    uint64
}

const probePrefix = "journal-"

// newProbe takes over dir. Probes that a killed process left are removed.
func newProbe(dir int) (*probe, error) {
	var nonce [4]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand)
	p := &probe{dir: dir, base: probePrefix + hex.EncodeToString(nonce[:]) + "-"}
	list, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", privateName, err), unix.Close(dir))
	}
	f := os.NewFile(uintptr(list), privateName)
	entries, err := f.Readdirnames(-1)
	_ = f.Close() // read-only
	if err != nil {
		return nil, errors.Join(fmt.Errorf("list %s: %w", privateName, err), unix.Close(dir))
	}
	for _, name := range entries {
		if strings.HasPrefix(name, probePrefix) {
			_ = unix.Unlinkat(dir, name, 0) // litter does no harm
		}
	}
	return p, nil
}

func (p *probe) name() string { return fmt.Sprintf("%s%d", p.base, p.n) }

// mark calls expect with the next name and then makes the event with it.
func (p *probe) mark(expect func(name string) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir < 0 {
		return ErrClosed
	}
	old := p.name()
	p.n++
	if err := expect(p.name()); err != nil {
		return err
	}
	err := unix.Renameat(p.dir, old, p.dir, p.name())
	if errors.Is(err, unix.ENOENT) { // the first one, or somebody cleaned up
		var fd int
		flags := unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		if fd, err = unix.Openat(p.dir, p.name(), flags, 0o600); err == nil {
			err = unix.Close(fd)
		}
	}
	if err != nil {
		return fmt.Errorf("journal: make the probe %s/%s: %w", privateName, p.name(), err)
	}
	return nil
}

func (p *probe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir < 0 {
		return
	}
	_ = unix.Unlinkat(p.dir, p.name(), 0) // litter does no harm
	_ = unix.Close(p.dir)                 // read-only
	p.dir = -1
}
