package capture

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"opendfs/internal/digest"
	"opendfs/internal/finding"
	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// found is what lies at a place.
type found struct {
	stat    volume.Stat
	print   repl.Print // stat's, without ctime if it is too young
	content repl.Hash
	target  string
	meta    []byte
	shown   []byte // what the disk has instead of meta, nil if nothing
}

func (f *found) local() Local { return Local{repl.OnDisk, f.stat.Identity, f.print, f.shown} }

// fill writes what was found into an update. from is the record of the object
// that was found: where its mtime on disk stands, so does its mtime on record,
// of which a filesystem may hold less than the record.
func (f *found) fill(u *repl.Update, from *repl.Record) {
	u.Mtime = f.print.Mtime
	if from != nil && from.Print.Mtime == f.print.Mtime {
		u.Mtime = from.Mtime
	}
	u.Meta, u.Target, u.Content, u.Size = f.meta, f.target, f.content, 0
	switch u.Type {
	case repl.File:
		u.Size = f.print.Size
	case repl.Symlink:
		u.Size = int64(len(f.target))
	}
}

// observe finds out what lies at a name, which st described. known is the
// record of the same object, if there is one: its hash is taken if the object's
// data stand. Without ok it could not be read or did not hold still, which is
// noted.
func (l *look) observe(s *spot, n Name, st *volume.Stat, known *repl.Record) (*found, bool, error) {
	f := &found{stat: *st, print: st.Print}
	var err error
	switch {
	case st.Type == repl.Symlink:
		f.target, err = s.dir.ReadLink(n.Name)
		f.content = HashTarget(f.target)
	case st.Type == repl.File && (!trusted(known, st, n.Wrote) || l.deps.Doubt.Of(known)):
		var ok bool
		if ok, err = l.read(s, n, st, f, l.before(known)); err == nil && !ok {
			return nil, false, nil
		}
	case st.Type == repl.File:
		f.content = known.Content
	}
	if err == nil && f.meta == nil {
		f.meta, err = s.dir.MetaOf(n.Name, st)
	}
	if err != nil {
		return nil, false, l.unread(s, n, st, err)
	}
	if known != nil && len(known.Shown) > 0 {
		if err := f.carry(known.Meta, known.Shown); err != nil {
			return nil, false, l.unread(s, n, st, err)
		}
	}
	f.meta = l.share(f.meta, known)
	after, err := s.dir.Again(n.Name, st)
	if err != nil {
		return nil, false, l.unread(s, n, st, err)
	}
	if !still(st, &after) {
		l.again(s, n, Changing, changingAfter)
		return nil, false, nil
	}
	if l.tooYoung(st) {
		f.print.Ctime = 0
		age := l.began - st.Print.Ctime
		l.again(s, n, TooYoung, l.deps.Racy-time.Duration(max(age, 0)))
	}
	return f, true, nil
}

// carry tells what a user changed of the metadata from what this disk could not
// be given.
func (f *found) carry(meta, shown []byte) error {
	disk := f.meta
	var err error
	if f.meta, err = volume.Carry(meta, shown, disk); err == nil && !bytes.Equal(f.meta, disk) {
		f.shown = disk
	}
	return err
}

// trusted reports whether a record's hash is that of the object on disk: size
// and mtime stand, and nobody is known to have written.
func trusted(known *repl.Record, st *volume.Stat, wrote bool) bool {
	return known != nil && !known.Content.IsZero() && known.Print.Ctime != 0 && known.Print.SameData(st.Print) &&
		!(wrote && known.Print.Ctime != st.Print.Ctime)
}

// still reports whether an object is what it was. Others may fill a directory
// meanwhile: its times are not its own.
func still(before, after *volume.Stat) bool {
	if before.Type != after.Type || before.Identity != after.Identity {
		return false
	}
	return before.Type == repl.Directory || before.Print == after.Print
}

// tooYoung reports whether the present name's ctime could hide a further
// change.
func (l *look) tooYoung(st *volume.Stat) bool {
	return l.deps.Racy > 0 && l.began-st.Print.Ctime < repl.Time(l.deps.Racy)
}

// share returns metadata in memory that others hold already, if it can.
func (l *look) share(meta []byte, known *repl.Record) []byte {
	if known != nil && bytes.Equal(known.Meta, meta) {
		return known.Meta
	}
	if !bytes.Equal(l.meta, meta) {
		l.meta = meta
	}
	return l.meta
}

// unread notes that an object could not be read: because it is another by now,
// or for a reason that somebody must see to.
func (l *look) unread(s *spot, n Name, st *volume.Stat, err error) error {
	if errors.Is(err, volume.ErrUnmounted) || l.ctx.Err() != nil {
		return errors.Join(err, l.ctx.Err())
	}
	if errors.Is(err, volume.ErrInUse) || errors.Is(err, volume.ErrChanged) {
		l.again(s, n, Changing, changingAfter)
		return nil
	}
	after, gone := s.dir.Lookup(n.Name)
	if errors.Is(gone, volume.ErrNotExist) || gone == nil && !still(st, &after) {
		l.again(s, n, Changing, changingAfter)
		return nil
	}
	l.raise(finding.FileUnreadable, s.pathOf(n.Name), err.Error())
	return nil
}

