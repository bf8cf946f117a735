package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// pebbleFormat is the newest layout of Pebble's files that this format version
// may use: the one whose tables have a checksum in the footer too. It moves
// only together with a new format version.
const pebbleFormat = pebble.FormatTableFormatV6

// Defaults of Options.
const (
	DefaultCache   = 48 << 20
	memTable       = 24 << 20
	memTablesQueue = 3 // memtables that may wait for the disk before writers do
	// memTablesCached are the memtables there mostly are: one that is written to and
	// one that goes to disk.
	memTablesCached = 2
)

// Options tunes a database on disk. The zero value is right for a member.
type Options struct {
	// Cache is the bytes of table blocks kept in memory; 0 means DefaultCache.
	Cache int64
	// Logger gets the database's own notices, at debug level; nil means none.
	Logger *slog.Logger
	// Fatal is called once when a write of the database itself went wrong in a
	// way that nothing can be written any more. The member should stop:
	// everything said so far is durable. It is called with locks held and must
	// not use the database or wait.
	Fatal func(error)
}

// pebbleKV is KV on disk.
type pebbleKV struct {
	pebbleView
	db   *pebble.DB
	lock *pebble.Lock
}

// OpenPebble opens the database in dir, and creates it if there is none. dir's
// parent must exist. Errors are ErrInUse, ErrNewer, ErrCorrupt, or the disk's.
func OpenPebble(dir string, o Options) (KV, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("create state %s: %w", dir, err)
	}
	return openPebble(dir, o, vfs.Default)
}

func openPebble(dir string, o Options, fs vfs.FS) (kv KV, err error) {
	h := &health{dir: dir, logger: o.Logger, fatal: o.Fatal}
	if h.logger == nil {
		h.logger = slog.New(slog.DiscardHandler)
	}
	lock, err := lockDirectory(dir, fs)
	if err != nil {
		return nil, err
	}
	defer func() {
		if kv == nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	if err := checkPebbleFormat(dir, fs); err != nil {
		return nil, err
	}
	if err := checkManifest(dir, fs); err != nil {
		return nil, err
	}
	if err := checkLog(dir, fs); err != nil {
		return nil, err
	}
	// The database takes the room of its memtables out of the cache that it is
	// given. With nothing left for blocks every look-up reads a table's filter.
	cache := pebble.NewCache(cmpOr(o.Cache, DefaultCache) + memTablesCached*memTable)
	defer cache.Unref()
	opts := pebbleOptions(fs, cache, lock, h)
	defer func() {
		if r := recover(); r != nil {
			kv, err = nil, h.panicked("open", r)
		}
	}()
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return nil, openError(dir, err)
	}
	return &pebbleKV{pebbleView{db, h}, db, lock}, nil
}

func cmpOr(v, otherwise int64) int64 {
	if v > 0 {
		return v
	}
	return otherwise
}

// pebbleOptions: new files wait until sixteen lie over each other (Pebble counts
// each twice), since the rows of contents come in any order and each merge
// writes all of them anew, and however many lie beside each other; 8 KiB blocks
// and a filter on every level, so that looking up what is not there (a new file)
// costs no read; Snappy throughout, since zstd would save little of a record's
// 220 bytes and cost cores; two compactions at most, since the members' disks
// and cores are for the users' files.
func pebbleOptions(fs vfs.FS, cache *pebble.Cache, lock *pebble.Lock, h *health) *pebble.Options {
	opts := &pebble.Options{
		FS:                          fs,
		Cache:                       cache,
		Lock:                        lock,
		FormatMajorVersion:          pebbleFormat,
		MemTableSize:                memTable,
		MemTableStopWritesThreshold: memTablesQueue,
		L0CompactionThreshold:       32,
		L0CompactionFileThreshold:   4096,
		L0StopWritesThreshold:       64,
		LBaseMaxBytes:               64 << 20,
		BytesPerSync:                512 << 10,
		WALBytesPerSync:             512 << 10,
		MaxOpenFiles:                512,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      h,
		EventListener:               h.listener(),
	}
	opts.Experimental.FileCacheShards = 2
	// Half of what a change of all files writes of versions removes earlier ones. Merging
	// that at once, each new file of such rows with the last level's, cost as much as
	// writing it; they go with the next merge of their level.
	opts.Experimental.TombstoneDenseCompactionThreshold = -1
	opts.Experimental.SpanPolicyFunc = oneKind
	for i := range opts.Levels {
		l := &opts.Levels[i]
		l.BlockSize = 8 << 10
		l.IndexBlockSize = 64 << 10
		l.FilterPolicy = bloom.FilterPolicy(10)
		l.FilterType = pebble.TableFilter
		l.Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	}
	return opts
}

