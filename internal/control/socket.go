package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// SocketName is the control socket's name in the state directory.
const SocketName = "control.sock"

// maxSocketPath is what fits into sockaddr_un, its NUL off.
const maxSocketPath = 107

// within calls do with a path to the socket that is short enough for the
// kernel: its own, or one through the open directory.
func within(path string, do func(short string) error) error {
	if len(path) <= maxSocketPath {
		return do(path)
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open directory of %s: %w", path, err)
	}
	err = do("/proc/self/fd/" + strconv.Itoa(fd) + "/" + filepath.Base(path))
	return errors.Join(err, unix.Close(fd))
}

// Listen makes a control socket: mode 0600, or, if it is for every user of this
// machine, 0666. A socket that is there already is taken for left over: the
// caller holds the state directory's lock.
func Listen(path string, everybody bool) (net.Listener, error) {
	mask := 0o177
	if everybody {
		mask = 0o111
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("make control socket %s: something else is there; move it away", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("make control socket: %w", err)
		}
	}
	var l *net.UnixListener
	err := within(path, func(short string) (err error) {
		old := unix.Umask(mask) // never, not even for a moment, more open than it is to be
		defer unix.Umask(old)
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make control socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // by its short name it could be another's
	return &socket{l, path}, nil
}

// socket removes its own file when it is closed.
type socket struct {
	*net.UnixListener
	path string
}

// Close ends listening and removes the socket.
func (s *socket) Close() error {
	err := s.UnixListener.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	if rerr := os.Remove(s.path); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

// dial connects to a control socket.
func dial(path string) (net.Conn, error) {
	var c net.Conn
	err := within(path, func(short string) (err error) {
		c, err = net.Dial("unix", short)
		return err
	})
	return c, err
}
