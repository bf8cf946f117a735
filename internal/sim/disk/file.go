package disk

import (
	"io"
	"os"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// open reports whether somebody has the file open for writing.
func (d *Disk) open(n *inode) bool { return n.writers > 0 || n.temp == d.proc+1 }

// file is a regular file open for reading. It reads what is there now, as a
// kernel does.
type file struct {
	v      *view
	n      *inode
	name   string
	off    int64
	closed bool
}

func (f *file) begin(op string) error {
	if f.closed {
		return &volume.OpError{Op: op, Name: f.name, Err: os.ErrClosed}
	}
	return f.v.begin(op, f.n, "")
}

func (f *file) Read(p []byte) (int, error) {
	if err := f.begin("read"); err != nil {
		return 0, err
	}
	n, err := readAt(f.n, p, f.off)
	f.off += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.begin("read"); err != nil {
		return 0, err
	}
	return readAt(f.n, p, off)
}

func readAt(n *inode, p []byte, off int64) (int, error) {
	if off >= int64(len(n.data)) {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	got := copy(p, n.data[off:])
	if got < len(p) {
		return got, io.EOF
	}
	return got, nil
}

func (f *file) Stat() (volume.Stat, error) {
	if err := f.begin("stat"); err != nil {
		return volume.Stat{}, err
	}
	return f.n.stat(), nil
}

func (f *file) Writable() (bool, error) {
	if err := f.begin("writable"); err != nil {
		return false, err
	}
	return f.v.d.open(f.n), nil
}

func (f *file) Meta() ([]byte, error) {
	if err := f.begin("meta"); err != nil {
		return nil, err
	}
	return f.n.meta()
}

func (f *file) Sync() error {
	if err := f.begin("syncfile"); err != nil {
		return err
	}
	f.n.flush()
	return nil
}

func (f *file) Close() error {
	if f.closed {
		return &volume.OpError{Op: "close", Name: f.name, Err: os.ErrClosed}
	}
	f.closed = true
	return nil
}

// temp is a nameless file under construction.
type temp struct {
	v      *view
	n      *inode
	off    int64
	wrote  bool
	linked bool
	closed bool
}

func (t *temp) begin(op string) error {
	if t.closed {
		return &volume.OpError{Op: op, Err: os.ErrClosed}
	}
	return t.v.begin(op, t.n, "")
}

func (t *temp) Write(p []byte) (int, error) {
	n, err := t.WriteAt(p, t.off)
	t.off += int64(n)
	return n, err
}

func (t *temp) WriteAt(p []byte, off int64) (int, error) {
	if err := t.begin("write"); err != nil {
		return 0, err
	}
	t.v.d.write(t.n, p, off)
	t.wrote = true
	return len(p), nil
}

// write changes a file's data.
func (d *Disk) write(n *inode, p []byte, off int64) {
	n.write(p, off)
	n.cur.mtime = d.stamp()
	n.cur.ctime = n.cur.mtime
	d.touch(n)
}

// shareBlock is the size of blocks that files of this disk can share.
const shareBlock = 512

func (t *temp) Share(src volume.File, from, at, n int64) (first, past int64, err error) {
	if err := t.begin("share"); err != nil {
		return at, at, err
	}
	f, ok := src.(*file)
	if !ok || f.v.d != t.v.d || from < 0 || at < 0 || (from-at)%shareBlock != 0 {
		return at, at, nil
	}
	first, past = (at+shareBlock-1)/shareBlock*shareBlock, (at+n)/shareBlock*shareBlock
	if end := from + past - at; past <= first || end > int64(len(f.n.data)) {
		return at, at, nil
	}
	t.v.d.write(t.n, f.n.data[from+first-at:from+past-at], first)
	t.wrote = true
	return first, past, nil
}

func (t *temp) ReadAt(p []byte, off int64) (int, error) {
	if err := t.begin("read"); err != nil {
		return 0, err
	}
	return readAt(t.n, p, off)
}

func (t *temp) SetMeta(b []byte, mtime repl.Time) ([]string, error) {
	if err := t.begin("setmeta"); err != nil {
		return nil, err
	}
	m, err := volume.DecodeMeta(b)
	if err != nil {
		return nil, &volume.OpError{Op: "setmeta", Err: err}
	}
	t.v.d.setMeta(t.n, &m, mtime)
	return nil, nil
}

func (t *temp) Stat() (volume.Stat, error) {
	if err := t.begin("stat"); err != nil {
		return volume.Stat{}, err
	}
	return t.n.stat(), nil
}

func (t *temp) Sync() error {
	if err := t.begin("syncfile"); err != nil {
		return err
	}
	t.n.flush()
	return nil
}

func (t *temp) Close() error {
	if t.closed {
		return &volume.OpError{Op: "close", Err: os.ErrClosed}
	}
	t.closed = true
	if t.v.proc != t.v.d.proc {
		return nil
	}
	t.n.temp = 0
	if t.linked {
		t.v.d.emitAll(t.n, t.wrote)
	}
	return nil
}