// nameShelf is how many of an originator's directories share files of names.
const nameShelf = 1 << 15

// oneKind keeps a folder's handles, its names, those of each shelf of
// directories apart, and its records in files of their own. New rows of these
// mostly come after the old ones. A file that held the newest rows of two kinds
// would lie over all that there is of the second, and be merged with it each
// time; one of its own is put behind it as it is.
func oneKind(start []byte) (pebble.SpanPolicy, []byte, error) {
	all := pebble.SpanPolicy{}
	switch {
	case len(start) == 0 || start[0] < keyRows:
		return all, []byte{keyRows}, nil
	case start[0] > keyRows:
		return all, nil, nil // another program's; an end must lie beyond the start
	}
	number, rest, err := decodeOrdered(start[1:])
	if err != nil || len(rest) == 0 {
		return all, nil, nil
	}
	k := folderKeys(number)
	switch table := rest[0]; {
	case table < tableHandle:
		return all, k.table(nil, tableHandle), nil
	case table < tableName:
		return all, k.table(nil, tableName), nil
	case table == tableName:
		dir, _, err := decodeRef(rest[1:])
		if next := (dir.version/nameShelf + 1) * nameShelf; err == nil && next > dir.version {
			return all, k.ref(nil, tableName, ref{dir.originator, next}), nil
		}
		return all, after(k.table(nil, tableName)), nil
	}
	return all, after(k.prefix), nil
}

// Apply implements KV.
func (p *pebbleKV) Apply(ops *Ops, sync bool) (err error) {
	if err := p.h.check("write"); err != nil {
		return err
	}
	defer p.h.guard("write", &err)
	how := pebble.NoSync
	if sync {
		how = pebble.Sync
	}
	if ops == nil || len(ops.ops) == 0 {
		if !sync {
			return nil
		}
		// An empty batch is never written; a log record is.
		return p.h.wrap("sync", p.db.LogData(nil, how))
	}
	b := p.db.NewBatchWithSize(len(ops.buf) + 8*len(ops.ops) + 64)
	for _, o := range ops.ops {
		key, value := o.split(ops.buf)
		switch o.kind {
		case opSet:
			d := b.SetDeferred(len(key), len(value))
			copy(d.Key, key)
			copy(d.Value, value)
			err = d.Finish()
		case opDelete:
			err = b.Delete(key, nil)
		case opDeleteRange:
			err = b.DeleteRange(key, value, nil)
		}
		if err != nil {
			return errors.Join(p.h.wrap("write", err), b.Close())
		}
	}
	if err := b.Commit(how); err != nil {
		return p.h.failed("write", err)
	}
	return p.h.wrap("write", b.Close())
}

// Snapshot implements KV.
func (p *pebbleKV) Snapshot() (v View, err error) {
	if err := p.h.check("snapshot"); err != nil {
		return nil, err
	}
	defer p.h.guard("snapshot", &err)
	return &pebbleView{p.db.NewSnapshot(), p.h}, nil
}

// Checkpoint implements KV.
func (p *pebbleKV) Checkpoint(dir string) (err error) {
	if err := p.h.check("checkpoint"); err != nil {
		return err
	}
	defer p.h.guard("checkpoint", &err)
	return p.h.wrap("checkpoint", p.db.Checkpoint(dir, pebble.WithFlushedWAL()))
}