// How files are read. Every checkEvery bytes a file is looked at, so that a
// long one that is being written is given up early.
const (
	bufferSize = 256 << 10
	checkEvery = 64 << 20
	apartFrom  = 1 << 20 // read, hashed and signed side by side
)

var (
	buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	hashers = sync.Pool{New: func() any { return digest.New() }}
)

// read hashes a file and reads its metadata. Without ok it is being written,
// which is noted.
func (l *look) read(s *spot, n Name, st *volume.Stat, f *found, like repl.Hash) (ok bool, err error) {
	file, err := s.dir.OpenFile(n.Name)
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }() // it was only read
	now, err := file.Stat()
	if err != nil {
		return false, err
	}
	if !still(st, &now) {
		l.again(s, n, Changing, changingAfter)
		return false, nil
	}
	if l.deps.Rest > 0 {
		age := time.Duration(l.deps.Now() - st.Print.Ctime)
		if age < l.deps.Rest {
			// Where writers cannot be told, the looks before and after must do.
			if open, err := file.Writable(); err == nil && open {
				l.again(s, n, OpenForWriting, min(l.deps.Rest-age, l.deps.Rest))
				return false, nil
			}
		}
	}
	whole, err := l.hash(file, st, &f.content, like)
	if err == nil && !whole {
		l.again(s, n, Changing, changingAfter)
	}
	if err == nil && whole {
		f.meta, err = file.Meta()
	}
	return whole, err
}

// hash hashes an open file like Hash, and signs it on the way where signatures
// are wanted.
func (l *look) hash(file volume.File, st *volume.Stat, sum *repl.Hash, like repl.Hash) (whole bool, err error) {
	var signed io.Writer
	if l.deps.Sign != nil {
		if w, end := l.deps.Sign(st.Print.Size, like); w != nil {
			signed = w
			defer func() { end(*sum, whole && err == nil) }()
		}
	}
	*sum, whole, err = hash(l.ctx, file, st, signed, l.deps.Apart)
	return whole, err
}

// before is the content that the present name had, or its object: what is read
// there now is likely another version of it.
func (l *look) before(known *repl.Record) repl.Hash {
	for _, rec := range []*repl.Record{known, l.prior} {
		if rec != nil && rec.Type == repl.File {
			return rec.Content
		}
	}
	return repl.Hash{}
}

// Hash hashes the st.Print.Size bytes of an open file, which st describes as it
// was before: the content hash of an update. It is not whole if the file got
// shorter or changed meanwhile; that it got longer the caller sees by its size.
func Hash(ctx context.Context, file volume.File, st *volume.Stat) (sum repl.Hash, whole bool, err error) {
	return hash(ctx, file, st, nil, false)
}

// hash is Hash; what is read goes to signed too, which takes everything, if it is
// not nil.
func hash(ctx context.Context, file volume.File, st *volume.Stat, signed io.Writer, apart bool) (sum repl.Hash, whole bool, err error) {
	size := st.Print.Size
	if size <= bufferSize {
		return hashSmall(file, size, signed)
	}
	h := hashers.Get().(*digest.Hasher)
	defer hashers.Put(h)
	h.Reset()
	takers := []io.Writer{h}
	if signed != nil {
		takers = append(takers, signed)
	}
	r := &stillReader{ctx: ctx, file: file, st: st, left: size, check: checkEvery}
	n, err := rdc.Feed(r, apart && size >= apartFrom, takers...)
	if err != nil || n < size {
		return sum, false, unlessShort(err)
	}
	h.Sum(sum[:0])
	return sum, true, nil
}

func hashSmall(file volume.File, size int64, signed io.Writer) (sum repl.Hash, whole bool, err error) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	if _, err := io.ReadFull(file, buf[:size]); err != nil {
		return sum, false, unlessShort(err)
	}
	if signed != nil {
		if _, err := signed.Write(buf[:size]); err != nil {
			return sum, false, err
		}
	}
	return repl.Hash(digest.Sum256(buf[:size])), true, nil
}

// stillReader reads what a file held when it was described, and ends early when
// the file is seen to be another by now.
type stillReader struct {
	ctx   context.Context
	file  volume.File
	st    *volume.Stat
	left  int64
	check int64 // bytes until the file is looked at again
}

// Read reads on.
func (r *stillReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	if r.check <= 0 {
		r.check = checkEvery
		if now, err := r.file.Stat(); err != nil {
			return 0, err
		} else if !still(r.st, &now) {
			return 0, io.EOF
		}
	}
	n, err := r.file.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	r.check -= int64(n)
	return n, err
}

// HashTarget is the content hash of a symbolic link: of its target.
func HashTarget(target string) repl.Hash { return repl.Hash(digest.Sum256([]byte(target))) }

// unlessShort is err, but nil where a file only was shorter than it had been.
func unlessShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
