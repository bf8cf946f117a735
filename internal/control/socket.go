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

// Listen makes the control socket, mode 0600. A socket that is there already
// is taken for left over: the caller holds the state directory's lock.
func Listen(path string) (net.Listener, error) {
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
		old := unix.Umask(0o177) // never, not even for a moment, open to others
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

// caller returns the user that made a connection, by the kernel's word.
func caller(c net.Conn) (uid uint32, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("tell who calls: a connection of type %T", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("tell who calls: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, cerr); err != nil {
		return 0, fmt.Errorf("tell who calls: %w", err)
	}
	return cred.Uid, nil
}