// Stats implements KV.
func (p *pebbleKV) Stats() Stats {
	m := p.db.Metrics()
	var tables int64
	for i := range m.Levels {
		tables += m.Levels[i].TablesCount
	}
	return Stats{
		Disk:            m.DiskSpaceUsage(),
		Log:             m.WAL.Size,
		Memory:          m.MemTable.Size,
		Cache:           uint64(max(0, m.BlockCache.Size)),
		Tables:          tables,
		Compactions:     m.Compact.Count,
		ReadAmplify:     m.ReadAmp(),
		Stalls:          p.h.stalls.Load(),
		BackgroundError: p.h.background(),
	}
}

// Close implements View. A database that came to a fatal end is left as it is:
// its goroutines hold its locks, and its files need no closing.
func (p *pebbleKV) Close() (err error) {
	if p.h.stuck.Load() {
		return p.h.check("close")
	}
	defer p.h.guard("close", &err)
	err = p.db.Close()
	return p.h.wrap("close", errors.Join(err, p.lock.Close()))
}

// pebbleReader is what a *pebble.DB and a *pebble.Snapshot have in common.
type pebbleReader = pebble.Reader

// pebbleView reads the database or a snapshot of it.
type pebbleView struct {
	r pebbleReader
	h *health
}

// Get implements View.
func (v *pebbleView) Get(key []byte) (value []byte, ok bool, err error) {
	if err := v.h.check("read"); err != nil {
		return nil, false, err
	}
	defer v.h.guard("read", &err)
	got, closer, err := v.r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, v.h.wrap("read", err)
	}
	value = append(make([]byte, 0, len(got)), got...)
	return value, true, v.h.wrap("read", closer.Close())
}

// Scan implements View.
func (v *pebbleView) Scan(low, high []byte) Cursor {
	c := &pebbleCursor{h: v.h}
	if c.err = v.h.check("read"); c.err != nil {
		return c
	}
	defer v.h.guard("read", &c.err)
	it, err := v.r.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: high})
	if err != nil {
		c.err = v.h.wrap("read", err)
		return c
	}
	c.it = it
	return c
}

// Close implements View.
func (v *pebbleView) Close() (err error) {
	defer v.h.guard("close", &err)
	return v.h.wrap("close", v.r.Close())
}

// pebbleCursor walks an iterator.
type pebbleCursor struct {
	it    *pebble.Iterator
	h     *health
	err   error
	begun bool
	far   int // how many of the last seeks led further than the next row
}

// farMost is after how many seeks in a row that led further than the next row it is
// stepped to no more: a step costs a quarter of a seek.
const farMost = 4

func (c *pebbleCursor) Next() (ok bool) {
	if c.it == nil || c.err != nil {
		return false
	}
	defer c.h.guard("read", &c.err)
	if !c.begun {
		c.begun = true
		return c.it.First()
	}
	return c.it.Next()
}

func (c *pebbleCursor) Seek(key []byte) (ok bool) {
	if c.it == nil || c.err != nil {
		return false
	}
	defer c.h.guard("read", &c.err)
	if c.begun && c.far < farMost && c.it.Valid() && bytes.Compare(c.it.Key(), key) < 0 {
		if !c.it.Next() {
			return false // at the end, or at an error that Close tells
		}
		if bytes.Compare(c.it.Key(), key) >= 0 {
			c.far = 0
			return true
		}
		c.far++
	}
	c.begun = true
	return c.it.SeekGE(key)
}

func (c *pebbleCursor) Key() []byte   { return c.it.Key() }
func (c *pebbleCursor) Value() []byte { return c.it.Value() }

func (c *pebbleCursor) Close() (err error) {
	if c.it == nil {
		return c.err
	}
	defer c.h.guard("read", &err)
	err = c.h.wrap("read", c.it.Close())
	return errors.Join(c.err, err)
}

// stamp names a moved directory: digits only, so that names sort by time.
func stamp(now time.Time) string { return now.UTC().Format("20060102-150405") }
